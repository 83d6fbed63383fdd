/**
 * Advisory locks (Linux: fs/locks.c): flock(2), POSIX record locks owned by a descriptor table, and OFD locks owned by a
 * file description. They hang on `inode.locks`.
 *
 * Nothing blocks here: a conflict is −EAGAIN and the caller waits on `lockQueue(inode)`. Record locks of one owner never
 * overlap and neighbours of one type are merged; ranges are inclusive, and an end of Infinity is "to the end of file".
 */
import { EAGAIN } from '../abi/errno.ts'
import { BLOCKED, type Task } from '../kernel/task.ts'
import { WaitQueue } from '../kernel/wait-queue.ts'
import type { FileDescription } from './file-description.ts'
import type { Inode } from './inode.ts'

export const F_RDLCK = 0
export const F_WRLCK = 1
export const F_UNLCK = 2
export const LOCK_SH = 1
export const LOCK_EX = 2
export const LOCK_UN = 8

export interface RecordLock {
  /** FdTable for POSIX locks, FileDescription for OFD locks. */
  readonly owner: object
  /** For F_GETLK and /proc/locks; −1 for OFD locks. */
  readonly pid: number
  readonly write: boolean
  start: number
  end: number
}
interface WholeLock {
  readonly owner: FileDescription
  readonly pid: number
  readonly write: boolean
}

/** What `inode.locks` holds. */
export class InodeLocks {
  readonly inode: Inode
  whole: WholeLock[] = []
  records: RecordLock[] = []
  readonly queue = new WaitQueue()

  constructor(inode: Inode) {
    this.inode = inode
  }
}

/** Every inode with locks, for /proc/locks. */
export const lockedInodes = new Set<InodeLocks>()

function locksOf(inode: Inode): InodeLocks {
  if (inode.locks === null) {
    const locks = new InodeLocks(inode)
    inode.locks = locks
    lockedInodes.add(locks)
  }
  return inode.locks as InodeLocks
}

function changed(locks: InodeLocks): void {
  if (!locks.queue.empty) locks.queue.wake(1)
  else if (locks.whole.length === 0 && locks.records.length === 0) {
    locks.inode.locks = null
    lockedInodes.delete(locks)
  }
}

/** Where a call that got −EAGAIN waits (for EPOLLIN). */
export function lockQueue(inode: Inode): WaitQueue {
  return locksOf(inode).queue
}

/** flock(2) without LOCK_NB. 0 or −EAGAIN. */
export function flock(file: FileDescription, pid: number, operation: number): number {
  const inode = file.inode
  if (inode.locks === null && operation === LOCK_UN) return 0
  const locks = locksOf(inode)
  const mine = locks.whole.findIndex((l) => l.owner === file)
  if (mine >= 0) {
    if (operation !== LOCK_UN && locks.whole[mine]!.write === (operation === LOCK_EX)) return 0
    // Changing a lock is not atomic: the old one is given up first, as in Linux.
    locks.whole.splice(mine, 1)
    changed(locks)
    if (operation === LOCK_UN) return 0
    return flock(file, pid, operation)
  }
  if (operation === LOCK_UN) return 0
  const write = operation === LOCK_EX
  for (const l of locks.whole) if (write || l.write) return -EAGAIN
  locks.whole.push({ owner: file, pid, write })
  return 0
}

/** The first lock of somebody else that stands in the way, or null. */
export function conflictingRecord(
  inode: Inode,
  owner: object,
  write: boolean,
  start: number,
  end: number,
): RecordLock | null {
  if (inode.locks === null) return null
  for (const l of (inode.locks as InodeLocks).records) {
    if (l.owner !== owner && l.start <= end && l.end >= start && (write || l.write)) return l
  }
  return null
}

/** Sets or (type F_UNLCK) clears [start, end] for `owner`. 0 or −EAGAIN. */
export function setRecord(inode: Inode, owner: object, pid: number, type: number, start: number, end: number): number {
  const write = type === F_WRLCK
  if (type !== F_UNLCK && conflictingRecord(inode, owner, write, start, end) !== null) return -EAGAIN
  if (type === F_UNLCK && inode.locks === null) return 0
  const locks = locksOf(inode)
  const kept: RecordLock[] = []
  let lo = start
  let hi = end
  for (const l of locks.records) {
    if (l.owner !== owner) {
      kept.push(l)
      continue
    }
    const touches = l.start <= hi + 1 && l.end + 1 >= lo
    if (touches && type !== F_UNLCK && l.write === write) {
      lo = Math.min(lo, l.start)
      hi = Math.max(hi, l.end)
      continue
    }
    if (l.end < start || l.start > end) {
      kept.push(l)
      continue
    }
    if (l.start < start) kept.push({ owner, pid: l.pid, write: l.write, start: l.start, end: start - 1 })
    if (l.end > end) kept.push({ owner, pid: l.pid, write: l.write, start: end + 1, end: l.end })
  }
  if (type !== F_UNLCK) kept.push({ owner, pid, write, start: lo, end: hi })
  kept.sort((a, b) => a.start - b.start)
  locks.records = kept
  changed(locks)
  return 0
}

/** A descriptor of `table` for `inode` is closed: POSIX says that all its record locks go. */
export function releasePosixLocks(table: object, inode: Inode): void {
  const locks = inode.locks as InodeLocks
  if (!locks.records.some((l) => l.owner === table)) return
  locks.records = locks.records.filter((l) => l.owner !== table)
  changed(locks)
}

/** The last reference to a description goes, and with it its flock and OFD locks. */
export function releaseDescriptionLocks(file: FileDescription, inode: Inode): void {
  const locks = inode.locks as InodeLocks
  locks.records = locks.records.filter((l) => l.owner !== file)
  locks.whole = locks.whole.filter((l) => l.owner !== file)
  changed(locks)
}

/** Who sleeps in F_SETLKW, and whose lock is in the way: a cycle of these is EDEADLK. */
interface Sleeper {
  readonly task: Task
  readonly owner: object
  blocker: object
}
let sleepers: Sleeper[] = []

/** Whether `owner` waiting for `blocker` would close a circle. */
export function wouldDeadlock(owner: object, blocker: object): boolean {
  sleepers = sleepers.filter((s) => s.task.state === BLOCKED)
  let at = blocker
  for (let steps = 0; steps < 64; steps++) {
    if (at === owner) return true
    const next = sleepers.find((s) => s.owner === at)
    if (next === undefined) return false
    at = next.blocker
  }
  return false
}
export function noteSleeper(task: Task, owner: object, blocker: object): void {
  forgetSleeper(task)
  sleepers.push({ task, owner, blocker })
}
export function forgetSleeper(task: Task): void {
  if (sleepers.length > 0) sleepers = sleepers.filter((s) => s.task !== task)
}
