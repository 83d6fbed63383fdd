/**
 * Waiting for children (Linux: kernel/exit.c, do_wait): which child has something to tell, and what.
 */
import { ECHILD } from '../abi/errno.ts'
import { CLD_CONTINUED, CLD_STOPPED, SIGCHLD, SIGCONT } from '../abi/signal.ts'
import { adoptUsage, groupCpu } from './cpu-times.ts'
import type { ProcessGroup } from './process-group.ts'
import { exitInfo, reap } from './process-tree.ts'
import { findTracee } from './ptrace-wait.ts'
import { makeInfo } from './siginfo.ts'
import type { Task } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'

export const WNOHANG = 1
export const WUNTRACED = 2
export const WSTOPPED = 2
export const WEXITED = 4
export const WCONTINUED = 8
export const WNOWAIT = 0x01000000
export const WNOTHREAD = 0x20000000
export const WALL = 0x40000000
export const WCLONE = 0x80000000

/** Which children: all, one process, or a process group. */
export interface WaitTarget {
  /** The id asked for, which may be that of a traced thread; 0 = none. */
  id: number
  group: ThreadGroup | null
  pgrp: ProcessGroup | null
  /** Neither, and not "all": there is no such child. */
  none: boolean
}

/** What a wait found; valid until the next call. */
export const waited = {
  pid: 0,
  uid: 0,
  /** For wait4. */
  status: 0,
  /** si_code and si_status for waitid. */
  code: 0,
  value: 0,
  userNs: 0,
  systemNs: 0,
  /** Whose usage wait4's rusage is, besides the times. */
  child: null as ThreadGroup | null,
}
const INFO = makeInfo(SIGCHLD, 0)

/** 1: `waited` is filled; 0: children exist, but nothing to tell; −ECHILD. */
export function findChild(t: Task, target: WaitTarget, options: number): number {
  let eligible = false
  const traced = findTracee(t, target, options)
  if (traced > 0 || (target.none && traced < 0)) return traced
  for (const child of target.none ? [] : t.group.children) {
    if (target.group !== null && child !== target.group) continue
    if (target.pgrp !== null && child.pgrp !== target.pgrp) continue
    // Children that do not send SIGCHLD are "clone" children.
    if ((options & WALL) === 0 && (child.exitSignal !== SIGCHLD) !== ((options & WCLONE) !== 0)) continue
    if (child.heldForTracer) {
      eligible = true
      continue
    }
    if (child.zombie) {
      // It will never stop or continue: for who waits for that alone, it is no child any more.
      if ((options & WEXITED) === 0) continue
      takeZombie(t, child, (options & WNOWAIT) !== 0)
      return 1
    }
    eligible = true
    const s = child.signals
    const ours = child.leader.traced?.tracer.group === t.group
    if (options & WSTOPPED && s.stopReport > 0 && !ours) {
      report(child, child.pid, child.leader.creds.uid, CLD_STOPPED, s.stopReport, (s.stopReport << 8) | 0x7f)
      if ((options & WNOWAIT) === 0) s.stopReport = -1
      return 1
    }
    if (options & WCONTINUED && s.continueReport) {
      report(child, child.pid, child.leader.creds.uid, CLD_CONTINUED, SIGCONT, 0xffff)
      if ((options & WNOWAIT) === 0) s.continueReport = false
      return 1
    }
  }
  return eligible || traced === 0 ? 0 : -ECHILD
}

/** Fills `waited` for `child`, or one of its threads. */
export function report(child: ThreadGroup, id: number, uid: number, code: number, value: number, status: number): void {
  const cpu = groupCpu(child)
  waited.userNs = cpu.userNs + child.childUserNs
  waited.systemNs = cpu.systemNs + child.childSystemNs
  waited.child = child
  waited.pid = id
  waited.uid = uid
  waited.code = code
  waited.value = value
  waited.status = status
}

function takeZombie(t: Task, child: ThreadGroup, keep: boolean): void {
  exitInfo(INFO, child.exitStatus)
  report(child, child.pid, child.leader.creds.uid, INFO.code, INFO.status, child.exitStatus)
  if (keep) return
  t.group.childUserNs += waited.userNs
  t.group.childSystemNs += waited.systemNs
  adoptUsage(t.group, child)
  reap(t.kernel, child)
}
