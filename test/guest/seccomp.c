/* seccomp(2): checks of programs, verdicts, inheritance, SIGSYS, thread synchronisation. */
#include "guest.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQ(v, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, v, yes, no)
#define RETURN(v) BPF_STMT(BPF_RET | BPF_K, v)
#define LENGTH(a) (sizeof(a) / sizeof(a)[0])

static long install(struct sock_filter *f, unsigned short len, unsigned flags) {
  struct sock_fprog prog = {len, f};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

/* Gives `verdict` to one call; everything else is allowed. */
static void on_call(int nr, unsigned verdict) {
  struct sock_filter f[] = {LOAD(nr), EQ(nr, 0, 1), RETURN(verdict), RETURN(SECCOMP_RET_ALLOW)};
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_OK(install(f, LENGTH(f), 0));
}

static void reject(struct sock_filter a, struct sock_filter b, unsigned short len) {
  struct sock_filter f[] = {a, b};
  CHECK_ERR(install(f, len, 0), EINVAL);
}

TEST(bad_programs) {
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  struct sock_filter allow = RETURN(SECCOMP_RET_ALLOW);
  reject(allow, allow, 0);
  reject((struct sock_filter)LOAD(nr), (struct sock_filter)LOAD(nr), 2);
  reject((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), allow, 2);
  reject((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), allow, 2);
  reject((struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), allow, 2);
  reject((struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1), allow, 2);
  reject((struct sock_filter)EQ(0, 1, 0), allow, 2);
  reject((struct sock_filter)BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), allow, 2);
  reject((struct sock_filter)BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), allow, 2);
  reject((struct sock_filter)BPF_STMT(BPF_ST, 16), allow, 2);
  reject((struct sock_filter)BPF_STMT(0xff, 0), allow, 2);
  CHECK_ERR(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (void *)1), EFAULT);
  CHECK_ERR(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0x1000, NULL), EINVAL);
  CHECK_ERR(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
  CHECK_ERR(syscall(SYS_seccomp, 99, 0, NULL), EINVAL);
  CHECK_EQ(prctl(PR_GET_SECCOMP), 0);
}

TEST(needs_no_new_privs) {
  struct sock_filter f[] = {RETURN(SECCOMP_RET_ALLOW)};
  CHECK_OK(setuid(1000));
  CHECK_ERR(install(f, 1, 0), EACCES);
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_OK(install(f, 1, 0));
  CHECK_EQ(prctl(PR_GET_SECCOMP), 2);
}

TEST(actions_available) {
  unsigned known[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
                      SECCOMP_RET_LOG,          SECCOMP_RET_ALLOW};
  for (unsigned i = 0; i < LENGTH(known); i++)
    CHECK_OK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &known[i]));
  unsigned odd = 0x12340000;
  CHECK_ERR(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &odd), EOPNOTSUPP);
}

TEST(errno_verdict) {
  on_call(SYS_getppid, SECCOMP_RET_ERRNO | ENOTTY);
  CHECK_ERR(syscall(SYS_getppid), ENOTTY);
  CHECK(getpid() > 0);
  /* Children and what they execute have it too, and the newest of equals wins. */
  CHECK_EQ(IN_CHILD(CHECK_ERR(syscall(SYS_getppid), ENOTTY)), 0);
  on_call(SYS_getppid, SECCOMP_RET_ERRNO | EDOM);
  CHECK_ERR(syscall(SYS_getppid), EDOM);
  on_call(SYS_getppid, SECCOMP_RET_ALLOW);
  CHECK_ERR(syscall(SYS_getppid), EDOM);
  on_call(SYS_getuid, SECCOMP_RET_ERRNO | 0);
  CHECK_EQ(syscall(SYS_getuid), 0);
  on_call(SYS_getuid, SECCOMP_RET_ERRNO | 0xffff);
  CHECK_ERR(syscall(SYS_getuid), 4095);
}

