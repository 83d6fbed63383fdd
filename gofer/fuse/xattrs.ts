/**
 * Extended attributes. security.* and trusted.* need capabilities that the gofer has given up: the host kernel refuses to
 * set them, and shows those of security only. A guest's kernel asks for security.capability whenever it runs a program, so
 * it is never told that there are none at all.
 */
import { getxattrAddress, listxattrAddress, removexattrAddress, setxattrAddress } from '../../native/host-files.ts'
import { fdName, MAX_NAME, SCRATCH_DIRECTORY, SCRATCH_NAME, scratch } from '../guest/scratch.ts'
import { isIdle } from '../guest/xattr-names.ts'
import { E2BIG, EINVAL, ENODATA, EOPNOTSUPP, EPROTO, ERANGE } from '../request.ts'
import type { Node } from './nodes.ts'
import type { Session } from './session.ts'

/** XATTR_SIZE_MAX and XATTR_LIST_MAX. */
const MAX_VALUE = 65536
const FLAGS_ALLOWED = 3 /* XATTR_CREATE | XATTR_REPLACE */
const NAME = scratch.at(SCRATCH_NAME)

/** The name of an attribute into scratch memory: its length, or −errno. */
function takeName(s: Session): number {
  const n = s.r.copyTerminated(scratch.bytes, SCRATCH_NAME, MAX_NAME)
  return n <= 0 ? (s.r.ok ? -ERANGE : -EPROTO) : n
}

/** What the host gave into scratch memory, or as the size alone. */
function answer(s: Session, size: number, room: number): number {
  if (size < 0) return size
  if (room === 0) {
    s.w.u32(size).u32(0)
    return 0
  }
  if (size > room) return -ERANGE
  scratch.bytes.copy(s.w.memory.bytes, s.w.pos, SCRATCH_DIRECTORY, SCRATCH_DIRECTORY + size)
  s.w.pos += size
  return 0
}

export function getxattr(s: Session, node: Node): number {
  const room = s.r.u32()
  s.r.u32()
  const length = takeName(s)
  if (!s.r.complete) return -EPROTO
  if (length < 0) return length
  const fd = s.nodes.borrow(node)
  if (fd < 0) return fd
  const size = getxattrAddress(fdName(fd), NAME, scratch.at(SCRATCH_DIRECTORY), MAX_VALUE)
  s.nodes.giveBack(node, fd)
  return size === -ENODATA && isIdle(length) ? -EOPNOTSUPP : answer(s, size, room)
}

export function listxattr(s: Session, node: Node): number {
  const room = s.r.u32()
  s.r.u32()
  if (!s.r.complete) return -EPROTO
  const fd = s.nodes.borrow(node)
  if (fd < 0) return fd
  const size = listxattrAddress(fdName(fd), scratch.at(SCRATCH_DIRECTORY), MAX_VALUE)
  s.nodes.giveBack(node, fd)
  return answer(s, size, room)
}

export function setxattr(s: Session, node: Node): number {
  const { r } = s
  const size = r.u32()
  const flags = r.u32()
  const length = takeName(s)
  const at = size <= MAX_VALUE ? r.skip(size) : -1
  if (size > MAX_VALUE) return -E2BIG
  if (!r.complete) return -EPROTO
  if (length < 0) return length
  if ((flags & ~FLAGS_ALLOWED) !== 0) return -EINVAL
  const fd = s.nodes.borrow(node)
  if (fd < 0) return fd
  const error = setxattrAddress(fdName(fd), NAME, r.memory.at(at), size, flags)
  s.nodes.giveBack(node, fd)
  return error
}

export function removexattr(s: Session, node: Node): number {
  const length = takeName(s)
  if (!s.r.complete) return -EPROTO
  if (length < 0) return length
  const fd = s.nodes.borrow(node)
  if (fd < 0) return fd
  const error = removexattrAddress(fdName(fd), NAME)
  s.nodes.giveBack(node, fd)
  return error
}
