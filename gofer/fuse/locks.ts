/**
 * Locks of a shared mount: getlk, setlk, setlkw, and their end with flush and release. The guest's kernel leaves it all to
 * us: who of its processes is in another's way (flock(2) and fcntl(2) by themselves), and towards the host what any of them
 * holds (guest/locks.ts).
 *
 * A request that waits is answered later: when a lock goes, or, for somebody outside, the next time that is looked. What
 * must stay true: each has one answer, also when it is interrupted; and few wait.
 */
import type { Descriptors } from '../guest/descriptors.ts'
import {
  END_OF_FILE,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  FOREIGN_PID,
  foundLength,
  foundStart,
  foundType,
  type Lockable,
  LockTable,
  type Range,
} from '../guest/locks.ts'
import { reopenFd } from '../guest/scratch.ts'
import { EAGAIN, EBADF, EINTR, EINVAL, ENOLCK, EPROTO, S_IFREG } from '../request.ts'
import type { Node } from './nodes.ts'
import { LATER, type Session } from './session.ts'
import { ANSWER_HEADER, LK_FLOCK, RELEASE_FLOCK_UNLOCK } from './wire.ts'

/** Their answers fit into what a response may have beside its data. */
const MAX_WAITERS = 128

interface Waiter {
  readonly uniqueLow: number
  readonly uniqueHigh: number
  readonly file: Lockable
  readonly range: Range
}

export class Locks {
  readonly table: LockTable
  private readonly session: Session
  private waiters: Waiter[] = []
  private interrupted: Waiter[] = []
  private released = false

  constructor(session: Session, descriptors: Descriptors) {
    this.session = session
    this.table = new LockTable(descriptors)
  }

  get isWaiting(): boolean {
    return this.waiters.length > 0
  }

  /** 0, −EAGAIN when somebody is in the way, or another −errno. */
  take(file: Lockable, range: Range): number {
    const { owner, type, start, end } = range
    return this.table.conflict(file.key, owner, type, start, end) ? -EAGAIN : this.table.lock(file, range)
  }

  wait(file: Lockable, range: Range): number {
    const { uniqueLow, uniqueHigh } = this.session
    if (this.waiters.length >= MAX_WAITERS) return -ENOLCK
    this.waiters.push({ uniqueLow, uniqueHigh, file, range })
    return LATER
  }

  unlock(key: string, owner: string, start: number, end: number): number {
    this.released = true
    return this.table.unlock(key, owner, start, end)
  }

  /** Answers who waits no more and who can have it. `anyway`: also when nobody here has let go of anything. */
  retry(anyway = false): void {
    for (const waiter of this.interrupted.splice(0)) this.answer(waiter, -EINTR)
    if (this.waiters.length === 0 || !(anyway || this.released)) return
    this.released = false
    this.waiters = this.waiters.filter((waiter) => {
      const result = this.take(waiter.file, waiter.range)
      if (result !== -EAGAIN) this.answer(waiter, result)
      return result === -EAGAIN
    })
  }

  /** Its answer comes after this request. */
  interrupt(uniqueLow: number, uniqueHigh: number): void {
    const waiter = this.waiters.find((w) => w.uniqueLow === uniqueLow && w.uniqueHigh === uniqueHigh)
    if (waiter === undefined) return
    this.waiters = this.waiters.filter((w) => w !== waiter)
    this.interrupted.push(waiter)
  }

  private answer(waiter: Waiter, result: number): void {
    const { w } = this.session
    const start = w.pos
    w.pos += ANSWER_HEADER
    this.session.answer(start, result, waiter.uniqueLow, waiter.uniqueHigh)
  }

  reset(): void {
    this.waiters = []
    this.interrupted = []
    this.table.reset()
  }
}

const keyOf = (node: Node): string => `${node.deviceBits}:${node.inoHigh}:${node.inoLow}`
/** Kinds of locks that are not in each other's way. */
const ownerOf = (kind: 'f' | 'p', low: number, high: number): string => `${kind}${high}:${low}`

interface Asked {
  readonly node: Node
  readonly fd: number
  readonly range: Range
  readonly isFlock: boolean
}

