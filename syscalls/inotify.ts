/**
 * inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2).
 */
import { EBADF, EINVAL, EMFILE } from '../sentry/abi/errno.ts'
import { AT_FDCWD, O_CLOEXEC, O_NONBLOCK } from '../sentry/abi/fcntl.ts'
import {
  IN_ALL_EVENTS,
  IN_DONT_FOLLOW,
  IN_EXCL_UNLINK,
  IN_IGNORED,
  IN_MASK_ADD,
  IN_MASK_CREATE,
  IN_ONESHOT,
  IN_ONLYDIR,
  IN_Q_OVERFLOW,
  Inotify,
  instances,
  MAX_INSTANCES,
} from '../sentry/fs/inotify.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { IN_ISDIR, IN_UNMOUNT } from '../sentry/vfs/fsnotify.ts'
import { LOOKUP_DIRECTORY, LOOKUP_FOLLOW, walkAt } from '../sentry/vfs/path-walk.ts'
import { MAY_READ, permission } from '../sentry/vfs/permission.ts'

const ALL_BITS =
  IN_ALL_EVENTS |
  IN_UNMOUNT |
  IN_Q_OVERFLOW |
  IN_IGNORED |
  IN_ONLYDIR |
  IN_DONT_FOLLOW |
  IN_EXCL_UNLINK |
  IN_MASK_ADD |
  IN_ISDIR |
  IN_ONESHOT |
  IN_MASK_CREATE

export function sysInotifyInit(t: Task): SysRet {
  return create(t, 0)
}
export function sysInotifyInit1(t: Task): SysRet {
  return create(t, t.argI32(0))
}
function create(t: Task, flags: number): SysRet {
  if (flags & ~(O_CLOEXEC | O_NONBLOCK)) return -EINVAL
  if (instances.count >= MAX_INSTANCES) return -EMFILE
  return t.fds.install(new Inotify(flags), (flags & O_CLOEXEC) !== 0, t.group.limits.soft[RLIMIT_NOFILE]!)
}

export function sysInotifyAddWatch(t: Task): SysRet {
  const mask = t.argU32(2)
  if ((mask & ALL_BITS) === 0) return -EINVAL
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  if (mask & IN_MASK_ADD && mask & IN_MASK_CREATE) return -EINVAL
  if (!(file instanceof Inotify)) return -EINVAL
  const name = t.readPath(t.argPtr(1))
  if (typeof name === 'number') return name
  const flags = (mask & IN_DONT_FOLLOW ? 0 : LOOKUP_FOLLOW) | (mask & IN_ONLYDIR ? LOOKUP_DIRECTORY : 0)
  const path = walkAt(t, AT_FDCWD, name, flags)
  if (typeof path === 'number') return path
  const denied = permission(t, path.inode, MAY_READ)
  return denied < 0 ? denied : file.addWatch(path.dentry, mask)
}

export function sysInotifyRmWatch(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  return file instanceof Inotify ? file.removeWatch(t.argI32(1)) : -EINVAL
}
