/**
 * UDP over the loopback interface: datagrams go straight into the receiver's queue (Linux: net/ipv4/udp.c).
 *
 * A datagram to a port without a socket comes back as ECONNREFUSED on the sender's next call, if the sender is connected
 * (that is where Linux reports the ICMP message). A full receive queue drops silently.
 */
import {
  EACCES,
  EAFNOSUPPORT,
  EAGAIN,
  ECONNREFUSED,
  EDESTADDRREQ,
  EFAULT,
  EINVAL,
  EMSGSIZE,
  ENETUNREACH,
  ENOTCONN,
  EOPNOTSUPP,
  EPIPE,
} from '../../abi/errno.ts'
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  IP_PKTINFO,
  IP_RECVTOS,
  IP_RECVTTL,
  IP_TOS,
  IP_TTL,
  IPV6_HOPLIMIT,
  IPV6_PKTINFO,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVPKTINFO,
  IPV6_RECVTCLASS,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SIOCOUTQ,
  SO_BROADCAST,
  SOCK_DGRAM,
  SOL_IP,
  SOL_IPV6,
  SOL_UDPLITE,
  TCP_CLOSE,
  TCP_ESTABLISHED,
} from '../../abi/socket.ts'
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
import { type Endpoint, isV6, readEndpoint, writeEndpoint, writeV6 } from './endpoint.ts'
import { EP, LoopbackSocket } from './loopback-socket.ts'
import { UDP_PORTS, UDPLITE_PORTS } from './ports.ts'

const READABLE = EPOLLIN | EPOLLRDNORM
/** What the arrival of data wakes, also those that wait for urgent data only (Linux: sock_def_readable). */
const DATA_READY = READABLE | EPOLLPRI | EPOLLRDBAND
const ALL = DATA_READY | EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLRDHUP | EPOLLHUP | EPOLLERR
const UDP_MAX = 65507
/** What the bookkeeping of one packet adds to its size against SO_RCVBUF. */
const OVERHEAD = 768
const PKTINFO = Buffer.alloc(20)
const INT = Buffer.alloc(4)

/** Attributes of the packet being sent. */
const CONTROL = { ttl: 0, tos: 0 }

/** Ancillary data of a send: what it says replaces the socket's options in {@link CONTROL}. 0 or −EINVAL. */
function readControl(msg: Message): number {
  const c = msg.control
  for (let at = 0; at + 16 <= msg.controlLen; ) {
    const len = c.readUInt32LE(at)
    if (len < 16 || len > msg.controlLen - at) return -EINVAL
    const level = c.readInt32LE(at + 8)
    const type = c.readInt32LE(at + 12)
    const value = len >= 20 ? c.readInt32LE(at + 16) : len > 16 ? c[at + 16]! : -1
    if (level === SOL_IP || level === SOL_IPV6) {
      const hops = level === SOL_IP ? type === IP_TTL : type === IPV6_HOPLIMIT
      const tos = level === SOL_IP ? type === IP_TOS : type === IPV6_TCLASS
      const info = level === SOL_IP ? type === IP_PKTINFO : type === IPV6_PKTINFO
      if (!hops && !tos && !info) return -EINVAL
      if (!info && (value < -1 || value > 255)) return -EINVAL
      if (hops && value >= 0) CONTROL.ttl = value
      if (tos && value >= 0) CONTROL.tos = value
    }
    at += (len + 7) & ~7
  }
  return 0
}

class Datagram {
  readonly data: Buffer
  readonly from: Endpoint
  readonly to: number
  readonly ttl: number
  readonly tos: number
  next: Datagram | null = null
  constructor(data: Buffer, from: Endpoint, to: number, ttl: number, tos: number) {
    this.data = data
    this.from = from
    this.to = to
    this.ttl = ttl
    this.tos = tos
  }
}

export class UdpSocket extends LoopbackSocket {
  private head: Datagram | null = null
  private tail: Datagram | null = null
  private used = 0
  drops = 0

