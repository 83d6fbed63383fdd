/**
 * Exit and ids: exit, exit_group, get*id, process groups and sessions, set_tid_address, robust lists.
 */
import { EACCES, EFAULT, EINVAL, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import { exitGroup, exitTask } from '../sentry/kernel/exit.ts'
import { joinProcessGroup, newProcessGroup, newSession } from '../sentry/kernel/process-tree.ts'
import { exitCallStop } from '../sentry/kernel/ptrace.ts'
import { ptraceAccess } from '../sentry/kernel/ptrace-access.ts'
import { BLOCK, NO_RESULT, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import type { ThreadGroup } from '../sentry/kernel/thread-group.ts'

/** exit(2): this thread. */
export function sysExit(t: Task): SysRet {
  const group = t.group
  const status = group.exitStatus >= 0 ? group.exitStatus : (t.argU32(0) & 0xff) << 8
  if (t.traced !== null && exitCallStop(t, status)) return BLOCK
  exitTask(t, status)
  return NO_RESULT
}

/** exit_group(2). */
export function sysExitGroup(t: Task): SysRet {
  const status = (t.argU32(0) & 0xff) << 8
  if (t.traced !== null && exitCallStop(t, status)) return BLOCK
  exitGroup(t.group, status)
  exitTask(t, t.group.exitStatus)
  return NO_RESULT
}

/** getpid(2). */
export function sysGetpid(t: Task): SysRet {
  return t.group.pid
}
/** gettid(2). */
export function sysGettid(t: Task): SysRet {
  return t.tid
}
/** getppid(2): 0 for a process started from outside. */
export function sysGetppid(t: Task): SysRet {
  return t.group.parent === null ? 0 : t.group.parent.pid
}

/** The process that `pid` names (0: the caller's), also by a thread's id. */
function find(t: Task, pid: number): ThreadGroup | undefined {
  if (pid === 0) return t.group
  return t.kernel.ids.group(pid) ?? t.kernel.ids.task(pid)?.group
}

/** getpgid(2). */
export function sysGetpgid(t: Task): SysRet {
  const group = find(t, t.argI32(0))
  return group === undefined ? -ESRCH : group.pgrp.pgid
}
/** getpgrp(2). */
export function sysGetpgrp(t: Task): SysRet {
  return t.group.pgrp.pgid
}
/** getsid(2). */
export function sysGetsid(t: Task): SysRet {
  const group = find(t, t.argI32(0))
  return group === undefined ? -ESRCH : group.pgrp.session.sid
}

/** setpgid(2). */
export function sysSetpgid(t: Task): SysRet {
  const pid = t.argI32(0) === 0 ? t.group.pid : t.argI32(0)
  const pgid = t.argI32(1) === 0 ? pid : t.argI32(1)
  if (pgid < 0) return -EINVAL
  const ids = t.kernel.ids
  const group = ids.group(pid)
  if (group === undefined) return ids.task(pid) === undefined ? -ESRCH : -EINVAL
  if (group.parent === t.group) {
    if (group.pgrp.session !== t.group.pgrp.session) return -EPERM
    if (group.execed) return -EACCES
  } else if (group !== t.group) return -ESRCH
  const session = group.pgrp.session
  if (session.leader === group) return -EPERM
  let pgrp = ids.pgrp(pgid)
  if (pgid !== pid && (pgrp === undefined || pgrp.session !== t.group.pgrp.session)) return -EPERM
  if (pgrp === undefined) pgrp = newProcessGroup(t.kernel, group, session)
  else joinProcessGroup(t.kernel, group, pgrp)
  return 0
}

/** setsid(2). */
export function sysSetsid(t: Task): SysRet {
  const group = t.group
  if (group.pgrp.session.leader === group || t.kernel.ids.pgrp(group.pid) !== undefined) return -EPERM
  return newSession(t.kernel, group).sid
}

/** set_tid_address(2). */
export function sysSetTidAddress(t: Task): SysRet {
  t.clearChildTid = t.argPtr(0)
  return t.tid
}

const ROBUST_HEAD_SIZE = 24

/** set_robust_list(2). */
export function sysSetRobustList(t: Task): SysRet {
  if (t.argPtr(1) !== ROBUST_HEAD_SIZE) return -EINVAL
  t.robustList = t.argPtr(0)
  return 0
}

/** get_robust_list(2). */
export function sysGetRobustList(t: Task): SysRet {
  const pid = t.argI32(0)
  const target = pid === 0 ? t : t.kernel.ids.task(pid)
  if (target === undefined) return -ESRCH
  if (ptraceAccess(t, target, false) < 0) return -EPERM
  if (t.writeU64(t.argPtr(2), ROBUST_HEAD_SIZE) < 0) return -EFAULT
  return t.writeU64(t.argPtr(1), target.robustList)
}
