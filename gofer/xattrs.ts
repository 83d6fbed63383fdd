/**
 * Extended attributes. There is no *at family before Linux 6.13, so these step into the directory (fchdir works on the
 * O_PATH descriptor) and name the file by its one last component, with the calls that don't follow links.
 * security.* and trusted.* need capabilities that the gofer has given up: the host kernel refuses them.
 */
import { fchdir, lgetxattr, llistxattr, lremovexattr, lsetxattr } from '../native/host-files.ts'
import { MAX_FRAME } from './protocol.ts'
import { E2BIG, EINVAL, ERANGE, type Request } from './request.ts'

const MAX_XATTR_NAME = 255
/** Room for a value in a response. Linux allows 64 KiB, ext4 about 4. */
const MAX_VALUE = MAX_FRAME - 64
const XATTR_FLAGS_ALLOWED = 3 /* XATTR_CREATE | XATTR_REPLACE */

/** Steps into the directory of the request's path. 0 or −errno; then the name is `q.place.name`. */
function stepInto(q: Request): number {
  return q.resolve(q.first, q.place) || fchdir(q.place.dirfd)
}

/** Takes the attribute's name: its address, or 0. */
function takeName(q: Request): number {
  const at = q.r.textAt()
  return q.r.textLength === 0 || q.r.textLength > MAX_XATTR_NAME ? 0 : q.frame.at(at)
}

/** Completes a blob of `n` bytes that the host has put behind the length. */
function putBlob(q: Request, n: number): number {
  if (n < 0) return n === -ERANGE ? -E2BIG : n
  q.w.u16(n).advance(n)
  return 0
}

export function getxattr(q: Request): number {
  q.takePath(q.first)
  const name = takeName(q)
  const error = q.refuseRead() || (name === 0 ? -ERANGE : stepInto(q))
  if (error !== 0) return error
  return putBlob(q, lgetxattr(q.place.name, name, q.out.at(q.w.pos + 2), MAX_VALUE))
}

export function listxattr(q: Request): number {
  q.takePath(q.first)
  const error = q.refuseRead() || stepInto(q)
  return error !== 0 ? error : putBlob(q, llistxattr(q.place.name, q.out.at(q.w.pos + 2), MAX_VALUE))
}

export function setxattr(q: Request): number {
  q.takePath(q.first)
  const name = takeName(q)
  const size = q.r.u16()
  const value = q.r.skip(size)
  const flags = q.r.u32()
  let error = q.refuseChange()
  if (error !== 0) return error
  if (name === 0) return -ERANGE
  if ((flags & ~XATTR_FLAGS_ALLOWED) !== 0) return -EINVAL
  error = stepInto(q)
  return error !== 0 ? error : lsetxattr(q.place.name, name, q.frame.at(value), size, flags)
}

export function removexattr(q: Request): number {
  q.takePath(q.first)
  const name = takeName(q)
  const error = q.refuseChange() || (name === 0 ? -ERANGE : stepInto(q))
  return error !== 0 ? error : lremovexattr(q.place.name, name)
}
