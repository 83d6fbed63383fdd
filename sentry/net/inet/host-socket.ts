/**
 * An Internet socket that is a socket of the sentry process, for network mode `host`.
 *
 * The host's socket is always non-blocking and watched edge-triggered: an operation asks the host first and waits only
 * after −EAGAIN, so no edge is missed. Guest bytes pass through one static buffer; only listed flags, options and
 * ancillary data reach the host.
 */

import { close } from '../../../native/host.ts'
import {
  HOST_CONTROL_MAX,
  HOST_DATA_MAX,
  hostAccept,
  hostBind,
  hostConnect,
  hostControl,
  hostData,
  hostGetname,
  hostGetsockopt,
  hostListen,
  hostName,
  hostOption,
  hostRecv,
  hostResult,
  hostSend,
  hostSetsockopt,
  hostShutdown,
  hostSocket,
  hostSocketIoctl,
} from '../../../native/host-socket.ts'
import { EACCES, EAGAIN, EFAULT, EINVAL, EMSGSIZE, ENOPROTOOPT, EOPNOTSUPP, EPERM } from '../../abi/errno.ts'
import {
  AF_INET6,
  FIONREAD,
  IP_TRANSPARENT,
  MSG_CONFIRM,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_ERRQUEUE,
  MSG_MORE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  SHUT_RD,
  SHUT_RDWR,
  SIOCATMARK,
  SIOCGSTAMP,
  SIOCGSTAMPNS,
  SIOCOUTQ,
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_LINGER,
  SO_MARK,
  SO_PRIORITY,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVLOWAT,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_STREAM,
  SOL_IP,
  SOL_SOCKET,
  SOL_TCP,
  SOL_UDP,
} from '../../abi/socket.ts'
import { CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW } from '../../kernel/credentials.ts'
import { EPOLLET, type HostFdHandler, hostPollNow } from '../../kernel/host-poll.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDBAND,
  EPOLLRDHUP,
  EPOLLRDNORM,
  EPOLLWRBAND,
  EPOLLWRNORM,
} from '../../vfs/file-description.ts'
import type { Message } from '../message.ts'
import { Socket } from '../socket.ts'
import { HOST_SOCKET_OPTIONS, HOST_SOCKET_READS, hostControlAllowed, hostOptionAllowed } from './host-options.ts'

const READ_EVENTS = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLRDNORM | EPOLLRDBAND
const EVENTS = READ_EVENTS | EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLERR | EPOLLHUP
const SEND_FLAGS = MSG_OOB | MSG_DONTROUTE | MSG_EOR | MSG_CONFIRM | MSG_MORE
const RECV_FLAGS = MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_ERRQUEUE
const UNPRIVILEGED_PORT = 1024

export class HostSocket extends Socket implements HostFdHandler {
  private readonly fd: number
  private readonly kernel: Kernel
  private shutRead = false

  private constructor(k: Kernel, fd: number, family: number, type: number, protocol: number, nonblock: boolean) {
    super(family, type, protocol, nonblock)
    this.fd = fd
    this.kernel = k
    k.hostPoll.watch(fd, EVENTS | EPOLLET, this)
  }

  static create(t: Task, family: number, type: number, protocol: number, nonblock: boolean): HostSocket | number {
    const fd = hostSocket(family, type, protocol)
    return fd < 0 ? fd : new HostSocket(t.kernel, fd, family, type, protocol, nonblock)
  }

  onHostEvents(events: number): void {
    this.waitQueue.wake(events)
  }

  override get writesFully(): boolean {
    return this.isStream
  }

  private copyName(addr: Buffer, len: number): void {
    addr.copy(hostName, 0, 0, len)
  }

