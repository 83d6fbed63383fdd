/**
 * Packets between AF_UNIX sockets (Linux: struct sk_buff with UNIXCB), and the queue of those a socket has not read.
 *
 * `truesize` follows Linux's allocator, because programs can see it: it decides how many small writes fit into SO_SNDBUF.
 */
import type { FilesInFlight, SenderCreds } from '../scm.ts'
import type { UnixSocket } from './unix-socket.ts'

const SKB_SHARED_INFO = 320
const SKB_STRUCT = 256
const PAGE = 4096
/** Most bytes in the linear part of a stream packet: SKB_MAX_HEAD(0). */
const STREAM_HEAD_MAX = PAGE - SKB_SHARED_INFO
/** The same for datagrams: SKB_MAX_ALLOC. */
const DGRAM_HEAD_MAX = 4 * PAGE - SKB_SHARED_INFO
/** Largest stream packet: SKB_MAX_HEAD(0) + UNIX_SKB_FRAGS_SZ. */
export const STREAM_PACKET_MAX = STREAM_HEAD_MAX + 32768

export function truesize(len: number, stream: boolean): number {
  const headMax = stream ? STREAM_HEAD_MAX : DGRAM_HEAD_MAX
  const paged = len > headMax ? Math.min(len, (len - headMax + PAGE - 1) & -PAGE) : 0
  const head = ((len - paged + 63) & ~63) + SKB_SHARED_INFO
  let bucket = 512
  while (bucket < head) bucket *= 2
  return SKB_STRUCT + bucket + ((paged + PAGE - 1) & -PAGE)
}

export class Packet {
  readonly data: Uint8Array
  readonly length: number
  /** Bytes of a stream packet that were read. */
  consumed = 0
  readonly truesize: number
  /** Whose SO_SNDBUF it fills, and whose address the receiver sees. */
  readonly sender: UnixSocket
  creds: SenderCreds | null = null
  files: FilesInFlight | null = null
  /** Realtime stamp for SO_TIMESTAMP, (sec, nsec). */
  sec = 0
  nsec = 0
  /** Its urgent byte was read out of band. */
  urgentRead = false
  next: Packet | null = null

  constructor(sender: UnixSocket, data: Uint8Array, length: number, size: number) {
    this.sender = sender
    this.data = data
    this.length = length
    this.truesize = size
    sender.wmem += size
  }

  get remaining(): number {
    return this.length - this.consumed
  }

  /** The packet is gone: gives the sender its space back, and drops files nobody took. */
  free(): void {
    if (this.files !== null) {
      this.files.drop()
      this.files = null
    }
    this.sender.wmem -= this.truesize
    this.sender.writeSpace()
  }
}

export class PacketQueue {
  head: Packet | null = null
  private tail: Packet | null = null
  length = 0

  push(p: Packet): void {
    if (this.tail !== null) this.tail.next = p
    else this.head = p
    this.tail = p
    this.length++
  }
  shift(): Packet | null {
    const p = this.head
    if (p === null) return null
    this.head = p.next
    if (this.head === null) this.tail = null
    p.next = null
    this.length--
    return p
  }
  /** Unread bytes of all packets. */
  bytes(): number {
    let n = 0
    for (let p = this.head; p !== null; p = p.next) n += p.remaining
    return n
  }
  purge(): void {
    for (let p = this.shift(); p !== null; p = this.shift()) p.free()
  }
}
