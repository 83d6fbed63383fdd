/** linux.seccomp as a filter: what libseccomp and runc would let through, and what is refused. */
import { describe, expect, test } from 'vitest'
import { compileProfile } from '../../microvm/seccomp.ts'
import type { SeccompProfile } from '../../sentry/control/protocol.ts'
import { interpret } from '../support/bpf.ts'

const ALLOW = 0x7fff0000
const errno = (n: number) => 0x00050000 | n
const EPERM = 1
const EBUSY = 16
const ENOSYS = 38

const [READ, WRITE, CLONE, KILL, PERSONALITY, FSTATFS] = [0, 1, 56, 62, 135, 138] as const
const CLONE3 = 435

type Rule = Partial<SeccompProfile['syscalls'][number]>
const rule = (names: string[], action: string, more: Rule = {}) => ({ names, action, args: [], ...more })
const arg = (index: number, op: string, value: number, valueTwo = 0) => ({ index, op, value, valueTwo })
function verdict(profile: Partial<SeccompProfile>, nr: number, ...args: bigint[]): number {
  const { program } = compileProfile({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: [], ...profile })
  return interpret(program, { nr, args })
}

/** As Docker's default profile is built, shortened. */
const docker: Partial<SeccompProfile> = {
  defaultErrnoRet: EPERM,
  syscalls: [
    rule(['read', 'write', 'no_such_call', 'faccessat2', 'clone3'], 'SCMP_ACT_ALLOW'),
    ...[0, 8, 0x20000, 0xffffffff].map((v) =>
      rule(['personality'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'SCMP_CMP_EQ', v)] }),
    ),
    rule(['clone'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'SCMP_CMP_MASKED_EQ', 0x7e020000)] }),
    rule(['fstatfs'], 'SCMP_ACT_ERRNO', { errnoRet: ENOSYS }),
  ],
}

describe('a profile', () => {
  test('of the kind that Docker gives', () => {
    expect(verdict(docker, READ)).toBe(ALLOW)
    expect(verdict(docker, KILL)).toBe(errno(EPERM))
    expect(verdict(docker, PERSONALITY, 8n)).toBe(ALLOW)
    expect(verdict(docker, PERSONALITY, 0xffffffffn)).toBe(ALLOW)
    expect(verdict(docker, PERSONALITY, 9n)).toBe(errno(EPERM))
    expect(verdict(docker, CLONE, 0x11n)).toBe(ALLOW)
    expect(verdict(docker, CLONE, 0x10000000n)).toBe(errno(EPERM))
    expect(verdict(docker, FSTATFS)).toBe(errno(ENOSYS))
  })

  test('calls that are younger than it do not exist; other architectures kill', () => {
    expect(verdict(docker, 438)).toBe(errno(EPERM))
    expect(verdict(docker, 439)).toBe(ALLOW)
    expect(verdict(docker, 440)).toBe(errno(ENOSYS))
    expect(verdict(docker, 600)).toBe(errno(ENOSYS))
    expect(verdict({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [rule(['read'], 'SCMP_ACT_ERRNO')] }, 600)).toBe(ALLOW)
    expect(verdict(docker, 0x40000000 | READ)).toBe(0x80000000)
    const { program } = compileProfile({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [] })
    expect(interpret(program, { nr: READ, arch: 0x40000003 })).toBe(0x80000000)
  })

  test('a rule without tests outweighs others of its call; the first of two counts; the default says nothing', () => {
    const mixed = [
      rule(['write'], 'SCMP_ACT_ERRNO', { args: [arg(0, 'SCMP_CMP_EQ', 2)], errnoRet: EBUSY }),
      rule(['write'], 'SCMP_ACT_ALLOW'),
      rule(['write'], 'SCMP_ACT_KILL'),
      rule(['read'], 'SCMP_ACT_ERRNO', { errnoRet: EPERM }),
      rule(['read'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'SCMP_CMP_GE', 3)] }),
    ]
    expect(verdict({ syscalls: mixed }, WRITE, 2n)).toBe(ALLOW)
    expect(verdict({ syscalls: mixed }, READ, 3n)).toBe(ALLOW)
    expect(verdict({ syscalls: mixed }, READ, 2n)).toBe(errno(EPERM))
  })

  test('tests of several arguments hold together, of one argument each for itself', () => {
    const both = [rule(['read'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'SCMP_CMP_EQ', 1), arg(1, 'SCMP_CMP_LT', 5)] })]
    expect(verdict({ syscalls: both }, READ, 1n, 4n)).toBe(ALLOW)
    expect(verdict({ syscalls: both }, READ, 1n, 5n)).toBe(errno(EPERM))
    const either = [rule(['read'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'SCMP_CMP_EQ', 1), arg(0, 'SCMP_CMP_EQ', 2)] })]
    expect(verdict({ syscalls: either }, READ, 2n)).toBe(ALLOW)
    expect(verdict({ syscalls: either }, READ, 3n)).toBe(errno(EPERM))
    const never = [rule(['read'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'SCMP_CMP_MASKED_EQ', 1, 2)] })]
    expect(verdict({ syscalls: never }, READ, 2n)).toBe(errno(EPERM))
    const ones = [rule(['read'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'SCMP_CMP_EQ', 2 ** 64)] })]
    expect(verdict({ syscalls: ones }, READ, 2n ** 64n - 1n)).toBe(ALLOW)
  })

  test('flags', () => {
    const flags = (list?: string[]) =>
      compileProfile({ defaultAction: 'SCMP_ACT_LOG', syscalls: [], ...(list && { flags: list }) }).flags
    expect(flags()).toBe(4)
    expect(flags([])).toBe(0)
    expect(flags(['SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_TSYNC'])).toBe(2)
  })

  test.each([
    [{ defaultAction: 'SCMP_ACT_NOTIFY' }, 'defaultAction: SCMP_ACT_NOTIFY is not supported'],
    [{ syscalls: [rule(['read'], 'ALLOW')] }, 'syscalls[0].action: ALLOW'],
    [{ syscalls: [rule(['x'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'EQ', 1)] })] }, 'syscalls[0].args[0].op: EQ'],
    [
      { syscalls: [rule(['x'], 'SCMP_ACT_ALLOW', { args: [arg(0, 'SCMP_CMP_EQ', 2 ** 60)] })] },
      'syscalls[0].args[0].value',
    ],
    [{ flags: ['SECCOMP_FILTER_FLAG_NEW_LISTENER'] }, 'flags: SECCOMP_FILTER_FLAG_NEW_LISTENER'],
    [{ listenerPath: '/run/x' }, 'listenerPath'],
  ])('%j is refused', (profile, message) => {
    expect(() => verdict(profile as Partial<SeccompProfile>, READ)).toThrow(message)
  })

  test('names of calls from 0 to the last', () => {
    expect(verdict({ syscalls: [rule(['clone3'], 'SCMP_ACT_ALLOW')] }, CLONE3)).toBe(ALLOW)
  })
})
