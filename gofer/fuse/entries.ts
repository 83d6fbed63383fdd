/**
 * Requests about what a name is and about attributes: lookup, forget, getattr, setattr, statfs. What the answers say of an
 * exclusive mount holds for good: nobody but the guest changes it, so its kernel asks once, also for what is not there. Of
 * a shared one nothing holds longer than the question.
 */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  fchmodat,
  fchownat,
  fstatfs,
  ftruncateFd,
  STATX_OFFSET,
  truncateAddress,
  utimensat,
} from '../../native/host-files.ts'
import { deviceNumber, PERMISSIONS, UTIME_NOW, UTIME_OMIT } from '../guest/attributes.ts'
import type { MessageWriter } from '../guest/codec.ts'
import {
  emptyString,
  fdName,
  SCRATCH_NAME,
  SCRATCH_RECORD,
  scratch,
  statFd,
  statField,
  statMode,
  statName,
} from '../guest/scratch.ts'
import { EFBIG, EINVAL, EISDIR, ENOENT, EPROTO, S_IFREG } from '../request.ts'
import type { Node } from './nodes.ts'
import type { Session } from './session.ts'
import {
  ENTRY_SIZE,
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_GID,
  FATTR_HANDLE,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  GETATTR_HANDLE,
} from './wire.ts'

const S_ISUID = 0o4000
const S_ISGID = 0o2000
const S_IXGRP = 0o010
const NO_ID = 0xffffffff
const ENTRY_NODE_END = 16
/** Longer than a tick of any host's clock. */
const COARSE_SECONDS = 0.1

/** The attributes that the last stat found. */
function putAttributes(w: MessageWriter, deviceBits: number): void {
  const { view } = scratch
  w.u32(statField(STATX_OFFSET.ino)).u32(statField(STATX_OFFSET.ino + 4) ^ deviceBits)
  w.copy64(view, STATX_OFFSET.size).copy64(view, STATX_OFFSET.blocks)
  w.copy64(view, STATX_OFFSET.atime).copy64(view, STATX_OFFSET.mtime).copy64(view, STATX_OFFSET.ctime)
  w.u32(statField(STATX_OFFSET.atime + 8))
    .u32(statField(STATX_OFFSET.mtime + 8))
    .u32(statField(STATX_OFFSET.ctime + 8))
  w.u32(statMode()).u32(statField(STATX_OFFSET.nlink))
  w.u32(statField(STATX_OFFSET.uid)).u32(statField(STATX_OFFSET.gid))
  w.u32(deviceNumber(statField(STATX_OFFSET.rdevMajor), statField(STATX_OFFSET.rdevMinor)))
  w.u32(statField(STATX_OFFSET.blksize)).u32(0)
}

/** What a name is: the node whose file the last stat was of. */
export function putEntry(s: Session, node: Node): void {
  s.w.u64(node.id).u64(0).u64(s.validity).u64(s.validity).u32(0).u32(0)
  putAttributes(s.w, node.deviceBits)
}

/** The attributes of the last stat as an answer. */
function answerAttributes(s: Session, node: Node): number {
  s.w.u64(s.validity).u32(0).u32(0)
  putAttributes(s.w, node.deviceBits)
  return 0
}

export function lookup(s: Session, directory: Node): number {
  const name = s.takeName(SCRATCH_NAME)
  const dirfd = s.directory(directory)
  if (dirfd < 0) return dirfd
  const error = statName(dirfd, scratch.at(SCRATCH_NAME))
  if (error === -ENOENT && !s.isShared) {
    s.w.zeros(ENTRY_NODE_END).u64(s.validity)
    s.w.zeros(ENTRY_SIZE - ENTRY_NODE_END - 8)
    return 0
  }
  return error !== 0 ? error : answerEntry(s, directory, name)
}

/** The file of the last stat, which was of `name`, as an answer. */
export function answerEntry(s: Session, directory: Node, name: string): number {
  const node = s.nodes.found(directory, name)
  if (typeof node === 'number') return node
  putEntry(s, node)
  return 0
}

export function forget(s: Session, node: Node): number {
  const lookups = s.r.u64()
  if (s.r.complete) s.nodes.forget(node.id, lookups)
  return 0
}

export function batchForget(s: Session): number {
  const { r } = s
  const count = r.u32()
  r.u32()
  for (let i = 0; i < count; i++) {
    const id = r.u64()
    const lookups = r.u64()
    if (!r.ok) break
    s.nodes.forget(id, lookups)
  }
  return 0
}

export function getattr(s: Session, node: Node): number {
  const flags = s.r.u32()
  s.r.skip(12)
  const error = s.refuse() || s.nodes.stat(node)
  if (error !== 0) return error
  if (s.isShared && (flags & GETATTR_HANDLE) !== 0) distrustTime()
  return answerAttributes(s, node)
}

/**
 * The guest's kernel asks by a handle before it reads what it has cached, and reads anew when the time of change is another
 * one. A file that was written to just now may be again, at the same time as the host's coarse clock has it: until that
 * is over it is told another time with each answer. Nobody is shown those: stat(2) asks without a handle.
 */
