/**
 * Extended attributes: xattrwalk makes a fid that the value (or the list of names) is read from, xattrcreate turns a
 * fid into one that the value is written to, and clunk sets it. security.* and trusted.* need capabilities that the
 * gofer has given up: the host kernel refuses to set them.
 */
import {
  getxattrAddress,
  HostMemory,
  listxattrAddress,
  removexattrAddress,
  setxattrAddress,
} from '../../native/host-files.ts'
import { fdName, MAX_NAME, SCRATCH_DIRECTORY, SCRATCH_NAME, scratch } from '../guest/scratch.ts'
import { isIdle } from '../guest/xattr-names.ts'
import { E2BIG, EBADF, EINVAL, ENODATA, ENOMEM, EOPNOTSUPP, EPROTO, ERANGE } from '../request.ts'
import { Fid, type XattrTransfer } from './fids.ts'
import type { Session } from './session.ts'

/** XATTR_SIZE_MAX and XATTR_LIST_MAX. */
const MAX_VALUE = 65536
const XATTR_REPLACE = 2
const XATTR_FLAGS_ALLOWED = 3 /* XATTR_CREATE | XATTR_REPLACE */
const noValue = new HostMemory(1)

export function xattrwalk(s: Session): number {
  const { r } = s
  const fid = s.fids.get(r.u32())
  const number = r.u32()
  const length = r.copyText(scratch.bytes, SCRATCH_NAME, MAX_NAME)
  const refused = s.refuse(fid) || s.fids.refuse(number)
  if (refused !== 0) return refused
  if (length < 0) return -ERANGE
  const path = fdName(fid!.handle.fd)
  const out = scratch.at(SCRATCH_DIRECTORY)
  const size =
    length === 0
      ? listxattrAddress(path, out, MAX_VALUE)
      : getxattrAddress(path, scratch.at(SCRATCH_NAME), out, MAX_VALUE)
  if (size < 0) return size === -ENODATA && !fid!.handle.root.mount.shared && isIdle(length) ? -EOPNOTSUPP : size
  if (!s.reserveXattr(size)) return -ENOMEM
  const made = new Fid(fid!.handle.share(), fid!.uid)
  const value = size === 0 ? noValue : new HostMemory(size)
  scratch.bytes.copy(value.bytes, 0, SCRATCH_DIRECTORY, SCRATCH_DIRECTORY + size)
  made.xattr = { writing: false, name: null, flags: 0, value, size, filled: size }
  s.fids.set(number, made)
  s.w.u64(size)
  return 0
}

export function readXattr(s: Session, x: XattrTransfer, offset: number, count: number): number {
  if (x.writing) return -EBADF
  const n = Math.max(0, Math.min(count, x.size - offset))
  s.w.u32(n)
  if (n > 0) x.value.bytes.copy(s.w.memory.bytes, s.w.pos, offset, offset + n)
  s.w.pos += n
  return 0
}

export function xattrcreate(s: Session): number {
  const { r } = s
  const fid = s.fids.get(r.u32())
  const length = r.copyText(scratch.bytes, SCRATCH_NAME, MAX_NAME)
  const size = r.u64()
  const flags = r.u32()
  const refused = s.refuseChange(fid)
  if (refused !== 0) return refused
  if (fid!.openFd >= 0) return -EBADF
  if (length <= 0) return -ERANGE
  if (size > MAX_VALUE) return -E2BIG
  if ((flags & ~XATTR_FLAGS_ALLOWED) !== 0) return -EINVAL
  if (!s.reserveXattr(size)) return -ENOMEM
  const name = new HostMemory(length + 1)
  scratch.bytes.copy(name.bytes, 0, SCRATCH_NAME, SCRATCH_NAME + length)
  const value = size === 0 ? noValue : new HostMemory(size)
  fid!.xattr = { writing: true, name, flags, value, size, filled: 0 }
  return 0
}

export function writeXattr(s: Session, x: XattrTransfer, offset: number, at: number, count: number): number {
  if (!x.writing) return -EBADF
  if (offset !== x.filled || count > x.size - x.filled) return -EINVAL
  s.r.memory.bytes.copy(x.value.bytes, x.filled, at, at + count)
  x.filled += count
  s.w.u32(count)
  return 0
}

/** What a clunk owes: sets or removes the attribute that was transferred. 0 or −errno. */
export function finishXattr(fid: Fid): number {
  const x = fid.xattr
  if (x === null || !x.writing) return 0
  if (x.filled !== x.size) return -EPROTO
  const path = fdName(fid.handle.fd)
  const name = x.name!.address
  // removexattr(2) comes as this, setxattr(2) of an empty value with other flags.
  if (x.size === 0 && x.flags === XATTR_REPLACE) return removexattrAddress(path, name)
  return setxattrAddress(path, name, x.value.address, x.size, x.flags)
}
