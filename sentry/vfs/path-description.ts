/**
 * What O_PATH opens: a name held fast, without access to the object (Linux: empty_fops).
 */
import { EBADF } from '../abi/errno.ts'
import type { SysRet } from '../kernel/sysret.ts'
import { FileDescription } from './file-description.ts'
import type { Inode } from './inode.ts'

export class PathDescription extends FileDescription {
  get inode(): Inode {
    return this.path!.inode
  }
  override poll(): number {
    return 0x20
  }
  override ioctl(): SysRet {
    return -EBADF
  }
  override seek(): SysRet {
    return -EBADF
  }
  override readdir(): number {
    return -EBADF
  }
  override fsync(): number {
    return -EBADF
  }
  override truncate(): number {
    return -EBADF
  }
  override fallocate(): number {
    return -EBADF
  }
  override mmapFd(): number {
    return -EBADF
  }
}
