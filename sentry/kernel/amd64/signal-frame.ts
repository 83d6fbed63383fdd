/**
 * The signal frame of x86-64 (Linux: struct rt_sigframe, arch/x86/kernel/signal_64.c, uapi asm/sigcontext.h).
 *
 * From the stack pointer up: return address (the restorer), ucontext, siginfo, then the XSAVE area, 64-byte aligned,
 * with its magic numbers. Everything rt_sigreturn reads back is the guest's to forge: segments and flags are sanitised,
 * and the host checks the FPU state once more.
 */
import { SA_ONSTACK, SA_RESTORER, SA_SIGINFO, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK } from '../../abi/signal.ts'
import { getU64, put64 } from '../../abi/words.ts'
import {
  CS,
  EFLAGS,
  getReg,
  ORIG_RAX,
  R8,
  R9,
  R10,
  R11,
  R12,
  R13,
  R14,
  R15,
  RAX,
  RBP,
  RBX,
  RCX,
  RDI,
  RDX,
  RIP,
  RSI,
  RSP,
  SS,
  setReg,
} from '../../platform/amd64/registers.ts'
import { encodeSigInfo } from '../siginfo.ts'
import { setBlocked } from '../signal.ts'
import type { SigInfo } from '../signal-state.ts'
import type { Task } from '../task.ts'

const RED_ZONE = 128
const UC_FLAGS = 8
const UC_STACK = 24
const UC_MCONTEXT = 48
const UC_SIGMASK = 304
const INFO = 312
const FRAME_SIZE = 440
/** UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS */
const UC_FLAGS_VALUE = 7

const USER_CS = 0x33
const USER_SS = 0x2b
const EFLAGS_TF = 0x100
const EFLAGS_DF = 0x400
const EFLAGS_RF = 0x10000
/** What a guest may set: AC OF DF TF SF ZF AF PF CF RF. */
const FIX_EFLAGS = 0x50dd5

/** sigcontext: registers in the order of the struct, eight bytes each. */
const CONTEXT_REGS = [R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, EFLAGS]
const SC_CS = 144
const SC_SS = 150
const SC_ERR = 152
const SC_TRAPNO = 160
const SC_OLDMASK = 168
const SC_CR2 = 176
const SC_FPSTATE = 184

/** fpregs: software bytes in the legacy area, XSAVE header after it. */
const SW_RESERVED = 464
const XSTATE_BV = 512
const FP_XSTATE_MAGIC1 = 0x46505853
const FP_XSTATE_MAGIC2 = 0x46505845
const LEGACY_SIZE = 512
const XSAVE_MIN = 576
/** Offset of AMX tile data: large, off until a process asks for it, and not in Linux's default frame either. */
const XTILEDATA_OFFSET = 2816
const XTILEDATA = 1 << 18
const MXCSR_DEFAULT = 0x1f80
const FCW_DEFAULT = 0x37f

const ADDRESS_END = 0x8000_0000_0000

/** Frame and XSAVE area are adjacent: one copy writes both. */
const BUFFER = new Uint8Array(FRAME_SIZE + 128 + 16384)
const VIEW = new DataView(BUFFER.buffer)
const FPU = new Uint8Array(16384)
const FPU_VIEW = new DataView(FPU.buffer)
/** Initial FPU state: what a handler starts with. */
const CLEAN = new Uint8Array(16384)
{
  const v = new DataView(CLEAN.buffer)
  v.setUint16(0, FCW_DEFAULT, true)
  v.setUint32(24, MXCSR_DEFAULT, true)
  v.setUint32(XSTATE_BV, 3, true)
}

/** Whether `sp` lies on the alternate stack; never with SS_AUTODISARM, which disarms it on entry. */
export function onAltStack(t: Task, sp: number): boolean {
  if (t.signals.altFlags & (SS_AUTODISARM | 0)) return false
  return withinAltStack(t, sp)
}
function withinAltStack(t: Task, sp: number): boolean {
  const s = t.signals
  return sp > s.altSp && sp - s.altSp <= s.altSize
}
/** ss_flags as sigaltstack(2) reports them. */
export function altStackState(t: Task, sp: number): number {
  if (t.signals.altSize === 0) return SS_DISABLE
  return onAltStack(t, sp) ? SS_ONSTACK : 0
}

