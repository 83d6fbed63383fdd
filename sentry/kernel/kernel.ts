/**
 * Kernel: the sandbox's one instance of everything global, and its event loop (DESIGN §3).
 *
 * The loop is synchronous: a trap is answered before the next is looked at. Order in one turn: ready tasks, then the
 * next trap or host events, then due timers. Node's own loop never runs.
 */
import { ENOSYS } from '../abi/errno.ts'
import { PROT_EXEC, PROT_READ } from '../mm/vma.ts'
import { getReg, ORIG_RAX, RIP } from '../platform/amd64/registers.ts'
import {
  type GuestThread,
  type Platform,
  TRAP_FAILED,
  TRAP_FAULT,
  TRAP_GONE,
  TRAP_SYSCALL,
} from '../platform/platform.ts'
import { Dentry } from '../vfs/dentry.ts'
import { monotonicNs } from './clock.ts'
import { threadGone } from './exit.ts'
import { HostPoll } from './host-poll.ts'
import { IdSpace } from './id-space.ts'
import { MemoryReturn } from './memory-return.ts'
import { settleAllOpened, settleOpened } from './opened-file.ts'
import { AFTER_NOTHING, beforeGuest, continueTracee, entryStop, exitStop, trapped } from './ptrace.ts'
import { SECCOMP_ALLOWED, seccompVerdict } from './seccomp.ts'
import { deliverFault, returnToGuest } from './signal-delivery.ts'
import { BLOCK, NO_RESULT, type SysRet } from './sysret.ts'
import { BLOCKED, DEAD, READY, RUNNING, STOPPED, type Task, TRACED, TRAPPED } from './task.ts'
import { TimerQueue } from './timer-queue.ts'
import { Uts } from './uts.ts'

/**
 * What a call is like: its results may be written when its task resumes; it leaves files and descriptors as they are, if not,
 * it may tell what others have open.
 */
export const FILLS_MEMORY = 1
export const CHANGES_NOTHING = 2
export const SEES_OTHERS = 4

/** A system call handler by number; null = ENOSYS. */
export type HandlerTable = readonly (((t: Task) => SysRet) | null)[]

/** Sees each call before and after, for --strace. `ret` may be BLOCK. */
export interface Tracer {
  enter(t: Task): void
  leave(t: Task, ret: SysRet): void
}

/** Spares the call in progress its signal from now on, where the code it stands in is a file's: no just-in-time compiler's. */
function patchSite(t: Task): void {
  const vma = t.mm.find(getReg(t.regs, RIP) - 1)
  if (vma !== undefined && vma.file !== null && !vma.shared && vma.prot === (PROT_READ | PROT_EXEC))
    t.thread.patchCallSite(vma.start, vma.end)
}

const CALL_COUNTS = 512
/** {@link Kernel.wakeLater} */
const LATER_NS = 50_000
const LATER_CALLS = 32

export class Kernel {
  readonly platform: Platform
  readonly handlers: HandlerTable
  /** {@link FILLS_MEMORY} and the like by number. */
  private readonly kinds: Uint8Array
  readonly timers = new TimerQueue()
  readonly hostPoll: HostPoll
  /** Tasks and thread groups by id. */
  readonly ids: IdSpace = new IdSpace()
  readonly uts = new Uts()
  /** Tasks that were woken, in order. */
  private readonly ready: Task[] = []
  /** `pause`: guest code does not run; traps are answered, but nothing resumes. */
  paused = false
  private readonly held: Task[] = []
  /** Set by the control server or the exit of init: run() returns it. −1 while running. */
  exitCode = -1
  tracer: Tracer | null = null
  /** The task whose trap is answered, or was last (Linux: current): a signalfd shows each process its own signals. */
  current: Task | null = null
  /** System calls answered, by number; the last one counts all numbers from there on. */
  readonly callCounts = new Uint32Array(CALL_COUNTS)
  /** Called once per unimplemented call number. */
  onUnimplemented: (nr: number) => void = () => {}
  private readonly reported = new Set<number>()
  /** Tasks allowed in the container; 0 = no limit. */
  pidsLimit = 0
  /** What the container thinks it has: 0 = the host's. */
  memoryLimit = 0
  /** CPUs that the container's quota is worth; 0 = no quota. */
  cpuLimit = 0
  /** What /proc/PID/cgroup shows. */
  cgroupPath = '/'

