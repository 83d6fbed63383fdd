/**
 * Requests that change the tree: create, tmpfile, mkdir, mknod, symlink, link, unlink, rmdir, rename, setattr. The
 * sentry has decided that the guest may; here only what the mount and the wire allow is checked.
 */
import {
  AT_EMPTY_PATH,
  AT_NO_AUTOMOUNT,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  closeFd,
  fchmod,
  fchmodat,
  fchmodat2,
  fchown,
  fchownat,
  ftruncateFd,
  linkat,
  mkdirat,
  mknodat,
  O_CREAT,
  O_EXCL,
  O_NOCTTY,
  O_NONBLOCK,
  O_RDWR,
  O_TMPFILE,
  O_WRONLY,
  renameat2,
  STATX_MNT_ID,
  STATX_OFFSET,
  symlinkat,
  unlinkat,
  utimensat,
} from '../native/host-files.ts'
import { ATTR_ALL, ATTR_ATIME, ATTR_GID, ATTR_MODE, ATTR_MTIME, ATTR_SIZE, ATTR_UID } from './protocol.ts'
import {
  EINVAL,
  EISDIR,
  ELOOP,
  ENOSYS,
  EPERM,
  EXDEV,
  type Request,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  SCRATCH_DATA,
  SCRATCH_STAT,
} from './request.ts'
import type { Place } from './resolve.ts'

const NOFOLLOW = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT
const PERMISSIONS = 0o7777
const UNCHANGED = 0xffffffff
const RENAME_FLAGS_ALLOWED = 3 /* RENAME_NOREPLACE | RENAME_EXCHANGE */
const UTIME_OMIT = 0x3ffffffe

/** chmod of a name that is not followed. */
function chmodName(q: Request, dirfd: number, name: number, mode: number): number {
  const result = fchmodat2(dirfd, name, mode, AT_SYMLINK_NOFOLLOW)
  if (result !== -ENOSYS) return result
  // Before Linux 6.6 only the following kind exists. A link that slips in after the check leads to another file inside
  // our chroot at worst.
  const error = q.stat(dirfd, name, NOFOLLOW)
  if (error < 0) return error
  return (q.mode & S_IFMT) === S_IFLNK ? -ELOOP : fchmodat(dirfd, name, mode)
}

/** Gives what was just made the owner and bits that were asked for, and puts its attributes into the response. */
function finish(q: Request, { dirfd, name }: Place, mode: number, uid: number, gid: number): number {
  let error = q.stat(dirfd, name, NOFOLLOW)
  if (error < 0) return error
  const isLink = (q.mode & S_IFMT) === S_IFLNK
  // A directory's S_ISGID and default ACL interfere, and chown clears S_ISUID: hence in this order, by comparison.
  const chown = (uid !== UNCHANGED && uid !== q.uid) || (gid !== UNCHANGED && gid !== q.gid)
  if (chown) {
    error = fchownat(dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW) || q.stat(dirfd, name, NOFOLLOW)
    if (error < 0) return error
  }
  if (!isLink && (q.mode & PERMISSIONS) !== mode) {
    error = chmodName(q, dirfd, name, mode) || q.stat(dirfd, name, NOFOLLOW)
    if (error < 0) return error
  }
  q.putStat()
  return 0
}

/** The same for a file that is open. */
function finishFd(q: Request, fd: number, mode: number, uid: number, gid: number): number {
  let error = q.stat(fd, q.emptyString, AT_EMPTY_PATH)
  if (error === 0 && ((uid !== UNCHANGED && uid !== q.uid) || (gid !== UNCHANGED && gid !== q.gid))) {
    error = fchown(fd, uid, gid) || q.stat(fd, q.emptyString, AT_EMPTY_PATH)
  }
  if (error === 0 && (q.mode & PERMISSIONS) !== mode) {
    error = fchmod(fd, mode) || q.stat(fd, q.emptyString, AT_EMPTY_PATH)
  }
  if (error === 0) q.putStat()
  return error
}

export function create(q: Request): number {
  q.takePath(q.first)
  const mode = q.r.u32() & PERMISSIONS
  const uid = q.r.u32()
  const gid = q.r.u32()
  const error = q.refuseNaming(q.first) || q.resolve(q.first, q.place)
  if (error !== 0) return error
  const flags = O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK | O_NOCTTY
  const fd = q.resolver.openName(q.place.dirfd, q.place.name, flags, mode)
  if (fd < 0) return fd
  q.donated = fd
  return finishFd(q, fd, mode, uid, gid)
}

