/**
 * prctl, arch_prctl.
 */
import { EACCES, EFAULT, EINVAL, EPERM } from '../sentry/abi/errno.ts'
import {
  CAP_LAST,
  CAP_SETPCAP,
  CAP_SYS_RESOURCE,
  CAPS_NONE,
  type CapSet,
  capHas,
} from '../sentry/kernel/credentials.ts'
import { SECBIT_KEEP_CAPS, SECBIT_NO_CAP_AMBIENT_RAISE } from '../sentry/kernel/exec-credentials.ts'
import { NSIG } from '../sentry/kernel/signal-actions.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { FS_BASE, GS_BASE, getReg } from '../sentry/platform/amd64/registers.ts'
import { prctlSetSeccomp } from './seccomp.ts'

const PR_SET_PDEATHSIG = 1
const PR_GET_PDEATHSIG = 2
const PR_GET_DUMPABLE = 3
const PR_SET_DUMPABLE = 4
const PR_GET_UNALIGN = 5
const PR_SET_UNALIGN = 6
const PR_GET_KEEPCAPS = 7
const PR_SET_KEEPCAPS = 8
const PR_GET_TIMING = 13
const PR_SET_TIMING = 14
const PR_SET_NAME = 15
const PR_GET_NAME = 16
const PR_GET_ENDIAN = 19
const PR_GET_SECCOMP = 21
const PR_SET_SECCOMP = 22
const PR_CAPBSET_READ = 23
const PR_CAPBSET_DROP = 24
const PR_GET_TSC = 25
const PR_SET_TSC = 26
const PR_GET_SECUREBITS = 27
const PR_SET_SECUREBITS = 28
const PR_SET_TIMERSLACK = 29
const PR_GET_TIMERSLACK = 30
const PR_MCE_KILL = 33
const PR_MCE_KILL_GET = 34
const PR_SET_MM = 35
const PR_SET_CHILD_SUBREAPER = 36
const PR_GET_CHILD_SUBREAPER = 37
const PR_SET_NO_NEW_PRIVS = 38
const PR_GET_NO_NEW_PRIVS = 39
const PR_GET_TID_ADDRESS = 40
const PR_SET_THP_DISABLE = 41
const PR_GET_THP_DISABLE = 42
const PR_CAP_AMBIENT = 47
const PR_GET_SPECULATION_CTRL = 52
const PR_SET_SPECULATION_CTRL = 53
const PR_SET_IO_FLUSHER = 57
const PR_GET_IO_FLUSHER = 58
const PR_SET_PTRACER = 0x59616d61

const PR_CAP_AMBIENT_IS_SET = 1
const PR_CAP_AMBIENT_RAISE = 2
const PR_CAP_AMBIENT_LOWER = 3
const PR_CAP_AMBIENT_CLEAR_ALL = 4

/** ms: 50 µs, Linux's default; kept for PR_GET_TIMERSLACK only. */
const DEFAULT_TIMER_SLACK = 50000
const NAME = Buffer.alloc(16)

const without = (set: CapSet, cap: number): CapSet =>
  cap < 32 ? { lo: (set.lo & ~(1 << cap)) >>> 0, hi: set.hi } : { lo: set.lo, hi: (set.hi & ~(1 << (cap - 32))) >>> 0 }
const withCap = (set: CapSet, cap: number): CapSet =>
  cap < 32 ? { lo: (set.lo | (1 << cap)) >>> 0, hi: set.hi } : { lo: set.lo, hi: (set.hi | (1 << (cap - 32))) >>> 0 }

