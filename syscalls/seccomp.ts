/**
 * seccomp(2), and prctl(PR_SET_SECCOMP).
 */
import { EACCES, EFAULT, EINVAL, EOPNOTSUPP, ESRCH } from '../sentry/abi/errno.ts'
import { CAP_SYS_ADMIN } from '../sentry/kernel/credentials.ts'
import {
  BPF_MAXINSNS,
  makeFilter,
  RET_ALLOW,
  RET_ERRNO,
  RET_KILL_PROCESS,
  RET_KILL_THREAD,
  RET_LOG,
  RET_TRACE,
  RET_TRAP,
  SECCOMP_MODE_FILTER,
  SECCOMP_MODE_STRICT,
  SeccompFilter,
} from '../sentry/kernel/seccomp.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

const SET_MODE_STRICT = 0
const SET_MODE_FILTER = 1
const GET_ACTION_AVAIL = 2

const FLAG_TSYNC = 1
const FLAG_LOG = 2
const FLAG_SPEC_ALLOW = 4
const FLAG_TSYNC_ESRCH = 0x10
const FLAGS = FLAG_TSYNC | FLAG_LOG | FLAG_SPEC_ALLOW | FLAG_TSYNC_ESRCH

const AVAILABLE: readonly number[] = [
  RET_KILL_PROCESS,
  RET_KILL_THREAD,
  RET_TRAP,
  RET_ERRNO,
  RET_TRACE,
  RET_LOG,
  RET_ALLOW,
]

const FPROG = new Uint8Array(16)
const INSNS = new Uint8Array(8 * BPF_MAXINSNS)
const VIEW = new DataView(INSNS.buffer)

/** The program of a struct sock_fprog at `addr` as rows of four, or −errno. */
function readProgram(t: Task, addr: number): Uint32Array | number {
  if (t.readBytes(addr, FPROG) < 0) return -EFAULT
  const v = new DataView(FPROG.buffer)
  const len = v.getUint16(0, true)
  const at = v.getUint32(8, true) + v.getUint32(12, true) * 0x1_0000_0000
  if (len === 0 || len > BPF_MAXINSNS) return -EINVAL
  if (t.readBytes(at, INSNS, 8 * len) < 0) return -EFAULT
  const program = new Uint32Array(4 * len)
  for (let i = 0; i < len; i++) {
    program[4 * i] = VIEW.getUint16(8 * i, true)
    program[4 * i + 1] = VIEW.getUint8(8 * i + 2)
    program[4 * i + 2] = VIEW.getUint8(8 * i + 3)
    program[4 * i + 3] = VIEW.getUint32(8 * i + 4, true)
  }
  return program
}

function setStrict(t: Task): SysRet {
  if (t.seccomp !== null && t.seccomp.mode !== SECCOMP_MODE_STRICT) return -EINVAL
  t.seccomp = new SeccompFilter(SECCOMP_MODE_STRICT, new Uint32Array(0), null)
  t.publishIds()
  return 0
}

function setFilter(t: Task, flags: number, addr: number): SysRet {
  if ((flags & ~FLAGS) !== 0) return -EINVAL
  if (t.seccomp !== null && t.seccomp.mode !== SECCOMP_MODE_FILTER) return -EINVAL
  const program = readProgram(t, addr)
  if (typeof program === 'number') return program
  if (!t.creds.noNewPrivs && !t.creds.capable(CAP_SYS_ADMIN)) return -EACCES
  const filter = makeFilter(t, program)
  if (typeof filter === 'number') return filter
  if ((flags & FLAG_TSYNC) !== 0) {
    for (const other of t.group.tasks) {
      if (other === t || (t.seccomp === null ? other.seccomp === null : t.seccomp.extends(other.seccomp))) continue
      return (flags & FLAG_TSYNC_ESRCH) !== 0 ? -ESRCH : other.tid
    }
    for (const other of t.group.tasks) {
      other.seccomp = filter
      other.publishIds()
      if (t.creds.noNewPrivs && !other.creds.noNewPrivs) other.creds = other.creds.with({ noNewPrivs: true })
    }
  }
  t.seccomp = filter
  t.publishIds()
  return 0
}

/** seccomp(2). */
export function sysSeccomp(t: Task): SysRet {
  const flags = t.argU32(1)
  const addr = t.argPtr(2)
  switch (t.argU32(0)) {
    case SET_MODE_STRICT:
      return flags !== 0 || addr !== 0 ? -EINVAL : setStrict(t)
    case SET_MODE_FILTER:
      return setFilter(t, flags, addr)
    case GET_ACTION_AVAIL: {
      if (flags !== 0) return -EINVAL
      const action = t.readU32(addr)
      if (action < 0) return -EFAULT
      return AVAILABLE.includes(action) ? 0 : -EOPNOTSUPP
    }
    default:
      return -EINVAL
  }
}

/** prctl(PR_SET_SECCOMP, mode, addr). */
export function prctlSetSeccomp(t: Task, mode: number, addr: number): SysRet {
  if (mode === SECCOMP_MODE_STRICT) return setStrict(t)
  return mode === SECCOMP_MODE_FILTER ? setFilter(t, 0, addr) : -EINVAL
}
