/**
 * Directory of the overlay: a lower directory, seen through entries made since and names removed since.
 *
 * `entries` holds what is new, what replaced a lower name, and (in place) lower objects that were changed. `whiteouts` are
 * lower names that are gone; an entry of the same name wins over its whiteout. Readdir shows the lower layer's entries at
 * the lower layer's positions and new ones behind them, so that positions stay true while entries come and go.
 */
import { ENOENT } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import type { Dentry } from '../../vfs/dentry.ts'
import { type DirEmitter, type Glance, type Inode, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../vfs/inode.ts'
import { lookupChild } from '../../vfs/path-walk.ts'
import { TmpfsDirectory } from '../tmpfs/directory.ts'
import type { TmpfsInode } from '../tmpfs/inode.ts'
import { TmpfsSpecial } from '../tmpfs/special.ts'
import { OverlayFile } from './file.ts'
import { copyAttributes, LowerOrigin } from './origin.ts'
import { OverlaySymlink } from './special.ts'
import type { OverlaySuperBlock } from './super-block.ts'

const NO_TASK = null as unknown as Task
/** Positions of new entries begin here; those of lower layers are far below. */
const UPPER = 2 ** 52

export class OverlayDirectory extends TmpfsDirectory {
  declare readonly sb: OverlaySuperBlock
  private readonly lowerDir: Dentry
  private whiteouts: Set<string> | null = null

  constructor(sb: OverlaySuperBlock, lower: Dentry, home: OverlayDirectory | null, name: string) {
    const inode = lower.inode!
    super(sb, inode.ino, inode.mode, inode.uid, inode.gid)
    this.lowerDir = lower
    this.origin = new LowerOrigin(lower, home, name)
    copyAttributes(this, inode)
  }

  override lookup(name: string): Inode | number {
    const entry = this.entries.get(name)
    if (entry !== undefined) return entry.inode!
    if (this.whiteouts?.has(name)) return -ENOENT
    const lower = lookupChild(this.lowerDir, name)
    if (typeof lower === 'number') return lower
    return lower.inode === null ? -ENOENT : this.wrap(lower, name)
  }

  override glance(name: string): Glance | null {
    if (this.entries.has(name) || this.whiteouts?.has(name) || this.lowerDir.child(name) !== undefined) return null
    return this.lowerDir.inode!.glance(name)
  }

  /** The overlay's object for a lower one. */
  private wrap(lower: Dentry, name: string): Inode {
    const inode = lower.inode!
    const { sb } = this
    const type = inode.mode & S_IFMT
    if (type === S_IFDIR) return new OverlayDirectory(sb, lower, this, name)
    // All names of a hard-linked lower file are one object here too.
    const known = inode.nlink > 1 ? sb.links.get(inode.ino) : undefined
    if (known !== undefined) return known
    const Class = type === S_IFREG ? OverlayFile : type === S_IFLNK ? OverlaySymlink : TmpfsSpecial
    const made: TmpfsInode = new Class(sb, inode.ino, inode.mode, inode.uid, inode.gid)
    made.origin = new LowerOrigin(lower, this, name)
    copyAttributes(made, inode)
    if (inode.nlink > 1) sb.links.set(inode.ino, made)
    return made
  }

  /** Tells the lower layer what a walk is about to look up. */
  prefetch(names: readonly string[], open: boolean): void {
    const first = names[0]!
    if (this.entries.has(first) || this.whiteouts?.has(first)) return
    this.lowerDir.sb.prefetch(this.lowerDir, names, open)
  }

  /** Pins a changed lower object under its own name. */
  keep(name: string, inode: TmpfsInode): void {
    if (!this.entries.has(name) && !this.whiteouts?.has(name)) this.place(name, inode, true)
  }

  override insert(name: string, inode: TmpfsInode): void {
    super.insert(name, inode)
    // Whatever it was before, it lives here now.
    if (inode.origin !== null) (inode.origin as LowerOrigin).pinned = true
  }

  protected override displace(name: string): void {
    super.displace(name)
    if (this.whiteouts?.has(name)) return
    const lower = lookupChild(this.lowerDir, name)
    if (typeof lower !== 'number' && lower.inode === null) return
    if (this.whiteouts === null) this.whiteouts = new Set()
    this.whiteouts.add(name)
  }

  override isEmpty(): boolean {
    if (this.entries.size > 0) return false
    let empty = true
    const err = this.lowerDir.inode!.readdir(NO_TASK, 2, {
      emit: (name) => {
        empty = this.whiteouts?.has(name) === true
        return empty
      },
    })
    return empty && err === 0
  }

  override readdir(t: Task, pos: number, out: DirEmitter): number {
    const lower = this.lowerDir.inode!
    const plain = this.entries.size === 0 && this.whiteouts === null
    if (plain) return pos >= UPPER ? 0 : lower.readdir(t, pos, out)
    if (pos < UPPER) {
      let full = false
      const err = lower.readdir(t, pos, {
        emit: (name, ino, type, next) => {
          const entry = this.entries.get(name)
          let done = true
          if (entry !== undefined) {
            if (entry.inPlace) done = out.emit(name, entry.inode!.ino, (entry.inode!.mode & S_IFMT) >> 12, next)
          } else if (!this.whiteouts?.has(name)) done = out.emit(name, ino, type, next)
          full = !done
          return done
        },
      })
      if (err !== 0 || full) return err
    }
    this.emitEntries(Math.max(0, pos - UPPER), UPPER, out)
    return 0
  }
}
