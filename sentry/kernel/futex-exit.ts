/**
 * What a dying thread owes others that wait for its locks: the robust list (get_robust_list(2), Linux: exit_robust_list).
 */
import { TRAP_GONE } from '../platform/platform.ts'
import { exitPiFutexes } from './pi-futex.ts'
import { RUNNING, type Task } from './task.ts'

/** A list may be circular or endless. */
const ROBUST_LIST_LIMIT = 2048
const FUTEX_TID_MASK = 0x3fffffff
const FUTEX_OWNER_DIED = 0x40000000
const FUTEX_WAITERS = 0x80000000
const HEAD = new Uint8Array(24)
const HEAD_VIEW = new DataView(HEAD.buffer)
const TWO32 = 0x1_0000_0000

export function exitFutexes(t: Task): void {
  exitPiFutexes(t)
  if (t.robustList !== 0) {
    if (t.thread.trap !== TRAP_GONE && t.state !== RUNNING) walkRobustList(t)
    t.robustList = 0
  }
}

/** Whether a thread that still runs must be stopped first, because others may wait for locks that it holds. */
export function holdsRobustLocks(t: Task): boolean {
  if (t.robustList === 0 || t.readBytes(t.robustList, HEAD) < 0) return false
  return pointer(0) !== t.robustList || pointer(16) !== 0
}

function pointer(at: number): number {
  return HEAD_VIEW.getUint32(at, true) + HEAD_VIEW.getUint32(at + 4, true) * TWO32
}

function walkRobustList(t: Task): void {
  if (t.readBytes(t.robustList, HEAD) < 0) return
  const head = t.robustList
  const first = pointer(0)
  const offset = HEAD_VIEW.getUint32(8, true) + HEAD_VIEW.getInt32(12, true) * TWO32
  const pendingEntry = pointer(16)
  const pending = pendingEntry - (pendingEntry % 2)
  let entry = first
  for (let left = ROBUST_LIST_LIMIT; left > 0; left--) {
    const isPi = entry % 2 === 1
    const at = entry - (entry % 2)
    if (at === head || at === 0) break
    // Read the next one first: the futex's owner may free it once it is released.
    const next = t.readU64(at)
    if (at !== pending && !handleDeath(t, at + offset, isPi, false)) return
    if (next < 0) return
    entry = next
  }
  if (pending !== 0) handleDeath(t, pending + offset, pendingEntry % 2 === 1, true)
}

/** One lock: marked if it was ours, and one waiter woken. False when its memory is gone. */
function handleDeath(t: Task, addr: number, isPi: boolean, pendingOp: boolean): boolean {
  if (addr % 4 !== 0 || addr < 0) return false
  const value = t.readU32(addr)
  if (value < 0) return false
  // Between unlock (value 0) and the wake, a waiter would wait for ever.
  if (pendingOp && !isPi && value === 0) {
    t.thread.futexWake(addr, 1)
    return true
  }
  if ((value & FUTEX_TID_MASK) >>> 0 !== t.tid) return true
  if (t.writeU32(addr, ((value & FUTEX_WAITERS) | FUTEX_OWNER_DIED) >>> 0) < 0) return false
  if (!isPi && value & FUTEX_WAITERS) t.thread.futexWake(addr, 1)
  return true
}
