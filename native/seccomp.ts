/**
 * Compiles a table of rules into a seccomp filter (classic BPF over struct seccomp_data, see seccomp(2)). Pure: callers
 * install the result themselves. Rules are tried in order and the first whose tests all hold decides, so a policy reads
 * top down like the comment table it implements. What must stay true: the architecture is checked before anything else
 * and x32 numbers count as a foreign architecture, since the same number means another call there.
 *
 * The numbers 0…0x3fffffff are cut into intervals with the same decision and searched as a binary tree. Code is emitted
 * backwards, so that every jump's target is known and BPF's 8-bit conditional distances can be bridged where needed.
 */

export const SECCOMP_ALLOW = 0x7fff0000
export const SECCOMP_KILL_PROCESS = 0x80000000
export const SECCOMP_KILL_THREAD = 0
export const SECCOMP_TRAP = 0x00030000
export const SECCOMP_USER_NOTIF = 0x7fc00000
export const SECCOMP_LOG = 0x7ffc0000
/** Fail the call with this errno (given positive; 0 makes the call return 0 without running). */
export const seccompErrno = (errno: number): number => 0x00050000 | (errno & 0xfff)
/** Stop for the tracer; the data shows up in PTRACE_GETEVENTMSG. */
export const seccompTrace = (data: number): number => (0x7ff00000 | (data & 0xffff)) >>> 0

/**
 * A test of one argument. Numbers are exact integers up to 2^53 or negative (two's complement). 64 bits are compared
 * unless `width: 32`, which looks at the low half only, as the kernel does for `int` parameters: a rule that *allows*
 * may be strict, a rule that *forbids* must use 32 there or it is bypassed with garbage in the upper half.
 */
export interface ArgTest {
  readonly arg: 0 | 1 | 2 | 3 | 4 | 5
  /** `eq` and `ne` compare (argument & mask) with value; the others are unsigned and take no mask. */
  readonly op: 'eq' | 'ne' | 'ge' | 'gt' | 'le' | 'lt'
  readonly value: number
  readonly mask?: number
  readonly width?: 32 | 64
}

export interface SeccompRule {
  /** System call number(s); absent: every call. */
  readonly nr?: number | readonly number[]
  /** All must hold. */
  readonly args?: readonly ArgTest[]
  /** from ≤ instruction pointer < to. The kernel reports the address *after* the 2-byte syscall instruction. */
  readonly ip?: { readonly from: number; readonly to: number }
  readonly action: number
}

export interface SeccompPolicy {
  readonly arch: 'x86_64' | 'aarch64'
  readonly rules: readonly SeccompRule[]
  readonly defaultAction: number
  readonly badArchAction: number
  /** Numbers with the x32 bit: a foreign architecture, or (`default`) like any number that no rule names. */
  readonly x32?: 'foreign' | 'default'
}

const AUDIT_ARCH = { x86_64: 0xc000003e, aarch64: 0xc00000b7 }
const X32_BIT = 0x40000000
const MAX_INSTRUCTIONS = 4096

const LD_ABS = 0x20
const JMP_JA = 0x05
const JMP_JEQ = 0x15
const JMP_JGT = 0x25
const JMP_JGE = 0x35
const ALU_AND = 0x54
const RET_K = 0x06

const OFFSET_NR = 0
const OFFSET_ARCH = 4
const OFFSET_IP = 8
const OFFSET_ARGS = 16

const low32 = (n: number): number => Number(BigInt.asUintN(32, BigInt(n)))
const high32 = (n: number): number => Number(BigInt.asUintN(64, BigInt(n)) >> 32n)

/** A place in the program, counted from its end; stays valid while code is put in front. */
type Label = number

class BackwardsAssembler {
  private readonly code: number[] = []
  private readonly returns = new Map<number, Label>()

  private get here(): Label {
    return this.code.length / 4
  }

  private emit(opcode: number, jt: number, jf: number, k: number): Label {
    this.code.push(k >>> 0, jf, jt, opcode)
    return this.here
  }

