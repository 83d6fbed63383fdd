/**
 * Task: a thread of the guest (Linux: struct task_struct).
 *
 * States: RUNNING (its GuestThread runs guest code), TRAPPED (the kernel is handling its trap), BLOCKED (inside a system
 * call that returned BLOCK), READY (woken, in the run queue), STOPPED (job control), TRACED (stopped for its tracer), DEAD. A blocked task is nothing but
 * its arguments: when woken, its handler runs again from the top (DESIGN §3).
 */
import { EFAULT, ENAMETOOLONG } from '../abi/errno.ts'
import { UserIovIter, type UserMemory } from '../mm/iov-iter.ts'
import type { MemoryManager } from '../mm/memory-manager.ts'
import { ARG } from '../platform/amd64/registers.ts'
import type { GuestThread } from '../platform/platform.ts'
import { Dentry } from '../vfs/dentry.ts'
import type { FdTable } from '../vfs/fd-table.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import type { FsContext } from '../vfs/fs-context.ts'
import type { Credentials } from './credentials.ts'
import type { Kernel } from './kernel.ts'
import type { Tracing } from './ptrace.ts'
import { SchedState } from './sched.ts'
import type { SeccompFilter } from './seccomp.ts'
import type { SignalActions } from './signal-actions.ts'
import { TaskSignals } from './signal-state.ts'
import { BLOCK, type SysRet } from './sysret.ts'
import type { ThreadGroup } from './thread-group.ts'
import type { TimerEntry } from './timer-queue.ts'
import { WAKE_LATER, Waiter, type WaitQueue, type Wakeable } from './wait-queue.ts'

export const RUNNING = 0
export const TRAPPED = 1
export const BLOCKED = 2
export const READY = 3
export const STOPPED = 4
export const DEAD = 5
export const TRACED = 6

const TWO32 = 0x1_0000_0000
const POPULATE_MIN = 512
/** No deadline. */
export const NEVER = Number.POSITIVE_INFINITY

const STRING_CHUNK = new Uint8Array(4096)
const STRING_TEXT = Buffer.from(STRING_CHUNK.buffer)
const IDS = new Uint32Array(6)
/** Longer pieces are copied once, straight to the guest. */
const DEFER_MAX = 8192
const WORD = new Uint8Array(8)
const WORD_VIEW = new DataView(WORD.buffer)

export class Task implements Wakeable, TimerEntry, UserMemory {
  readonly kernel: Kernel
  /** Changes only when a thread that is not the leader calls execve (kernel/exit.ts: becomeLeader). */
  tid: number
  group: ThreadGroup
  mm: MemoryManager
  fds: FdTable
  fs: FsContext
  private credentials: Credentials
  /** The host thread, and its registers (shorthand). Replaced by execve. */
  thread: GuestThread
  regs: Uint32Array
  readonly signals = new TaskSignals()
  state = TRAPPED
  /** comm of /proc, at most 15 bytes. */
  name = ''
  /** set_tid_address(2), set_robust_list(2). Guest addresses; 0 = none. */
  clearChildTid = 0
  robustList = 0
  /** prctl(PR_SET_PDEATHSIG). */
  parentDeathSignal = 0
  keepCaps = false
  /** prctl(PR_SET_TIMERSLACK), ns; only remembered. */
  timerSlack = 50000
  /** Scheduling attributes; clone gives the child `sched.fork()`. */
  sched = new SchedState()
  /** The newest seccomp filter, inherited; null: every call is allowed. */
  seccomp: SeccompFilter | null = null
  /** Another task traces this one (ptrace(2)). */
  traced: Tracing | null = null
  /** Dentry.roots when the platform was last told whose names we see. */
  private rootTurn = 0
  /** What the platform was told with kernel/opened-file.ts: the file, its descriptor, and bytes that went along or −1. */
  openedFile: FileDescription | null = null
  openedFd = -1
  openedLength = -1
  /** The platform may change these meanwhile: of its process, which has one thread. */
  actionsTold: SignalActions | null = null
  /** personality(2), inherited. */
  personality = 0

  // ---- the system call in progress ---------------------------------------------------------------------------------
  sysno = -1
  /** Bytes or items already transferred by a call that blocks in the middle. Zero at the start of each call. */
  progress = 0
  /** Absolute monotonic ns until which the call waits, NaN until the handler set it. See {@link deadlineIn}. */
  deadline = Number.NaN
  /** Anything else a handler keeps across its retries. Null at the start of each call. */
  sysState: object | null = null
  /** The wait in progress ignores signals (vfork): cleared at the start of each call. */
  uninterruptible = false
  /** Registered waiters; only the first `waiting` are on queues. */
  private readonly waiters: Waiter[] = []
  private waiting = 0
  /** TimerEntry: the deadline in the kernel's timer queue while blocked. */
  heapIndex = -1
  expires = 0
  /** For restart_syscall: a call to run instead (see ERESTART_RESTARTBLOCK); its deadline stays in `deadline`. */
  restartSysno = -1
  /** For the buffers of the call in progress; see readv and friends. */
  readonly iter: UserIovIter

