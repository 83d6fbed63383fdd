/**
 * Thread group: what POSIX calls a process (Linux: signal_struct and the group part of task_struct).
 *
 * Owns what threads share: children, process group and session, signal actions, the shared pending queue, interval
 * timers, limits, the controlling terminal (through the session).
 */

import type { Limits } from './limits.ts'
import type { ProcessGroup } from './process-group.ts'
import type { Tracer } from './ptrace.ts'
import type { GroupSignals } from './signal-state.ts'
import type { Task } from './task.ts'
import { WaitQueue } from './wait-queue.ts'

export class ThreadGroup {
  /** = tid of the first leader; what getpid() returns. */
  readonly pid: number
  leader: Task
  readonly tasks: Task[] = []
  parent: ThreadGroup | null
  /** The parent's thread that made it, which PTRACE_TRACEME means. */
  makerTid = 0
  /** What its threads trace (ptrace(2)). */
  tracer: Tracer | null = null
  /** A zombie whose tracer, not its parent, hears of it first. */
  heldForTracer = false
  readonly children: ThreadGroup[] = []
  pgrp: ProcessGroup
  /** Actions, shared pending signals, stop state: kernel/signal.ts is the only writer. */
  signals: GroupSignals
  limits: Limits
  /** Signal sent to the parent at exit (SIGCHLD unless clone said otherwise; 0 = none). */
  exitSignal: number
  /** All threads have been told to exit with this wait status; −1 while alive. */
  exitStatus = -1
  /** Wait status of the leader when it ended before the other threads; −1 otherwise. */
  leaderStatus = -1
  /** The last thread is gone; waits for its parent. */
  zombie = false
  /** Woken with EPOLLIN when a child changes state (for wait4) and, for pidfds, when this group exits. */
  readonly childWait = new WaitQueue()
  readonly exitWait = new WaitQueue()
  /** PR_SET_CHILD_SUBREAPER. */
  subreaper = false
  /** Whether execve happened since fork (setpgid refuses then with EACCES). */
  execed = false
  /** POSIX and interval timers (kernel/itimer.ts, kernel/posix-timer.ts). */
  timers: object | null = null
  /** Wakes the parent of vfork(2): set by clone with CLONE_VFORK, cleared at exec or exit. */
  vforkParent: Task | null = null
  /** CPU time of waited-for children, ns. */
  childUserNs = 0
  childSystemNs = 0
  /** Monotonic ns. */
  startTime: number
  oomScoreAdj = 0
  dumpable = 1

  constructor(
    pid: number,
    leader: Task,
    parent: ThreadGroup | null,
    pgrp: ProcessGroup,
    signals: GroupSignals,
    limits: Limits,
    startTime: number,
  ) {
    this.pid = pid
    this.leader = leader
    this.parent = parent
    this.pgrp = pgrp
    this.signals = signals
    this.limits = limits
    this.exitSignal = 17
    this.startTime = startTime
  }
}
