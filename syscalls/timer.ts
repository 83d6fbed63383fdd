/**
 * Interval and POSIX timers: alarm, getitimer, setitimer, timer_*.
 */
import { EAGAIN, EFAULT, EINVAL, EOPNOTSUPP, EPERM } from '../sentry/abi/errno.ts'
import { SIGALRM } from '../sentry/abi/signal.ts'
import { getS64, put64 } from '../sentry/abi/words.ts'
import { cpuClockOf, toMonotonic } from '../sentry/kernel/clocks.ts'
import { CAP_WAKE_ALARM } from '../sentry/kernel/credentials.ts'
import { type IntervalTimer, ITIMER_REAL, timersOf } from '../sentry/kernel/itimer.ts'
import { RLIMIT_SIGPENDING } from '../sentry/kernel/limits.ts'
import type { PosixTimer, TimerEvent } from '../sentry/kernel/posix-timer.ts'
import { NSIG } from '../sentry/kernel/signal-actions.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

const BUF = new Uint8Array(64)
const VIEW = new DataView(BUF.buffer)

/** struct itimerval: interval, value; times in sec and µs. */
function writeItimerval(t: Task, addr: number, timer: IntervalTimer): number {
  putTimeval(0, timer.interval)
  putTimeval(16, timer.remaining)
  return t.writeBytes(addr, BUF, 32)
}
function putTimeval(at: number, ns: number): void {
  const us = Math.floor(ns / 1000)
  put64(VIEW, at, Math.floor(us / 1e6))
  put64(VIEW, at + 8, us % 1e6)
}
/** ns, or −EINVAL. */
function getTimeval(at: number): number {
  const sec = getS64(VIEW, at)
  const usec = getS64(VIEW, at + 8)
  return sec < 0 || usec < 0 || usec >= 1e6 ? -EINVAL : sec * 1e9 + usec * 1000
}

/** getitimer(2). */
export function sysGetitimer(t: Task): SysRet {
  const timer = timersOf(t.group).interval(t.argI32(0))
  return timer === null ? -EINVAL : writeItimerval(t, t.argPtr(1), timer)
}

/** setitimer(2). */
export function sysSetitimer(t: Task): SysRet {
  const addr = t.argPtr(1)
  const oldAddr = t.argPtr(2)
  let interval = 0
  let value = 0
  if (addr !== 0) {
    if (t.readBytes(addr, BUF, 32) < 0) return -EFAULT
    interval = getTimeval(0)
    value = getTimeval(16)
  }
  if (interval < 0 || value < 0) return -EINVAL
  const timer = timersOf(t.group).interval(t.argI32(0))
  if (timer === null) return -EINVAL
  putTimeval(0, timer.interval)
  putTimeval(16, timer.remaining)
  timer.set(value, interval)
  return oldAddr === 0 ? 0 : t.writeBytes(oldAddr, BUF, 32)
}

/** alarm(2). */
export function sysAlarm(t: Task): SysRet {
  const timer = timersOf(t.group).interval(ITIMER_REAL)!
  const left = timer.remaining / 1e9
  timer.set(t.argU32(0) * 1e9, 0)
  // Rounded, but never down to 0 while time is left.
  return left > 0 && left < 1 ? 1 : Math.round(left)
}

const SIGEV_SIGNAL = 0
const SIGEV_NONE = 1
const SIGEV_THREAD = 2
const SIGEV_THREAD_ID = 4
const SIGEVENT_SIZE = 64

/** struct sigevent in BUF; a number is an error. */
function readEvent(t: Task, addr: number, id: number): TimerEvent | number {
  if (addr === 0) return { signo: SIGALRM, valueLo: id, valueHi: 0, thread: null }
  if (t.readBytes(addr, BUF, SIGEVENT_SIZE) < 0) return -EFAULT
  const signo = VIEW.getInt32(8, true)
  const notify = VIEW.getInt32(12, true)
  const event: TimerEvent = {
    signo,
    valueLo: VIEW.getUint32(0, true),
    valueHi: VIEW.getUint32(4, true),
    thread: null,
  }
  if (notify === SIGEV_NONE) {
    event.signo = 0
    return event
  }
  if (notify === SIGEV_THREAD_ID) {
    const thread = t.kernel.ids.task(VIEW.getInt32(16, true))
    if (thread === undefined || thread.group !== t.group) return -EINVAL
    event.thread = thread
  } else if (notify !== SIGEV_SIGNAL && notify !== SIGEV_THREAD) return -EINVAL
  return signo <= 0 || signo > NSIG ? -EINVAL : event
}

