/**
 * The confined sentry's seccomp policy: a row per call or group of calls, with the reason. A filter cannot see names;
 * that there are none is the empty root's part. What no sentry ever needs kills, so that an intrusion is noticed; the
 * rest fails with EPERM, because V8 and libc try things they can do without.
 */
import {
  type ArgTest,
  compileFilter,
  SECCOMP_ALLOW,
  SECCOMP_KILL_PROCESS,
  type SeccompRule,
  seccompErrno,
} from '../../native/seccomp.ts'

const EPERM = 1
const ENOSYS = 38

const is = (arg: ArgTest['arg'], value: number): ArgTest => ({ arg, op: 'eq', value, width: 32 })

/** What V8, libuv and glibc need once everything is loaded. */
const RUNTIME_CALLS = [
  9, // mmap: the heap, code pages, arenas of systrap; descriptors come from here or the gofer only
  10, // mprotect: the JIT's code pages
  11, // munmap
  12, // brk
  13, // rt_sigaction
  14, // rt_sigprocmask
  15, // rt_sigreturn
  24, // sched_yield
  25, // mremap
  28, // madvise
  35, // nanosleep
  39, // getpid
  60, // exit
  63, // uname
  96, // gettimeofday
  98, // getrusage
  99, // sysinfo
  100, // times
  131, // sigaltstack
  143, // sched_getparam: absl's mutex, when it spins
  145, // sched_getscheduler: the same
  186, // gettid
  201, // time
  202, // futex
  204, // sched_getaffinity
  219, // restart_syscall
  228, // clock_gettime: also the CPU clocks of stubs
  229, // clock_getres
  230, // clock_nanosleep
  231, // exit_group
  273, // set_robust_list
  309, // getcpu
  318, // getrandom
  324, // membarrier
  329, // pkey_mprotect
  330, // pkey_alloc
  334, // rseq
]

/** The loop's own, on descriptors it holds. */
const LOOP_CALLS = [
  0, // read
  1, // write
  3, // close
  5, // fstat
  7, // poll
  8, // lseek
  17, // pread64
  18, // pwrite64
  19, // readv
  20, // writev
  32, // dup
  33, // dup2
  40, // sendfile: between files of a tmpfs
  72, // fcntl
  74, // fsync
  75, // fdatasync
  77, // ftruncate
  138, // fstatfs
  217, // getdents64: of /proc
  221, // fadvise64
  232, // epoll_wait
  233, // epoll_ctl
  262, // newfstatat
  267, // readlinkat: of /proc
  271, // ppoll
  277, // sync_file_range
  281, // epoll_pwait
  285, // fallocate
  290, // eventfd2
  291, // epoll_create1
  292, // dup3
  293, // pipe2
  295, // preadv
  296, // pwritev
  306, // syncfs
  319, // memfd_create: guest memory, tmpfs files, arenas
  326, // copy_file_range
  332, // statx
  441, // epoll_pwait2
  // /proc/PID of stubs, /proc/self/fd of donated descriptors: the root holds no other name.
  257, // openat
]

/** Messages on sockets it holds: the gofer's, the CLI's, the container's. */
const SOCKET_CALLS = [
  44, // sendto
  45, // recvfrom
  46, // sendmsg
  47, // recvmsg
  48, // shutdown
  51, // getsockname
  52, // getpeername
  54, // setsockopt
  55, // getsockopt
  288, // accept4: also the control socket's
]

/** To stubs: the sandbox has a user of its own, and these reach no other user's processes. */
const STUB_CALLS = [
  61, // wait4
  62, // kill
  144, // sched_setscheduler
  203, // sched_setaffinity
  234, // tgkill
  247, // waitid
  310, // process_vm_readv
  311, // process_vm_writev
]

/** Requests of native/host/ptrace.c after its zygote stands; no attaching, no words of memory, no options. */
const PTRACE_REQUESTS = [
  7, // PTRACE_CONT
  12, // PTRACE_GETREGS
  13, // PTRACE_SETREGS
  24, // PTRACE_SYSCALL
  0x4201, // PTRACE_GETEVENTMSG
  0x4202, // PTRACE_GETSIGINFO
  0x4204, // PTRACE_GETREGSET
  0x4205, // PTRACE_SETREGSET
  0x4207, // PTRACE_INTERRUPT
]

const AF_INET = 2
const AF_INET6 = 10
const AF_NETLINK = 16
const NETLINK_ROUTE = 0

