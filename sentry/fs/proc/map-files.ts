/**
 * /proc/PID/map_files: one magic link per file mapping, named by its range (Linux: fs/proc/base.c).
 */
import { ENOENT, EPERM } from '../../abi/errno.ts'
import { CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN } from '../../kernel/credentials.ts'
import type { Task } from '../../kernel/task.ts'
import type { Vma } from '../../mm/vma.ts'
import { describePath } from '../../vfs/d-path.ts'
import type { DirEmitter, Inode } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { anonPath } from '../anon.ts'
import { DT_LNK } from '../pseudo/directory.ts'
import type { Subject } from './subject.ts'
import type { ProcSuperBlock } from './super-block.ts'
import { TaskDirectory, TaskLink } from './task-inode.ts'

const rangeName = (v: Vma): string => `${v.start.toString(16)}-${v.end.toString(16)}`
const MAP_LINK_SIZE = 64

class MapLink extends TaskLink {
  private readonly range: string

  constructor(sb: ProcSuperBlock, subject: Subject, v: Vma) {
    super(sb, subject, (v.file!.readable ? 0o400 : 0) | (v.file!.writable ? 0o200 : 0), sb.nextIno())
    this.range = rangeName(v)
    this.size = MAP_LINK_SIZE
  }
  private get vma(): Vma | undefined {
    return this.subject.mm?.vmas.find((v) => v.file !== null && rangeName(v) === this.range)
  }
  override get alive(): boolean {
    return this.vma !== undefined
  }
  protected target(t: Task): Path | number {
    if (!t.creds.capable(CAP_SYS_ADMIN) && !t.creds.capable(CAP_CHECKPOINT_RESTORE)) return -EPERM
    const file = this.vma?.file
    return file == null ? -ENOENT : (file.path ?? anonPath(file))
  }
  protected show(t: Task): string | number {
    const file = this.vma?.file
    if (file == null) return -ENOENT
    return file.path === null ? file.describe() : describePath(file.path, t.fs.root)
  }
}

export class MapFilesDirectory extends TaskDirectory {
  constructor(sb: ProcSuperBlock, subject: Subject, ino: number) {
    super(sb, subject, 0o500, ino)
  }
  override permission(t: Task): number {
    return this.subject.check(t)
  }
  lookup(name: string): Inode | number {
    const v = this.subject.mm?.vmas.find((x) => x.file !== null && rangeName(x) === name)
    return v === undefined ? -ENOENT : new MapLink(this.sb as ProcSuperBlock, this.subject, v)
  }
  readdir(_t: Task, pos: number, out: DirEmitter): number {
    const vmas = this.subject.mm?.vmas ?? []
    for (let i = Math.max(0, pos - 2); i < vmas.length; i++) {
      const v = vmas[i]!
      if (v.file !== null && !out.emit(rangeName(v), this.ino * 65536 + i, DT_LNK, i + 3)) return 0
    }
    return 0
  }
}
