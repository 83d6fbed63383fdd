/**
 * TCP over the loopback interface, without segments: a connection is two sockets that append to each other's receive
 * queue (Linux: net/ipv4/tcp.c as an application sees it).
 *
 * The handshake ends inside connect(2) unless the listener's queue is full; a non-blocking caller still sees EINPROGRESS
 * first, as Linux's loopback shows it. `peer` is null before a connection and after the other end is gone.
 */
import {
  EADDRINUSE,
  EAGAIN,
  EALREADY,
  ECONNABORTED,
  ECONNREFUSED,
  ECONNRESET,
  EFAULT,
  EINPROGRESS,
  EINVAL,
  EISCONN,
  ENETUNREACH,
  ENOTCONN,
  EPIPE,
} from '../../abi/errno.ts'
import { O_NONBLOCK } from '../../abi/fcntl.ts'
import {
  AF_UNSPEC,
  MSG_ERRQUEUE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SIOCATMARK,
  SIOCOUTQ,
  SO_OOBINLINE,
  SO_RCVLOWAT,
  SOCK_STREAM,
  SOL_TCP,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT2,
  TCP_INFO,
  TCP_LISTEN,
  TCP_SYN_SENT,
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
  EPOLLWRNORM,
} from '../../vfs/file-description.ts'
import { ByteQueue } from '../byte-queue.ts'
import type { Message } from '../message.ts'
import type { Socket } from '../socket.ts'
import { readEndpoint } from './endpoint.ts'
import { EP, LoopbackSocket } from './loopback-socket.ts'
import { TCP_PORTS } from './ports.ts'
import { sendUrgent } from './tcp-urgent.ts'

const READABLE = EPOLLIN | EPOLLRDNORM
/** What the arrival of data wakes, also those that wait for urgent data only (Linux: sock_def_readable). */
const DATA_READY = READABLE | EPOLLPRI | EPOLLRDBAND
const WRITABLE = EPOLLOUT | EPOLLWRNORM
const ALL = DATA_READY | WRITABLE | EPOLLRDHUP | EPOLLHUP | EPOLLERR
/** tcp_wmem[1], tcp_rmem[1], and what auto-tuning makes of the first on loopback. */
const TCP_SNDBUF = 16384
const TCP_RCVBUF = 131072
const TCP_SNDBUF_TUNED = 2626560
const SNDBUF_LOCK = 1
const RCVBUF_LOCK = 2
const TCP_RMEM_MAX = 6291456
const TCP_INFO_SIZE = 232

export class TcpSocket extends LoopbackSocket {
  private peer: TcpSocket | null = null
  private readonly received = new ByteQueue()
  /** The urgent byte (MSG_OOB) as −1 none, and how many bytes of `received` come before it. */
  urgent = -1
  urgentMark = -1
  /** The other end has closed its side: no more will come (SOCK_DONE). */
  private finSeen = false
  /** A connect(2) whose result nobody has taken yet (SS_CONNECTING). */
  private connecting = false
  /** SS_CONNECTED: connect(2) or accept(2) succeeded, and nothing has undone it, not even the end of the connection. */
  private wasConnected = false
  /** Listener: connections for accept(2), and clients whose SYN found the queue full. */
  private readonly pending: TcpSocket[] = []
  private readonly waiting: TcpSocket[] = []
  private listener: TcpSocket | null = null
  private backlog = 0
  private closed = false

  constructor(family: number, protocol: number, nonblock: boolean, uid: number) {
    super(family, SOCK_STREAM, protocol, nonblock, uid, TCP_PORTS)
    this.sndBuf = TCP_SNDBUF
    this.rcvBuf = TCP_RCVBUF
  }

  override get writesFully(): boolean {
    return true
  }
  override get listening(): boolean {
    return this.state === TCP_LISTEN
  }
  get rxQueue(): number {
    return this.state === TCP_LISTEN ? this.pending.length : this.received.length
  }
  get txQueue(): number {
    return this.state === TCP_LISTEN ? this.backlog : 0
  }

