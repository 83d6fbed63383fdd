/**
 * A POSIX message queue (mq_overview(7), Linux: ipc/mqueue.c): messages by priority, limits, and the one process that wants
 * to be told when the empty queue gets a message.
 */
import { EAGAIN, EBUSY, EINVAL, EMFILE, EOVERFLOW } from '../abi/errno.ts'
import { CAP_SYS_RESOURCE } from '../kernel/credentials.ts'
import { RLIMIT_MSGQUEUE } from '../kernel/limits.ts'
import { makeInfo } from '../kernel/siginfo.ts'
import { sendToGroup } from '../kernel/signal.ts'
import type { Task } from '../kernel/task.ts'
import type { ThreadGroup } from '../kernel/thread-group.ts'
import { WaitQueue } from '../kernel/wait-queue.ts'
import type { NetlinkSocket } from '../net/netlink/netlink-socket.ts'
import { EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM } from '../vfs/file-description.ts'
import { HARD_MSGMAX, HARD_MSGSIZEMAX, mqueueLimits } from './mqueue-limits.ts'

export const MQ_PRIO_MAX = 32768
/** sizeof(struct msg_msg) and of a node of the priority tree, which RLIMIT_MSGQUEUE counts. */
const PER_MESSAGE = 48
const PER_PRIORITY = 48
const SI_MESGQ = -3
export const SIGEV_SIGNAL = 0
export const SIGEV_NONE = 1
export const SIGEV_THREAD = 2
export const COOKIE_LEN = 32
const NOTIFY_WOKENUP = 1
const NOTIFY_REMOVED = 2

class QueuedMessage {
  readonly priority: number
  readonly data: Buffer
  constructor(priority: number, data: Buffer) {
    this.priority = priority
    this.data = data
  }
}

/** mq_notify(3): who is told, and how. */
export interface Notification {
  readonly owner: ThreadGroup
  readonly kind: number
  readonly signo: number
  readonly valueLo: number
  readonly valueHi: number
  /** SIGEV_THREAD: glibc's helper thread reads the cookie from this socket. */
  readonly socket: NetlinkSocket | null
  readonly cookie: Buffer | null
}

/** Bytes that each user's queues may need, by uid. */
const charged = new Map<number, number>()

export class MessageQueue {
  readonly maxMessages: number
  readonly messageSize: number
  /** Highest priority first, oldest first among equals. */
  private readonly messages: QueuedMessage[] = []
  bytes = 0
  notification: Notification | null = null
  /** Tasks inside mq_timedreceive and mq_timedsend; poll(2) waits on `pollQueue`. */
  readonly receivers = new WaitQueue()
  readonly senders = new WaitQueue()
  readonly pollQueue = new WaitQueue()
  private readonly uid: number
  private readonly charge: number

  private constructor(maxMessages: number, messageSize: number, uid: number, charge: number) {
    this.maxMessages = maxMessages
    this.messageSize = messageSize
    this.uid = uid
    this.charge = charge
    charged.set(uid, (charged.get(uid) ?? 0) + charge)
  }

  /** Limits −1: the defaults. −errno when they are out of range or the user has too much already. */
  static create(t: Task, maxMessages: number, messageSize: number): MessageQueue | number {
    const limits = mqueueLimits
    const max = maxMessages === -1 ? Math.min(limits.msg_default, limits.msg_max) : maxMessages
    const size = messageSize === -1 ? Math.min(limits.msgsize_default, limits.msgsize_max) : messageSize
    const powerful = t.creds.capable(CAP_SYS_RESOURCE)
    if (max <= 0 || size <= 0) return -EINVAL
    if (max > (powerful ? HARD_MSGMAX : limits.msg_max)) return -EINVAL
    if (size > (powerful ? HARD_MSGSIZEMAX : limits.msgsize_max)) return -EINVAL
    const charge = max * size + max * PER_MESSAGE + Math.min(max, MQ_PRIO_MAX) * PER_PRIORITY
    if (charge > Number.MAX_SAFE_INTEGER) return -EOVERFLOW
    const uid = t.creds.uid
    if ((charged.get(uid) ?? 0) + charge > t.group.limits.soft[RLIMIT_MSGQUEUE]!) return -EMFILE
    return new MessageQueue(max, size, uid, charge)
  }

  /** The last user and the name are gone. */
  destroy(): void {
    charged.set(this.uid, (charged.get(this.uid) ?? 0) - this.charge)
    this.messages.length = 0
  }

  get length(): number {
    return this.messages.length
  }
  get full(): boolean {
    return this.messages.length >= this.maxMessages
  }
  poll(): number {
    return (this.messages.length > 0 ? EPOLLIN | EPOLLRDNORM : 0) | (this.full ? 0 : EPOLLOUT | EPOLLWRNORM)
  }

  /** Preconditions: not full. */
  send(t: Task, priority: number, data: Buffer): void {
    let at = this.messages.length
    while (at > 0 && this.messages[at - 1]!.priority < priority) at--
    this.messages.splice(at, 0, new QueuedMessage(priority, data))
    this.bytes += data.length
    if (!this.receivers.empty) this.receivers.wake(EPOLLIN)
    else {
      if (this.messages.length === 1) this.notify(t)
      this.pollQueue.wake(EPOLLIN | EPOLLRDNORM)
    }
  }

  receive(): QueuedMessage | number {
    const m = this.messages.shift()
    if (m === undefined) return -EAGAIN
    this.bytes -= m.data.length
    if (!this.senders.empty) this.senders.wake(EPOLLOUT)
    else this.pollQueue.wake(EPOLLOUT | EPOLLWRNORM)
    return m
  }

  // ---- notification --------------------------------------------------------------------------------------------------
  register(n: Notification): number {
    if (this.notification !== null) return -EBUSY
    this.notification = n
    n.socket?.ref()
    return 0
  }

  /** mq_notify(NULL), close and exit. */
  unregister(owner: ThreadGroup): void {
    const n = this.notification
    if (n === null || n.owner !== owner) return
    this.notification = null
    tell(n, NOTIFY_REMOVED)
  }

  private notify(sender: Task): void {
    const n = this.notification
    if (n === null) return
    this.notification = null
    if (n.kind === SIGEV_SIGNAL && n.signo !== 0 && !n.owner.zombie) {
      const info = makeInfo(n.signo, SI_MESGQ)
      info.pid = sender.group.pid
      info.uid = sender.creds.uid
      info.valueLo = n.valueLo
      info.valueHi = n.valueHi
      sendToGroup(n.owner, info)
    }
    tell(n, NOTIFY_WOKENUP)
  }
}

function tell(n: Notification, code: number): void {
  if (n.socket === null || n.cookie === null) return
  n.cookie[COOKIE_LEN - 1] = code
  n.socket.deliver(n.cookie)
  n.socket.unref()
}
