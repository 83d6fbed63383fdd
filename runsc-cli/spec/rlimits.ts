/** RLIMIT_* names by number (asm-generic/resource.h). */
export const RLIMITS: readonly string[] = [
  'RLIMIT_CPU',
  'RLIMIT_FSIZE',
  'RLIMIT_DATA',
  'RLIMIT_STACK',
  'RLIMIT_CORE',
  'RLIMIT_RSS',
  'RLIMIT_NPROC',
  'RLIMIT_NOFILE',
  'RLIMIT_MEMLOCK',
  'RLIMIT_AS',
  'RLIMIT_LOCKS',
  'RLIMIT_SIGPENDING',
  'RLIMIT_MSGQUEUE',
  'RLIMIT_NICE',
  'RLIMIT_RTPRIO',
  'RLIMIT_RTTIME',
]

/** RLIM_INFINITY is 2^64 − 1 (or −1) in JSON; on the control channel it is −1. */
export function rlimitValue(n: number): number {
  return n < 0 || n > Number.MAX_SAFE_INTEGER ? -1 : n
}
