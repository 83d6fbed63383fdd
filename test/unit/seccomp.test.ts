/**
 * The seccomp compiler, checked by interpreting its output and comparing with the rules read top down.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ArgTest,
  compileFilter,
  SECCOMP_ALLOW,
  SECCOMP_KILL_PROCESS,
  SECCOMP_TRAP,
  SECCOMP_USER_NOTIF,
  type SeccompPolicy,
  type SeccompRule,
  seccompErrno,
  seccompTrace,
} from '../../native/seccomp.ts'

interface Call {
  nr: number
  arch?: number
  ip?: bigint
  args?: bigint[]
}

const X86_64 = 0xc000003e

/** Classic BPF over struct seccomp_data, only what the kernel's seccomp_check_filter accepts. */
function interpret(program: Uint8Array, call: Call): number {
  const data = new DataView(new ArrayBuffer(64))
  data.setUint32(0, call.nr, true)
  data.setUint32(4, call.arch ?? X86_64, true)
  data.setBigUint64(8, call.ip ?? 0n, true)
  for (let i = 0; i < 6; i++) data.setBigUint64(16 + 8 * i, BigInt.asUintN(64, call.args?.[i] ?? 0n), true)
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength)
  const length = program.byteLength / 8
  let a = 0
  for (let pc = 0; pc < length; pc++) {
    const op = code.getUint16(pc * 8, true)
    const jt = code.getUint8(pc * 8 + 2)
    const jf = code.getUint8(pc * 8 + 3)
    const k = code.getUint32(pc * 8 + 4, true)
    if (op === 0x20 && k % 4 === 0) a = data.getUint32(k, true)
    else if (op === 0x54) a = (a & k) >>> 0
    else if (op === 0x05) pc += k
    else if (op === 0x15) pc += a === k ? jt : jf
    else if (op === 0x25) pc += a > k ? jt : jf
    else if (op === 0x35) pc += a >= k ? jt : jf
    else if (op === 0x06) return k
    else throw new Error(`instruction ${op.toString(16)} at ${pc}`)
  }
  throw new Error('ran off the end')
}

function holds(test: ArgTest, args: bigint[]): boolean {
  const bits = test.width ?? 64
  const actual = BigInt.asUintN(bits, args[test.arg] ?? 0n)
  const value = BigInt.asUintN(bits, BigInt(test.value))
  const mask = BigInt.asUintN(bits, BigInt(test.mask ?? -1))
  if (test.op === 'eq') return (actual & mask) === value
  if (test.op === 'ne') return (actual & mask) !== value
  if (test.op === 'ge') return actual >= value
  if (test.op === 'gt') return actual > value
  if (test.op === 'le') return actual <= value
  return actual < value
}

/** What the policy says, read by a human. */
function decide(policy: SeccompPolicy, call: Call): number {
  if ((call.arch ?? X86_64) !== X86_64) return policy.badArchAction
  if (call.nr >= 0x40000000 && call.nr !== 0xffffffff) return policy.badArchAction
  for (const rule of policy.rules) {
    const numbers = rule.nr === undefined ? undefined : typeof rule.nr === 'number' ? [rule.nr] : rule.nr
    if (numbers && !numbers.includes(call.nr)) continue
    const ip = call.ip ?? 0n
    if (rule.ip && (ip < BigInt(rule.ip.from) || ip >= BigInt(rule.ip.to))) continue
    if ((rule.args ?? []).every((t) => holds(t, call.args ?? []))) return rule.action
  }
  return policy.defaultAction
}

