/**
 * Arguments that calls which wait have in common: struct timespec and timeval as nanoseconds, and the signal mask of
 * ppoll, pselect6 and epoll_pwait.
 */
import { EFAULT, EINVAL } from '../sentry/abi/errno.ts'
import { setTemporaryMask } from '../sentry/kernel/signal.ts'
import type { Task } from '../sentry/kernel/task.ts'

const TWO32 = 0x1_0000_0000
const PAIR = new Uint8Array(16)
const PAIR_VIEW = new DataView(PAIR.buffer)
const first = (): number => PAIR_VIEW.getUint32(0, true) + PAIR_VIEW.getInt32(4, true) * TWO32
const second = (): number => PAIR_VIEW.getUint32(8, true) + PAIR_VIEW.getInt32(12, true) * TWO32

/** A struct timespec at `addr` as ns, or −EFAULT, or −EINVAL. */
export function readTimespecNs(t: Task, addr: number): number {
  if (t.readBytes(addr, PAIR) < 0) return -EFAULT
  const sec = first()
  const nsec = second()
  return sec < 0 || nsec < 0 || nsec >= 1e9 ? -EINVAL : sec * 1e9 + nsec
}

/** A struct timeval at `addr` as ns, or −EFAULT, or −EINVAL. Microseconds may be more than a second's (select(2)). */
export function readTimevalNs(t: Task, addr: number): number {
  if (t.readBytes(addr, PAIR) < 0) return -EFAULT
  const ns = first() * 1e9 + second() * 1e3
  return ns < 0 || second() < 0 ? -EINVAL : ns
}

function writePair(t: Task, addr: number, a: number, b: number): number {
  PAIR_VIEW.setUint32(0, a >>> 0, true)
  PAIR_VIEW.setUint32(4, Math.floor(a / TWO32), true)
  PAIR_VIEW.setUint32(8, b, true)
  PAIR_VIEW.setUint32(12, 0, true)
  return t.writeBytes(addr, PAIR)
}
export function writeTimespecNs(t: Task, addr: number, ns: number): number {
  const sec = Math.floor(ns / 1e9)
  return writePair(t, addr, sec, Math.floor(ns - sec * 1e9))
}
export function writeTimevalNs(t: Task, addr: number, ns: number): number {
  const sec = Math.floor(ns / 1e9)
  return writePair(t, addr, sec, Math.floor((ns - sec * 1e9) / 1e3))
}

/** Whether the handler runs for the first time (a wait always sets a deadline, if only Infinity). */
export function firstRun(t: Task): boolean {
  return Number.isNaN(t.deadline)
}

/** Installs the mask at `addr` (0: none) for the time of the call. 0, −EINVAL or −EFAULT. Only on the first run. */
export function applyUserMask(t: Task, addr: number, size: number): number {
  if (addr === 0) return 0
  if (size !== 8) return -EINVAL
  if (t.readBytes(addr, PAIR, 8) < 0) return -EFAULT
  setTemporaryMask(t, PAIR_VIEW.getUint32(0, true), PAIR_VIEW.getUint32(4, true))
  return 0
}
