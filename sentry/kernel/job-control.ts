/**
 * Job control: group stops, continuing, what the parent hears of it, orphaned process groups (Linux: do_signal_stop,
 * do_notify_parent_cldstop, will_become_orphaned_pgrp).
 *
 * A stop is in effect from the moment one thread takes the signal; it is complete, and reported, when the last live
 * thread is STOPPED. Each thread stops on its way back to guest code, so that its call is restarted afterwards.
 */
import { CLD_CONTINUED, CLD_STOPPED, SA_NOCLDSTOP, SIGCHLD, SIGCONT, SIGHUP } from '../abi/signal.ts'
import type { ProcessGroup } from './process-group.ts'
import { childTimes } from './process-tree.ts'
import { requestStop } from './ptrace.ts'
import { makeInfo } from './siginfo.ts'
import { recalcPending, sendKernelSignalToPgrp, sendToGroup, wakeForSignal } from './signal.ts'
import { SIG_IGN } from './signal-actions.ts'
import type { SigInfo } from './signal-state.ts'
import { DEAD, STOPPED, type Task, TRACED, TRAPPED } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'

const POLL_IN = 1

/** Thread `t` took a stop signal: all threads of its process are to stop. */
export function beginGroupStop(t: Task, sig: number): void {
  const group = t.group
  group.signals.stopped = true
  group.signals.stopSignal = sig
  group.signals.continueReport = false
  for (const other of group.tasks) {
    if (other.state === DEAD) continue
    if (other.traced !== null) other.traced.groupTrap = true
    if (other === t) t.signalPending = true
    else wakeForSignal(other)
  }
}

/** `t` stops here; it goes on with returnToGuest(t, ret, inSyscall). */
export function stopTask(t: Task, ret: number, inSyscall: boolean): void {
  t.signals.stopRet = ret
  t.signals.stopInSyscall = inSyscall
  t.state = STOPPED
  stopCompleted(t.group)
}

/** Reports the stop once no live thread runs any more. Also called when a thread dies. */
export function stopCompleted(group: ThreadGroup): void {
  const s = group.signals
  if (!s.stopped || s.stopReport !== 0) return
  let live = 0
  for (const t of group.tasks) {
    if (t.state === DEAD) continue
    if (t.state !== STOPPED && t.state !== TRACED) return
    live++
  }
  if (live === 0) return
  s.stopReport = s.stopSignal
  // A parent that traces it has heard.
  if (group.leader.traced?.tracer.group === group.parent) return
  notifyParent(group, CLD_STOPPED, s.stopSignal)
}

/** SIGCONT arrived at a group whose stop is in effect. */
export function resumeStopped(group: ThreadGroup): void {
  const s = group.signals
  if (!s.stopped) return
  s.stopped = false
  s.stopReport = 0
  s.continueReport = true
  notifyParent(group, CLD_CONTINUED, SIGCONT)
  for (const t of group.tasks.slice()) {
    if (t.traced !== null) {
      t.traced.groupTrap = false
      if (t.traced.seized) requestStop(t)
    }
    recalcPending(t)
    if (t.state !== STOPPED) continue
    t.state = TRAPPED
    t.kernel.resume(t, t.signals.stopRet, t.signals.stopInSyscall)
  }
}

function notifyParent(group: ThreadGroup, code: number, status: number): void {
  if (group.parent === null) return
  const info = makeInfo(SIGCHLD, code)
  info.pid = group.pid
  info.uid = group.leader.creds.uid
  info.status = status
  childTimes(group, info)
  tellOfStop(group.parent, info)
}

/** A parent or tracer hears of a stop, or of its end: by `info`, a SIGCHLD, where it wants that, and in its waits. */
export function tellOfStop(to: ThreadGroup, info: SigInfo): void {
  const action = to.signals.actions.get(SIGCHLD)
  if (action.handler !== SIG_IGN && (action.flags & SA_NOCLDSTOP) === 0) sendToGroup(to, info, true)
  to.childWait.wake(POLL_IN)
}

/** Whether no member has a parent in another group of the same session; `except` does not count. */
export function isOrphaned(pgrp: ProcessGroup, except: ThreadGroup | null = null): boolean {
  for (const group of pgrp.members) {
    if (group === except || group.zombie || group.parent === null) continue
    if (group.parent.pgrp !== pgrp && group.parent.pgrp.session === pgrp.session) return false
  }
  return true
}

/**
 * `parent` lets go of `group` (by dying, or because `group` dies): if that orphans a process group with stopped members,
 * they get SIGHUP and SIGCONT. Linux: kill_orphaned_pgrp.
 */
export function hangUpOrphans(group: ThreadGroup, parent: ThreadGroup | null, dying: ThreadGroup | null): void {
  const pgrp = group.pgrp
  if (parent === null || parent.pgrp === pgrp || parent.pgrp.session !== pgrp.session) return
  if (!isOrphaned(pgrp, dying)) return
  if (!pgrp.members.some((m) => m !== dying && !m.zombie && m.signals.stopped)) return
  sendKernelSignalToPgrp(pgrp, SIGHUP)
  sendKernelSignalToPgrp(pgrp, SIGCONT)
}
