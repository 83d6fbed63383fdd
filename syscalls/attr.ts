/**
 * chmod(2), chown(2), utime(2) families, truncate(2) and fallocate(2) (Linux: fs/open.c, fs/utimes.c).
 */
import { EBADF, EFAULT, EFBIG, EINVAL, EISDIR, ENODEV, EOPNOTSUPP, EPERM, ESPIPE } from '../sentry/abi/errno.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_APPEND, O_PATH } from '../sentry/abi/fcntl.ts'
import { SIGXFSZ } from '../sentry/abi/signal.ts'
import { RLIMIT_FSIZE } from '../sentry/kernel/limits.ts'
import { sendKernelSignal } from '../sentry/kernel/signal.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import {
  changeMode,
  changeOwner,
  changeTimes,
  mayTruncate,
  truncateInode,
  UTIME_NOW,
  UTIME_OMIT,
} from '../sentry/vfs/attributes.ts'
import { Dentry } from '../sentry/vfs/dentry.ts'
import type { FileDescription } from '../sentry/vfs/file-description.ts'
import { fsnotify, IN_MODIFY } from '../sentry/vfs/fsnotify.ts'
import { S_IFBLK, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG } from '../sentry/vfs/inode.ts'
import { breakLeases } from '../sentry/vfs/leases.ts'
import type { Path } from '../sentry/vfs/path.ts'
import { LOOKUP_EMPTY, LOOKUP_FOLLOW, walkAt } from '../sentry/vfs/path-walk.ts'
import { wantWrite } from '../sentry/vfs/permission.ts'

/** The object of a path call that changes attributes, on a writable mount. */
function target(t: Task, dirfd: number, nameAddr: number, flags: number): Path | number {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) !== 0) return -EINVAL
  const name = t.readPath(nameAddr)
  if (typeof name === 'number') return name
  const lookup =
    ((flags & AT_SYMLINK_NOFOLLOW) === 0 ? LOOKUP_FOLLOW : 0) | ((flags & AT_EMPTY_PATH) !== 0 ? LOOKUP_EMPTY : 0)
  if (name.length === 0 && dirfd !== AT_FDCWD && (flags & AT_EMPTY_PATH) !== 0) return openPathOf(t, dirfd)
  const path = walkAt(t, dirfd, name, lookup)
  if (typeof path === 'number') return path
  const err = wantWrite(path.mount)
  return err !== 0 ? err : path
}

function openPathOf(t: Task, fd: number): Path | number {
  const path = t.fds.get(fd)?.path
  if (path == null) return -EBADF
  const err = wantWrite(path.mount)
  return err !== 0 ? err : path
}

/** The dentry of an open file; objects without a name (pipes, sockets) get one for the occasion. */
function dentryOf(file: FileDescription): Dentry | number {
  if (file.path === null) return new Dentry(file.inode.sb, null, '', file.inode)
  const err = wantWrite(file.path.mount)
  return err !== 0 ? err : file.path.dentry
}
function openDentry(t: Task, fd: number): Dentry | number {
  const file = t.fds.get(fd)
  return file === undefined || (file.flags & O_PATH) !== 0 ? -EBADF : dentryOf(file)
}

function chmod(t: Task, dirfd: number, nameAddr: number, mode: number, flags: number): SysRet {
  const path = target(t, dirfd, nameAddr, flags)
  return typeof path === 'number' ? path : changeMode(t, path.dentry, mode)
}
export function sysChmod(t: Task): SysRet {
  return chmod(t, AT_FDCWD, t.argPtr(0), t.argU32(1), 0)
}
export function sysFchmodat(t: Task): SysRet {
  return chmod(t, t.argI32(0), t.argPtr(1), t.argU32(2), 0)
}
export function sysFchmodat2(t: Task): SysRet {
  return chmod(t, t.argI32(0), t.argPtr(1), t.argU32(2), t.argI32(3))
}
export function sysFchmod(t: Task): SysRet {
  const dentry = openDentry(t, t.argI32(0))
  return typeof dentry === 'number' ? dentry : changeMode(t, dentry, t.argU32(1))
}

