/**
 * The register of file system types (Linux: fs/filesystems.c). Each file system registers a factory under the name that
 * mount(2) and /proc/filesystems know; sentry/vfs/boot-mounts.ts mounts the container's list through it.
 */
import { EINVAL } from '../abi/errno.ts'
import type { Credentials } from '../kernel/credentials.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { SuperBlock } from './super-block.ts'

export interface MountRequest {
  readonly kernel: Kernel
  /** First argument of mount(2); what /proc/mounts shows. */
  readonly source: string
  /** File system options, `size=64k,mode=755`, without those that are mount flags. */
  readonly options: string
  /** MS_*. */
  readonly flags: number
  readonly creds: Credentials
}

export interface FileSystemType {
  readonly name: string
  /** Needs no block device: 'nodev' in /proc/filesystems. All of ours. */
  readonly nodev: boolean
  /** A new (or the one shared) super block, or −errno. */
  mount(request: MountRequest): SuperBlock | number
}

const TYPES = new Map<string, FileSystemType>()

export function registerFileSystem(type: FileSystemType): void {
  TYPES.set(type.name, type)
}
export function fileSystem(name: string): FileSystemType | undefined {
  return TYPES.get(name)
}
/** In order of registration. */
export function fileSystems(): IterableIterator<FileSystemType> {
  return TYPES.values()
}

/** `a=b,c` as pairs; a word without '=' has the value ''. */
export function parseOptions(options: string): [string, string][] {
  const pairs: [string, string][] = []
  for (const word of options.split(',')) {
    if (word === '') continue
    const eq = word.indexOf('=')
    pairs.push(eq < 0 ? [word, ''] : [word.slice(0, eq), word.slice(eq + 1)])
  }
  return pairs
}

/** memparse of the kernel plus tmpfs's percentage of `total`: '64k', '1g', '50%'. −EINVAL if it is no number. */
export function parseSize(text: string, total: number): number {
  const m = /^(\d+|0x[0-9a-fA-F]+)([kKmMgGtTpP%]?)$/.exec(text)
  if (m === null) return -EINVAL
  const n = Number(m[1])
  const unit = m[2]!.toLowerCase()
  if (unit === '%') return Math.floor((total * n) / 100)
  return n * 1024 ** ' kmgtp'.indexOf(unit === '' ? ' ' : unit)
}
