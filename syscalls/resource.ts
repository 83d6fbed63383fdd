/**
 * Limits and usage: getrlimit, setrlimit, prlimit64, getrusage, times.
 */
import { EFAULT, EINVAL, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import { putU64 } from '../sentry/ipc/ipc-ids.ts'
import { childrenUsage, groupCpu, groupUsage, taskCpu } from '../sentry/kernel/cpu-times.ts'
import { CAP_SYS_RESOURCE } from '../sentry/kernel/credentials.ts'
import { watchCpuLimit } from '../sentry/kernel/itimer.ts'
import { RLIM_NLIMITS, RLIMIT_CPU, RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { writeRusage } from './rusage.ts'

const TWO32 = 0x1_0000_0000
/** fs.nr_open: no descriptor limit above it. */
export const NR_OPEN = 1048576
const RLIMIT = Buffer.alloc(16)

function putLimit(at: number, value: number): void {
  if (value === Number.POSITIVE_INFINITY) {
    RLIMIT.writeUInt32LE(0xffffffff, at)
    RLIMIT.writeUInt32LE(0xffffffff, at + 4)
    return
  }
  RLIMIT.writeUInt32LE((value % TWO32) >>> 0, at)
  RLIMIT.writeUInt32LE(Math.floor(value / TWO32) >>> 0, at + 4)
}

function takeLimit(at: number): number {
  const lo = RLIMIT.readUInt32LE(at)
  const hi = RLIMIT.readUInt32LE(at + 4)
  return lo === 0xffffffff && hi === 0xffffffff ? Number.POSITIVE_INFINITY : hi * TWO32 + lo
}

/** do_prlimit: changes `resource` of `target` to what RLIMIT holds. 0 or −errno. */
function setLimit(t: Task, target: Task, resource: number): number {
  const soft = takeLimit(0)
  const hard = takeLimit(8)
  if (soft > hard) return -EINVAL
  if (resource === RLIMIT_NOFILE && hard > NR_OPEN) return -EPERM
  const limits = target.group.limits
  if (hard > limits.hard[resource]! && !t.creds.capable(CAP_SYS_RESOURCE)) return -EPERM
  limits.soft[resource] = soft
  limits.hard[resource] = hard
  if (resource === RLIMIT_CPU) watchCpuLimit(target.group)
  return 0
}

function readLimit(target: Task, resource: number): void {
  putLimit(0, target.group.limits.soft[resource]!)
  putLimit(8, target.group.limits.hard[resource]!)
}

/** getrlimit(2). */
export function sysGetrlimit(t: Task): SysRet {
  const resource = t.argU32(0)
  if (resource >= RLIM_NLIMITS) return -EINVAL
  readLimit(t, resource)
  return t.writeBytes(t.argPtr(1), RLIMIT)
}

/** setrlimit(2). */
export function sysSetrlimit(t: Task): SysRet {
  const resource = t.argU32(0)
  if (t.readBytes(t.argPtr(1), RLIMIT) < 0) return -EFAULT
  if (resource >= RLIM_NLIMITS) return -EINVAL
  return setLimit(t, t, resource)
}

function mayChangeLimits(t: Task, target: Task): boolean {
  if (t === target || t.group === target.group) return true
  const mine = t.creds
  const its = target.creds
  if (mine.capable(CAP_SYS_RESOURCE)) return true
  return (
    mine.uid === its.euid &&
    mine.uid === its.suid &&
    mine.uid === its.uid &&
    mine.gid === its.egid &&
    mine.gid === its.sgid &&
    mine.gid === its.gid
  )
}

const NEW_LIMIT = Buffer.alloc(16)

/** prlimit64(2). */
export function sysPrlimit64(t: Task): SysRet {
  const pid = t.argI32(0)
  const resource = t.argU32(1)
  const newAddr = t.argPtr(2)
  const oldAddr = t.argPtr(3)
  if (newAddr !== 0 && t.readBytes(newAddr, NEW_LIMIT) < 0) return -EFAULT
  const target = pid === 0 ? t : t.kernel.ids.task(pid)
  if (target === undefined) return -ESRCH
  if (!mayChangeLimits(t, target)) return -EPERM
  if (resource >= RLIM_NLIMITS) return -EINVAL
  const limits = target.group.limits
  const oldSoft = limits.soft[resource]!
  const oldHard = limits.hard[resource]!
  if (newAddr !== 0) {
    NEW_LIMIT.copy(RLIMIT)
    const err = setLimit(t, target, resource)
    if (err < 0) return err
  }
  if (oldAddr === 0) return 0
  putLimit(0, oldSoft)
  putLimit(8, oldHard)
  return t.writeBytes(oldAddr, RLIMIT)
}

const RUSAGE_SELF = 0
const RUSAGE_CHILDREN = -1
const RUSAGE_THREAD = 1

/** getrusage(2). */
export function sysGetrusage(t: Task): SysRet {
  const who = t.argI32(0)
  const { group } = t
  if (who === RUSAGE_CHILDREN)
    return writeRusage(t, t.argPtr(1), group.childUserNs, group.childSystemNs, childrenUsage(group))
  if (who !== RUSAGE_SELF && who !== RUSAGE_THREAD) return -EINVAL
  const { userNs, systemNs } = who === RUSAGE_SELF ? groupCpu(group) : taskCpu(t)
  return writeRusage(t, t.argPtr(1), userNs, systemNs, groupUsage(group))
}

const TMS = Buffer.alloc(32)
const TICK_NS = 1e7

/** times(2). */
export function sysTimes(t: Task): SysRet {
  const addr = t.argPtr(0)
  if (addr !== 0) {
    const own = groupCpu(t.group)
    putU64(TMS, 0, Math.floor(own.userNs / TICK_NS))
    putU64(TMS, 8, Math.floor(own.systemNs / TICK_NS))
    putU64(TMS, 16, Math.floor(t.group.childUserNs / TICK_NS))
    putU64(TMS, 24, Math.floor(t.group.childSystemNs / TICK_NS))
    if (t.writeBytes(addr, TMS) < 0) return -EFAULT
  }
  return Math.floor(t.kernel.now() / TICK_NS)
}
