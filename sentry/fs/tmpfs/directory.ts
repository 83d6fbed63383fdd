/**
 * Directory in memory. Entries keep a position from when they are made until they go, so that readdir neither repeats nor
 * skips what stays while others are removed.
 *
 * Overlay directories inherit: `insert` and `remove` are the only places that change entries.
 */
import { EEXIST, EMLINK, ENOENT, ENOSPC, ENOTEMPTY } from '../../abi/errno.ts'
import type { Credentials } from '../../kernel/credentials.ts'
import type { Task } from '../../kernel/task.ts'
import { DirectoryDescription } from '../../vfs/directory-description.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { type DirEmitter, type Inode, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT } from '../../vfs/inode.ts'
import { RENAME_EXCHANGE, RENAME_WHITEOUT } from '../../vfs/namei.ts'
import type { Path } from '../../vfs/path.ts'
import { newInodeGid, newInodeMode } from '../../vfs/permission.ts'
import { touchCtime, touchMtime } from '../../vfs/times.ts'
import { TmpfsFile } from './file.ts'
import { TmpfsInode } from './inode.ts'
import { TmpfsSpecial, TmpfsSymlink } from './special.ts'
import type { TmpfsSuperBlock } from './super-block.ts'

const FIRST_POS = 2

export class Entry {
  readonly name: string
  readonly pos: number
  /** null: removed; the slot waits for compaction. */
  inode: TmpfsInode | null
  /** Overlay: shows a changed lower object in the lower layer's own place. */
  readonly inPlace: boolean

  constructor(name: string, pos: number, inode: TmpfsInode, inPlace: boolean) {
    this.name = name
    this.pos = pos
    this.inode = inode
    this.inPlace = inPlace
  }
}

export class TmpfsDirectory extends TmpfsInode {
  protected readonly entries = new Map<string, Entry>()
  /** All entries by ascending position, with removed ones among them. */
  private order: Entry[] = []
  private nextPos = FIRST_POS

  constructor(sb: TmpfsSuperBlock, ino: number, mode: number, uid: number, gid: number) {
    super(sb, ino, mode, uid, gid)
    this.nlink = 2
    this.size = sb.directorySize
    this.blocks = sb.directoryBlocks
  }

  open(_t: Task, path: Path, flags: number): FileDescription | number {
    return new DirectoryDescription(path, flags)
  }

  override lookup(name: string): Inode | number {
    const entry = this.entries.get(name)
    return entry === undefined ? -ENOENT : entry.inode!
  }

  // ---- the two primitives ------------------------------------------------------------------------------------------
  /** Enters a name; counts the '..' of a directory. */
  insert(name: string, inode: TmpfsInode): void {
    this.changed()
    this.place(name, inode, false)
    this.size += this.sb.entrySize
    if (inode.isDir) this.nlink++
    touchMtime(this)
  }

  protected place(name: string, inode: TmpfsInode, inPlace: boolean): void {
    const entry = new Entry(name, this.nextPos++, inode, inPlace)
    this.entries.set(name, entry)
    this.order.push(entry)
  }

  /** Takes a name away; the object's link count is the caller's. */
  remove(name: string, inode: TmpfsInode): void {
    this.changed()
    this.displace(name)
    this.size -= this.sb.entrySize
    if (inode.isDir) this.nlink--
    touchMtime(this)
  }

  protected displace(name: string): void {
    const entry = this.entries.get(name)
    if (entry === undefined) return
    this.entries.delete(name)
    entry.inode = null
    if (this.order.length > 32 && this.order.length > 2 * this.entries.size) {
      this.order = this.order.filter((e) => e.inode !== null)
    }
  }

  // ---- operations --------------------------------------------------------------------------------------------------
  private add<T extends TmpfsInode>(name: string, inode: T): T {
    this.insert(name, inode)
    return inode
  }

  override create(name: string, mode: number, creds: Credentials): Inode | number {
    const inode = this.tmpfile(mode, creds)
    if (typeof inode === 'number') return inode
    inode.nlink = 1
    return this.add(name, inode as TmpfsFile)
  }

  override tmpfile(mode: number, creds: Credentials): Inode | number {
    if (!this.sb.takeInode()) return -ENOSPC
    const gid = newInodeGid(this, creds)
    const file = new TmpfsFile(this.sb, this.sb.newIno(), newInodeMode(this, mode, creds), creds.fsuid, gid)
    file.nlink = 0
    return file
  }

