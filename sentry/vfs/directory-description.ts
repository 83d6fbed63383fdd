/**
 * An open directory over Inode.readdir (Linux: iterate_shared). Positions 0 and 1 are '.' and '..'; from 2 on they are the
 * file system's.
 */
import { EINVAL, EISDIR, ENOENT } from '../abi/errno.ts'
import type { SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import { type DirRecords, emitRecords, recordNext } from './dir-records.ts'
import { FileDescription } from './file-description.ts'
import type { DirEmitter, Inode } from './inode.ts'
import type { Path } from './path.ts'
import { touchAtime } from './times.ts'

const DT_DIR = 4

export class DirectoryDescription extends FileDescription implements DirEmitter {
  protected readonly dir: Inode
  /** Where the entries of the readdir call in progress go. */
  private out: DirEmitter | null = null

  constructor(path: Path, flags: number) {
    super(flags, path)
    this.dir = path.inode
  }

  get inode(): Inode {
    return this.dir
  }
  override get seekable(): boolean {
    return true
  }

  override read(): SysRet {
    return -EISDIR
  }

  override seek(_t: Task, offset: number, whence: number): SysRet {
    const pos = whence === 0 ? offset : whence === 1 ? this.pos + offset : -1
    if (pos < 0) return -EINVAL
    this.pos = pos
    return pos
  }

  override readdir(t: Task, out: DirEmitter): number {
    const dir = this.dir
    if (dir.nlink === 0) return -ENOENT
    if (this.pos === 0) {
      if (!out.emit('.', dir.ino, DT_DIR, 1)) return 0
      this.pos = 1
    }
    if (this.pos === 1) {
      if (!out.emit('..', this.path!.dentry.parent.inode!.ino, DT_DIR, 2)) return 0
      this.pos = 2
    }
    this.out = out
    const ret = this.readEntries(t, this.pos)
    this.out = null
    touchAtime(this.path!.mount, dir)
    return ret
  }

  /** Emits what lies from `pos` on to this description, which keeps its position and passes it on. */
  protected readEntries(t: Task, pos: number): number {
    return this.dir.readdir(t, pos, this)
  }

  emit(name: string, ino: number, type: number, next: number): boolean {
    if (!this.out!.emit(name, ino, type, next)) return false
    this.pos = next
    return true
  }

  emitRecords(records: DirRecords, first: number): number {
    const taken = emitRecords(this.out!, records, first)
    if (taken > 0) this.pos = recordNext(records, first + taken - 1)
    return taken
  }

  override fsync(): number {
    return 0
  }
}
