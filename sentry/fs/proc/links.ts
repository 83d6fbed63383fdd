/**
 * /proc/PID/{exe,cwd,root}: magic links (Linux: fs/proc/base.c, proc_pid_link_inode_operations).
 */
import { ENOENT } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import { describePath } from '../../vfs/d-path.ts'
import type { Path } from '../../vfs/path.ts'
import type { Subject } from './subject.ts'
import type { ProcSuperBlock } from './super-block.ts'
import { TaskLink } from './task-inode.ts'

export type PathOf = (s: Subject) => Path | null

export const exePath: PathOf = (s) => s.mm?.exe?.path ?? null
export const cwdPath: PathOf = (s) => (s.running ? s.task.fs.cwd : null)
export const rootPath: PathOf = (s) => (s.running ? s.task.fs.root : null)

export class PathLink extends TaskLink {
  private readonly pathOf: PathOf

  constructor(sb: ProcSuperBlock, subject: Subject, ino: number, pathOf: PathOf) {
    super(sb, subject, 0o777, ino)
    this.pathOf = pathOf
  }
  protected target(_t: Task): Path | number {
    return this.pathOf(this.subject) ?? -ENOENT
  }
  protected show(t: Task): string | number {
    const path = this.pathOf(this.subject)
    return path === null ? -ENOENT : describePath(path, t.fs.root)
  }
}
