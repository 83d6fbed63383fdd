/**
 * Signal state of a thread and of a thread group (Linux: signal_struct, sigpending). Data only; kernel/signal.ts
 * holds the rules.
 */
import type { SignalActions } from './signal-actions.ts'
import { SigSet } from './sigset.ts'
import { WaitQueue } from './wait-queue.ts'

/** siginfo_t, as the sentry keeps it; kernel/siginfo.ts encodes it. */
export interface SigInfo {
  signo: number
  errno: number
  code: number
  /** kill, queue, child. */
  pid: number
  uid: number
  /** child: wait status; timers: overrun; poll: band. */
  status: number
  /** sigval as (lo, hi). */
  valueLo: number
  valueHi: number
  /** SIGSYS: the instruction. The address of a fault is in the value, as (lo, hi). */
  addr: number
  /** posix timers: id; poll: fd. */
  id: number
  utime: number
  stime: number
  /** Raw 128 bytes for rt_sigqueueinfo with other codes; null otherwise. */
  raw: Uint8Array | null
  /** Who queued it: a POSIX timer re-arms when its signal is taken. */
  source: SignalSource | null
  /** The uid whose RLIMIT_SIGPENDING it counts against; undefined: not counted. kernel/signal.ts keeps it. */
  chargedUid?: number
}

/** Hears when its signal is taken from the queue, before anyone reads the info. */
export interface SignalSource {
  signalTaken(info: SigInfo): void
}

/** Queued signals: standard ones at most once, real-time ones in order. */
export class PendingSignals {
  readonly set = new SigSet()
  readonly queue: SigInfo[] = []
}

export class GroupSignals {
  actions: SignalActions
  readonly pending = new PendingSignals()
  /** Group stop (SIGSTOP and friends): in effect, the signal, and what wait4 has not seen yet. */
  stopped = false
  stopSignal = 0
  /**
   * WSTOPPED / WCONTINUED notices that a parent can still collect. stopReport: the signal once the stop is complete, −1
   * when that has been collected, 0 before.
   */
  stopReport = 0
  continueReport = false
  /** Woken with EPOLLIN whenever a signal is queued to the group or one of its threads (signalfd, rt_sigtimedwait). */
  readonly signalWait = new WaitQueue()
  /**
   * The container's init: signals without a handler do not reach it, except SIGKILL and SIGSTOP from outside (Linux:
   * SIGNAL_UNKILLABLE). Boot sets it on pid 1; a fault of its own clears it.
   */
  unkillable = false

  constructor(actions: SignalActions) {
    this.actions = actions
  }
}

/** Per thread. */
export class TaskSignals {
  readonly blocked = new SigSet()
  readonly pending = new PendingSignals()
  /** The mask to restore after sigsuspend, ppoll, pselect, epoll_pwait; valid if `hasSavedMask`. */
  readonly savedMask = new SigSet()
  hasSavedMask = false
  /** sigaltstack(2). */
  altSp = 0
  altSize = 0
  /** As given: SS_DISABLE = 2, SS_AUTODISARM = 1 << 31; 0 before the first call. No stack: altSize is 0. */
  altFlags = 0
  /** While STOPPED: the arguments of returnToGuest() to go on with. */
  stopRet = 0
  stopInSyscall = false
  /** A tracer passed it: taken before all that is pending. */
  injected: SigInfo | null = null
  /** While TRACED: where it goes on, AFTER_* of kernel/ptrace.ts, and what that needs. */
  after = 0
  afterNative = false
  afterStatus = 0
  /** What a call that ended with ERESTART_RESTARTBLOCK keeps for restart_syscall(2). */
  restartDeadline = Number.NaN
  restartState: object | null = null
  /** Of the last fault, for sigcontext. */
  trapno = 0
  errorCode = 0
  cr2Lo = 0
  cr2Hi = 0
}
