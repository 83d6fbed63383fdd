/**
 * eventfd(2), timerfd_create(2) and its settings, signalfd(2).
 */
import { EBADF, EFAULT, EINVAL, EPERM } from '../sentry/abi/errno.ts'
import { O_CLOEXEC, O_NONBLOCK } from '../sentry/abi/fcntl.ts'
import { EFD_SEMAPHORE, EventFd } from '../sentry/fs/eventfd.ts'
import { SignalFd } from '../sentry/fs/signalfd.ts'
import { TimerFd, untilAbsolute } from '../sentry/fs/timerfd.ts'
import { CAP_WAKE_ALARM } from '../sentry/kernel/credentials.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import type { FileDescription } from '../sentry/vfs/file-description.ts'

const TFD_TIMER_ABSTIME = 1
const TFD_TIMER_CANCEL_ON_SET = 2
/** CLOCK_REALTIME, MONOTONIC, BOOTTIME; REALTIME_ALARM, BOOTTIME_ALARM. */
const CLOCKS = [0, 1, 7]
const ALARM_CLOCKS = [8, 9]
const TWO32 = 0x1_0000_0000
/** struct itimerspec: interval, then value. */
const SPEC = new Uint8Array(32)
const SPEC_VIEW = new DataView(SPEC.buffer)
const MASK = new Uint8Array(8)
const MASK_VIEW = new DataView(MASK.buffer)

const install = (t: Task, file: FileDescription, flags: number): SysRet =>
  t.fds.install(file, (flags & O_CLOEXEC) !== 0, t.group.limits.soft[RLIMIT_NOFILE]!)

export function sysEventfd(t: Task): SysRet {
  return install(t, new EventFd(t.argU32(0), 0), 0)
}
export function sysEventfd2(t: Task): SysRet {
  const flags = t.argI32(1)
  if (flags & ~(O_CLOEXEC | O_NONBLOCK | EFD_SEMAPHORE)) return -EINVAL
  return install(t, new EventFd(t.argU32(0), flags), flags)
}

export function sysTimerfdCreate(t: Task): SysRet {
  const clock = t.argI32(0)
  const flags = t.argI32(1)
  if (flags & ~(O_CLOEXEC | O_NONBLOCK)) return -EINVAL
  const alarm = ALARM_CLOCKS.includes(clock)
  if (!alarm && !CLOCKS.includes(clock)) return -EINVAL
  if (alarm && !t.creds.capable(CAP_WAKE_ALARM)) return -EPERM
  return install(t, new TimerFd(t.kernel, clock, flags), flags)
}

const seconds = (at: number): number => SPEC_VIEW.getUint32(at, true) + SPEC_VIEW.getInt32(at + 4, true) * TWO32
function putNs(at: number, ns: number): void {
  const sec = Math.floor(ns / 1e9)
  SPEC_VIEW.setUint32(at, sec >>> 0, true)
  SPEC_VIEW.setUint32(at + 4, Math.floor(sec / TWO32), true)
  SPEC_VIEW.setUint32(at + 8, Math.floor(ns - sec * 1e9), true)
  SPEC_VIEW.setUint32(at + 12, 0, true)
}
const validSpec = (at: number): boolean => {
  const nsec = seconds(at + 8)
  return seconds(at) >= 0 && nsec >= 0 && nsec < 1e9
}

function timerOf(t: Task): TimerFd | number {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  return file instanceof TimerFd ? file : -EINVAL
}

export function sysTimerfdSettime(t: Task): SysRet {
  const flags = t.argI32(1)
  const old = t.argPtr(3)
  if (t.readBytes(t.argPtr(2), SPEC) < 0) return -EFAULT
  if (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) || !validSpec(0) || !validSpec(16)) return -EINVAL
  const timer = timerOf(t)
  if (typeof timer === 'number') return timer
  const interval = seconds(0) * 1e9 + seconds(8)
  const sec = seconds(16)
  const nsec = seconds(24)
  const left = timer.remaining()
  const oldInterval = timer.interval
  let delay = Number.NaN
  if (sec !== 0 || nsec !== 0) {
    delay = flags & TFD_TIMER_ABSTIME ? untilAbsolute(t.kernel, timer.clock, sec, nsec) : sec * 1e9 + nsec
  }
  timer.arm(delay, interval, flags)
  if (old === 0) return 0
  putNs(0, oldInterval)
  putNs(16, left)
  return t.writeBytes(old, SPEC)
}

export function sysTimerfdGettime(t: Task): SysRet {
  const timer = timerOf(t)
  if (typeof timer === 'number') return timer
  putNs(16, timer.remaining())
  putNs(0, timer.interval)
  return t.writeBytes(t.argPtr(1), SPEC)
}

export function sysSignalfd(t: Task): SysRet {
  return signalfd(t, 0)
}
export function sysSignalfd4(t: Task): SysRet {
  return signalfd(t, t.argI32(3))
}
function signalfd(t: Task, flags: number): SysRet {
  if (t.argPtr(2) !== 8) return -EINVAL
  if (t.readBytes(t.argPtr(1), MASK) < 0) return -EFAULT
  if (flags & ~(O_CLOEXEC | O_NONBLOCK)) return -EINVAL
  const lo = MASK_VIEW.getUint32(0, true)
  const hi = MASK_VIEW.getUint32(4, true)
  const fd = t.argI32(0)
  if (fd === -1) return install(t, new SignalFd(t.kernel, flags, lo, hi), flags)
  const file = t.fds.get(fd)
  if (file === undefined) return -EBADF
  if (!(file instanceof SignalFd)) return -EINVAL
  file.setMask(lo, hi)
  return fd
}
