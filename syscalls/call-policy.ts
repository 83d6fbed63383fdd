/**
 * What the platform may do with a call before the sentry sees it, and whether its results may be written late: read off
 * the table's signatures, once at the start.
 */
import type { CallPolicy } from '../sentry/platform/platform.ts'
import type { Syscall } from './define.ts'

/** Natively made, or with effects on more than the result register: they want a signal frame, or no sentry at all. */
const DIRECT = new Set([
  ...['futex', 'sched_yield', 'clock_gettime', 'gettimeofday', 'time', 'getcpu'],
  ...['rt_sigreturn', 'clone', 'clone3', 'fork', 'vfork', 'execve', 'execveat', 'exit', 'exit_group', 'arch_prctl'],
])
/** In the order of GuestThread.answer(). */
const ANSWERED = ['getpid', 'gettid', 'getuid', 'getgid', 'geteuid', 'getegid']

interface Argument {
  kind: string
  index: number
}

function argumentsOf(call: Syscall): Argument[] {
  if (call.signature === '') return []
  return call.signature.split(',').map((part, index) => ({ kind: part.trim().split(' ')[0]!, index }))
}

export function callPolicy(call: Syscall): CallPolicy {
  const args = argumentsOf(call)
  const paths = args.filter((arg) => arg.kind === 'path')
  const counted = (arg: Argument): boolean =>
    /^(buf|sockaddr)\d$/.test(arg.kind) && arg.kind.endsWith(`${arg.index + 1}`)
  return {
    direct: DIRECT.has(call.name),
    path: paths[0]?.index ?? -1,
    path2: paths[1]?.index ?? -1,
    bytes: args.find(counted)?.index ?? -1,
    sixteen: args.find((arg) => arg.kind === 'timespec' || arg.kind === 'epoll_event')?.index ?? -1,
    answer: ANSWERED.indexOf(call.name),
  }
}

/**
 * Whether what the call writes to guest memory may wait until its task resumes: it only fills what its caller asked for
 * (kinds that end in '>'), and nobody else is told that it is there.
 */
export function fillsMemory(call: Syscall): boolean {
  return argumentsOf(call).some((arg) => arg.kind.endsWith('>'))
}