  // ---- connections ---------------------------------------------------------------------------------------------------
  override listen(t: Task, backlog: number): SysRet {
    if (this.connecting || this.wasConnected) return -EINVAL
    if (this.state !== TCP_CLOSE && this.state !== TCP_LISTEN) return -EINVAL
    this.backlog = backlog
    if (this.state === TCP_LISTEN) return 0
    const err = this.autobind(t, this.localAddr)
    if (err !== 0) return err
    this.state = TCP_LISTEN
    if (!TCP_PORTS.mayListen(this)) {
      this.state = TCP_CLOSE
      return -EADDRINUSE
    }
    return 0
  }

  override connect(t: Task, addr: Buffer, len: number, nonblock: boolean): SysRet {
    if (len < 2) return -EINVAL
    if (addr.readUInt16LE(0) === AF_UNSPEC) {
      this.disconnect()
      return 0
    }
    if (this.connecting) return this.connectResult()
    if (this.state !== TCP_CLOSE || this.wasConnected) return -EISCONN
    const bad = readEndpoint(this.family, addr, len, EP)
    if (bad !== 0) return bad
    const dest = this.route(EP.addr)
    const port = EP.port
    if (dest === null) return -ENETUNREACH
    if (dest < 0 !== this.localAddr < 0 && this.localPort !== 0 && this.localAddr !== this.anyAddr) return -EINVAL
    const err = this.autobind(t, this.sourceFor(dest))
    if (err !== 0) return err
    if (this.localAddr === this.anyAddr) this.localAddr = this.sourceFor(dest)
    this.remoteAddr = dest
    this.remotePort = port
    this.connecting = true
    this.shut = 0
    this.finSeen = false
    this.state = TCP_SYN_SENT
    if (dest === this.localAddr && port === this.localPort) {
      // A socket that meets its own SYN is connected to itself.
      this.peer = this
      this.state = TCP_ESTABLISHED
      return nonblock ? -EINPROGRESS : this.connectResult()
    }
    const listener = TCP_PORTS.find(dest, port, this.localAddr, this.localPort, true)
    if (listener instanceof TcpSocket && (listener.pending.length <= listener.backlog || listener.backlog < 0)) {
      this.establish(listener)
    } else if (listener instanceof TcpSocket) {
      listener.waiting.push(this)
      this.listener = listener
    } else {
      this.fail(ECONNREFUSED)
    }
    return nonblock || this.state === TCP_SYN_SENT ? -EINPROGRESS : this.connectResult()
  }

  /** The second half of connect(2): what became of the attempt. */
  private connectResult(): SysRet {
    if (this.state === TCP_SYN_SENT) return -EALREADY
    this.connecting = false
    if (this.state !== TCP_CLOSE) {
      this.wasConnected = true
      return 0
    }
    const err = this.takeError()
    this.disconnect()
    return err !== 0 ? err : -ECONNABORTED
  }

  private establish(listener: TcpSocket): void {
    const server = new TcpSocket(listener.family, listener.protocol, false, listener.uid)
    server.inherit(listener)
    server.localAddr = this.remoteAddr
    server.localPort = this.remotePort
    server.remoteAddr = this.localAddr
    server.remotePort = this.localPort
    server.state = TCP_ESTABLISHED
    server.wasConnected = true
    server.enterTable()
    server.peer = this
    this.peer = server
    this.state = TCP_ESTABLISHED
    this.tune()
    server.tune()
    server.listener = listener
    this.listener = null
    listener.pending.push(server)
    listener.waitQueue.wake(DATA_READY)
    this.waitQueue.wake(WRITABLE)
  }

  /** An accepted socket starts with the options of its listener. */
  private inherit(o: TcpSocket): void {
    this.options.copyFrom(o.options)
    if (o.flagOptions !== null) for (const [k, v] of o.flagOptions) this.setFlag(k, v)
    this.sndBuf = o.sndBuf
    this.rcvBuf = o.rcvBuf
    this.bufLock = o.bufLock
    this.rcvTimeoNs = o.rcvTimeoNs
    this.sndTimeoNs = o.sndTimeoNs
    this.rcvLowat = o.rcvLowat
    this.linger = o.linger
    this.v6only = o.v6only
  }

  private tune(): void {
    if ((this.bufLock & SNDBUF_LOCK) === 0) this.sndBuf = Math.max(this.sndBuf, TCP_SNDBUF_TUNED)
  }

  private fail(errno: number): void {
    this.error = errno
    this.state = TCP_CLOSE
    this.shut = SHUTDOWN_MASK
    this.remotePort = 0
    if (!this.userBound) this.leaveTable()
    this.waitQueue.wake(ALL)
  }

