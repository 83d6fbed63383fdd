/**
 * Pseudo-terminals (pty(7); Linux: drivers/tty/pty.c). The slave is a Tty whose hardware is the master; the master is
 * only a description: what it writes is typed, what it reads is the output.
 */
import { EAGAIN, EFAULT, EINVAL, EIO } from '../../abi/errno.ts'
import { O_NOCTTY } from '../../abi/fcntl.ts'
import { SIGINT, SIGQUIT, SIGTSTP } from '../../abi/signal.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { WaitQueue } from '../../kernel/wait-queue.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import {
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDNORM,
  EPOLLWRNORM,
  FileDescription,
} from '../../vfs/file-description.ts'
import { type Inode, makeDev } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { ByteQueue } from './byte-queue.ts'
import { ttyIoctl } from './ioctls.ts'
import { CREAD, CS8, CSIZE, EXTPROC, IXON, PARENB, type Termios, VSTART, VSTOP } from './termios.ts'
import { TIOCPKT_DOSTOP, TIOCPKT_FLUSHWRITE, TIOCPKT_IOCTL, TIOCPKT_NOSTOP, Tty, type TtyUser } from './tty.ts'

export const PTS_MAJOR = 136
/** A flip buffer and the read buffer of the master's line discipline, as Linux has them. */
const OUTPUT_SIZE = 8192 + 4096
/** Of it, what a flush does not reach any more. */
const READ_BUFFER = 4096
const READY_READ = EPOLLIN | EPOLLRDNORM
const CHUNK = new Uint8Array(2048)
const STATUS = new Uint8Array(1)

const TCFLSH = 0x540b
const TIOCOUTQ = 0x5411
const FIONREAD = 0x541b
const TIOCPKT = 0x5420
const TIOCSIG = 0x40045436
const TIOCSPTLCK = 0x40045431
const TIOCGPTN = 0x80045430
const TIOCGPKT = 0x80045438
const TIOCGPTLCK = 0x80045439
const TIOCGPTPEER = 0x5441

export class PtySlave extends Tty {
  readonly index: number
  readonly out = new ByteQueue(OUTPUT_SIZE)
  readonly masterQueue = new WaitQueue()
  /** Until unlockpt(3). */
  locked = true
  masterClosed = false
  /** The last description of the slave was closed: the master reads EIO. False before the first was opened. */
  closed = false
  packet = false
  packetBits = 0
  private fresh = false

  constructor(index: number) {
    super(makeDev(PTS_MAJOR, index), `pts/${index}`)
    this.index = index
  }

  writeRoom(): number {
    return this.stopped ? 0 : this.out.room
  }
  put(buf: Uint8Array, at: number, len: number): number {
    if (this.stopped) return 0
    this.fresh = true
    return this.out.push(buf, at, len)
  }
  flushOutput(): void {
    if (!this.fresh) return
    this.fresh = false
    this.masterQueue.wake(READY_READ)
  }
  discardOutput(): void {
    this.out.truncate(READ_BUFFER)
    this.packetStatus(TIOCPKT_FLUSHWRITE, 0)
  }
  override packetStatus(set: number, clear: number): void {
    if (!this.packet) return
    this.packetBits = (this.packetBits & ~clear) | set
    this.masterQueue.wake(READY_READ | EPOLLPRI)
  }
  protected override wantInput(): void {
    this.masterQueue.wake(EPOLLOUT | EPOLLWRNORM)
  }

  mayOpen(): number {
    return this.locked || this.masterClosed ? -EIO : 0
  }
  override get gone(): boolean {
    return this.masterClosed
  }
  override attach(user: TtyUser): void {
    this.closed = false
    super.attach(user)
  }
  override lastClosed(): void {
    this.closed = true
    this.packet = false
    this.masterQueue.wake(READY_READ | EPOLLOUT | EPOLLHUP)
  }

  protected override adjustTermios(old: Termios): void {
    const now = this.termios
    const flow = (t: Termios): boolean => (t.iflag & IXON) !== 0 && t.cc[VSTOP] === 0x13 && t.cc[VSTART] === 0x11
    if (flow(old) !== flow(now)) {
      this.packetStatus(flow(now) ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP, TIOCPKT_DOSTOP | TIOCPKT_NOSTOP)
    }
    if ((old.lflag | now.lflag) & EXTPROC) this.packetStatus(TIOCPKT_IOCTL, 0)
    now.cflag = (now.cflag & ~(CSIZE | PARENB)) | CS8 | CREAD
  }
}

