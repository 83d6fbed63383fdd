/**
 * READDIR: a directory with the attributes of what is in it; for who walks a tree also whole directories below, as many
 * as the frame still holds, so that they need no message of their own.
 *
 * What must stay true: no link is followed on the way down; a frame's room bounds the work (but for one directory
 * that is looked at and does not fit).
 */
import {
  closeFd,
  getdents64,
  listEntries,
  lseekBig,
  O_DIRECTORY,
  O_RDONLY,
  STATX_OFFSET,
} from '../native/host-files.ts'
import { MAX_BESIDE, MAX_DEPTH_BELOW, STAT_SIZE } from './protocol.ts'
import { EINVAL, type Request, S_IFDIR, S_IFMT, SCRATCH_DATA, SCRATCH_DATA_SIZE, SCRATCH_LISTED } from './request.ts'

const SLASH = 47
/** struct linux_dirent64 */
const D_OFF = 8
const D_RECLEN = 16
const D_NAME = 19
/** What a directory takes in the frame beside its path and entries. */
const SECTION_SIZE = 8

/** Where the entries that {@link putEntries} put end in the directory. */
const cursor = { low: 0, high: 0 }

export function readdir(q: Request): number {
  q.takePath(q.first)
  cursor.low = q.r.u32()
  cursor.high = q.r.u32()
  const below = q.r.u16()
  q.takePath(q.second)
  const error = q.refuseRead() || (below > 1 ? -EINVAL : 0) || q.resolve(q.first, q.place)
  if (error !== 0) return error
  const fd = q.resolver.openName(q.place.dirfd, q.place.name, O_RDONLY | O_DIRECTORY, 0)
  if (fd < 0) return fd
  const result = list(q, fd, below !== 0 && q.first.length > 0)
  closeFd(fd)
  return result
}

/** `below`: and directories below and beside it. */
function list(q: Request, fd: number, below: boolean): number {
  const { w, scratch } = q
  const header = w.pos
  w.u32(0).u32(0).u16(0).u16(0).u16(0)
  const start = w.pos
  let count = 0
  let end = 0
  if (cursor.low !== 0 || cursor.high !== 0) {
    const n = lseekBig(fd, (BigInt(cursor.high) << 32n) | BigInt(cursor.low))
    if (n < 0) return n
  }
  for (;;) {
    const n = getdents64(fd, scratch.at(SCRATCH_DATA), SCRATCH_DATA_SIZE)
    if (n < 0) return n
    if (n === 0) {
      end = 1
      break
    }
    const put = putEntries(q, fd, n)
    count += put < 0 ? -1 - put : put
    if (put < 0) break
  }
  w.patchU32(header, cursor.low)
  w.patchU32(header + 4, cursor.high)
  w.patchU16(header + 8, end)
  w.patchU16(header + 10, count)
  if (below && end === 1) {
    directories = 0
    const path = q.pathString(q.first)
    const name = path.slice(path.lastIndexOf('/') + 1)
    if (putBelow(q, fd, `${name}/`, start, count, 0)) putBeside(q)
    w.patchU16(header + 12, directories)
  }
  return count
}

/** Puts the `n` bytes of entries in the scratch memory into the frame: how many; −1 − how many where it became full. */
function putEntries(q: Request, fd: number, n: number): number {
  const { w, scratch } = q
  const { view } = scratch
  w.advance(listEntries(fd, scratch.at(SCRATCH_DATA), n, q.out.at(w.pos), w.left, scratch.at(SCRATCH_LISTED)))
  const count = view.getUint32(SCRATCH_LISTED, true)
  const taken = view.getUint32(SCRATCH_LISTED + 4, true)
  if (taken > 0) {
    const last = SCRATCH_DATA + view.getUint32(SCRATCH_LISTED + 8, true)
    cursor.low = view.getUint32(last + D_OFF, true)
    cursor.high = view.getUint32(last + D_OFF + 4, true)
  }
  return taken < n ? -1 - count : count
}

/** Directories put below the one that was asked for. */
let directories = 0

/**
 * Puts the directories among the `count` entries at `from` of the frame, each followed by those below it: the order in
 * which trees are walked. False once one did not fit.
 */
function putBelow(q: Request, fd: number, path: string, from: number, count: number, depth: number): boolean {
  const { view } = q.out
  const bytes = q.w.bytes
  let at = from
  for (let i = 0; i < count; i++) {
    const stat = at
    const name = at + STAT_SIZE + 2
    const length = view.getUint16(name - 2, true)
    at = name + length + 1
    at += 2 + view.getUint16(at, true) + 1
    if ((view.getUint16(stat + STATX_OFFSET.mode, true) & S_IFMT) !== S_IFDIR) continue
    const childPath = path + bytes.latin1Slice(name, name + length)
    if (!putTree(q, fd, q.out.at(name), childPath, depth)) return false
  }
  return true
}

/** Puts directory `name` of `fd`, a descriptor, and what is below. False once one did not fit. */
function putTree(q: Request, fd: number, name: number, path: string, depth: number): boolean {
  const child = q.resolver.openName(fd, name, O_RDONLY | O_DIRECTORY, 0)
  if (child < 0) return true
  const section = q.w.pos
  const entries = putWhole(q, child, path)
  let more = entries >= 0
  if (!more) q.w.pos = section
  else if (depth + 1 < MAX_DEPTH_BELOW) {
    const first = section + 2 + path.length + 1 + 2
    more = putBelow(q, child, `${path}/`, first, entries, depth + 1)
  }
  closeFd(child)
  return more
}

/** Puts the directories of the request's second field. */
function putBeside(q: Request): void {
  const { frame } = q
  const end = q.second.at + q.second.length
  let at = q.second.at
  for (let i = 0; i < MAX_BESIDE && at < end; i++) {
    let next = frame.bytes.indexOf(SLASH, at)
    if (next < 0 || next > end) next = end
    frame.bytes[next] = 0
    if (!putTree(q, q.place.dirfd, frame.at(at), frame.bytes.latin1Slice(at, next), 0)) return
    at = next + 1
  }
}

/** Puts a whole directory: how many entries it has, or −1 if it does not fit (what was put is then to be taken back). */
function putWhole(q: Request, fd: number, path: string): number {
  const { w, scratch } = q
  const n = getdents64(fd, scratch.at(SCRATCH_DATA), SCRATCH_DATA_SIZE)
  if (n < 0 || SECTION_SIZE + path.length + spaceOf(q, n) > w.left) return -1
  w.text(path)
  const countAt = w.pos
  w.u16(0)
  const count = putEntries(q, fd, n)
  if (count < 0 || getdents64(fd, scratch.at(SCRATCH_DATA), SCRATCH_DATA_SIZE) !== 0) return -1
  w.patchU16(countAt, count)
  directories++
  return count
}

/** What `n` bytes of directory entries will take in the frame at most, without the texts of links. */
function spaceOf(q: Request, n: number): number {
  const { view } = q.scratch
  let space = 0
  for (let at = SCRATCH_DATA, size = 0; at < SCRATCH_DATA + n; at += size) {
    size = view.getUint16(at + D_RECLEN, true)
    space += STAT_SIZE + 6 + size - D_NAME
  }
  return space
}
