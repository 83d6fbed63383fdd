/* wait4(2), waitid(2): options, statuses, siginfo, zombies, SIGCHLD, reparenting. */
#include "guest.h"
#include <sys/prctl.h>

TEST(statuses) {
  int status;
  pid_t pid = fork();
  if (pid == 0) _exit(300);
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK_EQ(status, (300 & 0xff) << 8);
  if ((pid = fork()) == 0) raise(SIGKILL);
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !WCOREDUMP(status));
  if ((pid = fork()) == 0) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    abort();
  }
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK_EQ(WTERMSIG(status), SIGABRT);
}

TEST(errors) {
  int status;
  siginfo_t info;
  CHECK_ERR(waitpid(-1, &status, 0), ECHILD);
  CHECK_ERR(waitpid(1, &status, 0), ECHILD);
  CHECK_ERR(waitpid(-1, &status, WNOHANG), ECHILD);
  CHECK_ERR(syscall(SYS_wait4, -1, &status, 0x10, NULL), EINVAL);
  CHECK_ERR(syscall(SYS_wait4, INT_MIN, &status, 0, NULL), ESRCH);
  CHECK_ERR(waitid(P_ALL, 0, &info, 0), EINVAL);
  CHECK_ERR(waitid(P_PID, 0, &info, WEXITED), EINVAL);
  CHECK_ERR(waitid((idtype_t)9, 1, &info, WEXITED), EINVAL);
  CHECK_ERR(waitid(P_ALL, 0, &info, WEXITED | 0x40), EINVAL);
  CHECK_ERR(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
  CHECK_ERR(waitid(P_PIDFD, 77, &info, WEXITED), EBADF);
}

TEST(nohang) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    char c;
    _exit(read(fds[0], &c, 1) == 1 ? 4 : 5);
  }
  int status;
  CHECK_EQ(waitpid(pid, &status, WNOHANG), 0);
  CHECK_EQ(write(fds[1], "x", 1), 1);
  CHECK_EQ(reap(pid), 4);
  CHECK_ERR(waitpid(pid, &status, 0), ECHILD);
}

TEST(waitid_siginfo) {
  siginfo_t info;
  pid_t pid = fork();
  if (pid == 0) _exit(42);
  memset(&info, 0xff, sizeof info);
  CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  CHECK_EQ(info.si_signo, SIGCHLD);
  CHECK_EQ(info.si_code, CLD_EXITED);
  CHECK_EQ(info.si_pid, pid);
  CHECK_EQ(info.si_uid, getuid());
  CHECK_EQ(info.si_status, 42);
  CHECK_EQ(reap(pid), 42); /* WNOWAIT left it */
  if ((pid = fork()) == 0) raise(SIGTERM);
  CHECK_OK(waitid(P_PID, pid, &info, WEXITED));
  CHECK_EQ(info.si_code, CLD_KILLED);
  CHECK_EQ(info.si_status, SIGTERM);
  if ((pid = fork()) == 0) pause();
  memset(&info, 0xff, sizeof info);
  CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOHANG));
  CHECK_EQ(info.si_pid, 0);
  kill(pid, SIGSTOP);
  CHECK_OK(waitid(P_PID, pid, &info, WSTOPPED));
  CHECK_EQ(info.si_code, CLD_STOPPED);
  CHECK_EQ(info.si_status, SIGSTOP);
  kill(pid, SIGCONT);
  CHECK_OK(waitid(P_PID, pid, &info, WCONTINUED));
  CHECK_EQ(info.si_code, CLD_CONTINUED);
  CHECK_EQ(info.si_status, SIGCONT);
  kill(pid, SIGKILL);
  CHECK_EQ(reap(pid), 128 + SIGKILL);
}

TEST(process_groups) {
  pid_t a = fork();
  if (a == 0) {
    setpgid(0, 0);
    usleep(20000);
    _exit(1);
  }
  setpgid(a, a);
  pid_t b = fork();
  if (b == 0) _exit(2);
  int status;
  CHECK_EQ(waitpid(0, &status, 0), b); /* the caller's own group */
  CHECK_EQ(waitpid(-a, &status, 0), a);
  CHECK_ERR(waitpid(-a, &status, 0), ECHILD);
}

TEST(sigchld_ignored_reaps) {
  signal(SIGCHLD, SIG_IGN);
  pid_t pid = fork();
  if (pid == 0) _exit(1);
  CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
  signal(SIGCHLD, SIG_DFL);
  if ((pid = fork()) == 0) _exit(1);
  CHECK_EQ(reap(pid), 1);
}

static volatile sig_atomic_t chld, chld_code, chld_status;
static void on_chld(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  chld++;
  chld_code = info->si_code;
  chld_status = info->si_status;
}
TEST(sigchld_handler) {
  struct sigaction sa = {.sa_sigaction = on_chld, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGCHLD, &sa, NULL);
  pid_t pid = fork();
  if (pid == 0) _exit(9);
  CHECK_EQ(reap(pid), 9);
  CHECK_EQ(chld, 1);
  CHECK_EQ(chld_code, CLD_EXITED);
  CHECK_EQ(chld_status, 9);
  sa.sa_flags |= SA_NOCLDSTOP;
  sigaction(SIGCHLD, &sa, NULL);
  chld = 0;
  if ((pid = fork()) == 0) for (;;) pause();
  int status;
  kill(pid, SIGSTOP);
  CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  CHECK_EQ(chld, 0);
  kill(pid, SIGKILL);
  CHECK_EQ(reap(pid), 128 + SIGKILL);
  CHECK_EQ(chld, 1);
  sa.sa_flags = SA_SIGINFO | SA_NOCLDWAIT;
  sigaction(SIGCHLD, &sa, NULL);
  if ((pid = fork()) == 0) _exit(1);
  CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
}

