/**
 * Interval timers: setitimer(2), alarm(2), RLIMIT_CPU (Linux: kernel/time/itimer.c). They belong to a process, survive
 * execve and are not inherited.
 *
 * A real timer is armed again when its signal is taken, so that a short interval cannot flood the kernel.
 */
import { SI_KERNEL, SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU } from '../abi/signal.ts'
import { CpuTimer } from './cpu-timer.ts'
import { groupCpu } from './cpu-times.ts'
import { RLIMIT_CPU } from './limits.ts'
import { PosixTimers } from './posix-timer.ts'
import { makeInfo } from './siginfo.ts'
import { sendToGroup } from './signal.ts'
import type { SigInfo, SignalSource } from './signal-state.ts'
import type { ThreadGroup } from './thread-group.ts'
import type { TimerEntry } from './timer-queue.ts'

export const ITIMER_REAL = 0
export const ITIMER_VIRTUAL = 1
export const ITIMER_PROF = 2

const MIN_INTERVAL_NS = 1e6

/** What getitimer(2) tells, in ns. */
export interface IntervalTimer {
  readonly interval: number
  readonly remaining: number
  set(value: number, interval: number): void
}

class RealTimer implements IntervalTimer, TimerEntry, SignalSource {
  expires = 0
  heapIndex = -1
  interval = 0
  private readonly group: ThreadGroup

  constructor(group: ThreadGroup) {
    this.group = group
  }

  set(value: number, interval: number): void {
    const kernel = this.group.leader.kernel
    this.interval = interval
    if (value === 0) kernel.timers.remove(this)
    else kernel.timers.add(this, kernel.now() + value)
  }
  get remaining(): number {
    return this.heapIndex < 0 ? 0 : Math.max(1000, this.expires - this.group.leader.kernel.now())
  }

  expired(): void {
    // Already pending: nobody will tell us when that one is taken.
    if (this.group.signals.pending.set.has(SIGALRM)) {
      if (this.interval > 0) this.rearm(Math.max(this.interval, MIN_INTERVAL_NS))
      return
    }
    const info = makeInfo(SIGALRM, SI_KERNEL)
    info.source = this
    sendToGroup(this.group, info, true)
  }

  signalTaken(_info: SigInfo): void {
    if (this.interval > 0 && this.heapIndex < 0) this.rearm(this.interval)
  }

  private rearm(interval: number): void {
    const kernel = this.group.leader.kernel
    const now = kernel.now()
    const missed = Math.max(1, Math.ceil((now - this.expires) / interval))
    kernel.timers.add(this, this.expires + missed * interval)
  }
}

/** ITIMER_VIRTUAL counts user time, ITIMER_PROF all CPU time. */
class CpuIntervalTimer implements IntervalTimer {
  interval = 0
  private target = 0
  private readonly timer: CpuTimer
  private readonly clock: () => number

  constructor(group: ThreadGroup, signo: number, user: boolean) {
    this.clock = () => {
      const cpu = groupCpu(group)
      return user ? cpu.userNs : cpu.userNs + cpu.systemNs
    }
    this.timer = new CpuTimer(
      group.leader.kernel,
      this.clock,
      () => group.tasks.length,
      () => {
        sendToGroup(group, makeInfo(signo, SI_KERNEL), true)
        if (this.interval === 0) return
        const now = this.clock()
        this.target += Math.max(1, Math.ceil((now - this.target) / this.interval)) * this.interval
        this.timer.arm(this.target)
      },
    )
  }
  set(value: number, interval: number): void {
    this.interval = interval
    this.target = value === 0 ? Number.POSITIVE_INFINITY : this.clock() + value
    this.timer.arm(this.target)
  }
  get remaining(): number {
    return this.timer.remaining
  }
}

/** All timers of a process. */
export class ProcessTimers {
  readonly real: RealTimer
  readonly posix: PosixTimers
  private virtual: CpuIntervalTimer | null = null
  private prof: CpuIntervalTimer | null = null
  private cpuLimit: CpuTimer | null = null
  private readonly group: ThreadGroup

  constructor(group: ThreadGroup) {
    this.group = group
    this.real = new RealTimer(group)
    this.posix = new PosixTimers(group)
  }

  interval(which: number): IntervalTimer | null {
    if (which === ITIMER_REAL) return this.real
    if (which === ITIMER_VIRTUAL) return (this.virtual ??= new CpuIntervalTimer(this.group, SIGVTALRM, true))
    if (which === ITIMER_PROF) return (this.prof ??= new CpuIntervalTimer(this.group, SIGPROF, false))
    return null
  }

  /** RLIMIT_CPU: SIGXCPU at the soft limit, which then moves on by a second (as in Linux), SIGKILL at the hard one. */
  watchCpuLimit(): void {
    const { group } = this
    const { soft, hard } = group.limits
    const clock = () => {
      const cpu = groupCpu(group)
      return cpu.userNs + cpu.systemNs
    }
    const next = () => Math.min(soft[RLIMIT_CPU]!, hard[RLIMIT_CPU]!) * 1e9
    this.cpuLimit ??= new CpuTimer(
      group.leader.kernel,
      clock,
      () => group.tasks.length,
      () => {
        if (clock() >= hard[RLIMIT_CPU]! * 1e9) {
          sendToGroup(group, makeInfo(SIGKILL, SI_KERNEL), true)
          return
        }
        sendToGroup(group, makeInfo(SIGXCPU, SI_KERNEL), true)
        soft[RLIMIT_CPU] = Math.floor(clock() / 1e9) + 1
        this.cpuLimit?.arm(next())
      },
    )
    this.cpuLimit.arm(next())
  }

  stop(): void {
    this.real.set(0, 0)
    this.virtual?.set(0, 0)
    this.prof?.set(0, 0)
    this.cpuLimit?.arm(Number.POSITIVE_INFINITY)
    this.posix.deleteAll()
  }
}

/** The timers of a process, made when first needed. */
export function timersOf(group: ThreadGroup): ProcessTimers {
  if (group.timers instanceof ProcessTimers) return group.timers
  const timers = new ProcessTimers(group)
  group.timers = timers
  return timers
}

/** Whenever RLIMIT_CPU of a process is set: by setrlimit, or because it was inherited. */
export function watchCpuLimit(group: ThreadGroup): void {
  if (group.limits.soft[RLIMIT_CPU] === Number.POSITIVE_INFINITY && group.timers === null) return
  timersOf(group).watchCpuLimit()
}

/** At exit. */
export function stopTimers(group: ThreadGroup): void {
  if (group.timers instanceof ProcessTimers) group.timers.stop()
  group.timers = null
}

/** At execve: POSIX timers go, interval timers stay. */
export function deletePosixTimers(group: ThreadGroup): void {
  if (group.timers instanceof ProcessTimers) group.timers.posix.deleteAll()
}