  /** The target, or a bridge to it, within a conditional jump's reach even when `slack` more instructions come between. */
  private near(target: Label, slack: number): Label {
    return this.here - target + slack > 255 ? this.emit(JMP_JA, 0, 0, this.here - target) : target
  }

  ret(action: number): Label {
    const known = this.returns.get(action)
    if (known !== undefined && this.here - known < 200) return known
    const label = this.emit(RET_K, 0, 0, action)
    this.returns.set(action, label)
    return label
  }

  load(offset: number): Label {
    return this.emit(LD_ABS, 0, 0, offset)
  }

  and(mask: number): Label {
    return this.emit(ALU_AND, 0, 0, mask)
  }

  jump(opcode: number, k: number, yes: Label, no: Label): Label {
    const nearYes = this.near(yes, 1)
    const nearNo = this.near(no, 0)
    return this.emit(opcode, this.here - nearYes, this.here - nearNo, k)
  }

  /** Whatever is put in front next falls through into `label`. */
  startAt(label: Label): void {
    if (label !== this.here) this.emit(JMP_JA, 0, 0, this.here - label)
  }

  finish(): Uint8Array {
    const count = this.here
    if (count > MAX_INSTRUCTIONS) throw new RangeError(`seccomp filter of ${count} instructions`)
    const out = new DataView(new ArrayBuffer(count * 8))
    for (let i = 0; i < count; i++) {
      const at = (count - 1 - i) * 4
      out.setUint16(i * 8, this.code[at + 3]!, true)
      out.setUint8(i * 8 + 2, this.code[at + 2]!)
      out.setUint8(i * 8 + 3, this.code[at + 1]!)
      out.setUint32(i * 8 + 4, this.code[at]!, true)
    }
    return new Uint8Array(out.buffer)
  }
}

/** One half compared under a mask: continues at `yes` or `no`. */
function emitHalfEquals(asm: BackwardsAssembler, offset: number, mask: number, value: number, yes: Label, no: Label) {
  if (mask === 0) return value === 0 ? yes : no
  asm.jump(JMP_JEQ, value, yes, no)
  if (mask !== 0xffffffff) asm.and(mask)
  return asm.load(offset)
}

/** value ≥ k (or > k with `strict`), unsigned, on 32 or 64 bits. */
function emitAtLeast(
  asm: BackwardsAssembler,
  offset: number,
  wide: boolean,
  k: number,
  strict: boolean,
  yes: Label,
  no: Label,
): Label {
  asm.jump(strict ? JMP_JGT : JMP_JGE, low32(k), yes, no)
  const low = asm.load(offset)
  if (!wide) return low
  const equal = asm.jump(JMP_JEQ, high32(k), low, no)
  asm.jump(JMP_JGT, high32(k), yes, equal)
  return asm.load(offset + 4)
}

function emitTest(asm: BackwardsAssembler, test: ArgTest, yes: Label, no: Label): Label {
  const offset = OFFSET_ARGS + 8 * test.arg
  const wide = test.width !== 32
  if (test.op === 'ge') return emitAtLeast(asm, offset, wide, test.value, false, yes, no)
  if (test.op === 'gt') return emitAtLeast(asm, offset, wide, test.value, true, yes, no)
  if (test.op === 'lt') return emitAtLeast(asm, offset, wide, test.value, false, no, yes)
  if (test.op === 'le') return emitAtLeast(asm, offset, wide, test.value, true, no, yes)
  const mask = test.mask ?? -1
  if (BigInt.asUintN(wide ? 64 : 32, BigInt(test.value) & ~BigInt(mask)) !== 0n) {
    throw new RangeError(`value ${test.value} has bits outside the mask ${mask}: it would never match`)
  }
  const [hit, miss] = test.op === 'eq' ? [yes, no] : [no, yes]
  const low = emitHalfEquals(asm, offset, low32(mask), low32(test.value), hit, miss)
  return wide ? emitHalfEquals(asm, offset + 4, high32(mask), high32(test.value), low, miss) : low
}