  constructor(family: number, protocol: number, nonblock: boolean, uid: number) {
    super(family, SOCK_DGRAM, protocol, nonblock, uid, protocol === SOL_UDPLITE ? UDPLITE_PORTS : UDP_PORTS)
  }

  get rxQueue(): number {
    return this.used
  }
  get txQueue(): number {
    return 0
  }

  override connect(t: Task, addr: Buffer, len: number): SysRet {
    if (len < 2) return -EINVAL
    if (addr.readUInt16LE(0) === AF_UNSPEC) {
      this.remotePort = 0
      this.remoteAddr = this.anyAddr
      this.state = TCP_CLOSE
      if (!this.userBound) {
        this.leaveTable()
        this.localAddr = this.anyAddr
      }
      return 0
    }
    const bad = readEndpoint(this.family, addr, len, EP)
    if (bad !== 0) return bad
    const dest = this.route(EP.addr)
    const port = EP.port
    if (dest === null) return -ENETUNREACH
    const err = this.autobind(t, this.anyAddr)
    if (err !== 0) return err
    if (this.localAddr === this.anyAddr) this.localAddr = this.sourceFor(dest)
    this.remoteAddr = dest
    this.remotePort = port
    this.state = TCP_ESTABLISHED
    return 0
  }

  override listen(): SysRet {
    return -EOPNOTSUPP
  }

  override shutdown(how: number): SysRet {
    if (how < 0 || how > 2) return -EINVAL
    this.shut |= how + 1
    this.waitQueue.wake(ALL)
    return this.state === TCP_CLOSE ? -ENOTCONN : 0
  }

  protected override release(): void {
    this.leaveTable()
    this.head = this.tail = null
  }

  override sendmsg(t: Task, msg: Message): SysRet {
    const iter = msg.iter!
    const len = iter.remaining
    if (len > 0xffff) return -EMSGSIZE
    if ((msg.flags & MSG_OOB) !== 0) return -EOPNOTSUPP
    let addr = this.remoteAddr
    let port = this.remotePort
    if (msg.nameLen > 0) {
      const family = msg.name.readUInt16LE(0)
      if (msg.nameLen < 16) return -EINVAL
      if (family !== AF_INET && family !== AF_UNSPEC && family !== AF_INET6) return -EAFNOSUPPORT
      if (family === AF_UNSPEC && this.family === AF_INET6) {
        if (this.state !== TCP_ESTABLISHED) return -EDESTADDRREQ
      } else {
        const bad = readEndpoint(this.family, msg.name, msg.nameLen, EP)
        if (bad !== 0) return bad
        if (EP.port === 0) return -EINVAL
        addr = EP.addr
        port = EP.port
      }
    } else if (this.state !== TCP_ESTABLISHED) return -EDESTADDRREQ
    if (addr === 0xffffffff && this.flag(SO_BROADCAST) === 0) return -EACCES
    const dest = this.route(addr)
    if (dest === null) return -ENETUNREACH
    const err = this.takeError()
    if (err !== 0) return err
    if ((this.shut & SEND_SHUTDOWN) !== 0) return -EPIPE
    if (len > (isV6(dest) ? UDP_MAX + 20 : UDP_MAX)) return -EMSGSIZE
    const bound = this.autobind(t, this.anyAddr)
    if (bound !== 0) return bound
    this.defaults(isV6(dest))
    const bad = readControl(msg)
    if (bad !== 0) return bad
    const data = Buffer.allocUnsafe(len)
    if (iter.copyFrom(data, 0, len) < len) return -EFAULT
    const source = this.localAddr === this.anyAddr ? this.sourceFor(dest) : this.localAddr
    const to = this.table.find(dest, port, source, this.localPort, false)
    if (to instanceof UdpSocket) {
      to.deliver(new Datagram(data, { addr: source, port: this.localPort }, dest, CONTROL.ttl, CONTROL.tos))
    } else if (this.state === TCP_ESTABLISHED) {
      this.error = ECONNREFUSED
      this.waitQueue.wake(ALL)
    }
    return len
  }