/** prctl(2). */
export function sysPrctl(t: Task): SysRet {
  const arg = t.argPtr(1)
  const rest = t.argPtr(2) !== 0 || t.argPtr(3) !== 0 || t.argPtr(4) !== 0
  const group = t.group
  switch (t.argI32(0)) {
    case PR_SET_PDEATHSIG:
      if (arg > NSIG) return -EINVAL
      t.parentDeathSignal = arg
      return 0
    case PR_GET_PDEATHSIG:
      return t.writeU32(arg, t.parentDeathSignal)
    case PR_GET_DUMPABLE:
      return group.dumpable
    case PR_SET_DUMPABLE:
      if (arg !== 0 && arg !== 1) return -EINVAL
      group.dumpable = arg
      return 0
    case PR_GET_KEEPCAPS:
      return t.creds.securebits & SECBIT_KEEP_CAPS ? 1 : 0
    case PR_SET_KEEPCAPS:
      if (arg > 1) return -EINVAL
      if (t.creds.securebits & (SECBIT_KEEP_CAPS << 1)) return -EPERM
      setSecurebits(t, arg === 1 ? t.creds.securebits | SECBIT_KEEP_CAPS : t.creds.securebits & ~SECBIT_KEEP_CAPS)
      return 0
    case PR_GET_TIMING:
      return 0
    case PR_SET_TIMING:
      return arg === 0 ? 0 : -EINVAL
    case PR_SET_NAME:
      return setName(t, arg)
    case PR_GET_NAME:
      NAME.fill(0)
      NAME.write(t.name, 0, 15, 'latin1')
      return t.writeBytes(arg, NAME)
    case PR_GET_SECCOMP:
      return t.seccomp === null ? 0 : t.seccomp.mode
    case PR_SET_SECCOMP:
      return prctlSetSeccomp(t, arg, t.argPtr(2))
    case PR_GET_TSC:
      return t.writeU32(arg, 1)
    case PR_SET_TSC:
      return arg === 1 ? 0 : -EINVAL
    case PR_CAPBSET_READ:
      return arg > CAP_LAST ? -EINVAL : capHas(t.creds.bounding, arg) ? 1 : 0
    case PR_CAPBSET_DROP:
      if (!t.creds.capable(CAP_SETPCAP)) return -EPERM
      if (arg > CAP_LAST) return -EINVAL
      t.creds = t.creds.with({ bounding: without(t.creds.bounding, arg) })
      return 0
    case PR_GET_SECUREBITS:
      return t.creds.securebits
    case PR_SET_SECUREBITS:
      return changeSecurebits(t, arg)
    case PR_SET_TIMERSLACK:
      t.timerSlack = arg === 0 ? DEFAULT_TIMER_SLACK : arg
      return 0
    case PR_GET_TIMERSLACK:
      return t.timerSlack
    case PR_MCE_KILL:
      return arg === 0 && !rest ? 0 : -EINVAL
    case PR_MCE_KILL_GET:
      return arg === 0 && !rest ? 2 : -EINVAL
    case PR_SET_MM:
      return t.creds.capable(CAP_SYS_RESOURCE) ? -EINVAL : -EPERM
    case PR_SET_CHILD_SUBREAPER:
      group.subreaper = arg !== 0
      return 0
    case PR_GET_CHILD_SUBREAPER:
      return t.writeU32(arg, group.subreaper ? 1 : 0)
    case PR_SET_NO_NEW_PRIVS:
      if (arg !== 1 || rest) return -EINVAL
      t.creds = t.creds.with({ noNewPrivs: true })
      return 0
    case PR_GET_NO_NEW_PRIVS:
      return arg !== 0 || rest ? -EINVAL : t.creds.noNewPrivs ? 1 : 0
    case PR_GET_TID_ADDRESS:
      return t.writeU64(arg, t.clearChildTid)
    case PR_SET_THP_DISABLE:
      return rest ? -EINVAL : 0
    case PR_GET_THP_DISABLE:
      return arg !== 0 || rest ? -EINVAL : 0
    case PR_CAP_AMBIENT:
      return ambient(t, arg, t.argPtr(2), t.argPtr(3) !== 0 || t.argPtr(4) !== 0)
    case PR_SET_IO_FLUSHER:
      return t.creds.capable(CAP_SYS_RESOURCE) ? (arg <= 1 && !rest ? 0 : -EINVAL) : -EPERM
    case PR_GET_IO_FLUSHER:
      return t.creds.capable(CAP_SYS_RESOURCE) ? (arg === 0 && !rest ? 0 : -EINVAL) : -EPERM
    // Which process may attach with ptrace: there is no ptrace to restrict.
    case PR_SET_PTRACER:
      return 0
    case PR_GET_SPECULATION_CTRL:
      return rest ? -EINVAL : arg <= 2 ? 0 : -19
    case PR_SET_SPECULATION_CTRL:
      return arg <= 2 ? -6 : -19
    // As a kernel answers that is built without them, or for another architecture.
    case PR_GET_UNALIGN:
    case PR_SET_UNALIGN:
    case PR_GET_ENDIAN:
      return -EINVAL
    default:
      return -EINVAL
  }
}

