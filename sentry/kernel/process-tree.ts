/**
 * The tree of processes: what the parent hears of an exit, reaping, reparenting, leaving process groups and sessions
 * (Linux: exit_notify, release_task, forget_original_parent, do_notify_parent).
 *
 * A group whose parent is null was started from outside (init, exec'd processes): nobody waits for it, `onExit` hears
 * of its end and it is reaped at once.
 */
import { CLD_DUMPED, CLD_EXITED, CLD_KILLED, SA_NOCLDWAIT, SIGCHLD, SIGCONT, SIGHUP } from '../abi/signal.ts'
import { groupCpu } from './cpu-times.ts'
import { hangUpOrphans } from './job-control.ts'
import type { Kernel } from './kernel.ts'
import { ProcessGroup, Session } from './process-group.ts'
import { makeInfo } from './siginfo.ts'
import { sendKernelSignalToPgrp, sendToGroup, sendToTask } from './signal.ts'
import { SIG_IGN } from './signal-actions.ts'
import type { SigInfo } from './signal-state.ts'
import { DEAD } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'

const POLL_IN = 1
/** USER_HZ: siginfo counts CPU time in these. */
const TICK_NS = 10_000_000

/** Fills utime and stime of a SIGCHLD. */
export function childTimes(group: ThreadGroup, info: SigInfo): void {
  const cpu = groupCpu(group)
  info.utime = Math.floor(cpu.userNs / TICK_NS)
  info.stime = Math.floor(cpu.systemNs / TICK_NS)
}

/** si_code and si_status of a wait status. */
export function exitInfo(info: SigInfo, status: number): void {
  const sig = status & 0x7f
  info.code = sig === 0 ? CLD_EXITED : status & 0x80 ? CLD_DUMPED : CLD_KILLED
  info.status = sig === 0 ? (status >> 8) & 0xff : sig
}

/** Tells the parent of a zombie. Returns true when nobody will wait for it: the caller reaps it. */
export function notifyParentOfExit(group: ThreadGroup): boolean {
  const parent = group.parent
  if (group.heldForTracer) return false
  if (parent === null || parent.zombie || parent.exitStatus >= 0) {
    return parent === null
  }
  let sig = group.exitSignal
  let autoreap = false
  const action = parent.signals.actions.get(SIGCHLD)
  if (sig === SIGCHLD) {
    if (action.handler === SIG_IGN) {
      autoreap = true
      sig = 0
    } else if (action.flags & SA_NOCLDWAIT) autoreap = true
  }
  if (sig !== 0) {
    const info = makeInfo(sig, 0)
    info.pid = group.pid
    info.uid = group.leader.creds.uid
    childTimes(group, info)
    exitInfo(info, group.exitStatus)
    sendToGroup(parent, info, true)
  }
  parent.childWait.wake(POLL_IN)
  return autoreap
}

/** Frees the pid of a zombie. */
export function reap(kernel: Kernel, group: ThreadGroup): void {
  const parent = group.parent
  if (parent !== null) {
    const at = parent.children.indexOf(group)
    if (at >= 0) parent.children.splice(at, 1)
    // A waiter that found nothing else must learn that there is one child less.
    parent.childWait.wake(POLL_IN)
  }
  group.parent = null
  leaveProcessGroup(kernel, group)
  kernel.ids.removeTask(group.leader)
  kernel.ids.removeGroup(group)
}

/** Whoever adopts the children of `group`: the nearest subreaper above it, else the container's init. */
function reaperOf(kernel: Kernel, group: ThreadGroup): ThreadGroup | null {
  for (let p = group.parent; p !== null; p = p.parent) {
    if (p.subreaper && !p.zombie && p.exitStatus < 0) return p
  }
  const init = kernel.ids.group(1)
  return init === undefined || init === group || init.zombie ? null : init
}

/** The children of a dying group get a new parent. */
export function reparentChildren(kernel: Kernel, group: ThreadGroup): void {
  if (group.children.length === 0) return
  const reaper = reaperOf(kernel, group)
  for (const child of group.children.splice(0)) {
    child.parent = reaper
    child.exitSignal = SIGCHLD
    if (reaper !== null) reaper.children.push(child)
    if (!child.zombie) {
      for (const t of child.tasks) {
        if (t.parentDeathSignal === 0 || t.state === DEAD) continue
        const info = makeInfo(t.parentDeathSignal, 0)
        info.pid = group.pid
        info.uid = group.leader.creds.uid
        sendToTask(t, info)
      }
      hangUpOrphans(child, group, null)
    } else if (reaper === null || notifyParentOfExit(child)) {
      reap(kernel, child)
    }
  }
}

/** Takes `group` out of its process group, which ends with its last member. */
export function leaveProcessGroup(kernel: Kernel, group: ThreadGroup): void {
  const pgrp = group.pgrp
  const at = pgrp.members.indexOf(group)
  if (at >= 0) pgrp.members.splice(at, 1)
  if (pgrp.members.length > 0) return
  const session = pgrp.session
  const index = session.groups.indexOf(pgrp)
  if (index < 0) return
  session.groups.splice(index, 1)
  kernel.ids.removePgrp(pgrp)
  if (session.tty !== null && session.tty.foreground === pgrp) session.tty.foreground = null
  if (session.groups.length === 0) kernel.ids.removeSession(session)
}

export function joinProcessGroup(kernel: Kernel, group: ThreadGroup, pgrp: ProcessGroup): void {
  if (group.pgrp === pgrp && pgrp.members.includes(group)) return
  pgrp.members.push(group)
  leaveProcessGroup(kernel, group)
  group.pgrp = pgrp
}

/** A new group in `session`, led by `leader`, which joins it. */
export function newProcessGroup(kernel: Kernel, leader: ThreadGroup, session: Session): ProcessGroup {
  const pgrp = new ProcessGroup(leader.pid, session)
  kernel.ids.addPgrp(pgrp)
  joinProcessGroup(kernel, leader, pgrp)
  return pgrp
}

/** A new session with one group, both led by `leader`. */
export function newSession(kernel: Kernel, leader: ThreadGroup): Session {
  const session = new Session(leader.pid, leader)
  kernel.ids.addSession(session)
  newProcessGroup(kernel, leader, session)
  return session
}

/** A session leader dies: its terminal hangs up. */
export function endSessionLeadership(group: ThreadGroup): void {
  const session = group.pgrp.session
  if (session.leader !== group) return
  session.leader = null
  const tty = session.tty
  if (tty === null) {
    const left = session.hungUpForeground
    session.hungUpForeground = null
    if (left !== null) {
      sendKernelSignalToPgrp(left, SIGHUP)
      sendKernelSignalToPgrp(left, SIGCONT)
    }
    return
  }
  const foreground = tty.foreground
  tty.disassociate()
  // The terminal object may have done so itself; a second SIGHUP is not queued while the first is pending.
  if (foreground !== null && foreground.members.length > 0 && session.tty !== null) {
    sendKernelSignalToPgrp(foreground, SIGHUP)
    sendKernelSignalToPgrp(foreground, SIGCONT)
    session.tty = null
  }
}
