/**
 * ptrace(2): the requests. What they act on is in sentry/kernel/ptrace.ts.
 */
import { EFAULT, EINVAL, EIO, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import { SIGKILL } from '../sentry/abi/signal.ts'
import { peekUser, pokeUser, putUserRegs, USER_REGS_SIZE } from '../sentry/kernel/amd64/user-regs.ts'
import {
  attach,
  detach,
  EVENT_SECCOMP,
  EVENT_STOP,
  link,
  MESSAGE_ENTRY,
  MODE_CONT,
  MODE_STEP,
  MODE_SYSCALL,
  MODE_SYSEMU,
  MODE_SYSEMU_STEP,
  PTRACE_O_MASK,
  requestStop,
  resumeTracee,
  type Tracing,
} from '../sentry/kernel/ptrace.ts'
import { ptraceAccess } from '../sentry/kernel/ptrace-access.ts'
import { decodeSigInfo, encodeSigInfo, SIGINFO_SIZE } from '../sentry/kernel/siginfo.ts'
import { sendToTask, setBlocked, userInfo } from '../sentry/kernel/signal.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import { DEAD, type Task, TRACED } from '../sentry/kernel/task.ts'
import { readForced, writeForced } from '../sentry/mm/forced-access.ts'
import { ARG, ORIG_RAX, RAX, RIP, RSP } from '../sentry/platform/amd64/registers.ts'

const PTRACE_TRACEME = 0
const PTRACE_PEEKTEXT = 1
const PTRACE_PEEKDATA = 2
const PTRACE_PEEKUSR = 3
const PTRACE_POKETEXT = 4
const PTRACE_POKEDATA = 5
const PTRACE_POKEUSR = 6
const PTRACE_CONT = 7
const PTRACE_KILL = 8
const PTRACE_SINGLESTEP = 9
const PTRACE_GETREGS = 12
const PTRACE_SETREGS = 13
const PTRACE_GETFPREGS = 14
const PTRACE_SETFPREGS = 15
const PTRACE_ATTACH = 16
const PTRACE_DETACH = 17
const PTRACE_SYSCALL = 24
const PTRACE_SYSEMU = 31
const PTRACE_SYSEMU_SINGLESTEP = 32
const PTRACE_SETOPTIONS = 0x4200
const PTRACE_GETEVENTMSG = 0x4201
const PTRACE_GETSIGINFO = 0x4202
const PTRACE_SETSIGINFO = 0x4203
const PTRACE_GETREGSET = 0x4204
const PTRACE_SETREGSET = 0x4205
const PTRACE_SEIZE = 0x4206
const PTRACE_INTERRUPT = 0x4207
const PTRACE_LISTEN = 0x4208
const PTRACE_GETSIGMASK = 0x420a
const PTRACE_SETSIGMASK = 0x420b
const PTRACE_GET_SYSCALL_INFO = 0x420e

/** Requests that let the tracee go on. */
const MODES = new Map([
  [PTRACE_CONT, MODE_CONT],
  [PTRACE_SYSCALL, MODE_SYSCALL],
  [PTRACE_SINGLESTEP, MODE_STEP],
  [PTRACE_SYSEMU, MODE_SYSEMU],
  [PTRACE_SYSEMU_SINGLESTEP, MODE_SYSEMU_STEP],
])

/* Register sets, by ELF note type. */
const NT_PRSTATUS = 1
const NT_PRFPREG = 2
const NT_X86_XSTATE = 0x202
const FXSAVE_SIZE = 512

const TWO32 = 0x1_0000_0000
const WORD = new Uint32Array(2)
const WORD_BYTES = new Uint8Array(WORD.buffer)
const REGS = new Uint32Array(USER_REGS_SIZE / 4)
const REGS_BYTES = new Uint8Array(REGS.buffer)
const FPU = new Uint8Array(16384)
const INFO = new Uint8Array(SIGINFO_SIZE)
const INFO_VIEW = new DataView(INFO.buffer)
const VECTOR = new Uint32Array(4)
const VECTOR_BYTES = new Uint8Array(VECTOR.buffer)

/** ptrace(2). */
export function sysPtrace(t: Task): SysRet {
  const request = t.argPtr(0)
  if (request === PTRACE_TRACEME) return traceMe(t)
  const target = t.kernel.ids.task(t.argI32(1))
  if (target === undefined) return -ESRCH
  if (request === PTRACE_ATTACH || request === PTRACE_SEIZE) return attachTo(t, target, request === PTRACE_SEIZE)
  const { traced } = target
  if (traced === null || traced.tracer !== t || target.state === DEAD) return -ESRCH
  if (request === PTRACE_KILL) {
    sendToTask(target, userInfo(t, SIGKILL), true)
    return 0
  }
  if (request === PTRACE_INTERRUPT) {
    if (!traced.seized) return -EIO
    requestStop(target)
    return 0
  }
  if (target.state !== TRACED || traced.listening) return -ESRCH
  const mode = MODES.get(request)
  if (mode !== undefined || request === PTRACE_DETACH) {
    const signo = t.argPtr(3)
    if (signo > 64) return -EIO
    if (mode === undefined) detach(target, signo)
    else resumeTracee(target, mode, signo)
    return 0
  }
  return inspect(t, request, target, traced)
}

/** PTRACE_TRACEME: the parent's thread that made the caller traces it. */
function traceMe(t: Task): SysRet {
  const { parent } = t.group
  if (t.traced !== null || parent === null) return -EPERM
  if (parent.zombie || parent.exitStatus >= 0) return 0
  const maker = t.kernel.ids.task(t.group.makerTid)
  const tracer = maker !== undefined && maker.group === parent && maker.state !== DEAD ? maker : parent.tasks[0]!
  if (ptraceAccess(tracer, t, false) < 0) return -EPERM
  link(tracer, t, false, 0)
  return 0
}

function attachTo(t: Task, target: Task, seize: boolean): SysRet {
  const options = t.argPtr(3)
  if (seize && (t.argPtr(2) !== 0 || !validOptions(options))) return -EIO
  if (target.group === t.group) return -EPERM
  if (ptraceAccess(t, target, false) < 0) return -EPERM
  if (target.state === DEAD || target.group.zombie || target.traced !== null) return -EPERM
  attach(t, target, seize, seize ? options : 0)
  return 0
}

const validOptions = (options: number): boolean => options < TWO32 && (options & ~PTRACE_O_MASK) === 0

/** What needs a stopped tracee and leaves it so. */
function inspect(t: Task, request: number, target: Task, traced: Tracing): SysRet {
  const addr = t.argPtr(2)
  const data = t.argPtr(3)
  const { regs } = target
  target.thread.wholeRegs()
  switch (request) {
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA:
      if (readForced(t, target.mm, addr, WORD_BYTES, 0, 8) !== 8) return -EIO
      return t.writeBytes(data, WORD_BYTES)
    case PTRACE_POKETEXT:
    case PTRACE_POKEDATA:
      setWord(t)
      return writeForced(t, target.mm, addr, WORD_BYTES, 0, 8) === 8 ? 0 : -EIO
    case PTRACE_PEEKUSR: {
      const err = peekUser(regs, addr, WORD)
      return err < 0 ? err : t.writeBytes(data, WORD_BYTES)
    }
    case PTRACE_POKEUSR:
      setWord(t)
      return pokeUser(regs, addr, WORD[0]!, WORD[1]!)
    case PTRACE_GETREGS:
      REGS.set(regs)
      return t.writeBytes(data, REGS_BYTES)
    case PTRACE_SETREGS:
      if (t.readBytes(data, REGS_BYTES) < 0) return -EFAULT
      return putUserRegs(regs, REGS, REGS.length)
    case PTRACE_GETFPREGS:
      return target.thread.readFpu(FPU) < 0 ? -EIO : t.writeBytes(data, FPU, FXSAVE_SIZE)
    case PTRACE_SETFPREGS:
      return setFpu(t, target, data, FXSAVE_SIZE)
    case PTRACE_GETREGSET:
    case PTRACE_SETREGSET:
      return registerSet(t, target, request === PTRACE_SETREGSET, addr, data)
    case PTRACE_SETOPTIONS:
      if (!validOptions(data)) return -EINVAL
      traced.options = data
      return 0
    case PTRACE_GETEVENTMSG:
      return t.writeU64(data, traced.message)
    case PTRACE_GETSIGINFO:
      if (traced.info === null) return -EINVAL
      encodeSigInfo(traced.info, INFO, 0)
      return t.writeBytes(data, INFO)
    case PTRACE_SETSIGINFO:
      if (t.readBytes(data, INFO) < 0) return -EFAULT
      if (traced.info === null) return -EINVAL
      traced.info = decodeSigInfo(INFO, INFO_VIEW.getInt32(0, true))
      return 0
    case PTRACE_LISTEN:
      if (!traced.seized || traced.info === null || traced.info.code >> 8 !== EVENT_STOP) return -EIO
      traced.listening = true
      if (traced.trapPending) requestStop(target)
      return 0
    case PTRACE_GETSIGMASK:
    case PTRACE_SETSIGMASK:
      return signalMask(t, target, request === PTRACE_SETSIGMASK, addr, data)
    case PTRACE_GET_SYSCALL_INFO:
      return syscallInfo(t, target, traced, addr, data)
    default:
      return -EIO
  }
}

/** The word in the caller's `data` argument. */
function setWord(t: Task): void {
  const at = ARG[3]!
  WORD[0] = t.regs[at]!
  WORD[1] = t.regs[at + 1]!
}

/** The first `len` bytes of the XSAVE area; the rest stays. */
function setFpu(t: Task, target: Task, addr: number, len: number): SysRet {
  const size = target.thread.readFpu(FPU)
  if (size < 0) return -EIO
  if (t.readBytes(addr, FPU, len) < 0) return -EFAULT
  const ret = target.thread.writeFpu(FPU, size)
  return ret < 0 ? -EINVAL : 0
}

/** PTRACE_GETREGSET, PTRACE_SETREGSET: `data` is a struct iovec, whose length becomes what was moved. */
function registerSet(t: Task, target: Task, set: boolean, type: number, data: number): SysRet {
  if (t.readBytes(data, VECTOR_BYTES) < 0) return -EFAULT
  const base = VECTOR[0]! + VECTOR[1]! * TWO32
  const wanted = VECTOR[2]! + VECTOR[3]! * TWO32
  const general = type === NT_PRSTATUS
  if (!general && type !== NT_PRFPREG && type !== NT_X86_XSTATE) return -EINVAL
  const word = type === NT_PRFPREG ? 4 : 8
  if (wanted % word !== 0) return -EINVAL
  const whole = general ? USER_REGS_SIZE : type === NT_PRFPREG ? FXSAVE_SIZE : target.thread.readFpu(FPU)
  if (whole < 0) return -EIO
  // Extended state is only taken whole.
  if (set && type === NT_X86_XSTATE && wanted < whole) return -EFAULT
  const len = Math.min(wanted, whole)
  let ret = 0
  if (!general) ret = set ? setFpu(t, target, base, len) : getFpu(t, target, base, len)
  else if (set) {
    if (t.readBytes(base, REGS_BYTES, len) < 0) return -EFAULT
    ret = putUserRegs(target.regs, REGS, len / 4)
  } else {
    REGS.set(target.regs)
    ret = t.writeBytes(base, REGS_BYTES, len)
  }
  return ret < 0 ? ret : t.writeU64(data + 8, len)
}

function getFpu(t: Task, target: Task, addr: number, len: number): SysRet {
  return target.thread.readFpu(FPU) < 0 ? -EIO : t.writeBytes(addr, FPU, len)
}

function signalMask(t: Task, target: Task, set: boolean, size: number, addr: number): SysRet {
  if (size !== 8) return -EINVAL
  const s = target.signals
  const { blocked } = s
  if (!set) {
    const shown = s.hasSavedMask ? s.savedMask : blocked
    WORD[0] = shown.lo
    WORD[1] = shown.hi
    return t.writeBytes(addr, WORD_BYTES)
  }
  if (t.readBytes(addr, WORD_BYTES) < 0) return -EFAULT
  setBlocked(target, WORD[0]!, WORD[1]!)
  return 0
}

/* struct ptrace_syscall_info */
const SYSCALL_INFO = new Uint8Array(88)
const SYSCALL_INFO_VIEW = new DataView(SYSCALL_INFO.buffer)
const AUDIT_ARCH_X86_64 = 0xc000003e
const INFO_ENTRY = 1
const INFO_EXIT = 2
const INFO_SECCOMP = 3
const HEAD = 24
const EXIT_SIZE = 33
const ENTRY_SIZE = 80
const SECCOMP_SIZE = 84
const SYSCALL_STOP = 0x85
const SECCOMP_STOP = 5 | (EVENT_SECCOMP << 8)

/** PTRACE_GET_SYSCALL_INFO: `size` bytes of the struct are wanted; returns how many there are. */
function syscallInfo(t: Task, target: Task, traced: Tracing, size: number, addr: number): SysRet {
  const { regs } = target
  const v = SYSCALL_INFO_VIEW
  const putReg = (at: number, reg: number): void => {
    v.setUint32(at, regs[reg]!, true)
    v.setUint32(at + 4, regs[reg + 1]!, true)
  }
  SYSCALL_INFO.fill(0)
  v.setUint32(4, AUDIT_ARCH_X86_64, true)
  putReg(8, RIP)
  putReg(16, RSP)
  const code = traced.info === null ? 0 : traced.info.code
  let length = HEAD
  if (code === SECCOMP_STOP || (code === SYSCALL_STOP && traced.message === MESSAGE_ENTRY)) {
    SYSCALL_INFO[0] = code === SECCOMP_STOP ? INFO_SECCOMP : INFO_ENTRY
    putReg(HEAD, ORIG_RAX)
    ARG.forEach((reg, i) => {
      putReg(HEAD + 8 + 8 * i, reg)
    })
    if (code === SECCOMP_STOP) v.setUint32(ENTRY_SIZE, traced.message, true)
    length = code === SECCOMP_STOP ? SECCOMP_SIZE : ENTRY_SIZE
  } else if (code === SYSCALL_STOP) {
    SYSCALL_INFO[0] = INFO_EXIT
    putReg(HEAD, RAX)
    const failed = regs[RAX + 1] === 0xffffffff && regs[RAX]! >= 0xfffff001
    SYSCALL_INFO[HEAD + 8] = failed ? 1 : 0
    length = EXIT_SIZE
  }
  return t.writeBytes(addr, SYSCALL_INFO, Math.min(size, length)) < 0 ? -EFAULT : length
}
