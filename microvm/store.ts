/**
 * What VMs are started from, on disk: kernels with their modules, images (kernel + initramfs, named by their content),
 * templates of booted VMs. Each is a folder that is made under another name and renamed when it is whole.
 *
 * It is one folder for the host, not below `--root`: Docker gives every daemon a root of its own, on a tmpfs, and all of
 * them use the same kernel. Installations share it, too: each has a file in `users/` that names its image.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
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
}

/** An installation of tssandbox and the image that its last set-up made. */
interface User {
  dist: string
  image: string
  /** Its agent then: the image has one of the same content, which another installation may have built. */
  agent: string
}

/** Of a file, with what is put behind. */
const MAX_NAME = 200
const YOUNG_MS = 3_600_000

function entries(dir: string): string[] {
  return existsSync(dir) ? readdirSync(dir) : []
}

/** The name of the kernel's folder. */
function kernelOf(image: string): string {
  try {
    return basename(dirname(readlinkSync(join(image, 'vmlinux'))))
  } catch {
    return ''
  }
}

function readJson<T>(file: string): T | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T
  } catch {
    return null
  }
}

/** Says what to do: set-up has not been run, or with another version of the agent. */
export class NotSetUp extends Error {
  constructor(reason: string) {
    super(`${reason}: run "tssandbox microvm setup" first`)
  }
}

const sha256 = (...parts: (Buffer | string)[]) => {
  // Not imported: loading it takes 10 ms of each start.
  const hash = process.getBuiltinModule('node:crypto').createHash('sha256')
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
    const manifest: ImageManifest = { kernel, acpi }
    const path = join(this.dir, 'images', hash)
    if (!existsSync(path))
      this.publish(path, (dir) => {
        writeFileSync(join(dir, 'initramfs'), initramfs)
        symlinkSync(vmlinux, join(dir, 'vmlinux'))
      })
    writeFileSync(join(path, `manifest.${process.pid}`), JSON.stringify(manifest))
    renameSync(join(path, `manifest.${process.pid}`), join(path, 'manifest.json'))
    mkdirSync(join(this.dir, 'users'), { recursive: true })
    const user: User = { dist: this.dist, image: hash, agent: this.agentMark() }
    writeFileSync(`${this.userFile()}.tmp`, JSON.stringify(user))
    renameSync(`${this.userFile()}.tmp`, this.userFile())
  }

  private userFile(): string {
    const name = encodeURIComponent(this.dist)
    return join(this.dir, 'users', `${name.length < MAX_NAME ? name : sha256(this.dist)}.json`)
  }

  /**
   * Removes images that no installation uses any more, and templates and kernels whose image is gone. What is young stays: another
   * set-up may be about to use it. Running VMs keep what they have open. Returns how many.
   */
  prune(now = Date.now()): number {
    const used = new Set<string>()
    for (const file of entries(join(this.dir, 'users'))) {
      const user = readJson<User>(join(this.dir, 'users', file))
      if (user && existsSync(join(user.dist, 'agent'))) used.add(user.image)
      else rmSync(join(this.dir, 'users', file), { force: true })
    }
    const old = (path: string) => {
      const time = statSync(join(path, 'manifest.json'), { throwIfNoEntry: false }) ?? statSync(path)
      return now - time.mtimeMs > YOUNG_MS
    }
    let removed = 0
    const sweep = (folder: string, keep: (name: string, path: string) => boolean) => {
      for (const name of entries(join(this.dir, folder))) {
        const path = join(this.dir, folder, name)
        if (keep(name, path) || !old(path)) continue
        rmSync(path, { recursive: true, force: true })
        removed++
      }
    }
    sweep('images', (name) => used.has(name))
    const images = new Set(entries(join(this.dir, 'images')))
    sweep('templates', (_, path) => images.has(readJson<{ image: string }>(join(path, 'manifest.json'))?.image ?? ''))
    const kernels = new Set([...images].map((name) => kernelOf(join(this.dir, 'images', name))))
    sweep('kernels', (name) => kernels.has(name))
    return removed
  }

  /** What the last set-up made. Throws {@link NotSetUp}. */
  image(): Image {
    let dir: string
    let manifest: ImageManifest
    let user: User
    try {
      user = JSON.parse(readFileSync(this.userFile(), 'utf8')) as User
      dir = join(this.dir, 'images', user.image)
      manifest = JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'))
    } catch {
      throw new NotSetUp('there is no kernel for virtual machines yet')
    }
    if (user.agent !== this.agentMark())
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
