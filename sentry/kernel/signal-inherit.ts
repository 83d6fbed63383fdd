/**
 * What fork and exec do to signal state (Linux: copy_sighand, copy_process, flush_signal_handlers).
 */
import { SS_DISABLE } from '../abi/signal.ts'
import { deletePosixTimers } from './itimer.ts'
import { GroupSignals, SIG_DFL, SIG_IGN, type SigAction } from './signal-state.ts'
import type { Task } from './task.ts'

/** Actions of a new process: shared (CLONE_SIGHAND), or a copy, in which handlers are reset for CLONE_CLEAR_SIGHAND. */
export function forkGroupSignals(parent: Task, shared: boolean, clear: boolean): GroupSignals {
  const actions = parent.group.signals.actions
  if (shared) return new GroupSignals(actions)
  const copy = copyActions(actions)
  if (clear) for (const a of copy) if (a.handler !== SIG_IGN) reset(a)
  return new GroupSignals(copy)
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
  const actions = copyActions(t.group.signals.actions)
  for (const a of actions) {
    if (a.handler !== SIG_IGN) a.handler = SIG_DFL
    a.flags = 0
    a.restorer = 0
    a.maskLo = 0
    a.maskHi = 0
  }
  t.group.signals.actions = actions
  t.signals.altSp = 0
  t.signals.altSize = 0
  t.signals.trapno = 0
  t.signals.errorCode = 0
  t.signals.cr2Lo = 0
  t.signals.cr2Hi = 0
  t.group.exitSignal = 17
  deletePosixTimers(t.group)
}

function copyActions(actions: readonly SigAction[]): SigAction[] {
  return actions.map((a) => ({ ...a }))
}
function reset(a: SigAction): void {
  a.handler = SIG_DFL
  a.flags = 0
  a.restorer = 0
  a.maskLo = 0
  a.maskHi = 0
}