  constructor(
    kernel: Kernel,
    tid: number,
    group: ThreadGroup | null,
    mm: MemoryManager,
    fds: FdTable,
    fs: FsContext,
    creds: Credentials,
    thread: GuestThread,
  ) {
    this.kernel = kernel
    this.tid = tid
    this.group = group as ThreadGroup
    this.mm = mm
    this.fds = fds
    this.fs = fs
    this.credentials = creds
    this.thread = thread
    this.regs = thread.regs
    thread.owner = this
    this.iter = new UserIovIter(this)
  }

  get creds(): Credentials {
    return this.credentials
  }
  set creds(creds: Credentials) {
    this.credentials = creds
    this.publishIds()
  }

  /** Tells the platform what getpid and its like answer; whoever changes an id, the thread or the filters calls it. */
  publishIds(): void {
    this.openedFile = null
    if (this.seccomp !== null || this.kernel.tracer !== null || this.traced !== null || this.group === null) {
      this.thread.answer(null, 0)
      return
    }
    const { uid, gid, euid, egid } = this.credentials
    IDS[0] = this.group.pid
    IDS[1] = this.tid
    IDS[2] = uid
    IDS[3] = gid
    IDS[4] = euid
    IDS[5] = egid
    this.rootTurn = Dentry.roots
    this.thread.answer(IDS, this.fs.namesRoot)
  }
  /** After anybody's change of root, the platform answers no more with names that it knows, until it is told again. */
  renewRoot(): void {
    if (this.rootTurn !== Dentry.roots) this.publishIds()
  }

  // ---- arguments ---------------------------------------------------------------------------------------------------
  argI32(i: number): number {
    return this.regs[ARG[i]!]! | 0
  }
  argU32(i: number): number {
    return this.regs[ARG[i]!]!
  }
  /** A 64-bit unsigned argument (pointer, size_t) as a double; exact below 2^53. */
  argPtr(i: number): number {
    const at = ARG[i]!
    return this.regs[at]! + this.regs[at + 1]! * TWO32
  }
  /** A 64-bit signed argument (loff_t, long) as a double. */
  argI64(i: number): number {
    const at = ARG[i]!
    return this.regs[at]! + (this.regs[at + 1]! | 0) * TWO32
  }

  /** The call in progress may put writes off until the task resumes: nobody else may expect them earlier. */
  mayDefer = false
  /** Nothing will come between the end of the call in progress and the guest. */
  get returnsAtOnce(): boolean {
    return this.inCall && !this.signalPending && this.traced === null && !this.kernel.paused
  }
  /** Whether the copy window of the thread is this call's. */
  private get inCall(): boolean {
    return this.state === TRAPPED && this.kernel.current === this
  }

