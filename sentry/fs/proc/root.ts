/**
 * The root of procfs: fixed files, self, thread-self, and one directory per process (Linux: fs/proc/root.c, generic.c).
 */
import { ENOENT } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import type { ThreadGroup } from '../../kernel/thread-group.ts'
import type { DirEmitter, Inode } from '../../vfs/inode.ts'
import { DT_DIR, DT_LNK, PseudoSymlink, TreeDirectory } from '../pseudo/directory.ts'
import { Subject } from './subject.ts'
import type { ProcSuperBlock } from './super-block.ts'
import { addSystemFiles } from './system-files.ts'
import { ProcessDirectory } from './task-dir.ts'

/** Where processes begin in directory positions (FIRST_PROCESS_ENTRY). */
const FIRST_PROCESS_ENTRY = 256
const FIRST_PID = FIRST_PROCESS_ENTRY + 2

/** Fixed directories of /proc list their entries by length of the name, then by bytes. */
export class ProcTree extends TreeDirectory {
  protected override order(a: string, b: string): number {
    return a.length !== b.length ? a.length - b.length : a < b ? -1 : 1
  }
  override dir(name: string, permissions = 0o555): ProcTree {
    const have = this.entries.get(name)
    return have instanceof ProcTree ? have : this.add(name, new ProcTree(this.sb as ProcSuperBlock, permissions))
  }
}

export class ProcRoot extends ProcTree {
  private readonly self: PseudoSymlink
  private readonly threadSelf: PseudoSymlink
  private readonly processes = new WeakMap<ThreadGroup | Task, ProcessDirectory>()
  private readonly fixedLinks: number

  constructor(sb: ProcSuperBlock) {
    super(sb, 0o555, 1)
    this.self = new PseudoSymlink(sb, (t) => String(t.group.pid))
    this.threadSelf = new PseudoSymlink(sb, (t) => `${t.group.pid}/task/${t.tid}`)
    addSystemFiles(this, sb)
    this.fixedLinks = this.nlink
  }

  /** As for every directory: two and one per sub-directory. */
  override revalidate(): number {
    let n = 0
    for (const _ of (this.sb as ProcSuperBlock).kernel.ids.groups()) n++
    this.nlink = this.fixedLinks + n
    return 0
  }

  /** By its own id, or by that of a thread which does not lead it. */
  private directoryOf(group: ThreadGroup, thread: Task | null = null): ProcessDirectory {
    let dir = this.processes.get(thread ?? group)
    if (dir === undefined) {
      const sb = this.sb as ProcSuperBlock
      dir = new ProcessDirectory(sb, new Subject(sb.kernel, group, thread, true))
      this.processes.set(thread ?? group, dir)
    }
    return dir
  }

  override lookup(name: string): Inode | number {
    if (name === 'self') return this.self
    if (name === 'thread-self') return this.threadSelf
    if (/^[1-9]\d{0,9}$/.test(name)) {
      const { ids } = (this.sb as ProcSuperBlock).kernel
      const id = Number(name)
      const group = ids.group(id)
      if (group !== undefined) return this.directoryOf(group)
      // /proc/TID of a thread that leads nothing works too; it is only not listed.
      const thread = ids.task(id)
      return thread === undefined ? -ENOENT : this.directoryOf(thread.group, thread)
    }
    return super.lookup(name)
  }

  override readdir(t: Task, pos: number, out: DirEmitter): number {
    let full = false
    const emitter: DirEmitter = {
      emit: (name, ino, type, next) => {
        full = !out.emit(name, ino, type, next)
        return !full
      },
    }
    if (pos < FIRST_PROCESS_ENTRY) {
      const err = super.readdir(t, pos, emitter)
      if (err !== 0 || full) return err
    }
    if (pos <= FIRST_PROCESS_ENTRY && !out.emit('self', this.self.ino, DT_LNK, FIRST_PROCESS_ENTRY + 1)) return 0
    if (pos <= FIRST_PROCESS_ENTRY + 1 && !out.emit('thread-self', this.threadSelf.ino, DT_LNK, FIRST_PID)) return 0
    const from = Math.max(0, pos - FIRST_PID)
    const groups = [...(this.sb as ProcSuperBlock).kernel.ids.groups()].filter((g) => g.pid >= from)
    for (const g of groups.sort((a, b) => a.pid - b.pid)) {
      if (!out.emit(String(g.pid), this.directoryOf(g).ino, DT_DIR, g.pid + FIRST_PID + 1)) return 0
    }
    return 0
  }
}
