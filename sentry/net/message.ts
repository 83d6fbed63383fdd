/**
 * What one send or receive call carries (Linux: struct msghdr, kernel side).
 *
 * The kernel is single-threaded and calls are retried from the top, so one instance serves every call: {@link MESSAGE}.
 * Nothing may keep a reference to it, or to its buffers, across a wait.
 */

import { MSG_CTRUNC, SOCKADDR_MAX } from '../abi/socket.ts'
import type { WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'

/** Most ancillary data in one call; Linux bounds it by net.core.optmem_max. */
export const CONTROL_MAX = 64 * 1024
export const OPTMEM_MAX = 20480
const CMSG_HEADER = 16

export class Message {
  iter: IovIter | null = null
  /** MSG_* of the call; MSG_DONTWAIT where the description is O_NONBLOCK. */
  flags = 0
  /** Send: destination (length 0: none). Receive: filled in by the socket when `wantName`. */
  readonly name: Buffer = Buffer.alloc(SOCKADDR_MAX)
  nameLen = 0
  wantName = false
  /** Send: `controlLen` bytes of ancillary data. Receive: room for `controlLen`, of which `controlUsed` are filled. */
  readonly control: Buffer = Buffer.alloc(CONTROL_MAX)
  controlLen = 0
  controlUsed = 0
  /** msg_flags for the receiver. */
  outFlags = 0
  /** Earlier runs of this call already transferred something: descriptors and credentials went with that. */
  resumed = false
  /** Receive: a boundary (end of stream, other writer, descriptors) ends the call even if more was asked for. */
  done = false
  /** Where to wait after −EAGAIN; null: the socket's own queue. */
  waitQueue: WaitQueue | null = null
  /** Receive with MSG_TRUNC on datagrams: the real length, which may exceed what was copied. */

  reset(iter: IovIter, flags: number): this {
    this.iter = iter
    this.flags = flags
    this.nameLen = 0
    this.wantName = false
    this.controlLen = 0
    this.controlUsed = 0
    this.outFlags = 0
    this.resumed = false
    this.done = false
    this.waitQueue = null
    return this
  }

  /** Appends a control message, cut to the room there is (Linux: put_cmsg). */
  putControl(level: number, type: number, data: Uint8Array, len: number = data.length): void {
    const room = this.controlLen - this.controlUsed
    if (room < CMSG_HEADER) {
      this.outFlags |= MSG_CTRUNC
      return
    }
    let total = CMSG_HEADER + len
    if (room < total) {
      this.outFlags |= MSG_CTRUNC
      total = room
    }
    const at = this.controlUsed
    this.controlHeader(at, total, level, type)
    this.control.set(data.subarray(0, total - CMSG_HEADER), at + CMSG_HEADER)
    const space = Math.min((CMSG_HEADER + len + 7) & ~7, room)
    this.control.fill(0, at + total, at + space)
    this.controlUsed += space
  }

  /** Room for data of one more control message, in bytes. */
  get controlRoom(): number {
    return Math.max(0, this.controlLen - this.controlUsed - CMSG_HEADER)
  }

  controlHeader(at: number, len: number, level: number, type: number): void {
    this.control.writeUInt32LE(len, at)
    this.control.writeUInt32LE(0, at + 4)
    this.control.writeInt32LE(level, at + 8)
    this.control.writeInt32LE(type, at + 12)
  }
}

export const MESSAGE = new Message()