function distrustTime(): void {
  const { view } = scratch
  const at = STATX_OFFSET.mtime
  const changed = statField(at) + statField(at + 4) * 2 ** 32 + statField(at + 8) / 1e9
  if (Date.now() / 1000 - changed > COARSE_SECONDS) return
  distrusted = (distrusted % 1000) + 1
  view.setUint32(at + 8, (statField(at + 8) + distrusted) % 1e9, true)
}
let distrusted = 0

/** A struct timespec of utimensat(2). */
function putTime(at: number, low: number, high: number, ns: number, wanted: boolean, now: boolean): void {
  const { view } = scratch
  view.setUint32(at, low, true)
  view.setUint32(at + 4, high, true)
  view.setUint32(at + 8, !wanted ? UTIME_OMIT : now ? UTIME_NOW : ns, true)
  view.setUint32(at + 12, 0, true)
}

/** Clears what lets others act as the file's owner: whoever writes to it may not be him. `fd`: of it, O_PATH or not. */
export function killPrivileges(fd: number): number {
  const error = statFd(fd)
  if (error !== 0) return error
  const mode = statMode()
  const kept = mode & ~(S_ISUID | ((mode & S_IXGRP) !== 0 ? S_ISGID : 0))
  return kept === mode ? 0 : fchmodat(AT_FDCWD, fdName(fd), kept & PERMISSIONS)
}

/** `fd`: of it, O_PATH; `handle`: by which it is open, or −1. */
function truncate(s: Session, node: Node, size: number, fd: number, handle: number): number {
  if (size > Number.MAX_SAFE_INTEGER) return -EFBIG
  if (node.isDirectory) return -EISDIR
  if (node.type !== S_IFREG) return -EINVAL
  if (s.isShared && handle < 0) return truncateAddress(fdName(fd), size)
  const stream = s.file(node, handle, true)
  return stream === null ? s.error : ftruncateFd(stream.fd, size)
}

export function setattr(s: Session, node: Node): number {
  const { r } = s
  const valid = r.u32()
  r.skip(4)
  const handle = r.u64()
  const size = r.u64()
  r.skip(8)
  r.u64()
  const { low: atimeLow, high: atimeHigh } = r
  r.u64()
  const { low: mtimeLow, high: mtimeHigh } = r
  r.skip(8)
  const atimeNs = r.u32()
  const mtimeNs = r.u32()
  r.skip(4)
  const mode = r.u32() & PERMISSIONS
  r.skip(4)
  const uid = r.u32()
  const gid = r.u32()
  r.skip(4)
  if (!r.complete) return -EPROTO

  const fd = s.nodes.borrow(node)
  if (fd < 0) return fd
  let error = 0
  if ((valid & (FATTR_UID | FATTR_GID)) !== 0) {
    const owner = (valid & FATTR_UID) !== 0 ? uid : NO_ID
    const group = (valid & FATTR_GID) !== 0 ? gid : NO_ID
    error = fchownat(fd, emptyString, owner, group, AT_EMPTY_PATH)
  }
  // chown clears S_ISUID: hence after it.
  if (error === 0 && (valid & FATTR_MODE) !== 0) error = fchmodat(AT_FDCWD, fdName(fd), mode)
  if (error === 0 && (valid & FATTR_SIZE) !== 0) {
    error =
      truncate(s, node, size, fd, (valid & FATTR_HANDLE) !== 0 ? handle : -1) ||
      ((valid & FATTR_KILL_SUIDGID) !== 0 ? killPrivileges(fd) : 0)
  }
  // Last: all of the above may set times.
  if (error === 0 && (valid & (FATTR_ATIME | FATTR_MTIME)) !== 0) {
    const [atime, mtime] = [(valid & FATTR_ATIME) !== 0, (valid & FATTR_MTIME) !== 0]
    putTime(SCRATCH_RECORD, atimeLow, atimeHigh, atimeNs, atime, (valid & FATTR_ATIME_NOW) !== 0)
    putTime(SCRATCH_RECORD + 16, mtimeLow, mtimeHigh, mtimeNs, mtime, (valid & FATTR_MTIME_NOW) !== 0)
    error = utimensat(AT_FDCWD, fdName(fd), scratch.at(SCRATCH_RECORD), 0)
  }
  if (error === 0) error = statFd(fd)
  s.nodes.giveBack(node, fd)
  return error !== 0 ? error : answerAttributes(s, node)
}

/* struct statfs */
const STATFS = { bsize: 8, blocks: 16, bfree: 24, bavail: 32, files: 40, ffree: 48, namelen: 64, frsize: 72 }

export function statfs(s: Session, node: Node): number {
  const fd = s.refuse() || s.nodes.borrow(node)
  if (fd < 0) return fd
  const error = fstatfs(fd, scratch.at(SCRATCH_RECORD))
  s.nodes.giveBack(node, fd)
  if (error < 0) return error
  const { view } = scratch
  const u32 = (offset: number): number => view.getUint32(SCRATCH_RECORD + offset, true)
  const { w } = s
  for (const field of [STATFS.blocks, STATFS.bfree, STATFS.bavail, STATFS.files, STATFS.ffree]) {
    w.copy64(view, SCRATCH_RECORD + field)
  }
  w.u32(u32(STATFS.bsize)).u32(u32(STATFS.namelen)).u32(u32(STATFS.frsize)).zeros(28)
  return 0
}
