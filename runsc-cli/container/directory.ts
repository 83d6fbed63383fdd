/**
 * A container's state on disk, `<root>/<id>/`: `state.json`, `control.sock` and `lock`. state.json is replaced by rename,
 * so a reader, also after kill -9 of the writer, sees a whole one. Commands that change a container hold its lock
 * (flock: the kernel releases it with the process).
 */
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { PlatformName, ProcessSpec } from '../../sentry/control/protocol.ts'
import { CliError, doesNotExist } from '../errors.ts'
import type { Hooks } from '../spec/oci.ts'
import { monotonicMs, type ProcessRef, sleep } from './liveness.ts'

export interface ContainerState {
  version: 1
  ociVersion: string
  id: string
  bundle: string
  rootfs: string
  created: string
  owner: string
  annotations: Record<string, string>
  /** How far create and start have come. Whether it still runs is asked of the processes. */
  phase: 'creating' | 'created' | 'running'
  sentry: ProcessRef | null
  gofer: ProcessRef | null
  /** Directories to remove on delete, parents first. */
  cgroups: string[]
  hooks: Hooks
  platform?: PlatformName
  /** What `exec` starts from. */
  process: ProcessSpec
}

const ID = /^[\w+.-]+$/

export function checkId(id: string): string {
  if (!ID.test(id) || id === '.' || id === '..' || id.length > 1024)
    throw new CliError(`invalid container id "${id}": letters, digits and _ + - . are allowed`)
  return id
}

const LOCK_EX_NB = 6
const LOCK_PATIENCE_MS = 30_000

export class ContainerDirectory {
  readonly root: string
  readonly id: string
  readonly path: string

  constructor(root: string, id: string) {
    this.root = root
    this.id = checkId(id)
    this.path = join(root, id)
  }

  get controlSocket(): string {
    return join(this.path, 'control.sock')
  }

  /** Claims the id. */
  create(): void {
    mkdirSync(this.root, { recursive: true, mode: 0o711 })
    try {
      mkdirSync(this.path, { mode: 0o700 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw new CliError(`container with id exists: ${this.id}`)
      throw error
    }
  }

  /** Waits for other commands on this container. The lock ends with {@link Lock.release} or the process. */
  async lock(): Promise<Lock> {
    const { raw } = await import('../../native/host.ts')
    const file = join(this.path, 'lock')
    const deadline = monotonicMs() + LOCK_PATIENCE_MS
    for (;;) {
      let fd: number
      try {
        fd = openSync(file, 'a', 0o600)
      } catch {
        throw doesNotExist(this.id)
      }
      while (raw.L(73, fd, LOCK_EX_NB, 0, 0, 0, 0) < 0) {
        if (monotonicMs() > deadline) {
          closeSync(fd)
          throw new CliError(`container "${this.id}" is busy: another command has been working on it for 30 s`)
        }
        await sleep(5)
      }
      // Deleted (and maybe made anew) while we waited: then this is not the lock any more.
      const now = statSync(file, { throwIfNoEntry: false })
      if (now && now.ino === fstatSync(fd).ino) return new Lock(fd)
      closeSync(fd)
    }
  }

  write(state: ContainerState): void {
    const temporary = join(this.path, `state.json.${process.pid}`)
    writeFileSync(temporary, JSON.stringify(state), { mode: 0o600 })
    renameSync(temporary, join(this.path, 'state.json'))
  }

  /** null: claimed, but its creator has not come (or did not live) to write anything. */
  read(): ContainerState | null {
    if (!this.exists()) throw doesNotExist(this.id)
    let text: string
    try {
      text = readFileSync(join(this.path, 'state.json'), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      return null
    }
    return JSON.parse(text) as ContainerState
  }

  exists(): boolean {
    return statSync(this.path, { throwIfNoEntry: false }) !== undefined
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true })
  }

  static list(root: string): ContainerDirectory[] {
    let names: string[]
    try {
      names = readdirSync(root)
    } catch {
      return []
    }
    return names
      .filter((name) => ID.test(name))
      .sort()
      .map((name) => new ContainerDirectory(root, name))
  }
}

export class Lock {
  private fd: number
  constructor(fd: number) {
    this.fd = fd
  }
  release(): void {
    if (this.fd >= 0) closeSync(this.fd)
    this.fd = -1
  }
}

/** `--pid-file`: written whole or not at all, since its reader waits for it to appear. */
export function writePidFile(path: string, pid: number): void {
  const temporary = `${path}.${process.pid}.tmp`
  writeFileSync(temporary, String(pid), { mode: 0o644 })
  renameSync(temporary, path)
}
