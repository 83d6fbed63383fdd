/**
 * Sending signals and choosing who handles them (Linux: kernel/signal.c). Data is in signal-state.ts; what happens
 * when a task takes a signal is in signal-delivery.ts, stop and continue in job-control.ts.
 *
 * `task.signalPending` must stay exact: every change of a mask, a queue, the stop state or the exit state of a group
 * ends in {@link recalcPending} or {@link wakeForSignal}.
 */
import { EAGAIN, EPERM, ESRCH } from '../abi/errno.ts'
import {
  ACTION_IGNORE,
  ACTION_TERMINATE,
  defaultAction,
  SI_TIMER,
  SI_TKILL,
  SI_USER,
  SIGCONT,
  SIGKILL,
  SIGRTMIN,
  SIGSTOP,
  STOP_MASK,
  SYNCHRONOUS_MASK,
  UNBLOCKABLE_MASK,
} from '../abi/signal.ts'
import { CAP_KILL } from './credentials.ts'
import { exitGroup } from './exit.ts'
import { resumeStopped } from './job-control.ts'
import { RLIMIT_SIGPENDING } from './limits.ts'
import type { ProcessGroup } from './process-group.ts'
import { makeInfo } from './siginfo.ts'
import { SIG_DFL, SIG_IGN } from './signal-actions.ts'
import type { PendingSignals, SigInfo } from './signal-state.ts'
import { DEAD, RUNNING, STOPPED, type Task, TRACED } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'

const POLL_IN = 1
/** Queued signals by the uid that pays for them. */
const queuedByUid = new Map<number, number>()

/** signo 0 checks permission and existence only. */
export function killOk(sender: Task, target: Task, signo: number): boolean {
  if (sender.group === target.group) return true
  const from = sender.creds
  const to = target.creds
  if (from.euid === to.suid || from.euid === to.uid || from.uid === to.suid || from.uid === to.uid) return true
  if (from.capable(CAP_KILL)) return true
  return signo === SIGCONT && sender.group.pgrp.session === target.group.pgrp.session
}

/** The info of kill(2) (SI_USER) or tkill(2) by `sender`. */
export function userInfo(sender: Task, signo: number, code: typeof SI_USER | typeof SI_TKILL = SI_USER): SigInfo {
  const info = makeInfo(signo, code)
  info.pid = sender.group.pid
  info.uid = sender.creds.uid
  return info
}

/** To one thread. 0 or −EAGAIN (too many queued). `force`: from outside the container, or from the kernel itself. */
export function sendToTask(t: Task, info: SigInfo, force = false): number {
  return send(t, info, false, force)
}

/** To a process: any thread that does not block it. 0 or −EAGAIN. */
export function sendToGroup(group: ThreadGroup, info: SigInfo, force = false): number {
  return send(group.leader, info, true, force)
}

/** To every process of a process group, by the kernel (a terminal). */
export function sendToProcessGroup(pgrp: ProcessGroup, info: SigInfo): void {
  for (const group of pgrp.members.slice()) if (!group.zombie) sendToGroup(group, { ...info })
}

/** Short forms for signals that the kernel sends for a reason of its own (SIGPIPE, SIGXFSZ, SIGHUP of a terminal). */
export function sendKernelSignal(t: Task, signo: number): void {
  sendToTask(t, userInfo(t, signo), true)
}
export function sendKernelSignalToPgrp(pgrp: ProcessGroup, signo: number): void {
  sendToProcessGroup(pgrp, makeInfo(signo, 0x80))
}

/** kill(2) to a process group by `sender`: 0 if one of them could be signalled, else the last error. */
export function killProcessGroup(sender: Task, pgrp: ProcessGroup, info: SigInfo): number {
  let ok = false
  let result = -ESRCH
  for (const group of pgrp.members.slice()) {
    const ret = killGroup(sender, group, { ...info })
    if (ret === 0) ok = true
    else result = ret
  }
  return ok ? 0 : result
}

