/**
 * The end of threads and processes (Linux: kernel/exit.c; fork.c: mm_release).
 *
 * A thread ends in {@link exitTask}, always while the sentry has it (trapped, blocked, stopped), or together with its
 * whole address space. {@link exitGroup} condemns a process: threads that can be finished at once are, those that run
 * are interrupted, and a trapped one (the current task) ends in returnToGuest(). For exec, see {@link dethread}.
 */
import { SIGKILL } from '../abi/signal.ts'
import { TRAP_GONE } from '../platform/platform.ts'
import { cpuLeave } from './cpu-times.ts'
import { exitFutexes, holdsRobustLocks } from './futex-exit.ts'
import { stopTimers } from './itimer.ts'
import { hangUpOrphans, stopCompleted } from './job-control.ts'
import type { Kernel } from './kernel.ts'
import { endSessionLeadership, notifyParentOfExit, reap, reparentChildren } from './process-tree.ts'
import { releaseTracees } from './ptrace.ts'
import { abandonZombies, holdForTracer, tellTracerOfThread, untraceLeader } from './ptrace-wait.ts'
import { discardAll } from './signal.ts'
import { DEAD, RUNNING, type Task, TRAPPED } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'

const POLL_IN = 1

/** Hears the wait status of a process once it has ended; see {@link onProcessExit}. */
export type ExitCallback = (status: number) => void
const callbacks = new WeakMap<ThreadGroup, ExitCallback[]>()
/** Run for every process that ends, before its parent hears of it (timers, file locks, terminals clean up here). */
const hooks: ((group: ThreadGroup) => void)[] = []

/** Calls back with the wait status when `group` ends. The caller checks that it has not ended yet (`zombie`). */
export function onProcessExit(group: ThreadGroup, callback: ExitCallback): void {
  const list = callbacks.get(group)
  if (list === undefined) callbacks.set(group, [callback])
  else list.push(callback)
}

export function addExitHook(hook: (group: ThreadGroup) => void): void {
  hooks.push(hook)
}

/** What a shell would see of a wait status: 0–255, 128 + n for signal n. */
export function shellStatus(status: number): number {
  return status & 0x7f ? 128 + (status & 0x7f) : (status >> 8) & 0xff
}

/** What `t.sysState` may implement: the task died in the middle of the call. */
export interface Abandonable {
  abandon?(): void
}

/** No other process uses the address space: it dies with this group. */
function ownsSpace(group: ThreadGroup): boolean {
  let live = 0
  for (const t of group.tasks) if (t.state !== DEAD && t.mm === group.leader.mm) live++
  return group.tasks.length > 0 && group.tasks[0]!.mm.users <= Math.max(live, 1)
}

/** Ends all threads of `group` with a wait status (exit code << 8, or signal, | 0x80 for a core dump). */
export function exitGroup(group: ThreadGroup, status: number): void {
  if (group.exitStatus >= 0 || group.zombie) return
  group.exitStatus = status
  group.signals.stopped = false
  // A private space is killed with its last task, so that its running threads need no ceremony.
  const doomed = ownsSpace(group)
  for (const t of group.tasks.slice()) {
    if (t.state === DEAD) continue
    t.signalPending = true
    if (t.state === RUNNING && (!doomed || holdsRobustLocks(t))) t.thread.interrupt()
    else if (t.state !== TRAPPED || t.kernel.isHeld(t)) exitTask(t, group.exitStatus)
  }
}

/**
 * execve(2) of a process with several threads: the others end, and `t` takes over the process's id. A thread that still
 * runs in a space shared with another process is interrupted and never resumed.
 */
export function dethread(t: Task): void {
  const group = t.group
  for (const other of group.tasks.slice()) {
    if (other === t || other.state === DEAD) continue
    if (other.state === RUNNING) {
      other.thread.interrupt()
      other.thread.owner = null
    }
    exitTask(other, 0)
  }
  becomeLeader(t)
}

function becomeLeader(t: Task): void {
  const group = t.group
  if (group.leader === t) return
  const ids = t.kernel.ids
  untraceLeader(group)
  ids.removeTask(group.leader)
  ids.removeTask(t)
  t.tid = group.pid
  group.leader = t
  group.leaderStatus = -1
  ids.addTask(t)
  t.publishIds()
}

