/**
 * An open terminal: the slave of a pty, or the console (Linux: tty_fops, n_tty_read, n_tty_write).
 *
 * read() follows VMIN and VTIME: it leaves bytes in the line discipline until enough came, and puts the time limit into
 * the deadline of the call.
 */
import { EAGAIN, EFAULT, EIO, ENOTTY } from '../../abi/errno.ts'
import { O_NOCTTY, O_NONBLOCK } from '../../abi/fcntl.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { WaitQueue } from '../../kernel/wait-queue.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDNORM,
  EPOLLWRNORM,
  FileDescription,
} from '../../vfs/file-description.ts'
import type { Inode } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { ttyIoctl } from './ioctls.ts'
import { checkRead, checkWrite } from './job-control.ts'
import { TOSTOP, VMIN, VTIME } from './termios.ts'
import type { Tty, TtyUser } from './tty.ts'

const TIOCSPGRP = 0x5410
const CHUNK = new Uint8Array(2048)
/** VTIME counts tenths of seconds. */
const TENTH = 1e8

/** What a read with an inter-byte timer remembers: how much was there when the timer was started. */
class ByteTimer {
  seen = 0
}

export class TtyFile extends FileDescription implements TtyUser {
  readonly tty: Tty
  hungUp = false
  private readonly node: Inode

  constructor(tty: Tty, node: Inode, path: Path | null, flags: number) {
    super(flags & ~O_NOCTTY, path)
    this.tty = tty
    this.node = node
    tty.attach(this)
  }

  override get inode(): Inode {
    return this.node
  }
  override describe(): string {
    return `/dev/${this.tty.name}`
  }
  override get writesFully(): boolean {
    return true
  }

  override read(t: Task, iter: IovIter, _pos: number): SysRet {
    if (this.hungUp) return 0
    const tty = this.tty
    const job = checkRead(t, tty)
    if (job !== 0) return job
    if (iter.remaining === 0) return 0
    const n = tty.line.isCanonical ? this.readCanonical(iter) : this.readRaw(t, iter)
    if (n > 0) tty.pump()
    return n
  }

  private readCanonical(iter: IovIter): SysRet {
    const line = this.tty.line
    if (line.available === 0) return -EAGAIN
    const n = line.readLine(iter)
    // Also after a ^D alone, which reads as nothing.
    if (n === 0) this.tty.pump()
    return n < 0 ? -EFAULT : n
  }

  private readRaw(t: Task, iter: IovIter): SysRet {
    const line = this.tty.line
    const have = line.available
    const min = this.tty.termios.cc[VMIN]!
    const time = this.tty.termios.cc[VTIME]! * TENTH
    const wanted = Math.min(Math.max(min, 1), iter.remaining)
    if (have < wanted) {
      const nonblock = (this.flags & O_NONBLOCK) !== 0
      if (min === 0) {
        if (time === 0) return 0
        if (nonblock) return -EAGAIN
        t.deadlineIn(time)
        return t.timedOut ? 0 : -EAGAIN
      }
      if (have === 0) return -EAGAIN
      if (!nonblock && !this.byteTimeOver(t, have, time)) return -EAGAIN
    }
    const n = line.readRaw(iter)
    return n < 0 ? -EFAULT : n
  }

  /** The timer between bytes: started by the first, anew by each. */
  private byteTimeOver(t: Task, have: number, time: number): boolean {
    if (time === 0) return false
    const timer = t.sysState instanceof ByteTimer ? t.sysState : new ByteTimer()
    if (timer.seen === have) return t.timedOut
    t.sysState = timer
    timer.seen = have
    t.deadline = t.kernel.now() + time
    return false
  }

  override write(t: Task, iter: IovIter, _pos: number): SysRet {
    if (this.hungUp) return -EIO
    const tty = this.tty
    if (tty.termios.lflag & TOSTOP) {
      const job = checkWrite(t, tty)
      if (job !== 0) return job
    }
    if (tty.gone) return -EIO
    tty.output.processEchoes()
    let done = 0
    while (iter.remaining > 0) {
      const mark = iter.mark()
      const want = Math.min(iter.remaining, CHUNK.length)
      const got = iter.copyFrom(CHUNK, 0, want)
      if (got === 0) return done > 0 ? done : -EFAULT
      const n = tty.output.write(CHUNK, got)
      done += n
      if (n < got) {
        iter.rewind(mark)
        iter.skip(n)
        break
      }
    }
    tty.flushOutput()
    return done > 0 || iter.remaining === 0 ? done : -EAGAIN
  }

  override poll(): number {
    if (this.hungUp) {
      return EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM | EPOLLERR | EPOLLHUP
    }
    return this.tty.pollEvents()
  }
  override get waitQueue(): WaitQueue {
    return this.tty.queue
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (this.hungUp) return cmd === TIOCSPGRP ? -ENOTTY : -EIO
    return ttyIoctl(t, this.tty, this, false, cmd, arg)
  }

  protected override release(): void {
    this.tty.detach(this)
  }
}
