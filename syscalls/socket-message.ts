/**
 * struct msghdr, iovecs and addresses of the socket calls: copied in once, checked, and written back (Linux: net/socket.c
 * copy_msghdr_from_user, move_addr_to_kernel, move_addr_to_user).
 */
import { EFAULT, EINVAL, EMSGSIZE, ENOBUFS } from '../sentry/abi/errno.ts'
import { O_NONBLOCK } from '../sentry/abi/fcntl.ts'
import { MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_EOR, SOCKADDR_MAX, UIO_MAXIOV } from '../sentry/abi/socket.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { CONTROL_MAX, MESSAGE, OPTMEM_MAX } from '../sentry/net/message.ts'
import type { Socket } from '../sentry/net/socket.ts'
import { receiveMessage, sendMessage } from '../sentry/net/socket-io.ts'
import { importIovec } from './io-args.ts'

const TWO32 = 0x1_0000_0000
export const MSGHDR_SIZE = 56
/** Flags that only the kernel may set in a send. */
const INTERNAL_SEND_FLAGS = 0x80000 | 0x8000000 | 0x20000

/** Address being handled: the kernel is single-threaded and no handler keeps it across a wait. */
export const ADDRESS = Buffer.alloc(512)
const HEADER = Buffer.alloc(MSGHDR_SIZE)

const pointerAt = (b: Buffer, at: number): number => b.readUInt32LE(at) + b.readUInt32LE(at + 4) * TWO32

/** Copies a sockaddr to {@link ADDRESS} (or `to`). 0 or −errno. */
export function copyAddressIn(t: Task, addr: number, len: number, to: Buffer = ADDRESS): number {
  if (len < 0 || len > SOCKADDR_MAX) return -EINVAL
  to.fill(0, 0, SOCKADDR_MAX)
  return len === 0 ? 0 : t.readBytes(addr, to, len)
}

/** Writes `len` bytes of an address, cut to the guest's room, and its whole length. */
export function copyAddressOut(t: Task, from: Buffer, len: number, addr: number, lenAddr: number): number {
  const room = t.readU32(lenAddr)
  if (room < 0) return room
  const wanted = room | 0
  if (wanted < 0) return -EINVAL
  const n = Math.min(wanted, len)
  if (n > 0 && t.writeBytes(addr, from, n) < 0) return -EFAULT
  return t.writeU32(lenAddr, len)
}

const nonblocking = (s: Socket, flags: number): number => ((s.flags & O_NONBLOCK) !== 0 ? flags | MSG_DONTWAIT : flags)

/** One sendmsg(2) of the header at `addr`. `allowed`: flags taken from msg_flags (sendmmsg). */
export function sendHeader(t: Task, s: Socket, addr: number, flags: number, allowed: number): SysRet {
  if (t.readBytes(addr, HEADER) < 0) return -EFAULT
  const name = pointerAt(HEADER, 0)
  let nameLen = HEADER.readInt32LE(8)
  const iov = pointerAt(HEADER, 16)
  const iovLen = pointerAt(HEADER, 24)
  const control = pointerAt(HEADER, 32)
  const controlLen = pointerAt(HEADER, 40)
  const own = HEADER.readInt32LE(48)
  if (name === 0) nameLen = 0
  if (nameLen < 0) return -EINVAL
  nameLen = Math.min(nameLen, SOCKADDR_MAX)
  const msg = MESSAGE.reset(t.iter, nonblocking(s, (flags | (own & allowed)) & ~INTERNAL_SEND_FLAGS))
  if (nameLen > 0) {
    const bad = copyAddressIn(t, name, nameLen, msg.name)
    if (bad !== 0) return bad
    msg.nameLen = nameLen
  }
  if (iovLen > UIO_MAXIOV) return -EMSGSIZE
  const iter = importIovec(t, iov, iovLen)
  if (typeof iter === 'number') return iter
  if (controlLen > 0) {
    if (controlLen > OPTMEM_MAX) return -ENOBUFS
    if (t.readBytes(control, msg.control, controlLen) < 0) return -EFAULT
    msg.controlLen = controlLen
  }
  return sendMessage(t, s, msg)
}

export const SENDMMSG_OWN_FLAGS = MSG_EOR

/** One recvmsg(2) into the header at `addr`. */
export function receiveHeader(t: Task, s: Socket, addr: number, flags: number): SysRet {
  if (t.readBytes(addr, HEADER) < 0) return -EFAULT
  const name = pointerAt(HEADER, 0)
  const nameLen = HEADER.readInt32LE(8)
  const iov = pointerAt(HEADER, 16)
  const iovLen = pointerAt(HEADER, 24)
  const control = pointerAt(HEADER, 32)
  const controlLen = pointerAt(HEADER, 40)
  if (name !== 0 && nameLen < 0) return -EINVAL
  if (iovLen > UIO_MAXIOV) return -EMSGSIZE
  const iter = importIovec(t, iov, iovLen)
  if (typeof iter === 'number') return iter
  const msg = MESSAGE.reset(t.iter, nonblocking(s, flags))
  msg.wantName = name !== 0
  msg.controlLen = control === 0 ? 0 : Math.min(controlLen, CONTROL_MAX)
  const n = receiveMessage(t, s, msg)
  if (n < 0) return n
  if (name !== 0) {
    const err = copyAddressOut(t, msg.name, msg.nameLen, name, addr + 8)
    if (err < 0) return err
  }
  if (t.writeU32(addr + 48, msg.outFlags | (flags & MSG_CMSG_CLOEXEC)) < 0) return -EFAULT
  if (msg.controlUsed > 0 && t.writeBytes(control, msg.control, msg.controlUsed) < 0) return -EFAULT
  if (t.writeU64(addr + 40, msg.controlUsed) < 0) return -EFAULT
  return n
}
