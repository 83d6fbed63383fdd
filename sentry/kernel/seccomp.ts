/**
 * seccomp(2) for guests: classic BPF programs that judge each system call before it is run (Linux: kernel/seccomp.c,
 * bpf_check_classic and seccomp_check_filter of net/core/filter.c).
 *
 * A filter, once installed, stays: through fork and execve, and newer ones only restrict further. Programs are checked
 * completely when they are installed, so that running one cannot fail, loop or read outside its data. Calls that guest
 * code makes on the host without the sentry (futex, the vDSO's fallbacks) are not seen here.
 */
import { EINVAL, ENOMEM, ENOSYS } from '../abi/errno.ts'
import { SIGKILL } from '../abi/signal.ts'
import { ARG, getReg, RIP } from '../platform/amd64/registers.ts'
import { exitGroup, exitTask } from './exit.ts'
import { EVENT_SECCOMP, eventStop } from './ptrace.ts'
import { makeInfo } from './siginfo.ts'
import { forceSignal } from './signal.ts'
import { NO_RESULT, type SysRet } from './sysret.ts'
import type { Task } from './task.ts'

export const SECCOMP_MODE_STRICT = 1
export const SECCOMP_MODE_FILTER = 2

export const RET_KILL_PROCESS = 0x80000000
export const RET_KILL_THREAD = 0
export const RET_TRAP = 0x00030000
export const RET_ERRNO = 0x00050000
export const RET_TRACE = 0x7ff00000
export const RET_LOG = 0x7ffc0000
export const RET_ALLOW = 0x7fff0000
const ACTION_MASK = 0xffff0000

/** The verdict that lets the call run. */
export const SECCOMP_ALLOWED: SysRet = -6000

const SIGSYS = 31
const SYS_SECCOMP = 1
const AUDIT_ARCH_X86_64 = 0xc000003e
const MAX_ERRNO = 4095

/** Instructions of one program, and of all programs of a task (with 4 more for each). */
export const BPF_MAXINSNS = 4096
const MAX_INSNS_PER_PATH = 32768
const DATA_SIZE = 64
const SCRATCH_WORDS = 16

export class SeccompFilter {
  readonly mode: number
  /** Rows of four: code, jt, jf, k. Empty for strict mode. */
  readonly program: Uint32Array
  readonly previous: SeccompFilter | null
  readonly count: number
  private readonly total: number

  constructor(mode: number, program: Uint32Array, previous: SeccompFilter | null) {
    this.mode = mode
    this.program = program
    this.previous = previous
    this.count = mode === SECCOMP_MODE_STRICT ? 0 : (previous === null ? 0 : previous.count) + 1
    this.total = program.length / 4 + (previous === null ? 0 : previous.total + 4)
  }

  get tooLong(): boolean {
    return this.total > MAX_INSNS_PER_PATH
  }
  /** Whether this filter is `other` or was installed on top of it. */
  extends(other: SeccompFilter | null): boolean {
    let f: SeccompFilter | null = this
    while (f !== null && f !== other) f = f.previous
    return f === other
  }
}

/** A filter on top of those that `t` has, or −errno. Rows of `program` as in {@link SeccompFilter}. */
export function makeFilter(t: Task, program: Uint32Array): SeccompFilter | number {
  const err = checkProgram(program)
  if (err < 0) return err
  const filter = new SeccompFilter(SECCOMP_MODE_FILTER, program, t.seccomp)
  return filter.tooLong ? -ENOMEM : filter
}

const LD_ABS = 0x20
const LD_LEN = 0x80
const LDX_LEN = 0x81
const LD_IMM = 0x00
const LDX_IMM = 0x01
const LD_MEM = 0x60
const LDX_MEM = 0x61
const ST = 0x02
const STX = 0x03
const ALU = 0x04
const JMP = 0x05
const RET_K = 0x06
const RET_A = 0x16
const TAX = 0x07
const TXA = 0x87
const SRC_X = 0x08
const DIV = 0x30
const LSH = 0x60
const RSH = 0x70
const NEG = 0x80
const ALU_OPS: readonly number[] = [0x00, 0x10, 0x20, DIV, 0x40, 0x50, LSH, RSH, 0xa0]
const JA = 0x05

/** 0 or −EINVAL. */
export function checkProgram(program: Uint32Array): number {
  const n = program.length / 4
  if (n === 0 || n > BPF_MAXINSNS) return -EINVAL
  for (let pc = 0; pc < n; pc++) {
    const code = program[4 * pc]!
    const k = program[4 * pc + 3]!
    const left = n - pc - 1
    switch (code) {
      case LD_ABS:
        if (k >= DATA_SIZE || k % 4 !== 0) return -EINVAL
        break
      case LD_LEN:
      case LDX_LEN:
      case LD_IMM:
      case LDX_IMM:
      case TAX:
      case TXA:
      case RET_K:
      case RET_A:
      case ALU | NEG:
        break
      case LD_MEM:
      case LDX_MEM:
      case ST:
      case STX:
        if (k >= SCRATCH_WORDS) return -EINVAL
        break
      case JA:
        if (k >= left) return -EINVAL
        break
      default:
        if (!checkOther(code, k, program[4 * pc + 1]!, program[4 * pc + 2]!, left)) return -EINVAL
    }
  }
  const last = program[4 * (n - 1)]
  return last === RET_K || last === RET_A ? 0 : -EINVAL
}

