/**
 * futex: only the operations that do not run natively on the host (sentry/platform/stub.ts).
 */
import { EINVAL, ENOSYS } from '../sentry/abi/errno.ts'
import { toMonotonic } from '../sentry/kernel/clocks.ts'
import { cmpRequeuePi, lockPi, tryLockPi, unlockPi, waitRequeuePi } from '../sentry/kernel/pi-futex.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import { NEVER, type Task } from '../sentry/kernel/task.ts'
import { firstRun, readTimespecNs } from './wait-args.ts'

const FUTEX_LOCK_PI = 6
const FUTEX_UNLOCK_PI = 7
const FUTEX_TRYLOCK_PI = 8
const FUTEX_WAIT_REQUEUE_PI = 11
const FUTEX_CMP_REQUEUE_PI = 12
const FUTEX_LOCK_PI2 = 13
const FUTEX_PRIVATE = 128
const FUTEX_CLOCK_REALTIME = 256
const CLOCK_REALTIME = 0

/** The absolute timeout in argument 3. */
function setDeadline(t: Task, realtime: boolean): number {
  if (!firstRun(t)) return 0
  const addr = t.argPtr(3)
  if (addr === 0) {
    t.deadline = NEVER
    return 0
  }
  const ns = readTimespecNs(t, addr)
  if (ns < 0) return ns
  const sec = Math.floor(ns / 1e9)
  t.deadline = realtime ? toMonotonic(t, CLOCK_REALTIME, sec, ns - sec * 1e9) : ns
  return 0
}

/** futex(2). */
export function sysFutex(t: Task): SysRet {
  const addr = t.argPtr(0)
  const op = t.argU32(1)
  const shared = (op & FUTEX_PRIVATE) === 0
  const command = op & ~(FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME)
  const realtime = (op & FUTEX_CLOCK_REALTIME) !== 0
  if (realtime && command !== FUTEX_LOCK_PI2 && command !== FUTEX_WAIT_REQUEUE_PI) return -ENOSYS
  switch (command) {
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2: {
      const err = setDeadline(t, command === FUTEX_LOCK_PI || realtime)
      return err < 0 ? err : lockPi(t, addr, shared)
    }
    case FUTEX_TRYLOCK_PI:
      return tryLockPi(t, addr, shared)
    case FUTEX_UNLOCK_PI:
      return unlockPi(t, addr, shared)
    case FUTEX_WAIT_REQUEUE_PI: {
      const err = setDeadline(t, realtime)
      if (err < 0) return err
      return t.argU32(5) === 0 ? -EINVAL : waitRequeuePi(t, addr, t.argU32(2), t.argPtr(4), shared)
    }
    case FUTEX_CMP_REQUEUE_PI:
      return cmpRequeuePi(t, addr, t.argI32(2), t.argI32(3), t.argPtr(4), t.argU32(5), shared)
    default:
      return -ENOSYS
  }
}
