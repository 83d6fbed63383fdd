/**
 * The seccomp compiler, checked by interpreting its output and comparing with the rules read top down.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import koffi from 'koffi'
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
import { type Call, interpret, X86_64 } from '../support/bpf.ts'

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
const anyTest: fc.Arbitrary<ArgTest> = fc.record(
  {
    arg: fc.constantFrom<0 | 1 | 2>(0, 1, 2),
    op: fc.constantFrom('eq', 'ne', 'ge', 'gt', 'le', 'lt'),
    value: numbers,
    mask: fc.constantFrom(-1, 0xff, 0, 0xffffffff, 0xff00000000, ~0x800),
    width: fc.constantFrom(32, 64),
  },
  { requiredKeys: ['arg', 'op', 'value'] },
)
/** A value with bits outside its mask never matches: the compiler refuses it. */
const argTest = anyTest.map((t) =>
  t.mask !== undefined && (t.op === 'eq' || t.op === 'ne')
    ? { ...t, value: Number(BigInt.asIntN(64, BigInt(t.value) & BigInt(t.mask))) }
    : t,
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

  it('refuses rules that cannot be meant', () => {
    expect(() => compileFilter({ ...base, rules: [{ nr: 0x40000000, action: 0 }] })).toThrow(RangeError)
    const args: ArgTest[] = [{ arg: 0, op: 'eq', value: 3, mask: 2 }]
    expect(() => compileFilter({ ...base, rules: [{ nr: 1, args, action: 0 }] })).toThrow('never match')
  })
})

/** libseccomp, where the machine has it (apt and systemd bring it to most). */
function loadLibseccomp() {
  try {
    const lib = koffi.load('libseccomp.so.2')
    return {
      init: lib.func('seccomp_init', 'void *', ['uint32']),
      release: lib.func('seccomp_release', 'void', ['void *']),
      addRule: lib.func('seccomp_rule_add_array', 'int', ['void *', 'uint32', 'int', 'uint', 'void *']),
      exportBpf: lib.func('seccomp_export_bpf', 'int', ['void *', 'int']),
    }
  } catch {
    return null
  }
}
const libseccomp = loadLibseccomp()

describe.skipIf(libseccomp === null)('against libseccomp', () => {
  const SCMP_OP = { ne: 1, lt: 2, le: 3, eq: 4, ge: 5, gt: 6 }
  const SCMP_MASKED_EQ = 7

  /** struct scmp_arg_cmp: u32 arg, u32 op, u64 datum_a, u64 datum_b. */
  function argCompare(tests: readonly ArgTest[]): Buffer {
    const out = Buffer.alloc(24 * Math.max(1, tests.length))
    tests.forEach((t, i) => {
      const masked = t.mask !== undefined && t.op === 'eq'
      out.writeUInt32LE(t.arg, i * 24)
      out.writeUInt32LE(masked ? SCMP_MASKED_EQ : SCMP_OP[t.op], i * 24 + 4)
      out.writeBigUInt64LE(BigInt.asUintN(64, BigInt(masked ? t.mask! : t.value)), i * 24 + 8)
      out.writeBigUInt64LE(masked ? BigInt.asUintN(64, BigInt(t.value)) : 0n, i * 24 + 16)
    })
    return out
  }

  it('decides alike', () => {
    const dir = mkdtempSync(join(tmpdir(), 'seccomp-'))
    // What libseccomp can say: a rule per call, a test per argument, 64 bits wide, masks with eq alone.
    const tests = fc
      .uniqueArray(argTest, { selector: (t) => t.arg, maxLength: 3 })
      .map((list) =>
        list.map(({ arg, op, value, mask }) =>
          op === 'eq' && mask !== undefined ? { arg, op, value, mask } : { arg, op, value },
        ),
      )
    const action = fc.constantFrom(SECCOMP_ALLOW, seccompErrno(1), seccompTrace(7))
    const rules = fc.uniqueArray(fc.record({ nr: fc.nat(20), args: tests, action }), {
      selector: (r) => r.nr,
      maxLength: 8,
    })
    fc.assert(
      fc.property(rules, fc.array(call, { minLength: 5, maxLength: 30 }), (list, calls) => {
        const ctx = libseccomp!.init(SECCOMP_TRAP)
        for (const r of list) {
          expect(libseccomp!.addRule(ctx, r.action, r.nr, r.args.length, argCompare(r.args))).toBe(0)
        }
        const file = join(dir, 'bpf')
        const fd = openSync(file, 'w')
        expect(libseccomp!.exportBpf(ctx, fd)).toBe(0)
        closeSync(fd)
        libseccomp!.release(ctx)
        const theirs = new Uint8Array(readFileSync(file))
        const ours = compileFilter({ arch: 'x86_64', rules: list, defaultAction: SECCOMP_TRAP, badArchAction: 0 })
        for (const c of calls) expect(interpret(ours, c)).toBe(interpret(theirs, c))
      }),
      { numRuns: 150 },
    )
    rmSync(dir, { recursive: true })
  })
})