  override accept(t: Task, nonblock: boolean): Socket | number {
    if (this.state !== TCP_LISTEN) return -EINVAL
    const s = this.pending.shift()
    if (s === undefined) return -EAGAIN
    s.listener = null
    if (nonblock) s.flags |= O_NONBLOCK
    s.attach(t.creds)
    this.admitWaiting()
    return s
  }

  /** Room in the queue: the next client that waits gets its connection. */
  private admitWaiting(): void {
    while (this.waiting.length > 0 && this.pending.length <= this.backlog) {
      const client = this.waiting.shift()!
      if (client.state === TCP_SYN_SENT && client.listener === this) client.establish(this)
    }
  }

  private stopListening(): void {
    for (const s of this.pending.splice(0)) {
      s.listener = null
      s.closed = true
      s.abort()
    }
    for (const c of this.waiting.splice(0)) if (c.listener === this) c.fail(ECONNREFUSED)
  }

  /** connect(AF_UNSPEC), or shutdown of a listener: back to a fresh socket. */
  private disconnect(): void {
    if (this.state === TCP_LISTEN) {
      this.state = TCP_CLOSE
      this.stopListening()
    } else if (this.state === TCP_SYN_SENT && this.listener !== null) {
      const i = this.listener.waiting.indexOf(this)
      if (i >= 0) this.listener.waiting.splice(i, 1)
      this.listener = null
      this.error = ECONNRESET
    } else if (this.peer !== null) {
      const both = this.shut === SHUTDOWN_MASK && this.state === TCP_CLOSE
      this.abort()
      if (!both) this.error = ECONNRESET
    }
    this.state = TCP_CLOSE
    this.connecting = false
    this.wasConnected = false
    this.remotePort = 0
    this.shut = 0
    this.finSeen = false
    this.urgent = this.urgentMark = -1
    this.received.clear()
    if (!this.userBound) {
      this.leaveTable()
      this.localAddr = this.anyAddr
    }
    this.waitQueue.wake(ALL)
  }

  protected override get peerKnown(): boolean {
    return this.remotePort !== 0 && this.state !== TCP_CLOSE && this.state !== TCP_SYN_SENT
  }

  // ---- ends ----------------------------------------------------------------------------------------------------------
  /** Tells the peer that the connection is broken (RST). */
  private abort(): void {
    const p = this.peer
    this.peer = null
    this.state = TCP_CLOSE
    if (this.closed) this.leaveTable()
    if (p === null || p === this) return
    p.peer = null
    p.resetByPeer()
  }

  private resetByPeer(): void {
    // After a FIN was seen Linux says EPIPE: the application knew that the other side was leaving.
    this.error = this.state === TCP_CLOSE_WAIT ? EPIPE : ECONNRESET
    this.state = TCP_CLOSE
    this.shut = SHUTDOWN_MASK
    if (!this.userBound) this.leaveTable()
    this.waitQueue.wake(ALL)
  }

  private sendFin(): void {
    const p = this.peer
    if (p === null) return
    p.shut |= RCV_SHUTDOWN
    p.finSeen = true
    if (p.state === TCP_ESTABLISHED) p.state = TCP_CLOSE_WAIT
    else if (p.state === TCP_FIN_WAIT2) p.state = TCP_CLOSE
    p.waitQueue.wake(ALL)
  }

  override shutdown(how: number): SysRet {
    if (how < 0 || how > 2) return -EINVAL
    const mode = how + 1
    if (this.state === TCP_CLOSE) {
      this.shut |= mode
      this.waitQueue.wake(ALL)
      return -ENOTCONN
    }
    if (this.state === TCP_LISTEN || this.state === TCP_SYN_SENT) {
      if (this.state === TCP_LISTEN && (mode & RCV_SHUTDOWN) === 0) return 0
      this.disconnect()
      return 0
    }
    const before = this.shut
    this.shut |= mode
    if ((mode & SEND_SHUTDOWN) !== 0 && (before & SEND_SHUTDOWN) === 0) {
      this.state = this.finSeen ? TCP_CLOSE : TCP_FIN_WAIT2
      this.sendFin()
    }
    this.waitQueue.wake(ALL)
    return 0
  }