const DOT = Buffer.from('.\0')

export function tmpfile(q: Request): number {
  q.takePath(q.first)
  const mode = q.r.u32() & PERMISSIONS
  const uid = q.r.u32()
  const gid = q.r.u32()
  const error = q.refuseChange() || q.resolver.directory(q.place, q.mount, q.frame, q.first.at, q.first.length)
  if (error !== 0) return error
  q.scratch.bytes.set(DOT, SCRATCH_DATA)
  const fd = q.resolver.openName(q.place.dirfd, q.scratch.at(SCRATCH_DATA), O_TMPFILE | O_RDWR, mode)
  if (fd < 0) return fd
  q.donated = fd
  return finishFd(q, fd, mode, uid, gid)
}

export function mkdir(q: Request): number {
  q.takePath(q.first)
  const mode = q.r.u32() & PERMISSIONS
  const uid = q.r.u32()
  const gid = q.r.u32()
  const { place } = q
  const error = q.refuseNaming(q.first) || q.resolve(q.first, place) || mkdirat(place.dirfd, place.name, mode)
  return error !== 0 ? error : finish(q, place, mode, uid, gid)
}

export function mknod(q: Request): number {
  q.takePath(q.first)
  const mode = q.r.u32() & (S_IFMT | PERMISSIONS)
  const uid = q.r.u32()
  const gid = q.r.u32()
  const rdev = q.r.u32()
  const { place } = q
  let error = q.refuseNaming(q.first)
  if (error !== 0) return error
  const type = mode & S_IFMT
  const device = type === S_IFCHR || type === S_IFBLK
  if (!device && type !== S_IFIFO && type !== S_IFSOCK) return -EINVAL
  if (device && !q.mount.allowDevices) return -EPERM
  error = q.resolve(q.first, place) || mknodat(place.dirfd, place.name, mode, device ? rdev : 0)
  return error !== 0 ? error : finish(q, place, mode & PERMISSIONS, uid, gid)
}

export function symlink(q: Request): number {
  q.takePath(q.first)
  const target = q.r.textAt()
  const uid = q.r.u32()
  const gid = q.r.u32()
  const { place } = q
  const error =
    q.refuseNaming(q.first) || q.resolve(q.first, place) || symlinkat(q.frame.at(target), place.dirfd, place.name)
  return error !== 0 ? error : finish(q, place, 0, uid, gid)
}

/** Whether the descriptor that came along lies on a mount that we serve: 0 or −errno. */
function checkReceived(q: Request): number {
  const error = q.stat(q.received, q.emptyString, AT_EMPTY_PATH, STATX_MNT_ID)
  if (error < 0) return error
  const id = q.scratch.view.getBigUint64(SCRATCH_STAT + STATX_OFFSET.mntId, true)
  const known = (q.scratch.view.getUint32(SCRATCH_STAT + STATX_OFFSET.mask, true) & STATX_MNT_ID) !== 0
  return known && q.mountIds.has(id) ? 0 : -EXDEV
}

export function link(q: Request): number {
  q.takePath(q.first)
  q.takePath(q.second)
  let error = q.refuseNaming(q.second)
  if (error !== 0) return error
  const { place: from, otherPlace: to } = q
  if (q.received >= 0) {
    error = checkReceived(q) || q.resolve(q.second, to)
    if (error === 0) error = linkat(q.received, q.emptyString, to.dirfd, to.name, AT_EMPTY_PATH)
  } else {
    if (q.first.length === 0) return -EINVAL
    error = q.resolve(q.first, from) || q.resolve(q.second, to)
    if (error === 0) error = linkat(from.dirfd, from.name, to.dirfd, to.name, 0)
  }
  if (error === 0) error = q.stat(to.dirfd, to.name, NOFOLLOW)
  if (error === 0) q.putStat()
  return error
}

function remove(q: Request, flags: number): number {
  q.takePath(q.first)
  const error = q.refuseNaming(q.first)
  if (error !== 0) return error
  if (flags !== 0) q.resolver.invalidate(q.mount, q.pathString(q.first))
  return q.resolve(q.first, q.place) || unlinkat(q.place.dirfd, q.place.name, flags)
}

