/**
 * Masks, actions and waiting: rt_sigaction, rt_sigprocmask, rt_sigpending, rt_sigsuspend, rt_sigtimedwait, rt_sigreturn,
 * sigaltstack, pause, restart_syscall.
 */
import { EAGAIN, EFAULT, EINTR, EINVAL, ENOMEM, EPERM } from '../sentry/abi/errno.ts'
import {
  ACTION_IGNORE,
  defaultAction,
  SIG_BLOCK,
  SIG_SETMASK,
  SIG_UNBLOCK,
  SIGKILL,
  SIGSTOP,
  SS_AUTODISARM,
  UNBLOCKABLE_MASK,
} from '../sentry/abi/signal.ts'
import {
  ALT_BUSY,
  ALT_INVALID,
  ALT_SET,
  ALT_SMALL,
  altStackState,
  popSignalFrame,
  setAltStack,
} from '../sentry/kernel/amd64/signal-frame.ts'
import { encodeSigInfo, SIGINFO_SIZE } from '../sentry/kernel/siginfo.ts'
import { dequeueSignal, discardIgnored, setBlocked, setTemporaryMask } from '../sentry/kernel/signal.ts'
import { ACTION_WORDS, NSIG, SIG_DFL, SIG_IGN } from '../sentry/kernel/signal-actions.ts'
import { badFrame } from '../sentry/kernel/signal-delivery.ts'
import { ERESTARTNOHAND, NO_RESULT, type SysRet } from '../sentry/kernel/sysret.ts'
import { NEVER, type Task } from '../sentry/kernel/task.ts'
import { getReg, RSP } from '../sentry/platform/amd64/registers.ts'
import { firstRun, readTimespecNs } from './wait-args.ts'

const SIGSET_SIZE = 8
const EPOLLIN = 1
const TWO32 = 0x1_0000_0000
const NEW_ACTION = new Uint32Array(ACTION_WORDS)
const NEW_ACTION_BYTES = new Uint8Array(NEW_ACTION.buffer)
const OLD_ACTION = new Uint32Array(ACTION_WORDS)
const OLD_ACTION_BYTES = new Uint8Array(OLD_ACTION.buffer)

/** rt_sigaction(2). */
export function sysRtSigaction(t: Task): SysRet {
  const sig = t.argI32(0)
  const actAddr = t.argPtr(1)
  const oldAddr = t.argPtr(2)
  if (t.argPtr(3) !== SIGSET_SIZE) return -EINVAL
  if (actAddr !== 0 && t.readBytes(actAddr, NEW_ACTION_BYTES) < 0) return -EFAULT
  if (sig < 1 || sig > NSIG || (actAddr !== 0 && (sig === SIGKILL || sig === SIGSTOP))) return -EINVAL
  const { actions } = t.group.signals
  if (oldAddr !== 0) actions.read(sig, OLD_ACTION)
  if (actAddr !== 0) {
    actions.write(sig, NEW_ACTION)
    const handler = actions.handler(sig)
    if (handler === SIG_IGN || (handler === SIG_DFL && defaultAction(sig) === ACTION_IGNORE)) {
      discardIgnored(t.group, sig)
    }
  }
  actions.tell(t)
  return oldAddr === 0 ? 0 : t.writeBytes(oldAddr, OLD_ACTION_BYTES)
}

const SET = new Uint32Array(2)
const SET_BYTES = new Uint8Array(SET.buffer)

/** rt_sigprocmask(2). */
export function sysRtSigprocmask(t: Task): SysRet {
  const how = t.argI32(0)
  const setAddr = t.argPtr(1)
  const oldAddr = t.argPtr(2)
  if (t.argPtr(3) !== SIGSET_SIZE) return -EINVAL
  const blocked = t.signals.blocked
  const oldLo = blocked.lo
  const oldHi = blocked.hi
  if (setAddr !== 0) {
    if (t.readBytes(setAddr, SET_BYTES) < 0) return -EFAULT
    const lo = SET[0]!
    const hi = SET[1]!
    if (how === SIG_BLOCK) setBlocked(t, oldLo | lo, oldHi | hi)
    else if (how === SIG_UNBLOCK) setBlocked(t, oldLo & ~lo, oldHi & ~hi)
    else if (how === SIG_SETMASK) setBlocked(t, lo, hi)
    else return -EINVAL
  }
  if (oldAddr === 0) return 0
  SET[0] = oldLo
  SET[1] = oldHi
  return t.writeBytes(oldAddr, SET_BYTES)
}

