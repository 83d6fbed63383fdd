/**
 * Requests about what is in regular files: read, write, fsync, fallocate, lseek, copy_file_range. Data goes from the file
 * straight into the send buffer and from the receive buffer straight into the file.
 */
import { fdatasync, fsync as hostFsync } from '../../native/host.ts'
import {
  copyFileRange,
  fallocate as hostFallocate,
  lseekAddress,
  O_APPEND,
  preadAddress,
  pwriteAddress,
  pwritev2,
} from '../../native/host-files.ts'
import { SCRATCH_RECORD, scratch } from '../guest/scratch.ts'
import { EFBIG, EINVAL, ENXIO, EPROTO, ESTALE } from '../request.ts'
import { killPrivileges } from './entries.ts'
import type { Node } from './nodes.ts'
import type { Session } from './session.ts'
import { MAX_DATA, WRITE_CACHE, WRITE_KILL_SUIDGID } from './wire.ts'

const RWF_APPEND = 0x10
const SEEK_DATA = 3
const SEEK_HOLE = 4
/** Keep size, punch hole, collapse, zero, insert, unshare. */
const FALLOCATE_MODES = 0x7f

/** Offsets up to 2^53 are exact; no file system has more in one file. */
const beyond = (offset: number, count: number): boolean => offset + count > Number.MAX_SAFE_INTEGER

export function read(s: Session, node: Node): number {
  const { r, w } = s
  const handle = r.u64()
  const offset = r.u64()
  const count = Math.min(r.u32(), MAX_DATA)
  r.skip(20)
  if (!r.complete) return -EPROTO
  const stream = s.file(node, handle, false)
  if (stream === null) return s.error
  const n = beyond(offset, count) ? 0 : preadAddress(stream.fd, w.memory.at(w.pos), count, offset)
  if (n < 0) return n
  w.pos += n
  return 0
}

/** write(2) at the end of the file, whatever the descriptor's flags are. */
function append(fd: number, address: number, count: number): number {
  const { view } = scratch
  view.setBigUint64(SCRATCH_RECORD, BigInt(address), true)
  view.setBigUint64(SCRATCH_RECORD + 8, BigInt(count), true)
  return pwritev2(fd, scratch.at(SCRATCH_RECORD), 1, 0, RWF_APPEND)
}

export function write(s: Session, node: Node): number {
  const { r, w } = s
  const handle = r.u64()
  const offset = r.u64()
  const count = r.u32()
  const flags = r.u32()
  r.skip(8)
  const appends = (r.u32() & O_APPEND) !== 0
  r.skip(4)
  const at = r.skip(count)
  if (!r.complete) return -EPROTO
  const stream = s.file(node, handle, true)
  if (stream === null) return s.error
  if (beyond(offset, count)) return -EFBIG
  if ((flags & WRITE_KILL_SUIDGID) !== 0) {
    const error = killPrivileges(stream.fd)
    if (error !== 0) return error
  }
  // Where others append, too, only the host knows the end. Cached pages have their places.
  const n =
    s.isShared && appends && (flags & WRITE_CACHE) === 0
      ? append(stream.fd, r.memory.at(at), count)
      : pwriteAddress(stream.fd, r.memory.at(at), count, offset)
  if (n < 0) return n
  w.u32(n).u32(0)
  return 0
}

export function fsync(s: Session, node: Node): number {
  const handle = s.r.u64()
  const dataOnly = (s.r.u32() & 1) !== 0
  s.r.skip(4)
  if (!s.r.complete) return -EPROTO
  const stream = node.isDirectory ? s.streams.directory(node) : s.file(node, handle, false)
  if (stream === null) return node.isDirectory ? s.streams.error : s.error
  return dataOnly ? fdatasync(stream.fd) : hostFsync(stream.fd)
}

export function fallocate(s: Session, node: Node): number {
  const { r } = s
  const handle = r.u64()
  const offset = r.u64()
  const length = r.u64()
  const mode = r.u32()
  r.skip(4)
  if (!r.complete) return -EPROTO
  if ((mode & ~FALLOCATE_MODES) !== 0) return -EINVAL
  if (beyond(offset, length)) return -EFBIG
  const stream = s.file(node, handle, true)
  return stream === null ? s.error : hostFallocate(stream.fd, mode, offset, length)
}

export function lseek(s: Session, node: Node): number {
  const { r, w } = s
  const handle = r.u64()
  const offset = r.u64()
  const whence = r.u32()
  r.skip(4)
  if (!r.complete) return -EPROTO
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return -EINVAL
  if (beyond(offset, 0)) return -ENXIO
  const stream = s.file(node, handle, false)
  if (stream === null) return s.error
  const n = lseekAddress(stream.fd, offset, whence)
  if (n < 0) return n
  w.u64(n)
  return 0
}

export function copy(s: Session, node: Node): number {
  const { r, w } = s
  const handle = r.u64()
  const from = r.u64()
  const target = s.nodes.get(r.u64())
  const targetHandle = r.u64()
  const to = r.u64()
  const length = Math.min(r.u64(), 2 ** 30)
  const flags = r.u64()
  if (!r.complete) return -EPROTO
  if (target === undefined) return -ESTALE
  if (flags !== 0) return -EINVAL
  if (beyond(from, length) || beyond(to, length)) return -EFBIG
  // First what may exchange the descriptor of a file that is copied within itself.
  const out = s.file(target, targetHandle, true)
  const source = out && s.file(node, handle, false)
  if (out === null || source === null) return s.error
  const { view } = scratch
  view.setBigUint64(SCRATCH_RECORD, BigInt(from), true)
  view.setBigUint64(SCRATCH_RECORD + 8, BigInt(to), true)
  const n = copyFileRange(source.fd, scratch.at(SCRATCH_RECORD), out.fd, scratch.at(SCRATCH_RECORD + 8), length)
  if (n < 0) return n
  w.u32(n).u32(0)
  return 0
}