/** Arithmetic and conditional jumps. */
function checkOther(code: number, k: number, jt: number, jf: number, left: number): boolean {
  const op = code & 0xf0
  if (code > 0xff) return false
  if ((code & 7) === ALU) {
    if (!ALU_OPS.includes(op)) return false
    if ((code & SRC_X) !== 0) return true
    return op === DIV ? k !== 0 : op === LSH || op === RSH ? k < 32 : true
  }
  return (code & 7) === JMP && op >= 0x10 && op <= 0x40 && jt < left && jf < left
}

/** struct seccomp_data: nr, arch, instruction pointer, six arguments. */
const DATA = new Uint32Array(DATA_SIZE / 4)
const SCRATCH = new Uint32Array(SCRATCH_WORDS)

function loadData(t: Task): void {
  DATA[0] = t.sysno >>> 0
  DATA[1] = AUDIT_ARCH_X86_64
  DATA[2] = t.regs[RIP]!
  DATA[3] = t.regs[RIP + 1]!
  for (let i = 0; i < 6; i++) {
    DATA[4 + 2 * i] = t.regs[ARG[i]!]!
    DATA[5 + 2 * i] = t.regs[ARG[i]! + 1]!
  }
}

/** Runs a checked program over DATA. */
function run(p: Uint32Array): number {
  let a = 0
  let x = 0
  SCRATCH.fill(0)
  for (let pc = 0; ; pc++) {
    const at = 4 * pc
    const code = p[at]!
    const k = p[at + 3]!
    switch (code) {
      case LD_ABS:
        a = DATA[k >> 2]!
        break
      case LD_LEN:
        a = DATA_SIZE
        break
      case LDX_LEN:
        x = DATA_SIZE
        break
      case LD_IMM:
        a = k
        break
      case LDX_IMM:
        x = k
        break
      case LD_MEM:
        a = SCRATCH[k]!
        break
      case LDX_MEM:
        x = SCRATCH[k]!
        break
      case ST:
        SCRATCH[k] = a
        break
      case STX:
        SCRATCH[k] = x
        break
      case TAX:
        x = a
        break
      case TXA:
        a = x
        break
      case RET_K:
        return k
      case RET_A:
        return a
      case ALU | NEG:
        a = -a >>> 0
        break
      case JA:
        pc += k
        break
      default: {
        const operand = (code & SRC_X) !== 0 ? x : k
        if ((code & 7) === JMP) {
          pc += jumps(code & 0xf0, a, operand) ? p[at + 1]! : p[at + 2]!
        } else {
          if ((code & 0xf0) === DIV && operand === 0) return RET_KILL_THREAD
          a = compute(code & 0xf0, a, operand)
        }
      }
    }
  }
}

function jumps(op: number, a: number, operand: number): boolean {
  switch (op) {
    case 0x10:
      return a === operand
    case 0x20:
      return a > operand
    case 0x30:
      return a >= operand
    default:
      return (a & operand) !== 0
  }
}

function compute(op: number, a: number, operand: number): number {
  switch (op) {
    case 0x00:
      return (a + operand) >>> 0
    case 0x10:
      return (a - operand) >>> 0
    case 0x20:
      return Math.imul(a, operand) >>> 0
    case DIV:
      return Math.floor(a / operand)
    case 0x40:
      return (a | operand) >>> 0
    case 0x50:
      return (a & operand) >>> 0
    case LSH:
      return operand > 31 ? 0 : (a << operand) >>> 0
    case RSH:
      return operand > 31 ? 0 : a >>> operand
    default:
      return (a ^ operand) >>> 0
  }
}

const STRICT_CALLS: readonly number[] = [0, 1, 15, 60]

/**
 * Judges the call that `t` is about to make: SECCOMP_ALLOWED, or its result; it may stop for its tracer, unless that has
 * been `asked`.  Precondition: t.seccomp is not null.
 */
export function seccompVerdict(t: Task, asked: boolean): SysRet {
  const newest = t.seccomp!
  if (newest.mode === SECCOMP_MODE_STRICT) return STRICT_CALLS.includes(t.sysno) ? SECCOMP_ALLOWED : end(t, SIGKILL)
  loadData(t)
  let verdict = RET_ALLOW
  for (let f: SeccompFilter | null = newest; f !== null; f = f.previous) {
    const ret = run(f.program)
    // As signed numbers: killing is the least, allowing the most; the newest wins a tie.
    if ((ret & ACTION_MASK) < (verdict & ACTION_MASK)) verdict = ret
  }
  const data = verdict & 0xffff
  switch ((verdict & ACTION_MASK) >>> 0) {
    case RET_ALLOW:
    case RET_LOG:
      return SECCOMP_ALLOWED
    case RET_ERRNO:
      return data === 0 ? 0 : -Math.min(data, MAX_ERRNO)
    case RET_TRAP: {
      const info = makeInfo(SIGSYS, SYS_SECCOMP)
      info.errno = data
      info.addr = getReg(t.regs, RIP)
      info.id = t.sysno
      forceSignal(t, info)
      return t.sysno
    }
    case RET_KILL_THREAD:
      return end(t, SIGSYS)
    case RET_TRACE:
      if (t.traced === null || !t.traced.wants(EVENT_SECCOMP)) return -ENOSYS
      if (asked) return SECCOMP_ALLOWED
      eventStop(t, EVENT_SECCOMP, data)
      return NO_RESULT
    default:
      return endProcess(t, SIGSYS)
  }
}

function endProcess(t: Task, signal: number): SysRet {
  exitGroup(t.group, signal)
  exitTask(t, t.group.exitStatus)
  return NO_RESULT
}

/** Ends the thread, and with the last one the process. */
function end(t: Task, signal: number): SysRet {
  if (t.group.tasks.length === 1) return endProcess(t, signal)
  exitTask(t, signal)
  return NO_RESULT
}
