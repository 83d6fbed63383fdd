/**
 * Bytes in the order they came, in chunks: what a TCP socket has received and not read.
 *
 * Small writes fill up the last chunk, so that many of them neither allocate nor fragment a large read.
 */
import type { IovIter } from '../mm/iov-iter.ts'

const SMALL = 4096
const LARGE = 65536

class Chunk {
  readonly data: Buffer
  start = 0
  end = 0
  next: Chunk | null = null
  constructor(size: number) {
    this.data = Buffer.allocUnsafeSlow(size)
  }
}

export class ByteQueue {
  private head: Chunk | null = null
  private tail: Chunk | null = null
  length = 0

  /** Appends up to `max` bytes of `iter`; returns how many (fewer than min(max, remaining): a fault). */
  append(iter: IovIter, max: number): number {
    const total = Math.min(max, iter.remaining)
    let done = 0
    while (done < total) {
      let c = this.tail
      if (c === null || c.end === c.data.length) c = this.grow(total - done)
      const want = Math.min(total - done, c.data.length - c.end)
      const n = iter.copyFrom(c.data, c.end, want)
      c.end += n
      done += n
      this.length += n
      if (n < want) return done
    }
    return done
  }

  private grow(wanted: number): Chunk {
    const c = new Chunk(wanted > SMALL ? LARGE : SMALL)
    if (this.tail === null) this.head = c
    else this.tail.next = c
    this.tail = c
    return c
  }

  /** Copies up to `max` bytes from offset `skip` to `iter` without removing them. */
  peek(iter: IovIter, max: number, skip: number): number {
    let left = Math.min(max, iter.remaining, Math.max(0, this.length - skip))
    let at = skip
    let done = 0
    for (let c = this.head; c !== null && left > 0; c = c.next) {
      const size = c.end - c.start
      if (at >= size) {
        at -= size
        continue
      }
      const want = Math.min(size - at, left)
      const n = iter.copyTo(c.data, c.start + at, want)
      done += n
      if (n < want) return done
      left -= n
      at = 0
    }
    return done
  }

  /** Moves up to `max` bytes to `iter`; stops at a fault. */
  read(iter: IovIter, max: number): number {
    let done = 0
    let left = Math.min(max, iter.remaining, this.length)
    while (left > 0) {
      const c = this.head!
      const want = Math.min(c.end - c.start, left)
      const n = iter.copyTo(c.data, c.start, want)
      this.discard(n)
      done += n
      if (n < want) return done
      left -= n
    }
    return done
  }

  discard(count: number): void {
    let left = Math.min(count, this.length)
    this.length -= left
    while (left > 0) {
      const c = this.head!
      const n = Math.min(c.end - c.start, left)
      c.start += n
      left -= n
      if (c.start < c.end) return
      if (c === this.tail) {
        // Keep one small chunk: request and answer use it over and over.
        c.start = c.end = 0
        if (c.data.length > SMALL) this.head = this.tail = null
        return
      }
      this.head = c.next
    }
  }

  /** Preconditions: not empty. */
  lastByte(): number {
    const c = this.tail!
    return c.data[c.end - 1]!
  }

  clear(): void {
    this.head = this.tail = null
    this.length = 0
  }
}
