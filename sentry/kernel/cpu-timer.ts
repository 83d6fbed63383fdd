/**
 * A timer on CPU time (Linux: posix-cpu-timers.c). The host gives no event when a guest has used some CPU time, so the
 * clock is polled: at the earliest moment at which it can have advanced that far, and ever more rarely while it does not
 * advance at all. Expiry may be late by a tick or so, as with Linux's tick-based accounting.
 */
import type { Kernel } from './kernel.ts'
import type { TimerEntry } from './timer-queue.ts'

const MIN_POLL_NS = 1e6
const MAX_POLL_NS = 100e6

export class CpuTimer implements TimerEntry {
  expires = 0
  heapIndex = -1
  private readonly kernel: Kernel
  private readonly clock: () => number
  private readonly threads: () => number
  private readonly fire: () => void
  private target = Number.POSITIVE_INFINITY
  private last = -1
  private poll = MIN_POLL_NS

  /** `clock` in ns; `threads`: how many can advance it at the same time; `fire` may arm it again. */
  constructor(kernel: Kernel, clock: () => number, threads: () => number, fire: () => void) {
    this.kernel = kernel
    this.clock = clock
    this.threads = threads
    this.fire = fire
  }

  /** Fires when the clock shows `target` ns; Infinity stops it. */
  arm(target: number): void {
    this.target = target
    this.kernel.timers.remove(this)
    if (target === Number.POSITIVE_INFINITY) return
    this.last = -1
    this.poll = MIN_POLL_NS
    this.expired()
  }

  /** CPU ns left; 0 when not armed. */
  get remaining(): number {
    return this.target === Number.POSITIVE_INFINITY ? 0 : Math.max(1, this.target - this.clock())
  }
  get armed(): boolean {
    return this.target !== Number.POSITIVE_INFINITY
  }

  expired(): void {
    const now = this.clock()
    if (now >= this.target) {
      this.target = Number.POSITIVE_INFINITY
      this.fire()
      return
    }
    this.poll = now === this.last ? Math.min(2 * this.poll, MAX_POLL_NS) : MIN_POLL_NS
    this.last = now
    const soonest = (this.target - now) / Math.max(1, this.threads())
    this.kernel.timers.add(this, this.kernel.now() + Math.max(soonest, this.poll))
  }
}
