/**
 * Encoding of netlink messages and attributes (netlink(7), linux/netlink.h): a growing buffer, everything in 4-byte
 * alignment and host byte order.
 */
export const NLM_F_REQUEST = 1
export const NLM_F_MULTI = 2
export const NLM_F_ACK = 4
export const NLM_F_DUMP = 0x300
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
/** Types below belong to netlink itself. */
export const NLMSG_MIN_TYPE = 0x10
export const NLMSG_HEADER = 16

export class NetlinkWriter {
  private buffer = Buffer.alloc(1024)
  private used = 0
  private messageAt = 0

  private reserve(n: number): number {
    const at = this.used
    const end = at + ((n + 3) & ~3)
    if (end > this.buffer.length) {
      const bigger = Buffer.alloc(Math.max(end, this.buffer.length * 2))
      this.buffer.copy(bigger, 0, 0, this.used)
      this.buffer = bigger
    }
    this.buffer.fill(0, at, end)
    this.used = end
    return at
  }

  begin(type: number, flags: number, seq: number, pid: number): this {
    this.messageAt = this.reserve(NLMSG_HEADER)
    this.buffer.writeUInt16LE(type, this.messageAt + 4)
    this.buffer.writeUInt16LE(flags, this.messageAt + 6)
    this.buffer.writeUInt32LE(seq, this.messageAt + 8)
    this.buffer.writeUInt32LE(pid, this.messageAt + 12)
    return this
  }
  end(): this {
    this.buffer.writeUInt32LE(this.used - this.messageAt, this.messageAt)
    return this
  }

  bytes(data: Uint8Array): this {
    this.buffer.set(data, this.reserve(data.length))
    return this
  }
  u32(v: number): this {
    const at = this.reserve(4)
    this.buffer.writeUInt32LE(v >>> 0, at)
    return this
  }

  attr(type: number, data: Uint8Array): this {
    const at = this.reserve(4 + data.length)
    this.buffer.writeUInt16LE(4 + data.length, at)
    this.buffer.writeUInt16LE(type, at + 2)
    this.buffer.set(data, at + 4)
    return this
  }
  attrU32(type: number, v: number): this {
    INT.writeUInt32LE(v >>> 0, 0)
    return this.attr(type, INT)
  }
  attrU8(type: number, v: number): this {
    return this.attr(type, Uint8Array.of(v))
  }
  attrString(type: number, s: string): this {
    return this.attr(type, Buffer.from(`${s}\0`, 'latin1'))
  }

  /** Everything written so far; the writer starts anew. */
  take(): Buffer {
    const out = Buffer.from(this.buffer.subarray(0, this.used))
    this.used = 0
    return out
  }
}

const INT = Buffer.alloc(4)
