/**
 * Host descriptors of files that the guest does not have open at the moment, kept for the next open, execve or mmap of
 * them. Bounded: the sentry's descriptor table is not the guest's to fill.
 */
import type { GoferInode } from './inode.ts'
import type { GoferSuperBlock } from './super-block.ts'

const MAX_IDLE = 512

export class IdleFiles {
  /** Least recently used first. */
  private readonly inodes = new Set<GoferInode>()

  /** Nobody has it open any more, or it was used in passing. */
  add(inode: GoferInode): void {
    this.inodes.delete(inode)
    this.inodes.add(inode)
    if (this.inodes.size <= MAX_IDLE) return
    const oldest: GoferInode = this.inodes.values().next().value!
    this.inodes.delete(oldest)
    oldest.closeHost()
  }

  remove(inode: GoferInode): void {
    this.inodes.delete(inode)
  }

  closeAll(): void {
    for (const inode of this.inodes) inode.closeHost()
    this.inodes.clear()
  }

  closeOf(sb: GoferSuperBlock): void {
    for (const inode of this.inodes) {
      if (inode.sb !== sb) continue
      this.inodes.delete(inode)
      inode.closeHost()
    }
  }
}
