/**
 * Resource limits (getrlimit(2)). RLIM_INFINITY is Infinity inside.
 */
export const RLIMIT_CPU = 0
export const RLIMIT_FSIZE = 1
export const RLIMIT_DATA = 2
export const RLIMIT_STACK = 3
export const RLIMIT_CORE = 4
export const RLIMIT_RSS = 5
export const RLIMIT_NPROC = 6
export const RLIMIT_NOFILE = 7
export const RLIMIT_MEMLOCK = 8
export const RLIMIT_AS = 9
export const RLIMIT_LOCKS = 10
export const RLIMIT_SIGPENDING = 11
export const RLIMIT_MSGQUEUE = 12
export const RLIMIT_NICE = 13
export const RLIMIT_RTPRIO = 14
export const RLIMIT_RTTIME = 15
export const RLIM_NLIMITS = 16
export const RLIMIT_NAMES = [
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

export class Limits {
  readonly soft: number[]
  readonly hard: number[]

  constructor(soft?: readonly number[], hard?: readonly number[]) {
    this.soft = soft === undefined ? defaults() : soft.slice()
    this.hard = hard === undefined ? defaults() : hard.slice()
    if (soft === undefined) {
      this.soft[RLIMIT_STACK] = 8 * 1024 * 1024
      this.soft[RLIMIT_NOFILE] = 1024
      this.soft[RLIMIT_CORE] = 0
    }
  }
  clone(): Limits {
    return new Limits(this.soft, this.hard)
  }
}

function defaults(): number[] {
  const l = new Array<number>(RLIM_NLIMITS).fill(Number.POSITIVE_INFINITY)
  l[RLIMIT_NPROC] = 96000
  l[RLIMIT_SIGPENDING] = 96000
  l[RLIMIT_NOFILE] = 1048576
  l[RLIMIT_MEMLOCK] = 8 * 1024 * 1024
  l[RLIMIT_MSGQUEUE] = 819200
  l[RLIMIT_NICE] = 0
  l[RLIMIT_RTPRIO] = 0
  return l
}
