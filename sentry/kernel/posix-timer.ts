/**
 * POSIX timers (timer_create(2); Linux: kernel/time/posix-timers.c).
 *
 * A periodic timer is armed again when its signal is taken; intervals that passed meanwhile are its overrun. One whose
 * signal is ignored goes on ticking without one.
 */
import { SI_TIMER } from '../abi/signal.ts'
import { CpuTimer } from './cpu-timer.ts'
import { makeInfo } from './siginfo.ts'
import { discardFrom, sendToGroup, sendToTask } from './signal.ts'
import type { SigInfo, SignalSource } from './signal-state.ts'
import { DEAD, type Task } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'
import type { TimerEntry } from './timer-queue.ts'

const MIN_INTERVAL_NS = 1e6
const OVERRUN_MAX = 0x7fffffff

/** Where expiry goes: null signo = SIGEV_NONE. */
export interface TimerEvent {
  signo: number
  valueLo: number
  valueHi: number
  /** SIGEV_THREAD_ID; null: the process. */
  thread: Task | null
}

export class PosixTimer implements TimerEntry, SignalSource {
  expires = 0
  heapIndex = -1
  readonly id: number
  interval = 0
  overrun = 0
  private readonly group: ThreadGroup
  private readonly event: TimerEvent
  private readonly cpu: CpuTimer | null
  readonly cpuClock: (() => number) | null
  /** Next expiry on its clock (monotonic or CPU); Infinity = disarmed. */
  private due = Number.POSITIVE_INFINITY
  private signalQueued = false
  private deleted = false

  constructor(group: ThreadGroup, id: number, event: TimerEvent, cpuClock: (() => number) | null) {
    this.group = group
    this.id = id
    this.event = event
    this.cpuClock = cpuClock
    this.cpu =
      cpuClock === null
        ? null
        : new CpuTimer(
            group.leader.kernel,
            cpuClock,
            () => group.tasks.length,
            () => this.expired(),
          )
  }

  private now(): number {
    return this.cpuClock === null ? this.group.leader.kernel.now() : this.cpuClock()
  }

  /** Arms it for `due` on its clock (Infinity: stops it). A signal that is still queued is taken back. */
  set(due: number, interval: number): void {
    discardFrom(this.group, this)
    this.signalQueued = false
    this.overrun = 0
    this.interval = interval
    this.start(due)
  }

  private start(due: number): void {
    this.due = due
    const timers = this.group.leader.kernel.timers
    if (this.cpu !== null) this.cpu.arm(due)
    else if (due === Number.POSITIVE_INFINITY) timers.remove(this)
    else timers.add(this, due)
  }

  /** ns until the next expiry; 0 when disarmed. */
  get remaining(): number {
    if (this.due === Number.POSITIVE_INFINITY) return 0
    const now = this.now()
    // A periodic one that waits for its signal to be taken goes on in thought.
    if (now >= this.due && this.interval > 0) return this.interval - ((now - this.due) % this.interval)
    if (now >= this.due && this.signalQueued) return 0
    return Math.max(1, this.due - now)
  }

  expired(): void {
    const { event } = this
    if (event.signo === 0) {
      this.next(this.interval)
      return
    }
    const info = makeInfo(event.signo, SI_TIMER)
    info.id = this.id
    info.valueLo = event.valueLo
    info.valueHi = event.valueHi
    info.source = this
    this.signalQueued = true
    if (event.thread === null) sendToGroup(this.group, info)
    else if (event.thread.state !== DEAD) sendToTask(event.thread, info)
    // Dropped because it is ignored: nobody will take it.
    if (this.signalQueued && !this.isQueued(info)) {
      this.signalQueued = false
      this.next(Math.max(this.interval, this.interval === 0 ? 0 : MIN_INTERVAL_NS))
    }
  }

  private isQueued(info: SigInfo): boolean {
    const { thread } = this.event
    return (thread === null ? this.group.signals : thread.signals).pending.queue.includes(info)
  }

  private next(interval: number): number {
    if (interval === 0) {
      this.due = Number.POSITIVE_INFINITY
      return 0
    }
    const missed = Math.max(1, Math.floor((this.now() - this.due) / interval) + 1)
    this.start(this.due + missed * interval)
    return missed - 1
  }

  signalTaken(info: SigInfo): void {
    this.signalQueued = false
    if (this.deleted) return
    this.overrun = Math.min(this.next(this.interval), OVERRUN_MAX)
    info.status = this.overrun
  }

  delete(): void {
    this.deleted = true
    this.start(Number.POSITIVE_INFINITY)
    discardFrom(this.group, this)
  }
}

/** The timers of a process by id. */
export class PosixTimers {
  private readonly group: ThreadGroup
  private readonly byId = new Map<number, PosixTimer>()
  private nextId = 0

  constructor(group: ThreadGroup) {
    this.group = group
  }

  get size(): number {
    return this.byId.size
  }
  get(id: number): PosixTimer | undefined {
    return this.byId.get(id)
  }
  /** The id that {@link create} uses next: the default sigval. */
  allocate(): number {
    while (this.byId.has(this.nextId)) this.nextId = (this.nextId + 1) & 0x7fffffff
    const id = this.nextId
    this.nextId = (id + 1) & 0x7fffffff
    return id
  }
  create(id: number, event: TimerEvent, cpuClock: (() => number) | null): PosixTimer {
    const timer = new PosixTimer(this.group, id, event, cpuClock)
    this.byId.set(id, timer)
    return timer
  }
  delete(id: number): boolean {
    const timer = this.byId.get(id)
    if (timer === undefined) return false
    this.byId.delete(id)
    timer.delete()
    return true
  }
  deleteAll(): void {
    for (const timer of this.byId.values()) timer.delete()
    this.byId.clear()
    this.nextId = 0
  }
}
