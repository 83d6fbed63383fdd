/**
 * One task traces another (Linux: kernel/ptrace.c; ptrace(2)): who traces whom, the stops, and how a tracee goes on.
 *
 * A stopped tracee is TRACED, and its registers are as Linux shows them: RAX is the result so far, ORIG_RAX the call. It
 * goes on from the kernel's ready list, never inside the tracer's own call ({@link continueTracee}). What it does then is
 * kept in `t.signals.after`, because its tracer may be gone by that time.
 */
import { CLD_STOPPED, CLD_TRAPPED, SI_KERNEL, SI_USER, SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP } from '../abi/signal.ts'
import { EFLAGS, ORIG_RAX, RAX, RIP, setReg } from '../platform/amd64/registers.ts'
import { exitGroup, exitTask } from './exit.ts'
import { stopCompleted, tellOfStop } from './job-control.ts'
import { makeInfo } from './siginfo.ts'
import { forceSignal, recalcPending, sendToTask, userInfo, wakeForSignal } from './signal.ts'
import type { SigInfo } from './signal-state.ts'
import { isRestart, NO_RESULT, type SysRet } from './sysret.ts'
import { BLOCKED, DEAD, RUNNING, STOPPED, type Task, TRACED } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'

/* Options of PTRACE_SETOPTIONS, and the events that most of them stand for. */
export const PTRACE_O_TRACESYSGOOD = 1
export const PTRACE_O_EXITKILL = 0x100000
export const PTRACE_O_MASK = 0x1000ff
export const EVENT_FORK = 1
export const EVENT_VFORK = 2
export const EVENT_CLONE = 3
export const EVENT_EXEC = 4
export const EVENT_VFORK_DONE = 5
export const EVENT_EXIT = 6
export const EVENT_SECCOMP = 7
export const EVENT_STOP = 128

/* What a tracee does until its next stop. */
export const MODE_CONT = 0
export const MODE_SYSCALL = 1
export const MODE_STEP = 2
export const MODE_SYSEMU = 3
export const MODE_SYSEMU_STEP = 4

/* GETEVENTMSG of a stop at a call's entry and exit. */
export const MESSAGE_ENTRY = 1
export const MESSAGE_EXIT = 2

/* `t.signals.after`: where a tracee goes on. */
export const AFTER_NOTHING = 0
/** Back to guest code, through its signals. */
const AFTER_RETURN = 1
/** The same from a signal-delivery-stop: the tracer says which signal it gets. */
const AFTER_SIGNAL = 2
/** The call that it is about to make. */
const AFTER_ENTRY = 3
/** The same, which its tracer has been asked about (SECCOMP_RET_TRACE). */
const AFTER_SECCOMP = 4
/** The end of a call. */
const AFTER_EXIT = 5
/** The handler of its call runs again. */
const AFTER_EVENT = 6
/** The end of a call whose registers are what they shall be: new ones (execve), or the tracer's (PTRACE_SYSEMU). */
const AFTER_DONE = 7
/** The end of its process. */
const AFTER_FATAL = 8

const TRAP_BRKPT = 1
const EFLAGS_TF = 0x100
const TWO32 = 0x1_0000_0000

/** What a tracee knows of being traced (Linux: task->ptrace, parent, last_siginfo, exit_code). */
export class Tracing {
  /** The thread that may make requests; any thread of its process may wait. */
  readonly tracer: Task
  readonly seized: boolean
  options = 0
  /** For PTRACE_GETEVENTMSG. */
  message = 0
  /** While stopped: what wait4 has not seen yet; 0 = nothing. */
  code = 0
  /** While stopped: for PTRACE_GETSIGINFO; null in a group-stop. */
  info: SigInfo | null = null
  mode = MODE_CONT
  /** PTRACE_LISTEN: stopped, but requests and waits treat it as if it ran. */
  listening = false
  /** To stop with PTRACE_EVENT_STOP (PTRACE_INTERRUPT, SIGCONT). */
  trapPending = false
  /** To take part in a group-stop that it has not shown yet. */
  groupTrap = false
  /** The trap flag is ours. */
  stepping = false
  /** It has stopped for PTRACE_EVENT_EXIT. */
  exiting = false

  constructor(tracer: Task, seized: boolean, options: number) {
    this.tracer = tracer
    this.seized = seized
    this.options = options
  }
  wants(event: number): boolean {
    return ((this.options >>> event) & 1) !== 0
  }
  get steps(): boolean {
    return this.mode === MODE_STEP || this.mode === MODE_SYSEMU_STEP
  }
  /** recalcPending(): something other than a signal keeps it from guest code. */
  get pending(): boolean {
    return this.trapPending || this.groupTrap
  }
}