  override bind(t: Task, addr: Buffer, len: number): SysRet {
    if (len >= 4) {
      const port = addr.readUInt16BE(2)
      const privileged = port !== 0 && port < UNPRIVILEGED_PORT && (this.type === SOCK_STREAM || this.protocol === 17)
      if (privileged && !t.creds.capable(CAP_NET_BIND_SERVICE)) return -EACCES
    }
    this.copyName(addr, len)
    return hostBind(this.fd, len)
  }
  override connect(_t: Task, addr: Buffer, len: number): SysRet {
    this.copyName(addr, len)
    return hostConnect(this.fd, len)
  }
  override listen(_t: Task, backlog: number): SysRet {
    return hostListen(this.fd, backlog)
  }
  override accept(t: Task, nonblock: boolean): Socket | number {
    const fd = hostAccept(this.fd)
    if (fd < 0) return fd
    const s = new HostSocket(this.kernel, fd, this.family, this.type, this.protocol, nonblock)
    s.rcvTimeoNs = this.rcvTimeoNs
    s.sndTimeoNs = this.sndTimeoNs
    s.linger = this.linger
    return s.attach(t.creds)
  }
  override getname(peer: boolean, out: Buffer): number {
    const n = hostGetname(this.fd, peer)
    if (n > 0) hostName.copy(out, 0, 0, n)
    return n
  }
  override shutdown(how: number): SysRet {
    if (how === SHUT_RD || how === SHUT_RDWR) this.shutRead = true
    const ret = hostShutdown(this.fd, how)
    this.waitQueue.wake(EVENTS)
    return ret
  }

  override sendmsg(_t: Task, msg: Message): SysRet {
    const iter = msg.iter!
    if (this.error !== 0) return this.takeError()
    if (!this.isStream && iter.remaining > HOST_DATA_MAX) return -EMSGSIZE
    if (msg.controlLen > 0) {
      if (msg.controlLen > HOST_CONTROL_MAX || !hostControlAllowed(msg.control, msg.controlLen)) return -EINVAL
      msg.control.copy(hostControl, 0, 0, msg.controlLen)
    }
    this.copyName(msg.name, msg.nameLen)
    const flags = msg.flags & SEND_FLAGS
    let sent = 0
    do {
      const want = Math.min(iter.remaining, HOST_DATA_MAX)
      const mark = iter.mark()
      if (iter.copyFrom(hostData, 0, want) < want) return sent > 0 ? sent : -EFAULT
      const more = this.isStream && iter.remaining > 0 ? MSG_MORE : 0
      const n = hostSend(this.fd, want, msg.nameLen, msg.controlLen, flags | more)
      if (n < want) {
        iter.rewind(mark)
        if (n < 0) return sent > 0 ? sent : n
        iter.skip(n)
        return sent + n
      }
      sent += n
    } while (iter.remaining > 0)
    return sent
  }

  override recvmsg(_t: Task, msg: Message): SysRet {
    const iter = msg.iter!
    if (this.error !== 0) return this.takeError()
    const room = Math.min(iter.remaining, HOST_DATA_MAX)
    const control = Math.min(msg.controlLen, HOST_CONTROL_MAX)
    const n = hostRecv(this.fd, room, msg.wantName, control, msg.flags & RECV_FLAGS)
    // A reader that would wait on a datagram socket gets the end at once; the host, never waiting, says EAGAIN.
    if (n === -EAGAIN && this.shutRead && !this.isStream && (msg.flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) === 0) return 0
    if (n < 0) return n
    const data = Math.min(n, room)
    if (this.isStream && (msg.flags & MSG_TRUNC) !== 0) iter.skip(data)
    else if (iter.copyTo(hostData, 0, data) < data) return -EFAULT
    if (msg.wantName) {
      hostName.copy(msg.name)
      msg.nameLen = hostResult.nameLen
    }
    if (control > 0) {
      hostControl.copy(msg.control, 0, 0, hostResult.controlLen)
      msg.controlUsed = hostResult.controlLen
    }
    msg.outFlags = hostResult.flags
    if (n === 0 || (hostResult.flags & MSG_OOB) !== 0) msg.done = true
    return n
  }

  override poll(): number {
    const mask = hostPollNow(this.fd, EVENTS)
    return this.error !== 0 ? mask | EPOLLERR : mask
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (cmd === FIONREAD || cmd === SIOCOUTQ || cmd === SIOCATMARK) {
      const ret = hostSocketIoctl(this.fd, cmd)
      return ret < 0 ? ret : t.writeU32(arg, hostOption.readInt32LE(0))
    }
    if (cmd === SIOCGSTAMP || cmd === SIOCGSTAMPNS) {
      const ret = hostSocketIoctl(this.fd, cmd)
      return ret < 0 ? ret : t.writeBytes(arg, hostOption, 16)
    }
    return super.ioctl(t, cmd, arg)
  }

