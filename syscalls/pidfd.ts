/**
 * pidfd_open(2), pidfd_getfd(2). pidfd_send_signal is with the signal calls.
 */
import { EBADF, EINVAL, ESRCH } from '../sentry/abi/errno.ts'
import { O_NONBLOCK } from '../sentry/abi/fcntl.ts'
import { PidFd } from '../sentry/fs/pidfd.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import { ptraceAccess } from '../sentry/kernel/ptrace-access.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

export function sysPidfdOpen(t: Task): SysRet {
  const pid = t.argI32(0)
  const flags = t.argU32(1)
  if (flags & ~O_NONBLOCK || pid <= 0) return -EINVAL
  const group = t.kernel.ids.group(pid)
  // A thread that leads no group is no process.
  if (group === undefined) return t.kernel.ids.task(pid) === undefined ? -ESRCH : -EINVAL
  return t.fds.install(new PidFd(group, flags), true, t.group.limits.soft[RLIMIT_NOFILE]!)
}

export function sysPidfdGetfd(t: Task): SysRet {
  if (t.argU32(2) !== 0) return -EINVAL
  const pidfd = t.fds.get(t.argI32(0))
  if (!(pidfd instanceof PidFd)) return -EBADF
  const target = pidfd.group
  if (target.zombie) return -ESRCH
  const denied = ptraceAccess(t, target.leader, false)
  if (denied < 0) return denied
  const file = target.leader.fds.get(t.argI32(1))
  if (file === undefined) return -EBADF
  return t.fds.install(file.ref(), true, t.group.limits.soft[RLIMIT_NOFILE]!)
}