  constructor(platform: Platform, handlers: HandlerTable, kinds: Uint8Array) {
    this.platform = platform
    this.handlers = handlers
    this.kinds = kinds
    this.hostPoll = new HostPoll(platform)
  }

  /** System calls answered. */
  get syscalls(): number {
    return this.callCounts.reduce((sum, count) => sum + count)
  }

  /** Monotonic ns. */
  now(): number {
    return monotonicNs()
  }

  /** Makes a blocked task ready to run its handler again. Harmless in any other state. */
  wake(t: Task): void {
    if (t.state !== BLOCKED) return
    t.state = READY
    this.ready.push(t)
  }

  /**
   * The same, but whoever runs has its turn first, as on a host that takes microseconds to wake somebody: until the task that
   * runs sleeps, computes for LATER_NS, or has made LATER_CALLS.
   */
  wakeLater(t: Task): void {
    if (t.state !== BLOCKED) return
    t.state = READY
    this.later.push(t)
  }
  private readonly later: Task[] = []
  private laterCalls = 0

  private endLater(thread: GuestThread | null): void {
    const owner = thread === null ? null : (thread.owner as Task | null)
    if (owner !== null && owner.state === RUNNING && ++this.laterCalls < LATER_CALLS) return
    this.laterCalls = 0
    for (const t of this.later) this.ready.push(t)
    this.later.length = 0
  }

  /** Sends on a task that its tracer held, from {@link run}. */
  goOn(t: Task): void {
    t.state = READY
    this.ready.push(t)
  }

  private readonly memoryReturn = new MemoryReturn()

  /** Runs until {@link exitCode} is set. */
  run(): number {
    while (this.exitCode < 0) this.turn()
    return this.exitCode
  }

  /** One turn of the loop. On its own because V8 optimises what is called often sooner than what loops. */
  private turn(): void {
    if (this.ready.length > 0) this.retryReady()
    if (this.exitCode >= 0) return
    const next = this.timers.next
    let timeout = next === Number.POSITIVE_INFINITY ? -1 : Math.max(0, next - this.platform.now)
    if (this.later.length > 0 && (timeout < 0 || timeout > LATER_NS)) timeout = LATER_NS
    const thread = this.memoryReturn.wait(this.platform, this.ready.length > 0 ? 0 : timeout)
    if (thread !== null) this.onTrap(thread)
    if (this.later.length > 0) this.endLater(thread)
    if (this.platform.hostEventCount > 0) this.hostPoll.dispatch()
    if (this.platform.now >= next) this.timers.run(this.platform.now)
  }

  private retryReady(): void {
    for (let i = 0; i < this.ready.length; i++) {
      const t = this.ready[i]!
      if (t.state === READY) this.retry(t)
    }
    this.ready.length = 0
  }

  private onTrap(thread: GuestThread): void {
    const t = thread.owner as Task | null
    if (t === null || t.state === DEAD) return
    t.state = TRAPPED
    this.current = t
    if (thread.trap !== TRAP_GONE) {
      if (t.openedFile !== null) settleOpened(t)
      if (t.actionsTold !== null) t.actionsTold.settle(t)
    }
    if (t.traced !== null) trapped(t)
    if (thread.trap === TRAP_SYSCALL) {
      t.sysno = thread.regs[ORIG_RAX]! | 0
      t.progress = 0
      t.deadline = Number.NaN
      t.sysState = null
      t.uninterruptible = false
      t.mayDefer = (this.kinds[t.sysno]! & FILLS_MEMORY) !== 0
      this.callCounts[Math.min(t.sysno >>> 0, CALL_COUNTS - 1)]!++
      if (thread.hot && t.traced === null) patchSite(t)
      if (this.tracer !== null) this.tracer.enter(t)
      if (t.traced === null || !entryStop(t)) this.enterCall(t, false)
      return
    }
    t.mayDefer = false
    if (thread.trap === TRAP_FAULT) {
      deliverFault(t)
      this.resume(t, 0, false)
    } else if (thread.trap === TRAP_GONE) {
      threadGone(t)
    } else if (thread.trap === TRAP_FAILED) {
      this.finish(t, t.mm.lateChangeFailed(t, thread.code))
    } else {
      this.resume(t, 0, false)
    }
  }