  override mkdir(name: string, mode: number, creds: Credentials): Inode | number {
    if (!this.sb.takeInode()) return -ENOSPC
    const gid = newInodeGid(this, creds)
    return this.add(
      name,
      new TmpfsDirectory(this.sb, this.sb.newIno(), newInodeMode(this, mode | S_IFDIR, creds), creds.fsuid, gid),
    )
  }

  override mknod(name: string, mode: number, rdev: number, creds: Credentials): Inode | number {
    if (!this.sb.takeInode()) return -ENOSPC
    const gid = newInodeGid(this, creds)
    const node = new TmpfsSpecial(this.sb, this.sb.newIno(), newInodeMode(this, mode, creds), creds.fsuid, gid)
    node.rdev = rdev
    return this.add(name, node)
  }

  override symlink(name: string, target: string, creds: Credentials): Inode | number {
    if (!this.sb.takeInode()) return -ENOSPC
    const gid = newInodeGid(this, creds)
    return this.add(name, new TmpfsSymlink(this.sb, this.sb.newIno(), S_IFLNK | 0o777, creds.fsuid, gid, target))
  }

  override link(name: string, inode: Inode): number {
    const file = inode as TmpfsInode
    if (file.nlink >= 0x7fffffff) return -EMLINK
    file.changed()
    file.nlink++
    touchCtime(file)
    this.insert(name, file)
    return 0
  }

  override unlink(name: string, inode: Inode): number {
    const file = inode as TmpfsInode
    file.changed()
    this.remove(name, file)
    file.nlink--
    touchCtime(file)
    return 0
  }

  override rmdir(name: string, inode: Inode): number {
    const dir = inode as TmpfsDirectory
    if (!dir.isEmpty()) return -ENOTEMPTY
    this.remove(name, dir)
    dir.nlink = 0
    touchCtime(dir)
    return 0
  }

  isEmpty(): boolean {
    return this.entries.size === 0
  }

  override rename(
    name: string,
    inode: Inode,
    newDir: Inode,
    newName: string,
    target: Inode | null,
    flags: number,
  ): number {
    const from = inode as TmpfsInode
    const to = newDir as TmpfsDirectory
    const old = target as TmpfsInode | null
    if ((flags & RENAME_EXCHANGE) !== 0) {
      if (old === null) return -ENOENT
      this.remove(name, from)
      to.remove(newName, old)
      this.insert(name, old)
      to.insert(newName, from)
      touchCtime(from)
      touchCtime(old)
      return 0
    }
    if ((flags & RENAME_WHITEOUT) !== 0 && !this.sb.takeInode()) return -ENOSPC
    if (old !== null) {
      if (old.isDir && !(old as TmpfsDirectory).isEmpty()) return -ENOTEMPTY
      to.remove(newName, old)
      old.nlink = old.isDir ? 0 : old.nlink - 1
      old.changed()
      touchCtime(old)
    }
    this.remove(name, from)
    to.insert(newName, from)
    touchCtime(from)
    if ((flags & RENAME_WHITEOUT) !== 0) {
      this.insert(name, new TmpfsSpecial(this.sb, this.sb.newIno(), S_IFCHR, from.uid, from.gid))
    }
    return 0
  }

  override readdir(_t: Task, pos: number, out: DirEmitter): number {
    this.emitEntries(pos, 0, out)
    return 0
  }

  /** Emits own entries from `pos` on, with positions moved up by `base`. False when the buffer is full. */
  protected emitEntries(pos: number, base: number, out: DirEmitter): boolean {
    const { order } = this
    let lo = 0
    let hi = order.length
    while (lo < hi) {
      const mid = (lo + hi) >> 1
      if (order[mid]!.pos < pos) lo = mid + 1
      else hi = mid
    }
    for (; lo < order.length; lo++) {
      const { name, inode, pos: at, inPlace } = order[lo]!
      if (inode === null || inPlace) continue
      if (!out.emit(name, inode.ino, (inode.mode & S_IFMT) >> 12, base + at + 1)) return false
    }
    return true
  }

  /** The file system is gone: lets go of host descriptors below. */
  dispose(): void {
    const todo: TmpfsDirectory[] = [this]
    for (let dir = todo.pop(); dir !== undefined; dir = todo.pop()) {
      for (const { inode } of dir.entries.values()) {
        if (inode instanceof TmpfsDirectory) todo.push(inode)
        else if (inode !== null && inode.opens === 0) inode.evict()
      }
    }
  }

  /** Puts an object under a free name at boot. */
  attach(name: string, inode: TmpfsInode): number {
    if (this.entries.has(name)) return -EEXIST
    this.insert(name, inode)
    return 0
  }
}
