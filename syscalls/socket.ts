/**
 * The socket calls: socket(2), socketpair(2), bind(2), listen(2), accept(2), connect(2), getsockname(2), getpeername(2),
 * send(2), recv(2), sendmmsg(2), recvmmsg(2), shutdown(2), getsockopt(2), setsockopt(2). Order of checks as net/socket.c.
 */
import { EAGAIN, EBADF, ECONNABORTED, EFAULT, EINVAL, EMFILE, ENOTSOCK, ERANGE } from '../sentry/abi/errno.ts'
import { O_NONBLOCK, O_PATH } from '../sentry/abi/fcntl.ts'
import {
  MSG_CMSG_COMPAT,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_WAITFORONE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_TYPE_MASK,
  SOL_SOCKET,
  SOMAXCONN,
  UIO_MAXIOV,
} from '../sentry/abi/socket.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import { BLOCK, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { createSocket, pairSockets } from '../sentry/net/families.ts'
import { MESSAGE } from '../sentry/net/message.ts'
import { Socket } from '../sentry/net/socket.ts'
import { acceptSocket, connectSocket, receiveMessage, sendMessage } from '../sentry/net/socket-io.ts'
import { getSocketOption, setSocketOption } from '../sentry/net/socket-options.ts'
import { importBuffer } from './io-args.ts'
import {
  ADDRESS,
  copyAddressIn,
  copyAddressOut,
  MSGHDR_SIZE,
  receiveHeader,
  SENDMMSG_OWN_FLAGS,
  sendHeader,
} from './socket-message.ts'

/** struct mmsghdr: a msghdr and its length, padded. */
const MMSGHDR_SIZE = MSGHDR_SIZE + 8
/** Largest option value that is looked at. */
const OPTION_MAX = 4096
const OPTION = Buffer.alloc(64 * 1024)

/** The socket of descriptor argument `i`, or −EBADF, −ENOTSOCK. */
function socketArg(t: Task, i: number): Socket | number {
  const file = t.fds.get(t.argI32(i))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  return file instanceof Socket ? file : -ENOTSOCK
}

const fdLimit = (t: Task): number => t.group.limits.soft[RLIMIT_NOFILE]!

/** Whether `count` descriptors are free: asked before anything happens that could not be undone. */
function descriptorsFree(t: Task, count: number): boolean {
  const limit = fdLimit(t)
  const size = t.fds.size
  if (size + count <= limit) return true
  let free = Math.max(0, limit - size)
  for (let fd = 0; fd < Math.min(size, limit) && free < count; fd++) if (t.fds.get(fd) === undefined) free++
  return free >= count
}

export function sysSocket(t: Task): SysRet {
  const type = t.argI32(1)
  const flags = type & ~SOCK_TYPE_MASK
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) return -EINVAL
  const s = createSocket(t, t.argI32(0), type & SOCK_TYPE_MASK, t.argI32(2), (flags & SOCK_NONBLOCK) !== 0)
  if (typeof s === 'number') return s
  return t.fds.install(s, (flags & SOCK_CLOEXEC) !== 0, fdLimit(t))
}

export function sysSocketpair(t: Task): SysRet {
  const type = t.argI32(1)
  const flags = type & ~SOCK_TYPE_MASK
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) return -EINVAL
  if (!descriptorsFree(t, 2)) return -EMFILE
  const nonblock = (flags & SOCK_NONBLOCK) !== 0
  const a = createSocket(t, t.argI32(0), type & SOCK_TYPE_MASK, t.argI32(2), nonblock)
  if (typeof a === 'number') return a
  const b = createSocket(t, t.argI32(0), type & SOCK_TYPE_MASK, t.argI32(2), nonblock)
  if (typeof b === 'number') {
    a.unref()
    return b
  }
  const err = pairSockets(t, a, b)
  if (err !== 0) {
    a.unref()
    b.unref()
    return err
  }
  const cloexec = (flags & SOCK_CLOEXEC) !== 0
  const fd1 = t.fds.install(a, cloexec, fdLimit(t))
  const fd2 = t.fds.install(b, cloexec, fdLimit(t))
  const at = t.argPtr(3)
  if (t.writeU32(at, fd1) < 0 || t.writeU32(at + 4, fd2) < 0) {
    t.fds.close(t, fd1)
    t.fds.close(t, fd2)
    return -EFAULT
  }
  return 0
}

export function sysBind(t: Task): SysRet {
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  const len = t.argI32(2)
  const bad = copyAddressIn(t, t.argPtr(1), len)
  return bad !== 0 ? bad : s.bind(t, ADDRESS, len)
}

