/**
 * Looking into other processes: process_vm_readv, process_vm_writev, kcmp.
 */
import { EBADF, EFAULT, EINVAL, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import { undoListOf } from '../sentry/ipc/sem.ts'
import { ptraceAccess } from '../sentry/kernel/ptrace-access.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import { DEAD, type Task } from '../sentry/kernel/task.ts'

const UIO_MAXIOV = 1024
const MAX_RW_COUNT = 0x7ffff000
const IOVEC = new Uint8Array(16 * UIO_MAXIOV)
const VIEW = new DataView(IOVEC.buffer)
const BOUNCE = new Uint8Array(64 * 1024)
const TWO32 = 0x1_0000_0000

/** (address, length) pairs of an iovec of the caller, or −errno. */
function readVector(t: Task, addr: number, count: number): Float64Array | number {
  if (count > UIO_MAXIOV) return -EINVAL
  if (count > 0 && t.readBytes(addr, IOVEC, 16 * count) < 0) return -EFAULT
  const pairs = new Float64Array(2 * count)
  let total = 0
  for (let i = 0; i < count; i++) {
    const base = VIEW.getUint32(16 * i, true) + VIEW.getUint32(16 * i + 4, true) * TWO32
    const len = VIEW.getUint32(16 * i + 8, true) + VIEW.getInt32(16 * i + 12, true) * TWO32
    if (len < 0) return -EINVAL
    pairs[2 * i] = base
    pairs[2 * i + 1] = Math.min(len, MAX_RW_COUNT - total)
    total += pairs[2 * i + 1]!
  }
  return pairs
}

function isEmpty(pairs: Float64Array): boolean {
  for (let i = 1; i < pairs.length; i += 2) if (pairs[i] !== 0) return false
  return true
}

/** process_vm_rw: moves bytes between the caller's vector and the other task's, in the order of the vectors. */
function transfer(t: Task, write: boolean): SysRet {
  if (t.argPtr(5) !== 0) return -EINVAL
  const local = readVector(t, t.argPtr(1), t.argPtr(2))
  if (typeof local === 'number') return local
  // Nothing to move: Linux does not even look for the process.
  if (isEmpty(local)) return 0
  const remote = readVector(t, t.argPtr(3), t.argPtr(4))
  if (typeof remote === 'number') return remote
  if (isEmpty(remote)) return 0
  const other = t.kernel.ids.task(t.argI32(0))
  if (other === undefined || other.state === DEAD) return -ESRCH
  if (ptraceAccess(t, other, false) < 0) return -EPERM
  let done = 0
  let l = 0
  let r = 0
  let lAt = 0
  let rAt = 0
  while (l < local.length && r < remote.length) {
    const lLeft = local[l + 1]! - lAt
    const rLeft = remote[r + 1]! - rAt
    if (lLeft === 0) {
      l += 2
      lAt = 0
      continue
    }
    if (rLeft === 0) {
      r += 2
      rAt = 0
      continue
    }
    const want = Math.min(lLeft, rLeft, BOUNCE.length)
    const mine = local[l]! + lAt
    const its = remote[r]! + rAt
    const got = write ? t.copyIn(mine, BOUNCE, 0, want) : other.copyIn(its, BOUNCE, 0, want)
    const put = write ? other.copyOut(its, BOUNCE, 0, got) : t.copyOut(mine, BOUNCE, 0, got)
    done += put
    lAt += put
    rAt += put
    if (put < want) return done > 0 ? done : -EFAULT
  }
  return done
}

/** process_vm_readv(2). */
export function sysProcessVmReadv(t: Task): SysRet {
  return transfer(t, false)
}

/** process_vm_writev(2). */
export function sysProcessVmWritev(t: Task): SysRet {
  return transfer(t, true)
}

const KCMP_FILE = 0
const KCMP_VM = 1
const KCMP_FILES = 2
const KCMP_FS = 3
const KCMP_SIGHAND = 4
const KCMP_IO = 5
const KCMP_SYSVSEM = 6

/** An order of kernel objects that reveals nothing of them. */
const ranks = new WeakMap<object, number>()
let nextRank = 1
function rank(o: object): number {
  let n = ranks.get(o)
  if (n === undefined) {
    n = nextRank++
    ranks.set(o, n)
  }
  return n
}

const NOTHING = {}

/** kcmp(2). */
export function sysKcmp(t: Task): SysRet {
  const a = t.kernel.ids.task(t.argI32(0))
  const b = t.kernel.ids.task(t.argI32(1))
  if (a === undefined || b === undefined) return -ESRCH
  if (ptraceAccess(t, a, false) < 0 || ptraceAccess(t, b, false) < 0) return -EPERM
  let x: object | undefined
  let y: object | undefined
  switch (t.argI32(2)) {
    case KCMP_FILE:
      x = a.fds.get(t.argU32(3))
      y = b.fds.get(t.argU32(4))
      break
    case KCMP_VM:
      x = a.mm
      y = b.mm
      break
    case KCMP_FILES:
      x = a.fds
      y = b.fds
      break
    case KCMP_FS:
      x = a.fs
      y = b.fs
      break
    case KCMP_SIGHAND:
      x = a.group.signals.actions
      y = b.group.signals.actions
      break
    case KCMP_IO:
      // Nobody has an I/O context of their own.
      return 0
    case KCMP_SYSVSEM:
      x = undoListOf(a.group) ?? NOTHING
      y = undoListOf(b.group) ?? NOTHING
      break
    default:
      return -EINVAL
  }
  if (x === undefined || y === undefined) return -EBADF
  return x === y ? 0 : rank(x) < rank(y) ? 1 : 2
}
