/**
 * What fork and exec do to signal state (Linux: copy_sighand, copy_process, flush_signal_handlers).
 */
import { SS_DISABLE } from '../abi/signal.ts'
import { deletePosixTimers } from './itimer.ts'
import { GroupSignals } from './signal-state.ts'
import type { Task } from './task.ts'

/** Actions of a new process: shared (CLONE_SIGHAND), or a copy, in which handlers are reset for CLONE_CLEAR_SIGHAND. */
export function forkGroupSignals(parent: Task, shared: boolean, clear: boolean): GroupSignals {
  const actions = parent.group.signals.actions
  if (!shared) {
    const copy = actions.copy()
    if (clear) copy.clearHandlers(false)
    return new GroupSignals(copy)
  }
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
  const actions = t.group.signals.actions.copy()
  actions.clearHandlers(true)
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