  protected override release(): void {
    this.closed = true
    if (this.state === TCP_LISTEN) {
      this.state = TCP_CLOSE
      this.stopListening()
      this.leaveTable()
      return
    }
    if (this.state === TCP_SYN_SENT) {
      this.disconnect()
      this.leaveTable()
      return
    }
    const unread = this.received.length > 0
    this.received.clear()
    if (this.peer !== null) {
      if (unread || this.linger === 0) {
        this.abort()
        return
      }
      if ((this.shut & SEND_SHUTDOWN) === 0) this.sendFin()
    }
    this.shut = SHUTDOWN_MASK
    this.state = TCP_CLOSE
    this.leaveTable()
  }

  // ---- data ----------------------------------------------------------------------------------------------------------
  /** Bytes that may be on their way to the peer. */
  private get limit(): number {
    return this.sndBuf + Math.min(this.peer === null ? 0 : this.peer.rcvBuf, this.sndBuf)
  }
  private get space(): number {
    return this.peer === null ? 0 : Math.max(0, this.limit - this.peer.received.length)
  }

  override sendmsg(_t: Task, msg: Message): SysRet {
    if (this.state === TCP_SYN_SENT) return -EAGAIN
    if (
      this.error !== 0 ||
      (this.shut & SEND_SHUTDOWN) !== 0 ||
      this.state === TCP_CLOSE ||
      this.state === TCP_LISTEN
    ) {
      const err = this.takeError()
      return err !== 0 ? err : -EPIPE
    }
    const p = this.peer
    const iter = msg.iter!
    if (iter.remaining === 0) return 0
    if (p === null) return -EPIPE
    if (p.closed && p.listener === null) {
      // The other end has no reader any more: it answers with a reset.
      const n = Math.min(iter.remaining, this.sndBuf)
      iter.skip(n)
      this.peer = null
      p.peer = null
      this.resetByPeer()
      return n
    }
    const want = iter.remaining
    const room = this.space
    if (room <= 0) return -EAGAIN
    const n = p.received.append(iter, room)
    if (n === 0) return -EFAULT
    if ((msg.flags & MSG_OOB) !== 0 && n === want) sendUrgent(p)
    p.waitQueue.wake(DATA_READY)
    return n
  }

  get receivedLength(): number {
    return this.received.length
  }
  lastByte(): number {
    return this.received.lastByte()
  }

  override recvmsg(_t: Task, msg: Message): SysRet {
    if ((msg.flags & MSG_ERRQUEUE) !== 0) return -EAGAIN
    if (this.state === TCP_LISTEN) return -ENOTCONN
    if ((msg.flags & MSG_OOB) !== 0) return this.receiveUrgent(msg)
    const iter = msg.iter!
    if (this.received.length === 0) return this.nothingToRead(msg)
    if (iter.remaining === 0) {
      msg.done = true
      return 0
    }
    // A read stops at the urgent mark, and the one that starts there skips the byte.
    let max = this.received.length
    if (this.urgentMark >= 0) {
      if (this.urgentMark === 0) this.dropUrgentByte(msg)
      if (this.urgentMark > 0) max = this.urgentMark
      if (this.received.length === 0) return this.nothingToRead(msg)
    }
    if ((msg.flags & MSG_PEEK) !== 0) {
      const skip = Math.max(0, this.peekOff)
      if (skip >= max) return this.nothingToRead(msg)
      const want = Math.min(max - skip, iter.remaining)
      if ((msg.flags & MSG_TRUNC) !== 0) iter.skip(want)
      const n = (msg.flags & MSG_TRUNC) !== 0 ? want : this.received.peek(iter, want, skip)
      if (this.peekOff >= 0) this.peekOff += n
      return n === 0 ? -EFAULT : n
    }
    let n: number
    if ((msg.flags & MSG_TRUNC) !== 0) {
      n = Math.min(max, iter.remaining)
      iter.skip(n)
      this.received.discard(n)
    } else {
      n = this.received.read(iter, Math.min(max, iter.remaining))
      if (n === 0) return -EFAULT
    }
    if (this.peekOff > 0) this.peekOff = Math.max(0, this.peekOff - n)
    if (this.urgentMark > 0) {
      this.urgentMark -= n
      if (this.urgentMark === 0) msg.done = true
    }
    const p = this.peer
    if (p?.writableNow) p.waitQueue.wake(WRITABLE)
    return n
  }

