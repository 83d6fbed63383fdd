/**
 * A regular file (or block device) of the host as stdio.
 *
 * Its position is the host description's, which the processes around the sandbox share (`(tssandbox do a; b) > log`): so
 * `pos` is always −1, "the fd's own position", and never kept here.
 */

import { close, fallocate, fcntl, fdatasync, fsync, ftruncate, lseek } from '../../../native/host.ts'
import { EBADF } from '../../abi/errno.ts'
import { O_APPEND, O_NONBLOCK } from '../../abi/fcntl.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import { FileDescription } from '../../vfs/file-description.ts'
import type { Inode } from '../../vfs/inode.ts'
import type { HostInode } from './host-inode.ts'

const F_SETFL = 4
const OWN_POSITION = { get: () => -1, set: () => {}, enumerable: true }

export class HostRegularFile extends FileDescription {
  private readonly fd: number
  private readonly hostInode: HostInode

  constructor(fd: number, flags: number, inode: HostInode) {
    super(flags, null)
    this.fd = fd
    this.hostInode = inode
    Object.defineProperty(this, 'pos', OWN_POSITION)
  }

  override get inode(): Inode {
    return this.hostInode
  }
  override describe(): string {
    return `host:[${this.hostInode.ino}]`
  }
  override get seekable(): boolean {
    return true
  }

  override read(_t: Task, iter: IovIter, pos: number): SysRet {
    return this.readable ? iter.readFromHost(this.fd, pos) : -EBADF
  }
  override write(_t: Task, iter: IovIter, pos: number): SysRet {
    return this.writable ? iter.writeToHost(this.fd, this.flags & O_APPEND ? -1 : pos) : -EBADF
  }
  override seek(_t: Task, offset: number, whence: number): SysRet {
    return lseek(this.fd, offset, whence)
  }
  override fsync(dataOnly: boolean): number {
    return dataOnly ? fdatasync(this.fd) : fsync(this.fd)
  }
  override truncate(size: number): number {
    return ftruncate(this.fd, size)
  }
  override fallocate(mode: number, offset: number, len: number): number {
    return fallocate(this.fd, mode, offset, len)
  }
  override mmapFd(_write: boolean): number {
    return this.fd
  }
  override setFlags(flags: number): number {
    // O_APPEND decides where the host writes; O_NONBLOCK means nothing for a regular file.
    if (((flags ^ this.flags) & O_APPEND) !== 0) {
      const ret = fcntl(this.fd, F_SETFL, flags & ~O_NONBLOCK)
      if (ret < 0) return ret
    }
    this.flags = flags
    return 0
  }
  protected override release(): void {
    close(this.fd)
  }
}
