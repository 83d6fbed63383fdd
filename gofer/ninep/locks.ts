/**
 * Byte-range locks (Tlock, Tgetlock). The guest's kernel has granted a lock among its own processes before it asks, and
 * sends flock(2) and locks of open file descriptions in the same way, with the pid of whoever made the call. So here no
 * process of the guest is in another's way. What is left to do is to hold, towards the host and other mounts, all that
 * any process of the guest holds: a table says which, and one descriptor per locked file carries them as open file
 * description locks (fcntl(2)), whose owner is that descriptor alone.
 *
 * Nothing waits here: the client asks again. What must stay true: the host holds a range as long as anybody in the table
 * does, and locks end with the fid that they were made by.
 */
import { fcntlAddress, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDONLY, O_RDWR } from '../../native/host-files.ts'
import type { Descriptors } from '../guest/descriptors.ts'
import { reopenFd, SCRATCH_RECORD, scratch } from '../guest/scratch.ts'
import { EAGAIN, EBADF, EINVAL, ENOLCK } from '../request.ts'
import type { Fid } from './fids.ts'
import type { Handle } from './handles.ts'
import type { Session } from './session.ts'
import {
  LOCK_FLAG_BLOCK,
  LOCK_FLAG_RECLAIM,
  LOCK_NONE,
  LOCK_READ,
  LOCK_STATUS_BLOCKED,
  LOCK_STATUS_OK,
  LOCK_WRITE,
} from './wire.ts'

const MAX_RANGES = 4096
const MAX_CLIENT = 64
const END_OF_FILE = Number.MAX_SAFE_INTEGER
const F_OFD_GETLK = 36
const F_OFD_SETLK = 37
const F_RDLCK = 0
const F_WRLCK = 1
const F_UNLCK = 2
/** What the guest is shown for a lock that is not its own: −1 there, as for any lock of an open file description. */
const FOREIGN_PID = 1

interface Range {
  readonly owner: string
  readonly fid: Fid
  readonly type: number
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

interface LockedFile {
  readonly key: string
  readonly fd: number
  /** Whether `fd` can carry write locks; else they are read locks towards the host. */
  readonly writable: boolean
  ranges: Range[]
}

/** One call with a struct flock; the lock found is then in scratch memory. */
function hostLock(fd: number, command: number, type: number, start: number, end: number): number {
  const { view } = scratch
  view.setInt16(SCRATCH_RECORD, type, true)
  view.setInt16(SCRATCH_RECORD + 2, 0, true)
  view.setBigInt64(SCRATCH_RECORD + 8, BigInt(start), true)
  view.setBigInt64(SCRATCH_RECORD + 16, BigInt(end === END_OF_FILE ? 0 : end - start), true)
  view.setInt32(SCRATCH_RECORD + 24, 0, true)
  return fcntlAddress(fd, command, scratch.at(SCRATCH_RECORD))
}

const overlap = (a: Range, start: number, end: number): boolean => a.start < end && start < a.end

export class LockTable {
  private readonly descriptors: Descriptors
  private readonly files = new Map<string, LockedFile>()
  private count = 0

  constructor(descriptors: Descriptors) {
    this.descriptors = descriptors
  }

  private static key(handle: Handle): string {
    return `${handle.root.mount.id}:${handle.pathHigh}:${handle.pathLow}`
  }

  private open(handle: Handle): LockedFile | number {
    const key = LockTable.key(handle)
    const known = this.files.get(key)
    if (known !== undefined) return known
    const refused = this.descriptors.refuse()
    if (refused !== 0) return refused
    const flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC
    let writable = handle.isRegular && !handle.root.mount.readonly
    let fd = reopenFd(handle.fd, flags | (writable ? O_RDWR : O_RDONLY))
    if (fd < 0 && writable) {
      writable = false
      fd = reopenFd(handle.fd, flags | O_RDONLY)
    }
    if (fd < 0) return fd
    this.descriptors.used++
    const file = { key, fd, writable, ranges: [] }
    this.files.set(key, file)
    return file
  }

  private closeUnused(file: LockedFile): void {
    if (file.ranges.length > 0) return
    this.files.delete(file.key)
    this.descriptors.close(file.fd)
  }

  /** A descriptor to ask the host by: ours, whose own locks are in nobody's way, if there is one. */
  askBy(fid: Fid): number {
    return this.files.get(LockTable.key(fid.handle))?.fd ?? fid.openFd
  }

  /** Takes a lock: 0, −EAGAIN when somebody outside the guest is in the way, or another −errno. */
  lock(fid: Fid, owner: string, type: number, start: number, end: number): number {
    if (this.count >= MAX_RANGES) return -ENOLCK
    const file = this.open(fid.handle)
    if (typeof file === 'number') return file
    const write = type === LOCK_WRITE
    // What another process of the guest holds for writing stays so towards the host.
    const result = write
      ? hostLock(file.fd, F_OFD_SETLK, file.writable ? F_WRLCK : F_RDLCK, start, end)
      : this.setUncovered(file, owner, F_RDLCK, start, end, true)
    if (result === 0) {
      this.cut(file, owner, start, end)
      file.ranges.push({ owner, fid, type, start, end })
      this.count++
      fid.hasLocks = true
    }
    this.closeUnused(file)
    return result
  }

