/**
 * Takes and puts the fields of messages, in place: the reader in the connection's receive buffer, the writer behind
 * the responses that already wait in its send buffer. Little-endian; strings of 9P have a length in front, those of FUSE
 * a NUL behind.
 *
 * What must stay true: the reader never leaves its message, and `ok` says whether it would have had to. The writer's
 * caller has made sure of room for the largest response (the negotiated msize).
 */
import type { HostMemory } from '../../native/host-files.ts'

const SLASH = 47
const DOT = 46
const TWO_32 = 0x1_0000_0000

export class MessageReader {
  memory: HostMemory
  pos = 0
  end = 0
  ok = true
  /** Of the last {@link bytesAt}. */
  length = 0
  /** Halves of the last {@link u64}, for those that are no numbers (directory offsets). */
  low = 0
  high = 0

  constructor(memory: HostMemory) {
    this.memory = memory
  }

  /** The fields between these. */
  start(pos: number, end: number): void {
    this.pos = pos
    this.end = end
    this.ok = true
  }

  private take(n: number): number {
    const at = this.pos
    if (n > this.end - at) {
      this.ok = false
      this.pos = this.end
      return -1
    }
    this.pos = at + n
    return at
  }

  u8(): number {
    const at = this.take(1)
    return at < 0 ? 0 : this.memory.bytes[at]!
  }
  u16(): number {
    const at = this.take(2)
    return at < 0 ? 0 : this.memory.view.getUint16(at, true)
  }
  u32(): number {
    const at = this.take(4)
    return at < 0 ? 0 : this.memory.view.getUint32(at, true)
  }
  /** Inexact above 2^53: compare before use. */
  u64(): number {
    const at = this.take(8)
    this.low = at < 0 ? 0 : this.memory.view.getUint32(at, true)
    this.high = at < 0 ? 0 : this.memory.view.getUint32(at + 4, true)
    return this.high * TWO_32 + this.low
  }

  /** Takes `n` bytes and returns where they begin, or −1. */
  skip(n: number): number {
    return this.take(n)
  }

  /** Takes a string: where its `length` bytes begin. */
  bytesAt(): number {
    const length = this.u16()
    const at = this.take(length)
    this.length = at < 0 ? 0 : length
    return at < 0 ? this.end : at
  }

  text(): string {
    const at = this.bytesAt()
    return this.memory.bytes.toString('latin1', at, at + this.length)
  }

  /**
   * Takes a string and copies it, NUL-terminated, to `to[at…]`. Its length, or −1 when it is longer than `max` or holds
   * a NUL.
   */
  copyText(to: Uint8Array, at: number, max: number): number {
    const from = this.bytesAt()
    const n = this.length
    if (n > max) return -1
    const { bytes } = this.memory
    for (let i = 0; i < n; i++) {
      const c = bytes[from + i]!
      if (c === 0) return -1
      to[at + i] = c
    }
    to[at + n] = 0
    return n
  }

  /**
   * Takes a string that a NUL ends and copies it, with that, to `to[at…]`. Its length, or −1 when it is longer than `max`.
   */
  copyTerminated(to: Uint8Array, at: number, max: number): number {
    const { bytes } = this.memory
    const end = bytes.indexOf(0, this.pos)
    if (end < 0 || end >= this.end) {
      this.ok = false
      this.pos = this.end
      return -1
    }
    const from = this.pos
    this.pos = end + 1
    this.length = end - from
    if (this.length > max) return -1
    to.set(bytes.subarray(from, end + 1), at)
    return this.length
  }

  /** Everything was there and nothing is left. */
  get complete(): boolean {
    return this.ok && this.pos === this.end
  }
}

/** Whether bytes [at, at + length) may name something in a directory: neither '', '.', '..' nor with a slash. */
export function isName(bytes: Uint8Array, at: number, length: number): boolean {
  if (length === 0) return false
  if (bytes[at] === DOT && (length === 1 || (length === 2 && bytes[at + 1] === DOT))) return false
  for (let i = at; i < at + length; i++) if (bytes[i] === SLASH) return false
  return true
}

export class MessageWriter {
  memory: HostMemory
  pos = 0

  constructor(memory: HostMemory) {
    this.memory = memory
  }

  u8(value: number): this {
    this.memory.bytes[this.pos] = value
    this.pos += 1
    return this
  }
  u16(value: number): this {
    this.memory.view.setUint16(this.pos, value, true)
    this.pos += 2
    return this
  }
  u32(value: number): this {
    this.memory.view.setUint32(this.pos, value, true)
    this.pos += 4
    return this
  }
  /** A safe integer ≥ 0. */
  u64(value: number): this {
    return this.u32(value % TWO_32).u32(value / TWO_32)
  }
  /** Copies a u64 field of another buffer. */
  copy64(from: DataView, at: number): this {
    return this.u32(from.getUint32(at, true)).u32(from.getUint32(at + 4, true))
  }
  zeros(count: number): this {
    this.memory.bytes.fill(0, this.pos, this.pos + count)
    this.pos += count
    return this
  }
  string(from: Uint8Array, at: number, length: number): this {
    this.u16(length)
    this.memory.bytes.set(from.subarray(at, at + length), this.pos)
    this.pos += length
    return this
  }
  patchU32(at: number, value: number): void {
    this.memory.view.setUint32(at, value, true)
  }
}
