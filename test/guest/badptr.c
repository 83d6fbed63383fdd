/*
 * A bad pointer to every system call gives EFAULT (or the error of an earlier check) and never kills the kernel.
 * Only that the caller survives is compared call by call: what is checked first differs between kernel versions.
 */
#include "guest.h"

/* Calls that end or replace the caller, block for ever, or change the whole machine (native runs are as root). */
static int excluded(int nr) {
  static const int list[] = {
      SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_pause, SYS_rt_sigreturn, SYS_rt_sigsuspend,
      SYS_reboot, SYS_vhangup, SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module, SYS_delete_module,
      SYS_swapon, SYS_swapoff, SYS_sethostname, SYS_setdomainname, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
      SYS_clock_adjtime, SYS_acct, SYS_sync, SYS_syslog, SYS_iopl, SYS_ioperm, SYS_kill, SYS_tkill, SYS_tgkill,
      SYS_restart_syscall, SYS_arch_prctl, SYS_munmap, SYS_mprotect, SYS_brk, SYS_mremap, SYS_munlockall, SYS_mlockall,
      SYS_setuid, SYS_setgid, SYS_setsid, SYS_unshare, SYS_seccomp, SYS_close, SYS_dup2, SYS_dup3, SYS_close_range,
      SYS_ptrace, SYS_alarm, SYS_mmap, SYS_pivot_root, SYS_setpgid, SYS_wait4, SYS_waitid, SYS_select, SYS_poll,
      SYS_set_tid_address, SYS_set_robust_list, SYS_rseq, SYS_shmat, SYS_setrlimit, SYS_prlimit64, SYS_getrandom,
      SYS_read, SYS_readv, SYS_pread64, SYS_ftruncate, SYS_fchmod, SYS_fchown, SYS_setns, SYS_epoll_wait, SYS_pkey_mprotect,
      SYS_vmsplice, SYS_setresuid, SYS_setresgid, SYS_setreuid, SYS_setregid, SYS_setfsuid, SYS_setfsgid, SYS_umask,
      SYS_personality, SYS_madvise, SYS_process_madvise, 462 /* mseal */, SYS_shmctl, SYS_semctl, SYS_msgctl, SYS_modify_ldt, SYS_flock, SYS_landlock_restrict_self, SYS_prctl,
      SYS_fallocate, SYS_quotactl, SYS_quotactl_fd, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_remap_file_pages,
  };
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
    if (list[i] == nr) return 1;
  return 0;
}
#define LAST_NR 462

static void sweep(unsigned long bad, unsigned long size) {
  int survived = 0, tried = 0;
  for (int nr = 0; nr <= LAST_NR; nr++) {
    if ((nr > 334 && nr < 424) || excluded(nr)) continue;
    tried++;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      close(0);
      syscall(SYS_close_range, 3, ~0U, 0); /* no number in the sweep is a real descriptor */
      ualarm(300000, 0);
      for (int place = 0; place < 3; place++)
        syscall(nr, place > 0 ? -1L : (long)bad, bad, place > 1 ? size : bad, bad, bad, bad);
      _exit(0);
    }
    int code = reap(pid);
    /* A call that blocks is not what this is about. */
    if (code == 0 || code == 128 + SIGALRM) survived++;
    else say("call %d ends with %d", nr, code);
  }
  CHECK_EQ(survived, tried);
}

TEST(null) { sweep(0, 64); }
TEST(low) { sweep(8, 64); }
TEST(kernel_half) { sweep(0xffff800000000000UL, 4096); }
TEST(last_page) { sweep(0xfffffffffffffff8UL, 64); }
TEST(non_canonical) { sweep(0x8000000000000000UL, 64); }
TEST(end_of_user) { sweep(0x7ffffffff000UL - 8, 4096); }

