/**
 * Lists directories. The guest's kernel takes a page at a time and the host gives more than that, so what is left is kept
 * for the next request, of one directory: the one that is being listed.
 */
import { getdents64, HostMemory, lseekBig } from '../../native/host-files.ts'
import { statName } from '../guest/scratch.ts'
import { EPROTO } from '../request.ts'
import { putEntry } from './entries.ts'
import type { Node, Stream } from './nodes.ts'
import type { Session } from './session.ts'
import { ENTRY_SIZE, MAX_DATA, ROOT_NODE } from './wire.ts'

/* struct linux_dirent64 */
const D_OFF = 8
const D_RECLEN = 16
const D_TYPE = 18
const D_NAME = 19
/** struct fuse_dirent, without the name. */
const DIRENT_SIZE = 24
const DOT = 46

const records = new HostMemory(32768)
const { bytes, view } = records
/** Where what is left is, whose, and the offset that it is to be asked for by. */
let at = 0
let end = 0
let owner: Node | null = null
let nextLow = 0
let nextHigh = 0

/** Makes the records from `offset` on those at `at`. 0 or −errno. */
function fill(node: Node, stream: Stream, low: number, high: number): number {
  if (owner === node && nextLow === low && nextHigh === high && (low !== 0 || high !== 0) && at < end) return 0
  owner = null
  if (low !== stream.low || high !== stream.high || (low === 0 && high === 0)) {
    const error = lseekBig(stream.fd, (BigInt(high) << 32n) | BigInt(low))
    if (error < 0) return error
  }
  const n = getdents64(stream.fd, records.address, bytes.length)
  if (n < 0) return n
  owner = node
  at = 0
  end = n
  nextLow = low
  nextHigh = high
  let last = 0
  for (let i = 0; i < n; i += view.getUint16(i + D_RECLEN, true)) last = i
  stream.low = n === 0 ? low : view.getUint32(last + D_OFF, true)
  stream.high = n === 0 ? high : view.getUint32(last + D_OFF + 4, true)
  return 0
}

function list(s: Session, node: Node, withEntries: boolean): number {
  const { r, w, nodes } = s
  r.skip(8)
  r.u64()
  const { low, high } = r
  const room = Math.min(r.u32(), MAX_DATA)
  r.skip(20)
  if (!r.complete) return -EPROTO
  const stream = s.streams.directory(node)
  if (stream === null) return s.streams.error
  const dirfd = withEntries ? nodes.hold(node) : 0
  const error = dirfd < 0 ? dirfd : fill(node, stream, low, high)
  if (error !== 0) return error
  const limit = w.pos + room
  for (; at < end; at += view.getUint16(at + D_RECLEN, true)) {
    const nameAt = at + D_NAME
    const length = bytes.indexOf(0, nameAt) - nameAt
    const padded = (length + 7) & ~7
    if (w.pos + (withEntries ? ENTRY_SIZE : 0) + DIRENT_SIZE + padded > limit) break
    const isSelf = bytes[nameAt] === DOT && (length === 1 || (length === 2 && bytes[nameAt + 1] === DOT))
    if (withEntries) {
      const name = isSelf ? '' : bytes.toString('latin1', nameAt, nameAt + length)
      // What is gone again, or too much, comes without: the kernel then asks when it wants to know.
      const found = isSelf || statName(dirfd, records.at(nameAt)) !== 0 ? -1 : nodes.found(node, name)
      if (typeof found === 'number') w.zeros(ENTRY_SIZE)
      else putEntry(s, found)
    }
    // What is above the mount's root is nobody's business: there '..' is '.', as in any root directory.
    if (isSelf && length === 2 && node.id === ROOT_NODE) w.u32(node.inoLow).u32(node.inoHigh)
    else w.u32(view.getUint32(at, true)).u32(view.getUint32(at + 4, true) ^ node.deviceBits)
    w.copy64(view, at + D_OFF)
      .u32(length)
      .u32(bytes[at + D_TYPE]!)
    w.memory.bytes.set(bytes.subarray(nameAt, nameAt + length), w.pos)
    w.pos += length
    w.zeros(padded - length)
    nextLow = view.getUint32(at + D_OFF, true)
    nextHigh = view.getUint32(at + D_OFF + 4, true)
  }
  return 0
}

export const readdir = (s: Session, node: Node): number => list(s, node, false)
export const readdirplus = (s: Session, node: Node): number => list(s, node, true)
