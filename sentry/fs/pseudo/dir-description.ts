/**
 * An open directory of a generated file system: '.' and '..' first, then what the inode lists.
 */
import { EINVAL, EISDIR } from '../../abi/errno.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import { FileDescription } from '../../vfs/file-description.ts'
import type { DirEmitter, Inode } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'

const DT_DIR = 4

export class PseudoDirDescription extends FileDescription {
  private readonly directory: Inode

  constructor(flags: number, path: Path, directory: Inode) {
    super(flags, path)
    this.directory = directory
  }
  get inode(): Inode {
    return this.directory
  }
  override get seekable(): boolean {
    return true
  }
  override read(_t: Task, _iter: IovIter, _pos: number): SysRet {
    return -EISDIR
  }

  override readdir(t: Task, out: DirEmitter): number {
    const parent = this.path?.dentry.parent.inode ?? this.directory
    if (this.pos === 0) {
      if (!out.emit('.', this.directory.ino, DT_DIR, 1)) return 0
      this.pos = 1
    }
    if (this.pos === 1) {
      if (!out.emit('..', parent.ino, DT_DIR, 2)) return 0
      this.pos = 2
    }
    return this.directory.readdir(t, this.pos, {
      emit: (name, ino, type, next) => {
        if (!out.emit(name, ino, type, next)) return false
        this.pos = next
        return true
      },
    })
  }

  override seek(_t: Task, offset: number, whence: number): SysRet {
    const target = whence === 0 ? offset : whence === 1 ? this.pos + offset : -1
    if (target < 0) return -EINVAL
    this.pos = target
    return target
  }
}