TEST(sees_arguments) {
  /* dup(7) only: the argument's low word, compared through X and scratch memory. */
  struct sock_filter f[] = {
      LOAD(arch),
      EQ(AUDIT_ARCH_X86_64, 1, 0),
      RETURN(SECCOMP_RET_KILL_PROCESS),
      LOAD(nr),
      EQ(SYS_dup, 0, 7),
      BPF_STMT(BPF_LD | BPF_IMM, 14),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 1),
      BPF_STMT(BPF_ST, 3),
      BPF_STMT(BPF_LDX | BPF_W | BPF_MEM, 3),
      LOAD(args[0]),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 1),
      RETURN(SECCOMP_RET_ERRNO | EXDEV),
      RETURN(SECCOMP_RET_ALLOW),
  };
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_OK(install(f, LENGTH(f), 0));
  CHECK_ERR(dup(7), EXDEV);
  CHECK(dup(1) >= 0);
}

static volatile int trapped_nr, trapped_errno, trapped_code;
static volatile unsigned trapped_arch;
static void on_sigsys(int sig, siginfo_t *info, void *context) {
  (void)sig;
  (void)context;
  trapped_nr = info->si_syscall;
  trapped_errno = info->si_errno;
  trapped_code = info->si_code;
  trapped_arch = info->si_arch;
}

TEST(trap_verdict) {
  struct sigaction sa = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
  CHECK_OK(sigaction(SIGSYS, &sa, NULL));
  on_call(SYS_getppid, SECCOMP_RET_TRAP | 77);
  CHECK_EQ(syscall(SYS_getppid), SYS_getppid);
  CHECK_EQ(trapped_nr, SYS_getppid);
  CHECK_EQ(trapped_errno, 77);
  CHECK_EQ(trapped_code, 1);
  CHECK_EQ(trapped_arch, AUDIT_ARCH_X86_64);
}

static void report(int status) {
  say(WIFSIGNALED(status) ? "killed by %d" : "exited %d", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

TEST(killing_verdicts) {
  unsigned verdicts[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, 0x70000000};
  for (unsigned i = 0; i < LENGTH(verdicts); i++) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
      on_call(SYS_getppid, verdicts[i]);
      syscall(SYS_getppid);
      _exit(3);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    report(status);
  }
}

TEST(trace_verdict) {
  on_call(SYS_getppid, SECCOMP_RET_TRACE | 1);
  CHECK_ERR(syscall(SYS_getppid), ENOSYS);
}

TEST(strict_mode) {
  int status = 0;
  pid_t pid = fork();
  if (pid == 0) {
    CHECK_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
    if (write(1, "still writing\n", 14) != 14) syscall(SYS_exit, 9);
    syscall(SYS_exit, 4);
  }
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  report(status);
  pid = fork();
  if (pid == 0) {
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
    syscall(SYS_getpid);
    syscall(SYS_exit, 4);
  }
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  report(status);
}

static pthread_barrier_t barrier;
static void *other_thread(void *unused) {
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  errno = 0;
  long ret = syscall(SYS_getppid);
  return unused == NULL && ret == -1 ? (void *)(long)errno : NULL;
}

TEST(thread_sync) {
  pthread_t thread;
  void *seen = NULL;
  pthread_barrier_init(&barrier, NULL, 2);
  CHECK_EQ(pthread_create(&thread, NULL, other_thread, NULL), 0);
  pthread_barrier_wait(&barrier);
  struct sock_filter f[] = {LOAD(nr), EQ(SYS_getppid, 0, 1), RETURN(SECCOMP_RET_ERRNO | ENOANO), RETURN(SECCOMP_RET_ALLOW)};
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_OK(install(f, LENGTH(f), SECCOMP_FILTER_FLAG_TSYNC));
  pthread_barrier_wait(&barrier);
  CHECK_EQ(pthread_join(thread, &seen), 0);
  CHECK_EQ((long)seen, ENOANO);
}