  // ---- options -------------------------------------------------------------------------------------------------------
  private toHost(level: number, name: number, val: Buffer, len: number): SysRet {
    val.copy(hostOption, 0, 0, Math.min(len, hostOption.length))
    return hostSetsockopt(this.fd, level, name, len)
  }
  private fromHost(level: number, name: number, out: Buffer, len: number): SysRet {
    // A few options read an argument from the buffer.
    out.copy(hostOption, 0, 0, Math.min(len, hostOption.length))
    const n = hostGetsockopt(this.fd, level, name, len)
    if (n > 0) hostOption.copy(out, 0, 0, n)
    return n
  }

  override setSocketOption(t: Task, name: number, val: Buffer, len: number): SysRet | undefined {
    if (name === SO_LINGER) {
      if (len < 8) return -EINVAL
      const on = val.readInt32LE(0) !== 0
      this.linger = on ? Math.max(0, val.readInt32LE(4)) : -1
      // Only the reset of a zero linger is the host's business: waiting in close(2) would stop the whole sentry.
      val.writeInt32LE(this.linger === 0 ? 1 : 0, 0)
      val.writeInt32LE(0, 4)
      return this.toHost(SOL_SOCKET, SO_LINGER, val, 8)
    }
    if (name === SO_BINDTODEVICE || name === SO_BINDTOIFINDEX) {
      return t.creds.capable(CAP_NET_RAW) ? this.toHost(SOL_SOCKET, name, val, Math.min(len, 16)) : -EPERM
    }
    if (name === SO_MARK) {
      const may = t.creds.capable(CAP_NET_RAW) || t.creds.capable(CAP_NET_ADMIN)
      return may ? this.toHost(SOL_SOCKET, name, val, len) : -EPERM
    }
    if (name === SO_SNDBUFFORCE || name === SO_RCVBUFFORCE) {
      // The sentry may not have the capability: the host's limits hold.
      if (!t.creds.capable(CAP_NET_ADMIN)) return -EPERM
      if (val.readInt32LE(0) < 0) val.writeInt32LE(0, 0)
      return this.toHost(SOL_SOCKET, name === SO_SNDBUFFORCE ? SO_SNDBUF : SO_RCVBUF, val, len)
    }
    if (name === SO_PRIORITY) {
      const v = val.readInt32LE(0)
      if ((v < 0 || v > 6) && !t.creds.capable(CAP_NET_RAW) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
    }
    if (!HOST_SOCKET_OPTIONS.has(name)) return undefined
    const ret = this.toHost(SOL_SOCKET, name, val, len)
    if (ret === 0 && name === SO_RCVLOWAT) {
      // Waiting for the low-water mark is ours to do; the host may have cut it.
      const n = hostGetsockopt(this.fd, SOL_SOCKET, name, 4)
      if (n === 4) this.rcvLowat = hostOption.readInt32LE(0)
    }
    return ret
  }

  override getSocketOption(_t: Task, name: number, out: Buffer, len: number): SysRet | undefined {
    if (!HOST_SOCKET_OPTIONS.has(name) && !HOST_SOCKET_READS.has(name)) return undefined
    const n = this.fromHost(SOL_SOCKET, name, out, Math.max(len, 4))
    if (n >= 4 && name === SO_RCVLOWAT) this.rcvLowat = out.readInt32LE(0)
    if (n >= 4 && name === SO_SNDBUF) this.sndBuf = out.readInt32LE(0)
    if (n >= 4 && name === SO_RCVBUF) this.rcvBuf = out.readInt32LE(0)
    return n
  }

  override setsockopt(t: Task, level: number, name: number, val: Buffer, len: number): SysRet {
    const own = level === (this.isStream ? SOL_TCP : SOL_UDP)
    if (!hostOptionAllowed(level, name, true)) return own && len < 4 ? -EINVAL : -ENOPROTOOPT
    const powerful = level === SOL_IP && name === IP_TRANSPARENT
    if (powerful && !t.creds.capable(CAP_NET_RAW) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
    return this.toHost(level, name, val, len)
  }
  override getsockopt(_t: Task, level: number, name: number, out: Buffer, len: number): SysRet {
    if (!hostOptionAllowed(level, name, false)) return this.unknown(level)
    return this.fromHost(level, name, out, len)
  }

  /** An option that is not there, or a level that the protocol does not know. */
  private unknown(level: number): number {
    const known = level === SOL_IP || level === (this.isStream ? SOL_TCP : SOL_UDP)
    return known || this.family === AF_INET6 ? -ENOPROTOOPT : -EOPNOTSUPP
  }

  protected override release(): void {
    this.kernel.hostPoll.unwatch(this.fd)
    close(this.fd)
  }
}
