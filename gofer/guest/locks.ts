/**
 * Byte-range locks of a guest's files towards the host and other mounts: what any process of the guest holds is held
 * here. A table says which, and one descriptor per locked file carries them as open file description locks (fcntl(2)),
 * whose owner is that descriptor alone.
 *
 * Nothing waits here. What must stay true: the host holds a range as long as anybody in the table does.
 */
import { fcntlAddress, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDONLY, O_RDWR } from '../../native/host-files.ts'
import { ENOLCK } from '../request.ts'
import type { Descriptors } from './descriptors.ts'
import { SCRATCH_RECORD, scratch } from './scratch.ts'

const MAX_RANGES = 4096
/** Exclusive end of a range without one. */
export const END_OF_FILE = Number.MAX_SAFE_INTEGER
const F_OFD_GETLK = 36
const F_OFD_SETLK = 37
export const F_RDLCK = 0
export const F_WRLCK = 1
export const F_UNLCK = 2
/** What the guest is shown for a lock that is not its own: −1 there, as for any lock of an open file description. */
export const FOREIGN_PID = 1

/** A file as far as locks go. */
export interface Lockable {
  /** The same for all that name the file, and for no other file. */
  readonly key: string
  readonly mayWrite: boolean
  /** A new descriptor of it, or −errno. */
  reopen(flags: number): number
}

export interface Range {
  readonly owner: string
  /** What it was made by, and ends with. */
  readonly by: object
  readonly pid: number
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

  private open(file: Lockable): LockedFile | number {
    const { key } = file
    const known = this.files.get(key)
    if (known !== undefined) return known
    const refused = this.descriptors.refuse()
    if (refused !== 0) return refused
    const flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC
    let writable = file.mayWrite
    let fd = file.reopen(flags | (writable ? O_RDWR : O_RDONLY))
    if (fd < 0 && writable) {
      writable = false
      fd = file.reopen(flags | O_RDONLY)
    }
    if (fd < 0) return fd
    this.descriptors.used++
    const locked = { key, fd, writable, ranges: [] }
    this.files.set(key, locked)
    return locked
  }

  private closeUnused(file: LockedFile): void {
    if (file.ranges.length > 0) return
    this.files.delete(file.key)
    this.descriptors.close(file.fd)
  }

  /**
   * Who outside the guest is in the way, by a descriptor of the file: ours, whose own locks are in nobody's way, if there is
   * one. 0, or −errno; then {@link foundType} and {@link foundStart} say.
   */
  ask(key: string, fd: number, type: number, start: number, end: number): number {
    return hostLock(this.files.get(key)?.fd ?? fd, F_OFD_GETLK, type, start, end)
  }

  /** What one of the guest's other owners of this kind (the first letter) holds there that is in the way. */
  conflict(key: string, owner: string, type: number, start: number, end: number): Range | undefined {
    return this.files
      .get(key)
      ?.ranges.find(
        (r) =>
          r.owner !== owner &&
          r.owner[0] === owner[0] &&
          (type === F_WRLCK || r.type === F_WRLCK) &&
          overlap(r, start, end),
      )
  }

  /** Takes a lock: 0, −EAGAIN when somebody outside the guest is in the way, or another −errno. */
  lock(lockable: Lockable, range: Range): number {
    const { owner, type, start, end } = range
    if (this.count >= MAX_RANGES) return -ENOLCK
    const file = this.open(lockable)
    if (typeof file === 'number') return file
    // What another process of the guest holds for writing stays so towards the host.
    const result =
      type === F_WRLCK
        ? hostLock(file.fd, F_OFD_SETLK, file.writable ? F_WRLCK : F_RDLCK, start, end)
        : this.setUncovered(file, owner, F_RDLCK, start, end, true)
    if (result === 0) {
      this.cut(file, owner, start, end)
      file.ranges.push(range)
      this.count++
    }
    this.closeUnused(file)
    return result
  }

  /** Whether there was anything to unlock is no matter. */
  unlock(key: string, owner: string, start: number, end: number): number {
    const file = this.files.get(key)
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
      .filter((r) => r.owner !== owner && overlap(r, start, end) && (!writers || r.type === F_WRLCK))
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

  /** What it made is to end. */
  release(key: string, by: object): void {
    const file = this.files.get(key)
    if (file === undefined) return
    for (const r of file.ranges.filter((r) => r.by === by)) this.unlockFile(file, r.owner, r.start, r.end)
  }

  /** Gives all up. */
  reset(): void {
    for (const file of this.files.values()) {
      this.count -= file.ranges.length
      file.ranges = []
      this.closeUnused(file)
    }
  }
}

/** Of the lock that {@link LockTable.ask} found: F_UNLCK for none; its length is 0 for one without an end. */
export const foundType = (): number => scratch.view.getInt16(SCRATCH_RECORD, true)
export const foundStart = (): number => Number(scratch.view.getBigInt64(SCRATCH_RECORD + 8, true))
export const foundLength = (): number => Number(scratch.view.getBigInt64(SCRATCH_RECORD + 16, true))