function setName(t: Task, addr: number): SysRet {
  // At most 16 bytes, the last of which is dropped.
  const name = t.readString(addr, 15)
  if (typeof name === 'string') t.name = name
  else {
    NAME.fill(0)
    if (t.readBytes(addr, NAME, 15) < 0) return -EFAULT
    t.name = NAME.toString('latin1', 0, 15)
  }
  return 0
}

function setSecurebits(t: Task, securebits: number): void {
  t.creds = t.creds.with({ securebits })
  t.keepCaps = (securebits & SECBIT_KEEP_CAPS) !== 0
}

const SECURE_ALL_BITS = 0x55
const SECURE_ALL_LOCKS = 0xaa

/** PR_SET_SECUREBITS: no locked bit changes, no lock opens. */
function changeSecurebits(t: Task, bits: number): SysRet {
  const old = t.creds.securebits
  const locks = (old & SECURE_ALL_LOCKS) >> 1
  if ((locks & (old ^ bits)) !== 0 || (old & SECURE_ALL_LOCKS & ~bits) !== 0) return -EPERM
  if (bits > 0xff || (bits & ~(SECURE_ALL_BITS | SECURE_ALL_LOCKS)) !== 0) return -EPERM
  if (!t.creds.capable(CAP_SETPCAP)) return -EPERM
  setSecurebits(t, bits)
  return 0
}

function ambient(t: Task, op: number, cap: number, rest: boolean): SysRet {
  if (rest) return -EINVAL
  const c = t.creds
  if (op === PR_CAP_AMBIENT_CLEAR_ALL) {
    if (cap !== 0) return -EINVAL
    t.creds = c.with({ ambient: CAPS_NONE })
    return 0
  }
  if (cap > CAP_LAST || op < PR_CAP_AMBIENT_IS_SET || op > PR_CAP_AMBIENT_LOWER) return -EINVAL
  if (op === PR_CAP_AMBIENT_IS_SET) return capHas(c.ambient, cap) ? 1 : 0
  if (op === PR_CAP_AMBIENT_LOWER) {
    t.creds = c.with({ ambient: without(c.ambient, cap) })
    return 0
  }
  if (!capHas(c.permitted, cap) || !capHas(c.inheritable, cap) || c.securebits & SECBIT_NO_CAP_AMBIENT_RAISE) {
    return -EPERM
  }
  t.creds = c.with({ ambient: withCap(c.ambient, cap) })
  return op === PR_CAP_AMBIENT_RAISE ? 0 : -EACCES
}

const ARCH_SET_GS = 0x1001
const ARCH_SET_FS = 0x1002
const ARCH_GET_FS = 0x1003
const ARCH_GET_GS = 0x1004
const ARCH_GET_CPUID = 0x1011
const TASK_SIZE_MAX = 0x7ffffffff000

/** arch_prctl(2). */
export function sysArchPrctl(t: Task): SysRet {
  const addr = t.argPtr(1)
  switch (t.argI32(0)) {
    case ARCH_SET_FS:
    case ARCH_SET_GS: {
      if (addr >= TASK_SIZE_MAX) return -EPERM
      const reg = t.argI32(0) === ARCH_SET_FS ? FS_BASE : GS_BASE
      t.regs[reg] = t.argU32(1)
      t.regs[reg + 1] = Math.floor(addr / 0x1_0000_0000)
      return 0
    }
    case ARCH_GET_FS:
      return t.writeU64(addr, getReg(t.regs, FS_BASE))
    case ARCH_GET_GS:
      return t.writeU64(addr, getReg(t.regs, GS_BASE))
    case ARCH_GET_CPUID:
      return 1
    default:
      return -EINVAL
  }
}