/* A page with nothing behind it, and one that may only be read. */
static char *edge, *readonly;
static void set_up_pages(void) {
  char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(p != MAP_FAILED);
  memset(p, 'a', 4096);
  munmap(p + 4096, 8192);
  edge = p + 4096;
  readonly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

TEST(efault_by_name) {
  set_up_pages();
  char *volatile bad = (char *)8;
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  put_file("f", "0123456789");
  int f = open("f", O_RDWR);
  struct iovec iov = {bad, 10};
  CHECK_ERR(open(bad, O_RDONLY), EFAULT);
  CHECK_ERR(open(edge - 3, O_RDONLY), EFAULT);
  CHECK_ERR(read(f, bad, 10), EFAULT);
  CHECK_ERR(read(f, readonly, 10), EFAULT);
  CHECK_ERR(write(f, bad, 10), EFAULT);
  CHECK_ERR(write(fds[1], bad, 10), EFAULT);
  CHECK_ERR(readv(f, (void *)bad, 1), EFAULT);
  CHECK_ERR(readv(f, &iov, 1), EFAULT);
  CHECK_ERR(writev(f, &iov, 1), EFAULT);
  CHECK_ERR(pipe((int *)bad), EFAULT);
  CHECK_ERR(syscall(SYS_stat, "f", bad), EFAULT);
  CHECK_ERR(syscall(SYS_stat, "f", readonly), EFAULT);
  CHECK_ERR(syscall(SYS_fstat, f, bad), EFAULT);
  CHECK_ERR(syscall(SYS_newfstatat, AT_FDCWD, "f", bad, 0), EFAULT);
  CHECK_ERR(syscall(SYS_statx, AT_FDCWD, "f", 0, STATX_BASIC_STATS, bad), EFAULT);
  CHECK_ERR(syscall(SYS_getcwd, bad, 100), EFAULT);
  CHECK_ERR(syscall(SYS_uname, bad), EFAULT);
  CHECK_ERR(syscall(SYS_times, bad), EFAULT);
  CHECK_ERR(syscall(SYS_getrusage, 0, bad), EFAULT);
  CHECK_ERR(syscall(SYS_getrlimit, RLIMIT_NOFILE, bad), EFAULT);
  CHECK_ERR(syscall(SYS_sysinfo, bad), EFAULT);
  CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, bad, NULL, 8), EFAULT);
  CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, bad, 8), EFAULT);
  CHECK_ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, NULL, 8), EFAULT);
  CHECK_ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, bad, 8), EFAULT);
  CHECK_ERR(syscall(SYS_sigaltstack, bad, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_nanosleep, bad, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_execve, bad, NULL, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_execve, "/bin/true", bad, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_execve, "/bin/true", NULL, bad), EFAULT);
  CHECK_ERR(syscall(SYS_poll, bad, 1, 0), EFAULT);
  CHECK_ERR(syscall(SYS_select, 1, bad, NULL, NULL, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_getgroups, 100, bad) >= 0 ? (errno = EFAULT, -1) : -1, EFAULT);
  CHECK_ERR(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, bad), EFAULT);
  CHECK_ERR(syscall(SYS_rename, "f", bad), EFAULT);
  CHECK_ERR(syscall(SYS_mkdir, bad, 0), EFAULT);
  CHECK_ERR(syscall(SYS_readlink, "/proc/self/exe", bad, 100), EFAULT);
  CHECK_ERR(syscall(SYS_getdents64, open(".", O_RDONLY), bad, 1000), EFAULT);
  CHECK_ERR(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, bad, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_sched_getaffinity, 0, 128, bad), EFAULT);
  CHECK_ERR(syscall(SYS_capget, bad, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_getresuid, bad, bad, bad), EFAULT);
  CHECK_ERR(syscall(SYS_clone3, bad, 88), EFAULT);
  CHECK_ERR(syscall(SYS_futex, bad, 0, 0, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_setitimer, 0, bad, NULL), EFAULT);
  CHECK_ERR(syscall(SYS_getitimer, 0, bad), EFAULT);
  CHECK_ERR(syscall(SYS_statfs, "/", bad), EFAULT);
  CHECK_ERR(syscall(SYS_getrandom, bad, 8, 0), EFAULT);
  CHECK_ERR(syscall(SYS_memfd_create, bad, 0), EFAULT);
  CHECK_ERR(syscall(SYS_utimensat, AT_FDCWD, "f", bad, 0), EFAULT);
  int ep = syscall(SYS_epoll_create1, 0);
  CHECK_ERR(syscall(SYS_epoll_ctl, ep, 1, fds[0], bad), EFAULT);
  /* Nothing of this changed the file or moved the offset. */
  CHECK_EQ(lseek(f, 0, SEEK_CUR), 0);
  CHECK_STR(get_file("f"), "0123456789");
}

/* As far as the memory goes is copied: Linux gives the count, and only an empty count is EFAULT. */
TEST(partial_copies) {
  set_up_pages();
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  put_file("f", "0123456789abcdef");
  int f = open("f", O_RDONLY);
  ssize_t n = read(f, edge - 4, 16);
  CHECK(n == 4 || (n == -1 && errno == EFAULT));
  CHECK_OK(write(fds[1], "xyzw", 4));
  struct iovec two[2] = {{edge - 4, 4}, {(void *)8, 4}};
  CHECK_EQ(readv(fds[0], two, 2), 4);
  CHECK(memcmp(edge - 4, "xyzw", 4) == 0);
}