  private dropUrgentByte(msg: Message): void {
    if ((msg.flags & MSG_PEEK) !== 0) return
    this.urgentMark = -1
    this.urgent = -1
    if (this.flag(SO_OOBINLINE) !== 0) return
    this.received.discard(1)
  }

  private receiveUrgent(msg: Message): SysRet {
    if (this.flag(SO_OOBINLINE) !== 0 || this.urgent < 0) return -EINVAL
    const byte = Buffer.from([this.urgent])
    if (msg.iter!.copyTo(byte, 0, 1) < 1) return -EFAULT
    if ((msg.flags & MSG_PEEK) === 0) this.urgent = -1
    msg.outFlags |= MSG_OOB
    msg.done = true
    return 1
  }

  private nothingToRead(msg: Message): SysRet {
    if (this.finSeen) {
      msg.done = true
      return 0
    }
    const err = this.takeError()
    if (err !== 0) return err
    if ((this.shut & RCV_SHUTDOWN) !== 0) {
      msg.done = true
      return 0
    }
    return this.state === TCP_CLOSE ? -ENOTCONN : -EAGAIN
  }

  // ---- files ---------------------------------------------------------------------------------------------------------
  /** sk_stream_is_writeable: at least a third of the buffer is free. */
  private get writableNow(): boolean {
    if (this.peer === null) return true
    return this.peer.received.length * 3 <= this.limit * 2
  }

  override poll(): number {
    let mask = this.error !== 0 ? EPOLLERR : 0
    if (this.state === TCP_LISTEN) return mask | (this.pending.length > 0 ? READABLE : 0)
    if (this.shut === SHUTDOWN_MASK || this.state === TCP_CLOSE) mask |= EPOLLHUP
    if ((this.shut & RCV_SHUTDOWN) !== 0) mask |= READABLE | EPOLLRDHUP
    if (this.state === TCP_SYN_SENT) return mask
    if (this.received.length >= Math.max(1, this.rcvLowat)) mask |= READABLE
    if ((this.shut & SEND_SHUTDOWN) !== 0 || this.writableNow) mask |= WRITABLE
    if (this.urgent >= 0) mask |= EPOLLPRI
    return mask
  }

  wakeUrgent(): void {
    this.waitQueue.wake(EPOLLPRI | EPOLLRDBAND | READABLE)
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (cmd === SIOCOUTQ) return this.state === TCP_LISTEN ? -EINVAL : t.writeU32(arg, 0)
    if (cmd === SIOCATMARK) return t.writeU32(arg, this.urgentMark === 0 ? 1 : 0)
    return super.ioctl(t, cmd, arg)
  }
  override inputBytes(): number {
    if (this.state === TCP_LISTEN) return -EINVAL
    if (this.state === TCP_SYN_SENT) return 0
    return this.received.length
  }
  override buffersChanged(): void {
    if (this.writableNow) this.waitQueue.wake(WRITABLE)
  }

  override setSocketOption(t: Task, name: number, val: Buffer, len: number): SysRet | undefined {
    if (name !== SO_RCVLOWAT) return super.setSocketOption(t, name, val, len)
    const v = val.readInt32LE(0)
    const cap = (this.bufLock & RCVBUF_LOCK) !== 0 ? this.rcvBuf >> 1 : TCP_RMEM_MAX >> 1
    this.rcvLowat = Math.min(v < 0 ? cap : Math.max(v, 1), cap)
    return 0
  }

  override getsockopt(t: Task, level: number, name: number, out: Buffer, len: number): SysRet {
    if (level !== SOL_TCP || name !== TCP_INFO) return super.getsockopt(t, level, name, out, len)
    out.fill(0, 0, TCP_INFO_SIZE)
    out[0] = this.state
    out[5] = 7
    out[6] = 0x77
    out.writeUInt32LE(200000, 8)
    out.writeUInt32LE(40000, 12)
    out.writeUInt32LE(65483, 16)
    out.writeUInt32LE(65483, 20)
    out.writeUInt32LE(65535, 60)
    out.writeUInt32LE(65495, 64)
    out.writeUInt32LE(50, 68)
    out.writeUInt32LE(25, 72)
    out.writeUInt32LE(0x7fffffff, 76)
    out.writeUInt32LE(10, 80)
    return TCP_INFO_SIZE
  }
}