  // ---- guest memory ------------------------------------------------------------------------------------------------
  copyIn(addr: number, dst: Uint8Array, at: number, len: number): number {
    if (this.inCall) {
      if (this.thread.windowPending) this.thread.windowFlush()
      if (this.thread.windowRead(addr, dst, at, len) === len) return len
    }
    return this.mm.copyIn(addr, dst, at, len)
  }
  copyOut(addr: number, src: Uint8Array, at: number, len: number): number {
    if (this.mayDefer && this.inCall) {
      if (len <= DEFER_MAX && this.mm.canWrite(addr, len) && this.thread.windowWrite(addr, src, at, len)) return len
      if (this.thread.windowPending) this.thread.windowFlush()
    }
    // Under a memory limit the guest takes its page faults itself: one that the sentry takes for it makes the host's OOM
    // killer go on killing, because the sentry's thread goes on asking while the first victim still dies.
    if (len >= POPULATE_MIN && this.kernel.memoryLimit > 0 && this.state === TRAPPED)
      this.mm.populate(this.thread, addr, len)
    return this.mm.copyOut(addr, src, at, len)
  }
  /** All of `dst` or −EFAULT. */
  readBytes(addr: number, dst: Uint8Array, len: number = dst.length): number {
    return this.copyIn(addr, dst, 0, len) === len ? 0 : -EFAULT
  }
  /** All of `src` or −EFAULT. */
  writeBytes(addr: number, src: Uint8Array, len: number = src.length): number {
    return this.copyOut(addr, src, 0, len) === len ? 0 : -EFAULT
  }
  /** A u32, or −EFAULT. */
  readU32(addr: number): number {
    return this.copyIn(addr, WORD, 0, 4) === 4 ? WORD_VIEW.getUint32(0, true) : -EFAULT
  }
  /** A u64 as a double, or −EFAULT. */
  readU64(addr: number): number {
    if (this.copyIn(addr, WORD, 0, 8) !== 8) return -EFAULT
    return WORD_VIEW.getUint32(0, true) + WORD_VIEW.getUint32(4, true) * TWO32
  }
  /** A u32 that nobody looks at before this task, which is new, goes on; what cannot be written is left. */
  writeWithResume(addr: number, value: number): void {
    if (!this.mm.canWrite(addr, 4)) return
    WORD_VIEW.setUint32(0, value, true)
    if (!this.thread.windowWrite(addr, WORD, 0, 4)) this.writeU32(addr, value)
  }
  writeU32(addr: number, value: number): number {
    WORD_VIEW.setUint32(0, value >>> 0, true)
    return this.copyOut(addr, WORD, 0, 4) === 4 ? 0 : -EFAULT
  }
  writeU64(addr: number, value: number): number {
    WORD_VIEW.setUint32(0, value >>> 0, true)
    WORD_VIEW.setUint32(4, Math.floor(value / TWO32) >>> 0, true)
    return this.copyOut(addr, WORD, 0, 8) === 8 ? 0 : -EFAULT
  }
  /** A NUL-terminated byte string shorter than `max` bytes, or −EFAULT, or −ENAMETOOLONG. */
  readString(addr: number, max: number): string | number {
    if (this.inCall) {
      if (this.thread.windowPending) this.thread.windowFlush()
      const string = this.thread.windowString(addr)
      if (string !== null) return string.length < max ? string : -ENAMETOOLONG
    }
    let text = ''
    let at = addr
    while (text.length < max) {
      // Up to the end of the page, so that a string at the end of a mapping is not a fault.
      const want = Math.min(4096 - (at % 4096), max - text.length)
      const got = this.mm.copyIn(at, STRING_CHUNK, 0, want)
      if (got === 0) return -EFAULT
      const end = STRING_CHUNK.indexOf(0)
      if (end >= 0 && end < got) return text + STRING_TEXT.latin1Slice(0, end)
      if (got < want) return -EFAULT
      text += STRING_TEXT.latin1Slice(0, got)
      at += got
    }
    return -ENAMETOOLONG
  }
  /** A path argument: PATH_MAX includes the NUL. */
  readPath(addr: number): string | number {
    return this.readString(addr, 4096)
  }

  // ---- waiting -----------------------------------------------------------------------------------------------------
  /**
   * Is there a signal that ends an interruptible wait? kernel/signal.ts keeps this flag true exactly while an unblocked,
   * unignored signal (or a stop, or a kill) is pending.
   */
  signalPending = false

  /**
   * Sets the call's deadline on its first run, relative to now; later runs keep it. `ns` may be Infinity.
   */
  deadlineIn(ns: number): void {
    if (Number.isNaN(this.deadline)) this.deadline = this.kernel.now() + ns
  }
  /** Whether the call has a deadline that is over. */
  get timedOut(): boolean {
    return this.deadline <= this.kernel.now()
  }

  /**
   * Waits for `events` on `queue` (null: only for the deadline or a signal). Usage: `return t.waitOn(q, EPOLLIN,
   * ERESTARTSYS)`. Returns BLOCK, or −restart at once when a signal is pending: `restart` is what Linux's wait loop
   * returns there (ERESTARTSYS, ERESTARTNOHAND, EINTR, …).
   */
  waitOn(queue: WaitQueue | null, events: number, restart: number): SysRet {
    if (this.signalPending) {
      this.endWait()
      return -restart
    }
    if (queue !== null) this.addWait(queue, events)
    return BLOCK
  }

  /** Joins one more queue before a handler returns BLOCK (poll, select, wait for several things). */
  addWait(queue: WaitQueue, events: number): void {
    if (this.waiting === this.waiters.length) this.waiters.push(new Waiter(this))
    queue.add(this.waiters[this.waiting++]!, events)
  }

  /** Leaves all queues. The dispatcher calls it before each retry. */
  endWait(): void {
    for (let i = 0; i < this.waiting; i++) this.waiters[i]!.remove()
    this.waiting = 0
  }

  /** TimerEntry: the deadline of a blocked call is over. */
  expired(): void {
    this.kernel.wake(this)
  }

  /** Wakeable: makes a blocked task ready. */
  notify(_waiter: Waiter, events: number): void {
    if ((events & WAKE_LATER) === 0) this.kernel.wake(this)
    else this.kernel.wakeLater(this)
  }
}