/** A thread that its tracer has not waited for; processes are zombies of their own. */
export interface ExitedThread {
  tid: number
  uid: number
  status: number
  group: ThreadGroup
}

/** What the threads of a process trace. */
export class Tracer {
  readonly tracees: Task[] = []
  readonly exited: ExitedThread[] = []
  /** Dead processes of other parents, who hear of it after us. */
  readonly zombies: ThreadGroup[] = []
}

// ---- who traces whom -----------------------------------------------------------------------------------------------

/** `tracer` traces `t` from here on. Preconditions: allowed, and not traced yet. */
export function link(tracer: Task, t: Task, seized: boolean, options: number): void {
  const { group } = tracer
  if (group.tracer === null) group.tracer = new Tracer()
  group.tracer.tracees.push(t)
  t.traced = new Tracing(tracer, seized, options)
  t.publishIds()
}

/** PTRACE_ATTACH and PTRACE_SEIZE. */
export function attach(tracer: Task, t: Task, seized: boolean, options: number): void {
  link(tracer, t, seized, options)
  if (!seized) sendToTask(t, makeInfo(SIGSTOP, SI_KERNEL), true)
  if (t.state !== STOPPED) return
  // It is stopped already, for everybody: from here on for its tracer.
  const s = t.signals
  stopForGroup(t, s.stopRet, s.stopInSyscall, false)
}

/** A tracee's child that is traced from the start: it stops before its first instruction. */
export function inherit(t: Task, child: Task): void {
  const { tracer, seized, options } = t.traced!
  link(tracer, child, seized, options)
  if (seized) child.traced!.trapPending = true
  else sendToTask(child, makeInfo(SIGSTOP, SI_KERNEL), true)
  child.signalPending = true
}

/** `t` is no longer traced; it stays where it is. */
export function unlink(t: Task): void {
  const tracees = t.traced!.tracer.group.tracer!.tracees
  tracees.splice(tracees.indexOf(t), 1)
  trapped(t)
  t.traced = null
  if (t.state === DEAD) return
  t.publishIds()
  recalcPending(t)
}

/** PTRACE_DETACH, and the end of the tracer. `signo` as for {@link resumeTracee}. */
export function detach(t: Task, signo: number): void {
  const stopped = t.state === TRACED
  if (stopped) passSignal(t, signo)
  unlink(t)
  if (stopped) t.kernel.goOn(t)
  else if (t.group.signals.stopped && (t.state === RUNNING || t.state === BLOCKED)) wakeForSignal(t)
}

/** The thread `tracer` ends: its tracees go on without it, or die where they asked for that. */
export function releaseTracees(tracer: Task): void {
  for (const t of tracer.group.tracer!.tracees.slice()) {
    if (t.traced?.tracer !== tracer) continue
    if (t.traced.options & PTRACE_O_EXITKILL) sendToTask(t, makeInfo(SIGKILL, SI_KERNEL), true)
    if (t.traced !== null) detach(t, 0)
  }
}

// ---- stopping ------------------------------------------------------------------------------------------------------

/** Stops `t` with wait code `code` and tells its tracer. Precondition: trapped. */
function stop(t: Task, code: number, info: SigInfo | null, why: number, after: number): void {
  const traced = t.traced!
  if (t.thread.windowPending) t.thread.windowFlush()
  // The tracer may change what the arguments point at.
  t.thread.windowDrop()
  t.mayDefer = false
  t.thread.park()
  traced.code = code
  traced.info = info
  traced.listening = false
  t.signals.after = after
  t.state = TRACED
  const told = makeInfo(SIGCHLD, why)
  told.pid = t.tid
  told.uid = t.creds.uid
  told.status = code & 0x7f
  tellOfStop(traced.tracer.group, told)
}

/** A stop that is no signal's. Linux: ptrace_do_notify. */
function trap(t: Task, signo: number, code: number, after: number): void {
  const info = makeInfo(signo, code)
  info.pid = t.tid
  info.uid = t.creds.uid
  stop(t, code, info, CLD_TRAPPED, after)
}

/** Puts a call's result where the tracer looks for it. Native calls have it there. */
function showResult(t: Task, ret: number, inSyscall: boolean, native: boolean): void {
  t.signals.afterNative = native
  if (!inSyscall || native) return
  const { regs } = t
  setReg(regs, RAX, ret)
  setReg(regs, ORIG_RAX, t.sysno >>> 0)
}