/** Builds the frame and points the registers at the handler. False: it cannot be written, the task gets SIGSEGV. */
export function pushSignalFrame(
  t: Task,
  info: SigInfo,
  handler: number,
  flags: number,
  restorer: number,
  maskLo: number,
  maskHi: number,
): boolean {
  // The ABI of x86-64 has no default restorer.
  if ((flags & SA_RESTORER) === 0) return false
  const regs = t.regs
  const s = t.signals

  let sp = getReg(regs, RSP)
  if (sp >= ADDRESS_END) return false
  const nested = onAltStack(t, sp - RED_ZONE)
  let entering = false
  sp -= RED_ZONE
  if (flags & SA_ONSTACK && altStackState(t, sp) === 0) {
    sp = s.altSp + s.altSize
    entering = true
  }
  if (!readHostState(t)) return false
  let fpuSize = hostSize
  let features = FPU_VIEW.getUint32(SW_RESERVED, true)
  if (features & XTILEDATA) {
    features &= ~XTILEDATA
    fpuSize = Math.min(fpuSize, XTILEDATA_OFFSET)
  }
  const fpstate = align(sp - (fpuSize + 4), 64)
  const frame = align(fpstate - FRAME_SIZE, 16) - 8
  if ((nested || entering) && !withinAltStack(t, frame)) return false
  if (frame <= 0) return false

  BUFFER.fill(0, 0, FRAME_SIZE)
  put64(VIEW, 0, restorer)
  put64(VIEW, UC_FLAGS, UC_FLAGS_VALUE)
  put64(VIEW, UC_STACK, s.altSp)
  VIEW.setUint32(UC_STACK + 8, s.altFlags >>> 0, true)
  put64(VIEW, UC_STACK + 16, s.altSize)
  for (let i = 0; i < CONTEXT_REGS.length; i++) {
    VIEW.setUint32(UC_MCONTEXT + 8 * i, regs[CONTEXT_REGS[i]!]!, true)
    VIEW.setUint32(UC_MCONTEXT + 8 * i + 4, regs[CONTEXT_REGS[i]! + 1]!, true)
  }
  VIEW.setUint16(UC_MCONTEXT + SC_CS, USER_CS, true)
  VIEW.setUint16(UC_MCONTEXT + SC_SS, USER_SS, true)
  put64(VIEW, UC_MCONTEXT + SC_ERR, s.errorCode)
  put64(VIEW, UC_MCONTEXT + SC_TRAPNO, s.trapno)
  VIEW.setUint32(UC_MCONTEXT + SC_OLDMASK, maskLo, true)
  VIEW.setUint32(UC_MCONTEXT + SC_OLDMASK + 4, maskHi, true)
  VIEW.setUint32(UC_MCONTEXT + SC_CR2, s.cr2Lo, true)
  VIEW.setUint32(UC_MCONTEXT + SC_CR2 + 4, s.cr2Hi, true)
  put64(VIEW, UC_MCONTEXT + SC_FPSTATE, fpstate)
  VIEW.setUint32(UC_SIGMASK, maskLo, true)
  VIEW.setUint32(UC_SIGMASK + 4, maskHi, true)
  if (flags & SA_SIGINFO) encodeSigInfo(info, BUFFER, INFO)

  const at = fpstate - frame
  BUFFER.fill(0, FRAME_SIZE, at)
  BUFFER.set(FPU.subarray(0, fpuSize), at)
  BUFFER.fill(0, at + SW_RESERVED, at + LEGACY_SIZE)
  VIEW.setUint32(at + SW_RESERVED, FP_XSTATE_MAGIC1, true)
  VIEW.setUint32(at + SW_RESERVED + 4, fpuSize + 4, true)
  VIEW.setUint32(at + SW_RESERVED + 8, features, true)
  VIEW.setUint32(at + SW_RESERVED + 12, FPU_VIEW.getUint32(SW_RESERVED + 4, true), true)
  VIEW.setUint32(at + SW_RESERVED + 16, fpuSize, true)
  VIEW.setUint32(at + XSTATE_BV, VIEW.getUint32(at + XSTATE_BV, true) | 3, true)
  VIEW.setUint32(at + fpuSize, FP_XSTATE_MAGIC2, true)
  const total = at + fpuSize + 4
  if (t.copyOut(frame, BUFFER, 0, total) !== total) return false

  setReg(regs, RSP, frame)
  setReg(regs, RIP, handler)
  setReg(regs, RDI, info.signo)
  setReg(regs, RSI, frame + INFO)
  setReg(regs, RDX, frame + UC_FLAGS)
  setReg(regs, RAX, 0)
  regs[EFLAGS] = regs[EFLAGS]! & ~(EFLAGS_DF | EFLAGS_RF | EFLAGS_TF)
  regs[CS] = USER_CS
  regs[SS] = USER_SS
  t.thread.writeFpu(CLEAN, hostSize)
  return true
}

