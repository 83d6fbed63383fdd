/**
 * Path: a place in the tree (Linux: struct path): a mount and a dentry in it. Immutable.
 */
import type { Dentry } from './dentry.ts'
import type { Inode } from './inode.ts'
import type { Mount } from './mount.ts'

export class Path {
  readonly mount: Mount
  readonly dentry: Dentry

  constructor(mount: Mount, dentry: Dentry) {
    this.mount = mount
    this.dentry = dentry
  }

  /** Preconditions: the dentry is positive. */
  get inode(): Inode {
    return this.dentry.inode!
  }

  equals(other: Path): boolean {
    return this.mount === other.mount && this.dentry === other.dentry
  }
}