/** Each trap of a tracee: hides the trap flag that we set. */
export function trapped(t: Task): void {
  const traced = t.traced!
  if (!traced.stepping) return
  traced.stepping = false
  t.regs[EFLAGS]! &= ~EFLAGS_TF
}

/** The last thing before guest code. */
export function beforeGuest(t: Task): void {
  const traced = t.traced!
  if (!traced.steps) return
  traced.stepping = true
  t.regs[EFLAGS]! |= EFLAGS_TF
}

const syscallCode = (traced: Tracing): number => SIGTRAP | (traced.options & PTRACE_O_TRACESYSGOOD ? 0x80 : 0)

/** Syscall-entry-stop, where the tracer wants it. */
export function entryStop(t: Task): boolean {
  const traced = t.traced!
  if (traced.mode === MODE_CONT || traced.mode === MODE_STEP) return false
  traced.message = MESSAGE_ENTRY
  const emulated = traced.mode !== MODE_SYSCALL
  trap(t, SIGTRAP, syscallCode(traced), emulated ? AFTER_DONE : AFTER_ENTRY)
  return true
}

/** Syscall-exit-stop, where the tracer wants it. `ret` may be NO_RESULT: the registers are what they shall be. */
export function exitStop(t: Task, ret: SysRet): boolean {
  const traced = t.traced!
  if (traced.mode === MODE_STEP) {
    const info = makeInfo(SIGTRAP, TRAP_BRKPT)
    info.valueLo = t.regs[RIP]!
    info.valueHi = t.regs[RIP + 1]!
    forceSignal(t, info)
    return false
  }
  if (traced.mode !== MODE_SYSCALL) return false
  showResult(t, ret, ret !== NO_RESULT, false)
  traced.message = MESSAGE_EXIT
  trap(t, SIGTRAP, syscallCode(traced), AFTER_EXIT)
  return true
}

/**
 * PTRACE_EVENT_*, in the middle of a call: the caller returns BLOCK, and its handler runs again afterwards. Precondition:
 * the tracer wants it.
 */
export function eventStop(t: Task, event: number, message: number): void {
  t.traced!.message = message
  trap(t, SIGTRAP, SIGTRAP | (event << 8), event === EVENT_SECCOMP ? AFTER_SECCOMP : AFTER_EVENT)
}

/** A tracee has a new program. Its registers are set; `oldTid` is what the thread was before. */
export function execStop(t: Task, oldTid: number): void {
  const traced = t.traced!
  if (traced.wants(EVENT_EXEC)) {
    traced.message = oldTid
    trap(t, SIGTRAP, SIGTRAP | (EVENT_EXEC << 8), AFTER_DONE)
  } else if (!traced.seized) sendToTask(t, userInfo(t, SIGTRAP, SI_USER), true)
}

/** PTRACE_EVENT_EXIT in an exit call; true: the handler returns BLOCK. */
export function exitCallStop(t: Task, status: number): boolean {
  const traced = t.traced!
  if (traced.exiting || !traced.wants(EVENT_EXIT)) return false
  traced.exiting = true
  eventStop(t, EVENT_EXIT, status)
  return true
}

/** PTRACE_EVENT_EXIT before a signal ends the process; true: it goes on by itself. */
export function fatalStop(t: Task, status: number): boolean {
  const traced = t.traced!
  if (traced.exiting || !traced.wants(EVENT_EXIT)) return false
  traced.exiting = true
  traced.message = status
  t.signals.afterStatus = status
  trap(t, SIGTRAP, SIGTRAP | (EVENT_EXIT << 8), AFTER_FATAL)
  return true
}

/** Signal-delivery-stop. The rest as in returnToGuest(). */
export function signalStop(t: Task, info: SigInfo, ret: number, inSyscall: boolean, native: boolean): void {
  showResult(t, ret, inSyscall, native)
  stop(t, info.signo, info, CLD_TRAPPED, AFTER_SIGNAL)
}

/** The first instruction of a handler, for who steps. */
export function handlerStop(t: Task): void {
  showResult(t, 0, false, false)
  trap(t, SIGTRAP, SIGTRAP, AFTER_RETURN)
}

function stopForGroup(t: Task, ret: number, inSyscall: boolean, native: boolean): void {
  const traced = t.traced!
  const { signals } = t.group
  traced.groupTrap = false
  traced.trapPending = false
  showResult(t, ret, inSyscall, native)
  if (traced.seized) trap(t, signals.stopSignal, signals.stopSignal | (EVENT_STOP << 8), AFTER_RETURN)
  else stop(t, signals.stopSignal, null, CLD_STOPPED, AFTER_RETURN)
  stopCompleted(t.group)
}

