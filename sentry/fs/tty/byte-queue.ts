/**
 * A bounded queue of bytes between the two sides of a terminal (Linux: struct tty_buffer). Storage comes with the first
 * byte.
 */
import type { IovIter } from '../../mm/iov-iter.ts'

const NONE = new Uint8Array(0)

export class ByteQueue {
  readonly capacity: number
  private buffer = NONE
  private start = 0
  length = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get room(): number {
    return this.capacity - this.length
  }

  push(src: Uint8Array, at: number, len: number): number {
    if (this.buffer.length === 0) this.buffer = new Uint8Array(this.capacity)
    const n = Math.min(len, this.room)
    const end = (this.start + this.length) % this.capacity
    const first = Math.min(n, this.capacity - end)
    this.buffer.set(src.subarray(at, at + first), end)
    if (first < n) this.buffer.set(src.subarray(at + first, at + n), 0)
    this.length += n
    return n
  }

  pushByte(c: number): boolean {
    if (this.room === 0) return false
    if (this.buffer.length === 0) this.buffer = new Uint8Array(this.capacity)
    this.buffer[(this.start + this.length) % this.capacity] = c
    this.length++
    return true
  }

  /** The longest contiguous run at the front: for writers to host descriptors. */
  front(): Uint8Array {
    return this.buffer.subarray(this.start, this.start + Math.min(this.length, this.capacity - this.start))
  }
  drop(n: number): void {
    this.length -= n
    this.start = this.length === 0 ? 0 : (this.start + n) % this.capacity
  }

  /** Moves up to `max` bytes to the iterator; fewer than asked for means a fault. */
  copyTo(iter: IovIter, max: number): number {
    let done = 0
    let left = Math.min(max, this.length, iter.remaining)
    while (left > 0) {
      const run = Math.min(left, this.capacity - this.start)
      const n = iter.copyTo(this.buffer, this.start, run)
      this.drop(n)
      done += n
      left -= n
      if (n < run) break
    }
    return done
  }

  /** Drops what is behind the first `n` bytes. */
  truncate(n: number): void {
    if (this.length > n) this.length = n
    if (this.length === 0) this.start = 0
  }
}
