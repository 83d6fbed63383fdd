/**
 * Messages of open files: lopen, lcreate, read, write, readdir, fsync. Data goes from the file straight into the send
 * buffer and from the receive buffer straight into the file.
 *
 * Only regular files and directories are ever opened: the type is that of the descriptor that is opened again, which no
 * rename can change.
 */
import { fdatasync, fsync as hostFsync } from '../../native/host.ts'
import {
  closeFd,
  fchmod,
  fchown,
  getdents64,
  lseekBig,
  O_ACCMODE,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_DSYNC,
  O_EXCL,
  O_NOCTTY,
  O_NONBLOCK,
  O_RDONLY,
  O_SYNC,
  O_TRUNC,
  preadAddress,
  pwriteAddress,
  STATX_OFFSET,
} from '../../native/host-files.ts'
import { PERMISSIONS } from '../guest/attributes.ts'
import {
  reopenFd,
  SCRATCH_DIRECTORY,
  SCRATCH_DIRECTORY_SIZE,
  SCRATCH_NAME,
  scratch,
  statFd,
  statField,
  statMode,
} from '../guest/scratch.ts'
import { EBADF, EEXIST, EFBIG, EINVAL, EISDIR, ELOOP, ENOTDIR, ENXIO, EPROTO, EROFS } from '../request.ts'
import type { Fid } from './fids.ts'
import { Handle } from './handles.ts'
import type { Session } from './session.ts'
import { pin } from './walks.ts'
import { QT_DIR, QT_FILE, QT_SYMLINK, READ_HEADER_SIZE } from './wire.ts'
import { readXattr, writeXattr } from './xattrs.ts'

/** Never waits, and no terminal becomes ours, should a check here be wrong. */
const ALWAYS = O_NONBLOCK | O_NOCTTY | O_CLOEXEC

/**
 * The client's flags that the host is told. O_APPEND only where others append too: on an exclusive mount the guest's
 * kernel knows the size, and may write cached pages by any fid.
 */
function hostFlags(handle: Handle, flags: number): number {
  const kept = O_ACCMODE | O_TRUNC | O_DSYNC | O_SYNC | (handle.root.mount.shared ? O_APPEND : 0)
  return (flags & kept) | ALWAYS
}

/** Opens a handle: a descriptor, not yet counted, or −errno. */
function openHandle(s: Session, handle: Handle, flags: number): number {
  const access = flags & O_ACCMODE
  if (access === O_ACCMODE) return -EINVAL
  const changes = access !== O_RDONLY || (flags & O_TRUNC) !== 0
  if (handle.isDirectory) {
    if (changes) return -EISDIR
  } else {
    if (handle.isLink) return -ELOOP
    if (!handle.isRegular) return -ENXIO
    if ((flags & O_DIRECTORY) !== 0) return -ENOTDIR
  }
  if (changes && handle.root.mount.readonly) return -EROFS
  return s.shared.descriptors.refuse() || reopenFd(handle.fd, hostFlags(handle, flags))
}

export function lopen(s: Session): number {
  const fid = s.fids.get(s.r.u32())
  const flags = s.r.u32()
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  if (fid!.openFd >= 0) return -EBADF
  const { handle } = fid!
  const fd = openHandle(s, handle, flags & ~(O_CREAT | O_EXCL))
  if (fd < 0) return fd
  s.shared.descriptors.used++
  fid!.openFd = fd
  const error = statFd(fd)
  handle.putQid(s.w)
  s.w.u32(0)
  return error
}

/** Gives a new file the owner and bits that were asked for; its directory's ACL and S_ISGID may have interfered. */
function finishNew(fd: number, mode: number, uid: number, gid: number): number {
  let error = statFd(fd)
  if (error === 0 && (statField(STATX_OFFSET.uid) !== uid || statField(STATX_OFFSET.gid) !== gid)) {
    error = fchown(fd, uid, gid) || statFd(fd)
  }
  if (error === 0 && (statMode() & PERMISSIONS) !== mode) error = fchmod(fd, mode) || statFd(fd)
  return error
}

export function lcreate(s: Session): number {
  const { r, shared } = s
  const fid = s.fids.get(r.u32())
  const name = s.takeName(SCRATCH_NAME)
  const flags = r.u32()
  const mode = r.u32() & PERMISSIONS
  const gid = r.u32()
  const refused = s.refuseChange(fid)
  if (refused !== 0) return refused
  if (fid!.openFd >= 0) return -EBADF
  if ((flags & O_ACCMODE) === O_ACCMODE) return -EINVAL
  const full = shared.descriptors.refuse()
  if (full !== 0) return full
  const directory = fid!.handle
  const create = hostFlags(directory, flags & ~O_TRUNC) | O_CREAT | O_EXCL
  const fd = shared.resolver.openName(directory.fd, name, create, mode)
  if (fd === -EEXIST && (flags & O_EXCL) === 0) return openExisting(s, fid!, name, flags)
  if (fd < 0) return fd
  const error = finishNew(fd, mode, fid!.uid, gid)
  if (error < 0) {
    closeFd(fd)
    return error
  }
  becomeOpen(s, fid!, new Handle(fd, directory.root, shared.descriptors), fd)
  return 0
}