/** kill(2) to one process by `sender`. A zombie can be signalled without effect. */
export function killGroup(sender: Task, group: ThreadGroup, info: SigInfo): number {
  if (!killOk(sender, group.leader, info.signo)) return -EPERM
  return info.signo === 0 ? 0 : sendToGroup(group, info)
}

function send(t: Task, info: SigInfo, toGroup: boolean, force: boolean): number {
  const group = t.group
  if (group.zombie || group.exitStatus >= 0 || (!toGroup && t.state === DEAD)) return 0
  const sig = info.signo
  const wasStopped = group.signals.stopped
  if (sig === SIGCONT) flushFromGroup(group, STOP_MASK)
  else if (sig <= 32 && (STOP_MASK >>> (sig - 1)) & 1) flushFromGroup(group, 1 << (SIGCONT - 1))

  let ret = 0
  if (!ignored(t, sig, force)) {
    ret = enqueue(t, toGroup ? group.signals.pending : t.signals.pending, info)
    if (ret === 0) {
      group.signals.signalWait.wake(POLL_IN)
      complete(t, sig, toGroup)
    }
  }
  // Also when it is blocked or ignored; after queueing, so that its handler is what runs first.
  if (sig === SIGCONT && wasStopped && group.exitStatus < 0) resumeStopped(group)
  return ret
}

/** Linux: sig_ignored. A blocked signal is never ignored: its action may change before it is unblocked. */
function ignored(t: Task, sig: number, force: boolean): boolean {
  if (t.signals.blocked.has(sig)) return false
  // A tracer hears of every signal.
  if (t.traced !== null && sig !== SIGKILL) return false
  const handler = t.group.signals.actions.handler(sig)
  if (t.group.signals.unkillable && handler === SIG_DFL) {
    if (!(force && (sig === SIGKILL || sig === SIGSTOP))) return true
  }
  return handler === SIG_IGN || (handler === SIG_DFL && defaultAction(sig) === ACTION_IGNORE)
}

function enqueue(t: Task, pending: PendingSignals, given: SigInfo): number {
  // The same info may be sent to several processes.
  const info = given.chargedUid === undefined ? given : { ...given }
  const sig = info.signo
  t.group.signals.actions.stop()
  // A POSIX timer's own entry is queued in any case: it waits to hear that it was taken.
  if (sig < SIGRTMIN && pending.set.has(sig) && info.code !== SI_TIMER) return 0
  const uid = t.creds.uid
  const count = queuedByUid.get(uid) ?? 0
  const limit = t.group.limits.soft[RLIMIT_SIGPENDING]!
  if (sig >= SIGRTMIN && info.source === null && count >= limit) {
    // kill(2) and tkill(2) always get through, without their info; a queued signal must not be lost silently.
    if (info.code !== SI_USER && info.code !== SI_TKILL && info.code <= 0x80) return -EAGAIN
    pending.set.add(sig)
    return 0
  }
  queuedByUid.set(uid, count + 1)
  info.chargedUid = uid
  pending.queue.push(info)
  pending.set.add(sig)
  return 0
}

function uncharge(info: SigInfo): void {
  if (info.chargedUid === undefined) return
  const left = (queuedByUid.get(info.chargedUid) ?? 1) - 1
  if (left > 0) queuedByUid.set(info.chargedUid, left)
  else queuedByUid.delete(info.chargedUid)
  info.chargedUid = undefined
}

/** For /proc/PID/status: SigQ. */
export function queuedSignals(uid: number): number {
  return queuedByUid.get(uid) ?? 0
}

/** Linux: complete_signal. Wakes a thread that can take it; a plainly fatal one ends the process at once. */
function complete(main: Task, sig: number, toGroup: boolean): void {
  let chosen: Task | null = wants(main, sig) ? main : null
  if (chosen === null && toGroup) {
    for (const t of main.group.tasks) {
      if (!wants(t, sig)) continue
      chosen = t
      if (!t.signalPending) break
    }
  }
  if (chosen === null) return
  const group = main.group
  const handler = group.signals.actions.handler(sig)
  const untraced = main.traced === null && chosen.traced === null
  if (sig === SIGKILL || (untraced && handler === SIG_DFL && defaultAction(sig) === ACTION_TERMINATE)) {
    exitGroup(group, sig)
    return
  }
  wakeForSignal(chosen)
}

