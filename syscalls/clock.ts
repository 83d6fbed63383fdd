/**
 * Clocks: clock_gettime, clock_getres, clock_settime, gettimeofday, settimeofday, time, adjtimex, clock_adjtime,
 * nanosleep, clock_nanosleep. Reading the wall clocks normally happens on the host, through the vDSO.
 */

import { raw } from '../native/host.ts'
import { EFAULT, EINVAL, EOPNOTSUPP, EPERM } from '../sentry/abi/errno.ts'
import { readRealtime } from '../sentry/kernel/clock.ts'
import { clockNow, cpuClockOf, monotonicDeadline } from '../sentry/kernel/clocks.ts'
import { BLOCK, ERESTART_RESTARTBLOCK, ERESTARTNOHAND, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { firstRun, readTimespecNs, writeTimespecNs } from './wait-args.ts'

const CLOCK_REALTIME = 0
const CLOCK_PROCESS_CPUTIME_ID = 2
const CLOCK_THREAD_CPUTIME_ID = 3
const CLOCK_TAI = 11
const TIMER_ABSTIME = 1
const TWO32 = 0x1_0000_0000
const SYS_ADJTIMEX = 159
const SYS_CLOCK_GETRES = 229

const TS = new Uint32Array(4)
const TS_BYTES = new Uint8Array(TS.buffer)

function putPair(a: number, b: number): void {
  TS[0] = a >>> 0
  TS[1] = Math.floor(a / TWO32)
  TS[2] = b
  TS[3] = 0
}
const known = (clock: number): boolean => clock >= 0 && clock <= CLOCK_TAI && clock !== 10

/** clock_gettime(2). */
export function sysClockGettime(t: Task): SysRet {
  const clock = t.argI32(0)
  if (clock < 0 || clock === CLOCK_PROCESS_CPUTIME_ID || clock === CLOCK_THREAD_CPUTIME_ID) {
    const read = cpuClockOf(t, clock)
    return read === null ? -EINVAL : writeTimespecNs(t, t.argPtr(1), read())
  }
  if (!known(clock)) return -EINVAL
  const ret = clockNow(clock, TS)
  return ret < 0 ? ret : t.writeBytes(t.argPtr(1), TS_BYTES)
}

/** clock_getres(2). */
export function sysClockGetres(t: Task): SysRet {
  const clock = t.argI32(0)
  const addr = t.argPtr(1)
  if (clock < 0 || clock === CLOCK_PROCESS_CPUTIME_ID || clock === CLOCK_THREAD_CPUTIME_ID) {
    if (cpuClockOf(t, clock) === null) return -EINVAL
    putPair(0, 1)
  } else {
    if (!known(clock)) return -EINVAL
    const ret = raw.LP(SYS_CLOCK_GETRES, clock, TS, 0, 0, 0, 0)
    if (ret < 0) return ret
  }
  return addr === 0 ? 0 : t.writeBytes(addr, TS_BYTES)
}

/** clock_settime(2): the clocks are the host's. */
export function sysClockSettime(t: Task): SysRet {
  if (t.argI32(0) !== CLOCK_REALTIME) return -EINVAL
  const ns = readTimespecNs(t, t.argPtr(1))
  return ns < 0 ? ns : -EPERM
}

/** settimeofday(2). */
export function sysSettimeofday(t: Task): SysRet {
  const tv = t.argPtr(0)
  if (tv !== 0) {
    if (t.readBytes(tv, TS_BYTES) < 0) return -EFAULT
    if (TS[2]! > 1e6 || TS[3] !== 0) return -EINVAL
  }
  if (t.argPtr(1) !== 0 && t.readBytes(t.argPtr(1), TS_BYTES, 8) < 0) return -EFAULT
  return -EPERM
}

/** gettimeofday(2). */
export function sysGettimeofday(t: Task): SysRet {
  const now = readRealtime()
  putPair(now.sec, Math.floor(now.nsec / 1000))
  if (t.argPtr(0) !== 0 && t.writeBytes(t.argPtr(0), TS_BYTES) < 0) return -EFAULT
  putPair(0, 0)
  return t.argPtr(1) === 0 ? 0 : t.writeBytes(t.argPtr(1), TS_BYTES, 8)
}

/** time(2). */
export function sysTime(t: Task): SysRet {
  const { sec } = readRealtime()
  return t.argPtr(0) !== 0 && t.writeU64(t.argPtr(0), sec) < 0 ? -EFAULT : sec
}

const TIMEX = new Uint8Array(208)

function timex(t: Task, addr: number): SysRet {
  if (t.readBytes(addr, TIMEX) < 0) return -EFAULT
  if (new DataView(TIMEX.buffer).getUint32(0, true) !== 0) return -EPERM
  const ret = raw.P(SYS_ADJTIMEX, TIMEX, 0, 0, 0, 0, 0)
  if (ret < 0) return ret
  return t.writeBytes(addr, TIMEX) < 0 ? -EFAULT : ret
}

/** adjtimex(2): only reading. */
export function sysAdjtimex(t: Task): SysRet {
  return timex(t, t.argPtr(0))
}
/** clock_adjtime(2). */
export function sysClockAdjtime(t: Task): SysRet {
  const clock = t.argI32(0)
  if (clock === CLOCK_REALTIME) return timex(t, t.argPtr(1))
  return known(clock) ? -EOPNOTSUPP : -EINVAL
}

/** nanosleep(2). */
export function sysNanosleep(t: Task): SysRet {
  if (firstRun(t)) {
    const ns = readTimespecNs(t, t.argPtr(0))
    if (ns < 0) return ns
    t.deadlineIn(ns)
  }
  return sleep(t, t.argPtr(1))
}

/** A relative sleep: `remAddr` gets what is left when a signal ends it; a stop does not lengthen it. */
function sleep(t: Task, remAddr: number): SysRet {
  if (t.timedOut) return 0
  const ret = t.waitOn(null, 0, ERESTART_RESTARTBLOCK)
  if (ret === BLOCK || remAddr === 0) return ret
  return writeTimespecNs(t, remAddr, Math.max(0, t.deadline - t.kernel.now())) < 0 ? -EFAULT : ret
}

/** A sleep on a CPU clock: until it shows `target`. */
class CpuSleep {
  readonly clock: () => number
  readonly target: number
  constructor(clock: () => number, target: number) {
    this.clock = clock
    this.target = target
  }
}
const CPU_POLL_NS = 2e6

/** clock_nanosleep(2). */
export function sysClockNanosleep(t: Task): SysRet {
  const clock = t.argI32(0)
  const absolute = (t.argI32(1) & TIMER_ABSTIME) !== 0
  if (firstRun(t)) {
    if (clock < 0 || clock === CLOCK_PROCESS_CPUTIME_ID || clock === CLOCK_THREAD_CPUTIME_ID) {
      const read = clock === CLOCK_THREAD_CPUTIME_ID ? null : cpuClockOf(t, clock)
      if (read === null) return -EINVAL
      const ns = readTimespecNs(t, t.argPtr(2))
      if (ns < 0) return ns
      t.sysState = new CpuSleep(read, absolute ? ns : read() + ns)
    } else {
      if (!known(clock)) return -EINVAL
      if (clock === 4 || clock === 5 || clock === 6) return -EOPNOTSUPP
      if (absolute) {
        const deadline = monotonicDeadline(t, clock, t.argPtr(2))
        if (deadline < 0) return deadline
        t.deadline = deadline
      } else {
        const ns = readTimespecNs(t, t.argPtr(2))
        if (ns < 0) return ns
        t.deadlineIn(ns)
      }
    }
  }
  if (t.sysState instanceof CpuSleep) return cpuSleep(t, t.sysState, absolute ? 0 : t.argPtr(3), absolute)
  if (!absolute) return sleep(t, t.argPtr(3))
  return t.timedOut ? 0 : t.waitOn(null, 0, ERESTARTNOHAND)
}

function cpuSleep(t: Task, state: CpuSleep, remAddr: number, absolute: boolean): SysRet {
  const left = state.target - state.clock()
  if (left <= 0) return 0
  t.deadline = t.kernel.now() + Math.max(CPU_POLL_NS, left / Math.max(1, t.group.tasks.length))
  const ret = t.waitOn(null, 0, absolute ? ERESTARTNOHAND : ERESTART_RESTARTBLOCK)
  if (ret !== BLOCK && remAddr !== 0 && writeTimespecNs(t, remAddr, left) < 0) return -EFAULT
  return ret
}
