/**
 * A pipe, socket, terminal or character device of the host as stdio.
 *
 * The sentry must never sleep in a host call, and O_NONBLOCK of a description shared with host processes is not ours
 * to set. So: sockets use MSG_DONTWAIT, pipes and devices were opened anew with O_NONBLOCK where that is possible
 * (`ownDescription`), and else poll(2) is asked before each transfer and writes stay below what a writable pipe takes.
 */

import { close, ioctl, raw, read, write } from '../../../native/host.ts'
import { EAGAIN, EBADF, EFAULT, EINVAL, ENOTTY, EPIPE } from '../../abi/errno.ts'
import { O_ACCMODE, O_RDONLY, O_WRONLY } from '../../abi/fcntl.ts'
import { EPOLLET, type HostFdHandler, type HostPoll, hostPollNow } from '../../kernel/host-poll.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { WaitQueue } from '../../kernel/wait-queue.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
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
  FileDescription,
} from '../../vfs/file-description.ts'
import { type Inode, S_IFCHR, S_IFIFO, S_IFMT } from '../../vfs/inode.ts'
import { sendSigpipe } from '../sigpipe.ts'
import type { HostInode } from './host-inode.ts'

const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const SENDTO = 44
const RECVFROM = 45
/** What a pipe, or a terminal, that polls writable takes without sleeping. */
const PIPE_BUF = 4096
const TTY_ROOM = 256
const BOUNCE = new Uint8Array(65536)

const TCGETS = 0x5401
const TCSETS = 0x5402
const TCSETSF = 0x5404
const TIOCGWINSZ = 0x5413
const TIOCOUTQ = 0x5411
const FIONREAD = 0x541b
const TCGETS2 = 0x802c542a
const ARG = new Uint8Array(64)

const WATCHED =
  EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLRDNORM | EPOLLWRNORM | EPOLLRDBAND | EPOLLWRBAND | EPOLLET
const LEVELS = WATCHED & 0x7fff

export class HostStream extends FileDescription implements HostFdHandler {
  private readonly fd: number
  private readonly hostInode: HostInode
  private readonly hostPoll: HostPoll
  /** O_NONBLOCK is set and nobody else shares it. */
  private readonly ownDescription: boolean
  private readonly isSocket: boolean
  private readonly isTty: boolean
  private readonly queue = new WaitQueue()
  private watched = false
  /** The host cannot tell of changes (/dev/null): always ready, and epoll refuses it as natively. */
  private unwatchable = false

  constructor(fd: number, flags: number, inode: HostInode, hostPoll: HostPoll, ownDescription: boolean) {
    super(flags, null)
    this.fd = fd
    this.hostInode = inode
    this.hostPoll = hostPoll
    this.ownDescription = ownDescription
    this.isSocket = inode.isSocket
    this.isTty = (inode.mode & S_IFMT) === S_IFCHR
  }

  override get inode(): Inode {
    return this.hostInode
  }
  override describe(): string {
    const type = this.hostInode.mode & S_IFMT
    if (type === S_IFIFO) return `pipe:[${this.hostInode.ino}]`
    return this.hostInode.rdev === 0x103 ? '/dev/null' : `host:[${this.hostInode.ino}]`
  }

  override get writesFully(): boolean {
    return true
  }

  override read(_t: Task, iter: IovIter, _pos: number): SysRet {
    if ((this.flags & O_ACCMODE) === O_WRONLY) return -EBADF
    if (iter.remaining === 0) return 0
    const want = Math.min(iter.remaining, BOUNCE.length)
    let n: number
    if (this.isSocket) n = raw.LP(RECVFROM, this.fd, BOUNCE, want, MSG_DONTWAIT, 0, 0)
    else if (this.ownDescription || hostPollNow(this.fd, EPOLLIN) !== 0) n = read(this.fd, BOUNCE, want)
    else n = -EAGAIN
    if (n <= 0) return n
    const copied = iter.copyTo(BOUNCE, 0, n)
    return copied === 0 ? -EFAULT : copied
  }

  override write(t: Task, iter: IovIter, _pos: number): SysRet {
    if ((this.flags & O_ACCMODE) === O_RDONLY) return -EBADF
    let done = 0
    while (iter.remaining > 0) {
      const cap = this.ownDescription || this.isSocket ? BOUNCE.length : this.isTty ? TTY_ROOM : PIPE_BUF
      const mark = iter.mark()
      const want = Math.min(iter.remaining, cap)
      const got = iter.copyFrom(BOUNCE, 0, want)
      if (got === 0) return done > 0 ? done : -EFAULT
      let n: number
      if (this.isSocket) n = raw.LP(SENDTO, this.fd, BOUNCE, got, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0)
      else if (this.ownDescription || hostPollNow(this.fd, EPOLLOUT) !== 0) n = write(this.fd, BOUNCE, got)
      else n = -EAGAIN
      if (n < got) {
        iter.rewind(mark)
        if (n > 0) iter.skip(n)
        if (n === -EPIPE && done === 0) sendSigpipe(t)
        if (n > 0) return done + n
        return done > 0 ? done : n
      }
      done += n
      if (got < want) return done
    }
    return done
  }

  override poll(): number {
    return hostPollNow(this.fd, LEVELS) & (LEVELS | EPOLLERR | EPOLLHUP)
  }
  /** The host is asked for edges only once somebody waits. */
  override get waitQueue(): WaitQueue | null {
    if (!this.watched && !this.unwatchable) {
      this.watched = this.hostPoll.watch(this.fd, WATCHED, this) === 0
      this.unwatchable = !this.watched
    }
    return this.unwatchable ? null : this.queue
  }
  onHostEvents(events: number): void {
    this.queue.wake(events)
  }

  /** What a program without a container terminal may ask of the user's terminal; nothing that injects input (TIOCSTI). */
  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (cmd === FIONREAD || cmd === TIOCOUTQ) {
      const ret = ioctl(this.fd, cmd, ARG)
      return ret < 0 ? ret : t.writeBytes(arg, ARG, 4)
    }
    if ((this.hostInode.mode & S_IFMT) !== S_IFCHR) return -ENOTTY
    if (cmd === TCGETS || cmd === TIOCGWINSZ || cmd === TCGETS2) {
      const ret = ioctl(this.fd, cmd, ARG)
      return ret < 0 ? ret : t.writeBytes(arg, ARG, cmd === TCGETS ? 36 : cmd === TCGETS2 ? 44 : 8)
    }
    if (cmd >= TCSETS && cmd <= TCSETSF) {
      const bad = t.readBytes(arg, ARG, 36)
      // TCSETSW would sleep until the output is gone: TCSETS does not, and the sentry buffers nothing.
      return bad < 0 ? bad : ioctl(this.fd, TCSETS, ARG)
    }
    return -ENOTTY
  }

  override fsync(): number {
    return -EINVAL
  }
  protected override release(): void {
    if (this.watched) this.hostPoll.unwatch(this.fd)
    close(this.fd)
  }
}