  unlock(handle: Handle, owner: string, start: number, end: number): number {
    const file = this.files.get(LockTable.key(handle))
    return file === undefined ? 0 : this.unlockFile(file, owner, start, end)
  }

  private unlockFile(file: LockedFile, owner: string, start: number, end: number): number {
    this.cut(file, owner, start, end)
    const result = this.setUncovered(file, owner, F_UNLCK, start, end, false)
    this.closeUnused(file)
    return result
  }

  /** Sets the host's lock where no other owner holds anything (or, `writers`, holds for writing). */
  private setUncovered(
    file: LockedFile,
    owner: string,
    hostType: number,
    start: number,
    end: number,
    writers: boolean,
  ): number {
    const covered = file.ranges
      .filter((r) => r.owner !== owner && overlap(r, start, end) && (!writers || r.type === LOCK_WRITE))
      .sort((a, b) => a.start - b.start)
    let at = start
    let result = 0
    for (const r of covered) {
      if (r.start > at) result ||= hostLock(file.fd, F_OFD_SETLK, hostType, at, r.start)
      at = Math.max(at, r.end)
    }
    if (at < end) result ||= hostLock(file.fd, F_OFD_SETLK, hostType, at, end)
    return result
  }

  /** Takes [start, end) out of the owner's ranges. */
  private cut(file: LockedFile, owner: string, start: number, end: number): void {
    const kept: Range[] = []
    for (const r of file.ranges) {
      if (r.owner !== owner || !overlap(r, start, end)) {
        kept.push(r)
        continue
      }
      if (r.start < start) kept.push({ ...r, end: start })
      if (r.end > end) kept.push({ ...r, start: end })
    }
    this.count += kept.length - file.ranges.length
    file.ranges = kept
  }

  /** The fid is closed. */
  releaseFid(fid: Fid): void {
    const file = this.files.get(LockTable.key(fid.handle))
    if (file === undefined) return
    for (const r of file.ranges.filter((r) => r.fid === fid)) this.unlockFile(file, r.owner, r.start, r.end)
  }
}

/** Takes start and length as [start, end); NaN for `end` when they are none. */
function takeEnd(start: number, length: number): number {
  if (start >= END_OF_FILE) return Number.NaN
  return length === 0 || start + length >= END_OF_FILE ? END_OF_FILE : start + length
}

function putText(s: Session, text: string): void {
  const bytes = Buffer.from(text, 'latin1')
  s.w.string(bytes, 0, bytes.length)
}

export function lock(s: Session): number {
  const { r } = s
  const fid = s.fids.get(r.u32())
  const type = r.u8()
  const flags = r.u32()
  const start = r.u64()
  const end = takeEnd(start, r.u64())
  const pid = r.u32()
  const client = r.text()
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  if (fid!.openFd < 0) return -EBADF
  if (type > LOCK_NONE || Number.isNaN(end) || client.length > MAX_CLIENT) return -EINVAL
  if ((flags & ~(LOCK_FLAG_BLOCK | LOCK_FLAG_RECLAIM)) !== 0) return -EINVAL
  const owner = `${pid}:${client}`
  const result =
    type === LOCK_NONE ? s.locks.unlock(fid!.handle, owner, start, end) : s.locks.lock(fid!, owner, type, start, end)
  if (result !== 0 && result !== -EAGAIN) return result
  s.w.u8(result === 0 ? LOCK_STATUS_OK : LOCK_STATUS_BLOCKED)
  return 0
}

/**
 * Who outside the guest is in the way. Among its own processes the guest's kernel has looked before it asks, and does not
 * say then what for: LOCK_NONE, which is taken for reading, so that what is answered is in the way of both.
 */
export function getlock(s: Session): number {
  const { r, w } = s
  const fid = s.fids.get(r.u32())
  const type = r.u8()
  const start = r.u64()
  const length = r.u64()
  const end = takeEnd(start, length)
  const pid = r.u32()
  const client = r.text()
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  if (fid!.openFd < 0) return -EBADF
  if (type > LOCK_NONE || Number.isNaN(end) || client.length > MAX_CLIENT) return -EINVAL
  const error = hostLock(s.locks.askBy(fid!), F_OFD_GETLK, type === LOCK_WRITE ? F_WRLCK : F_RDLCK, start, end)
  if (error < 0) return error
  const { view } = scratch
  const found = view.getInt16(SCRATCH_RECORD, true)
  if (found === F_UNLCK) {
    w.u8(LOCK_NONE)
      .u64(start)
      .u64(end === END_OF_FILE ? 0 : length)
      .u32(pid)
    putText(s, client)
    return 0
  }
  w.u8(found === F_WRLCK ? LOCK_WRITE : LOCK_READ)
  w.copy64(view, SCRATCH_RECORD + 8)
    .copy64(view, SCRATCH_RECORD + 16)
    .u32(FOREIGN_PID)
  putText(s, '')
  return 0
}
