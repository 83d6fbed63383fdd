/**
 * System V message queues (msgop(2), Linux: ipc/msg.c).
 */
import { E2BIG, EAGAIN, EFAULT, EINVAL, ENOMSG } from '../abi/errno.ts'
import { IPC_NOWAIT, MSG_COPY, MSG_EXCEPT, MSG_NOERROR, MSGMNB, MSGMNI, MSQID_DS_SIZE } from '../abi/ipc.ts'
import { readRealtime } from '../kernel/clock.ts'
import type { Task } from '../kernel/task.ts'
import { WaitQueue } from '../kernel/wait-queue.ts'
import { EPOLLIN, EPOLLOUT } from '../vfs/file-description.ts'
import { IpcIds, IpcObject, putU64 } from './ipc-ids.ts'

class QueuedMessage {
  /** long mtype; exact below 2^53. */
  readonly type: number
  readonly data: Buffer
  constructor(type: number, data: Buffer) {
    this.type = type
    this.data = data
  }
}

export class MsgQueue extends IpcObject {
  readonly messages: QueuedMessage[] = []
  bytes = 0
  maxBytes = MSGMNB
  stime = 0
  rtime = 0
  lspid = 0
  lrpid = 0
  /** Receivers wait for EPOLLIN, senders for EPOLLOUT. */
  readonly queue = new WaitQueue()

  constructor(t: Task, key: number, flags: number) {
    super(t, key, flags, readRealtime().sec)
  }

  /** Whether a message of `len` bytes has room. */
  fits(len: number): boolean {
    return len + this.bytes <= this.maxBytes && 1 + this.messages.length <= this.maxBytes
  }

  send(t: Task, type: number, data: Buffer): void {
    this.messages.push(new QueuedMessage(type, data))
    this.bytes += data.length
    this.lspid = t.group.pid
    this.stime = readRealtime().sec
    this.queue.wake(EPOLLIN)
  }

  /** Index of the message that msgrcv(2) with `type` and `flags` takes; −1 if there is none. */
  private find(type: number, flags: number): number {
    const list = this.messages
    if ((flags & MSG_COPY) !== 0) return type >= 0 && type < list.length ? type : -1
    if (type === 0) return list.length > 0 ? 0 : -1
    if (type > 0) {
      const except = (flags & MSG_EXCEPT) !== 0
      return list.findIndex((m) => (m.type === type) !== except)
    }
    let best = -1
    for (let i = 0; i < list.length; i++) {
      if (list[i]!.type <= -type && (best < 0 || list[i]!.type < list[best]!.type)) best = i
    }
    return best
  }

  /** Takes (MSG_COPY: shows) a message, or −EAGAIN, −E2BIG. */
  receive(t: Task, size: number, type: number, flags: number): QueuedMessage | number {
    const i = this.find(type, flags)
    if (i < 0) return -EAGAIN
    const m = this.messages[i]!
    if (m.data.length > size && (flags & MSG_NOERROR) === 0) return -E2BIG
    if ((flags & MSG_COPY) !== 0) return m
    this.messages.splice(i, 1)
    this.bytes -= m.data.length
    this.lrpid = t.group.pid
    this.rtime = readRealtime().sec
    this.queue.wake(EPOLLOUT)
    return m
  }

  destroy(): void {
    MSG.remove(this)
    this.messages.length = 0
    this.queue.wake(EPOLLIN | EPOLLOUT)
  }

  encode(out: Buffer): number {
    out.fill(0, 0, MSQID_DS_SIZE)
    this.encodePerm(out)
    putU64(out, 48, this.stime)
    putU64(out, 56, this.rtime)
    putU64(out, 64, this.ctime)
    putU64(out, 72, this.bytes)
    putU64(out, 80, this.messages.length)
    putU64(out, 88, this.maxBytes)
    out.writeInt32LE(this.lspid, 96)
    out.writeInt32LE(this.lrpid, 100)
    return MSQID_DS_SIZE
  }
}

export const MSG = new IpcIds<MsgQueue>(MSGMNI)

export function msgget(t: Task, key: number, flags: number): number {
  return MSG.obtain(
    t,
    key,
    flags,
    () => 0,
    () => new MsgQueue(t, key, flags),
  )
}

/** Room for mtype in front of the text. */
const TYPE = Buffer.alloc(8)

/** Copies a message out to a struct msgbuf; the length of its text. */
export function deliver(t: Task, m: QueuedMessage, addr: number, size: number): number {
  const n = Math.min(size, m.data.length)
  putU64(TYPE, 0, m.type)
  if (t.writeBytes(addr, TYPE) < 0) return -EFAULT
  return n > 0 && t.writeBytes(addr + 8, m.data, n) < 0 ? -EFAULT : n
}

/** The checks that msgrcv(2) makes before it looks at the queue: 0 or −errno. */
export function checkReceive(size: number, flags: number): number {
  if (size < 0) return -EINVAL
  if ((flags & MSG_COPY) !== 0 && ((flags & MSG_EXCEPT) !== 0 || (flags & IPC_NOWAIT) === 0)) return -EINVAL
  return 0
}

/** What an empty queue answers to IPC_NOWAIT. */
export const NOTHING = -ENOMSG
