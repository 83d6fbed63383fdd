/**
 * What a process does with each signal (Linux: struct sighand_struct), shared by its threads, and by processes that were made
 * with CLONE_SIGHAND.
 *
 * The platform of a process with one thread may answer rt_sigaction itself, while no signal is pending ({@link tell}): what it
 * has changed is taken over when the thread traps, and before anybody else looks ({@link get}).
 */
import {
  SA_NOCLDSTOP,
  SA_NOCLDWAIT,
  SA_NODEFER,
  SA_ONSTACK,
  SA_RESETHAND,
  SA_RESTART,
  SA_RESTORER,
  SA_SIGINFO,
  SIGKILL,
  SIGSTOP,
  UNBLOCKABLE_MASK,
} from '../abi/signal.ts'
import type { Task } from './task.ts'

export const NSIG = 64
export const SIG_DFL = 0
export const SIG_IGN = 1

const SA_EXPOSE_TAGBITS = 0x800
/** Flags that rt_sigaction(2) keeps; native/stub/protocol.h: ACTION_FLAGS. */
export const ACTION_FLAGS =
  (SA_NOCLDSTOP |
    SA_NOCLDWAIT |
    SA_SIGINFO |
    SA_ONSTACK |
    SA_RESTART |
    SA_NODEFER |
    SA_RESETHAND |
    SA_RESTORER |
    SA_EXPOSE_TAGBITS) >>>
  0

/** struct kernel_sigaction. Handler and restorer are guest addresses. */
export interface SigAction {
  handler: number
  flags: number
  restorer: number
  maskLo: number
  maskHi: number
}

const TWO32 = 0x1_0000_0000
/** struct kernel_sigaction in u32 words: handler, flags, restorer, mask. */
export const ACTION_WORDS = 8
const ONE = new Uint32Array(ACTION_WORDS)

export class SignalActions {
  /** One struct kernel_sigaction for each signal from 1 on, as the platform has them: every fork copies them, every exec, too. */
  private readonly words: Uint32Array
  /** Several processes have them. */
  shared = false
  /** The task whose platform may change them meanwhile. */
  private told: Task | null = null

  constructor(words = new Uint32Array(ACTION_WORDS * NSIG)) {
    this.words = words
  }

  handler(signo: number): number {
    if (this.told !== null) this.take(this.told)
    const at = ACTION_WORDS * (signo - 1)
    return this.words[at]! + this.words[at + 1]! * TWO32
  }
  get(signo: number): SigAction {
    const handler = this.handler(signo)
    const w = this.words
    const at = ACTION_WORDS * (signo - 1)
    return {
      handler,
      flags: w[at + 2]!,
      restorer: w[at + 4]! + w[at + 5]! * TWO32,
      maskLo: w[at + 6]!,
      maskHi: w[at + 7]!,
    }
  }

  /** `action`: struct kernel_sigaction in u32 words, {@link ACTION_WORDS}. */
  read(signo: number, action: Uint32Array): void {
    if (this.told !== null) this.take(this.told)
    const at = ACTION_WORDS * (signo - 1)
    for (let i = 0; i < ACTION_WORDS; i++) action[i] = this.words[at + i]!
  }
  /** What Linux does not keep of it is lost. Preconditions: the task that was told has trapped. */
  write(signo: number, action: Uint32Array): void {
    this.withdraw()
    this.put(signo, action)
  }
  /** As write(). */
  setHandler(signo: number, handler: number): void {
    this.withdraw()
    const at = ACTION_WORDS * (signo - 1)
    this.words[at] = handler >>> 0
    this.words[at + 1] = Math.floor(handler / TWO32)
  }
  private put(signo: number, action: Uint32Array): void {
    const at = ACTION_WORDS * (signo - 1)
    for (let i = 0; i < ACTION_WORDS; i++) this.words[at + i] = action[i]!
    this.words[at + 2]! &= ACTION_FLAGS
    this.words[at + 3] = 0
    this.words[at + 6]! &= ~UNBLOCKABLE_MASK
  }

  /** For a new process. */
  copy(): SignalActions {
    if (this.told !== null) this.take(this.told)
    return new SignalActions(this.words.slice())
  }
  /** Handlers go back to the default; ignored signals stay ignored, with all they have or (`bare`) nothing else. */
  clearHandlers(bare: boolean): void {
    const w = this.words
    for (let at = 0; at < w.length; at += ACTION_WORDS) {
      const ignored = w[at] === SIG_IGN && w[at + 1] === 0
      if (ignored && !bare) continue
      w.fill(0, at, at + ACTION_WORDS)
      if (ignored) w[at] = SIG_IGN
    }
  }

  /** `t`, whose process they are, has just made a call about them and may go on without us. */
  tell(t: Task): void {
    if (this.shared || t.group.tasks.length > 1 || !t.thread.answers) return
    const own = t.signals.pending.set
    const group = t.group.signals.pending.set
    if ((own.lo | own.hi | group.lo | group.hi) !== 0) return
    this.told = t
    t.actionsTold = this
    t.thread.tellActions(this.words)
  }

  /** `t` has trapped. */
  settle(t: Task): void {
    if (t.thread.changedAction(0) === 0) return
    this.take(t)
    t.thread.forgetChangedActions()
  }

  /** A signal is about to be pending. The task that was told may run. */
  stop(): void {
    if (this.told !== null) this.told.thread.stopActions()
  }

  /** Nobody but us changes them from here on. The task that was told has trapped, or is gone. */
  withdraw(): void {
    if (this.told === null) return
    this.told.thread.stopActions()
    this.told.actionsTold = null
    this.told = null
  }

  /** Guest code may be writing them, and anything: a half-written action counts until the task traps. */
  private take(t: Task): void {
    const { thread } = t
    for (let signo = thread.changedAction(0); signo !== 0; signo = thread.changedAction(signo)) {
      if (signo === SIGKILL || signo === SIGSTOP) continue
      thread.readAction(signo, ONE)
      this.put(signo, ONE)
    }
  }
}
