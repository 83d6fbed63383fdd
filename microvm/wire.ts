/**
 * The subset of msgpack that host and agent speak (native/agent/frame.h): integers, bytes and arrays, in frames with a
 * little-endian u32 length. Written out rather than taken from msgpackr because the guest is hostile: anything else in a
 * frame (maps, extensions, floats, strings) is an error, nesting and counts are bounded, and the decoder is 60 lines.
 */

export const MAX_FRAME = 1 << 20
const MAX_DEPTH = 4
const MAX_ELEMENTS = 16384

export type Value = number | bigint | boolean | Buffer | Value[]

/** The peer broke the protocol. */
export class WireError extends Error {}

/** `string`s are latin1 byte strings. Integers: −2³¹…2⁵³−1, or a BigInt from 0 to 2⁶⁴−1. */
export type Encodable = number | bigint | boolean | string | Buffer | readonly Encodable[]

export function encode(value: Encodable): Buffer {
  const parts: Buffer[] = [Buffer.alloc(4)]
  put(value, parts)
  const frame = Buffer.concat(parts)
  if (frame.length - 4 > MAX_FRAME) throw new WireError('too much for one message')
  frame.writeUInt32LE(frame.length - 4, 0)
  return frame
}

function tagged(tag: number, size: number): Buffer {
  const b = Buffer.alloc(1 + size)
  b[0] = tag
  return b
}

function put(value: Encodable, parts: Buffer[]): void {
  if (typeof value === 'boolean') {
    parts.push(Buffer.of(value ? 0xc3 : 0xc2))
  } else if (typeof value === 'bigint' || (typeof value === 'number' && value > 0xffffffff)) {
    const b = tagged(0xcf, 8)
    b.writeBigUInt64BE(BigInt(value), 1)
    parts.push(b)
  } else if (typeof value === 'number') {
    const b = tagged(value < 0 ? 0xd2 : 0xce, 4)
    if (value < 0) b.writeInt32BE(value, 1)
    else b.writeUInt32BE(value, 1)
    parts.push(b)
  } else if (typeof value === 'string' || Buffer.isBuffer(value)) {
    const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value
    const b = tagged(0xc6, 4)
    b.writeUInt32BE(bytes.length, 1)
    parts.push(b, bytes)
  } else {
    const b = tagged(0xdd, 4)
    b.writeUInt32BE(value.length, 1)
    parts.push(b)
    for (const element of value) put(element, parts)
  }
}

/** One frame's body: a single array with nothing behind it. Buffers are views of `body`. */
export function decode(body: Buffer): Value[] {
  let at = 0
  const need = (n: number): number => {
    if (n > body.length - at) throw new WireError('the frame ends early')
    at += n
    return at - n
  }
  const bytes = (length: number) => body.subarray(need(length), at)
  const array = (count: number, depth: number): Value[] => {
    if (depth > MAX_DEPTH || count > MAX_ELEMENTS || count > body.length - at) throw new WireError('a wrong array')
    const out: Value[] = []
    for (let i = 0; i < count; i++) out.push(one(depth))
    return out
  }
  const one = (depth: number): Value => {
    const tag = body[need(1)]!
    if (tag < 0x80) return tag
    if (tag >= 0xe0) return tag - 256
    switch (tag) {
      case 0xc2:
      case 0xc3:
        return tag === 0xc3
      case 0xc4:
        return bytes(body[need(1)]!)
      case 0xc5:
        return bytes(body.readUInt16BE(need(2)))
      case 0xc6:
        return bytes(body.readUInt32BE(need(4)))
      case 0xcc:
        return body[need(1)]!
      case 0xcd:
        return body.readUInt16BE(need(2))
      case 0xce:
        return body.readUInt32BE(need(4))
      case 0xcf: {
        const n = body.readBigUInt64BE(need(8))
        return n <= Number.MAX_SAFE_INTEGER ? Number(n) : n
      }
      case 0xd2:
        return body.readInt32BE(need(4))
      case 0xdc:
        return array(body.readUInt16BE(need(2)), depth + 1)
      case 0xdd:
        return array(body.readUInt32BE(need(4)), depth + 1)
      default:
        throw new WireError(`a value of type 0x${tag.toString(16)}`)
    }
  }
  const value = one(0)
  if (!Array.isArray(value) || at !== body.length) throw new WireError('not one array')
  return value
}

/** Collects bytes into frames. */
export class FrameReader {
  private pending: Buffer = Buffer.alloc(0)

  push(chunk: Buffer): void {
    this.pending = this.pending.length ? Buffer.concat([this.pending, chunk]) : Buffer.from(chunk)
  }

  /** The next complete frame, or undefined. Throws {@link WireError}. */
  next(): Value[] | undefined {
    if (this.pending.length < 4) return undefined
    const length = this.pending.readUInt32LE(0)
    if (length === 0 || length > MAX_FRAME) throw new WireError(`a frame of ${length} bytes`)
    if (this.pending.length < 4 + length) return undefined
    const body = this.pending.subarray(4, 4 + length)
    this.pending = this.pending.subarray(4 + length)
    return decode(body)
  }
}

/** Reads the elements of a decoded array in order; a wrong type or range is a {@link WireError}. */
export class Fields {
  private at = 0
  private readonly values: readonly Value[]
  constructor(values: readonly Value[]) {
    this.values = values
  }
  u32(): number {
    const v = this.values[this.at++]
    if (typeof v !== 'number' || !Number.isInteger(v) || v < 0 || v > 0xffffffff) throw new WireError('not a u32')
    return v
  }
  /** 0…2⁵³−1. */
  integer(): number {
    const v = this.values[this.at++]
    if (typeof v !== 'number' || v < 0) throw new WireError('not an integer')
    return v
  }
  bytes(): Buffer {
    const v = this.values[this.at++]
    if (!Buffer.isBuffer(v)) throw new WireError('not bytes')
    return v
  }
  text(): string {
    return this.bytes().toString('latin1')
  }
  list(): Value[] {
    const v = this.values[this.at++]
    if (!Array.isArray(v)) throw new WireError('not an array')
    return v
  }
}
