/**
 * Process, thread, process group and session ids (Linux: struct pid). One number space; an id is free again when no
 * task, group, process group or session uses it.
 */
import type { ProcessGroup, Session } from './process-group.ts'
import type { Task } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'

export const PID_MAX = 4194304
/** After the numbers wrapped, low ones stay with daemons (Linux: RESERVED_PIDS). */
const RESERVED = 300

/** Keeps things under the ids of tasks and groups (procfs: dentries), and lets go of them with those. */
export interface IdCache {
  forgetTask(t: Task): void
  forgetGroup(g: ThreadGroup): void
}

export class IdSpace {
  private last = 0
  /** Weakly: file systems that nobody uses any more go by themselves. */
  private readonly caches = new Set<WeakRef<IdCache>>()
  private readonly taskById = new Map<number, Task>()
  private readonly groupById = new Map<number, ThreadGroup>()
  private readonly pgrpById = new Map<number, ProcessGroup>()
  private readonly sessionById = new Map<number, Session>()

  /** The next free number. */
  allocate(): number {
    for (;;) {
      this.last = this.last >= PID_MAX - 1 ? RESERVED : this.last + 1
      const id = this.last
      if (this.taskById.has(id) || this.groupById.has(id) || this.pgrpById.has(id) || this.sessionById.has(id)) continue
      return id
    }
  }

  task(tid: number): Task | undefined {
    return this.taskById.get(tid)
  }
  /** Thread groups, zombies included. */
  group(pid: number): ThreadGroup | undefined {
    return this.groupById.get(pid)
  }
  pgrp(pgid: number): ProcessGroup | undefined {
    return this.pgrpById.get(pgid)
  }
  session(sid: number): Session | undefined {
    return this.sessionById.get(sid)
  }

  addTask(t: Task): void {
    this.taskById.set(t.tid, t)
  }
  removeTask(t: Task): void {
    if (this.taskById.get(t.tid) !== t) return
    this.taskById.delete(t.tid)
    for (const ref of this.caches) this.cache(ref)?.forgetTask(t)
  }
  addGroup(g: ThreadGroup): void {
    this.groupById.set(g.pid, g)
  }
  removeGroup(g: ThreadGroup): void {
    if (this.groupById.get(g.pid) !== g) return
    this.groupById.delete(g.pid)
    for (const ref of this.caches) this.cache(ref)?.forgetGroup(g)
  }
  addPgrp(g: ProcessGroup): void {
    this.pgrpById.set(g.pgid, g)
  }
  removePgrp(g: ProcessGroup): void {
    if (this.pgrpById.get(g.pgid) === g) this.pgrpById.delete(g.pgid)
  }
  addSession(s: Session): void {
    this.sessionById.set(s.sid, s)
  }
  removeSession(s: Session): void {
    if (this.sessionById.get(s.sid) === s) this.sessionById.delete(s.sid)
  }

  addCache(cache: IdCache): void {
    this.caches.add(new WeakRef(cache))
  }
  private cache(ref: WeakRef<IdCache>): IdCache | undefined {
    const cache = ref.deref()
    if (cache === undefined) this.caches.delete(ref)
    return cache
  }

  tasks(): IterableIterator<Task> {
    return this.taskById.values()
  }
  groups(): IterableIterator<ThreadGroup> {
    return this.groupById.values()
  }
  get taskCount(): number {
    return this.taskById.size
  }
  /** The newest id, for /proc/loadavg and ns_last_pid. */
  get lastId(): number {
    return this.last
  }
}