function chown(t: Task, dirfd: number, nameAddr: number, uid: number, gid: number, flags: number): SysRet {
  const path = target(t, dirfd, nameAddr, flags)
  return typeof path === 'number' ? path : changeOwner(t, path.dentry, uid, gid)
}
export function sysChown(t: Task): SysRet {
  return chown(t, AT_FDCWD, t.argPtr(0), t.argU32(1), t.argU32(2), 0)
}
export function sysLchown(t: Task): SysRet {
  return chown(t, AT_FDCWD, t.argPtr(0), t.argU32(1), t.argU32(2), AT_SYMLINK_NOFOLLOW)
}
export function sysFchownat(t: Task): SysRet {
  return chown(t, t.argI32(0), t.argPtr(1), t.argU32(2), t.argU32(3), t.argI32(4))
}
export function sysFchown(t: Task): SysRet {
  const dentry = openDentry(t, t.argI32(0))
  return typeof dentry === 'number' ? dentry : changeOwner(t, dentry, t.argU32(1), t.argU32(2))
}

const TIMES = new Uint8Array(32)
const TIMES_VIEW = new DataView(TIMES.buffer)
const TWO32 = 0x1_0000_0000
const i64 = (at: number): number => TIMES_VIEW.getUint32(at, true) + TIMES_VIEW.getInt32(at + 4, true) * TWO32
const validNsec = (n: number): boolean => (n >= 0 && n < 1e9) || n === UTIME_NOW || n === UTIME_OMIT

/** Times of `nameAddr` (0: of the descriptor itself). `now`: no times given. */
function utimes(
  t: Task,
  dirfd: number,
  nameAddr: number,
  flags: number,
  now: boolean,
  aSec: number,
  aNsec: number,
  mSec: number,
  mNsec: number,
): SysRet {
  if (nameAddr === 0 && dirfd !== AT_FDCWD) {
    if (flags !== 0) return -EINVAL
    const dentry = openDentry(t, dirfd)
    return typeof dentry === 'number' ? dentry : changeTimes(t, dentry, now, aSec, aNsec, mSec, mNsec)
  }
  const path = target(t, dirfd, nameAddr, flags)
  return typeof path === 'number' ? path : changeTimes(t, path.dentry, now, aSec, aNsec, mSec, mNsec)
}

export function sysUtimensat(t: Task): SysRet {
  const addr = t.argPtr(2)
  if (addr === 0) return utimes(t, t.argI32(0), t.argPtr(1), t.argI32(3), true, 0, 0, 0, 0)
  if (t.readBytes(addr, TIMES) < 0) return -EFAULT
  const aNsec = i64(8)
  const mNsec = i64(24)
  // Nothing to change: not even the path is looked at.
  if (aNsec === UTIME_OMIT && mNsec === UTIME_OMIT) return 0
  if (!validNsec(aNsec) || !validNsec(mNsec)) return -EINVAL
  return utimes(t, t.argI32(0), t.argPtr(1), t.argI32(3), false, i64(0), aNsec, i64(16), mNsec)
}

/** struct timeval[2]. */
function utimevals(t: Task, dirfd: number, nameAddr: number, addr: number): SysRet {
  if (addr === 0) return utimes(t, dirfd, nameAddr, 0, true, 0, 0, 0, 0)
  if (t.readBytes(addr, TIMES) < 0) return -EFAULT
  const a = i64(8)
  const m = i64(24)
  if (a < 0 || a >= 1e6 || m < 0 || m >= 1e6) return -EINVAL
  return utimes(t, dirfd, nameAddr, 0, false, i64(0), a * 1000, i64(16), m * 1000)
}
export function sysUtimes(t: Task): SysRet {
  return utimevals(t, AT_FDCWD, t.argPtr(0), t.argPtr(1))
}
export function sysFutimesat(t: Task): SysRet {
  return utimevals(t, t.argI32(0), t.argPtr(1), t.argPtr(2))
}
export function sysUtime(t: Task): SysRet {
  const addr = t.argPtr(1)
  if (addr === 0) return utimes(t, AT_FDCWD, t.argPtr(0), 0, true, 0, 0, 0, 0)
  if (t.readBytes(addr, TIMES, 16) < 0) return -EFAULT
  return utimes(t, AT_FDCWD, t.argPtr(0), 0, false, i64(0), 0, i64(8), 0)
}

