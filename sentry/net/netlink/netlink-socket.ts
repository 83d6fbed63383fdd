/**
 * AF_NETLINK sockets (netlink(7), Linux: net/netlink/af_netlink.c). The kernel at the other end answers inside send, so a
 * socket is a queue of datagrams from port 0.
 */
import {
  EADDRINUSE,
  EAGAIN,
  ECONNREFUSED,
  EFAULT,
  EINVAL,
  EMSGSIZE,
  ENOENT,
  ENOPROTOOPT,
  EOPNOTSUPP,
  EPERM,
} from '../../abi/errno.ts'
import { AF_NETLINK, AF_UNSPEC, MSG_OOB, MSG_PEEK, MSG_TRUNC, SOL_NETLINK } from '../../abi/socket.ts'
import { CAP_NET_ADMIN } from '../../kernel/credentials.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { EPOLLERR, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRBAND, EPOLLWRNORM } from '../../vfs/file-description.ts'
import type { Message } from '../message.ts'
import { dropFiles, parseScm, putCreds, Scm, SenderCreds } from '../scm.ts'
import { Socket } from '../socket.ts'
import {
  NetlinkWriter,
  NLM_F_ACK,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  NLMSG_HEADER,
  NLMSG_MIN_TYPE,
} from './netlink-message.ts'
import { routeRequest } from './route.ts'

export const NETLINK_ROUTE = 0
export const NETLINK_SOCK_DIAG = 4
const SOCKADDR_NL = 12
const NETLINK_LIST_MEMBERSHIPS = 9
const KERNEL = new SenderCreds(0, 0, 0)
const OUT = new NetlinkWriter()

/** Port ids in use, `protocol << 32 | port` as a double. */
const ports = new Map<number, NetlinkSocket>()
let lastPort = 0xfffff000
export const netlinkSockets = (): IterableIterator<NetlinkSocket> => ports.values()

export class NetlinkSocket extends Socket {
  portid = 0
  groups = 0
  private peerPort = 0
  private peerGroups = 0
  private readonly received: Buffer[] = []
  private used = 0

  constructor(type: number, protocol: number, nonblock: boolean) {
    super(AF_NETLINK, type, protocol, nonblock)
  }

  private get key(): number {
    return this.protocol * 0x1_0000_0000 + this.portid
  }

  private take(portid: number): number {
    const key = this.protocol * 0x1_0000_0000 + portid
    if (ports.has(key)) return -EADDRINUSE
    this.portid = portid
    ports.set(key, this)
    return 0
  }

  /** The process id, or a number from the top when another socket of the process has it. */
  private autobind(t: Task): void {
    if (this.portid !== 0 || this.take(t.group.pid) === 0) return
    while (this.take(lastPort) !== 0) lastPort--
    lastPort--
  }

