/**
 * Scheduling attributes of a task (Linux: the user-visible part of task_struct's sched fields, sched(7), ioprio_set(2)).
 *
 * The host schedules guest threads; these are remembered so that a program reads back what it set, and inherited as
 * Linux does. They do not change how the host schedules.
 */
export const SCHED_NORMAL = 0
export const SCHED_FIFO = 1
export const SCHED_RR = 2
export const SCHED_BATCH = 3
export const SCHED_IDLE = 5
export const SCHED_DEADLINE = 6
export const SCHED_EXT = 7
export const SCHED_RESET_ON_FORK = 0x40000000

export const isRealtime = (policy: number): boolean => policy === SCHED_FIFO || policy === SCHED_RR

export class SchedState {
  policy = SCHED_NORMAL
  /** sched_priority: 1…99 for FIFO and RR, else 0. */
  priority = 0
  nice = 0
  resetOnFork = false
  /** sched_setaffinity(2); null = every CPU of the sandbox. */
  affinity: Uint8Array | null = null
  /** ioprio_set(2); 0 = from nice. */
  ioprio = 0

  /** For a new task. */
  fork(): SchedState {
    const child = new SchedState()
    child.affinity = this.affinity
    child.ioprio = this.ioprio
    if (this.resetOnFork) {
      child.nice = Math.max(0, isRealtime(this.policy) ? 0 : this.nice)
      return child
    }
    child.policy = this.policy
    child.priority = this.priority
    child.nice = this.nice
    return child
  }

  /** prio of /proc/PID/stat: 20 + nice, or −1 − priority under a real-time policy. */
  get statPriority(): number {
    return isRealtime(this.policy) ? -1 - this.priority : 20 + this.nice
  }
}