/** Group-stop and PTRACE_EVENT_STOP, on the way to guest code; true: it stopped. */
export function pendingStop(t: Task, ret: number, inSyscall: boolean, native: boolean): boolean {
  const traced = t.traced!
  if (!traced.pending) return false
  if (t.group.signals.stopped) stopForGroup(t, ret, inSyscall, native)
  else {
    const stops = traced.trapPending
    traced.groupTrap = false
    traced.trapPending = false
    recalcPending(t)
    if (!stops) return false
    showResult(t, ret, inSyscall, native)
    trap(t, SIGTRAP, SIGTRAP | (EVENT_STOP << 8), AFTER_RETURN)
  }
  return true
}

/** Makes a seized tracee stop with PTRACE_EVENT_STOP soon: PTRACE_INTERRUPT, and the end of a group-stop. */
export function requestStop(t: Task): void {
  const traced = t.traced!
  traced.trapPending = true
  t.signalPending = true
  if (t.state === TRACED) {
    if (!traced.listening) return
    const { signals } = t.group
    traced.trapPending = false
    const signo = signals.stopped ? signals.stopSignal : SIGTRAP
    trap(t, signo, signo | (EVENT_STOP << 8), t.signals.after)
  } else wakeForSignal(t)
}

// ---- going on ------------------------------------------------------------------------------------------------------

/** The signal that a resumed tracee gets, 0 = none: only some stops take one. */
function passSignal(t: Task, signo: number): void {
  const s = t.signals
  const traced = t.traced!
  if (s.after === AFTER_SIGNAL && signo !== 0) {
    let info = traced.info!
    if (info.signo !== signo) info = userInfo(traced.tracer, signo)
    if (s.blocked.has(signo)) sendToTask(t, info, true)
    else s.injected = info
    t.signalPending = true
  } else if ((s.after === AFTER_ENTRY || s.after === AFTER_EXIT) && signo !== 0) {
    sendToTask(t, makeInfo(signo, SI_KERNEL), true)
  }
}

/** PTRACE_CONT and its like: `signo` is delivered where the stop was a signal's. Precondition: TRACED. */
export function resumeTracee(t: Task, mode: number, signo: number): void {
  const traced = t.traced!
  passSignal(t, signo)
  traced.mode = mode
  traced.code = 0
  traced.info = null
  t.kernel.goOn(t)
}

/** The kernel's turn of a task that {@link resumeTracee} or {@link detach} has sent on. */
export function continueTracee(t: Task): void {
  const s = t.signals
  const { kernel } = t
  const after = s.after
  s.after = AFTER_NOTHING
  // Signals that came meanwhile woke nobody.
  recalcPending(t)
  switch (after) {
    case AFTER_EVENT:
      kernel.dispatch(t)
      return
    case AFTER_ENTRY:
    case AFTER_SECCOMP:
      continueCall(t, after === AFTER_SECCOMP)
      return
    case AFTER_DONE:
      kernel.finish(t, NO_RESULT)
      return
    case AFTER_FATAL:
      exitGroup(t.group, s.afterStatus)
      exitTask(t, t.group.exitStatus)
      return
    default:
      returnFromStop(t)
  }
}

/** In ORIG_RAX: not in a call, or none to be made. Only the low half counts, as in Linux's syscall_get_nr(). */
const NO_CALL = -1

/** The call may have become another one, or none. */
function continueCall(t: Task, asked: boolean): void {
  const { regs, kernel } = t
  t.sysno = regs[ORIG_RAX]! | 0
  if (t.sysno === NO_CALL || (asked && t.sysno < 0)) {
    kernel.finish(t, NO_RESULT)
    return
  }
  kernel.enterCall(t, asked)
}

/** Back to guest code with what the tracer left in the registers. */
function returnFromStop(t: Task): void {
  const { regs, kernel } = t
  const ret = regs[RAX]! - TWO32
  if (t.signals.afterNative) kernel.resume(t, 0, false)
  else if ((regs[ORIG_RAX]! | 0) !== NO_CALL && regs[RAX + 1] === 0xffffffff && isRestart(ret)) {
    t.sysno = regs[ORIG_RAX]! | 0
    kernel.resume(t, ret, true)
  } else {
    setReg(regs, ORIG_RAX, NO_CALL)
    kernel.resume(t, 0, false)
  }
}