  /** Makes the call in progress, where the guest's own filters allow it. `asked`: its tracer has been asked for them. */
  enterCall(t: Task, asked: boolean): void {
    const verdict = t.seccomp === null ? SECCOMP_ALLOWED : seccompVerdict(t, asked)
    if (verdict === SECCOMP_ALLOWED) {
      this.dispatch(t)
      return
    }
    if (t.state === TRACED) return
    if (this.tracer !== null) this.tracer.leave(t, verdict)
    this.finish(t, verdict)
  }

  private retry(t: Task): void {
    t.state = TRAPPED
    if (t.signals.after !== AFTER_NOTHING) {
      this.current = t
      continueTracee(t)
      return
    }
    t.endWait()
    if (t.heapIndex >= 0) this.timers.remove(t)
    this.dispatch(t)
  }

  /** Runs the handler of the call in progress and acts on its result. */
  dispatch(t: Task): void {
    this.current = t
    const nr = t.sysno
    const kind = this.kinds[nr]!
    if ((kind & CHANGES_NOTHING) === 0) {
      Dentry.changes()
      if ((kind & SEES_OTHERS) !== 0) settleAllOpened(this)
    }
    const handler = nr >= 0 && nr < this.handlers.length ? this.handlers[nr]! : null
    const ret = handler === null ? this.unimplemented(nr) : handler(t)
    if (this.tracer !== null) this.tracer.leave(t, ret)
    if (ret === BLOCK) {
      if (t.state !== TRAPPED) return
      if (t.thread.windowPending) t.thread.windowFlush()
      t.state = BLOCKED
      t.thread.park()
      if (t.signalPending && !t.uninterruptible) this.wake(t)
      else if (t.deadline < Number.POSITIVE_INFINITY) this.timers.add(t, t.deadline)
      return
    }
    this.finish(t, ret)
  }

  /** The call is over. */
  finish(t: Task, ret: SysRet): void {
    if (t.state !== TRAPPED) return
    if (t.traced !== null && exitStop(t, ret)) return
    this.resume(t, ret === NO_RESULT ? 0 : ret, ret !== NO_RESULT)
  }

  private unimplemented(nr: number): SysRet {
    if (!this.reported.has(nr)) {
      this.reported.add(nr)
      this.onUnimplemented(nr)
    }
    return -ENOSYS
  }

  /**
   * Sends a trapped task back to guest code, through its pending signals. `ret` is the call's result where `inSyscall`.
   */
  resume(t: Task, ret: SysRet, inSyscall: boolean): void {
    if (!returnToGuest(t, ret, inSyscall)) {
      if (t.state !== DEAD && t.thread.windowPending) t.thread.windowFlush()
      return
    }
    if (this.paused) {
      if (t.thread.windowPending) t.thread.windowFlush()
      this.held.push(t)
      return
    }
    if (t.traced !== null) beforeGuest(t)
    t.state = RUNNING
    t.thread.resume()
  }

  /** `pause`: interrupts everything that runs. */
  pause(): void {
    this.paused = true
    for (const t of this.ids.tasks()) if (t.state === RUNNING) t.thread.interrupt()
  }
  /** Would run but for {@link paused}. */
  isHeld(t: Task): boolean {
    return this.paused && this.held.includes(t)
  }
  unpause(): void {
    this.paused = false
    for (const t of this.held.splice(0)) {
      if (t.state === DEAD || t.state === STOPPED || t.state === TRACED) continue
      this.resume(t, 0, false)
    }
  }
}
