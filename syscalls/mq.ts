/**
 * mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2), mq_getsetattr(2).
 */
import { EAGAIN, EBADF, EFAULT, EINVAL, EMSGSIZE, ENOTSOCK, ETIMEDOUT } from '../sentry/abi/errno.ts'
import { O_CLOEXEC, O_CREAT, O_NONBLOCK } from '../sentry/abi/fcntl.ts'
import {
  COOKIE_LEN,
  MQ_PRIO_MAX,
  type Notification,
  SIGEV_NONE,
  SIGEV_SIGNAL,
  SIGEV_THREAD,
} from '../sentry/ipc/mqueue.ts'
import { MqDescription, openQueue, unlinkQueue } from '../sentry/ipc/mqueue-fs.ts'
import { readRealtime } from '../sentry/kernel/clock.ts'
import { ERESTARTSYS, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { NetlinkSocket } from '../sentry/net/netlink/netlink-socket.ts'
import { EPOLLIN, EPOLLOUT } from '../sentry/vfs/file-description.ts'
import { touchAtime, touchMtime } from '../sentry/vfs/times.ts'
import { installFd } from './io-args.ts'

const ATTR_SIZE = 64
const EVENT_SIZE = 64
const NSIG = 64
const TWO32 = 0x1_0000_0000
const DATA = Buffer.alloc(ATTR_SIZE)

const longAt = (at: number): number => DATA.readUInt32LE(at) + DATA.readInt32LE(at + 4) * TWO32
const putLong = (v: number, at: number): void => {
  DATA.writeUInt32LE(v % TWO32, at)
  DATA.writeUInt32LE(Math.floor(v / TWO32), at + 4)
}

export function sysMqOpen(t: Task): SysRet {
  const flags = t.argI32(1)
  const attr = t.argPtr(3)
  let maxMessages = -1
  let messageSize = -1
  if (attr !== 0) {
    if (t.readBytes(attr, DATA) < 0) return -EFAULT
    maxMessages = longAt(8)
    messageSize = longAt(16)
    // −1 stands for the defaults further down; from the guest it is out of range.
    if (maxMessages === -1 || messageSize === -1) maxMessages = messageSize = 0
  }
  const name = t.readPath(t.argPtr(0))
  if (typeof name === 'number') return name
  const file = openQueue(
    t,
    name,
    flags & ~O_CLOEXEC,
    (flags & O_CREAT) !== 0 ? t.argU32(2) : 0,
    maxMessages,
    messageSize,
  )
  return typeof file === 'number' ? file : installFd(t, file, true)
}

export function sysMqUnlink(t: Task): SysRet {
  const name = t.readPath(t.argPtr(0))
  return typeof name === 'number' ? name : unlinkQueue(t, name)
}

/** An absolute CLOCK_REALTIME timespec as the call's deadline. 0 or −errno. */
function timeoutArg(t: Task, i: number): number {
  const addr = t.argPtr(i)
  if (addr === 0) return 0
  const sec = t.readU64(addr)
  const nsec = t.readU64(addr + 8)
  if (sec < 0 || nsec < 0) return -EFAULT
  if (sec >= 2 ** 63 || nsec >= 1e9) return -EINVAL
  const now = readRealtime()
  t.deadlineIn((sec - now.sec) * 1e9 + nsec - now.nsec)
  return 0
}

export function sysMqTimedsend(t: Task): SysRet {
  const bad = timeoutArg(t, 4)
  if (bad !== 0) return bad
  const priority = t.argU32(3)
  if (priority >= MQ_PRIO_MAX) return -EINVAL
  const file = t.fds.get(t.argI32(0))
  if (!(file instanceof MqDescription) || !file.writable) return -EBADF
  const { queue } = file
  const len = t.argPtr(2)
  if (len > queue.messageSize) return -EMSGSIZE
  const data = Buffer.alloc(len)
  if (len > 0 && t.readBytes(t.argPtr(1), data) < 0) return -EFAULT
  if (queue.full) {
    if ((file.flags & O_NONBLOCK) !== 0) return -EAGAIN
    return t.timedOut ? -ETIMEDOUT : t.waitOn(queue.senders, EPOLLOUT, ERESTARTSYS)
  }
  queue.send(t, priority, data)
  touchMtime(file.inode)
  return 0
}

export function sysMqTimedreceive(t: Task): SysRet {
  const bad = timeoutArg(t, 4)
  if (bad !== 0) return bad
  const file = t.fds.get(t.argI32(0))
  if (!(file instanceof MqDescription) || !file.readable) return -EBADF
  const { queue } = file
  if (t.argPtr(2) < queue.messageSize) return -EMSGSIZE
  const m = queue.receive()
  if (typeof m === 'number') {
    if ((file.flags & O_NONBLOCK) !== 0) return -EAGAIN
    return t.timedOut ? -ETIMEDOUT : t.waitOn(queue.receivers, EPOLLIN, ERESTARTSYS)
  }
  touchAtime(file.path!.mount, file.inode)
  const priority = t.argPtr(3)
  if (priority !== 0 && t.writeU32(priority, m.priority) < 0) return -EFAULT
  return m.data.length > 0 && t.writeBytes(t.argPtr(1), m.data) < 0 ? -EFAULT : m.data.length
}

export function sysMqNotify(t: Task): SysRet {
  const addr = t.argPtr(1)
  let wanted: Notification | null = null
  if (addr !== 0) {
    if (t.readBytes(addr, DATA, EVENT_SIZE) < 0) return -EFAULT
    const valueLo = DATA.readUInt32LE(0)
    const valueHi = DATA.readUInt32LE(4)
    const signo = DATA.readInt32LE(8)
    const kind = DATA.readInt32LE(12)
    if (kind !== SIGEV_NONE && kind !== SIGEV_SIGNAL && kind !== SIGEV_THREAD) return -EINVAL
    if (kind === SIGEV_SIGNAL && (signo < 0 || signo > NSIG)) return -EINVAL
    let socket: NetlinkSocket | null = null
    let cookie: Buffer | null = null
    if (kind === SIGEV_THREAD) {
      cookie = Buffer.alloc(COOKIE_LEN)
      if (t.readBytes(valueLo + valueHi * TWO32, cookie) < 0) return -EFAULT
      const file = t.fds.get(signo)
      if (file === undefined) return -EBADF
      if (!(file instanceof NetlinkSocket)) return -ENOTSOCK
      socket = file
    }
    wanted = { owner: t.group, kind, signo, valueLo, valueHi, socket, cookie }
  }
  const file = t.fds.get(t.argI32(0))
  if (!(file instanceof MqDescription)) return -EBADF
  if (wanted !== null) return file.queue.register(wanted)
  file.queue.unregister(t.group)
  return 0
}

export function sysMqGetsetattr(t: Task): SysRet {
  const change = t.argPtr(1)
  const out = t.argPtr(2)
  let nonblock = -1
  if (change !== 0) {
    if (t.readBytes(change, DATA) < 0) return -EFAULT
    const flags = longAt(0)
    if (flags !== 0 && flags !== O_NONBLOCK) return -EINVAL
    nonblock = flags
  }
  const file = t.fds.get(t.argI32(0))
  if (!(file instanceof MqDescription)) return -EBADF
  const { queue } = file
  DATA.fill(0)
  putLong(file.flags & O_NONBLOCK, 0)
  putLong(queue.maxMessages, 8)
  putLong(queue.messageSize, 16)
  putLong(queue.length, 24)
  if (nonblock >= 0) file.flags = (file.flags & ~O_NONBLOCK) | nonblock
  return out !== 0 && t.writeBytes(out, DATA) < 0 ? -EFAULT : 0
}
