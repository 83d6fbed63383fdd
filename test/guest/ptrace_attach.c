/* ptrace(2): attaching and letting go, group-stops, parents that do not trace, tracers that die. */
#include "tracing.h"

#define CLD_TEXT(c) ((c) == CLD_TRAPPED ? "TRAPPED" : (c) == CLD_STOPPED ? "STOPPED" : (c) == CLD_EXITED ? "EXITED" : "other")

TEST(attach) {
  int fds[2];
  char c;
  CHECK_EQ(pipe(fds), 0);
  pid_t pid = fork();
  if (pid == 0) {
    read(fds[0], &c, 1);
    _exit(c);
  }
  await_sleep(pid);
  CHECK_EQ(ptrace(PTRACE_ATTACH, pid, 0, 0), 0);
  await("attached", pid);
  char line[128], path[64];
  snprintf(path, sizeof(path), "/proc/%d/status", pid);
  FILE *f = fopen(path, "r");
  while (fgets(line, sizeof(line), f)) {
    if (strncmp(line, "State:", 6) == 0) say("%.*s", (int)strlen(line) - 1, line);
    int tracer;
    if (sscanf(line, "TracerPid: %d", &tracer) == 1) say("tracer is us: %d", tracer == getpid());
  }
  fclose(f);
  struct user_regs_struct regs;
  CHECK_EQ(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
  say("call %lld, rax %lld", (long long)regs.orig_rax, (long long)regs.rax);
  CHECK_EQ(ptrace(PTRACE_DETACH, pid, 0, 0), 0);
  write(fds[1], "\5", 1);
  await("end", pid);
}

TEST(seize) {
  siginfo_t info;
  pid_t pid = fork();
  if (pid == 0) for (;;) pause();
  usleep(20000);
  CHECK_EQ(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD), 0);
  CHECK_EQ(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0);
  await("interrupted", pid);
  go(PTRACE_CONT, pid, 0);
  kill(pid, SIGSTOP);
  await("signal", pid);
  go(PTRACE_CONT, pid, SIGSTOP);
  await("group-stop", pid);
  CHECK_EQ(ptrace(PTRACE_GETSIGINFO, pid, 0, &info), 0);
  say("signal %d, code %x", info.si_signo, info.si_code);
  CHECK_EQ(ptrace(PTRACE_LISTEN, pid, 0, 0), 0);
  CHECK_ERR(ptrace(PTRACE_GETSIGINFO, pid, 0, &info), ESRCH);
  kill(pid, SIGCONT);
  await("continued", pid);
  go(PTRACE_CONT, pid, 0);
  await("signal", pid);
  go(PTRACE_CONT, pid, 0);
  kill(pid, SIGTERM);
  await("signal", pid);
  go(PTRACE_CONT, pid, SIGTERM);
  await("end", pid);
}

static void stops(void) {
  raise(SIGTSTP);
  _exit(8);
}
TEST(group_stop) {
  siginfo_t info;
  pid_t pid = traced(stops);
  await("first", pid);
  go(PTRACE_CONT, pid, SIGSTOP);
  await("group-stop", pid);
  CHECK_ERR(ptrace(PTRACE_GETSIGINFO, pid, 0, &info), EINVAL);
  go(PTRACE_CONT, pid, 0);
  await("tstp", pid);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

TEST(waitid_and_sigchld) {
  siginfo_t info;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, NULL);
  pid_t pid = traced(stops);
  CHECK_EQ(sigwaitinfo(&set, &info), SIGCHLD);
  say("SIGCHLD: %s, status %d, pid %d", CLD_TEXT(info.si_code), info.si_status, info.si_pid == pid);
  CHECK_EQ(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT), 0);
  say("%s, status %d", CLD_TEXT(info.si_code), info.si_status);
  CHECK_EQ(waitid(P_ALL, 0, &info, WEXITED), 0);
  say("%s, status %d", CLD_TEXT(info.si_code), info.si_status);
  CHECK_EQ(waitpid(pid, NULL, WNOHANG | __WALL), 0);
  CHECK_EQ(ptrace(PTRACE_DETACH, pid, 0, 0), 0);
  CHECK_EQ(waitid(P_PID, pid, &info, WSTOPPED | WEXITED), 0);
  say("%s, status %d", CLD_TEXT(info.si_code), info.si_status);
  kill(pid, SIGCONT);
  CHECK_EQ(waitid(P_PID, pid, &info, WEXITED), 0);
  say("%s, status %d", CLD_TEXT(info.si_code), info.si_status);
}

/* A tracer that is not the parent: the parent hears of the end only after it. */
TEST(other_parent) {
  int ready[2], done[2];
  char c;
  CHECK_EQ(pipe(ready), 0);
  CHECK_EQ(pipe(done), 0);
  pid_t child = fork();
  if (child == 0) {
    read(ready[0], &c, 1);
    _exit(9);
  }
  pid_t tracer = fork();
  if (tracer == 0) {
    if (ptrace(PTRACE_SEIZE, child, 0, 0) != 0) _exit(1);
    write(ready[1], "x", 1);
    siginfo_t info;
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    say("tracer sees %s %d", CLD_TEXT(info.si_code), info.si_status);
    write(done[1], "x", 1);
    usleep(30000);
    await("tracer", child);
    _exit(0);
  }
  read(done[0], &c, 1);
  CHECK_EQ(waitpid(child, NULL, WNOHANG), 0);
  await("tracer's end", tracer);
  await("parent", child);
}

TEST(tracer_dies) {
  for (int kill_too = 0; kill_too < 2; kill_too++) {
    pid_t child = fork();
    if (child == 0) {
      usleep(300000);
      _exit(3);
    }
    pid_t tracer = fork();
    if (tracer == 0) {
      ptrace(PTRACE_SEIZE, child, 0, kill_too ? PTRACE_O_EXITKILL : 0);
      ptrace(PTRACE_INTERRUPT, child, 0, 0);
      waitpid(child, NULL, __WALL);
      _exit(0);
    }
    await("tracer", tracer);
    await("child", child);
  }
}

TEST(permission) {
  pid_t root = fork();
  if (root == 0) for (;;) pause();
  pid_t pid = fork();
  if (pid == 0) {
    CHECK_EQ(setuid(1000), 0);
    CHECK_ERR(ptrace(PTRACE_ATTACH, root, 0, 0), EPERM);
    CHECK_ERR(ptrace(PTRACE_SEIZE, 1, 0, 0), EPERM);
    _exit(0);
  }
  await("user", pid);
  kill(root, SIGKILL);
  await("root", root);
}

/* A call that sleeps goes on where a signal that is not passed on disturbed it. */
static void sleeps(void) {
  struct timespec t = {0, 200000000};
  say("slept: %d", nanosleep(&t, NULL));
}
TEST(restart) {
  pid_t pid = traced(sleeps);
  await("first", pid);
  go(PTRACE_CONT, pid, 0);
  await_sleep(pid);
  kill(pid, SIGUSR1);
  await("usr1", pid);
  struct user_regs_struct regs;
  CHECK_EQ(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
  say("call %d, rax %lld", regs.orig_rax == SYS_nanosleep || regs.orig_rax == SYS_clock_nanosleep, (long long)regs.rax);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}