export function sysListen(t: Task): SysRet {
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  return s.listen(t, Math.min(t.argU32(1), SOMAXCONN))
}

export const sysAccept = (t: Task): SysRet => accept(t, 0)
export const sysAccept4 = (t: Task): SysRet => accept(t, t.argI32(3))

function accept(t: Task, flags: number): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) return -EINVAL
  if (!descriptorsFree(t, 1)) return -EMFILE
  if (!(file instanceof Socket)) return -ENOTSOCK
  const s = acceptSocket(t, file, (flags & SOCK_NONBLOCK) !== 0)
  if (typeof s === 'number') return s
  const addr = t.argPtr(1)
  if (addr !== 0) {
    const len = s.getname(true, ADDRESS)
    const err = len < 0 ? -ECONNABORTED : copyAddressOut(t, ADDRESS, len, addr, t.argPtr(2))
    if (err < 0) {
      s.unref()
      return err
    }
  }
  return t.fds.install(s, (flags & SOCK_CLOEXEC) !== 0, fdLimit(t))
}

export function sysConnect(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  const len = t.argI32(2)
  const bad = copyAddressIn(t, t.argPtr(1), len)
  if (bad !== 0) return bad
  if (!(file instanceof Socket)) return -ENOTSOCK
  return connectSocket(t, file, ADDRESS, len, (file.flags & O_NONBLOCK) !== 0)
}

export const sysGetsockname = (t: Task): SysRet => getname(t, false)
export const sysGetpeername = (t: Task): SysRet => getname(t, true)

function getname(t: Task, peer: boolean): SysRet {
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  const len = s.getname(peer, ADDRESS)
  return len < 0 ? len : copyAddressOut(t, ADDRESS, len, t.argPtr(1), t.argPtr(2))
}

export function sysSendto(t: Task): SysRet {
  const iter = importBuffer(t, t.argPtr(1), t.argPtr(2))
  if (typeof iter === 'number') return iter
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  const msg = MESSAGE.reset(iter, sendFlags(s, t.argU32(3)))
  const addr = t.argPtr(4)
  if (addr !== 0) {
    const len = t.argI32(5)
    const err = copyAddressIn(t, addr, len, msg.name)
    if (err !== 0) return err
    msg.nameLen = len
  }
  return sendMessage(t, s, msg)
}

const sendFlags = (s: Socket, flags: number): number => (s.nonblock ? flags | MSG_DONTWAIT : flags)

export function sysRecvfrom(t: Task): SysRet {
  const iter = importBuffer(t, t.argPtr(1), t.argPtr(2))
  if (typeof iter === 'number') return iter
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  const addr = t.argPtr(4)
  const msg = MESSAGE.reset(iter, sendFlags(s, t.argU32(3)))
  msg.wantName = addr !== 0
  const n = receiveMessage(t, s, msg)
  if (n < 0 || addr === 0) return n
  const err = copyAddressOut(t, msg.name, msg.nameLen, addr, t.argPtr(5))
  return err < 0 ? err : n
}

export function sysSendmsg(t: Task): SysRet {
  const flags = t.argI32(2)
  if (flags & MSG_CMSG_COMPAT) return -EINVAL
  const s = socketArg(t, 0)
  return typeof s === 'number' ? s : sendHeader(t, s, t.argPtr(1), flags, 0)
}

export function sysRecvmsg(t: Task): SysRet {
  const flags = t.argI32(2)
  if (flags & MSG_CMSG_COMPAT) return -EINVAL
  const s = socketArg(t, 0)
  return typeof s === 'number' ? s : receiveHeader(t, s, t.argPtr(1), flags)
}

/** Messages that sendmmsg or recvmmsg has done, and what the one in progress keeps. */
class Batch {
  done = 0
  /** Monotonic ns after which recvmmsg asks for no more. */
  end = Number.POSITIVE_INFINITY
  inner: object | null = null
}

function batchOf(t: Task): Batch {
  if (t.sysState instanceof Batch) {
    const batch = t.sysState
    t.sysState = batch.inner
    return batch
  }
  return new Batch()
}

/** Before the next message of a batch: it has its own progress and deadline. */
function nextMessage(t: Task): void {
  t.progress = 0
  t.deadline = Number.NaN
  t.sysState = null
}

