/**
 * Exception number and error code of a fault, for sigcontext (Intel SDM volume 3, chapter 6). ptrace tells only the
 * signal, its code and the address; the rest follows from the instruction at RIP and from whether the page is there.
 */
import { SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP } from '../../abi/signal.ts'

const SI_KERNEL = 0x80
const SEGV_PKUERR = 4
const BUS_ADRALN = 1
const FPE_INTDIV = 1
const FPE_INTOVF = 2
const TRAP_BRKPT = 1

const X86_DE = 0
const X86_DB = 1
const X86_BP = 3
const X86_UD = 6
const X86_SS = 12
const X86_GP = 13
const X86_PF = 14
const X86_MF = 16
const X86_AC = 17
const X86_XF = 19

const PF_PRESENT = 1
const PF_WRITE = 2
const PF_USER = 4
const PF_FETCH = 16
const PF_KEY = 32

/** The bytes of one instruction: none is longer. */
export const MAX_INSTRUCTION = 15
/** Addresses above the user's half. */
const USER_END = 0x800000000000

export interface FaultState {
  signo: number
  code: number
  addr: number
  rip: number
  /** RDI and RSP tell which operand of a string move or a call faulted. */
  rdi: number
  rsp: number
  /** Is the page of `addr` in memory? */
  present: boolean
  /** The instruction; shorter where it cannot be read. */
  bytes: Uint8Array
}

/** The result of {@link faultCode}; stays until the next call. */
export const fault = { trapno: 0, errorCode: 0 }

export function faultCode(f: FaultState): typeof fault {
  fault.errorCode = 0
  switch (f.signo) {
    case SIGFPE:
      fault.trapno = f.code === FPE_INTDIV || f.code === FPE_INTOVF ? X86_DE : isX87(f.bytes) ? X86_MF : X86_XF
      break
    case SIGILL:
      fault.trapno = X86_UD
      break
    case SIGTRAP:
      fault.trapno = f.code === SI_KERNEL || f.code === TRAP_BRKPT ? X86_BP : X86_DB
      break
    case SIGBUS:
      if (f.code === SI_KERNEL) fault.trapno = X86_SS
      else if (f.code === BUS_ADRALN) fault.trapno = X86_AC
      else pageFault(f)
      break
    case SIGSEGV:
      if (f.code !== SI_KERNEL) pageFault(f)
      else {
        fault.trapno = X86_GP
        // A software interrupt without a gate: the vector's place in the IDT.
        if (f.bytes.length > 1 && f.bytes[0] === 0xcd) fault.errorCode = f.bytes[1]! * 8 + 2
      }
      break
    default:
      fault.trapno = 0
  }
  return fault
}

function pageFault(f: FaultState): void {
  fault.trapno = X86_PF
  let code = PF_USER
  if (f.addr >= USER_END || f.present) code |= PF_PRESENT
  if (f.code === SEGV_PKUERR) code |= PF_KEY | PF_PRESENT
  // An instruction that runs over the end of a page faults at the next one's start.
  const fetch = f.addr === f.rip || (f.addr > f.rip && f.addr < f.rip + MAX_INSTRUCTION && f.addr % 4096 === 0)
  if (fetch) code |= PF_FETCH
  else if (isStore(f)) code |= PF_WRITE
  fault.errorCode = code
}

/** Index of the opcode after legacy and REX prefixes. */
function skipPrefixes(bytes: Uint8Array): number {
  let i = 0
  for (; i < bytes.length; i++) {
    const b = bytes[i]!
    const legacy = b === 0x66 || b === 0x67 || b === 0xf0 || b === 0xf2 || b === 0xf3 || (b >= 0x64 && b <= 0x65)
    const segment = b === 0x2e || b === 0x36 || b === 0x3e || b === 0x26
    if (!legacy && !segment && (b & 0xf0) !== 0x40) break
  }
  return i
}

function isX87(bytes: Uint8Array): boolean {
  const op = bytes[skipPrefixes(bytes)]
  return op === 0x9b || (op !== undefined && op >= 0xd8 && op <= 0xdf)
}

const near = (addr: number, base: number): boolean => Math.abs(addr - base) < 64

/** Whether the instruction writes to the memory operand that faulted (a read-modify-write counts as a write). */
function isStore(f: FaultState): boolean {
  const { bytes } = f
  const i = skipPrefixes(bytes)
  const op = bytes[i]
  if (op === undefined) return false
  const reg = ((bytes[i + 1] ?? 0) >> 3) & 7
  if (op === 0x0f) return isStore0f(bytes, i + 1)
  // VEX and EVEX: only map 1 has plain vector stores.
  if (op === 0xc5) return isVectorStore(bytes[i + 2] ?? 0, (bytes[i + 1]! & 3) === 2)
  if (op === 0xc4) return (bytes[i + 1]! & 31) === 1 && isVectorStore(bytes[i + 3] ?? 0, (bytes[i + 2]! & 3) === 2)
  if (op === 0x62) return (bytes[i + 1]! & 7) === 1 && isVectorStore(bytes[i + 4] ?? 0, (bytes[i + 2]! & 3) === 2)
  if (op < 0x40) return (op & 7) < 2 && op < 0x38
  if ((op >= 0x50 && op <= 0x57) || op === 0x68 || op === 0x6a || op === 0x9c || op === 0xc8 || op === 0xe8) return true
  switch (op) {
    case 0x80:
    case 0x81:
    case 0x83:
      return reg !== 7
    case 0x86:
    case 0x87:
    case 0x88:
    case 0x89:
    case 0x8c:
    case 0x8f:
    case 0xa2:
    case 0xa3:
    case 0xaa:
    case 0xab:
    case 0xc0:
    case 0xc1:
    case 0xc6:
    case 0xc7:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xfe:
      return true
    case 0xa4:
    case 0xa5:
      return near(f.addr, f.rdi)
    case 0xd9:
      return reg === 2 || reg === 3 || reg >= 6
    case 0xdb:
    case 0xdd:
    case 0xdf:
      return (reg >= 1 && reg <= 3) || (reg >= 6 && op !== 0xdb) || (op === 0xdb && reg === 7)
    case 0xf6:
    case 0xf7:
      return reg === 2 || reg === 3
    case 0xff:
      return reg < 2 || ((reg === 2 || reg === 6) && near(f.addr, f.rsp))
    default:
      return false
  }
}

/** Map 1 opcodes that store a vector register; 7E with F3 loads one. */
function isVectorStore(op: number, f3: boolean): boolean {
  if (op === 0x7e) return !f3
  return [0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xd6, 0xe7].includes(op)
}

function isStore0f(bytes: Uint8Array, at: number): boolean {
  const op = bytes[at] ?? 0
  const reg = ((bytes[at + 1] ?? 0) >> 3) & 7
  if (op >= 0x90 && op <= 0x9f) return true
  if (op === 0xba) return reg >= 5
  if (op === 0xae) return reg === 0 || reg === 3 || reg === 4 || reg === 6
  if ([0xa4, 0xa5, 0xab, 0xac, 0xad, 0xb0, 0xb1, 0xb3, 0xbb, 0xc0, 0xc1, 0xc3, 0xc7].includes(op)) return true
  return isVectorStore(op, bytes.subarray(0, at).includes(0xf3))
}