/** Somebody else made it first, which is no error without O_EXCL. */
function openExisting(s: Session, fid: Fid, name: number, flags: number): number {
  const handle = pin(s, fid.handle, name)
  if (typeof handle === 'number') return handle
  const fd = handle.isDirectory ? -EISDIR : openHandle(s, handle, flags)
  if (fd < 0) {
    handle.release()
    return fd
  }
  s.shared.descriptors.used++
  becomeOpen(s, fid, handle, fd)
  return 0
}

function becomeOpen(s: Session, fid: Fid, handle: Handle, fd: number): void {
  fid.handle.release()
  fid.handle = handle
  fid.openFd = fd
  handle.putQid(s.w)
  s.w.u32(0)
}

/** Offsets up to 2^53 are exact; no file system has more in one file. */
const beyond = (offset: number, count: number): boolean => offset + count > Number.MAX_SAFE_INTEGER

export function read(s: Session): number {
  const { r, w } = s
  const fid = s.fids.get(r.u32())
  const offset = r.u64()
  const count = Math.min(r.u32(), s.msize - READ_HEADER_SIZE)
  if (!r.complete) return -EPROTO
  if (fid === undefined) return -EBADF
  if (fid.xattr !== null) return readXattr(s, fid.xattr, offset, count)
  if (fid.openFd < 0) return -EBADF
  if (fid.handle.isDirectory) return -EISDIR
  const n = beyond(offset, count) ? 0 : preadAddress(fid.openFd, w.memory.at(w.pos + 4), count, offset)
  if (n < 0) return n
  w.u32(n)
  w.pos += n
  return 0
}

export function write(s: Session): number {
  const { r } = s
  const fid = s.fids.get(r.u32())
  const offset = r.u64()
  const count = r.u32()
  const at = r.skip(count)
  if (!r.complete) return -EPROTO
  if (fid === undefined) return -EBADF
  if (fid.xattr !== null) return writeXattr(s, fid.xattr, offset, at, count)
  if (fid.openFd < 0) return -EBADF
  if (beyond(offset, count)) return -EFBIG
  const n = pwriteAddress(fid.openFd, r.memory.at(at), count, offset)
  if (n < 0) return n
  s.w.u32(n)
  return 0
}

/* struct linux_dirent64 */
const D_OFF = 8
const D_RECLEN = 16
const D_TYPE = 18
const D_NAME = 19
const DT_DIR = 4
const DT_LNK = 10
/**
 * The host's record of an entry is at least 24 bytes, and ours is at most 28 for the same: so much fewer are asked of
 * the host, and what it gives always fits.
 */
const HOST_SHARE = 24 / 28

export function readdir(s: Session): number {
  const { r, w } = s
  const fid = s.fids.get(r.u32())
  r.u64()
  const { low, high } = r
  const count = Math.min(r.u32(), s.msize - READ_HEADER_SIZE)
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  const { openFd: fd, handle } = fid!
  if (fd < 0) return -EBADF
  if (!handle.isDirectory) return -ENOTDIR
  if (low !== fid!.directoryLow || high !== fid!.directoryHigh) {
    const error = lseekBig(fd, (BigInt(high) << 32n) | BigInt(low))
    if (error < 0) return error
    fid!.directoryLow = low
    fid!.directoryHigh = high
  }
  const size = Math.min(SCRATCH_DIRECTORY_SIZE, Math.floor(count * HOST_SHARE))
  const n = getdents64(fd, scratch.at(SCRATCH_DIRECTORY), size)
  if (n < 0) return n
  const countAt = w.pos
  w.u32(0)
  const { bytes, view } = scratch
  const isRoot = handle.fd === handle.root.mount.rootFd
  for (let at = SCRATCH_DIRECTORY; at < SCRATCH_DIRECTORY + n; at += view.getUint16(at + D_RECLEN, true)) {
    const nameAt = at + D_NAME
    const length = bytes.indexOf(0, nameAt) - nameAt
    const type = bytes[at + D_TYPE]!
    w.u8(type === DT_DIR ? QT_DIR : type === DT_LNK ? QT_SYMLINK : QT_FILE).u32(0)
    // What is above the mount's root is nobody's business: there '..' is '.', as in any root directory.
    if (isRoot && length === 2 && bytes[nameAt] === 46 && bytes[nameAt + 1] === 46) {
      w.u32(handle.pathLow).u32(handle.pathHigh)
    } else w.u32(view.getUint32(at, true)).u32(view.getUint32(at + 4, true) ^ handle.deviceBits)
    w.copy64(view, at + D_OFF)
      .u8(type)
      .string(bytes, nameAt, length)
    fid!.directoryLow = view.getUint32(at + D_OFF, true)
    fid!.directoryHigh = view.getUint32(at + D_OFF + 4, true)
  }
  w.patchU32(countAt, w.pos - countAt - 4)
  return 0
}

export function fsync(s: Session): number {
  const fid = s.fids.get(s.r.u32())
  const dataOnly = s.r.u32() !== 0
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  if (fid!.openFd < 0) return -EBADF
  return dataOnly ? fdatasync(fid!.openFd) : hostFsync(fid!.openFd)
}
