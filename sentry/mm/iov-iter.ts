/**
 * IovIter: a cursor over the memory that a read or write call transfers (Linux: struct iov_iter).
 *
 * File descriptions move bytes only through it, so that the same code serves guest buffers, iovecs, and the sentry's
 * own buffers (sendfile, splice, the ELF loader). A short copy means a fault: the caller returns what was copied, or
 * −EFAULT if nothing was.
 */

import { pread, pwrite, read, write } from '../../native/host.ts'
import { EFAULT } from '../abi/errno.ts'

/** Where guest bytes are: implemented by the address space of a task. */
export interface UserMemory {
  /** Copies `len` guest bytes at `addr` to `dst[at…]`; returns the bytes copied before a fault. */
  copyIn(addr: number, dst: Uint8Array, at: number, len: number): number
  /** Copies `src[at … at+len)` to guest `addr`; returns the bytes copied before a fault. */
  copyOut(addr: number, src: Uint8Array, at: number, len: number): number
}

/** Bounce buffer between host fds and guest memory. One is enough: the kernel is single-threaded and never re-enters. */
const BOUNCE = new Uint8Array(256 * 1024)

export abstract class IovIter {
  /** Bytes still to transfer. */
  remaining = 0

  /** Copies src[at … at+len) to the current place and advances. Returns the bytes copied; fewer means a fault. */
  abstract copyTo(src: Uint8Array, at: number, len: number): number
  /** Copies `len` bytes from the current place to dst[at…] and advances. Returns the bytes copied. */
  abstract copyFrom(dst: Uint8Array, at: number, len: number): number
  /** Advances without copying. */
  abstract skip(len: number): void

  /** Reads from a host fd into the iterator; offset −1 means the fd's own position. ≥ 0 bytes, or −errno if none. */
  readFromHost(fd: number, offset: number, max: number = this.remaining): number {
    let done = 0
    let left = Math.min(max, this.remaining)
    while (left > 0) {
      const chunk = Math.min(left, BOUNCE.length)
      const n = offset < 0 ? read(fd, BOUNCE, chunk) : pread(fd, BOUNCE, chunk, offset + done)
      if (n < 0) return done > 0 ? done : n
      if (n === 0) return done
      const copied = this.copyTo(BOUNCE, 0, n)
      done += copied
      if (copied < n) return done > 0 ? done : -EFAULT
      left -= n
      if (n < chunk) return done
    }
    return done
  }

  /** Writes from the iterator to a host fd; offset −1 means the fd's own position. ≥ 0 bytes, or −errno if none. */
  writeToHost(fd: number, offset: number, max: number = this.remaining): number {
    let done = 0
    let left = Math.min(max, this.remaining)
    while (left > 0) {
      const chunk = Math.min(left, BOUNCE.length)
      const before = this.mark()
      const got = this.copyFrom(BOUNCE, 0, chunk)
      if (got === 0) return done > 0 ? done : -EFAULT
      const n = offset < 0 ? write(fd, BOUNCE, got) : pwrite(fd, BOUNCE, got, offset + done)
      if (n < got) {
        this.rewind(before)
        if (n < 0) return done > 0 ? done : n
        this.skip(n)
        return done + n
      }
      done += n
      left -= n
      if (got < chunk) return done
    }
    return done
  }

  /** A position for {@link rewind}. */
  abstract mark(): number
  abstract rewind(mark: number): void
}

/** Over guest memory: one buffer or an iovec that was copied in and checked (total ≤ 2^31, each length ≥ 0). */
export class UserIovIter extends IovIter {
  private readonly memory: UserMemory
  /** Pairs of (address, length). */
  private segments: Float64Array = SINGLE
  private count = 0
  private index = 0
  private offset = 0

  constructor(memory: UserMemory) {
    super()
    this.memory = memory
  }

  /** Points the iterator at one buffer. */
  single(addr: number, len: number): this {
    if (this.segments === SINGLE || this.segments.length < 2) this.segments = new Float64Array(2)
    this.segments[0] = addr
    this.segments[1] = len
    this.count = 1
    return this.reset(len)
  }

  /** Points the iterator at `count` (address, length) pairs; takes over the array. */
  vector(segments: Float64Array, count: number): this {
    this.segments = segments
    this.count = count
    let total = 0
    for (let i = 0; i < count; i++) total += segments[2 * i + 1]!
    return this.reset(total)
  }

  private reset(total: number): this {
    this.index = 0
    this.offset = 0
    this.remaining = total
    return this
  }

  private step(buf: Uint8Array, at: number, len: number, toGuest: boolean): number {
    let done = 0
    let left = Math.min(len, this.remaining)
    while (left > 0 && this.index < this.count) {
      const addr = this.segments[2 * this.index]! + this.offset
      const room = this.segments[2 * this.index + 1]! - this.offset
      if (room === 0) {
        this.index++
        this.offset = 0
        continue
      }
      const n = Math.min(room, left)
      const copied = toGuest
        ? this.memory.copyOut(addr, buf, at + done, n)
        : this.memory.copyIn(addr, buf, at + done, n)
      done += copied
      this.offset += copied
      this.remaining -= copied
      if (copied < n) return done
      left -= n
    }
    return done
  }

  copyTo(src: Uint8Array, at: number, len: number): number {
    return this.step(src, at, len, true)
  }
  copyFrom(dst: Uint8Array, at: number, len: number): number {
    return this.step(dst, at, len, false)
  }

  skip(len: number): void {
    let left = Math.min(len, this.remaining)
    this.remaining -= left
    while (left > 0) {
      const room = this.segments[2 * this.index + 1]! - this.offset
      if (left < room) {
        this.offset += left
        return
      }
      left -= room
      this.index++
      this.offset = 0
    }
  }

  mark(): number {
    return this.remaining
  }
  rewind(mark: number): void {
    let total = 0
    for (let i = 0; i < this.count; i++) total += this.segments[2 * i + 1]!
    this.reset(total)
    this.skip(total - mark)
  }
}

const SINGLE = new Float64Array(2)

/** Over a buffer of the sentry. */
export class KernelIovIter extends IovIter {
  readonly buffer: Uint8Array
  position: number
  private readonly end: number

  constructor(buffer: Uint8Array, at = 0, len: number = buffer.length - at) {
    super()
    this.buffer = buffer
    this.position = at
    this.end = at + len
    this.remaining = len
  }

  copyTo(src: Uint8Array, at: number, len: number): number {
    const n = Math.min(len, this.remaining)
    this.buffer.set(src.subarray(at, at + n), this.position)
    this.skip(n)
    return n
  }
  copyFrom(dst: Uint8Array, at: number, len: number): number {
    const n = Math.min(len, this.remaining)
    dst.set(this.buffer.subarray(this.position, this.position + n), at)
    this.skip(n)
    return n
  }
  skip(len: number): void {
    this.position += len
    this.remaining -= len
  }
  mark(): number {
    return this.position
  }
  rewind(mark: number): void {
    this.position = mark
    this.remaining = this.end - mark
  }
}