function emitRule(asm: BackwardsAssembler, rule: SeccompRule, no: Label): Label {
  let label = asm.ret(rule.action)
  for (const test of [...(rule.args ?? [])].reverse()) label = emitTest(asm, test, label, no)
  if (rule.ip) {
    label = emitAtLeast(asm, OFFSET_IP, true, rule.ip.to, false, no, label)
    label = emitAtLeast(asm, OFFSET_IP, true, rule.ip.from, false, label, no)
  }
  return label
}

const isConditional = (rule: SeccompRule): boolean => (rule.args?.length ?? 0) > 0 || rule.ip !== undefined

interface Interval {
  readonly start: number
  /** Rules that can apply, up to the first that always does. */
  readonly rules: readonly SeccompRule[]
  readonly key: string
}

/** Cuts the numbers below the x32 bit into intervals of equal treatment. */
function intervalsOf(policy: SeccompPolicy): Interval[] {
  const byNumber = new Map<number, number[]>()
  const everywhere: number[] = []
  for (const [index, rule] of policy.rules.entries()) {
    if (rule.nr === undefined) everywhere.push(index)
    else
      for (const nr of typeof rule.nr === 'number' ? [rule.nr] : rule.nr) {
        if (!Number.isInteger(nr) || nr < 0 || nr >= X32_BIT) throw new RangeError(`system call number ${nr}`)
        byNumber.set(nr, [...(byNumber.get(nr) ?? []), index])
      }
  }
  const treatment = (start: number, own: readonly number[]): Interval => {
    const all = [...own, ...everywhere].sort((a, b) => a - b)
    const last = all.findIndex((i) => !isConditional(policy.rules[i]!))
    const used = last < 0 ? all : all.slice(0, last + 1)
    const rules = used.map((i) => policy.rules[i]!)
    const key = used.length === 1 && last === 0 ? `action ${rules[0]!.action}` : used.join()
    return { start, rules, key }
  }
  const intervals: Interval[] = []
  const add = (interval: Interval) => {
    if (intervals.at(-1)?.key !== interval.key) intervals.push(interval)
  }
  let next = 0
  for (const nr of [...byNumber.keys()].sort((a, b) => a - b)) {
    if (nr > next) add(treatment(next, []))
    add(treatment(nr, byNumber.get(nr)!))
    next = nr + 1
  }
  add(treatment(next, []))
  return intervals
}

/** The program as an array of struct sock_filter, 8 bytes each. */
export function compileFilter(policy: SeccompPolicy): Uint8Array {
  const asm = new BackwardsAssembler()
  const leaves = new Map<string, Label>()
  const leaf = (interval: Interval): Label => {
    const known = leaves.get(interval.key)
    if (known !== undefined && interval.rules.length > 0) return known
    let label = asm.ret(policy.defaultAction)
    for (const rule of [...interval.rules].reverse()) {
      label = isConditional(rule) ? emitRule(asm, rule, label) : asm.ret(rule.action)
    }
    leaves.set(interval.key, label)
    return label
  }
  const tree = (list: readonly Interval[]): Label => {
    if (list.length === 1) return leaf(list[0]!)
    const middle = list.length >> 1
    const right = tree(list.slice(middle))
    const left = tree(list.slice(0, middle))
    return asm.jump(JMP_JGE, list[middle]!.start, right, left)
  }
  const bad = asm.ret(policy.badArchAction)
  const intervals = intervalsOf(policy)
  let label = tree(intervals)
  if (policy.arch === 'x86_64' && policy.x32 !== 'default') {
    // -1 is what a tracer leaves behind for a call it skipped, and an ordinary bad number otherwise.
    const minusOne = asm.jump(JMP_JEQ, 0xffffffff, leaf(intervals.at(-1)!), bad)
    label = asm.jump(JMP_JGE, X32_BIT, minusOne, label)
  } else if (policy.arch === 'x86_64') {
    label = asm.jump(JMP_JGE, X32_BIT, asm.ret(policy.defaultAction), label)
  }
  asm.startAt(label)
  const number = asm.load(OFFSET_NR)
  asm.startAt(asm.jump(JMP_JEQ, AUDIT_ARCH[policy.arch], number, bad))
  asm.load(OFFSET_ARCH)
  return asm.finish()
}
