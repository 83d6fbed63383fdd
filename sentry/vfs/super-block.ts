/**
 * A mounted file system instance (Linux: struct super_block). One may be mounted in many places.
 */
import { Dentry } from './dentry.ts'
import { trackDentries } from './dentry-cache.ts'
import type { Inode, StatFs } from './inode.ts'

let nextDev = 0x20

export abstract class SuperBlock {
  /** As in /proc/filesystems: 'tmpfs', 'proc', … */
  abstract readonly type: string
  /** Unnamed device number, as st_dev shows it. */
  readonly dev: number = nextDev++
  /** What /proc/mounts shows as the device. */
  source = 'none'
  /** Super block options for /proc/mounts, without the leading comma; '' if none. */
  options = ''
  readonly = false
  abstract readonly root: Inode
  /** Whether others (the host) may change names and attributes behind our back: cached dentries are revalidated. */
  readonly shared: boolean = false

  /** Contents and attributes of its files and directories change by calls of guests alone, and by their mappings. */
  get steady(): boolean {
    return false
  }

  /** Nothing can be made: its lookups fail, where others leave a negative entry (procfs). Creating says ENOENT. */
  readonly fixedNames: boolean = false
  /** Places where it is mounted, in all namespaces. */
  mountCount = 0
  private rootEntry: Dentry | null = null
  /** The one dentry of `root`, which all mounts of the file system share. */
  get rootDentry(): Dentry {
    if (this.rootEntry === null) {
      this.rootEntry = new Dentry(this, null, '/', this.root)
      trackDentries(this)
    }
    return this.rootEntry
  }

  abstract statfs(out: StatFs): number

  /**
   * A hint before a walk of uncached components below `dir`: fill the dentry cache in one round trip. `open`: what is
   * found last will be opened for reading.
   */
  prefetch(_dir: Dentry, _names: readonly string[], _open = false): void {}

  /** Shared file systems: is the cached dentry still true? May update its inode's attributes. */
  revalidate(_dentry: Dentry): boolean {
    return true
  }

  sync(): number {
    return 0
  }

  /** The last mount is gone. */
  release(): void {}
}
