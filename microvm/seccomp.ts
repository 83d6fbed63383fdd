/**
 * linux.seccomp of config.json as a filter for the guest's kernel (seccomp(2)), with the meaning that libseccomp and runc
 * give to it: names that nobody knows are left out, a rule that only repeats the default says nothing, several tests of one
 * argument are alternatives, and a rule without tests outweighs those with tests of the same call.
 *
 * Only x86-64 calls can be allowed. Those of other architectures (i386, x32) kill, whatever the profile's list says.
 */
import {
  type ArgTest,
  compileFilter,
  SECCOMP_ALLOW,
  SECCOMP_KILL_PROCESS,
  SECCOMP_KILL_THREAD,
  SECCOMP_LOG,
  SECCOMP_TRAP,
  type SeccompRule,
  seccompErrno,
  seccompTrace,
} from '../native/seccomp.ts'
import { EPERM } from '../sentry/abi/errno.ts'
import * as numbers from '../sentry/abi/syscall-numbers.ts'
import type { SeccompProfile } from '../sentry/control/protocol.ts'

const ENOSYS = 38
/** Of the calls that Linux may still get. */
const LAST_NUMBER = 1023

const FLAGS: Readonly<Record<string, number>> = {
  // One thread is there when the filter is installed.
  SECCOMP_FILTER_FLAG_TSYNC: 0,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
}

const OPS: Readonly<Record<string, ArgTest['op']>> = {
  SCMP_CMP_NE: 'ne',
  SCMP_CMP_LT: 'lt',
  SCMP_CMP_LE: 'le',
  SCMP_CMP_EQ: 'eq',
  SCMP_CMP_GE: 'ge',
  SCMP_CMP_GT: 'gt',
}

export interface GuestFilter {
  /** struct sock_filter, 8 bytes each. */
  program: Buffer
  /** SECCOMP_FILTER_FLAG_* */
  flags: number
}

const NUMBERS: ReadonlyMap<string, number> = new Map(
  Object.entries(numbers).map(([name, nr]) => [name.replace(/^SYS_/, ''), nr]),
)

function action(name: string, errno: number | undefined, at: string): number {
  switch (name) {
    case 'SCMP_ACT_ALLOW':
      return SECCOMP_ALLOW
    case 'SCMP_ACT_ERRNO':
      return seccompErrno(errno ?? EPERM)
    case 'SCMP_ACT_KILL':
    case 'SCMP_ACT_KILL_THREAD':
      return SECCOMP_KILL_THREAD
    case 'SCMP_ACT_KILL_PROCESS':
      return SECCOMP_KILL_PROCESS
    case 'SCMP_ACT_LOG':
      return SECCOMP_LOG
    case 'SCMP_ACT_TRAP':
      return SECCOMP_TRAP
    case 'SCMP_ACT_TRACE':
      return seccompTrace(errno ?? EPERM)
    default:
      throw new Error(`${at}: ${name} is not supported`)
  }
}

/** Values are JSON's doubles: exact up to 2⁵³. The one above that is written is all ones. */
function exact(value: number, at: string): number {
  if (value === 2 ** 64) return -1
  if (!Number.isSafeInteger(value)) throw new Error(`${at}: ${value} is more than can be told apart`)
  return value
}

type Arg = SeccompProfile['syscalls'][number]['args'][number]

/** null: it never holds. */
function test({ index, value, valueTwo, op }: Arg, at: string): ArgTest | null {
  const arg = index as ArgTest['arg']
  if (op === 'SCMP_CMP_MASKED_EQ') {
    const mask = exact(value, `${at}.value`)
    const wanted = exact(valueTwo, `${at}.valueTwo`)
    const outside = BigInt.asUintN(64, BigInt(wanted) & ~BigInt(mask)) !== 0n
    return outside ? null : { arg, op: 'eq', value: wanted, mask }
  }
  const known = OPS[op]
  if (!known) throw new Error(`${at}.op: ${op} is not supported`)
  return { arg, op: known, value: exact(value, `${at}.value`) }
}

/** The rules of one entry for one of its calls. */
function alternatives(args: readonly Arg[], at: string): (readonly ArgTest[])[] {
  const tests = args.map((arg, i) => test(arg, `${at}.args[${i}]`))
  const repeated = new Set(args.map((a) => a.index)).size < args.length
  if (repeated) return tests.filter((t) => t !== null).map((t) => [t])
  return tests.includes(null) ? [] : [tests as ArgTest[]]
}

/** Throws an Error that names the field. */
export function compileProfile(profile: SeccompProfile): GuestFilter {
  const at = 'linux.seccomp'
  const defaultAction = action(profile.defaultAction, profile.defaultErrnoRet, `${at}.defaultAction`)
  const always = new Map<number, SeccompRule>()
  const sometimes = new Map<number, SeccompRule[]>()
  let last = -1
  profile.syscalls.forEach((entry, i) => {
    const where = `${at}.syscalls[${i}]`
    const act = action(entry.action, entry.errnoRet, `${where}.action`)
    const tests = alternatives(entry.args, where)
    for (const name of entry.names) {
      const nr = NUMBERS.get(name)
      if (nr === undefined) continue
      last = Math.max(last, nr)
      if (act === defaultAction) continue
      if (entry.args.length === 0) {
        if (!always.has(nr)) always.set(nr, { nr, action: act })
      } else for (const args of tests) sometimes.set(nr, [...(sometimes.get(nr) ?? []), { nr, args, action: act }])
    }
  })
  const rules = [...always.values()]
  for (const [nr, list] of sometimes) if (!always.has(nr)) rules.push(...list)
  // As runc: calls that are younger than the profile do not exist, so that programs fall back on older ones.
  if (last >= 0 && /^SCMP_ACT_(ERRNO|KILL|TRAP)/.test(profile.defaultAction))
    rules.push({
      nr: Array.from({ length: LAST_NUMBER - last }, (_, i) => last + 1 + i),
      action: seccompErrno(ENOSYS),
    })
  const program = compileFilter({ arch: 'x86_64', rules, defaultAction, badArchAction: SECCOMP_KILL_PROCESS })
  return { program: Buffer.from(program), flags: flags(profile, `${at}.flags`) }
}

function flags({ flags, listenerPath }: SeccompProfile, at: string): number {
  if (listenerPath) throw new Error('linux.seccomp.listenerPath: notifications of a guest kernel cannot be listened to')
  if (!flags) return FLAGS['SECCOMP_FILTER_FLAG_SPEC_ALLOW']!
  return flags.reduce((mask, name) => {
    const bit = FLAGS[name]
    if (bit === undefined) throw new Error(`${at}: ${name} is not supported`)
    return mask | bit
  }, 0)
}
