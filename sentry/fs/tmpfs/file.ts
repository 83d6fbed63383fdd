/**
 * Regular files in memory, and their descriptions.
 *
 * `size` of the inode is `data.size`; the pages are charged to the super block when it has a limit.
 */
import { EFBIG, EINVAL, ENOSPC, EOPNOTSUPP, EPERM } from '../../abi/errno.ts'
import { O_APPEND } from '../../abi/fcntl.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import { FileDescription } from '../../vfs/file-description.ts'
import type { Inode } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { SEEK_DATA, seekRegular } from '../../vfs/seek.ts'
import { touchAtime, touchMtime } from '../../vfs/times.ts'
import { FileData } from './file-data.ts'
import { TmpfsInode } from './inode.ts'

const PAGE = 4096
const MAX_SIZE = 0x7fff_ffff_ffff
const FALLOC_KEEP_SIZE = 1
const FALLOC_PUNCH_HOLE = 2

export const F_SEAL_SEAL = 1
export const F_SEAL_SHRINK = 2
export const F_SEAL_GROW = 4
export const F_SEAL_WRITE = 8
export const F_SEAL_FUTURE_WRITE = 16
export const F_SEAL_EXEC = 32
export const F_ALL_SEALS = 63

export class TmpfsFile extends TmpfsInode {
  protected readonly data = new FileData()
  /** Pages charged so far. */
  private charged = 0
  /** F_SEAL_*: nothing can be sealed but memfds made with MFD_ALLOW_SEALING. */
  seals = F_SEAL_SEAL

  open(_t: Task, path: Path, flags: number): FileDescription | number {
    return new TmpfsFileDescription(this, path, flags)
  }

  /** Called by a description before its first and after its last use. */
  acquire(): number {
    return 0
  }
  release(): void {}

  readAt(_t: Task, iter: IovIter, pos: number): SysRet {
    return this.data.read(iter, pos)
  }

  writeAt(iter: IovIter, pos: number): SysRet {
    if ((this.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) return -EPERM
    let max = iter.remaining
    if ((this.seals & F_SEAL_GROW) !== 0 && pos + max > this.data.size) {
      if (pos >= this.data.size) return max === 0 ? 0 : -EPERM
      max = this.data.size - pos
    }
    if (max === 0) return 0
    if (pos >= MAX_SIZE) return -EFBIG
    const limited = this.sb.maxPages !== 0
    if (limited) {
      max = this.room(pos, max)
      if (max === 0) return -ENOSPC
    }
    const before = this.data.size
    const n = this.data.write(iter, pos, max)
    if (n > 0) {
      this.size = this.data.size
      touchMtime(this)
      if (limited) this.chargeWrite(before, pos)
    }
    return n
  }

  /** As {@link charge}; a file without holes that grew at its end needs no question to the host. */
  private chargeWrite(before: number, pos: number): void {
    if (pos > before || this.charged !== Math.ceil(before / PAGE)) {
      this.charge()
      return
    }
    const pages = Math.ceil(this.size / PAGE)
    this.sb.usedPages += pages - this.charged
    this.charged = pages
  }

  /** How many of `len` bytes at `pos` the file system has room for. */
  protected room(pos: number, len: number): number {
    const { sb } = this
    const first = Math.floor(pos / PAGE)
    const last = Math.floor((pos + len - 1) / PAGE)
    let free = sb.maxPages - sb.usedPages
    if (last - first + 1 <= free) return len
    // What was promised to this file is there for it.
    free += this.data.pages() - this.data.filledPages()
    // Nearly full: only pages that are not there yet need room.
    for (let page = first; page <= last; page++) {
      const there = this.data.seek(page * PAGE, SEEK_DATA)
      if (there >= 0 && there < (page + 1) * PAGE) continue
      if (free-- <= 0) return Math.max(0, page * PAGE - pos)
    }
    return len
  }

  protected charge(): void {
    const pages = this.data.pages()
    this.sb.usedPages += pages - this.charged
    this.charged = pages
  }

  override revalidate(): number {
    const pages = this.data.pages()
    this.blocks = pages * 8
    this.sb.usedPages += pages - this.charged
    this.charged = pages
    return 0
  }

  protected override resize(size: number): number {
    if (size < this.data.size && (this.seals & F_SEAL_SHRINK) !== 0) return -EPERM
    if (size > this.data.size && (this.seals & F_SEAL_GROW) !== 0) return -EPERM
    if (size > MAX_SIZE) return -EFBIG
    const err = this.data.truncate(size)
    this.size = this.data.size
    if (err === 0) this.charge()
    return err
  }

  /** A new file's size, without its rules. */
  growTo(size: number): number {
    return this.resize(size)
  }

  allocate(mode: number, offset: number, len: number): number {
    if ((mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE)) !== 0) return -EOPNOTSUPP
    if ((mode & FALLOC_PUNCH_HOLE) !== 0) {
      if ((this.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) return -EPERM
    } else {
      if ((this.seals & F_SEAL_GROW) !== 0 && offset + len > this.data.size) return -EPERM
      if (offset + len > MAX_SIZE) return -EFBIG
      if (this.sb.maxPages !== 0 && this.room(offset, len) < len) return -ENOSPC
    }
    const punch = (mode & FALLOC_PUNCH_HOLE) !== 0
    const keepSize = (mode & FALLOC_KEEP_SIZE) !== 0
    const err = punch ? this.data.punchHole(offset, len) : this.data.reserve(keepSize, offset, len)
    this.size = this.data.size
    if (err === 0) {
      touchMtime(this)
      this.charge()
    }
    return err
  }

  seekData(pos: number, whence: number): number {
    return this.data.seek(pos, whence)
  }

  override hostFd(write: boolean): number {
    return write ? this.data.hostFd() : this.data.readOnlyFd()
  }

  override evict(): void {
    this.sb.usedPages -= this.charged
    this.charged = 0
    this.data.close()
    super.evict()
  }
}

export class TmpfsFileDescription extends FileDescription {
  readonly file: TmpfsFile

  constructor(file: TmpfsFile, path: Path, flags: number) {
    super(flags, path)
    this.file = file
  }

  get inode(): Inode {
    return this.file
  }
  override get seekable(): boolean {
    return true
  }

  override read(t: Task, iter: IovIter, pos: number): SysRet {
    const n = this.file.readAt(t, iter, pos)
    if (n > 0) touchAtime(this.path!.mount, this.file)
    return n
  }

  override write(_t: Task, iter: IovIter, pos: number): SysRet {
    let at = pos
    if ((this.flags & O_APPEND) !== 0) {
      at = this.file.size
      this.pos = at
    }
    return this.file.writeAt(iter, at)
  }

  override seek(_t: Task, offset: number, whence: number): SysRet {
    if (whence >= SEEK_DATA && offset >= 0) {
      const at = this.file.seekData(offset, whence)
      if (at >= 0) this.pos = at
      return at
    }
    return seekRegular(this, offset, whence, this.file.size)
  }

  override fsync(): number {
    return 0
  }

  override truncate(_size: number): number {
    return -EINVAL
  }

  override fallocate(mode: number, offset: number, len: number): number {
    return this.file.allocate(mode, offset, len)
  }

  override mmapFd(write: boolean): number {
    if (write && (this.file.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) return -EPERM
    return this.file.hostFd(write)
  }

  protected override release(): void {
    this.file.release()
  }
}
