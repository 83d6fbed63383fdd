/**
 * Layout of GuestThread.regs on x86-64: struct user_regs_struct (sys/user.h) seen as u32 pairs, low word first. The
 * constants are indices of the low word.
 */
export const R15 = 0
export const R14 = 2
export const R13 = 4
export const R12 = 6
export const RBP = 8
export const RBX = 10
export const R11 = 12
export const R10 = 14
export const R9 = 16
export const R8 = 18
export const RAX = 20
export const RCX = 22
export const RDX = 24
export const RSI = 26
export const RDI = 28
export const ORIG_RAX = 30
export const RIP = 32
export const CS = 34
export const EFLAGS = 36
export const RSP = 38
export const SS = 40
export const FS_BASE = 42
export const GS_BASE = 44
export const DS = 46
export const ES = 48
export const FS = 50
export const GS = 52
/** u32 words in all. */
export const REGS_WORDS = 54

/** Index of the low word of system call argument 0…5. */
export const ARG: readonly number[] = [RDI, RSI, RDX, R10, R8, R9]

const TWO32 = 0x1_0000_0000

/** A 64-bit register as a double: exact below 2^53. */
export function getReg(regs: Uint32Array, reg: number): number {
  return regs[reg]! + regs[reg + 1]! * TWO32
}

/** Stores an integer of magnitude below 2^53; negative values are sign-extended. */
export function setReg(regs: Uint32Array, reg: number, value: number): void {
  regs[reg] = value >>> 0
  regs[reg + 1] = Math.floor(value / TWO32) >>> 0
}
