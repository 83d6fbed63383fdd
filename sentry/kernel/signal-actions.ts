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
const ACTION_WORDS = 8
const ALL = new Uint32Array(ACTION_WORDS * NSIG)
const ONE = new Uint32Array(ACTION_WORDS)

export class SignalActions {
  /** Index = signal number. */
  private readonly list: SigAction[]
  /** Several processes have them. */
  shared = false
  /** The task whose platform may change them meanwhile. */
  private told: Task | null = null

  constructor(list: SigAction[]) {
    this.list = list
  }

  static defaults(): SignalActions {
    const list: SigAction[] = []
    for (let i = 0; i <= NSIG; i++) list.push({ handler: SIG_DFL, flags: 0, restorer: 0, maskLo: 0, maskHi: 0 })
    return new SignalActions(list)
  }

  /** Whoever changes what this returns calls {@link withdraw} first. */
  get(signo: number): SigAction {
    if (this.told !== null) this.take(this.told)
    return this.list[signo]!
  }

  /** For a new process or program; `change` is made to each. */
  copy(change: ((action: SigAction) => void) | null): SignalActions {
    if (this.told !== null) this.take(this.told)
    const list = this.list.map((a) => ({ ...a }))
    if (change !== null) list.forEach(change)
    return new SignalActions(list)
  }

  /** `t`, whose process they are, has just made a call about them and may go on without us. */
  tell(t: Task): void {
    if (this.shared || t.group.tasks.length > 1 || !t.thread.answers) return
    const own = t.signals.pending.set
    const group = t.group.signals.pending.set
    if ((own.lo | own.hi | group.lo | group.hi) !== 0) return
    for (let signo = 1; signo <= NSIG; signo++) {
      const action = this.list[signo]!
      const at = ACTION_WORDS * (signo - 1)
      put(at, action.handler)
      ALL[at + 2] = action.flags
      ALL[at + 3] = 0
      put(at + 4, action.restorer)
      ALL[at + 6] = action.maskLo
      ALL[at + 7] = action.maskHi
    }
    this.told = t
    t.actionsTold = this
    t.thread.tellActions(ALL)
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
      const action = this.list[signo]!
      action.handler = ONE[0]! + ONE[1]! * TWO32
      action.flags = (ONE[2]! & ACTION_FLAGS) >>> 0
      action.restorer = ONE[4]! + ONE[5]! * TWO32
      action.maskLo = (ONE[6]! & ~UNBLOCKABLE_MASK) >>> 0
      action.maskHi = ONE[7]!
    }
  }
}

function put(at: number, value: number): void {
  ALL[at] = value >>> 0
  ALL[at + 1] = Math.floor(value / TWO32)
}