export function unlink(q: Request): number {
  return remove(q, 0)
}

export function rmdir(q: Request): number {
  return remove(q, AT_REMOVEDIR)
}

export function rename(q: Request): number {
  q.takePath(q.first)
  q.takePath(q.second)
  const flags = q.r.u32()
  const error = q.refuseNaming(q.first) || q.refuseNaming(q.second)
  if (error !== 0) return error
  if ((flags & ~RENAME_FLAGS_ALLOWED) !== 0) return -EINVAL
  q.resolver.invalidate(q.mount, q.pathString(q.first))
  q.resolver.invalidate(q.mount, q.pathString(q.second))
  const { place: from, otherPlace: to } = q
  return (
    q.resolve(q.first, from) || q.resolve(q.second, to) || renameat2(from.dirfd, from.name, to.dirfd, to.name, flags)
  )
}

/** Truncates a regular file by name. */
function truncateName(q: Request, { dirfd, name }: Place, size: number): number {
  const error = q.stat(dirfd, name, NOFOLLOW)
  if (error < 0) return error
  const type = q.mode & S_IFMT
  if (type !== S_IFREG) return type === S_IFDIR ? -EISDIR : -EINVAL
  const fd = q.resolver.openName(dirfd, name, O_WRONLY | O_NONBLOCK | O_NOCTTY, 0)
  if (fd < 0) return fd
  const result = ftruncateFd(fd, size)
  closeFd(fd)
  return result
}

/** Puts one struct timespec; false when it is none. */
function putTime(q: Request, at: number, wanted: boolean, sec: number, nsec: number): boolean {
  if (!Number.isSafeInteger(sec) || nsec > 999_999_999) return !wanted && putTime(q, at, false, 0, 0)
  q.scratch.view.setBigInt64(at, BigInt(sec), true)
  q.scratch.view.setBigInt64(at + 8, BigInt(wanted ? nsec : UTIME_OMIT), true)
  return true
}

export function setattr(q: Request): number {
  const { r, place, received } = q
  q.takePath(q.first)
  const valid = r.u32()
  const mode = r.u32() & PERMISSIONS
  const uid = r.u32()
  const gid = r.u32()
  const size = r.f64()
  const timesOk =
    putTime(q, SCRATCH_DATA, (valid & ATTR_ATIME) !== 0, r.f64(), r.u32()) &&
    putTime(q, SCRATCH_DATA + 16, (valid & ATTR_MTIME) !== 0, r.f64(), r.u32())
  let error = q.refuseChange()
  if (error !== 0) return error
  if (!timesOk || (valid & ~ATTR_ALL) !== 0) return -EINVAL
  if ((valid & ATTR_SIZE) !== 0 && !(Number.isSafeInteger(size) && size >= 0)) return -EINVAL
  const byFd = received >= 0
  error = byFd ? checkReceived(q) : q.resolve(q.first, place)
  if (error === 0 && (valid & ATTR_SIZE) !== 0) {
    error = byFd ? ftruncateFd(received, size) : truncateName(q, place, size)
  }
  if (error === 0 && (valid & (ATTR_UID | ATTR_GID)) !== 0) {
    const owner = (valid & ATTR_UID) !== 0 ? uid : UNCHANGED
    const group = (valid & ATTR_GID) !== 0 ? gid : UNCHANGED
    error = byFd ? fchown(received, owner, group) : fchownat(place.dirfd, place.name, owner, group, AT_SYMLINK_NOFOLLOW)
  }
  // After chown, which clears the set-id bits.
  if (error === 0 && (valid & ATTR_MODE) !== 0) {
    error = byFd ? fchmod(received, mode) : chmodName(q, place.dirfd, place.name, mode)
  }
  if (error === 0 && (valid & (ATTR_ATIME | ATTR_MTIME)) !== 0) {
    const times = q.scratch.at(SCRATCH_DATA)
    error = byFd ? utimensat(received, 0, times, 0) : utimensat(place.dirfd, place.name, times, AT_SYMLINK_NOFOLLOW)
  }
  if (error === 0) {
    error = byFd ? q.stat(received, q.emptyString, AT_EMPTY_PATH) : q.stat(place.dirfd, place.name, NOFOLLOW)
  }
  if (error === 0) q.putStat()
  return error
}
