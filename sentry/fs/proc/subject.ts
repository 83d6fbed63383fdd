/**
 * Whom a directory of /proc shows: a process (/proc/PID), one of its threads (/proc/PID/task/TID), or the process by the
 * id of such a thread (/proc/TID, which no listing shows).
 */
import { EACCES } from '../../abi/errno.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { ptraceAccess } from '../../kernel/ptrace-access.ts'
import { DEAD, type Task } from '../../kernel/task.ts'
import type { ThreadGroup } from '../../kernel/thread-group.ts'
import type { MemoryManager } from '../../mm/memory-manager.ts'

export class Subject {
  readonly kernel: Kernel
  readonly group: ThreadGroup
  private readonly thread: Task | null
  /** Times and states are the whole process's, rather than one thread's. */
  readonly whole: boolean

  /** `thread` null: the leader, whoever that is. */
  constructor(kernel: Kernel, group: ThreadGroup, thread: Task | null, whole: boolean) {
    this.kernel = kernel
    this.group = group
    this.thread = thread
    this.whole = whole
  }

  /** The thread, or the leader. Its id may change once, when it survives execve in a leader's place. */
  get task(): Task {
    return this.thread ?? this.group.leader
  }
  get id(): number {
    return this.thread === null ? this.group.pid : this.thread.tid
  }
  /** Not yet waited for. */
  get alive(): boolean {
    const ids = this.kernel.ids
    return this.thread === null ? ids.group(this.group.pid) === this.group : ids.task(this.thread.tid) === this.thread
  }
  /** null once it has ended (zombies have no memory, files or directories left). */
  get mm(): MemoryManager | null {
    return this.running ? this.task.mm : null
  }
  get running(): boolean {
    return this.task.state !== DEAD && !this.group.zombie
  }
  /** May `t` look inside? 0 or −EACCES. */
  check(t: Task): number {
    return ptraceAccess(t, this.task, true) < 0 ? -EACCES : 0
  }
}
