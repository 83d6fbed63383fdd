/**
 * sched(7), nice values and I/O priorities. The host schedules: CPU masks are passed on to it, the rest is
 * checked, remembered and read back (sentry/kernel/sched.ts).
 */
import { E2BIG, EACCES, EFAULT, EINVAL, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import { CAP_SYS_ADMIN, CAP_SYS_NICE, type Credentials } from '../sentry/kernel/credentials.ts'
import { hostCpuMask, pinHostThread } from '../sentry/kernel/host-proc.ts'
import { RLIMIT_NICE, RLIMIT_RTPRIO } from '../sentry/kernel/limits.ts'
import {
  isRealtime,
  SCHED_BATCH,
  SCHED_DEADLINE,
  SCHED_EXT,
  SCHED_FIFO,
  SCHED_IDLE,
  SCHED_NORMAL,
  SCHED_RESET_ON_FORK,
  SCHED_RR,
} from '../sentry/kernel/sched.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

/** The task of a pid argument (0: the caller), or undefined. */
const find = (t: Task, pid: number): Task | undefined => (pid === 0 ? t : t.kernel.ids.task(pid))

const sameOwner = (mine: Credentials, its: Credentials): boolean => mine.euid === its.euid || mine.euid === its.uid

const mayNice = (t: Task, target: Task, nice: number): boolean =>
  20 - nice <= target.group.limits.soft[RLIMIT_NICE]! || t.creds.capable(CAP_SYS_NICE)

/** sched_yield(2). */
export function sysSchedYield(_t: Task): SysRet {
  return 0
}

/** Does what sched_setscheduler, sched_setparam and sched_setattr share. `nice` NaN: unchanged. */
function setScheduler(t: Task, target: Task, policy: number, priority: number, nice: number, reset: boolean): SysRet {
  if (policy === SCHED_DEADLINE) return t.creds.capable(CAP_SYS_NICE) ? -EINVAL : -EPERM
  if (policy !== SCHED_NORMAL && policy !== SCHED_BATCH && policy !== SCHED_IDLE && !isRealtime(policy)) return -EINVAL
  if (priority < 0 || priority > 99 || isRealtime(policy) !== (priority !== 0)) return -EINVAL
  const sched = target.sched
  if (!t.creds.capable(CAP_SYS_NICE)) {
    if (!isRealtime(policy) && nice < sched.nice && !mayNice(t, target, nice)) return -EPERM
    if (isRealtime(policy)) {
      const limit = target.group.limits.soft[RLIMIT_RTPRIO]!
      if (policy !== sched.policy && limit === 0) return -EPERM
      if (priority > sched.priority && priority > limit) return -EPERM
    }
    if (sched.policy === SCHED_IDLE && policy !== SCHED_IDLE && !mayNice(t, target, sched.nice)) return -EPERM
    if (!sameOwner(t.creds, target.creds)) return -EPERM
    if (sched.resetOnFork && !reset) return -EPERM
  }
  sched.policy = policy
  sched.priority = priority
  sched.resetOnFork = reset
  if (!Number.isNaN(nice) && !isRealtime(policy)) sched.nice = Math.max(-20, Math.min(19, nice))
  return 0
}

/** sched_setscheduler(2). */
export function sysSchedSetscheduler(t: Task): SysRet {
  const pid = t.argI32(0)
  const policy = t.argI32(1)
  const param = t.argPtr(2)
  if (policy < 0 || param === 0 || pid < 0) return -EINVAL
  const priority = t.readU32(param)
  if (priority < 0) return -EFAULT
  const target = find(t, pid)
  if (target === undefined) return -ESRCH
  return setScheduler(
    t,
    target,
    policy & ~SCHED_RESET_ON_FORK,
    priority,
    Number.NaN,
    (policy & SCHED_RESET_ON_FORK) !== 0,
  )
}

/** sched_setparam(2). */
export function sysSchedSetparam(t: Task): SysRet {
  const pid = t.argI32(0)
  const param = t.argPtr(1)
  if (param === 0 || pid < 0) return -EINVAL
  const priority = t.readU32(param)
  if (priority < 0) return -EFAULT
  const target = find(t, pid)
  if (target === undefined) return -ESRCH
  return setScheduler(t, target, target.sched.policy, priority, Number.NaN, target.sched.resetOnFork)
}

/** sched_getscheduler(2). */
export function sysSchedGetscheduler(t: Task): SysRet {
  const pid = t.argI32(0)
  if (pid < 0) return -EINVAL
  const target = find(t, pid)
  if (target === undefined) return -ESRCH
  return target.sched.policy | (target.sched.resetOnFork ? SCHED_RESET_ON_FORK : 0)
}

/** sched_getparam(2). */
export function sysSchedGetparam(t: Task): SysRet {
  const pid = t.argI32(0)
  const param = t.argPtr(1)
  if (param === 0 || pid < 0) return -EINVAL
  const target = find(t, pid)
  return target === undefined ? -ESRCH : t.writeU32(param, target.sched.priority)
}

/** sched_get_priority_max(2). */
export function sysSchedGetPriorityMax(t: Task): SysRet {
  const policy = t.argI32(0)
  if (policy === SCHED_FIFO || policy === SCHED_RR) return 99
  return policy >= 0 && policy <= SCHED_EXT && policy !== 4 ? 0 : -EINVAL
}

/** sched_get_priority_min(2). */
export function sysSchedGetPriorityMin(t: Task): SysRet {
  const policy = t.argI32(0)
  if (policy === SCHED_FIFO || policy === SCHED_RR) return 1
  return policy >= 0 && policy <= SCHED_EXT && policy !== 4 ? 0 : -EINVAL
}

const TIMESPEC = Buffer.alloc(16)
const RR_TIMESLICE_NS = 100_000_000
const FAIR_SLICE_NS = 4_000_000

/** sched_rr_get_interval(2). */
export function sysSchedRrGetInterval(t: Task): SysRet {
  const pid = t.argI32(0)
  if (pid < 0) return -EINVAL
  const target = find(t, pid)
  if (target === undefined) return -ESRCH
  const policy = target.sched.policy
  TIMESPEC.fill(0)
  TIMESPEC.writeUInt32LE(policy === SCHED_RR ? RR_TIMESLICE_NS : policy === SCHED_FIFO ? 0 : FAIR_SLICE_NS, 8)
  return t.writeBytes(t.argPtr(1), TIMESPEC)
}

const ATTR_SIZE_VER0 = 48
const ATTR_SIZE_VER1 = 56
const ATTR = Buffer.alloc(4096)
const SCHED_FLAG_RESET_ON_FORK = 1
const SCHED_FLAG_KEEP_POLICY = 8
const SCHED_FLAG_KEEP_PARAMS = 0x10
const SCHED_FLAG_ALL = 0x7f

/** sched_setattr(2). */
export function sysSchedSetattr(t: Task): SysRet {
  const pid = t.argI32(0)
  const addr = t.argPtr(1)
  if (addr === 0 || pid < 0 || t.argU32(2) !== 0) return -EINVAL
  let size = t.readU32(addr)
  if (size < 0) return -EFAULT
  if (size === 0) size = ATTR_SIZE_VER0
  if (size < ATTR_SIZE_VER0 || size > ATTR.length) return tooBig(t, addr)
  ATTR.fill(0, 0, ATTR_SIZE_VER1)
  if (t.readBytes(addr, ATTR, size) < 0) return -EFAULT
  for (let i = ATTR_SIZE_VER1; i < size; i++) if (ATTR[i] !== 0) return tooBig(t, addr)
  const flags = ATTR.readUInt32LE(8)
  if ((flags & ~SCHED_FLAG_ALL) !== 0 || ATTR.readUInt32LE(12) !== 0) return -EINVAL
  const wanted = ATTR.readInt32LE(4)
  if (wanted < 0) return -EINVAL
  const target = find(t, pid)
  if (target === undefined) return -ESRCH
  const keepParams = (flags & SCHED_FLAG_KEEP_PARAMS) !== 0
  const policy = (flags & SCHED_FLAG_KEEP_POLICY) !== 0 ? target.sched.policy : wanted
  const priority = keepParams ? target.sched.priority : ATTR.readUInt32LE(20)
  const nice = keepParams ? target.sched.nice : Math.max(-20, Math.min(19, ATTR.readInt32LE(16)))
  return setScheduler(t, target, policy, priority, nice, (flags & SCHED_FLAG_RESET_ON_FORK) !== 0)
}

/** sched_copy_attr: tells the caller how large the structure is. */
function tooBig(t: Task, addr: number): SysRet {
  return t.writeU32(addr, ATTR_SIZE_VER1) < 0 ? -EFAULT : -E2BIG
}

/** sched_getattr(2). */
export function sysSchedGetattr(t: Task): SysRet {
  const pid = t.argI32(0)
  const addr = t.argPtr(1)
  const room = t.argU32(2)
  if (addr === 0 || pid < 0 || room > 4096 || room < ATTR_SIZE_VER0 || t.argU32(3) !== 0) return -EINVAL
  const target = find(t, pid)
  if (target === undefined) return -ESRCH
  const size = Math.min(room, ATTR_SIZE_VER1)
  ATTR.fill(0, 0, ATTR_SIZE_VER1)
  ATTR.writeUInt32LE(size, 0)
  ATTR.writeUInt32LE(target.sched.policy, 4)
  ATTR.writeUInt32LE(target.sched.resetOnFork ? SCHED_FLAG_RESET_ON_FORK : 0, 8)
  if (isRealtime(target.sched.policy)) ATTR.writeUInt32LE(target.sched.priority, 20)
  else ATTR.writeInt32LE(target.sched.nice, 16)
  ATTR.writeUInt32LE(size >= ATTR_SIZE_VER1 ? 1024 : 0, 52)
  return t.writeBytes(addr, ATTR, size)
}

/** sched_setaffinity(2). */
export function sysSchedSetaffinity(t: Task): SysRet {
  const allowed = hostCpuMask()
  const len = Math.min(t.argU32(1), allowed.length)
  const mask = new Uint8Array(allowed.length)
  if (t.copyIn(t.argPtr(2), mask, 0, len) !== len) return -EFAULT
  const target = find(t, t.argI32(0))
  if (target === undefined) return -ESRCH
  if (!sameOwner(t.creds, target.creds) && !t.creds.capable(CAP_SYS_NICE)) return -EPERM
  let any = 0
  for (let i = 0; i < mask.length; i++) any |= mask[i]! &= allowed[i]!
  if (any === 0) return -EINVAL
  target.sched.affinity = mask
  // The host schedules guest threads; where it does not let us pin one, the mask is only remembered.
  pinHostThread(target.thread.hostTid, mask)
  return 0
}

/** sched_getaffinity(2): returns the bytes that were stored. */
export function sysSchedGetaffinity(t: Task): SysRet {
  const len = t.argU32(1)
  const target = find(t, t.argI32(0))
  const mask = target?.sched.affinity ?? hostCpuMask()
  if (len * 8 < highestCpu(hostCpuMask()) + 1 || len % 8 !== 0) return -EINVAL
  if (target === undefined) return -ESRCH
  const n = Math.min(len, mask.length)
  return t.writeBytes(t.argPtr(2), mask, n) < 0 ? -EFAULT : n
}

function highestCpu(mask: Uint8Array): number {
  for (let i = mask.length * 8 - 1; i > 0; i--) if ((mask[i >> 3]! & (1 << (i & 7))) !== 0) return i
  return 0
}

const PRIO_PROCESS = 0
const PRIO_PGRP = 1
const PRIO_USER = 2

/** The tasks that (which, who) of setpriority(2) and ioprio_set(2) mean; null for a bad `which`. */
function selected(t: Task, which: number, who: number): Task[] | null {
  const ids = t.kernel.ids
  if (which === PRIO_PROCESS) {
    const target = find(t, who)
    return target === undefined ? [] : [target]
  }
  if (which === PRIO_PGRP) {
    const group = who === 0 ? t.group.pgrp : ids.pgrp(who)
    return group === undefined ? [] : group.members.flatMap((g) => g.tasks)
  }
  if (which === PRIO_USER) {
    const uid = who === 0 ? t.creds.uid : who >>> 0
    return [...ids.tasks()].filter((x) => x.creds.uid === uid)
  }
  return null
}

/** getpriority(2): the kernel's answer is 20 − nice, so that it is never negative. */
export function sysGetpriority(t: Task): SysRet {
  const tasks = selected(t, t.argI32(0), t.argI32(1))
  if (tasks === null) return -EINVAL
  let best = -ESRCH
  for (const x of tasks) best = Math.max(best, 20 - x.sched.nice)
  return best
}

/** setpriority(2). */
export function sysSetpriority(t: Task): SysRet {
  const tasks = selected(t, t.argI32(0), t.argI32(1))
  if (tasks === null) return -EINVAL
  const nice = Math.max(-20, Math.min(19, t.argI32(2)))
  let result: number = -ESRCH
  for (const x of tasks) {
    if (x.creds.uid !== t.creds.euid && x.creds.euid !== t.creds.euid && !t.creds.capable(CAP_SYS_NICE)) {
      result = -EPERM
    } else if (nice < x.sched.nice && !mayNice(t, x, nice)) {
      result = -EACCES
    } else {
      if (result === -ESRCH) result = 0
      x.sched.nice = nice
    }
  }
  return result
}

const IOPRIO_CLASS_NONE = 0
const IOPRIO_CLASS_RT = 1
const IOPRIO_CLASS_BE = 2
const IOPRIO_CLASS_IDLE = 3

/** ioprio_set(2): `which` counts from one. */
export function sysIoprioSet(t: Task): SysRet {
  const ioprio = t.argI32(2)
  const ioClass = (ioprio >> 13) & 7
  const level = ioprio & 7
  if (ioClass === IOPRIO_CLASS_RT) {
    if (!t.creds.capable(CAP_SYS_ADMIN) && !t.creds.capable(CAP_SYS_NICE)) return -EPERM
  } else if (ioClass === IOPRIO_CLASS_NONE) {
    if (level !== 0) return -EINVAL
  } else if (ioClass !== IOPRIO_CLASS_BE && ioClass !== IOPRIO_CLASS_IDLE) {
    return -EINVAL
  }
  const tasks = selected(t, t.argI32(0) - 1, t.argI32(1))
  if (tasks === null) return -EINVAL
  let result: number = -ESRCH
  for (const x of tasks) {
    if (x.creds.uid !== t.creds.euid && x.creds.uid !== t.creds.uid && !t.creds.capable(CAP_SYS_NICE)) return -EPERM
    x.sched.ioprio = ioprio
    result = 0
  }
  return result
}

/** ioprio_get(2): the best of the selected ones. */
export function sysIoprioGet(t: Task): SysRet {
  const tasks = selected(t, t.argI32(0) - 1, t.argI32(1))
  if (tasks === null) return -EINVAL
  let best: number = -ESRCH
  for (const x of tasks) {
    const value = x.sched.ioprio
    if (best < 0 || value >> 13 === 0 || (best >> 13 !== 0 && value < best))
      best = best < 0 || value !== 0 ? value : best
  }
  return best
}
