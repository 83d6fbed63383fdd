/**
 * The way back to guest code: results, restarts, and what a pending signal does (Linux: exit_to_user_mode_loop,
 * get_signal, arch_do_signal_or_restart).
 *
 * A native host call (futex) that was interrupted has its number in ORIG_RAX and a restart code in RAX: untouched, the
 * host restarts it (a relative timeout starts anew, but glibc's are absolute); when a handler runs, the rules are applied here. In every other case ORIG_RAX is −1 when the thread
 * resumes, so that the host never restarts anything.
 */
import { EINTR } from '../abi/errno.ts'
import {
  ACTION_CORE,
  ACTION_IGNORE,
  ACTION_STOP,
  defaultAction,
  SA_NODEFER,
  SA_RESETHAND,
  SA_RESTART,
  SEGV_MAPERR,
  SI_KERNEL,
  SIGKILL,
  SIGSEGV,
  SIGSTOP,
  SS_AUTODISARM,
  SS_DISABLE,
} from '../abi/signal.ts'
import { ORIG_RAX, RAX, RIP } from '../platform/amd64/registers.ts'
import { pushSignalFrame } from './amd64/signal-frame.ts'
import { exitGroup, exitTask } from './exit.ts'
import { beginGroupStop, isOrphaned, stopTask } from './job-control.ts'
import { fatalStop, handlerStop, pendingStop, signalStop } from './ptrace.ts'
import { makeInfo } from './siginfo.ts'
import { dequeueSignal, forceSignal, recalcPending, restoreSavedMask, setBlocked } from './signal.ts'
import { SIG_DFL, SIG_IGN, type SigAction } from './signal-actions.ts'
import type { SigInfo } from './signal-state.ts'
import { ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS, isRestart, type SysRet } from './sysret.ts'
import type { Task } from './task.ts'

const TWO32 = 0x1_0000_0000
const SYS_RESTART_SYSCALL = 219
/** Length of the syscall instruction. */
const SYSCALL_SIZE = 2

function setResult(regs: Uint32Array, ret: number): void {
  regs[RAX] = ret >>> 0
  regs[RAX + 1] = ret < 0 ? 0xffffffff : Math.floor(ret / TWO32)
  regs[ORIG_RAX] = 0xffffffff
  regs[ORIG_RAX + 1] = 0xffffffff
}

/**
 * Stores the call's result (where `inSyscall`) and delivers what is pending. False: the task must not resume (it is
 * dead, or stopped and will come back by itself).
 */
export function returnToGuest(t: Task, ret: SysRet, inSyscall: boolean): boolean {
  if (inSyscall && !t.signalPending && !t.signals.hasSavedMask && !isRestart(ret)) {
    setResult(t.regs, ret)
    return true
  }
  return slowReturn(t, ret, inSyscall)
}

function slowReturn(t: Task, result: SysRet, fromSyscall: boolean): boolean {
  const regs = t.regs
  let ret = result
  let inSyscall = fromSyscall
  // An interrupted native call: from here on like one of ours.
  let native = false
  if (!inSyscall && regs[ORIG_RAX + 1] === 0 && regs[RAX + 1] === 0xffffffff && isRestart(regs[RAX]! - TWO32)) {
    native = true
    inSyscall = true
    ret = regs[RAX]! - TWO32
  }
  // A call that succeeded in spite of a signal: the signal is judged by the mask of before.
  if (inSyscall && !isRestart(ret) && ret !== -EINTR) restoreSavedMask(t)

  while (t.signalPending) {
    const group = t.group
    if (group.exitStatus >= 0) {
      exitTask(t, group.exitStatus)
      return false
    }
    if (t.traced !== null) {
      if (pendingStop(t, ret, inSyscall, native)) return false
    } else if (group.signals.stopped) {
      // Native results stay in the registers.
      stopTask(t, native ? 0 : ret, native ? false : inSyscall)
      return false
    }
    const { blocked, injected } = t.signals
    const info = injected ?? dequeueSignal(t, blocked.lo, blocked.hi)
    if (info === null) break
    if (injected !== null) {
      t.signals.injected = null
      recalcPending(t)
    } else if (t.traced !== null && info.signo !== SIGKILL) {
      signalStop(t, info, ret, inSyscall, native)
      return false
    }
    const sig = info.signo
    const action = group.signals.actions.get(sig)
    if (action.handler === SIG_IGN) continue
    if (action.handler !== SIG_DFL) {
      if (inSyscall) {
        finishCall(t, ret, action, native)
        inSyscall = false
        native = false
      }
      deliver(t, info, action)
      if (t.traced?.steps) {
        handlerStop(t)
        return false
      }
      continue
    }
    const kind = defaultAction(sig)
    if (kind === ACTION_IGNORE) continue
    if (group.signals.unkillable && sig !== SIGKILL && sig !== SIGSTOP) continue
    if (kind === ACTION_STOP) {
      if (sig !== SIGSTOP && isOrphaned(group.pgrp)) continue
      beginGroupStop(t, sig)
      continue
    }
    const status = kind === ACTION_CORE ? sig | coreFlag(t) : sig
    if (t.traced !== null && fatalStop(t, status)) return false
    exitGroup(group, status)
  }

  if (inSyscall && isRestart(ret)) {
    if (!native) restart(t, ret)
    else if (ret === -ERESTART_RESTARTBLOCK) {
      // The host would use restart_syscall(2), which the guest may not make natively.
      setResult(regs, regs[ORIG_RAX]!)
      rewind(regs)
    }
  } else if (inSyscall) {
    setResult(regs, ret)
  } else if (!native) {
    regs[ORIG_RAX] = 0xffffffff
    regs[ORIG_RAX + 1] = 0xffffffff
  }
  restoreSavedMask(t)
  // Unblocking may have made one deliverable.
  if (t.signalPending) return slowReturn(t, 0, false)
  return true
}