/** rt_sigreturn(2): restores everything from the frame below the stack pointer. False: the frame is bad. */
export function popSignalFrame(t: Task): boolean {
  const regs = t.regs
  const frame = getReg(regs, RSP) - 8
  if (frame < 0) return false
  // Our own frames have the FPU state right behind: one look for both.
  inHand = t.copyIn(frame, BUFFER, 0, FRAME_SIZE + BETWEEN + hostSize + 4)
  if (inHand < FRAME_SIZE) return false
  // As Linux: the mask is restored first, and stays so when the rest is bad.
  const maskLo = VIEW.getUint32(UC_SIGMASK, true)
  const maskHi = VIEW.getUint32(UC_SIGMASK + 4, true)
  setBlocked(t, maskLo, maskHi)
  const cs = VIEW.getUint16(UC_MCONTEXT + SC_CS, true) | 3
  if (cs !== USER_CS) return false
  const fpstate = getU64(VIEW, UC_MCONTEXT + SC_FPSTATE)
  const altSp = getU64(VIEW, UC_STACK)
  const altFlags = VIEW.getUint32(UC_STACK + 8, true)
  const altSize = getU64(VIEW, UC_STACK + 16)

  const flags = regs[EFLAGS]!
  for (let i = 0; i < CONTEXT_REGS.length; i++) {
    regs[CONTEXT_REGS[i]!] = VIEW.getUint32(UC_MCONTEXT + 8 * i, true)
    regs[CONTEXT_REGS[i]! + 1] = VIEW.getUint32(UC_MCONTEXT + 8 * i + 4, true)
  }
  regs[EFLAGS] = ((flags & ~FIX_EFLAGS) | (regs[EFLAGS]! & FIX_EFLAGS)) >>> 0
  regs[EFLAGS + 1] = 0
  regs[CS] = USER_CS
  regs[SS] = USER_SS
  regs[ORIG_RAX] = 0xffffffff
  regs[ORIG_RAX + 1] = 0xffffffff
  t.restartSysno = -1

  if (!restoreFpu(t, fpstate, fpstate - frame)) return false
  // Errors other than a fault are ignored, as in Linux's restore_altstack.
  setAltStack(t, altSp, altFlags, altSize, getReg(regs, RSP))
  return true
}

/** Size of the host's XSAVE area; 0 before the first signal. It never changes, nor do XCR0 and the mask of MXCSR. */
let hostSize = 0

/** The thread's FPU state into FPU. */
function readHostState(t: Task): boolean {
  const size = t.thread.readFpu(FPU)
  if (size < XSAVE_MIN) return false
  hostSize = size
  return true
}

/** At most between a frame and its FPU state: both are aligned. */
const BETWEEN = 96
/** Bytes of BUFFER that popSignalFrame() has read. */
let inHand = 0

