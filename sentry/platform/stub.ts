/**
 * Where the stub lives in every guest address space, and the seccomp policy of guest threads (DESIGN §5).
 *
 * Each row of the policy that lets something run on the host is argued in README.md. Assume that hostile code jumps into
 * the stub and makes these calls at will: none of them opens, names or shares anything.
 */
import {
  compileFilter,
  SECCOMP_ALLOW,
  SECCOMP_KILL_PROCESS,
  SECCOMP_USER_NOTIF,
  type SeccompRule,
} from '../../native/seccomp.ts'
import {
  SYS_clock_gettime,
  SYS_clone,
  SYS_close,
  SYS_exit,
  SYS_futex,
  SYS_getcpu,
  SYS_gettimeofday,
  SYS_madvise,
  SYS_mmap,
  SYS_mprotect,
  SYS_mremap,
  SYS_munmap,
  SYS_prctl,
  SYS_rt_sigreturn,
  SYS_sched_yield,
  SYS_sigaltstack,
  SYS_time,
  SYS_write,
} from '../abi/syscall-numbers.ts'

/** End of what guests may use: arenas, the stub and the vDSO are above (ARENA_BASE of native/stub/protocol.h). */
export const STUB_BASE = 0x7fff80000000
export const STUB_TEXT = 0x7ffff0000000
export const STUB_TEXT_SIZE = 0x4000
export const STUB_OPS = 0x7ffff0004000

const inStub = { from: STUB_TEXT, to: STUB_TEXT + STUB_TEXT_SIZE }
/** As in native/stub/protocol.h. */
const WAKE_FD = 6
const DONATED_FD = 5
export const LISTENER_FD = 0
const MAP_ANONYMOUS = 0x20
const FUTEX_CMD_MASK = 0x7f
/** WAIT WAKE REQUEUE CMP_REQUEUE WAKE_OP WAIT_BITSET WAKE_BITSET: everything but priority inheritance. */
const FUTEX_NATIVE = [0, 1, 3, 4, 5, 9, 10]
/** NORMAL RANDOM SEQUENTIAL WILLNEED DONTNEED FREE REMOVE DONTFORK DOFORK HUGEPAGE NOHUGEPAGE DONTDUMP DODUMP WIPEONFORK KEEPONFORK COLD PAGEOUT POPULATE_READ POPULATE_WRITE. */
const ADVICE = [0, 1, 2, 3, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]

/** Negative clock ids name other processes' CPU clocks. */
const clocks = (from: number, to: number): SeccompRule => ({
  nr: SYS_clock_gettime,
  args: [
    { arg: 0, op: 'ge', value: from, width: 32 },
    { arg: 0, op: 'le', value: to, width: 32 },
  ],
  action: SECCOMP_ALLOW,
})
/** A thread of the host's may have been another one of the guest's: the stub takes off what that one used. */
const THREAD_CPUTIME = 3
const SYSTRAP_CLOCKS: readonly SeccompRule[] = [
  clocks(0, THREAD_CPUTIME - 1),
  { ...clocks(THREAD_CPUTIME, THREAD_CPUTIME), ip: inStub },
  clocks(THREAD_CPUTIME + 1, 11),
]

/** What the stub of systrap needs besides: traps are signals there, and it orders its clones itself. */
const SYSTRAP_RULES: readonly SeccompRule[] = [
  { nr: [SYS_rt_sigreturn, SYS_sigaltstack], ip: inStub, action: SECCOMP_ALLOW },
  // Wakes the sentry: eight bytes to its eventfd, nothing else.
  { nr: SYS_write, ip: inStub, args: [{ arg: 0, op: 'eq', value: WAKE_FD }], action: SECCOMP_ALLOW },
  // PR_SET_PDEATHSIG, SIGKILL: a stub dies with the sentry.
  {
    nr: SYS_prctl,
    ip: inStub,
    args: [
      { arg: 0, op: 'eq', value: 1 },
      { arg: 1, op: 'eq', value: 9 },
    ],
    action: SECCOMP_ALLOW,
  },
  { nr: SYS_clone, ip: inStub, action: SECCOMP_USER_NOTIF },
]

/** `trapped` is the platform's action for everything the sentry answers. */
export function guestFilter(trapped: number, systrap = false): Uint8Array {
  const rules: SeccompRule[] = [
    ...(systrap ? SYSTRAP_RULES : []),
    // Run natively, from guest code as well: they act on the caller's own memory and time.
    ...FUTEX_NATIVE.map((op) => ({
      nr: SYS_futex,
      args: [{ arg: 1 as const, op: 'eq' as const, value: op, mask: FUTEX_CMD_MASK, width: 32 as const }],
      action: SECCOMP_ALLOW,
    })),
    { nr: [SYS_sched_yield, SYS_gettimeofday, SYS_time, SYS_getcpu], action: SECCOMP_ALLOW },
    ...(systrap ? SYSTRAP_CLOCKS : [clocks(0, 11)]),
    // For the stub only.
    {
      nr: SYS_mmap,
      ip: inStub,
      args: [{ arg: 3, op: 'eq', value: MAP_ANONYMOUS, mask: MAP_ANONYMOUS, width: 32 }],
      action: SECCOMP_ALLOW,
    },
    { nr: SYS_mmap, ip: inStub, action: SECCOMP_USER_NOTIF },
    { nr: [SYS_munmap, SYS_mprotect, SYS_mremap, SYS_exit], ip: inStub, action: SECCOMP_ALLOW },
    // Only the descriptor of the mapping in progress: without its wake-up a process could make nobody notice it.
    { nr: SYS_close, ip: inStub, args: [{ arg: 0, op: 'eq', value: DONATED_FD }], action: SECCOMP_ALLOW },
    // The zygote's copy of the listener, once: the lowest number, since it starts with no other.
    { nr: SYS_close, ip: inStub, args: [{ arg: 0, op: 'eq', value: LISTENER_FD }], action: SECCOMP_ALLOW },
    ...ADVICE.map((advice) => ({
      nr: SYS_madvise,
      ip: inStub,
      args: [{ arg: 2 as const, op: 'eq' as const, value: advice, width: 32 as const }],
      action: SECCOMP_ALLOW,
    })),
  ]
  // Numbers that no call has, x32's among them, are answered by the sentry: ENOSYS, as on a kernel without x32.
  return compileFilter({
    arch: 'x86_64',
    rules,
    defaultAction: trapped,
    badArchAction: SECCOMP_KILL_PROCESS,
    x32: 'default',
  })
}
