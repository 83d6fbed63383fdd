/**
 * Messages about attributes: getattr, setattr, statfs. All by descriptor, so that they reach the file itself whatever
 * has become of its name.
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
import { emptyString, fdName, SCRATCH_RECORD, scratch, statFd, statField, statMode } from '../guest/scratch.ts'
import { EFBIG, EINVAL, EISDIR, EOPNOTSUPP } from '../request.ts'
import type { Fid } from './fids.ts'
import type { Session } from './session.ts'
import {
  GETATTR_BASIC,
  GETATTR_BTIME,
  NO_UID,
  SETATTR_ALL,
  SETATTR_ATIME,
  SETATTR_ATIME_SET,
  SETATTR_GID,
  SETATTR_MODE,
  SETATTR_MTIME,
  SETATTR_MTIME_SET,
  SETATTR_SIZE,
  SETATTR_UID,
} from './wire.ts'

const STATX_BTIME = 0x800

export function getattr(s: Session): number {
  const { r, w } = s
  const fid = s.fids.get(r.u32())
  r.u64()
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  const { handle } = fid!
  const error = statFd(handle.fd)
  if (error < 0) return error
  const { view } = scratch
  const birth = (statField(STATX_OFFSET.mask) & STATX_BTIME) !== 0
  w.u32(birth ? GETATTR_BASIC | GETATTR_BTIME : GETATTR_BASIC).u32(0)
  handle.putQid(w)
  w.u32(statMode()).u32(statField(STATX_OFFSET.uid)).u32(statField(STATX_OFFSET.gid))
  w.u64(statField(STATX_OFFSET.nlink))
  w.u64(deviceNumber(statField(STATX_OFFSET.rdevMajor), statField(STATX_OFFSET.rdevMinor)))
  w.copy64(view, STATX_OFFSET.size).u64(statField(STATX_OFFSET.blksize)).copy64(view, STATX_OFFSET.blocks)
  w.copy64(view, STATX_OFFSET.atime).u64(statField(STATX_OFFSET.atime + 8))
  w.copy64(view, STATX_OFFSET.mtime).u64(statField(STATX_OFFSET.mtime + 8))
  w.copy64(view, STATX_OFFSET.ctime).u64(statField(STATX_OFFSET.ctime + 8))
  if (birth) w.copy64(view, STATX_OFFSET.btime).u64(statField(STATX_OFFSET.btime + 8))
  else w.u64(0).u64(0)
  w.u64(0).u64(0)
  return 0
}

/** Takes a time and puts a struct timespec: as given, now, or to be left alone. */
function takeTime(s: Session, at: number, wanted: boolean, given: boolean): void {
  const { r } = s
  const { view } = scratch
  r.u64()
  view.setUint32(at, r.low, true)
  view.setUint32(at + 4, r.high, true)
  r.u64()
  view.setUint32(at + 8, !wanted ? UTIME_OMIT : given ? r.low : UTIME_NOW, true)
  view.setUint32(at + 12, wanted && given ? r.high : 0, true)
}

function truncate(fid: Fid, size: number): number {
  if (fid.handle.isDirectory) return -EISDIR
  if (!fid.handle.isRegular) return -EINVAL
  if (size > Number.MAX_SAFE_INTEGER) return -EFBIG
  // By the open file where there is one: it may be writable when the mode says no any more.
  const result = fid.openFd >= 0 ? ftruncateFd(fid.openFd, size) : -EINVAL
  return result === 0 ? 0 : truncateAddress(fdName(fid.handle.fd), size)
}

export function setattr(s: Session): number {
  const { r } = s
  const fid = s.fids.get(r.u32())
  const valid = r.u32()
  const mode = r.u32() & PERMISSIONS
  const uid = r.u32()
  const gid = r.u32()
  const size = r.u64()
  const times = (valid & (SETATTR_ATIME | SETATTR_MTIME)) !== 0
  takeTime(s, SCRATCH_RECORD, (valid & SETATTR_ATIME) !== 0, (valid & SETATTR_ATIME_SET) !== 0)
  takeTime(s, SCRATCH_RECORD + 16, (valid & SETATTR_MTIME) !== 0, (valid & SETATTR_MTIME_SET) !== 0)
  const refused = s.refuseChange(fid)
  if (refused !== 0) return refused
  if ((valid & ~SETATTR_ALL) !== 0) return -EINVAL
  const { handle } = fid!
  let error = 0
  if ((valid & (SETATTR_UID | SETATTR_GID)) !== 0) {
    const owner = (valid & SETATTR_UID) !== 0 ? uid : NO_UID
    const group = (valid & SETATTR_GID) !== 0 ? gid : NO_UID
    error = fchownat(handle.fd, emptyString, owner, group, AT_EMPTY_PATH)
  }
  // After chown, which clears the set-id bits.
  if (error === 0 && (valid & SETATTR_MODE) !== 0) {
    error = handle.isLink ? -EOPNOTSUPP : fchmodat(AT_FDCWD, fdName(handle.fd), mode)
  }
  if (error === 0 && (valid & SETATTR_SIZE) !== 0) error = truncate(fid!, size)
  // Last: all of the above may set times. SETATTR_CTIME alone needs nothing; the host keeps it.
  if (error === 0 && times) error = utimensat(AT_FDCWD, fdName(handle.fd), scratch.at(SCRATCH_RECORD), 0)
  return error
}

/* struct statfs */
const STATFS = { type: 0, bsize: 8, blocks: 16, bfree: 24, bavail: 32, files: 40, ffree: 48, fsid: 56, namelen: 64 }

export function statfs(s: Session): number {
  const fid = s.fids.get(s.r.u32())
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  const error = fstatfs(fid!.handle.fd, scratch.at(SCRATCH_RECORD))
  if (error < 0) return error
  const { view } = scratch
  const u32 = (offset: number): number => view.getUint32(SCRATCH_RECORD + offset, true)
  const { w } = s
  w.u32(u32(STATFS.type)).u32(u32(STATFS.bsize))
  for (const field of [STATFS.blocks, STATFS.bfree, STATFS.bavail, STATFS.files, STATFS.ffree, STATFS.fsid]) {
    w.copy64(view, SCRATCH_RECORD + field)
  }
  w.u32(u32(STATFS.namelen))
  return 0
}
