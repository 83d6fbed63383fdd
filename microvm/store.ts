/**
 * What VMs are started from, on disk: kernels with their modules, images (kernel + initramfs, named by their content),
 * templates of booted VMs. Each is a folder that is made under another name and renamed when it is whole.
 *
 * It is one folder for the host, not below `--root`: Docker gives every daemon a root of its own, on a tmpfs, and all of
 * them use the same kernel.
 */
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type HostFacts, probeHost } from './accel.ts'

export const DEFAULT_STORE = '/var/lib/tssandbox/microvm'

export interface Image {
  /** Its name: a hash of all that is in it. */
  hash: string
  vmlinux: string
  initramfs: string
  /** `6.1.0-56-amd64`, or the name of the file that was given. */
  kernel: string
  /** Modules and ACPI: the distribution's kernel finds its devices by ACPI only. */
  acpi: boolean
}

interface ImageManifest {
  kernel: string
  acpi: boolean
  /** Of the agent that is in the initramfs. */
  agent: string
}

/** Says what to do: set-up has not been run, or with another version of the agent. */
export class NotSetUp extends Error {
  constructor(reason: string) {
    super(`${reason}: run "tssandbox microvm setup" first`)
  }
}

const sha256 = (...parts: (Buffer | string)[]) => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

export class Store {
  readonly dir: string
  private readonly dist: string

  /** `dist`: the folder with the built agent and probe. */
  constructor(dir: string, dist: string) {
    this.dir = dir
    this.dist = dist
  }

  kernelDir(name: string): string {
    return join(this.dir, 'kernels', name)
  }

  /** Fills a folder by `fill` and moves it to `path`; another that came first is kept. */
  publish(path: string, fill: (dir: string) => void): void {
    const temporary = `${path}.${process.pid}.tmp`
    rmSync(temporary, { recursive: true, force: true })
    mkdirSync(temporary, { recursive: true, mode: 0o755 })
    try {
      fill(temporary)
      renameSync(temporary, path)
    } catch (error) {
      rmSync(temporary, { recursive: true, force: true })
      if (!['EEXIST', 'ENOTEMPTY'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    }
  }

  agent(): Buffer {
    return readFileSync(join(this.dist, 'agent'))
  }

  /** Cheap: told at every start. */
  private agentMark(): string {
    const { size, mtimeMs } = statSync(join(this.dist, 'agent'))
    return `${size}-${mtimeMs}`
  }

  saveImage(kernel: string, acpi: boolean, vmlinux: string, initramfs: Buffer): void {
    const hash = sha256(readFileSync(vmlinux), initramfs).slice(0, 24)
    const manifest: ImageManifest = { kernel, acpi, agent: this.agentMark() }
    const path = join(this.dir, 'images', hash)
    if (!existsSync(path))
      this.publish(path, (dir) => {
        writeFileSync(join(dir, 'initramfs'), initramfs)
        symlinkSync(vmlinux, join(dir, 'vmlinux'))
      })
    writeFileSync(join(path, `manifest.${process.pid}`), JSON.stringify(manifest))
    renameSync(join(path, `manifest.${process.pid}`), join(path, 'manifest.json'))
    const link = join(this.dir, `current.${process.pid}`)
    rmSync(link, { force: true })
    symlinkSync(join('images', hash), link)
    renameSync(link, join(this.dir, 'current'))
  }

  /** What the last set-up made. Throws {@link NotSetUp}. */
  image(): Image {
    let dir: string
    let manifest: ImageManifest
    try {
      dir = join(this.dir, readlinkSync(join(this.dir, 'current')))
      manifest = JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'))
    } catch {
      throw new NotSetUp('there is no kernel for virtual machines yet')
    }
    if (manifest.agent !== this.agentMark())
      throw new NotSetUp('the agent has changed since the virtual machine was set up')
    return {
      hash: dir.slice(dir.lastIndexOf('/') + 1),
      vmlinux: readlinkSync(join(dir, 'vmlinux')),
      initramfs: join(dir, 'initramfs'),
      kernel: manifest.kernel,
      acpi: manifest.acpi,
    }
  }

  /** Measured once per boot of the host. */
  hostFacts(): HostFacts {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const path = join(this.dir, 'host.json')
    try {
      const known = JSON.parse(readFileSync(path, 'utf8'))
      if (known.boot === boot) return known.facts
    } catch {}
    const facts = probeHost(this.dist)
    mkdirSync(this.dir, { recursive: true })
    writeFileSync(`${path}.${process.pid}`, JSON.stringify({ boot, facts }))
    renameSync(`${path}.${process.pid}`, path)
    return facts
  }
}
