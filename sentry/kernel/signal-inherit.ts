/**
 * What fork and exec do to signal state (Linux: copy_sighand, copy_process, flush_signal_handlers).
 */
import { SS_DISABLE } from '../abi/signal.ts'
import { deletePosixTimers } from './itimer.ts'
import { SIG_DFL, SIG_IGN, type SigAction } from './signal-actions.ts'
import { GroupSignals } from './signal-state.ts'
import type { Task } from './task.ts'

/** Actions of a new process: shared (CLONE_SIGHAND), or a copy, in which handlers are reset for CLONE_CLEAR_SIGHAND. */
export function forkGroupSignals(parent: Task, shared: boolean, clear: boolean): GroupSignals {
  const actions = parent.group.signals.actions
  if (!shared) return new GroupSignals(actions.copy(clear ? clearHandler : null))
  actions.withdraw()
  actions.shared = true
  return new GroupSignals(actions)
}

/** Mask and alternate stack of a new thread. Pending signals are not inherited. */
export function forkTaskSignals(parent: Task, child: Task, ownStack: boolean): void {
  child.signals.blocked.copyFrom(parent.signals.blocked)
  if (ownStack) {
    child.signals.altFlags = SS_DISABLE
    return
  }
  child.signals.altSp = parent.signals.altSp
  child.signals.altSize = parent.signals.altSize
  child.signals.altFlags = parent.signals.altFlags
}

/** execve(2): handlers go back to the default, ignored signals stay ignored; masks and pending signals stay. */
export function execSignals(t: Task): void {
  t.group.signals.actions = t.group.signals.actions.copy(resetForExec)
  t.signals.altSp = 0
  t.signals.altSize = 0
  t.signals.trapno = 0
  t.signals.errorCode = 0
  t.signals.cr2Lo = 0
  t.signals.cr2Hi = 0
  t.group.exitSignal = 17
  deletePosixTimers(t.group)
}

function clearHandler(a: SigAction): void {
  if (a.handler !== SIG_IGN) reset(a, SIG_DFL)
}
function resetForExec(a: SigAction): void {
  reset(a, a.handler === SIG_IGN ? SIG_IGN : SIG_DFL)
}
function reset(a: SigAction, handler: number): void {
  a.handler = handler
  a.flags = 0
  a.restorer = 0
  a.maskLo = 0
  a.maskHi = 0
}