function wants(t: Task, sig: number): boolean {
  if (t.state === DEAD || t.signals.blocked.has(sig)) return false
  return sig === SIGKILL || (t.state !== STOPPED && t.state !== TRACED)
}

/** Makes `t` look at its signals soon. */
export function wakeForSignal(t: Task): void {
  t.signalPending = true
  if (t.state === RUNNING) t.thread.interrupt()
  else t.kernel.wake(t)
}

/** Recomputes task.signalPending from scratch. */
export function recalcPending(t: Task): void {
  const s = t.signals
  const shared = t.group.signals
  const lo = (s.pending.set.lo | shared.pending.set.lo) & ~s.blocked.lo
  const hi = (s.pending.set.hi | shared.pending.set.hi) & ~s.blocked.hi
  const stops = t.traced === null ? shared.stopped : t.traced.pending
  t.signalPending = lo !== 0 || hi !== 0 || stops || s.injected !== null || t.group.exitStatus >= 0
}

/** Sets the blocked mask (SIGKILL and SIGSTOP excepted); shared signals that it now blocks go to another thread. */
export function setBlocked(t: Task, lo: number, hi: number): void {
  const blocked = t.signals.blocked
  const newLo = (lo & ~UNBLOCKABLE_MASK) >>> 0
  const newHi = hi >>> 0
  if (newLo === blocked.lo && newHi === blocked.hi) return
  const shared = t.group.signals.pending.set
  const leftLo = shared.lo & newLo & ~blocked.lo
  const leftHi = shared.hi & newHi & ~blocked.hi
  blocked.set(newLo, newHi)
  if ((leftLo !== 0 || leftHi !== 0) && t.group.tasks.length > 1) {
    for (const other of t.group.tasks) {
      if (other === t || other.state === DEAD || other.signalPending) continue
      const mask = other.signals.blocked
      if ((leftLo & ~mask.lo) !== 0 || (leftHi & ~mask.hi) !== 0) wakeForSignal(other)
    }
  }
  recalcPending(t)
}

/**
 * For sigsuspend, ppoll, pselect, epoll_pwait: blocks (lo, hi) until the call returns. Call it on each run of the
 * handler: only the first has an effect. returnToGuest() restores the old mask, after the handler's frame if one runs.
 */
export function setTemporaryMask(t: Task, lo: number, hi: number): void {
  const s = t.signals
  if (s.hasSavedMask) return
  s.savedMask.copyFrom(s.blocked)
  s.hasSavedMask = true
  setBlocked(t, lo, hi)
}

/** Puts the mask of {@link setTemporaryMask} back. */
export function restoreSavedMask(t: Task): void {
  const s = t.signals
  if (!s.hasSavedMask) return
  s.hasSavedMask = false
  setBlocked(t, s.savedMask.lo, s.savedMask.hi)
}

/** The lowest signal of a set, synchronous faults first; 0 = none. */
function lowest(lo: number, hi: number): number {
  const sync = lo & SYNCHRONOUS_MASK
  const first = sync !== 0 ? sync : lo
  if (first !== 0) return 32 - Math.clz32(first & -first)
  return hi !== 0 ? 64 - Math.clz32(hi & -hi) : 0
}

/** Takes the next pending signal that is not in the mask (lo, hi); private ones before those of the process. */
export function dequeueSignal(t: Task, maskLo: number, maskHi: number): SigInfo | null {
  let info = takeFrom(t.signals.pending, maskLo, maskHi)
  if (info === null) info = takeFrom(t.group.signals.pending, maskLo, maskHi)
  recalcPending(t)
  return info
}

