/**
 * Frames of the control channel: little-endian u32 length, then a msgpackr value. msgpackr costs 8 ms to load and most
 * sandboxes never see a request (`do`), so it is loaded with the first frame.
 */
import type { Packr } from 'msgpackr'
import { MAX_FRAME } from './protocol.ts'

let packr: Packr | null = null

function codec(): Packr {
  if (!packr) {
    // In a bundle `require` exists and esbuild resolves it; in tests (ES modules) it has to be made.
    const msgpackr = (
      typeof require === 'function'
        ? require('msgpackr')
        : process.getBuiltinModule('node:module').createRequire(import.meta.url)('msgpackr')
    ) as typeof import('msgpackr')
    packr = new msgpackr.Packr({ useRecords: false })
  }
  return packr
}

export function encodeFrame(value: unknown): Buffer {
  const body = codec().pack(value)
  const frame = Buffer.allocUnsafe(4 + body.length)
  frame.writeUInt32LE(body.length, 0)
  body.copy(frame, 4)
  return frame
}

/** Thrown for input that no well-behaved peer sends: the connection is to be closed. */
export class FrameError extends Error {}

/** Collects bytes into frames. Bounded: a frame longer than MAX_FRAME is an error as soon as its length is known. */
export class FrameReader {
  private pending: Buffer = Buffer.alloc(0)

  push(chunk: Buffer): void {
    this.pending = this.pending.length ? Buffer.concat([this.pending, chunk]) : Buffer.from(chunk)
  }

  /** The next complete value, or undefined. */
  next(): unknown {
    if (this.pending.length < 4) return undefined
    const length = this.pending.readUInt32LE(0)
    if (length === 0 || length > MAX_FRAME) throw new FrameError(`frame of ${length} bytes`)
    if (this.pending.length < 4 + length) return undefined
    const body = this.pending.subarray(4, 4 + length)
    this.pending = this.pending.subarray(4 + length)
    try {
      return codec().unpack(body)
    } catch (error) {
      throw new FrameError(String(error))
    }
  }
}
