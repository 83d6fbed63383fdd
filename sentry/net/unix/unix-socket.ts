/**
 * What all AF_UNIX sockets share: names, connections, shutdown, buffer accounting (Linux: net/unix/af_unix.c).
 *
 * Invariants: of a connected stream or seqpacket pair each is the other's `peer` until one is released. `wmem` is the sum
 * of truesize of the packets this socket sent that nobody has read. Names and `peerWait` belong to the receiving side.
 */
import {
  EAGAIN,
  ECONNREFUSED,
  ECONNRESET,
  EINVAL,
  EISCONN,
  ENODATA,
  ENOTCONN,
  EOPNOTSUPP,
  EPERM,
  EPIPE,
  EPROTOTYPE,
  ERANGE,
} from '../../abi/errno.ts'
import { O_NONBLOCK } from '../../abi/fcntl.ts'
import {
  AF_UNIX,
  MAX_DGRAM_QLEN,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUT_RDWR,
  SHUTDOWN_MASK,
  SIOCATMARK,
  SIOCOUTQ,
  SO_PEERCRED,
  SO_PEERGROUPS,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  TCP_CLOSE,
  TCP_ESTABLISHED,
  TCP_LISTEN,
} from '../../abi/socket.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { WaitQueue } from '../../kernel/wait-queue.ts'
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
import type { Path } from '../../vfs/path.ts'
import { MESSAGE, type Message } from '../message.ts'
import { Socket } from '../socket.ts'
import {
  addSocket,
  autobind,
  bindAbstract,
  findAbstract,
  pathOf,
  releaseName,
  removeSocket,
  SUN_PATH,
  SUN_SIZE,
} from './names.ts'
import { PacketQueue } from './packet.ts'
import { bindPath, findPath, tryPath } from './path-names.ts'

export const READABLE = EPOLLIN | EPOLLRDNORM
/** What the arrival of data wakes, also those that wait for urgent data only (Linux: sock_def_readable). */
export const DATA_READY = READABLE | EPOLLPRI | EPOLLRDBAND
export const WRITABLE = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
const ALL_EVENTS = DATA_READY | WRITABLE | EPOLLRDHUP | EPOLLHUP | EPOLLERR

/** Credentials of the process at the other end, when it connected or listened. */
class PeerCreds {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
  constructor(t: Task) {
    this.pid = t.group.pid
    this.uid = t.creds.euid
    this.gid = t.creds.egid
    this.groups = t.creds.groups
  }
}

/** What happens after each close: garbage.ts, which imports us. */
let onRelease = (): void => {}
export function setReleaseHook(hook: () => void): void {
  onRelease = hook
}

export abstract class UnixSocket extends Socket {
  /** TCP_CLOSE, TCP_LISTEN or TCP_ESTABLISHED, as /proc/net/unix and Linux have it. */
  state = TCP_CLOSE
  peer: UnixSocket | null = null
  /** RCV_SHUTDOWN | SEND_SHUTDOWN. */
  shut = 0
  dead = false
  /** The sockaddr_un it is bound to. */
  address: Buffer | null = null
  private boundPath: Path | null = null
  peerCreds: PeerCreds | null = null
  readonly received = new PacketQueue()
  /** Connections that wait for accept(2). */
  readonly pending: UnixSocket[] = []
  maxBacklog = MAX_DGRAM_QLEN
  wmem = 0
  /** Senders and connecters that wait for room in our queue. */
  readonly peerWait = new WaitQueue()
  /** Senders that were told by poll(2) that our queue is full. */
  private readonly pollers = new Set<UnixSocket>()

  constructor(type: number, protocol: number, nonblock: boolean) {
    super(AF_UNIX, type, protocol, nonblock)
    addSocket(this)
  }

  /** A socket of the same kind, for the other end of a connection. */
  protected abstract sibling(nonblock: boolean): UnixSocket

  get connectionOriented(): boolean {
    return this.type !== SOCK_DGRAM
  }
  override get listening(): boolean {
    return this.state === TCP_LISTEN
  }

