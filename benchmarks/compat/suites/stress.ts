/**
 * stress-ng's stressors of system calls, each with a fixed number of operations and --verify. Left out: those that need
 * hardware, file systems or capabilities that a container does not get, and those that only fill the memory.
 */
import type { Case, Suite } from '../types.ts'

const SECONDS = 60
const OPERATIONS = 20

/** Those whose operations are so short that more of them say more, or so long that fewer do. */
const OTHER: Record<string, number> = {
  access: 200,
  alarm: 3,
  'bad-altstack': 50,
  chdir: 50,
  clock: 50,
  clone: 100,
  close: 500,
  context: 200,
  dentry: 5,
  dup: 200,
  dynlib: 10,
  env: 10,
  epoll: 500,
  eventfd: 1000,
  exec: 50,
  'exit-group': 50,
  fallocate: 5,
  fcntl: 500,
  fifo: 1000,
  filename: 100,
  flock: 500,
  fork: 200,
  fstat: 50,
  futex: 1000,
  get: 20,
  getrandom: 500,
  hdd: 3,
  hrtimers: 1,
  inotify: 5,
  io: 3,
  iomix: 50,
  ioprio: 3,
  kill: 1000,
  link: 2,
  locka: 500,
  lockf: 500,
  lockofd: 500,
  madvise: 3,
  membarrier: 3,
  memfd: 5,
  mincore: 5,
  mlock: 5,
  mmap: 1,
  mmapaddr: 5,
  mmapfixed: 3,
  mmapmany: 1,
  mprotect: 5,
  mq: 1000,
  mremap: 5,
  msg: 1000,
  msync: 10,
  mutex: 200,
  nanosleep: 10,
  nice: 2,
  null: 1000,
  numa: 3,
  open: 500,
  pipe: 2000,
  pipeherd: 2,
  poll: 500,
  procfs: 1,
  pthread: 200,
  pty: 1,
  remap: 5,
  rename: 200,
  resched: 50,
  'ring-pipe': 500,
  rmap: 3,
  schedpolicy: 200,
  seek: 500,
  sem: 5,
  'sem-sysv': 1000,
  session: 50,
  shm: 3,
  'shm-sysv': 3,
  sigabrt: 100,
  sigchld: 100,
  sigfd: 500,
  sigfpe: 500,
  sigio: 50,
  signal: 2000,
  signest: 50,
  sigpending: 1000,
  sigpipe: 200,
  sigq: 500,
  sigrt: 200,
  sigsegv: 500,
  sigsuspend: 500,
  sigtrap: 500,
  sleep: 50,
  sock: 100,
  sockabuse: 50,
  sockfd: 500,
  sockpair: 500,
  spawn: 50,
  splice: 500,
  switch: 1000,
  symlink: 2,
  'sync-file': 3,
  tee: 200,
  timer: 200,
  timerfd: 200,
  touch: 200,
  udp: 500,
  urandom: 100,
  utime: 100,
  vdso: 1000,
  vfork: 200,
  'vm-rw': 10,
  'vm-splice': 500,
  wait: 100,
  yield: 20,
  zero: 500,
  zombie: 100,
}

/** Sizes that are said, where the default is a large share of the machine's memory or thousands of files. */
const SIZE: Record<string, string> = {
  chdir: '--chdir-dirs 512',
  memfd: '--memfd-bytes 16m',
  mmap: '--mmap-bytes 16m',
  mremap: '--mremap-bytes 16m',
  // Fewer than the descriptors that a process may have.
  timerfd: '--timerfd-fds 256',
}

const STRESSORS = `access affinity aio alarm bad-altstack brk chattr chdir chmod chown chroot clock clone close context
  copy-file daemon dentry dir dirdeep dirmany dnotify dup dynlib enosys env epoll eventfd exec exit-group fallocate
  fault fcntl fiemap fifo file-ioctl filename flock fork fp-error fsize fstat full futex get getdent getrandom
  hdd hrtimers inotify io iomix ioprio itimer kcmp kill lease link locka lockf lockofd madvise malloc
  membarrier memfd mincore mknod mlock mmap mmapaddr mmapfixed mmapmany mprotect mq mremap msg msync
  msyncmany munmap mutex nanosleep nice null numa open pagemove personality pidfd pipe pipeherd pkey poll prctl
  priv-instr procfs pthread ptrace pty race-sched readahead regs remap rename resched revio ring-pipe rlimit rmap
  rseq schedpolicy seal seccomp seek sem sem-sysv sendfile session set shm shm-sysv sigabrt sigchld sigfd sigfpe sigio
  signal signest sigpending sigpipe sigq sigrt sigsegv sigsuspend sigtrap sleep sock sockabuse sockfd
  sockpair spawn splice stackmmap switch symlink sync-file sysbadaddr sysinfo sysfs tee timer timerfd tmpfs touch tsc udp
  urandom usersyscall utime vdso vfork vm-addr vm-rw vm-segv vm-splice wait xattr yield zero zombie`
  .trim()
  .split(/\s+/)

/** Tens of seconds under some runtimes: not for the short run. */
const LONG = new Set(['dirdeep', 'mmapmany', 'procfs', 'race-sched', 'resched', 'sysbadaddr', 'sysfs', 'get'])

export function stressSuite(): Suite {
  const cases: Case[] = STRESSORS.map((name) => ({
    name,
    group: name,
    command:
      `exec stress-ng --verify --temp-path /tmp --${name} 1 --${name}-ops ${OTHER[name] ?? OPERATIONS} ${SIZE[name] ?? ''}`.trimEnd(),
    seconds: SECONDS,
    quick: !LONG.has(name),
  }))
  return {
    name: 'stress-ng',
    cases,
    layer: null,
    judge({ seconds }, code, output) {
      if (code === 124 || code === 137) return { status: 'late', detail: `not done after ${seconds} s` }
      const complaint = output.split('\n').find((line) => /stress-ng: (fail|error):/.test(line)) ?? ''
      const detail = complaint.replace(/^stress-ng: /, '')
      if (code === 4 || code === 3 || /stressor.* skipped|will be skipped/.test(output))
        return { status: 'skip', detail: output.trim().split('\n').at(-1) ?? '' }
      return code === 0 ? { status: 'pass', detail: '' } : { status: 'fail', detail: `exit code ${code}: ${detail}` }
    },
  }
}
