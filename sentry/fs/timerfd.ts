/**
 * timerfd_create(2) (Linux: fs/timerfd.c).
 *
 * As in Linux a periodic timer that expired is not queued again until somebody reads it: the periods that passed
 * meanwhile are counted then. All clocks run on the monotonic one; a step of the wall clock does not move timers.
 */
import { EAGAIN, EFAULT, EINVAL } from '../abi/errno.ts'
import { O_NONBLOCK, O_RDWR } from '../abi/fcntl.ts'
import { CLOCK_BOOTTIME, readRealtime, uptimeNs } from '../kernel/clock.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import type { TimerEntry } from '../kernel/timer-queue.ts'
import { WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import { EPOLLIN, FileDescription } from '../vfs/file-description.ts'
import type { Inode } from '../vfs/inode.ts'
import { ANON_INODE } from './anon.ts'

const CLOCK_REALTIME = 0
const CLOCK_REALTIME_ALARM = 8
const CLOCK_BOOTTIME_ALARM = 9
const TWO32 = 0x1_0000_0000
const WORD = new Uint8Array(8)
const VIEW = new DataView(WORD.buffer)

/** An absolute time on one of the clocks, as ns from now. */
export function untilAbsolute(kernel: Kernel, clock: number, sec: number, nsec: number): number {
  if (clock === CLOCK_REALTIME || clock === CLOCK_REALTIME_ALARM) {
    const now = readRealtime()
    return (sec - now.sec) * 1e9 + (nsec - now.nsec)
  }
  const now = clock === CLOCK_BOOTTIME || clock === CLOCK_BOOTTIME_ALARM ? uptimeNs() : kernel.now()
  return sec * 1e9 + nsec - now
}

export class TimerFd extends FileDescription implements TimerEntry {
  readonly clock: number
  private readonly kernel: Kernel
  private readonly queue = new WaitQueue()
  expires = 0
  heapIndex = -1
  /** Period in ns; 0 = once. */
  interval = 0
  /** Expirations that were not read. */
  private ticks = 0
  /** It fired, and is not in the heap until it is read or asked. */
  private fired = false
  private settimeFlags = 0

  constructor(kernel: Kernel, clock: number, flags: number) {
    super(O_RDWR | (flags & O_NONBLOCK), null)
    this.kernel = kernel
    this.clock = clock
  }

  override get inode(): Inode {
    return ANON_INODE
  }
  override describe(): string {
    return 'anon_inode:[timerfd]'
  }
  override get waitQueue(): WaitQueue {
    return this.queue
  }

  /** Arms the timer `delay` ns from now; NaN disarms. */
  arm(delay: number, interval: number, flags: number): void {
    this.kernel.timers.remove(this)
    this.ticks = 0
    this.fired = false
    this.interval = interval
    this.settimeFlags = flags
    if (Number.isNaN(delay)) {
      this.expires = 0
      return
    }
    this.kernel.timers.add(this, this.kernel.now() + Math.max(0, delay))
  }

  expired(): void {
    this.ticks++
    this.fired = true
    this.queue.wake(EPOLLIN)
  }

  /** A periodic timer that fired: counts what passed meanwhile and runs on. */
  private forward(): void {
    if (!this.fired || this.interval === 0) return
    const passed = Math.floor((this.kernel.now() - this.expires) / this.interval) + 1
    this.ticks += passed - 1
    this.fired = false
    this.kernel.timers.add(this, this.expires + passed * this.interval)
  }

  /** Ns until the next expiration; 0 when disarmed. */
  remaining(): number {
    this.forward()
    if (this.heapIndex < 0) return 0
    return Math.max(1, this.expires - this.kernel.now())
  }

  override read(_t: Task, iter: IovIter, _pos: number): SysRet {
    if (iter.remaining < 8) return -EINVAL
    if (this.ticks === 0) return -EAGAIN
    this.forward()
    VIEW.setUint32(0, this.ticks >>> 0, true)
    VIEW.setUint32(4, Math.floor(this.ticks / TWO32), true)
    this.ticks = 0
    this.fired = false
    return iter.copyTo(WORD, 0, 8) === 8 ? 8 : -EFAULT
  }

  override poll(): number {
    return this.ticks > 0 ? EPOLLIN : 0
  }

  override fdinfo(): string {
    const left = this.heapIndex < 0 ? 0 : Math.max(0, this.expires - this.kernel.now())
    const pair = (ns: number): string => `(${Math.floor(ns / 1e9)}, ${Math.floor(ns % 1e9)})`
    return (
      `clockid: ${this.clock}\nticks: ${this.ticks}\nsettime flags: 0${this.settimeFlags.toString(8)}\n` +
      `it_value: ${pair(left)}\nit_interval: ${pair(this.interval)}\n`
    )
  }

  protected override release(): void {
    this.kernel.timers.remove(this)
  }
}
