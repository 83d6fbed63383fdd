/**
 * What a tracer learns by waiting: its tracees' stops, the ends of their threads, and dead processes, of which it hears
 * before their parents do (Linux: kernel/exit.c, wait_consider_task with ptrace = 1, exit_notify).
 */
import { ECHILD } from '../abi/errno.ts'
import { CLD_TRAPPED, SIGCHLD } from '../abi/signal.ts'
import type { Kernel } from './kernel.ts'
import type { ProcessGroup } from './process-group.ts'
import { exitInfo, notifyParentOfExit, reap } from './process-tree.ts'
import { unlink } from './ptrace.ts'
import { makeInfo } from './siginfo.ts'
import { sendToGroup } from './signal.ts'
import { SIG_IGN } from './signal-actions.ts'
import { type Task, TRACED } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'
import { report, type WaitTarget, WEXITED, WNOWAIT } from './wait.ts'

const POLL_IN = 1
/** Ends of threads that a tracer has not waited for; then the oldest goes. */
const MAX_EXITED = 32768
const INFO = makeInfo(SIGCHLD, 0)

function matches(target: WaitTarget, id: number, pgrp: ProcessGroup): boolean {
  if (target.id !== 0) return target.id === id
  return target.pgrp === null ? !target.none : target.pgrp === pgrp
}

/** As findChild(): 1 with `waited` filled, 0 for "not yet", or −ECHILD. */
export function findTracee(t: Task, target: WaitTarget, options: number): number {
  const { tracer } = t.group
  if (tracer === null) return -ECHILD
  const keep = (options & WNOWAIT) !== 0
  let eligible = false
  for (const tracee of tracer.tracees) {
    const { group } = tracee
    if (!matches(target, tracee.tid, group.pgrp)) continue
    eligible = true
    const traced = tracee.traced!
    if (tracee.state !== TRACED || traced.listening || traced.code === 0) continue
    report(group, tracee.tid, tracee.creds.uid, CLD_TRAPPED, traced.code, (traced.code << 8) | 0x7f)
    if (!keep) traced.code = 0
    return 1
  }
  for (const [i, { tid, uid, status, group }] of tracer.exited.entries()) {
    if (!matches(target, tid, group.pgrp)) continue
    eligible = true
    if ((options & WEXITED) === 0) continue
    reportEnd(group, tid, uid, group.exitStatus >= 0 ? group.exitStatus : status)
    if (!keep) tracer.exited.splice(i, 1)
    return 1
  }
  for (const [i, group] of tracer.zombies.entries()) {
    if (!matches(target, group.pid, group.pgrp)) continue
    eligible = true
    if ((options & WEXITED) === 0) continue
    reportEnd(group, group.pid, group.leader.creds.uid, group.exitStatus)
    if (!keep) {
      tracer.zombies.splice(i, 1)
      handOver(t.kernel, group)
    }
    return 1
  }
  return eligible ? 0 : -ECHILD
}

function reportEnd(group: ThreadGroup, id: number, uid: number, status: number): void {
  exitInfo(INFO, status)
  report(group, id, uid, INFO.code, INFO.status, status)
}

/** The tracer has heard of a zombie: now its parent does. */
function handOver(kernel: Kernel, group: ThreadGroup): void {
  group.heldForTracer = false
  if (notifyParentOfExit(group)) reap(kernel, group)
}

function tell(tracer: ThreadGroup, id: number, uid: number, status: number): void {
  if (tracer.signals.actions.handler(SIGCHLD) !== SIG_IGN) {
    const info = makeInfo(SIGCHLD, 0)
    info.pid = id
    info.uid = uid
    exitInfo(info, status)
    sendToGroup(tracer, info, true)
  }
  tracer.childWait.wake(POLL_IN)
}

/** A traced thread that is not its process's leader has ended. */
export function tellTracerOfThread(t: Task, status: number): void {
  const tracer = t.traced!.tracer.group
  unlink(t)
  const { uid } = t.creds
  const { exited } = tracer.tracer!
  // Unlike Linux's, these hold no id, so that nothing else bounds them.
  if (exited.length === MAX_EXITED) exited.shift()
  exited.push({ tid: t.tid, uid, status, group: t.group })
  tell(tracer, t.tid, uid, status)
}

/** The leader's id goes to another thread (execve): nobody hears of its end. */
export function untraceLeader(group: ThreadGroup): void {
  if (group.leader.traced !== null) unlink(group.leader)
}

/** A process has ended. True: its tracer is to hear of it before its parent. */
export function holdForTracer(group: ThreadGroup): boolean {
  const { leader } = group
  if (leader.traced === null) return false
  const tracer = leader.traced.tracer.group
  unlink(leader)
  if (tracer === group.parent || tracer.zombie || tracer.exitStatus >= 0) return false
  group.heldForTracer = true
  tracer.tracer!.zombies.push(group)
  tell(tracer, group.pid, leader.creds.uid, group.exitStatus)
  return true
}

/** A tracer has ended without having waited. */
export function abandonZombies(kernel: Kernel, tracer: ThreadGroup): void {
  for (const group of tracer.tracer!.zombies.splice(0)) handOver(kernel, group)
}