/** Whether a signal of the set (lo, hi) is pending for `t`, blocked or not; for signalfd(2). */
export function hasPending(t: Task, lo: number, hi: number): boolean {
  const own = t.signals.pending.set
  const shared = t.group.signals.pending.set
  return ((own.lo | shared.lo) & lo) !== 0 || ((own.hi | shared.hi) & hi) !== 0
}

function takeFrom(pending: PendingSignals, maskLo: number, maskHi: number): SigInfo | null {
  const sig = lowest(pending.set.lo & ~maskLo, pending.set.hi & ~maskHi)
  if (sig === 0) return null
  const queue = pending.queue
  let taken: SigInfo | null = null
  let more = false
  for (let i = 0; i < queue.length; i++) {
    if (queue[i]!.signo !== sig) continue
    if (taken !== null) {
      more = true
      break
    }
    taken = queue[i]!
    queue.splice(i--, 1)
  }
  if (!more) pending.set.delete(sig)
  if (taken === null) return makeInfo(sig, SI_USER)
  uncharge(taken)
  if (taken.source !== null) taken.source.signalTaken(taken)
  return taken
}

/** Drops what is queued of a mask of standard signals (only the low word matters to Linux, too). */
function flushPending(pending: PendingSignals, lo: number, hi: number): void {
  const set = pending.set
  if ((set.lo & lo) === 0 && (set.hi & hi) === 0) return
  set.set(set.lo & ~lo, set.hi & ~hi)
  for (let i = pending.queue.length - 1; i >= 0; i--) {
    const sig = pending.queue[i]!.signo
    if (!(sig <= 32 ? (lo >>> (sig - 1)) & 1 : (hi >>> (sig - 33)) & 1)) continue
    uncharge(pending.queue[i]!)
    pending.queue.splice(i, 1)
  }
}

function flushFromGroup(group: ThreadGroup, lo: number): void {
  flushPending(group.signals.pending, lo, 0)
  for (const t of group.tasks) {
    flushPending(t.signals.pending, lo, 0)
    if (t.signalPending) recalcPending(t)
  }
}

/** The action of `sig` became "ignore": what is pending of it goes, blocked or not (POSIX). */
export function discardIgnored(group: ThreadGroup, sig: number): void {
  const lo = sig <= 32 ? 1 << (sig - 1) : 0
  const hi = sig <= 32 ? 0 : 1 << (sig - 33)
  flushPending(group.signals.pending, lo, hi)
  for (const t of group.tasks) {
    flushPending(t.signals.pending, lo, hi)
    if (t.signalPending) recalcPending(t)
  }
}

/** The task is gone, with what only it could have taken. */
export function discardAll(pending: PendingSignals): void {
  flushPending(pending, 0xffffffff, 0xffffffff)
}

/** Removes what a deleted timer has queued. */
export function discardFrom(group: ThreadGroup, source: object): void {
  const queues = [group.signals.pending, ...group.tasks.map((t) => t.signals.pending)]
  for (const pending of queues) {
    const at = pending.queue.findIndex((info) => info.source === source)
    if (at < 0) continue
    const info = pending.queue[at]!
    uncharge(info)
    pending.queue.splice(at, 1)
    if (!pending.queue.some((other) => other.signo === info.signo)) pending.set.delete(info.signo)
  }
  for (const t of group.tasks) if (t.signalPending) recalcPending(t)
}

/**
 * A signal that `t` cannot refuse, caused by itself (a fault, a bad signal frame): blocked or ignored means the default
 * action, which kills. Linux: force_sig_info_to_task.
 */
export function forceSignal(t: Task, info: SigInfo, toDefault = false): void {
  const sig = info.signo
  const { actions } = t.group.signals
  const blocked = t.signals.blocked.has(sig)
  if (blocked || toDefault || actions.handler(sig) === SIG_IGN) actions.setHandler(sig, SIG_DFL)
  if (blocked) {
    t.signals.blocked.delete(sig)
    recalcPending(t)
  }
  if (actions.handler(sig) === SIG_DFL) t.group.signals.unkillable = false
  sendToTask(t, info, true)
}