  private defaults(v6: boolean): void {
    CONTROL.ttl = v6 ? this.options.get(SOL_IPV6, IPV6_UNICAST_HOPS) : this.options.get(SOL_IP, IP_TTL)
    CONTROL.tos = v6 ? this.options.get(SOL_IPV6, IPV6_TCLASS) : this.options.get(SOL_IP, IP_TOS)
  }

  private deliver(d: Datagram): void {
    const size = d.data.length + OVERHEAD
    if (this.used + size > this.rcvBuf && this.head !== null) {
      this.drops++
      return
    }
    this.used += size
    if (this.tail === null) this.head = d
    else this.tail.next = d
    this.tail = d
    this.waitQueue.wake(DATA_READY)
  }

  override recvmsg(_t: Task, msg: Message): SysRet {
    if ((msg.flags & MSG_ERRQUEUE) !== 0) return -EAGAIN
    const err = this.takeError()
    if (err !== 0) return err
    const d = this.head
    if (d === null) {
      return (this.shut & RCV_SHUTDOWN) !== 0 && (msg.flags & MSG_DONTWAIT) === 0 ? 0 : -EAGAIN
    }
    const peek = (msg.flags & MSG_PEEK) !== 0
    if (!peek) {
      this.head = d.next
      if (this.head === null) this.tail = null
      this.used -= d.data.length + OVERHEAD
    }
    const want = Math.min(d.data.length, msg.iter!.remaining)
    if (want < d.data.length) msg.outFlags |= MSG_TRUNC
    if (msg.iter!.copyTo(d.data, 0, want) < want) return -EFAULT
    if (msg.wantName) msg.nameLen = writeEndpoint(this.family, d.from.addr, d.from.port, msg.name)
    this.putControls(msg, d)
    return (msg.flags & MSG_TRUNC) !== 0 ? d.data.length : want
  }

  private putControls(msg: Message, d: Datagram): void {
    const o = this.options
    if (this.family === AF_INET6 && o.get(SOL_IPV6, IPV6_RECVPKTINFO) !== 0) {
      writeV6(d.to, PKTINFO, 0)
      PKTINFO.writeUInt32LE(1, 16)
      msg.putControl(SOL_IPV6, IPV6_PKTINFO, PKTINFO, 20)
    }
    if (isV6(d.to)) {
      if (o.get(SOL_IPV6, IPV6_RECVHOPLIMIT) !== 0) {
        INT.writeInt32LE(d.ttl, 0)
        msg.putControl(SOL_IPV6, IPV6_HOPLIMIT, INT)
      }
      if (o.get(SOL_IPV6, IPV6_RECVTCLASS) !== 0) {
        INT.writeInt32LE(d.tos, 0)
        msg.putControl(SOL_IPV6, IPV6_TCLASS, INT)
      }
      return
    }
    if (o.get(SOL_IP, IP_PKTINFO) !== 0) {
      PKTINFO.writeUInt32LE(1, 0)
      PKTINFO.writeUInt32BE(d.to, 4)
      PKTINFO.writeUInt32BE(d.to, 8)
      msg.putControl(SOL_IP, IP_PKTINFO, PKTINFO, 12)
    }
    if (o.get(SOL_IP, IP_RECVTTL) !== 0) {
      INT.writeInt32LE(d.ttl, 0)
      msg.putControl(SOL_IP, IP_TTL, INT)
    }
    if (o.get(SOL_IP, IP_RECVTOS) !== 0) {
      INT[0] = d.tos
      msg.putControl(SOL_IP, IP_TOS, INT, 1)
    }
  }

  override poll(): number {
    let mask = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
    if (this.error !== 0) mask |= EPOLLERR
    if ((this.shut & RCV_SHUTDOWN) !== 0) mask |= EPOLLRDHUP | READABLE
    if (this.shut === SHUTDOWN_MASK) mask |= EPOLLHUP
    if (this.head !== null) mask |= READABLE
    return mask
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (cmd === SIOCOUTQ) return t.writeU32(arg, 0)
    return super.ioctl(t, cmd, arg)
  }
  override inputBytes(): number {
    return this.head === null ? 0 : this.head.data.length
  }
}
