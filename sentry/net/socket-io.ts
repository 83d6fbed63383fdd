/**
 * The blocking side of sockets: runs the never-blocking methods of a Socket for a task and waits as Linux would, with
 * SO_RCVTIMEO and SO_SNDTIMEO, MSG_WAITALL, partial progress and SIGPIPE.
 *
 * What must stay true: a call that already moved bytes of a stream returns their number, whatever happens next.
 */
import { EAGAIN, EALREADY, EINPROGRESS, EINTR, EPIPE } from '../abi/errno.ts'
import {
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_ERRQUEUE,
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_PEEK,
  MSG_WAITALL,
  SOCK_SEQPACKET,
} from '../abi/socket.ts'
import { sendSigpipe } from '../fs/sigpipe.ts'
import { BLOCK, ERESTARTSYS, type SysRet } from '../kernel/sysret.ts'
import { NEVER, type Task } from '../kernel/task.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../vfs/file-description.ts'
import { MESSAGE, type Message } from './message.ts'
import type { Socket } from './socket.ts'

/** Ancillary data of the first part of a MSG_WAITALL receive that had to wait. */
class Received {
  readonly control: Uint8Array
  readonly outFlags: number
  readonly nameLen: number
  readonly name: Uint8Array
  constructor(msg: Message) {
    this.control = Uint8Array.prototype.slice.call(msg.control, 0, msg.controlUsed)
    this.outFlags = msg.outFlags
    this.nameLen = msg.nameLen
    this.name = Uint8Array.prototype.slice.call(msg.name, 0, msg.nameLen)
  }
}

/** sock_intr_errno(): a call with a timeout is not restarted, its time would begin again. */
const interrupted = (timeout: number): number => (timeout === NEVER ? ERESTARTSYS : EINTR)

/** Waits on the queue that the socket named, or its own. What a handler returns; `timedOutError` when the time is over. */
function wait(t: Task, sock: Socket, events: number, timeout: number, timedOutError: number): SysRet {
  t.deadlineIn(timeout)
  if (t.timedOut) return t.progress > 0 ? t.progress : -timedOutError
  const queue = MESSAGE.waitQueue ?? sock.waitQueue
  const ret = t.waitOn(queue, events, interrupted(timeout))
  return ret !== BLOCK && t.progress > 0 ? t.progress : ret
}

/** One send call; `msg.iter` holds the whole buffer, also on a retry. */
export function sendMessage(t: Task, sock: Socket, msg: Message): SysRet {
  const iter = msg.iter!
  if (t.progress > 0) {
    iter.skip(t.progress)
    msg.resumed = true
  }
  const wouldBlock = (msg.flags & MSG_DONTWAIT) !== 0
  for (;;) {
    const before = iter.remaining
    const n = sock.sendmsg(t, msg)
    if (n >= 0) {
      t.progress += n
      if (n === before || wouldBlock || !sock.isStream || n === 0) return t.progress
      // Once more before waiting: what stopped it may be over.
      msg.resumed = true
      continue
    }
    if (n === -EAGAIN && !wouldBlock) return wait(t, sock, EPOLLOUT, sock.sndTimeoNs, EAGAIN)
    if (t.progress > 0) return t.progress
    if (n === -EPIPE && sock.isStream && (msg.flags & MSG_NOSIGNAL) === 0) sendSigpipe(t)
    return n
  }
}

/** One receive call; `msg.iter` holds the whole buffer, also on a retry. */
export function receiveMessage(t: Task, sock: Socket, msg: Message): SysRet {
  const iter = msg.iter!
  if (t.progress > 0) iter.skip(t.progress)
  const asked = iter.remaining
  const wouldBlock = (msg.flags & MSG_DONTWAIT) !== 0
  const earlier = t.sysState instanceof Received ? t.sysState : null
  if (earlier !== null) {
    msg.control.set(earlier.control)
    msg.controlUsed = earlier.control.length
  }
  const whole = (msg.flags & MSG_WAITALL) !== 0
  const target = whole ? asked : Math.min(asked, Math.max(1, sock.rcvLowat - t.progress))
  let got = 0
  for (;;) {
    const n = sock.recvmsg(t, msg)
    if (earlier !== null) {
      msg.outFlags |= earlier.outFlags
      msg.name.set(earlier.name)
      msg.nameLen = earlier.nameLen
    }
    if (n === -EAGAIN) {
      if (wouldBlock || (msg.flags & MSG_ERRQUEUE) !== 0) return t.progress > 0 ? t.progress : -EAGAIN
      if (msg.controlUsed > 0 || msg.outFlags !== 0 || msg.nameLen > 0) t.sysState = new Received(msg)
      return wait(t, sock, EPOLLIN | EPOLLRDHUP, sock.rcvTimeoNs, EAGAIN)
    }
    if (n < 0) return t.progress > 0 ? t.progress : n
    t.progress += n
    got += n
    const once = !sock.isStream || wouldBlock || (msg.flags & (MSG_PEEK | MSG_OOB)) !== 0
    if (once || n === 0 || msg.done || got >= target) return t.progress
  }
}

/** connect(2) of an address that was copied in. `t.progress` is 1 once the attempt is under way. */
export function connectSocket(t: Task, sock: Socket, addr: Buffer, len: number, nonblock: boolean): SysRet {
  MESSAGE.waitQueue = null
  const ret = sock.connect(t, addr, len, nonblock)
  if (ret !== -EINPROGRESS && ret !== -EALREADY && ret !== -EAGAIN) return ret
  if (nonblock) return ret
  const timedOut = ret === -EAGAIN ? EAGAIN : ret === -EALREADY && t.progress === 0 ? EALREADY : EINPROGRESS
  if (ret !== -EAGAIN) t.progress = 1
  t.deadlineIn(sock.sndTimeoNs)
  if (t.timedOut) return -timedOut
  return t.waitOn(MESSAGE.waitQueue ?? sock.waitQueue, EPOLLOUT, interrupted(sock.sndTimeoNs))
}

/** accept(2): the new connection, or what the handler returns. */
export function acceptSocket(t: Task, sock: Socket, nonblock: boolean): Socket | SysRet {
  const ret = sock.accept(t, nonblock)
  if (ret !== -EAGAIN || sock.nonblock) return ret
  t.deadlineIn(sock.rcvTimeoNs)
  if (t.timedOut) return -EAGAIN
  return t.waitOn(sock.waitQueue, EPOLLIN, interrupted(sock.rcvTimeoNs))
}

/** read(2) and readv(2) on a socket. */
export function readSocket(t: Task, sock: Socket, iter: IovIter): SysRet {
  if (iter.remaining === 0) return 0
  return receiveMessage(t, sock, MESSAGE.reset(iter, sock.nonblock ? MSG_DONTWAIT : 0))
}

/** write(2) and writev(2) on a socket. */
export function writeSocket(t: Task, sock: Socket, iter: IovIter): SysRet {
  const flags = (sock.nonblock ? MSG_DONTWAIT : 0) | (sock.type === SOCK_SEQPACKET ? MSG_EOR : 0)
  return sendMessage(t, sock, MESSAGE.reset(iter, flags))
}