const numbers = fc.constantFrom(0, 1, -1, -100, 5, 0xffffffff, 0x100000000, 0x100000001, 0x7ffff0000000, 2 ** 53 - 1)
const argTest: fc.Arbitrary<ArgTest> = fc.record(
  {
    arg: fc.constantFrom<0 | 1 | 2>(0, 1, 2),
    op: fc.constantFrom('eq', 'ne', 'ge', 'gt', 'le', 'lt'),
    value: numbers,
    mask: fc.constantFrom(-1, 0xff, 0, 0xffffffff, 0xff00000000, ~0x800),
    width: fc.constantFrom(32, 64),
  },
  { requiredKeys: ['arg', 'op', 'value'] },
)
const rule: fc.Arbitrary<SeccompRule> = fc.record(
  {
    nr: fc.oneof(fc.nat(9), fc.array(fc.nat(400), { maxLength: 40 })),
    args: fc.array(argTest, { maxLength: 3 }),
    ip: fc.constantFrom({ from: 0x7fff00000000, to: 0x7fff00001000 }, { from: 0, to: 4 }),
    action: fc.constantFrom(SECCOMP_ALLOW, SECCOMP_TRAP, SECCOMP_USER_NOTIF, seccompErrno(1), seccompTrace(7)),
  },
  { requiredKeys: ['action'] },
)
const value64 = fc.oneof(
  numbers.map((n) => BigInt(n)),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
)
const call: fc.Arbitrary<Call> = fc.record(
  {
    nr: fc.oneof(fc.nat(9), fc.nat(410), fc.constantFrom(0x40000000, 0x40000001, 0xffffffff, 0xfffffffe, 0x3fffffff)),
    arch: fc.constantFrom(X86_64, X86_64, X86_64, 0x40000003),
    ip: fc.constantFrom(0n, 4n, 0x7fff00000000n, 0x7fff00000fffn, 0x7fff00001000n),
    args: fc.array(value64, { maxLength: 3 }),
  },
  { requiredKeys: ['nr'] },
)

describe('compileFilter', () => {
  const base = { arch: 'x86_64', defaultAction: SECCOMP_TRAP, badArchAction: SECCOMP_KILL_PROCESS } as const

  it('decides as the rules read top down', () => {
    fc.assert(
      fc.property(
        fc.array(rule, { maxLength: 12 }),
        fc.array(call, { minLength: 1, maxLength: 20 }),
        (rules, calls) => {
          const policy = { ...base, rules }
          const program = compileFilter(policy)
          for (const c of calls) expect(interpret(program, c)).toBe(decide(policy, c))
        },
      ),
      { numRuns: 400 },
    )
  })

  it('bridges distances beyond 255 instructions', () => {
    const rules = Array.from({ length: 180 }, (_, i) => ({
      nr: i * 2,
      args: [{ arg: 0 as const, op: 'eq' as const, value: 0x100000000 + i }],
      action: seccompErrno(i + 1),
    }))
    const policy = { ...base, rules }
    const program = compileFilter(policy)
    expect(program.byteLength / 8).toBeGreaterThan(512)
    for (let nr = 0; nr < 400; nr++) {
      for (const arg of [0n, 0x100000000n + BigInt(nr >> 1)]) {
        expect(interpret(program, { nr, args: [arg] })).toBe(decide(policy, { nr, args: [arg] }))
      }
    }
  })

  it('treats foreign architectures and x32 as bad, and -1 as an ordinary unknown call', () => {
    const program = compileFilter({ ...base, rules: [{ nr: 1, action: SECCOMP_ALLOW }] })
    expect(interpret(program, { nr: 1 })).toBe(SECCOMP_ALLOW)
    expect(interpret(program, { nr: 1, arch: 0x40000003 })).toBe(SECCOMP_KILL_PROCESS)
    expect(interpret(program, { nr: 0x40000001 })).toBe(SECCOMP_KILL_PROCESS)
    expect(interpret(program, { nr: 0xffffffff })).toBe(SECCOMP_TRAP)
  })

  it('merges neighbours into ranges', () => {
    const nr = Array.from({ length: 300 }, (_, i) => i)
    expect(compileFilter({ ...base, rules: [{ nr, action: SECCOMP_ALLOW }] }).byteLength / 8).toBeLessThan(12)
  })

  it('refuses numbers that are none', () => {
    expect(() => compileFilter({ ...base, rules: [{ nr: 0x40000000, action: 0 }] })).toThrow(RangeError)
  })
})
