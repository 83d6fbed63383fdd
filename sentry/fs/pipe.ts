/**
 * Pipes and FIFOs (Linux: fs/pipe.c). The pipe object hangs on its inode (`inode.special`) from the first open to the
 * last close; both ends share one wait queue, told apart by event masks.
 */
import { EAGAIN, EBADF, EINVAL, ENOMEM, ENXIO, EPERM, EPIPE } from '../abi/errno.ts'
import { O_ACCMODE, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from '../abi/fcntl.ts'
import { CAP_SYS_ADMIN, CAP_SYS_RESOURCE, type Credentials } from '../kernel/credentials.ts'
import type { Abandonable } from '../kernel/exit.ts'
import { ERESTARTSYS, type SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import { WAKE_LATER, WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDNORM,
  EPOLLWRNORM,
  FileDescription,
} from '../vfs/file-description.ts'
import type { Inode } from '../vfs/inode.ts'
import type { Path } from '../vfs/path.ts'
import { registerFifo } from '../vfs/special.ts'
import { AnonInode, nextAnonIno, PIPEFS } from './anon.ts'
import { DEFAULT_SLOTS, PAGE, PipeBuffer } from './pipe-buffer.ts'
import { sendSigpipe } from './sigpipe.ts'

const FIONREAD = 0x541b
const READY_READ = EPOLLIN | EPOLLRDNORM
const READY_WRITE = EPOLLOUT | EPOLLWRNORM
const ALL = READY_READ | READY_WRITE | EPOLLHUP | EPOLLERR

/** /proc/sys/fs/pipe-max-size, and pages a user may hold before new pipes get two (pipe-user-pages-soft). */
export const PIPE_MAX_SIZE = 1048576
const USER_PAGES_SOFT = 16384
const SMALL_SLOTS = 2
/** A privileged guest may ask for 2 GiB; it comes out of the sentry's memory, so not here. */
const HARD_MAX_SIZE = 64 * 1024 * 1024

const pagesOfUser = new Map<number, number>()
function account(uid: number, delta: number): number {
  const now = (pagesOfUser.get(uid) ?? 0) + delta
  if (now <= 0) pagesOfUser.delete(uid)
  else pagesOfUser.set(uid, now)
  return now
}
const unprivileged = (creds: Credentials): boolean => !creds.capable(CAP_SYS_RESOURCE) && !creds.capable(CAP_SYS_ADMIN)

export class Pipe {
  readonly buffer: PipeBuffer
  /** For read ends, for write ends, and for descriptions that are both (a FIFO opened O_RDWR). */
  readonly readQueue = new WaitQueue()
  readonly writeQueue = new WaitQueue()
  readonly bothQueue = new WaitQueue()
  /** The named FIFO or pipefs inode that it hangs on. */
  readonly inode: Inode
  private readonly uid: number
  private slots: number
  readers = 0
  writers = 0
  /** Opens so far: a blocking open waits for a change, poll() for the first writer (f_version). */
  readerOpens = 1
  writerOpens = 1

  constructor(inode: Inode, creds: Credentials) {
    this.inode = inode
    this.uid = creds.uid
    this.slots = DEFAULT_SLOTS
    if (account(this.uid, this.slots) > USER_PAGES_SOFT && unprivileged(creds)) {
      account(this.uid, SMALL_SLOTS - this.slots)
      this.slots = SMALL_SLOTS
    }
    this.buffer = new PipeBuffer(this.slots)
    inode.special = this
  }

  read(iter: IovIter): number {
    if (iter.remaining === 0) return 0
    const wasFull = this.buffer.full
    const n = this.buffer.read(iter)
    if (n === 0) return this.writers === 0 ? 0 : -EAGAIN
    // A writer that filled the pipe up again before its reader's next read would keep a reader that reads until there is nothing
    // from ever coming to an end.
    if (wasFull && n > 0) this.wakeWriters(READY_WRITE | WAKE_LATER)
    return n
  }

  /** `nonblock`: the writer will not come back when there is no room. */
  write(t: Task, iter: IovIter, packets: boolean, nonblock: boolean): number {
    if (iter.remaining === 0) return 0
    if (this.readers === 0) {
      sendSigpipe(t)
      return -EPIPE
    }
    const n = this.buffer.write(iter, packets)
    // Edge-triggered watchers are told of every attempt, as Linux does (pipe_write, poll_usage).
    if (n > 0 || nonblock) this.wakeReaders()
    return n === 0 ? -EAGAIN : n
  }

  /** Also for splice and tee, after the ring was changed through {@link buffer}. */
  wakeReaders(): void {
    this.readQueue.wake(READY_READ)
    if (!this.bothQueue.empty) this.bothQueue.wake(READY_READ)
  }
  wakeWriters(events = READY_WRITE): void {
    this.writeQueue.wake(events)
    if (!this.bothQueue.empty) this.bothQueue.wake(events)
  }
  private wakeAll(): void {
    this.readQueue.wake(ALL)
    this.wakeWriters(ALL)
  }

  attach(mode: number): void {
    const first = (mode !== O_WRONLY && this.readers === 0) || (mode !== O_RDONLY && this.writers === 0)
    if (mode !== O_WRONLY) {
      this.readers++
      this.readerOpens++
    }
    if (mode !== O_RDONLY) {
      this.writers++
      this.writerOpens++
    }
    if (!first) return
    this.readQueue.wake(ALL)
    this.bothQueue.wake(ALL)
  }

  detach(mode: number): void {
    if (mode !== O_WRONLY) this.readers--
    if (mode !== O_RDONLY) this.writers--
    if ((this.readers === 0) !== (this.writers === 0)) this.wakeAll()
    if (this.readers === 0 && this.writers === 0) {
      this.inode.special = null
      this.buffer.free()
      account(this.uid, -this.slots)
    }
  }

  /** fcntl(F_SETPIPE_SZ): the new size or −errno. */
  setSize(creds: Credentials, wanted: number): number {
    if (wanted > 0x80000000) return -EINVAL
    let size = PAGE
    while (size < wanted) size *= 2
    const slots = size / PAGE
    if (slots > this.slots) {
      if (size > PIPE_MAX_SIZE && !creds.capable(CAP_SYS_RESOURCE)) return -EPERM
      if (size > HARD_MAX_SIZE) return -ENOMEM
      const after = (pagesOfUser.get(this.uid) ?? 0) + slots - this.slots
      if (after > USER_PAGES_SOFT && unprivileged(creds)) return -EPERM
    }
    const ret = this.buffer.resize(slots)
    if (ret < 0) return ret
    account(this.uid, slots - this.slots)
    this.slots = slots
    this.wakeWriters(ALL)
    return size
  }
  get size(): number {
    return this.slots * PAGE
  }
}

export class PipeFile extends FileDescription {
  readonly pipe: Pipe
  /** Writer opens when a FIFO was opened without a writer and O_NONBLOCK: no EPOLLHUP until one came. */
  quietUntil = 0
  private readonly mode: number

  constructor(pipe: Pipe, flags: number, path: Path | null) {
    super(flags, path)
    this.pipe = pipe
    this.mode = flags & O_ACCMODE
    pipe.attach(this.mode)
  }

  override get inode(): Inode {
    return this.pipe.inode
  }
  override describe(): string {
    return `pipe:[${this.pipe.inode.ino}]`
  }

  override get writesFully(): boolean {
    return true
  }

  override read(_t: Task, iter: IovIter, _pos: number): SysRet {
    return this.mode === O_WRONLY ? -EBADF : this.pipe.read(iter)
  }
  override write(t: Task, iter: IovIter, _pos: number): SysRet {
    return this.mode === O_RDONLY
      ? -EBADF
      : this.pipe.write(t, iter, (this.flags & O_DIRECT) !== 0, (this.flags & O_NONBLOCK) !== 0)
  }

  override poll(): number {
    const pipe = this.pipe
    let mask = 0
    if (this.mode !== O_WRONLY) {
      if (!pipe.buffer.empty) mask |= READY_READ
      if (pipe.writers === 0 && this.quietUntil !== pipe.writerOpens) mask |= EPOLLHUP
    }
    if (this.mode !== O_RDONLY) {
      if (!pipe.buffer.full) mask |= READY_WRITE
      if (pipe.readers === 0) mask |= EPOLLERR
    }
    return mask
  }
  override get waitQueue(): WaitQueue {
    const pipe = this.pipe
    return this.mode === O_RDONLY ? pipe.readQueue : this.mode === O_WRONLY ? pipe.writeQueue : pipe.bothQueue
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    return cmd === FIONREAD ? t.writeU32(arg, this.pipe.buffer.bytes) : super.ioctl(t, cmd, arg)
  }

  protected override release(): void {
    this.pipe.detach(this.mode)
  }
}

class PipeInode extends AnonInode {
  /** /proc/PID/fd/N of a pipe: another end of it. */
  override open(t: Task, path: Path, flags: number): FileDescription | number {
    return openFifo(t, this, path, flags)
  }
}

/** pipe(2): both ends of a new pipe, into `out` as [read end, write end]. */
export function createPipe(creds: Credentials, flags: number, out: FileDescription[]): void {
  const inode = new PipeInode(PIPEFS, nextAnonIno(), 0o010600, creds.fsuid, creds.fsgid)
  inode.blksize = PAGE
  const pipe = new Pipe(inode, creds)
  out[0] = new PipeFile(pipe, O_RDONLY | (flags & O_NONBLOCK), null)
  out[1] = new PipeFile(pipe, O_WRONLY | (flags & (O_NONBLOCK | O_DIRECT)), null)
}

/** What an open that waits for the other side keeps in `t.sysState`. */
class PendingOpen implements Abandonable {
  readonly file: PipeFile
  readonly pipe: Pipe
  private readonly opens: number

  constructor(file: PipeFile) {
    this.file = file
    this.pipe = file.pipe
    this.opens = this.partnerOpens
  }
  private get partnerOpens(): number {
    return (this.file.flags & O_ACCMODE) === O_RDONLY ? this.pipe.writerOpens : this.pipe.readerOpens
  }
  get met(): boolean {
    return this.partnerOpens !== this.opens
  }
  /** The task died while waiting. */
  abandon(): void {
    this.file.unref()
  }
}

/**
 * open(2) of a FIFO: file systems call it from Inode.open for S_IFIFO. May return BLOCK, with the task on the pipe's
 * queue and the half-open description in `t.sysState`; the retried open arrives here again.
 */
export function openFifo(t: Task, inode: Inode, path: Path | null, flags: number): FileDescription | number {
  const state = t.sysState
  if (state instanceof PendingOpen && state.pipe === inode.special) return waitForPartner(t, state)

  const mode = flags & O_ACCMODE
  const nonblock = (flags & O_NONBLOCK) !== 0
  if (mode === O_ACCMODE) return -EINVAL
  const anonymous = inode.sb === PIPEFS
  const existing = inode.special as Pipe | null
  if (mode === O_WRONLY && !anonymous && nonblock && (existing === null || existing.readers === 0)) return -ENXIO
  const pipe = existing ?? new Pipe(inode, t.creds)
  const file = new PipeFile(pipe, flags, anonymous ? null : path)
  if (anonymous || mode === O_RDWR) return file
  if (mode === O_RDONLY) {
    if (pipe.writers > 0) return file
    if (nonblock) {
      file.quietUntil = pipe.writerOpens
      return file
    }
  } else if (pipe.readers > 0) {
    return file
  }
  const pending = new PendingOpen(file)
  t.sysState = pending
  return waitForPartner(t, pending)
}

function waitForPartner(t: Task, pending: PendingOpen): FileDescription | number {
  if (pending.met) {
    t.sysState = null
    return pending.file
  }
  const ret = t.waitOn(pending.pipe.bothQueue, ALL, ERESTARTSYS)
  if (ret === -ERESTARTSYS) {
    t.sysState = null
    pending.abandon()
  }
  return ret
}

/** fcntl(F_SETPIPE_SZ, F_GETPIPE_SZ); `arg` as u32. */
export function setPipeSize(t: Task, file: FileDescription, arg: number): number {
  return file instanceof PipeFile ? file.pipe.setSize(t.creds, arg) : -EBADF
}
export function getPipeSize(file: FileDescription): number {
  return file instanceof PipeFile ? file.pipe.size : -EBADF
}

registerFifo(openFifo)