/** What the master needs of the devpts instance that it was opened in. */
export interface PtyHome {
  /** The master is gone: so is the node. */
  masterGone(slave: PtySlave): void
  /** TIOCGPTPEER: opens the slave. */
  openPeer(t: Task, master: PtyMaster, flags: number): number
}

export class PtyMaster extends FileDescription {
  readonly slave: PtySlave
  private readonly node: Inode
  private readonly home: PtyHome

  constructor(slave: PtySlave, node: Inode, path: Path, flags: number, home: PtyHome) {
    super(flags & ~O_NOCTTY, path)
    this.slave = slave
    this.node = node
    this.home = home
  }

  override get inode(): Inode {
    return this.node
  }
  override get writesFully(): boolean {
    return true
  }
  override get waitQueue(): WaitQueue {
    return this.slave.masterQueue
  }

  override read(_t: Task, iter: IovIter, _pos: number): SysRet {
    if (iter.remaining === 0) return 0
    const slave = this.slave
    if (slave.packet && slave.packetBits !== 0) {
      STATUS[0] = slave.packetBits
      slave.packetBits = 0
      return iter.copyTo(STATUS, 0, 1) === 1 ? 1 : -EFAULT
    }
    if (slave.out.length === 0) return slave.closed ? -EIO : -EAGAIN
    let header = 0
    if (slave.packet) {
      STATUS[0] = 0
      if (iter.copyTo(STATUS, 0, 1) < 1) return -EFAULT
      header = 1
    }
    const want = Math.min(iter.remaining, slave.out.length)
    const n = slave.out.copyTo(iter, want)
    slave.outputRoom()
    return n === 0 && want > 0 ? -EFAULT : n + header
  }

  override write(_t: Task, iter: IovIter, _pos: number): SysRet {
    const slave = this.slave
    let done = 0
    while (iter.remaining > 0 && slave.inputRoom > 0) {
      const want = Math.min(iter.remaining, CHUNK.length, slave.inputRoom)
      const got = iter.copyFrom(CHUNK, 0, want)
      if (got === 0) return done > 0 ? done : -EFAULT
      done += slave.receive(CHUNK, 0, got)
    }
    return done > 0 || iter.remaining === 0 ? done : -EAGAIN
  }

  override poll(): number {
    const slave = this.slave
    let mask = 0
    if (slave.out.length > 0) mask |= READY_READ
    if (slave.packet && slave.packetBits !== 0) mask |= READY_READ | EPOLLPRI
    if (slave.closed) mask |= EPOLLHUP
    if (slave.inputRoom > 0) mask |= EPOLLOUT | EPOLLWRNORM
    return mask
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    const slave = this.slave
    switch (cmd) {
      case TIOCSPTLCK: {
        const lock = t.readU32(arg)
        if (lock < 0) return lock
        slave.locked = lock !== 0
        return 0
      }
      case TIOCGPTLCK:
        return t.writeU32(arg, slave.locked ? 1 : 0)
      case TIOCGPTN:
        return t.writeU32(arg, slave.index)
      case TIOCGPTPEER:
        return this.home.openPeer(t, this, arg)
      case TIOCPKT: {
        const on = t.readU32(arg)
        if (on < 0) return on
        if (on !== 0 && !slave.packet) slave.packetBits = 0
        slave.packet = on !== 0
        return 0
      }
      case TIOCGPKT:
        return t.writeU32(arg, slave.packet ? 1 : 0)
      case TIOCSIG:
        if (arg !== SIGINT && arg !== SIGQUIT && arg !== SIGTSTP) return -EINVAL
        slave.signalForeground(arg)
        return 0
      case FIONREAD:
        return t.writeU32(arg, slave.out.length)
      case TIOCOUTQ:
        return t.writeU32(arg, 0)
      case TCFLSH:
        if (arg > 2) return -EINVAL
        if (arg !== 1) slave.out.truncate(0)
        if (arg !== 0) slave.discardBacklog()
        slave.outputRoom()
        return 0
      default:
        return ttyIoctl(t, slave, this, true, cmd, arg)
    }
  }

  override fdinfo(): string {
    return `tty-index:\t${this.slave.index}\n`
  }

  protected override release(): void {
    this.slave.masterClosed = true
    this.slave.out.truncate(0)
    this.home.masterGone(this.slave)
    this.slave.hangUp()
  }
}
