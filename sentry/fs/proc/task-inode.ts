/**
 * Bases of everything below /proc/PID: owned by the process's user (or by root while it is not dumpable), gone with the
 * process (Linux: fs/proc/base.c, task_dump_owner and pid_revalidate).
 */
import { EACCES, EIO, ENOENT, ESRCH } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import { DirectoryDescription } from '../../vfs/directory-description.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { type DirEmitter, type Inode, S_IFDIR, S_IFLNK, S_IFMT } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { PseudoDirectory } from '../pseudo/directory.ts'
import { PseudoFile } from '../pseudo/file.ts'
import { PseudoInode } from '../pseudo/inode.ts'
import type { Subject } from './subject.ts'
import type { ProcSuperBlock } from './super-block.ts'

/** Gives `inode` the owner that it has now. */
export function ownByTask(inode: Inode, subject: Subject): void {
  const creds = subject.task.creds
  // The world-readable directories stay the user's: hiding them would hide nothing.
  const open = (inode.mode & (S_IFMT | 0o777)) === (S_IFDIR | 0o555)
  if (!open && subject.group.dumpable !== 1 && subject.running) {
    inode.uid = 0
    inode.gid = 0
  } else {
    inode.uid = creds.euid
    inode.gid = creds.egid
  }
}

class OpenTaskDirectory extends DirectoryDescription {
  override readdir(t: Task, out: DirEmitter): number {
    return (this.dir as TaskDirectory).alive ? super.readdir(t, out) : -ENOENT
  }
}

export abstract class TaskDirectory extends PseudoDirectory {
  protected override readonly fixedMode = true
  readonly subject: Subject

  constructor(sb: ProcSuperBlock, subject: Subject, permissions: number, ino?: number) {
    super(sb, permissions, ino)
    this.subject = subject
    ownByTask(this, subject)
  }
  override get alive(): boolean {
    return this.subject.alive
  }
  override revalidate(): number {
    ownByTask(this, this.subject)
    return 0
  }
  override open(_t: Task, path: Path, flags: number): FileDescription | number {
    return new OpenTaskDirectory(path, flags)
  }
}

export interface TaskFileSpec {
  /** Text or bytes; −errno. `t` reads. */
  render?: (s: Subject, t: Task) => string | Uint8Array | number
  /** One write; 0 or −errno. */
  store?: (s: Subject, t: Task, text: string) => number
  /** Who may open it: 'ptrace' asks {@link Subject.check} at open. */
  open?: 'ptrace'
}

export class TaskFile extends PseudoFile {
  protected override readonly fixedMode = true
  readonly subject: Subject
  private readonly spec: TaskFileSpec

  constructor(sb: ProcSuperBlock, subject: Subject, permissions: number, ino: number, spec: TaskFileSpec) {
    super(sb, permissions, ino)
    this.subject = subject
    this.spec = spec
    ownByTask(this, subject)
  }
  override get alive(): boolean {
    return this.subject.alive
  }
  override revalidate(): number {
    ownByTask(this, this.subject)
    return 0
  }
  override checkOpen(t: Task): number {
    if (!this.subject.alive) return -ESRCH
    return this.spec.open === 'ptrace' ? this.subject.check(t) : 0
  }
  render(t: Task): string | Uint8Array | number {
    if (!this.subject.alive) return -ESRCH
    return this.spec.render === undefined ? -EIO : this.spec.render(this.subject, t)
  }
  override store(t: Task, text: string): number {
    if (this.spec.store === undefined) return -EIO
    if (!this.subject.alive) return -ESRCH
    const err = this.spec.store(this.subject, t, text)
    return err < 0 ? err : text.length
  }
}

/** A magic link: following it arrives at an object without walking any name. */
export abstract class TaskLink extends PseudoInode {
  protected override readonly fixedMode = true
  readonly subject: Subject

  constructor(sb: ProcSuperBlock, subject: Subject, permissions: number, ino: number) {
    super(sb, S_IFLNK | permissions, ino)
    this.subject = subject
    ownByTask(this, subject)
  }
  override get alive(): boolean {
    return this.subject.alive
  }
  override revalidate(): number {
    ownByTask(this, this.subject)
    return 0
  }

  /** Where the link leads, or −errno. */
  protected abstract target(t: Task): Path | number
  /** What readlink(2) shows. */
  protected abstract show(t: Task): string | number

  override readlink(t: Task): string | number {
    return this.subject.check(t) < 0 ? -EACCES : this.show(t)
  }
  override jump(t: Task): Path | number {
    return this.subject.check(t) < 0 ? -EACCES : this.target(t)
  }
  open(_t: Task, _path: Path, _flags: number): FileDescription | number {
    return -ENOENT
  }
}
