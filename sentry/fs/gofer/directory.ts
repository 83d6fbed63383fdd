/**
 * An open directory of a gofer mount: it shows what was there when reading began at its start, so that positions keep their
 * meaning while entries come and go.
 */
import type { Task } from '../../kernel/task.ts'
import { DirectoryDescription } from '../../vfs/directory-description.ts'
import type { GoferInode } from './inode.ts'
import { FIRST, type Listing } from './listing.ts'

export class GoferDirectory extends DirectoryDescription {
  private listing: Listing | null = null

  protected override readEntries(_t: Task, pos: number): number {
    if (this.listing === null || pos <= FIRST) {
      const listing = (this.dir as GoferInode).list(true)
      if (typeof listing === 'number') return listing
      this.listing = listing
    }
    return this.listing.emit(pos, this)
  }

  override fsync(): number {
    const dir = this.dir as GoferInode
    const path = dir.path()
    return path === null ? 0 : dir.sb.client.fsync(dir.sb.mountId, path)
  }
}