/** rt_sigpending(2). */
export function sysRtSigpending(t: Task): SysRet {
  const size = t.argPtr(1)
  if (size > SIGSET_SIZE) return -EINVAL
  const own = t.signals.pending.set
  const shared = t.group.signals.pending.set
  const blocked = t.signals.blocked
  SET[0] = (own.lo | shared.lo) & blocked.lo
  SET[1] = (own.hi | shared.hi) & blocked.hi
  return t.writeBytes(t.argPtr(0), SET_BYTES, size)
}

/** rt_sigsuspend(2). */
export function sysRtSigsuspend(t: Task): SysRet {
  if (t.argPtr(1) !== SIGSET_SIZE) return -EINVAL
  if (!t.signals.hasSavedMask) {
    if (t.readBytes(t.argPtr(0), SET_BYTES) < 0) return -EFAULT
    setTemporaryMask(t, SET[0]!, SET[1]!)
  }
  return t.waitOn(null, 0, ERESTARTNOHAND)
}

/** pause(2). */
export function sysPause(t: Task): SysRet {
  return t.waitOn(null, 0, ERESTARTNOHAND)
}

const INFO = new Uint8Array(SIGINFO_SIZE)

/** rt_sigtimedwait(2). */
export function sysRtSigtimedwait(t: Task): SysRet {
  const infoAddr = t.argPtr(1)
  const timeAddr = t.argPtr(2)
  if (t.argPtr(3) !== SIGSET_SIZE) return -EINVAL
  if (t.readBytes(t.argPtr(0), SET_BYTES) < 0) return -EFAULT
  const lo = (SET[0]! & ~UNBLOCKABLE_MASK) >>> 0
  const hi = SET[1]!
  if (firstRun(t)) {
    const ns = timeAddr === 0 ? NEVER : readTimespecNs(t, timeAddr)
    if (ns < 0) return ns
    t.deadlineIn(ns)
  }
  const info = dequeueSignal(t, ~lo, ~hi)
  if (info !== null) {
    if (infoAddr !== 0) {
      encodeSigInfo(info, INFO, 0)
      if (t.writeBytes(infoAddr, INFO) < 0) return -EFAULT
    }
    return info.signo
  }
  if (t.timedOut) return -EAGAIN
  return t.waitOn(t.group.signals.signalWait, EPOLLIN, EINTR)
}

/** rt_sigreturn(2). */
export function sysRtSigreturn(t: Task): SysRet {
  if (!popSignalFrame(t)) badFrame(t)
  return NO_RESULT
}

const STACK = new Uint8Array(24)
const STACK_VIEW = new DataView(STACK.buffer)

/** sigaltstack(2). */
export function sysSigaltstack(t: Task): SysRet {
  const newAddr = t.argPtr(0)
  const oldAddr = t.argPtr(1)
  const sp = getReg(t.regs, RSP)
  const s = t.signals
  const oldSp = s.altSp
  const oldSize = s.altSize
  const oldFlags = (altStackState(t, sp) | (s.altFlags & SS_AUTODISARM)) >>> 0
  if (newAddr !== 0) {
    if (t.readBytes(newAddr, STACK) < 0) return -EFAULT
    const stack = STACK_VIEW.getUint32(0, true) + STACK_VIEW.getUint32(4, true) * TWO32
    const flags = STACK_VIEW.getUint32(8, true)
    const size = STACK_VIEW.getUint32(16, true) + STACK_VIEW.getUint32(20, true) * TWO32
    const result = setAltStack(t, stack, flags, size, sp)
    if (result !== ALT_SET) return ALT_ERRORS[result]!
  }
  if (oldAddr === 0) return 0
  STACK_VIEW.setUint32(0, oldSp >>> 0, true)
  STACK_VIEW.setUint32(4, Math.floor(oldSp / TWO32) >>> 0, true)
  STACK_VIEW.setUint32(8, oldFlags, true)
  STACK_VIEW.setUint32(12, 0, true)
  STACK_VIEW.setUint32(16, oldSize >>> 0, true)
  STACK_VIEW.setUint32(20, Math.floor(oldSize / TWO32) >>> 0, true)
  return t.writeBytes(oldAddr, STACK)
}
const ALT_ERRORS: number[] = []
ALT_ERRORS[ALT_BUSY] = -EPERM
ALT_ERRORS[ALT_INVALID] = -EINVAL
ALT_ERRORS[ALT_SMALL] = -ENOMEM

/**
 * restart_syscall(2): goes on with a call that a stop interrupted, with the deadline and state it had. The arguments are
 * still in the registers; later retries go straight to the call.
 */
export function sysRestartSyscall(t: Task): SysRet {
  const nr = t.restartSysno
  t.restartSysno = -1
  const handler = nr < 0 ? null : (t.kernel.handlers[nr] ?? null)
  if (handler === null) return -EINTR
  t.sysno = nr
  t.deadline = t.signals.restartDeadline
  t.sysState = t.signals.restartState
  t.signals.restartState = null
  return handler(t)
}
