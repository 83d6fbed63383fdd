/* Shared by the guest programs of ptrace(2). */
#include "guest.h"
#include <sys/ptrace.h>
#include <sys/user.h>

/* Waits for `pid` and says what it did; the event's number is the status from bit 16 on. */
static int await(const char *what, pid_t pid) {
  int status = -1;
  pid_t got = waitpid(pid, &status, __WALL);
  if (pid > 0 && got != pid) say("%s: waitpid: %s", what, strerror(errno));
  else if (WIFSTOPPED(status)) say("%s: stopped by %d%s, event %d", what, WSTOPSIG(status) & 0x7f, WSTOPSIG(status) & 0x80 ? " at a call" : "", status >> 16);
  else if (WIFSIGNALED(status)) say("%s: killed by %d", what, WTERMSIG(status));
  else say("%s: exit %d", what, WEXITSTATUS(status));
  return status;
}
static void go(enum __ptrace_request request, pid_t pid, long sig) {
  CHECK_EQ(ptrace(request, pid, 0, sig), 0);
}
static pid_t traced(void (*body)(void)) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  CHECK_EQ(ptrace(PTRACE_TRACEME, 0, 0, 0), 0);
  CHECK_ERR(ptrace(PTRACE_TRACEME, 0, 0, 0), EPERM);
  raise(SIGSTOP);
  body();
  _exit(0);
}