/** Puts `len` bytes of the guest at BUFFER[at], which are perhaps there already, `offset` bytes behind the frame. */
function fetch(t: Task, addr: number, offset: number, at: number, len: number): boolean {
  if (offset < FRAME_SIZE || offset + len > inHand) return t.copyIn(addr, BUFFER, at, len) === len
  BUFFER.copyWithin(at, offset, offset + len)
  return true
}

/** `offset`: where the state lies, from the frame in BUFFER. */
function restoreFpu(t: Task, addr: number, offset: number): boolean {
  // FPU still has the software bytes of an earlier signal: those are the machine's.
  if (hostSize === 0 && !readHostState(t)) return false
  const size = hostSize
  if (addr === 0) return t.thread.writeFpu(CLEAN, size) >= 0
  const xcr0 = FPU_VIEW.getUint32(SW_RESERVED, true)
  const xcr0Hi = FPU_VIEW.getUint32(SW_RESERVED + 4, true)
  const frameSize = xcr0 & XTILEDATA ? Math.min(size, XTILEDATA_OFFSET) : size
  if (addr % 64 !== 0 || !fetch(t, addr, offset, 0, LEGACY_SIZE)) return false
  const extended =
    VIEW.getUint32(SW_RESERVED, true) === FP_XSTATE_MAGIC1 &&
    VIEW.getUint32(SW_RESERVED + 16, true) <= frameSize &&
    VIEW.getUint32(SW_RESERVED + 16, true) >= XSAVE_MIN
  const features = VIEW.getUint32(SW_RESERVED + 8, true)
  const stateSize = VIEW.getUint32(SW_RESERVED + 16, true)
  let restored = LEGACY_SIZE
  if (extended) {
    const rest = stateSize + 4 - LEGACY_SIZE
    if (!fetch(t, addr + LEGACY_SIZE, offset + LEGACY_SIZE, LEGACY_SIZE, rest)) return false
    if (VIEW.getUint32(stateSize, true) === FP_XSTATE_MAGIC2) restored = stateSize
  }
  BUFFER.fill(0, restored, size)
  // The header is forgeable: only features the frame announces and the host knows, and no compaction.
  const known = xcr0 & ~XTILEDATA
  const present = restored === LEGACY_SIZE ? 3 : VIEW.getUint32(XSTATE_BV, true) & features & known
  BUFFER.fill(0, XSTATE_BV, XSAVE_MIN)
  VIEW.setUint32(XSTATE_BV, present, true)
  VIEW.setUint32(SW_RESERVED, xcr0, true)
  VIEW.setUint32(SW_RESERVED + 4, xcr0Hi, true)
  // A zero mask is what the host reports for state that was never saved; all 64-bit CPUs have the first 16 bits.
  const mxcsrMask = FPU_VIEW.getUint32(28, true) || 0xffff
  if ((VIEW.getUint32(24, true) & ~mxcsrMask) !== 0) return false
  return t.thread.writeFpu(BUFFER, size) >= 0
}

/** Sets the alternate stack; false where sigaltstack(2) would refuse. `sp`: the stack pointer in use. */
export function setAltStack(t: Task, sp: number, flags: number, size: number, current: number): number {
  const s = t.signals
  if (onAltStack(t, current)) return ALT_BUSY
  const mode = (flags & ~SS_AUTODISARM) >>> 0
  if (mode !== SS_DISABLE && mode !== SS_ONSTACK && mode !== 0) return ALT_INVALID
  if (mode === SS_DISABLE) {
    s.altSp = 0
    s.altSize = 0
  } else {
    if (size < 2048) return ALT_SMALL
    s.altSp = sp
    s.altSize = size
  }
  s.altFlags = flags >>> 0
  return ALT_SET
}
export const ALT_SET = 0
export const ALT_BUSY = 1
export const ALT_INVALID = 2
export const ALT_SMALL = 3

function align(value: number, to: number): number {
  return value - (value % to)
}