/** The clocks of timers; kept beside the timer for absolute times. */
const clocks = new WeakMap<PosixTimer, number>()

/** timer_create(2). */
export function sysTimerCreate(t: Task): SysRet {
  const clock = t.argI32(0)
  const cpu = clock < 0 || clock === 2 || clock === 3 ? cpuClockOf(t, clock) : null
  if (cpu === null) {
    if (clock === 4 || clock === 5 || clock === 6) return -EOPNOTSUPP
    if (clock < 0 || clock > 11 || clock === 10) return -EINVAL
  }
  const timers = timersOf(t.group).posix
  if (timers.size >= Math.min(t.group.limits.soft[RLIMIT_SIGPENDING]!, 65536)) return -EAGAIN
  const id = timers.allocate()
  const event = readEvent(t, t.argPtr(1), id)
  if (typeof event === 'number') return event
  if ((clock === 8 || clock === 9) && !t.creds.capable(CAP_WAKE_ALARM)) return -EPERM
  if (t.writeU32(t.argPtr(2), id) < 0) return -EFAULT
  clocks.set(timers.create(id, event, cpu), clock)
  return 0
}

function putTimespec(at: number, ns: number): void {
  const sec = Math.floor(ns / 1e9)
  put64(VIEW, at, sec)
  put64(VIEW, at + 8, Math.floor(ns - sec * 1e9))
}
function putSetting(timer: PosixTimer): void {
  putTimespec(0, timer.interval)
  putTimespec(16, timer.remaining)
}
const badTimespec = (at: number): boolean =>
  getS64(VIEW, at) < 0 || getS64(VIEW, at + 8) < 0 || getS64(VIEW, at + 8) >= 1e9

/** timer_settime(2). */
export function sysTimerSettime(t: Task): SysRet {
  const absolute = (t.argI32(1) & 1) !== 0
  const addr = t.argPtr(2)
  const oldAddr = t.argPtr(3)
  if (addr === 0) return -EINVAL
  if (t.readBytes(addr, BUF, 32) < 0) return -EFAULT
  if (badTimespec(0) || badTimespec(16)) return -EINVAL
  const timer = timersOf(t.group).posix.get(t.argI32(0))
  if (timer === undefined) return -EINVAL
  const interval = getS64(VIEW, 0) * 1e9 + getS64(VIEW, 8)
  const sec = getS64(VIEW, 16)
  const nsec = getS64(VIEW, 24)
  putSetting(timer)
  if (sec === 0 && nsec === 0) timer.set(Number.POSITIVE_INFINITY, 0)
  else if (timer.cpuClock !== null) timer.set((absolute ? 0 : timer.cpuClock()) + sec * 1e9 + nsec, interval)
  else if (absolute) timer.set(toMonotonic(t, clocks.get(timer)!, sec, nsec), interval)
  else timer.set(t.kernel.now() + sec * 1e9 + nsec, interval)
  return oldAddr === 0 ? 0 : t.writeBytes(oldAddr, BUF, 32)
}

/** timer_gettime(2). */
export function sysTimerGettime(t: Task): SysRet {
  const timer = timersOf(t.group).posix.get(t.argI32(0))
  if (timer === undefined) return -EINVAL
  putSetting(timer)
  return t.writeBytes(t.argPtr(1), BUF, 32)
}

/** timer_getoverrun(2). */
export function sysTimerGetoverrun(t: Task): SysRet {
  return timersOf(t.group).posix.get(t.argI32(0))?.overrun ?? -EINVAL
}

/** timer_delete(2). */
export function sysTimerDelete(t: Task): SysRet {
  return timersOf(t.group).posix.delete(t.argI32(0)) ? 0 : -EINVAL
}
