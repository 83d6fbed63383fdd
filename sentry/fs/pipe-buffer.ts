/**
 * The ring of page slots inside a pipe or FIFO (Linux: struct pipe_inode_info, fs/pipe.c).
 *
 * Capacity counts slots, not bytes, exactly as Linux does: a write appends to the last slot when its odd bytes fit
 * there, else it takes fresh slots. Head and tail only grow; slot i lives at page i & mask. Storage comes with the first
 * byte and goes back to a small pool, so that short-lived pipes cost no allocation. No operation blocks or wakes.
 */
import { EBUSY, EFAULT } from '../abi/errno.ts'
import type { IovIter } from '../mm/iov-iter.ts'

export const PAGE = 4096
export const DEFAULT_SLOTS = 16

const NONE = new Uint8Array(0)
const POOL: Uint8Array[] = []
const POOL_MAX = 32

const CAN_MERGE = 0
const PACKET = 1

export class PipeBuffer {
  private slots: number
  private mask: number
  private head = 0
  private tail = 0
  private pages: Uint8Array = NONE
  /** Per slot: first byte in its page, bytes, flags. */
  private offset: Uint16Array
  private length: Uint16Array
  private packet: Uint8Array

  constructor(slots: number) {
    this.slots = slots
    this.mask = slots - 1
    this.offset = new Uint16Array(slots)
    this.length = new Uint16Array(slots)
    this.packet = new Uint8Array(slots)
  }

  get empty(): boolean {
    return this.head === this.tail
  }
  get full(): boolean {
    return this.head - this.tail >= this.slots
  }
  get capacity(): number {
    return this.slots * PAGE
  }
  /** Free slots, in bytes: what {@link put} surely takes. */
  get space(): number {
    return (this.slots - (this.head - this.tail)) * PAGE
  }
  /** Bytes queued. */
  get bytes(): number {
    let sum = 0
    for (let i = this.tail; i < this.head; i++) sum += this.length[i & this.mask]!
    return sum
  }

  private allocate(): void {
    const pooled = this.slots === DEFAULT_SLOTS ? POOL.pop() : undefined
    this.pages = pooled ?? new Uint8Array(this.slots * PAGE)
  }
  /** Gives the storage back. */
  free(): void {
    if (this.pages.length === DEFAULT_SLOTS * PAGE && POOL.length < POOL_MAX) POOL.push(this.pages)
    this.pages = NONE
    this.head = this.tail = 0
  }

  /** Takes bytes out, one packet at most in packet mode. 0 = empty; −EFAULT when nothing could be copied. */
  read(iter: IovIter): number {
    let done = 0
    while (iter.remaining > 0 && this.tail < this.head) {
      const i = this.tail & this.mask
      const len = this.length[i]!
      const chars = Math.min(len, iter.remaining)
      const copied = iter.copyTo(this.pages, i * PAGE + this.offset[i]!, chars)
      if (copied < chars) return done > 0 ? done : -EFAULT
      done += chars
      if (this.packet[i] === PACKET) {
        this.advance()
        break
      }
      this.offset[i] = this.offset[i]! + chars
      this.length[i] = len - chars
      if (chars === len) this.advance()
    }
    return done
  }

  private advance(): void {
    this.tail++
    if (this.tail === this.head) this.head = this.tail = 0 // stay on the same warm pages
  }

  /**
   * Puts bytes in as far as they fit. Writes of at most a page go in whole or not at all (PIPE_BUF). 0 = no room;
   * −EFAULT when nothing could be copied.
   */
  write(iter: IovIter, packets: boolean): number {
    if (this.pages.length === 0) this.allocate()
    let done = 0
    const odd = iter.remaining & (PAGE - 1)
    if (odd !== 0 && this.head !== this.tail) {
      const i = (this.head - 1) & this.mask
      const end = this.offset[i]! + this.length[i]!
      if (this.packet[i] === CAN_MERGE && end + odd <= PAGE) {
        const copied = iter.copyFrom(this.pages, i * PAGE + end, odd)
        if (copied < odd) return -EFAULT
        this.length[i] = this.length[i]! + odd
        done = odd
      }
    }
    while (iter.remaining > 0 && this.head - this.tail < this.slots) {
      const i = this.head & this.mask
      const chars = Math.min(PAGE, iter.remaining)
      const copied = iter.copyFrom(this.pages, i * PAGE, chars)
      if (copied < chars) return done > 0 ? done : -EFAULT
      this.offset[i] = 0
      this.length[i] = chars
      this.packet[i] = packets ? PACKET : CAN_MERGE
      this.head++
      done += chars
    }
    return done
  }

  /** splice, tee: copies out up to `len` bytes after the first `skip`, without taking them. */
  peek(dst: Uint8Array, at: number, len: number, skip = 0): number {
    let done = 0
    let left = skip
    for (let s = this.tail; s < this.head && done < len; s++) {
      const i = s & this.mask
      const have = this.length[i]!
      if (left >= have) {
        left -= have
        continue
      }
      const from = i * PAGE + this.offset[i]! + left
      const n = Math.min(have - left, len - done)
      dst.set(this.pages.subarray(from, from + n), at + done)
      done += n
      left = 0
    }
    return done
  }

  /** splice: drops `len` bytes that were peeked at. */
  discard(len: number): void {
    let left = len
    while (left > 0 && this.tail < this.head) {
      const i = this.tail & this.mask
      const n = Math.min(left, this.length[i]!)
      this.offset[i] = this.offset[i]! + n
      this.length[i] = this.length[i]! - n
      left -= n
      if (this.length[i] === 0) this.advance()
    }
  }

  /** splice, vmsplice: puts bytes in, into slots of their own. Returns how many fitted. */
  put(src: Uint8Array, at: number, len: number): number {
    if (this.pages.length === 0) this.allocate()
    let done = 0
    while (done < len && this.head - this.tail < this.slots) {
      const i = this.head & this.mask
      const n = Math.min(PAGE, len - done)
      this.pages.set(src.subarray(at + done, at + done + n), i * PAGE)
      this.offset[i] = 0
      this.length[i] = n
      this.packet[i] = CAN_MERGE
      this.head++
      done += n
    }
    return done
  }

  /** F_SETPIPE_SZ. 0, or −EBUSY when what is queued does not fit. */
  resize(slots: number): number {
    const used = this.head - this.tail
    if (used > slots) return -EBUSY
    const next = new PipeBuffer(slots)
    if (used > 0) next.allocate()
    for (let k = 0; k < used; k++) {
      const i = (this.tail + k) & this.mask
      const from = i * PAGE + this.offset[i]!
      next.pages.set(this.pages.subarray(from, from + this.length[i]!), k * PAGE)
      next.length[k] = this.length[i]!
      next.packet[k] = this.packet[i]!
    }
    this.free()
    this.slots = slots
    this.mask = slots - 1
    this.pages = next.pages
    this.offset = next.offset
    this.length = next.length
    this.packet = next.packet
    this.head = used
    return 0
  }
}
