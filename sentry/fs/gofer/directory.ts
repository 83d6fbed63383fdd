/**
 * Reading directories of a gofer mount.
 *
 * A listing is the whole directory as it was when reading began at its start, so that positions keep their meaning while
 * entries come and go. With the names come the attributes: they are put into the dentry cache, because whoever lists a
 * directory usually looks at its files next.
 */
import { STATX_OFFSET } from '../../../native/host-files.ts'
import { EIO, ENOENT } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import type { Dentry } from '../../vfs/dentry.ts'
import { DirectoryDescription } from '../../vfs/directory-description.ts'
import type { DirEmitter } from '../../vfs/inode.ts'
import type { GoferInode } from './inode.ts'

/** A directory beyond this many entries would push everything else out of the dentry cache. */
const MAX_SEEDED = 8192
/** What one directory may make the sentry keep in memory: names of 255 bytes at worst. */
const MAX_ENTRIES = 4_000_000
/** Listings kept: for callers of Inode.readdir to go on with, and for who lists the same again. */
const MAX_RECENT = 16
/** Positions 0 and 1 are '.' and '..'. */
const FIRST = 2

export class Listing {
  private readonly names: string[] = []
  private readonly inos: number[] = []
  private readonly types: number[] = []
  /** A name has changed since; who has begun to read goes on all the same. */
  private outdated = false

  /** The listing that a caller without memory of its own (overlay) reads on at `pos`. */
  static of(dir: GoferInode, pos: number): Listing | number {
    const known = pos > FIRST ? recent.get(dir) : undefined
    return known ?? Listing.readAndKeep(dir, null)
  }

  /** The directory as it is now. On an exclusive mount we hear of every change, so that it need not be fetched again. */
  static current(dir: GoferInode, seed: Dentry | null): Listing | number {
    if (dir.sb.shared) return Listing.read(dir, seed)
    const known = recent.get(dir)
    return known !== undefined && !known.outdated ? known : Listing.readAndKeep(dir, seed)
  }

  private static readAndKeep(dir: GoferInode, seed: Dentry | null): Listing | number {
    const listing = Listing.read(dir, seed)
    if (typeof listing === 'number') return listing
    recent.delete(dir)
    recent.set(dir, listing)
    if (recent.size > MAX_RECENT) recent.delete(recent.keys().next().value!)
    return listing
  }

  /** A name in the directory is about to come, go or change. */
  static namesChanged(dir: GoferInode): void {
    const known = recent.get(dir)
    if (known !== undefined) known.outdated = true
  }

  /**
   * Fetches the whole directory. `seed` is its dentry, to put the children under; without one the inode keeps them for
   * its next lookups.
   */
  static read(dir: GoferInode, seed: Dentry | null): Listing | number {
    const { sb } = dir
    const { client } = sb
    const { r } = client
    const path = dir.path()
    if (path === null) return -ENOENT
    const listing = new Listing()
    const children = seed === null ? new Map<string, GoferInode | null>() : null
    let low = 0
    let high = 0
    for (;;) {
      const result = client.readdir(sb.mountId, path, low, high)
      if (result < 0) return result
      const nextLow = r.u32()
      const nextHigh = r.u32()
      const end = r.u16()
      const count = r.u16()
      for (let i = 0; i < count; i++) {
        const at = client.takeStat()
        const name = r.text()
        const target = r.text()
        if (at < 0 || !r.ok) return -EIO
        listing.names.push(name)
        listing.inos.push(sb.inoOf(r.view, at))
        listing.types.push(r.view.getUint16(at + STATX_OFFSET.mode, true) >> 12)
        if (listing.names.length > MAX_SEEDED || (seed !== null && seed.child(name) !== undefined)) continue
        const inode = sb.inodeFor(dir, name, r.view, at)
        if (target !== '') inode.linkTarget = target
        if (seed !== null) seed.add(name, inode)
        else children!.set(name, inode)
      }
      if (end !== 0 && children !== null && listing.names.length <= MAX_SEEDED) dir.keepChildren(children)
      if (end !== 0) return listing
      if (listing.names.length > MAX_ENTRIES || (nextLow === low && nextHigh === high)) return -EIO
      low = nextLow
      high = nextHigh
    }
  }

  emit(pos: number, out: DirEmitter): number {
    for (let i = Math.max(0, pos - FIRST); i < this.names.length; i++) {
      if (!out.emit(this.names[i]!, this.inos[i]!, this.types[i]!, i + FIRST + 1)) return 0
    }
    return 0
  }
}

/** Oldest first. */
const recent = new Map<GoferInode, Listing>()

export class GoferDirectory extends DirectoryDescription {
  private listing: Listing | null = null

  protected override readEntries(_t: Task, pos: number): number {
    if (this.listing === null || pos <= FIRST) {
      const listing = Listing.current(this.dir as GoferInode, this.path!.dentry)
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