function take(s: Session, node: Node): Asked | number {
  const { r } = s
  const handle = s.handles.get(r.u64())
  r.u64()
  const { low, high } = r
  const start = r.u64()
  const last = r.u64()
  const type = r.u32()
  const pid = r.u32()
  const isFlock = (r.u32() & LK_FLOCK) !== 0
  r.u32()
  if (!r.complete) return -EPROTO
  if (handle?.node !== node) return -EBADF
  if (type > F_UNLCK || start >= END_OF_FILE || last < start) return -EINVAL
  const end = last >= END_OF_FILE ? END_OF_FILE : last + 1
  const owner = ownerOf(isFlock ? 'f' : 'p', low, high)
  return { node, fd: handle.fd, isFlock, range: { owner, by: s, pid, type, start, end } }
}

const lockable = (s: Session, node: Node): Lockable => ({
  key: keyOf(node),
  mayWrite: node.type === S_IFREG && !s.exported.mount.readonly,
  reopen(flags) {
    const held = s.nodes.borrow(node)
    if (held < 0) return held
    const fd = reopenFd(held, flags)
    s.nodes.giveBack(node, held)
    return fd
  },
})

function set(s: Session, node: Node, waits: boolean): number {
  const asked = take(s, node)
  if (typeof asked === 'number') return asked
  const { range } = asked
  if (range.type === F_UNLCK) return s.locks.unlock(keyOf(node), range.owner, range.start, range.end)
  // flock(2) gives up what it has before it waits for another kind.
  if (asked.isFlock && waits) s.locks.unlock(keyOf(node), range.owner, range.start, range.end)
  const file = lockable(s, node)
  const result = s.locks.take(file, range)
  return result === -EAGAIN && waits ? s.locks.wait(file, range) : result
}

export const setlk = (s: Session, node: Node): number => set(s, node, false)
export const setlkw = (s: Session, node: Node): number => set(s, node, true)

export function getlk(s: Session, node: Node): number {
  const asked = take(s, node)
  if (typeof asked === 'number') return asked
  const { owner, type, start, end } = asked.range
  const key = keyOf(node)
  const own = s.locks.table.conflict(key, owner, type, start, end)
  if (own !== undefined) return answerLock(s, own.type, own.start, own.end, own.pid)
  const error = s.locks.table.ask(key, asked.fd, type === F_WRLCK ? F_WRLCK : F_RDLCK, start, end)
  if (error < 0) return error
  if (foundType() === F_UNLCK) return answerLock(s, F_UNLCK, start, end, 0)
  const length = foundLength()
  return answerLock(s, foundType(), foundStart(), length === 0 ? END_OF_FILE : foundStart() + length, FOREIGN_PID)
}

function answerLock(s: Session, type: number, start: number, end: number, pid: number): number {
  s.w.u64(start)
  // OFFSET_MAX is the end of every file.
  if (end === END_OF_FILE) s.w.u32(0xffffffff).u32(0x7fffffff)
  else s.w.u64(end - 1)
  s.w.u32(type).u32(pid)
  return 0
}

/** A descriptor of the guest's is closed: what its process has locked by fcntl(2) goes, as close(2) has it. */
export function flush(s: Session, node: Node): number {
  s.r.skip(16)
  s.r.u64()
  const { low, high } = s.r
  return s.refuse() || s.locks.unlock(keyOf(node), ownerOf('p', low, high), 0, END_OF_FILE)
}

/** The last one of an open file is. */
export function release(s: Session, node: Node): number {
  const { r } = s
  const handle = r.u64()
  r.u32()
  const flags = r.u32()
  r.u64()
  const { low, high } = r
  if (!r.complete) return -EPROTO
  if ((flags & RELEASE_FLOCK_UNLOCK) !== 0) s.locks.unlock(keyOf(node), ownerOf('f', low, high), 0, END_OF_FILE)
  s.handles.close(handle)
  return 0
}

/** Only who waits for a lock can be. No answer: that of the other request says it. */
export function interrupt(s: Session): number {
  s.r.u64()
  if (s.r.complete) s.locks.interrupt(s.r.low, s.r.high)
  return LATER
}
