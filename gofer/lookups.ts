/**
 * Requests that look: walk, stat, open, readlink, statfs, fsync. One function each, named after the message;
 * returns the result of the response.
 */

import { fsync as hostFsync } from '../native/host.ts'
import {
  AT_EMPTY_PATH,
  AT_NO_AUTOMOUNT,
  AT_SYMLINK_NOFOLLOW,
  closeFd,
  fstatfs,
  ftruncateFd,
  O_ACCMODE,
  O_DIRECTORY,
  O_NOCTTY,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_TRUNC,
  readlinkat,
} from '../native/host-files.ts'
import { MAX_WALK, NO_OPEN, OPEN_FLAGS_ALLOWED, STAT_SIZE, WALK_COMPLETE, WALK_SYMLINK } from './protocol.ts'
import {
  EINVAL,
  EISDIR,
  ELOOP,
  ENOTDIR,
  ENXIO,
  EROFS,
  type Request,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  SCRATCH_DATA,
  SCRATCH_LINK,
  SCRATCH_LINK_SIZE,
  SCRATCH_STAT,
} from './request.ts'

const SLASH = 47
const NOFOLLOW = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT

/** Opens a regular file for the sentry. Never waits, and never touches what is not a regular file. */
function openRegular(q: Request, dirfd: number, name: number, flags: number): number {
  if ((flags & ~OPEN_FLAGS_ALLOWED) !== 0 || (flags & O_ACCMODE) === O_ACCMODE) return -EINVAL
  if (q.mount.readonly && flags !== O_RDONLY) return -EROFS
  const error = q.stat(dirfd, name, NOFOLLOW)
  if (error < 0) return error
  const type = q.mode & S_IFMT
  if (type === S_IFDIR) return -EISDIR
  if (type === S_IFLNK) return -ELOOP
  if (type !== S_IFREG) return -ENXIO
  const fd = q.resolver.openName(dirfd, name, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY, 0)
  if (fd < 0) return fd
  // The name may lead elsewhere by now: what counts is what was opened.
  q.donated = fd
  if ((flags & O_TRUNC) !== 0) {
    const again = q.stat(fd, q.emptyString, AT_EMPTY_PATH)
    if (again < 0) return again
    if ((q.mode & S_IFMT) !== S_IFREG) return dropDonated(q)
    const truncated = ftruncateFd(fd, 0)
    if (truncated < 0) return truncated
  }
  const last = q.stat(fd, q.emptyString, AT_EMPTY_PATH)
  if (last < 0) return last
  return (q.mode & S_IFMT) === S_IFREG ? 0 : dropDonated(q)
}

function dropDonated(q: Request): number {
  closeFd(q.donated)
  q.donated = -1
  return -ENXIO
}

/** Reads a link into the response as a text field. */
function putLink(q: Request, dirfd: number, name: number): number {
  const n = readlinkat(dirfd, name, q.scratch.at(SCRATCH_LINK), SCRATCH_LINK_SIZE)
  if (n < 0) return n
  q.w
    .u16(n)
    .copy(q.scratch.bytes, SCRATCH_LINK, n)
    .copy(q.scratch.bytes, q.emptyString - q.scratch.address, 1)
  return 0
}

export function walk(q: Request): number {
  q.takePath(q.first)
  q.takePath(q.second)
  const flags = q.r.u32()
  const refused = q.refuseRead()
  if (refused !== 0) return refused
  if (q.second.length === 0) return -EINVAL
  const resolved = q.resolver.directory(q.place, q.mount, q.frame, q.first.at, q.first.length)
  if (resolved !== 0) return resolved

  const { w, frame } = q
  const header = w.pos
  w.i32(0).u16(0)
  const end = q.second.at + q.second.length
  let at = q.second.at
  let count = 0
  let stop: number = WALK_COMPLETE
  let opened = 1
  for (;;) {
    if (count === MAX_WALK) return -EINVAL
    let next = frame.bytes.indexOf(SLASH, at)
    if (next < 0 || next > end) next = end
    frame.bytes[next] = 0
    const name = frame.at(at)
    stop = q.stat(q.place.dirfd, name, NOFOLLOW)
    if (stop < 0) break
    const type = q.mode & S_IFMT
    q.putStat()
    count++
    if (type === S_IFLNK) {
      const error = putLink(q, q.place.dirfd, name)
      if (error < 0) return error
      stop = WALK_SYMLINK
      break
    }
    if (next === end) {
      if (flags !== NO_OPEN && type === S_IFREG) {
        opened = openRegular(q, q.place.dirfd, name, flags)
        // Attributes of what was opened, should the name have changed hands in between.
        if (opened === 0) w.replace(q.scratch.bytes, SCRATCH_STAT, STAT_SIZE)
        else if (q.donated >= 0) dropDonated(q)
      }
      break
    }
    if (type !== S_IFDIR) {
      stop = -ENOTDIR
      break
    }
    const fd = q.resolver.openName(q.place.dirfd, name, O_PATH | O_DIRECTORY, 0)
    if (fd < 0) {
      stop = fd
      break
    }
    q.place.release()
    q.place.set(fd, 0, true)
    at = next + 1
  }
  w.patchI32(header, stop)
  w.patchU16(header + 4, count)
  w.i32(opened)
  return count
}

export function stat(q: Request): number {
  q.takePath(q.first)
  const error = q.refuseRead() || q.resolve(q.first, q.place) || q.stat(q.place.dirfd, q.place.name, NOFOLLOW)
  if (error === 0) q.putStat()
  return error
}

export function open(q: Request): number {
  q.takePath(q.first)
  const flags = q.r.u32()
  const error = q.refuseRead() || q.resolve(q.first, q.place) || openRegular(q, q.place.dirfd, q.place.name, flags)
  if (error === 0) q.putStat()
  return error
}

export function readlink(q: Request): number {
  q.takePath(q.first)
  return q.refuseRead() || q.resolve(q.first, q.place) || putLink(q, q.place.dirfd, q.place.name)
}

const STATFS_SIZE = 120

export function statfs(q: Request): number {
  q.takePath(q.first)
  const error = q.refuseRead() || q.resolve(q.first, q.place)
  if (error !== 0) return error
  const fd = q.resolver.openName(q.place.dirfd, q.place.name, O_PATH, 0)
  if (fd < 0) return fd
  const result = fstatfs(fd, q.scratch.at(SCRATCH_DATA))
  closeFd(fd)
  if (result === 0) q.w.u16(STATFS_SIZE).copy(q.scratch.bytes, SCRATCH_DATA, STATFS_SIZE)
  return result
}

export function fsync(q: Request): number {
  q.takePath(q.first)
  const error = q.refuseRead() || q.resolve(q.first, q.place) || q.stat(q.place.dirfd, q.place.name, NOFOLLOW)
  if (error !== 0) return error
  const type = q.mode & S_IFMT
  if (type !== S_IFDIR && type !== S_IFREG) return -EINVAL
  const fd = q.resolver.openName(q.place.dirfd, q.place.name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0)
  if (fd < 0) return fd
  const result = hostFsync(fd)
  closeFd(fd)
  return result
}
