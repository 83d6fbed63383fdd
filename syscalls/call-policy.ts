/**
 * What the platform may do with a call before the sentry sees it, and whether its results may be written late: read off
 * the table's signatures, once at the start.
 */
import { CHANGES_NOTHING, FILLS_MEMORY, SEES_OTHERS } from '../sentry/kernel/kernel.ts'
import type { CallPolicy } from '../sentry/platform/platform.ts'
import type { Syscall } from './define.ts'

/** Natively made, or with effects on more than the result register: they want a signal frame, or no sentry at all. */
const DIRECT = new Set([
  ...['futex', 'sched_yield', 'clock_gettime', 'gettimeofday', 'time', 'getcpu'],
  ...['rt_sigreturn', 'clone', 'clone3', 'fork', 'vfork', 'execve', 'execveat', 'exit', 'exit_group', 'arch_prctl'],
])
/** What asks of a name whether it is a link gets the same answer until names change: GuestThread.remember(). */
const REMEMBERED = new Set(['readlink', 'readlinkat'])
/** CHECK_* of native/stub/protocol.h: what an argument has to be like for the name to be looked at. */
const ANY = 1 << 3
const OPEN = 2 << 3
const AT = 3 << 3
const MODE = 4 << 3
const ACCESS = 5 << 3
const STATX = 6 << 3
const SIZE = 7 << 3
/** Calls that only ask for a name, with the index of that argument. */
const CHECKS = new Map([
  ['stat', ANY],
  ['lstat', ANY],
  ['open', OPEN | 1],
  ['openat', OPEN | 2],
  ['newfstatat', AT | 3],
  ['access', MODE | 1],
  ['faccessat', MODE | 2],
  ['faccessat2', ACCESS | 2],
  ['statx', STATX | 2],
  ['readlink', SIZE | 2],
  ['readlinkat', SIZE | 3],
])
/**
 * What leaves every file's attributes and every descriptor as they are, but for atimes (touchAtime says so), opens that write
 * and what is closed (open.ts does): common calls between an open and the fstat that follows it.
 */
const HARMLESS = new Set([
  ...['open', 'openat', 'close', 'read', 'pread64', 'lseek', 'stat', 'lstat', 'fstat', 'newfstatat', 'statx'],
  ...['access', 'faccessat', 'faccessat2', 'readlink', 'readlinkat', 'getcwd', 'brk', 'mmap', 'munmap', 'mprotect'],
  ...['rt_sigaction', 'rt_sigprocmask', 'getpid', 'gettid', 'getuid', 'getgid', 'geteuid', 'getegid', 'wait4'],
  ...['prlimit64', 'uname', 'sysinfo', 'getrandom', 'set_tid_address', 'set_robust_list', 'rseq', 'poll', 'pselect6'],
])
/** What may tell who has a file open: kernel/opened-file.ts. */
const SEEING_OTHERS = new Set(['umount2', 'inotify_add_watch', 'pidfd_getfd', 'kcmp', 'statfs', 'fstatfs'])
/** In the order of GuestThread.answer(). */
const ANSWERED = ['getpid', 'gettid', 'getuid', 'getgid', 'geteuid', 'getegid']

/** One pass without regular expressions: every start of a container reads hundreds of signatures. */
export function callPolicy(call: Syscall): CallPolicy {
  const policy = {
    direct: DIRECT.has(call.name),
    path: -1,
    path2: -1,
    bytes: -1,
    sixteen: -1,
    memo: REMEMBERED.has(call.name),
    check: CHECKS.get(call.name) ?? 0,
    answer: ANSWERED.indexOf(call.name),
  }
  const { signature } = call
  for (let at = 0, index = 0; at >= 0 && signature !== ''; index++) {
    const kind = signature.slice(at, signature.indexOf(' ', at))
    if (kind === 'path') {
      if (policy.path < 0) policy.path = index
      else if (policy.path2 < 0) policy.path2 = index
    } else if (policy.bytes < 0 && (kind === `buf${index + 1}` || kind === `sockaddr${index + 1}`)) policy.bytes = index
    else if (policy.sixteen < 0 && (kind === 'timespec' || kind === 'epoll_event')) policy.sixteen = index
    at = signature.indexOf(', ', at)
    if (at >= 0) at += 2
  }
  return policy
}

/** What the kernel wants to know of a call before it runs. */
export function callKinds(call: Syscall): number {
  return (
    (fillsMemory(call) ? FILLS_MEMORY : 0) |
    (HARMLESS.has(call.name) ? CHANGES_NOTHING : 0) |
    (SEEING_OTHERS.has(call.name) ? SEES_OTHERS : 0)
  )
}

/**
 * Whether what the call writes to guest memory may wait until its task resumes: it only fills what its caller asked for
 * (kinds that end in '>'), and nobody else is told that it is there.
 */
function fillsMemory(call: Syscall): boolean {
  return call.signature.includes('> ')
}