/** The container's sockets in the network namespace that the sentry is in. */
const NETWORK_RULES: readonly SeccompRule[] = [
  { nr: 41, args: [is(0, AF_INET)], action: SECCOMP_ALLOW }, // socket
  { nr: 41, args: [is(0, AF_INET6)], action: SECCOMP_ALLOW },
  { nr: 41, args: [is(0, AF_NETLINK), is(2, NETLINK_ROUTE)], action: SECCOMP_ALLOW }, // lists of interfaces and routes
  { nr: [42, 49, 50], action: SECCOMP_ALLOW }, // connect, bind, listen
]

/** The user's terminal may be a descriptor of the sentry: these would type into the user's shell, or take it. */
const TERMINAL_ATTACKS = [
  0x5412, // TIOCSTI
  0x541c, // TIOCLINUX
  0x541d, // TIOCCONS
  0x540e, // TIOCSCTTY
]

/** CLONE_* VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID, as pthread_create(3) has it. */
const THREAD_FLAGS = 0x3d0f00

const PR_SET_VMA = 0x53564d41
const PR_SET_NAME = 15

/** No part of a sentry after boot, ever; each would be a step out of it. */
const DEADLY_CALLS = [
  59,
  322, // execve, execveat
  57,
  58, // fork, vfork (clone makes threads only)
  165,
  166,
  155,
  161, // mount, umount2, pivot_root, chroot
  428,
  429,
  430,
  431,
  432,
  433,
  442, // open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
  272,
  308, // unshare, setns
  303,
  304, // name_to_handle_at, open_by_handle_at: names a file without a path (CAP_DAC_READ_SEARCH is kept)
  175,
  176,
  313,
  246,
  320,
  169, // init_module, delete_module, finit_module, kexec_load, kexec_file_load, reboot
  321,
  298,
  323, // bpf, perf_event_open, userfaultfd
  248,
  249,
  250, // add_key, request_key, keyctl
  172,
  173,
  167,
  168, // iopl, ioperm, swapon, swapoff
  105,
  106,
  113,
  114,
  117,
  119,
  126, // set*id, capset
  133,
  259, // mknod, mknodat
  425,
  427, // io_uring_setup, io_uring_register
]

interface Uses {
  /** There are stubs: false for a virtual machine's monitor. */
  stubs: boolean
  ptrace: boolean
  network: boolean
}

export function confinedFilter(use: Uses): Uint8Array {
  const rules: SeccompRule[] = [
    { nr: RUNTIME_CALLS, action: SECCOMP_ALLOW },
    { nr: LOOP_CALLS, action: SECCOMP_ALLOW },
    { nr: SOCKET_CALLS, action: SECCOMP_ALLOW },
    ...(use.stubs ? [{ nr: STUB_CALLS, action: SECCOMP_ALLOW }] : []),
    ...TERMINAL_ATTACKS.map((request) => ({ nr: 16, args: [is(1, request)], action: SECCOMP_KILL_PROCESS })),
    { nr: 16, action: SECCOMP_ALLOW }, // ioctl: terminals, seccomp notifications, sockets
    ...(use.network ? NETWORK_RULES : []),
    ...(use.ptrace ? PTRACE_REQUESTS : []).map((request) => ({
      nr: 101,
      args: [is(0, request)],
      action: SECCOMP_ALLOW,
    })),
    { nr: 101, action: SECCOMP_KILL_PROCESS }, // ptrace
    { nr: 157, args: [is(0, PR_SET_VMA)], action: SECCOMP_ALLOW }, // prctl: V8 names its memory
    { nr: 157, args: [is(0, PR_SET_NAME)], action: SECCOMP_ALLOW },
    { nr: 159, action: SECCOMP_ALLOW }, // adjtimex: to read; setting takes CAP_SYS_TIME
    // libuv's rings of the boot: submitting is a way around this filter. Its own exit tries; others have no reason.
    { nr: 426, action: seccompErrno(EPERM) }, // io_uring_enter
    { nr: 56, args: [{ arg: 0, op: 'eq', value: THREAD_FLAGS }], action: SECCOMP_ALLOW }, // clone: libuv's pool, lazily
    { nr: 435, action: seccompErrno(ENOSYS) }, // clone3: its flags are in memory; libc tries clone next
    { nr: DEADLY_CALLS, action: SECCOMP_KILL_PROCESS },
  ]
  return compileFilter({
    arch: 'x86_64',
    rules,
    defaultAction: seccompErrno(EPERM),
    badArchAction: SECCOMP_KILL_PROCESS,
  })
}
