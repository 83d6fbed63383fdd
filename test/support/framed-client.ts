/** What the test clients of both front ends for virtual machines do: messages that begin with their length, and fields. */
import { poll, read, write } from '../../native/host.ts'

export const u32 = (n: number): Buffer => {
  const b = Buffer.alloc(4)
  b.writeUInt32LE(n >>> 0)
  return b
}
export const u64 = (n: number | bigint): Buffer => {
  const b = Buffer.alloc(8)
  b.writeBigUInt64LE(BigInt.asUintN(64, BigInt(n)))
  return b
}

const TIMEOUT_MS = 20_000

export class FramedClient {
  readonly fd: number
  private pending: Buffer = Buffer.alloc(0)
  private readonly chunk = Buffer.alloc(1 << 20)

  constructor(fd: number) {
    this.fd = fd
  }

  /** Sends bytes as they are. */
  send(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const n = write(this.fd, bytes.subarray(at), bytes.length - at)
      if (n < 0) throw new Error(`write: ${n}`)
      at += n
    }
  }

  /** The next whole message; null at the connection's end. */
  receive(): Buffer | null {
    for (;;) {
      if (this.pending.length >= 4 && this.pending.length >= this.pending.readUInt32LE(0)) {
        const message = this.pending.subarray(0, this.pending.readUInt32LE(0))
        this.pending = this.pending.subarray(message.length)
        return message
      }
      const set = Buffer.alloc(8)
      set.writeInt32LE(this.fd, 0)
      set.writeInt16LE(1, 4)
      if (poll(set, 1, TIMEOUT_MS) === 0) throw new Error('the gofer does not answer')
      const n = read(this.fd, this.chunk, this.chunk.length)
      if (n <= 0) return null
      this.pending = Buffer.concat([this.pending, this.chunk.subarray(0, n)])
    }
  }
}