/** RLIMIT_FSIZE for a new size. */
function sizeAllowed(t: Task, size: number, old: number): number {
  if (size <= old || size <= t.group.limits.soft[RLIMIT_FSIZE]!) return 0
  sendKernelSignal(t, SIGXFSZ)
  return -EFBIG
}

export function sysTruncate(t: Task): SysRet {
  const size = t.argI64(1)
  if (size < 0) return -EINVAL
  const name = t.readPath(t.argPtr(0))
  if (typeof name === 'number') return name
  const path = walkAt(t, AT_FDCWD, name, LOOKUP_FOLLOW)
  if (typeof path === 'number') return path
  const inode = path.inode
  let err = (inode.mode & S_IFMT) === S_IFREG ? wantWrite(path.mount) : 0
  if (err === 0) err = mayTruncate(t, inode)
  if (err === 0) err = sizeAllowed(t, size, inode.size)
  if (err === 0 && inode.leases !== null) err = breakLeases(t, inode, true, false)
  return err !== 0 ? err : truncateInode(t, path.dentry, size)
}

export function sysFtruncate(t: Task): SysRet {
  const size = t.argI64(1)
  if (size < 0) return -EINVAL
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  if ((file.flags & O_PATH) !== 0) return -EBADF
  const inode = file.inode
  if ((inode.mode & S_IFMT) !== S_IFREG || !file.writable) return -EINVAL
  const err = sizeAllowed(t, size, inode.size)
  if (err !== 0) return err
  const dentry = file.path === null ? new Dentry(inode.sb, null, '', inode) : file.path.dentry
  return truncateInode(t, dentry, size)
}

const FALLOC_KEEP_SIZE = 1
const FALLOC_PUNCH_HOLE = 2
const FALLOC_COLLAPSE_RANGE = 8
const FALLOC_ZERO_RANGE = 16
const FALLOC_INSERT_RANGE = 32
const FALLOC_UNSHARE_RANGE = 64
const FALLOC_ALL = 0x7b

/** fallocate(2). */
export function sysFallocate(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  const mode = t.argI32(1)
  const offset = t.argI64(2)
  const len = t.argI64(3)
  if (offset < 0 || len <= 0) return -EINVAL
  if ((mode & ~FALLOC_ALL) !== 0) return -EOPNOTSUPP
  if ((mode & FALLOC_PUNCH_HOLE) !== 0 && (mode & FALLOC_ZERO_RANGE) !== 0) return -EOPNOTSUPP
  if ((mode & FALLOC_PUNCH_HOLE) !== 0 && (mode & FALLOC_KEEP_SIZE) === 0) return -EOPNOTSUPP
  if ((mode & FALLOC_COLLAPSE_RANGE) !== 0 && (mode & ~FALLOC_COLLAPSE_RANGE) !== 0) return -EINVAL
  if ((mode & FALLOC_INSERT_RANGE) !== 0 && (mode & ~FALLOC_INSERT_RANGE) !== 0) return -EINVAL
  if ((mode & FALLOC_UNSHARE_RANGE) !== 0 && (mode & ~(FALLOC_UNSHARE_RANGE | FALLOC_KEEP_SIZE)) !== 0) return -EINVAL
  if (!file.writable) return -EBADF
  if ((mode & ~FALLOC_KEEP_SIZE) !== 0 && (file.flags & O_APPEND) !== 0) return -EPERM
  const inode = file.inode
  switch (inode.mode & S_IFMT) {
    case S_IFIFO:
      return -ESPIPE
    case S_IFDIR:
      return -EISDIR
    case S_IFREG:
    case S_IFBLK:
      break
    default:
      return -ENODEV
  }
  if (offset + len > 2 ** 63) return -EFBIG
  if ((mode & FALLOC_KEEP_SIZE) === 0) {
    const err = sizeAllowed(t, offset + len, inode.size)
    if (err !== 0) return err
  }
  const ret = file.fallocate(mode, offset, len)
  if (ret === 0 && file.path !== null) fsnotify(file.path.dentry, IN_MODIFY)
  return ret
}