  // ---- names ---------------------------------------------------------------------------------------------------------
  private static checkAddress(addr: Buffer, len: number): number {
    if (len <= SUN_PATH || len > SUN_SIZE) return -EINVAL
    return addr.readUInt16LE(0) === AF_UNIX ? 0 : -EINVAL
  }

  override bind(t: Task, addr: Buffer, len: number): SysRet {
    if (len === SUN_PATH && addr.readUInt16LE(0) === AF_UNIX) return this.address === null ? autobind(this) : 0
    const bad = UnixSocket.checkAddress(addr, len)
    if (bad !== 0) return bad
    if (addr[SUN_PATH] === 0) return this.address !== null ? -EINVAL : bindAbstract(this, addr, len)
    const name = pathOf(addr, len)
    // What is wrong with the path counts first.
    if (this.address !== null) return tryPath(t, this, name) || -EINVAL
    const path = bindPath(t, this, name)
    if (typeof path === 'number') return path
    this.boundPath = path
    const full = Buffer.alloc(SUN_PATH + name.length + 1)
    full.writeUInt16LE(AF_UNIX, 0)
    full.write(name, SUN_PATH, 'latin1')
    this.address = full
    return 0
  }

  /** The socket that `addr` names, or −errno. */
  protected lookup(t: Task, addr: Buffer, len: number): UnixSocket | number {
    const found = addr[SUN_PATH] !== 0 ? findPath(t, pathOf(addr, len)) : findAbstract(this.type, addr, len)
    if (typeof found === 'number') return found
    if (!(found instanceof UnixSocket)) return -ECONNREFUSED
    return found.type === this.type ? found : -EPROTOTYPE
  }

  override getname(peer: boolean, out: Buffer): number {
    const s: UnixSocket | null = peer ? this.peer : this
    if (s === null) return -ENOTCONN
    return s.writeAddress(out)
  }
  writeAddress(out: Buffer): number {
    if (this.address === null) {
      out.writeUInt16LE(AF_UNIX, 0)
      return SUN_PATH
    }
    out.set(this.address)
    return this.address.length
  }
  /** msg_name of a received packet: nothing for an unnamed sender. */
  protected static copyName(msg: Message, sender: UnixSocket): void {
    msg.nameLen = sender.address === null ? 0 : sender.writeAddress(msg.name)
  }

  // ---- connections ---------------------------------------------------------------------------------------------------
  override listen(t: Task, backlog: number): SysRet {
    if (!this.connectionOriented) return -EOPNOTSUPP
    if (this.address === null) return -EINVAL
    if (this.state !== TCP_CLOSE && this.state !== TCP_LISTEN) return -EINVAL
    const grew = backlog > this.maxBacklog
    this.maxBacklog = backlog
    this.state = TCP_LISTEN
    this.peerCreds = new PeerCreds(t)
    if (grew) this.peerWait.wake(WRITABLE)
    return 0
  }

  override connect(t: Task, addr: Buffer, len: number): SysRet {
    if (!this.connectionOriented) return this.connectDatagram(t, addr, len)
    const bad = UnixSocket.checkAddress(addr, len)
    if (bad !== 0) return bad
    if (this.passCred && this.address === null) autobind(this)
    const other = this.lookup(t, addr, len)
    if (typeof other === 'number') return other
    if (other.state !== TCP_LISTEN || (other.shut & RCV_SHUTDOWN) !== 0) return -ECONNREFUSED
    if (other.pending.length > other.maxBacklog) {
      MESSAGE.waitQueue = other.peerWait
      return -EAGAIN
    }
    if (this.state !== TCP_CLOSE) return this.state === TCP_ESTABLISHED ? -EISCONN : -EINVAL
    const server = this.sibling(false)
    server.address = other.address
    server.peer = this
    server.state = TCP_ESTABLISHED
    server.peerCreds = new PeerCreds(t)
    this.peer = server
    this.state = TCP_ESTABLISHED
    this.peerCreds = other.peerCreds
    other.pending.push(server)
    other.waitQueue.wake(DATA_READY)
    this.waitQueue.wake(WRITABLE)
    return 0
  }