/** Linux sets 0x80 only when a dump was written; the sentry writes none. */
function coreFlag(_t: Task): number {
  return 0
}

/** No handler runs: go back to the instruction before, as Linux does. */
function restart(t: Task, ret: number): void {
  const regs = t.regs
  let nr = t.sysno
  if (ret === -ERESTART_RESTARTBLOCK) {
    t.restartSysno = t.sysno
    t.signals.restartDeadline = t.deadline
    t.signals.restartState = t.sysState
    nr = SYS_RESTART_SYSCALL
  }
  setResult(regs, nr)
  rewind(regs)
}

function rewind(regs: Uint32Array): void {
  const low = regs[RIP]!
  regs[RIP] = low - SYSCALL_SIZE
  if (low < SYSCALL_SIZE) regs[RIP + 1]!--
}

/** A handler runs: the call ends with its result, or is to be made again after the handler. */
function finishCall(t: Task, ret: number, action: SigAction, native: boolean): void {
  const regs = t.regs
  const nr = native ? regs[ORIG_RAX]! : t.sysno
  t.restartSysno = -1
  if (ret === -ERESTARTNOINTR || (ret === -ERESTARTSYS && (action.flags & SA_RESTART) !== 0)) {
    setResult(regs, nr)
    rewind(regs)
  } else if (ret === -ERESTARTSYS || ret === -ERESTARTNOHAND || ret === -ERESTART_RESTARTBLOCK) {
    setResult(regs, -EINTR)
  } else {
    setResult(regs, ret)
  }
}

/** Runs a handler: its frame, its mask. Linux: handle_signal, signal_delivered. */
function deliver(t: Task, info: SigInfo, action: SigAction): void {
  const s = t.signals
  const sig = info.signo
  const mask = s.hasSavedMask ? s.savedMask : s.blocked
  // SA_RESETHAND takes effect before the handler runs; the frame needs the old values.
  const { handler, flags, restorer, maskLo, maskHi } = action
  if (flags & SA_RESETHAND) t.group.signals.actions.setHandler(sig, SIG_DFL)
  if (!pushSignalFrame(t, info, handler, flags, restorer, mask.lo, mask.hi)) {
    forceSegv(t, sig)
    return
  }
  s.hasSavedMask = false
  let lo = s.blocked.lo | maskLo
  let hi = s.blocked.hi | maskHi
  if ((flags & SA_NODEFER) === 0) {
    if (sig <= 32) lo |= 1 << (sig - 1)
    else hi |= 1 << (sig - 33)
  }
  setBlocked(t, lo, hi)
  recalcPending(t)
  if (s.altFlags & (SS_AUTODISARM | 0)) {
    s.altSp = 0
    s.altSize = 0
    s.altFlags = SS_DISABLE
  }
}

/** The frame could not be written. A failing SIGSEGV handler is not tried again. */
function forceSegv(t: Task, sig: number): void {
  forceSignal(t, makeInfo(SIGSEGV, SI_KERNEL), sig === SIGSEGV)
}

/** Ends the call with SIGSEGV because the guest's frame for rt_sigreturn is bad. */
export function badFrame(t: Task): void {
  forceSignal(t, makeInfo(SIGSEGV, SI_KERNEL))
}

/** A synchronous exception of guest code becomes a signal that cannot be refused. */
export function deliverFault(t: Task): void {
  const thread = t.thread
  const s = t.signals
  s.trapno = thread.trapno
  s.errorCode = thread.errorCode
  if (thread.signo === SIGSEGV && thread.code > 0 && thread.code < SI_KERNEL) {
    s.cr2Lo = thread.faultAddrLo
    s.cr2Hi = thread.faultAddrHi
  }
  const info = makeInfo(thread.signo, thread.code === 0 ? SEGV_MAPERR : thread.code)
  info.valueLo = thread.faultAddrLo
  info.valueHi = thread.faultAddrHi
  forceSignal(t, info)
}
