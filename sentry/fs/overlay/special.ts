/**
 * Symbolic links of the lower layer. FIFOs, sockets and devices need nothing beyond tmpfs's.
 */
import { ELOOP } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { TmpfsInode } from '../tmpfs/inode.ts'

export class OverlaySymlink extends TmpfsInode {
  open(): FileDescription | number {
    return -ELOOP
  }
  override readlink(t: Task): string | number {
    return this.origin!.lower.readlink(t)
  }
}
