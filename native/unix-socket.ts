/**
 * AF_UNIX sockets that carry descriptors (SCM_RIGHTS), for the control channel and the CLI: synchronous, ≥ 0 or −errno.
 * Received descriptors are close-on-exec and belong to the caller.
 */
import { cstr, type Memory, raw } from './host.ts'
import { addressOf } from './library.ts'

export const AF_UNIX = 1
export const SOCK_STREAM = 1
export const SOCK_SEQPACKET = 5
export const SOCK_NONBLOCK = 0o4000
export const SOCK_CLOEXEC = 0o2000000
export const MSG_DONTWAIT = 0x40
export const MSG_NOSIGNAL = 0x4000
const MSG_CTRUNC = 0x8
const MSG_CMSG_CLOEXEC = 0x40000000
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const EBADMSG = 74
const ENAMETOOLONG = 36

const MAX_FDS = 32
/* struct msghdr at 0, struct iovec at 56, control data at 72. */
const IOV = 56
const CONTROL = 72
const CONTROL_SPACE = 16 + MAX_FDS * 4
const msg = Buffer.alloc(CONTROL + CONTROL_SPACE)
const msgAddress = addressOf(msg)

function prepare(buf: Buffer, len: number, controlLength: number): void {
  msg.fill(0, 0, CONTROL)
  msg.writeBigUInt64LE(BigInt(msgAddress + IOV), 16)
  msg.writeUInt32LE(1, 24)
  if (controlLength > 0) {
    msg.writeBigUInt64LE(BigInt(msgAddress + CONTROL), 32)
    msg.writeUInt32LE(controlLength, 40)
  }
  msg.writeBigUInt64LE(BigInt(addressOf(buf)), IOV)
  msg.writeUInt32LE(len, IOV + 8)
}

/** sendmsg(2) of the first `len` bytes with `fds`. MSG_NOSIGNAL is implied. */
export function sendWithFds(fd: number, buf: Buffer, len: number, fds: readonly number[], flags: number): number {
  if (fds.length > MAX_FDS) throw new Error('too many descriptors')
  const dataLength = 16 + fds.length * 4
  prepare(buf, len, fds.length ? CONTROL_SPACE : 0)
  if (fds.length) {
    msg.fill(0, CONTROL)
    msg.writeUInt32LE(dataLength, CONTROL)
    msg.writeUInt32LE(SOL_SOCKET, CONTROL + 8)
    msg.writeUInt32LE(SCM_RIGHTS, CONTROL + 12)
    fds.forEach((n, i) => {
      msg.writeInt32LE(n, CONTROL + 16 + i * 4)
    })
    msg.writeUInt32LE((dataLength + 7) & ~7, 40)
  }
  return raw.LP(46, fd, msg, flags | MSG_NOSIGNAL, 0, 0, 0)
}

/** recvmsg(2); descriptors that came along are appended to `fds`. −EBADMSG (nothing kept) when there were too many. */
export function recvWithFds(fd: number, buf: Buffer, len: number, fds: number[], flags: number): number {
  prepare(buf, len, CONTROL_SPACE)
  const n = raw.LP(47, fd, msg, flags | MSG_CMSG_CLOEXEC, 0, 0, 0)
  if (n < 0) return n
  const end = CONTROL + msg.readUInt32LE(40)
  const received: number[] = []
  for (let at = CONTROL; at + 16 <= end; ) {
    const length = msg.readUInt32LE(at)
    if (length < 16) break
    if (msg.readUInt32LE(at + 8) === SOL_SOCKET && msg.readUInt32LE(at + 12) === SCM_RIGHTS) {
      for (let p = at + 16; p + 4 <= at + length; p += 4) received.push(msg.readInt32LE(p))
    }
    at += (length + 7) & ~7
  }
  if (msg.readUInt32LE(48) & MSG_CTRUNC) {
    for (const r of received) raw.L(3, r, 0, 0, 0, 0, 0)
    return -EBADMSG
  }
  fds.push(...received)
  return n
}

/** struct sockaddr_un; null when the path does not fit its 108 bytes. */
function unixAddress(path: string): Buffer | null {
  const bytes = cstr(path)
  if (bytes.length > 108) return null
  const addr = Buffer.alloc(2 + bytes.length)
  addr.writeUInt16LE(AF_UNIX, 0)
  bytes.copy(addr, 2)
  return addr
}

export const socket = (family: number, type: number, protocol: number): number =>
  raw.L(41, family, type, protocol, 0, 0, 0)

export function connectUnix(fd: number, path: string): number {
  const addr = unixAddress(path)
  return addr ? raw.LP(42, fd, addr, addr.length, 0, 0, 0) : -ENAMETOOLONG
}

export function bindUnix(fd: number, path: string): number {
  const addr = unixAddress(path)
  return addr ? raw.LP(49, fd, addr, addr.length, 0, 0, 0) : -ENAMETOOLONG
}

/** shutdown(2) in both directions. */
export const shutdown = (fd: number): number => raw.L(48, fd, 2, 0, 0, 0, 0)
export const listen = (fd: number, backlog: number): number => raw.L(50, fd, backlog, 0, 0, 0, 0)
const NONE: Memory = null
export const accept4 = (fd: number, flags: number): number => raw.LPP(288, fd, NONE, NONE, flags, 0, 0)
