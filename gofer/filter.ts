/**
 * The gofer's seccomp policy: a call per row with the reason. Paths cannot be seen by a filter; what keeps names inside
 * are the chroot and the resolver. What is dangerous kills, so that an intrusion is noticed; the rest fails with EPERM,
 * because V8 and libc try things they can do without.
 */
import {
  compileFilter,
  SECCOMP_ALLOW,
  SECCOMP_KILL_PROCESS,
  type SeccompRule,
  seccompErrno,
} from '../native/seccomp.ts'

const EPERM = 1
const ENOSYS = 38
const MAP_ANONYMOUS = 0x20

/** The message loop's own calls. */
const FILE_CALLS = [
  437, // openat2: every name is opened by it
  332, // statx
  217, // getdents64
  8, // lseek: continue a directory
  267, // readlinkat
  258, // mkdirat
  259, // mknodat: without CAP_MKNOD only FIFOs and sockets
  266, // symlinkat
  265, // linkat
  263, // unlinkat
  316, // renameat2
  260, // fchownat
  93, // fchown
  91, // fchmod
  268, // fchmodat: before 6.6
  452, // fchmodat2
  280, // utimensat
  77, // ftruncate
  138, // fstatfs
  81, // fchdir: the xattr calls have no *at form
  192, // lgetxattr
  189, // lsetxattr
  195, // llistxattr
  198, // lremovexattr
  74, // fsync
  3, // close
]

/** What a virtual machine takes beyond that: data and locks, and descriptors by their names in /proc/self/fd. */
const GUEST_CALLS = [
  17,
  18, // pread64, pwrite64
  75, // fdatasync
  76, // truncate
  285,
  326,
  328, // fallocate, copy_file_range, pwritev2
  188,
  191,
  194,
  197, // setxattr, getxattr, listxattr, removexattr: of a descriptor that is not open otherwise
]
const F_GETFL = 3
const F_SETFL = 4
const F_OFD_GETLK = 36
const F_OFD_SETLK = 37

/** How the process talks: through one socket with the sentry, or by read and write with a VM. */
function channelRules(socketFd: number): SeccompRule[] {
  // sendmsg, recvmsg
  if (socketFd >= 0) {
    return [{ nr: [46, 47], args: [{ arg: 0, op: 'eq', value: socketFd }], action: SECCOMP_ALLOW }]
  }
  const fcntl = [F_GETFL, F_SETFL, F_OFD_GETLK, F_OFD_SETLK].map(
    (value): SeccompRule => ({ nr: 72, args: [{ arg: 1, op: 'eq', value }], action: SECCOMP_ALLOW }),
  )
  return [{ nr: GUEST_CALLS, action: SECCOMP_ALLOW }, ...fcntl]
}

/** What V8, libuv and glibc need once everything is loaded. */
const RUNTIME_CALLS = [
  0, // read: libuv's wake-up eventfd
  1, // write: the same, and messages to stderr
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
  7, // poll: has the sentry gone?
  96, // gettimeofday
  98, // getrusage
  99, // sysinfo
  131, // sigaltstack
  143, // sched_getparam: absl's mutex, when it spins
  145, // sched_getscheduler: the same
  186, // gettid
  201, // time
  202, // futex
  204, // sched_getaffinity
  219, // restart_syscall
  228, // clock_gettime
  229, // clock_getres
  230, // clock_nanosleep
  231, // exit_group
  232, // epoll_wait
  233, // epoll_ctl
  273, // set_robust_list
  281, // epoll_pwait
  318, // getrandom
  324, // membarrier
  329, // pkey_mprotect
  334, // rseq
]

/** No part of a gofer, ever; each would be a step out of it. */
const DEADLY_CALLS = [
  59,
  322, // execve, execveat
  57,
  58, // fork, vfork (clone fails: everything is loaded, no thread is missing)
  101,
  310,
  311, // ptrace, process_vm_readv, process_vm_writev
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
  304, // name_to_handle_at, open_by_handle_at: names a file without a path
  41,
  42,
  43,
  49,
  50,
  53,
  288, // socket, connect, accept, bind, listen, socketpair, accept4
  175,
  176,
  313,
  246,
  320,
  169, // init_module, delete_module, finit_module, kexec_load, kexec_file_load, reboot
  321,
  298,
  323,
  425,
  426,
  427, // bpf, perf_event_open, userfaultfd, io_uring_*
  248,
  249,
  250, // add_key, request_key, keyctl
  62,
  200,
  424,
  434,
  438, // kill, tkill, pidfd_send_signal, pidfd_open, pidfd_getfd
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
]

/** For the process with this id, which talks through this socket, or serves a virtual machine (−1). */
export function goferFilter(pid: number, socketFd: number): Uint8Array {
  const rules: SeccompRule[] = [
    { nr: FILE_CALLS, action: SECCOMP_ALLOW },
    // Where openat2 is missing, openat takes its place; where it exists it is one more way to open and nothing else.
    { nr: 257, action: SECCOMP_ALLOW },
    ...channelRules(socketFd),
    { nr: RUNTIME_CALLS, action: SECCOMP_ALLOW },
    { nr: 203, args: [{ arg: 0, op: 'eq', value: 0 }], action: SECCOMP_ALLOW }, // sched_setaffinity of itself: PLACE
    { nr: 9, args: [{ arg: 3, op: 'eq', mask: MAP_ANONYMOUS, value: MAP_ANONYMOUS }], action: SECCOMP_ALLOW }, // mmap
    { nr: 234, args: [{ arg: 0, op: 'eq', value: pid }], action: SECCOMP_ALLOW }, // tgkill: abort() kills itself
    { nr: 435, action: seccompErrno(ENOSYS) }, // clone3: libc tries clone next and reports its EPERM
    { nr: DEADLY_CALLS, action: SECCOMP_KILL_PROCESS },
  ]
  return compileFilter({
    arch: 'x86_64',
    rules,
    defaultAction: seccompErrno(EPERM),
    badArchAction: SECCOMP_KILL_PROCESS,
  })
}