  private connectDatagram(t: Task, addr: Buffer, len: number): SysRet {
    if (len < 2) return -EINVAL
    let other: UnixSocket | null = null
    if (addr.readUInt16LE(0) !== 0) {
      const bad = UnixSocket.checkAddress(addr, len)
      if (bad !== 0) return bad
      if (this.passCred && this.address === null) autobind(this)
      const found = this.lookup(t, addr, len)
      if (typeof found === 'number') return found
      if (!found.accepts(this)) return -EPERM
      other = found
      this.state = TCP_ESTABLISHED
      other.state = TCP_ESTABLISHED
    }
    const old = this.peer
    this.peer = other
    if (old !== null) {
      if (other === null) this.state = TCP_CLOSE
      old.pollers.delete(this)
      if (old !== other) {
        this.disconnected(old)
        if (old.peer === null) old.state = TCP_CLOSE
      }
    }
    this.waitQueue.wake(WRITABLE)
    return 0
  }

  /** A datagram socket lost its peer: what it had not read is lost, and the peer hears of it. */
  protected disconnected(old: UnixSocket): void {
    if (this.received.head === null) return
    this.received.purge()
    this.peerWait.wake(WRITABLE)
    if (!old.dead && old.peer === this) {
      old.error = ECONNRESET
      old.waitQueue.wake(ALL_EVENTS)
    }
  }

  /** A connected datagram socket takes packets only from its peer. */
  accepts(sender: UnixSocket): boolean {
    return this.peer === null || this.peer === sender
  }

  /** Links two fresh sockets (socketpair(2)). */
  pair(t: Task, other: UnixSocket): void {
    this.peer = other
    other.peer = this
    this.peerCreds = new PeerCreds(t)
    other.peerCreds = this.peerCreds
    this.state = TCP_ESTABLISHED
    other.state = TCP_ESTABLISHED
  }

  override accept(t: Task, nonblock: boolean): Socket | number {
    if (!this.connectionOriented) return -EOPNOTSUPP
    if (this.state !== TCP_LISTEN) return -EINVAL
    const s = this.pending.shift()
    if (s === undefined) return (this.shut & RCV_SHUTDOWN) !== 0 ? -EINVAL : -EAGAIN
    s.passCred = this.passCred
    if (nonblock) s.flags |= O_NONBLOCK
    s.attach(t.creds)
    this.peerWait.wake(WRITABLE)
    return s
  }

  override shutdown(how: number): SysRet {
    if (how < 0 || how > SHUT_RDWR) return -EINVAL
    const mode = how + 1
    this.shut |= mode
    this.waitQueue.wake(ALL_EVENTS)
    const other = this.peer
    if (other !== null && this.connectionOriented) {
      if (mode & RCV_SHUTDOWN) other.shut |= SEND_SHUTDOWN
      if (mode & SEND_SHUTDOWN) other.shut |= RCV_SHUTDOWN
      other.waitQueue.wake(ALL_EVENTS)
    }
    this.peerWait.wake(WRITABLE)
    return 0
  }

  protected override release(): void {
    this.destroy(false)
    onRelease()
  }

  /** The socket dies; `embryo`: nobody ever accepted it. */
  private destroy(embryo: boolean): void {
    if (this.dead) return
    this.dead = true
    removeSocket(this)
    this.releaseNames()
    const wasListening = this.state === TCP_LISTEN
    this.shut = SHUTDOWN_MASK
    this.state = TCP_CLOSE
    const other = this.peer
    this.peer = null
    this.peerWait.wake(WRITABLE)
    if (other !== null) {
      if (this.connectionOriented) {
        other.shut = SHUTDOWN_MASK
        // The empty rest of an urgent byte (or an empty message) in front is not lost data.
        const unread = this.received.head?.remaining === 0 ? this.received.head.next : this.received.head
        if (unread !== null || embryo) other.error = ECONNRESET
        other.waitQueue.wake(ALL_EVENTS)
      }
      other.pollers.delete(this)
    }
    this.received.purge()
    if (wasListening) for (const s of this.pending.splice(0)) s.destroy(true)
    this.wakePollers()
  }

