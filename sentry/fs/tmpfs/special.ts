/**
 * Symbolic links, and the inodes of FIFOs, sockets and devices, in memory.
 */

import { ELOOP } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import type { Path } from '../../vfs/path.ts'
import { openSpecial } from '../../vfs/special.ts'
import { TmpfsInode } from './inode.ts'
import type { TmpfsSuperBlock } from './super-block.ts'

export class TmpfsSymlink extends TmpfsInode {
  private readonly target: string

  constructor(sb: TmpfsSuperBlock, ino: number, mode: number, uid: number, gid: number, target: string) {
    super(sb, ino, mode, uid, gid)
    this.target = target
    this.size = target.length
  }

  open(): FileDescription | number {
    return -ELOOP
  }
  override readlink(_t: Task): string | number {
    return this.target
  }
}

export class TmpfsSpecial extends TmpfsInode {
  open(t: Task, path: Path, flags: number): FileDescription | number {
    return openSpecial(t, this, path, flags)
  }
}