TEST(zombie_until_waited) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  siginfo_t info;
  CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  CHECK_OK(kill(pid, 0)); /* a zombie can be signalled */
  char path[64], *state;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  state = strrchr(get_file(path), ')');
  CHECK(state && state[2] == 'Z');
  CHECK_EQ(reap(pid), 0);
  CHECK_ERR(kill(pid, 0), ESRCH);
}

TEST(orphans_go_to_the_subreaper) {
  CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  int on = 0;
  CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &on));
  CHECK_EQ(on, 1);
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  pid_t me = getpid(), pid = fork();
  if (pid == 0) {
    pid_t grandchild = fork();
    if (grandchild == 0) {
      while (getppid() != me) usleep(1000);
      _exit(33);
    }
    if (write(fds[1], &grandchild, sizeof grandchild) < 0) _exit(1);
    _exit(0);
  }
  pid_t grandchild;
  CHECK_EQ(read(fds[0], &grandchild, sizeof grandchild), sizeof grandchild);
  CHECK_EQ(reap(pid), 0);
  CHECK_EQ(reap(grandchild), 33);
}

TEST(pdeathsig) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(fds[0]);
      if (write(fds[1], "r", 1) != 1) _exit(1);
      for (;;) pause();
    }
    char c;
    CHECK_EQ(read(fds[0], &c, 1), 1);
    _exit(0);
  }
  close(fds[1]);
  CHECK_EQ(reap(pid), 0);
  char c;
  CHECK_EQ(read(fds[0], &c, 1), 0); /* end of file once the grandchild is dead */
}

TEST(rusage_of_children) {
  pid_t pid = fork();
  if (pid == 0) {
    /* Of its own time, however little of a CPU it has. */
    struct timespec used;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    while (used.tv_sec == 0 && used.tv_nsec < 40000000);
    _exit(0);
  }
  struct rusage usage, all;
  int status;
  CHECK_EQ(wait4(pid, &status, 0, &usage), pid);
  CHECK(usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000 + usage.ru_stime.tv_sec * 1000 + usage.ru_stime.tv_usec / 1000 >= 10);
  CHECK_OK(getrusage(RUSAGE_CHILDREN, &all));
  CHECK(all.ru_utime.tv_sec * 1000000L + all.ru_utime.tv_usec + all.ru_stime.tv_usec + all.ru_stime.tv_sec * 1000000L >=
        usage.ru_utime.tv_sec * 1000000L + usage.ru_utime.tv_usec);
}

/* A megabyte more than is looked for: Linux counts resident pages for each CPU, and the highest sum it sees may lack some. */
static void touch_and_exit(void) {
  size_t size = 9 << 20;
  char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(at, size, MADV_NOHUGEPAGE);
  for (size_t i = 0; i < size; i += 4096) at[i] = 1;
  _exit(0);
}

/* Known at once, however the child ended, and added up over generations. */
TEST(memory_of_children) {
  struct rusage usage, all;
  int status;
  pid_t pid = fork();
  if (pid == 0) touch_and_exit();
  CHECK_EQ(wait4(pid, &status, 0, &usage), pid);
  CHECK(usage.ru_maxrss >= 8192 && usage.ru_minflt >= 2048);
  CHECK_OK(getrusage(RUSAGE_CHILDREN, &all));
  CHECK(all.ru_maxrss >= 8192 && all.ru_minflt >= usage.ru_minflt);

  pid = fork();
  if (pid == 0) {
    pid_t below = fork();
    if (below == 0) touch_and_exit();
    waitpid(below, &status, 0);
    raise(SIGKILL);
  }
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  struct rusage more;
  CHECK_OK(getrusage(RUSAGE_CHILDREN, &more));
  CHECK(more.ru_minflt >= all.ru_minflt + 2048);
}

static void *waiter(void *arg) {
  return (void *)(long)reap((pid_t)(long)arg);
}
TEST(any_thread_may_wait) {
  pid_t pid = fork();
  if (pid == 0) {
    usleep(30000);
    _exit(8);
  }
  pthread_t t;
  void *code;
  pthread_create(&t, NULL, waiter, (void *)(long)pid);
  pthread_join(t, &code);
  CHECK_EQ((long)code, 8);
}

TEST(pidfd_wait) {
  pid_t pid = fork();
  if (pid == 0) {
    usleep(30000);
    _exit(6);
  }
  int fd = syscall(SYS_pidfd_open, pid, 0);
  CHECK(fd >= 0);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  struct pollfd p = {fd, POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 5000), 1);
  CHECK_EQ(p.revents & POLLIN, POLLIN);
  siginfo_t info;
  CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED));
  CHECK_EQ(info.si_status, 6);
  CHECK_ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
  CHECK_ERR(syscall(SYS_pidfd_open, pid, 0), ESRCH);
  CHECK_ERR(syscall(SYS_pidfd_open, -1, 0), EINVAL);
  CHECK_ERR(syscall(SYS_pidfd_open, getpid(), 0x4), EINVAL);
}
