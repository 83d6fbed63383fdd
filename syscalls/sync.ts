/**
 * fsync(2) and relatives, and advice about file access.
 */
import { EBADF, EINVAL, EOPNOTSUPP, ESPIPE } from '../sentry/abi/errno.ts'
import { O_PATH } from '../sentry/abi/fcntl.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { S_IFBLK, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG } from '../sentry/vfs/inode.ts'
import type { SuperBlock } from '../sentry/vfs/super-block.ts'

/** sync(2): each super block of the caller's mounts. */
export function sysSync(t: Task): SysRet {
  const done = new Set<SuperBlock>()
  for (const { sb } of t.fs.namespace.mounts) {
    if (done.has(sb)) continue
    done.add(sb)
    sb.sync()
  }
  return 0
}

function fsync(t: Task, dataOnly: boolean): SysRet {
  const file = t.fds.get(t.argI32(0))
  return file === undefined || (file.flags & O_PATH) !== 0 ? -EBADF : file.fsync(dataOnly)
}
export function sysFsync(t: Task): SysRet {
  return fsync(t, false)
}
export function sysFdatasync(t: Task): SysRet {
  return fsync(t, true)
}

export function sysSyncfs(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  return file === undefined || (file.flags & O_PATH) !== 0 ? -EBADF : file.inode.sb.sync()
}

/** sync_file_range(2): the whole file's data, which is more than was asked for. */
export function sysSyncFileRange(t: Task): SysRet {
  const offset = t.argI64(1)
  const bytes = t.argI64(2)
  const flags = t.argU32(3)
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  if ((flags & ~7) !== 0 || offset < 0 || bytes < 0) return -EINVAL
  const type = file.inode.mode & S_IFMT
  if (type !== S_IFREG && type !== S_IFBLK && type !== S_IFDIR && type !== S_IFLNK) return -ESPIPE
  return flags === 0 ? 0 : file.fsync(true)
}

/** readahead(2): the host reads ahead by itself. */
export function sysReadahead(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || !file.readable) return -EBADF
  const type = file.inode.mode & S_IFMT
  return type === S_IFREG || type === S_IFBLK ? 0 : -EINVAL
}

const POSIX_FADV_NOREUSE = 5

/** fadvise64(2). */
export function sysFadvise64(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  if ((file.inode.mode & S_IFMT) === S_IFIFO) return -ESPIPE
  if (t.argI64(2) < 0) return -EINVAL
  const advice = t.argI32(3)
  return advice < 0 || advice > POSIX_FADV_NOREUSE ? -EINVAL : 0
}

/** name_to_handle_at(2): as on a file system without export operations. */
export function sysNameToHandleAt(): SysRet {
  return -EOPNOTSUPP
}
