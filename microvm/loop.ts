/**
 * The monitor's loop: one epoll, level-triggered, synchronous, as the sentry's. Nothing waits anywhere else but in
 * {@link Loop.until}, which serves one descriptor alone and only for a bounded time.
 */
import { close, epollCreate1, epollCtl, poll, raw } from '../native/host.ts'
import { EINTR, EPERM } from '../sentry/abi/errno.ts'
import type { ControlPoller } from '../sentry/control/control.ts'

export interface FdHandler {
  /** `events`: EPOLL* mask. */
  onHostEvents(events: number): void
}

export const EPOLLIN = 1
export const EPOLLOUT = 4
export const EPOLLERR = 8
export const EPOLLHUP = 16
export const EPOLLRDHUP = 0x2000

const ADD = 1
const DEL = 2
const MOD = 3
const SYS_EPOLL_WAIT = 232
const MAX_EVENTS = 64

export class Loop implements ControlPoller {
  private readonly ep = epollCreate1(0o2000000)
  private readonly handlers = new Map<number, FdHandler>()
  private readonly events = Buffer.alloc(12 * MAX_EVENTS)
  private readonly event = Buffer.alloc(12)
  /** Regular files and the like, which epoll refuses: always ready for what they were watched for. */
  private readonly ready = new Map<number, number>()
  private timers: { at: number; run: () => void }[] = []

  watch(fd: number, events: number, handler: FdHandler): number {
    const r = this.control(ADD, fd, events)
    if (r === -EPERM) this.ready.set(fd, events)
    else if (r < 0) return r
    this.handlers.set(fd, handler)
    return 0
  }

  modify(fd: number, events: number): void {
    if (this.ready.has(fd)) this.ready.set(fd, events)
    else this.control(MOD, fd, events)
  }

  unwatch(fd: number): void {
    if (!this.handlers.delete(fd)) return
    if (!this.ready.delete(fd)) this.control(DEL, fd, 0)
  }

  private control(op: number, fd: number, events: number): number {
    this.event.writeUInt32LE(events >>> 0, 0)
    this.event.writeInt32LE(fd, 4)
    return epollCtl(this.ep, op, fd, this.event)
  }

  after(ms: number, run: () => void): void {
    this.timers.push({ at: performance.now() + ms, run })
    this.timers.sort((a, b) => a.at - b.at)
  }

  /** Serves until `done` says so. */
  run(done: () => boolean): void {
    while (!done()) {
      const busy = [...this.ready.values()].some((events) => events !== 0)
      const next = this.timers[0]
      const timeout = busy ? 0 : next ? Math.max(0, Math.ceil(next.at - performance.now())) : -1
      const n = raw.LP(SYS_EPOLL_WAIT, this.ep, this.events, MAX_EVENTS, timeout, 0, 0)
      if (n < 0 && n !== -EINTR) throw new Error(`epoll_wait: ${n}`)
      for (let i = 0; i < n && !done(); i++)
        this.handlers.get(this.events.readInt32LE(12 * i + 4))?.onHostEvents(this.events.readUInt32LE(12 * i))
      for (const [fd, events] of [...this.ready]) if (events) this.handlers.get(fd)?.onHostEvents(events)
      while (this.timers[0] && this.timers[0].at <= performance.now()) this.timers.shift()!.run()
    }
  }

  /** Serves `fd` alone until `done`; false: not within `ms`. */
  until(fd: number, done: () => boolean, ms: number): boolean {
    const deadline = performance.now() + ms
    const one = new Int32Array(2)
    while (!done()) {
      const left = Math.ceil(deadline - performance.now())
      if (left <= 0) return false
      one[0] = fd
      one[1] = EPOLLIN
      const n = poll(one, 1, left)
      if (n > 0) this.handlers.get(fd)?.onHostEvents(one[1]! >>> 16)
    }
    return true
  }

  dispose(): void {
    close(this.ep)
  }
}
