/**
 * An open regular file of a gofer mount: data moves between the guest and the donated host descriptor, without the gofer.
 *
 * The descriptor is shared by all opens of the file and its own position is never used.
 */
import { fallocate, fdatasync, fsync, ftruncate, lseek } from '../../../native/host.ts'
import { EBADF, EINVAL } from '../../abi/errno.ts'
import { O_APPEND, O_DSYNC } from '../../abi/fcntl.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import { FileDescription } from '../../vfs/file-description.ts'
import type { Inode } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import type { GoferInode } from './inode.ts'

const SEEK_SET = 0
const SEEK_CUR = 1
const SEEK_END = 2

export class GoferRegularFile extends FileDescription {
  private readonly file: GoferInode
  private readonly fd: number

  /** The inode keeps `fd` open until {@link release}. */
  constructor(flags: number, path: Path, file: GoferInode, fd: number) {
    super(flags, path)
    this.file = file
    this.fd = fd
  }

  get inode(): Inode {
    return this.file
  }
  override get seekable(): boolean {
    return true
  }

  override read(_t: Task, iter: IovIter, pos: number): SysRet {
    return this.readable ? iter.readFromHost(this.fd, pos) : -EBADF
  }

  override write(_t: Task, iter: IovIter, pos: number): SysRet {
    if (!this.writable) return -EBADF
    if ((this.flags & O_APPEND) !== 0) {
      const end = lseek(this.fd, 0, SEEK_END)
      if (end < 0) return end
      pos = end
      this.pos = end
    }
    const n = iter.writeToHost(this.fd, pos)
    // The one attribute that others look at without asking for it anew.
    if (n > 0 && pos + n > this.file.size) this.file.size = pos + n
    if (n > 0 && (this.flags & O_DSYNC) !== 0) {
      const error = fdatasync(this.fd)
      if (error < 0) return error
    }
    return n
  }

  override seek(_t: Task, offset: number, whence: number): SysRet {
    let pos: number
    if (whence === SEEK_SET) pos = offset
    else if (whence === SEEK_CUR) pos = this.pos + offset
    // SEEK_END, SEEK_DATA, SEEK_HOLE: the host knows size and holes.
    else pos = lseek(this.fd, offset, whence)
    if (pos < 0) return whence <= SEEK_CUR ? -EINVAL : pos
    this.pos = pos
    return pos
  }

  override fsync(dataOnly: boolean): number {
    return dataOnly ? fdatasync(this.fd) : fsync(this.fd)
  }
  override truncate(size: number): number {
    if (!this.writable) return -EINVAL
    const error = ftruncate(this.fd, size)
    if (error === 0) this.file.size = size
    return error
  }
  override fallocate(mode: number, offset: number, len: number): number {
    if (!this.writable) return -EBADF
    const error = fallocate(this.fd, mode, offset, len)
    return error !== 0 ? error : this.file.revalidate()
  }
  override mmapFd(write: boolean): number {
    return this.file.hostFd(write)
  }

  protected override release(): void {
    this.file.closed()
  }
}