/** For execve(2), before the task leaves its old address space. */
export function execReleaseMm(t: Task): void {
  leaveAddressSpace(t)
  cpuLeave(t, false)
}

/** The host thread was killed from outside (the OOM killer, an operator): the same as SIGKILL. */
export function threadGone(t: Task): void {
  if (t.state === DEAD) return
  exitGroup(t.group, SIGKILL)
  exitTask(t, SIGKILL)
}

/** mm_release: what happens when a task leaves its address space, at exit and at execve. The thread is stopped. */
function leaveAddressSpace(t: Task): void {
  const group = t.group
  exitFutexes(t)
  if (t.clearChildTid !== 0) {
    if (t.mm.users > 1 && t.state !== RUNNING && t.thread.trap !== TRAP_GONE) {
      t.writeU32(t.clearChildTid, 0)
      t.thread.futexWake(t.clearChildTid, 1)
    }
    t.clearChildTid = 0
  }
  const waiter = group.vforkParent
  if (waiter !== null && group.leader === t) {
    group.vforkParent = null
    t.kernel.wake(waiter)
  }
}

/** Ends one thread. `code` is a wait status. Precondition: it does not run, or its address space ends with it. */
export function exitTask(t: Task, code: number): void {
  if (t.state === DEAD) return
  const group = t.group
  const kernel = t.kernel
  const running = t.state === RUNNING
  t.endWait()
  if (t.heapIndex >= 0) kernel.timers.remove(t)
  // A call that is cut short gives back what it holds (a half-open FIFO).
  const held = t.sysState as Abandonable | null
  t.sysState = null
  if (held !== null && held.abandon !== undefined) held.abandon()
  const last = group.tasks.length === 1
  if (t.actionsTold !== null) t.actionsTold.withdraw()
  leaveAddressSpace(t)
  t.state = DEAD
  t.signals.hasSavedMask = false
  t.signals.injected = null
  discardAll(t.signals.pending)
  if (group.tracer !== null) releaseTracees(t)
  if (t.traced !== null && t !== group.leader) tellTracerOfThread(t, group.exitStatus >= 0 ? group.exitStatus : code)
  if (last) {
    if (group.exitStatus < 0)
      group.exitStatus = group.leaderStatus >= 0 && group.leader !== t ? group.leaderStatus : code
    cpuLeave(t, true)
  } else if (t === group.leader) group.leaderStatus = code
  t.fds.unref(t)
  t.fs.unref()
  // The thread goes with its space when that ends; otherwise alone.
  if (t.mm.users > 1 && !running && t.thread.trap !== TRAP_GONE) t.thread.exit()
  t.mm.unref()

  group.tasks.splice(group.tasks.indexOf(t), 1)
  if (t !== group.leader) kernel.ids.removeTask(t)
  if (last) {
    exitProcess(kernel, group)
    return
  }
  if (group.signals.stopped) stopCompleted(group)
}

/** The last thread of `group` is gone. */
function exitProcess(kernel: Kernel, group: ThreadGroup): void {
  stopTimers(group)
  for (const hook of hooks) hook(group)
  group.signals.stopped = false
  discardAll(group.signals.pending)
  if (group.pid === 1) endContainer(kernel, group)
  endSessionLeadership(group)
  reparentChildren(kernel, group)
  hangUpOrphans(group, group.parent, group)
  group.zombie = true
  group.exitWait.wake(POLL_IN)
  const status = group.exitStatus
  const list = callbacks.get(group)
  if (list !== undefined) for (const callback of list) callback(status)
  if (group.tracer !== null) abandonZombies(kernel, group)
  if (!holdForTracer(group) && notifyParentOfExit(group)) reap(kernel, group)
  if (group.pid === 1 && kernel.exitCode < 0) kernel.exitCode = shellStatus(status)
}

/** Init died: everything else of the container is killed, as the kernel does with a pid namespace. */
function endContainer(kernel: Kernel, init: ThreadGroup): void {
  for (const group of [...kernel.ids.groups()]) {
    if (group === init || group.zombie) continue
    if (group.exitStatus < 0) group.exitStatus = SIGKILL
    for (const t of group.tasks.slice()) {
      if (t.state === RUNNING) t.thread.space.kill()
      exitTask(t, SIGKILL)
    }
  }
}