  private releaseNames(): void {
    // A connection shows its listener's address but does not own it.
    if (this.boundPath === null) {
      releaseName(this)
      return
    }
    const dentry = this.boundPath.dentry
    if (dentry.inode?.special === this) dentry.inode.special = null
    dentry.refs--
    this.boundPath = null
  }

  // ---- buffers -------------------------------------------------------------------------------------------------------
  /** unix_writable: three quarters of the buffer are free. */
  get writableNow(): boolean {
    return this.state !== TCP_LISTEN && this.wmem * 4 <= this.sndBuf
  }
  /** A packet that we sent was read. */
  writeSpace(): void {
    if (!this.dead && this.writableNow) this.waitQueue.wake(WRITABLE)
  }
  override buffersChanged(): void {
    this.writeSpace()
  }
  /** sock_alloc_send_pskb's checks: 0, −EAGAIN, or why nothing can be sent. */
  protected maySend(): number {
    const err = this.takeError()
    if (err !== 0) return err
    if ((this.shut & SEND_SHUTDOWN) !== 0) return -EPIPE
    return this.wmem < this.sndBuf ? 0 : -EAGAIN
  }
  get queueFull(): boolean {
    return this.received.length > this.maxBacklog
  }
  /** Our queue has room again. */
  protected roomAgain(): void {
    if (!this.peerWait.empty) this.peerWait.wake(WRITABLE)
    if (this.pollers.size > 0) this.wakePollers()
  }
  private wakePollers(): void {
    for (const s of this.pollers) s.waitQueue.wake(WRITABLE)
    this.pollers.clear()
  }

  // ---- files ---------------------------------------------------------------------------------------------------------
  override poll(): number {
    let mask = 0
    if (this.error !== 0) mask |= EPOLLERR
    if (this.shut === SHUTDOWN_MASK) mask |= EPOLLHUP
    if ((this.shut & RCV_SHUTDOWN) !== 0) mask |= EPOLLRDHUP | READABLE
    if (this.received.head !== null || this.pending.length > 0) mask |= READABLE
    if (this.connectionOriented && this.state === TCP_CLOSE) mask |= EPOLLHUP
    if (this.writableNow && !this.blockedByPeer()) mask |= WRITABLE
    return mask
  }

  /** A datagram sender whose peer's queue is full and does not answer to us alone. */
  private blockedByPeer(): boolean {
    if (this.type === SOCK_STREAM) return false
    const other = this.peer
    if (other === null || other.peer === this || !other.queueFull) return false
    other.pollers.add(this)
    return true
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (cmd === SIOCOUTQ) return t.writeU32(arg, this.wmem)
    if (cmd === SIOCATMARK) {
      if (this.type !== SOCK_STREAM) return -EOPNOTSUPP
      return t.writeU32(arg, this.atMark || this.pending.length > 0 ? 1 : 0)
    }
    return super.ioctl(t, cmd, arg)
  }
  /** Whether the next byte to read is the urgent one. */
  protected get atMark(): boolean {
    return false
  }
  override inputBytes(): number {
    if (this.state === TCP_LISTEN) return -EINVAL
    if (this.type === SOCK_STREAM || this.type === SOCK_SEQPACKET) return this.received.bytes()
    return this.received.head === null ? 0 : this.received.head.remaining
  }

  override getSocketOption(_t: Task, name: number, out: Buffer, len: number): SysRet | undefined {
    if (name === SO_PEERCRED && this.peerCreds !== null) {
      out.writeInt32LE(this.peerCreds.pid, 0)
      out.writeUInt32LE(this.peerCreds.uid, 4)
      out.writeUInt32LE(this.peerCreds.gid, 8)
      return 12
    }
    if (name === SO_PEERGROUPS) {
      if (this.peerCreds === null) return -ENODATA
      const groups = this.peerCreds.groups
      if (len < groups.length * 4) {
        out.writeUInt32LE(groups.length * 4, 0)
        return -ERANGE
      }
      groups.forEach((g, i) => {
        out.writeUInt32LE(g, i * 4)
      })
      return groups.length * 4
    }
    return undefined
  }
}