  override bind(t: Task, addr: Buffer, len: number): SysRet {
    if (len < SOCKADDR_NL || addr.readUInt16LE(0) !== AF_NETLINK) return -EINVAL
    const port = addr.readUInt32LE(4)
    const groups = addr.readUInt32LE(8)
    if (groups !== 0 && this.protocol !== NETLINK_ROUTE && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
    if (this.portid !== 0) {
      if (port !== this.portid) return -EINVAL
    } else if (port !== 0) {
      const err = this.take(port)
      if (err !== 0) return err
    } else this.autobind(t)
    this.groups = groups
    return 0
  }

  override connect(t: Task, addr: Buffer, len: number): SysRet {
    if (len < 2) return -EINVAL
    if (addr.readUInt16LE(0) === AF_UNSPEC) {
      this.peerPort = 0
      this.peerGroups = 0
      return 0
    }
    if (len < SOCKADDR_NL || addr.readUInt16LE(0) !== AF_NETLINK) return -EINVAL
    const port = addr.readUInt32LE(4)
    const groups = addr.readUInt32LE(8)
    if ((port !== 0 || groups !== 0) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
    this.autobind(t)
    this.peerPort = port
    this.peerGroups = groups
    return 0
  }

  override getname(peer: boolean, out: Buffer): number {
    out.fill(0, 0, SOCKADDR_NL)
    out.writeUInt16LE(AF_NETLINK, 0)
    out.writeUInt32LE(peer ? this.peerPort : this.portid, 4)
    out.writeUInt32LE(peer ? this.peerGroups : this.groups, 8)
    return SOCKADDR_NL
  }

  override sendmsg(t: Task, msg: Message): SysRet {
    if ((msg.flags & MSG_OOB) !== 0) return -EOPNOTSUPP
    if (msg.controlLen > 0) {
      const scm = new Scm()
      const bad = parseScm(t, this, msg, scm)
      if (scm.files !== null) dropFiles(scm.files)
      if (bad !== 0) return bad
    }
    let port = this.peerPort
    if (msg.nameLen > 0) {
      if (msg.nameLen < SOCKADDR_NL || msg.name.readUInt16LE(0) !== AF_NETLINK) return -EINVAL
      port = msg.name.readUInt32LE(4)
      if ((port !== 0 || msg.name.readUInt32LE(8) !== 0) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
    }
    this.autobind(t)
    const len = msg.iter!.remaining
    if (len > this.sndBuf - 32) return -EMSGSIZE
    const data = Buffer.alloc(len)
    if (msg.iter!.copyFrom(data, 0, len) < len) return -EFAULT
    if (port !== 0) {
      const to = ports.get(this.protocol * 0x1_0000_0000 + port)
      if (to === undefined) return -ECONNREFUSED
      to.deliver(data)
      return len
    }
    this.handle(t, data)
    return len
  }

  /** netlink_rcv_skb: each request in the datagram. */
  private handle(t: Task, data: Buffer): void {
    for (let at = 0; at + NLMSG_HEADER <= data.length; ) {
      const len = data.readUInt32LE(at)
      if (len < NLMSG_HEADER || at + len > data.length) return
      const request = data.subarray(at, at + len)
      const flags = request.readUInt16LE(6)
      const type = request.readUInt16LE(4)
      let err = 0
      if ((flags & NLM_F_REQUEST) !== 0 && type >= NLMSG_MIN_TYPE) {
        err = this.protocol === NETLINK_ROUTE ? routeRequest(t, request, this.portid, this.reply) : this.noHandler
      }
      if ((flags & NLM_F_ACK) !== 0 || err !== 0) this.acknowledge(request, err)
      at += (len + 3) & ~3
    }
  }

  private get noHandler(): number {
    return this.protocol === NETLINK_SOCK_DIAG ? -ENOENT : -EOPNOTSUPP
  }

  private readonly reply = (datagram: Buffer): void => {
    this.deliver(datagram)
  }

  private acknowledge(request: Buffer, err: number): void {
    OUT.begin(NLMSG_ERROR, 0, request.readUInt32LE(8), this.portid)
      .u32(err)
      .bytes(err === 0 ? request.subarray(0, NLMSG_HEADER) : request)
      .end()
    this.deliver(OUT.take())
  }

  /** Puts a datagram into the receive queue; also used by mq_notify(SIGEV_THREAD). False: no room. */
  deliver(datagram: Buffer): boolean {
    if (this.used > 64 * this.rcvBuf) return false
    this.received.push(datagram)
    this.used += datagram.length
    this.waitQueue.wake(EPOLLIN | EPOLLRDNORM)
    return true
  }

  override recvmsg(_t: Task, msg: Message): SysRet {
    if ((msg.flags & MSG_OOB) !== 0) return -EOPNOTSUPP
    const err = this.takeError()
    if (err !== 0) return err
    const d = this.received[0]
    if (d === undefined) return -EAGAIN
    const want = Math.min(d.length, msg.iter!.remaining)
    if (want < d.length) msg.outFlags |= MSG_TRUNC
    if (msg.iter!.copyTo(d, 0, want) < want) return -EFAULT
    if (msg.wantName) {
      msg.name.fill(0, 0, SOCKADDR_NL)
      msg.name.writeUInt16LE(AF_NETLINK, 0)
      msg.nameLen = SOCKADDR_NL
    }
    if ((msg.flags & MSG_PEEK) === 0) {
      this.received.shift()
      this.used -= d.length
    }
    if (this.passCred) putCreds(msg, KERNEL)
    return (msg.flags & MSG_TRUNC) !== 0 ? d.length : want
  }

  override poll(): number {
    let mask = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
    if (this.received.length > 0) mask |= EPOLLIN | EPOLLRDNORM
    if (this.error !== 0) mask |= EPOLLERR
    return mask
  }

  override inputBytes(): number {
    return this.received.length > 0 ? this.received[0]!.length : 0
  }

  override setsockopt(_t: Task, level: number, name: number, val: Buffer, len: number): SysRet {
    if (level !== SOL_NETLINK) return -ENOPROTOOPT
    if (len < 4) return -EINVAL
    if (name < 1 || name > 12 || name === NETLINK_LIST_MEMBERSHIPS) return -ENOPROTOOPT
    this.setFlag(0x1000 + name, val.readInt32LE(0))
    return 0
  }
  override getsockopt(_t: Task, level: number, name: number, out: Buffer, len: number): SysRet {
    if (level !== SOL_NETLINK) return -ENOPROTOOPT
    if (name === NETLINK_LIST_MEMBERSHIPS) {
      out.writeUInt32LE(0, 0)
      return Math.min(4, len)
    }
    if (len < 4) return -EINVAL
    if (name < 3 || name > 12) return -ENOPROTOOPT
    out.writeInt32LE(this.flag(0x1000 + name) !== 0 ? 1 : 0, 0)
    return 4
  }

  protected override release(): void {
    if (this.portid !== 0 && ports.get(this.key) === this) ports.delete(this.key)
    this.received.length = 0
  }
}
