/**
 * Opening, closing and duplicating descriptors (Linux: fs/open.c, fs/file.c).
 */
import { E2BIG, EBADF, EFAULT, EINTR, EINVAL, EMFILE } from '../sentry/abi/errno.ts'
import {
  AT_FDCWD,
  O_ACCMODE,
  O_APPEND,
  O_ASYNC,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_DSYNC,
  O_EXCL,
  O_LARGEFILE,
  O_NOATIME,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_SYNC,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
} from '../sentry/abi/fcntl.ts'
import { F_SEAL_SEAL, TmpfsFileDescription } from '../sentry/fs/tmpfs/file.ts'
import { createShmemFile } from '../sentry/fs/tmpfs/shmem.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import { forgetOpened } from '../sentry/kernel/opened-file.ts'
import { ERESTARTSYS, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { Dentry } from '../sentry/vfs/dentry.ts'
import { openAt } from '../sentry/vfs/open.ts'
import {
  LOOKUP_BENEATH,
  LOOKUP_IN_ROOT,
  LOOKUP_NO_MAGICLINKS,
  LOOKUP_NO_SYMLINKS,
  LOOKUP_NO_XDEV,
} from '../sentry/vfs/path-walk.ts'
import { installFd } from './io-args.ts'
import { statOpened } from './stat.ts'

const VALID_OPEN_FLAGS =
  O_ACCMODE |
  O_CREAT |
  O_EXCL |
  O_NOCTTY |
  O_TRUNC |
  O_APPEND |
  O_NONBLOCK |
  O_SYNC |
  O_DSYNC |
  O_ASYNC |
  O_DIRECT |
  O_LARGEFILE |
  O_DIRECTORY |
  O_NOFOLLOW |
  O_NOATIME |
  O_CLOEXEC |
  O_PATH |
  O_TMPFILE
const RESOLVE_NO_XDEV = 1
const RESOLVE_NO_MAGICLINKS = 2
const RESOLVE_NO_SYMLINKS = 4
const RESOLVE_BENEATH = 8
const RESOLVE_IN_ROOT = 16
const RESOLVE_CACHED = 32
const MAX_HOW = 4096

function open(t: Task, dirfd: number, nameAddr: number, flags: number, mode: number, lookup: number): SysRet {
  const name = t.readPath(nameAddr)
  if (typeof name === 'number') return name
  const reads = (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) === O_RDONLY
  if (!reads) Dentry.changes()
  const file = openAt(t, dirfd, name, flags, mode, lookup)
  if (typeof file === 'number') return file
  const fd = installFd(t, file, (flags & O_CLOEXEC) !== 0)
  if (reads && fd >= 0) statOpened(t, fd, file)
  return fd
}

export function sysOpen(t: Task): SysRet {
  return open(t, AT_FDCWD, t.argPtr(0), t.argI32(1) & VALID_OPEN_FLAGS, t.argU32(2), 0)
}
export function sysOpenat(t: Task): SysRet {
  return open(t, t.argI32(0), t.argPtr(1), t.argI32(2) & VALID_OPEN_FLAGS, t.argU32(3), 0)
}
export function sysCreat(t: Task): SysRet {
  return open(t, AT_FDCWD, t.argPtr(0), O_CREAT | O_WRONLY | O_TRUNC, t.argU32(1), 0)
}

const HOW = new Uint8Array(MAX_HOW)
const HOW_VIEW = new DataView(HOW.buffer)

/** openat2(2): unknown bits are errors here. */
export function sysOpenat2(t: Task): SysRet {
  const size = t.argPtr(3)
  if (size < 24) return -EINVAL
  if (size > MAX_HOW) return -E2BIG
  if (t.readBytes(t.argPtr(2), HOW, size) < 0) return -EFAULT
  for (let i = 24; i < size; i++) if (HOW[i] !== 0) return -E2BIG
  const flags = HOW_VIEW.getUint32(0, true)
  const mode = HOW_VIEW.getUint32(8, true)
  const resolve = HOW_VIEW.getUint32(16, true)
  if (HOW_VIEW.getUint32(4, true) !== 0 || HOW_VIEW.getUint32(12, true) !== 0 || HOW_VIEW.getUint32(20, true) !== 0)
    return -EINVAL
  if ((flags & ~VALID_OPEN_FLAGS) !== 0 || resolve > 63) return -EINVAL
  if ((resolve & RESOLVE_BENEATH) !== 0 && (resolve & RESOLVE_IN_ROOT) !== 0) return -EINVAL
  const creates = (flags & O_CREAT) !== 0 || (flags & O_TMPFILE) === O_TMPFILE
  if (creates ? (mode & ~0o7777) !== 0 : mode !== 0) return -EINVAL
  if ((flags & O_PATH) !== 0 && (flags & ~(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) !== 0) return -EINVAL
  if ((resolve & RESOLVE_CACHED) !== 0 && (creates || (flags & O_TRUNC) !== 0)) return -EINVAL
  const lookup =
    ((resolve & RESOLVE_NO_XDEV) !== 0 ? LOOKUP_NO_XDEV : 0) |
    ((resolve & RESOLVE_NO_MAGICLINKS) !== 0 ? LOOKUP_NO_MAGICLINKS : 0) |
    ((resolve & RESOLVE_NO_SYMLINKS) !== 0 ? LOOKUP_NO_SYMLINKS : 0) |
    ((resolve & RESOLVE_BENEATH) !== 0 ? LOOKUP_BENEATH : 0) |
    ((resolve & RESOLVE_IN_ROOT) !== 0 ? LOOKUP_IN_ROOT : 0)
  return open(t, t.argI32(0), t.argPtr(1), flags, mode, lookup)
}

/** close(2): the descriptor is gone whatever flush says. */
export function sysClose(t: Task): SysRet {
  const fd = t.argI32(0)
  const file = t.fds.remove(fd)
  if (file === undefined) return -EBADF
  if (fd === t.openedFd) forgetOpened(t)
  if ((file.flags & O_ACCMODE) !== O_RDONLY) Dentry.changes()
  const ret = t.fds.drop(t, file)
  return ret === -ERESTARTSYS ? -EINTR : ret
}

const CLOSE_RANGE_UNSHARE = 2
const CLOSE_RANGE_CLOEXEC = 4

/** close_range(2). */
export function sysCloseRange(t: Task): SysRet {
  const first = t.argU32(0)
  const last = t.argU32(1)
  const flags = t.argU32(2)
  if ((flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) !== 0 || first > last) return -EINVAL
  if ((flags & CLOSE_RANGE_UNSHARE) !== 0 && t.fds.shared) {
    const own = t.fds.clone()
    t.fds.unref(t)
    t.fds = own
  }
  const end = Math.min(last, t.fds.size - 1)
  for (let fd = first; fd <= end; fd++) {
    if (t.fds.get(fd) === undefined) continue
    if ((flags & CLOSE_RANGE_CLOEXEC) !== 0) t.fds.setCloexec(fd, true)
    else t.fds.close(t, fd)
  }
  return 0
}

export function sysDup(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  return file === undefined ? -EBADF : installFd(t, file.ref(), false)
}

function dupTo(t: Task, from: number, to: number, cloexec: boolean): SysRet {
  if (to < 0 || to >= t.group.limits.soft[RLIMIT_NOFILE]!) return -EBADF
  const file = t.fds.get(from)
  if (file === undefined) return -EBADF
  t.fds.replace(t, to, file.ref(), cloexec)
  return to
}

/** dup2(2): of a descriptor onto itself it does nothing. */
export function sysDup2(t: Task): SysRet {
  const from = t.argI32(0)
  const to = t.argI32(1)
  if (from === to) return t.fds.get(from) === undefined ? -EBADF : to
  return dupTo(t, from, to, false)
}

export function sysDup3(t: Task): SysRet {
  const from = t.argI32(0)
  const to = t.argI32(1)
  const flags = t.argI32(2)
  if ((flags & ~O_CLOEXEC) !== 0 || from === to) return -EINVAL
  return dupTo(t, from, to, (flags & O_CLOEXEC) !== 0)
}

const MFD_CLOEXEC = 1
const MFD_ALLOW_SEALING = 2
const MFD_NOEXEC_SEAL = 8
const MFD_EXEC = 16
const MFD_NAME_MAX = 249

/** memfd_create(2). */
export function sysMemfdCreate(t: Task): SysRet {
  const flags = t.argU32(1)
  if ((flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC)) !== 0) return -EINVAL
  if ((flags & MFD_EXEC) !== 0 && (flags & MFD_NOEXEC_SEAL) !== 0) return -EINVAL
  const name = t.readString(t.argPtr(0), MFD_NAME_MAX + 1)
  if (typeof name === 'number') return name === -EFAULT ? name : -EINVAL
  if (t.fds.size >= t.group.limits.soft[RLIMIT_NOFILE]! && t.fds.get(t.fds.size - 1) === undefined) return -EMFILE
  const noexec = (flags & MFD_NOEXEC_SEAL) !== 0
  const file = createShmemFile(t, `memfd:${name}`, 0, noexec ? 0o666 : 0o777)
  if (typeof file === 'number') return file
  file.flags |= O_LARGEFILE
  if (file instanceof TmpfsFileDescription) {
    const inode = file.file
    inode.seals = noexec ? 32 : (flags & MFD_ALLOW_SEALING) !== 0 ? 0 : F_SEAL_SEAL
  }
  return installFd(t, file, (flags & MFD_CLOEXEC) !== 0)
}
