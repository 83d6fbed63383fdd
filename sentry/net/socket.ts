/**
 * Socket: an open socket (Linux: struct socket with its struct sock). Each family subclasses it.
 *
 * Methods never block: where Linux would sleep they return −EAGAIN (connect: −EINPROGRESS or −EALREADY), and
 * net/socket-io.ts waits. Addresses come in and go out as raw sockaddr bytes, already copied from the guest.
 */
import { EINVAL, ENOTTY, EOPNOTSUPP, EPIPE, ESPIPE } from '../abi/errno.ts'
import { O_NONBLOCK, O_RDWR } from '../abi/fcntl.ts'
import {
  FIONREAD,
  MSG_DONTWAIT,
  MSG_EOR,
  RMEM_DEFAULT,
  SO_ACCEPTCONN,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  WMEM_DEFAULT,
} from '../abi/socket.ts'
import { newSocketInode } from '../fs/anon.ts'
import { sendSigpipe } from '../fs/sigpipe.ts'
import type { Credentials } from '../kernel/credentials.ts'
import type { SysRet } from '../kernel/sysret.ts'
import { NEVER, type Task } from '../kernel/task.ts'
import { WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import { FileDescription } from '../vfs/file-description.ts'
import type { Inode } from '../vfs/inode.ts'
import { interfaceIoctl } from './interfaces.ts'
import { MESSAGE, type Message } from './message.ts'

export abstract class Socket extends FileDescription {
  readonly family: number
  readonly type: number
  readonly protocol: number
  private socketInode: Inode | null = null
  private readonly queue = new WaitQueue()

  // ---- what SOL_SOCKET options keep (net/socket-options.ts) ----------------------------------------------------------
  /** Pending error, reported once (sk_err); a positive errno. */
  error = 0
  sndBuf = WMEM_DEFAULT
  rcvBuf = RMEM_DEFAULT
  /** SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK: set by the guest, no auto-tuning. */
  bufLock = 0
  rcvTimeoNs = NEVER
  sndTimeoNs = NEVER
  rcvLowat = 1
  /** Seconds; −1 = off. */
  linger = -1
  passCred = false
  peekOff = -1
  /** Options that are only remembered, by SO_* number. */
  flagOptions: Map<number, number> | null = null

  constructor(family: number, type: number, protocol: number, nonblock: boolean) {
    super(O_RDWR | (nonblock ? O_NONBLOCK : 0), null)
    this.family = family
    this.type = type
    this.protocol = protocol
  }

  /** Gives the socket its identity; every socket that gets a descriptor has one. */
  attach(creds: Credentials): this {
    if (this.socketInode === null) {
      this.socketInode = newSocketInode(creds)
      this.creds = creds
    }
    return this
  }
  override get inode(): Inode {
    return this.socketInode!
  }
  /** 0 before {@link attach}: a connection nobody accepted yet. */
  get ino(): number {
    return this.socketInode === null ? 0 : this.socketInode.ino
  }
  override describe(): string {
    return `socket:[${this.ino}]`
  }
  override get waitQueue(): WaitQueue {
    return this.queue
  }
  get nonblock(): boolean {
    return (this.flags & O_NONBLOCK) !== 0
  }
  /** Whether bytes have no message boundaries: partial transfers continue. */
  get isStream(): boolean {
    return this.type === SOCK_STREAM
  }
  /** For SO_ACCEPTCONN. */
  get listening(): boolean {
    return false
  }

  /** The pending error as −errno, cleared; 0 if none. */
  takeError(): number {
    const e = this.error
    this.error = 0
    return -e
  }

  // ---- operations of the family --------------------------------------------------------------------------------------
  bind(_t: Task, _addr: Buffer, _len: number): SysRet {
    return -EOPNOTSUPP
  }
  /**
   * 0, −EINPROGRESS (started now), −EALREADY (still going on), −EAGAIN (backlog full: wait on MESSAGE.waitQueue) or
   * −errno. `nonblock`: the caller will not wait, which shows in Linux's answer even where the result is known.
   */
  connect(_t: Task, _addr: Buffer, _len: number, _nonblock: boolean): SysRet {
    return -EOPNOTSUPP
  }
  listen(_t: Task, _backlog: number): SysRet {
    return -EOPNOTSUPP
  }
  /** The next connection, −EAGAIN or −errno. `nonblock` is for the new description. */
  accept(_t: Task, _nonblock: boolean): Socket | number {
    return -EOPNOTSUPP
  }
  /** Writes the own (or the peer's) address to `out`; its length or −errno. */
  abstract getname(peer: boolean, out: Buffer): number
  abstract sendmsg(t: Task, msg: Message): SysRet
  abstract recvmsg(t: Task, msg: Message): SysRet
  /** `how` is any number. */
  shutdown(_how: number): SysRet {
    return -EOPNOTSUPP
  }
  /** Levels other than SOL_SOCKET. `val` holds `len` bytes (at most 4096 of them copied). */
  setsockopt(_t: Task, _level: number, _name: number, _val: Buffer, _len: number): SysRet {
    return -EOPNOTSUPP
  }
  /** Writes the value to `out`; its full length, of which the guest gets what fits in `len`. */
  getsockopt(_t: Task, _level: number, _name: number, _out: Buffer, _len: number): SysRet {
    return -EOPNOTSUPP
  }
  /** SOL_SOCKET options that a family treats its own way; undefined: the generic code does it. */
  setSocketOption(_t: Task, _name: number, _val: Buffer, _len: number): SysRet | undefined {
    return undefined
  }
  getSocketOption(_t: Task, _name: number, _out: Buffer, _len: number): SysRet | undefined {
    return undefined
  }
  /** SO_SNDBUF or SO_RCVBUF changed. */
  buffersChanged(): void {}

  flag(name: number): number {
    return name === SO_ACCEPTCONN ? (this.listening ? 1 : 0) : (this.flagOptions?.get(name) ?? 0)
  }
  setFlag(name: number, value: number): void {
    if (this.flagOptions === null) this.flagOptions = new Map()
    this.flagOptions.set(name, value)
  }

  // ---- file operations -----------------------------------------------------------------------------------------------
  override read(t: Task, iter: IovIter, _pos: number): SysRet {
    if (iter.remaining === 0) return 0
    return this.recvmsg(t, MESSAGE.reset(iter, MSG_DONTWAIT))
  }

  override write(t: Task, iter: IovIter, _pos: number): SysRet {
    const flags = this.type === SOCK_SEQPACKET ? MSG_EOR | MSG_DONTWAIT : MSG_DONTWAIT
    const n = this.sendmsg(t, MESSAGE.reset(iter, flags))
    if (n === -EPIPE && this.isStream) sendSigpipe(t)
    return n
  }

  override seek(_t: Task, _offset: number, _whence: number): SysRet {
    return -ESPIPE
  }
  override fsync(_dataOnly: boolean): number {
    return -EINVAL
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (cmd === FIONREAD) {
      const n = this.inputBytes()
      return n < 0 ? n : t.writeU32(arg, n)
    }
    return interfaceIoctl(t, cmd, arg) ?? -ENOTTY
  }
  /** FIONREAD. */
  inputBytes(): number {
    return -EINVAL
  }
}
