/**
 * epoll_create(2), epoll_ctl(2), epoll_wait(2) and their variants. The object is sentry/fs/epoll.ts.
 */
import { EBADF, EFAULT, EINTR, EINVAL } from '../sentry/abi/errno.ts'
import { O_CLOEXEC } from '../sentry/abi/fcntl.ts'
import { EP_MAX_EVENTS, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_EVENT_SIZE } from '../sentry/abi/poll.ts'
import { Epoll } from '../sentry/fs/epoll.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import { restoreSavedMask } from '../sentry/kernel/signal.ts'
import { BLOCK, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { EPOLLIN } from '../sentry/vfs/file-description.ts'
import { applyUserMask, firstRun, readTimespecNs } from './wait-args.ts'

const EVENT = new Uint8Array(EPOLL_EVENT_SIZE)
const EVENT_VIEW = new DataView(EVENT.buffer)
/** End of user addresses: access_ok() of a whole event array comes before anything else. */
const TASK_SIZE = 0x7fff_ffff_f000

export function sysEpollCreate(t: Task): SysRet {
  return t.argI32(0) <= 0 ? -EINVAL : create(t, 0)
}
export function sysEpollCreate1(t: Task): SysRet {
  const flags = t.argI32(0)
  return flags & ~O_CLOEXEC ? -EINVAL : create(t, flags)
}
function create(t: Task, flags: number): SysRet {
  return t.fds.install(new Epoll(), (flags & O_CLOEXEC) !== 0, t.group.limits.soft[RLIMIT_NOFILE]!)
}

export function sysEpollCtl(t: Task): SysRet {
  const op = t.argI32(1)
  const fd = t.argI32(2)
  if (op !== EPOLL_CTL_DEL && t.readBytes(t.argPtr(3), EVENT) < 0) return -EFAULT
  const ep = t.fds.get(t.argI32(0))
  if (ep === undefined) return -EBADF
  const file = t.fds.get(fd)
  if (file === undefined) return -EBADF
  if (ep === file || !(ep instanceof Epoll)) return -EINVAL
  const events = EVENT_VIEW.getInt32(0, true)
  const lo = EVENT_VIEW.getUint32(4, true)
  const hi = EVENT_VIEW.getUint32(8, true)
  switch (op) {
    case EPOLL_CTL_ADD:
      return ep.add(file, fd, events, lo, hi)
    case EPOLL_CTL_MOD:
      return ep.modify(file, fd, events, lo, hi)
    case EPOLL_CTL_DEL:
      return ep.delete(file, fd)
    default:
      return -EINVAL
  }
}

/** One run: what is ready, or wait. */
function wait(t: Task): SysRet {
  const max = t.argI32(2)
  if (max <= 0 || max > EP_MAX_EVENTS) return -EINVAL
  const addr = t.argPtr(1)
  if (addr + max * EPOLL_EVENT_SIZE > TASK_SIZE) return -EFAULT
  const ep = t.fds.get(t.argI32(0))
  if (ep === undefined) return -EBADF
  if (!(ep instanceof Epoll)) return -EINVAL
  const n = ep.harvest(t, addr, max)
  if (n !== 0) return n
  if (t.timedOut) return 0
  return t.waitOn(ep.waiters, EPOLLIN, EINTR)
}

const msToNs = (ms: number): number => (ms < 0 ? Number.POSITIVE_INFINITY : ms * 1e6)

export function sysEpollWait(t: Task): SysRet {
  t.deadlineIn(msToNs(t.argI32(3)))
  return wait(t)
}

export function sysEpollPwait(t: Task): SysRet {
  return waitWithMask(t, msToNs(t.argI32(3)))
}

export function sysEpollPwait2(t: Task): SysRet {
  let ns = Number.POSITIVE_INFINITY
  const timeout = t.argPtr(3)
  if (timeout !== 0 && firstRun(t)) {
    ns = readTimespecNs(t, timeout)
    if (ns < 0) return ns
  }
  return waitWithMask(t, ns)
}

function waitWithMask(t: Task, ns: number): SysRet {
  if (firstRun(t)) {
    const bad = applyUserMask(t, t.argPtr(4), t.argPtr(5))
    if (bad < 0) return bad
    t.deadlineIn(ns)
  }
  const ret = wait(t)
  if (ret !== BLOCK && ret !== -EINTR) restoreSavedMask(t)
  return ret
}