export function sysSendmmsg(t: Task): SysRet {
  const flags = t.argI32(3)
  if (flags & MSG_CMSG_COMPAT) return -EINVAL
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  const count = Math.min(t.argU32(2), UIO_MAXIOV)
  const batch = batchOf(t)
  while (batch.done < count) {
    const at = t.argPtr(1) + batch.done * MMSGHDR_SIZE
    const n = sendHeader(t, s, at, flags, SENDMMSG_OWN_FLAGS)
    if (n === BLOCK) {
      batch.inner = t.sysState
      t.sysState = batch
      return BLOCK
    }
    if (n < 0) return batch.done > 0 ? batch.done : n
    if (t.writeU32(at + MSGHDR_SIZE, n) < 0) return batch.done > 0 ? batch.done : -EFAULT
    batch.done++
    if (n < totalOf(t)) break
    nextMessage(t)
  }
  return batch.done
}

/** Bytes the iterator was set up for. */
const totalOf = (t: Task): number => t.progress + t.iter.remaining

export function sysRecvmmsg(t: Task): SysRet {
  let flags = t.argI32(3)
  if (flags & MSG_CMSG_COMPAT) return -EINVAL
  const timeout = t.argPtr(4)
  const fresh = !(t.sysState instanceof Batch)
  const batch = batchOf(t)
  if (timeout !== 0 && fresh) {
    const sec = t.readU64(timeout)
    const nsec = t.readU64(timeout + 8)
    if (sec < 0 || nsec < 0) return -EFAULT
    if (sec >= 2 ** 63 || nsec >= 1e9) return -EINVAL
    batch.end = t.kernel.now() + sec * 1e9 + nsec
  }
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  if (fresh && (flags & MSG_ERRQUEUE) === 0) {
    const err = s.takeError()
    if (err !== 0) return err
  }
  const count = Math.min(t.argU32(2), UIO_MAXIOV)
  while (batch.done < count) {
    if ((flags & MSG_WAITFORONE) !== 0 && batch.done > 0) flags |= MSG_DONTWAIT
    const at = t.argPtr(1) + batch.done * MMSGHDR_SIZE
    const n = receiveHeader(t, s, at, flags & ~MSG_WAITFORONE)
    if (n === BLOCK) {
      batch.inner = t.sysState
      t.sysState = batch
      return BLOCK
    }
    if (n < 0) {
      if (batch.done === 0) return n
      if (n !== -EAGAIN && n > -512) s.error = -n
      break
    }
    if (t.writeU32(at + MSGHDR_SIZE, n) < 0) return batch.done > 0 ? batch.done : -EFAULT
    batch.done++
    nextMessage(t)
    if (t.kernel.now() >= batch.end) break
  }
  if (timeout !== 0 && batch.done > 0) {
    const left = Math.max(0, batch.end - t.kernel.now())
    const sec = Math.floor(left / 1e9)
    if (t.writeU64(timeout, sec) < 0 || t.writeU64(timeout + 8, Math.floor(left - sec * 1e9)) < 0) return -EFAULT
  }
  return batch.done
}

export function sysShutdown(t: Task): SysRet {
  const s = socketArg(t, 0)
  return typeof s === 'number' ? s : s.shutdown(t.argI32(1))
}

export function sysSetsockopt(t: Task): SysRet {
  const len = t.argI32(4)
  if (len < 0) return -EINVAL
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  const addr = t.argPtr(3)
  const got = t.copyIn(addr, OPTION, 0, Math.min(len, OPTION_MAX))
  // Most options are an int: what lies behind it need not be readable.
  if (got < Math.min(len, 4)) return -EFAULT
  OPTION.fill(0, got, Math.max(got, 256))
  const level = t.argI32(1)
  const name = t.argI32(2)
  return level === SOL_SOCKET ? setSocketOption(t, s, name, OPTION, len) : s.setsockopt(t, level, name, OPTION, len)
}

export function sysGetsockopt(t: Task): SysRet {
  const s = socketArg(t, 0)
  if (typeof s === 'number') return s
  const level = t.argI32(1)
  const name = t.argI32(2)
  const lenAddr = t.argPtr(4)
  const room = t.readU32(lenAddr)
  if (room < 0) return -EFAULT
  const len = room | 0
  if (len < 0) return -EINVAL
  // Some options take an argument in the buffer.
  t.copyIn(t.argPtr(3), OPTION, 0, Math.min(len, OPTION_MAX))
  const n = level === SOL_SOCKET ? getSocketOption(t, s, name, OPTION, len) : s.getsockopt(t, level, name, OPTION, len)
  if (n === -ERANGE) t.writeU32(lenAddr, OPTION.readUInt32LE(0))
  if (n < 0) return n
  const out = Math.min(n, len)
  if (out > 0 && t.writeBytes(t.argPtr(3), OPTION, out) < 0) return -EFAULT
  return t.writeU32(lenAddr, out)
}
