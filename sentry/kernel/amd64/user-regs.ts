/**
 * struct user of x86-64 (sys/user.h) as a tracer sees and changes it (arch/x86/kernel/ptrace.c: getreg, putreg). The first
 * part is user_regs_struct, which is what GuestThread.regs holds.
 */
import { EIO } from '../../abi/errno.ts'
import { CS, EFLAGS, FS_BASE, GS, REGS_WORDS, SS } from '../../platform/amd64/registers.ts'

/** sizeof(struct user) as the kernel has it, and of its first part; bytes. */
export const USER_SIZE = 928
export const USER_REGS_SIZE = REGS_WORDS * 4

const DEBUG_REGISTERS = 848
/** What a tracer may set: CF PF AF ZF SF TF DF OF RF AC. */
const FLAG_MASK = 0x50dd5
const TASK_SIZE_HIGH = 0x7fff

/** Sets one register, at index `word` of `regs`. 0 or −EIO. The segment registers that nothing depends on stay. */
function put(regs: Uint32Array, word: number, lo: number, hi: number): number {
  if (word === EFLAGS) {
    regs[word] = (regs[word]! & ~FLAG_MASK) | (lo & FLAG_MASK)
    return 0
  }
  if (word === CS || word === SS || word > FS_BASE + 2) {
    // A null selector, or one of the user's; CS and SS are never null.
    const selector = lo & 0xffff
    const nullAllowed = word !== CS && word !== SS
    if (hi !== 0 || selector !== lo) return -EIO
    return (selector === 0 && nullAllowed) || (selector & 3) === 3 ? 0 : -EIO
  }
  if ((word === FS_BASE || word === FS_BASE + 2) && hi > TASK_SIZE_HIGH) return -EIO
  regs[word] = lo
  regs[word + 1] = hi
  return 0
}

/** All of user_regs_struct; stops at the first that is refused, as Linux does. 0 or −EIO. */
export function putUserRegs(regs: Uint32Array, from: Uint32Array, words: number): number {
  for (let word = 0; word + 1 < words && word <= GS; word += 2) {
    const err = put(regs, word, from[word]!, from[word + 1]!)
    if (err < 0) return err
  }
  return 0
}

/** PTRACE_PEEKUSER: −EIO, or 0 with the word in `out`. There are no debug registers: they and the rest read as zero. */
export function peekUser(regs: Uint32Array, offset: number, out: Uint32Array): number {
  if (offset % 8 !== 0 || offset >= USER_SIZE) return -EIO
  const known = offset < USER_REGS_SIZE
  out[0] = known ? regs[offset / 4]! : 0
  out[1] = known ? regs[offset / 4 + 1]! : 0
  return 0
}

/** PTRACE_POKEUSER. */
export function pokeUser(regs: Uint32Array, offset: number, lo: number, hi: number): number {
  if (offset % 8 !== 0 || offset >= USER_SIZE) return -EIO
  if (offset < USER_REGS_SIZE) return put(regs, offset / 4, lo, hi)
  // Breakpoints of the hardware: none can be had, and none can be cleared.
  return offset >= DEBUG_REGISTERS && lo === 0 && hi === 0 ? 0 : -EIO
}
