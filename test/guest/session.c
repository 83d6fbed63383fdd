/* setsid(2), setpgid(2), getsid(2): the rules of process groups and sessions, and orphaned groups. */
#include "guest.h"

TEST(setsid) {
  CHECK_EQ(IN_CHILD({
    pid_t me = getpid();
    CHECK(getpgrp() != me);
    CHECK_EQ(setsid(), me);
    CHECK_EQ(getsid(0), me);
    CHECK_EQ(getpgrp(), me);
    CHECK_ERR(setsid(), EPERM);
    CHECK_ERR(setpgid(0, 0), EPERM); /* a session leader stays */
    CHECK_ERR(open("/dev/tty", O_RDWR), ENXIO);
  }), 0);
}

TEST(setpgid_of_children) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    char c;
    if (read(fds[0], &c, 1) == 1) execl("/bin/sleep", "sleep", "30", NULL);
    _exit(1);
  }
  CHECK_OK(setpgid(pid, pid));
  CHECK_EQ(getpgid(pid), pid);
  CHECK_OK(setpgid(pid, getpgrp()));
  CHECK_EQ(getpgid(pid), getpgrp());
  CHECK_EQ(write(fds[1], "x", 1), 1);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/comm", pid);
  while (strcmp(get_file(path), "sleep\n") != 0) usleep(1000);
  CHECK_ERR(setpgid(pid, pid), EACCES); /* it has executed */
  kill(pid, SIGKILL);
  CHECK_EQ(reap(pid), 128 + SIGKILL);
}

TEST(setpgid_errors) {
  CHECK_ERR(setpgid(0, -1), EINVAL);
  CHECK_ERR(setpgid(-1, 0), EINVAL);
  CHECK_ERR(setpgid(0, 999999), EPERM); /* no such group in the session */
  CHECK_ERR(setpgid(getppid(), 0), ESRCH); /* no child */
  CHECK_ERR(getpgid(999999), ESRCH);
  CHECK_ERR(getsid(999999), ESRCH);
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    for (;;) pause();
  }
  while (getsid(pid) != pid) usleep(1000);
  CHECK_ERR(setpgid(pid, getpgrp()), EPERM);
  kill(pid, SIGKILL);
  reap(pid);
}

TEST(kill_group) {
  pid_t first = fork();
  if (first == 0) {
    setpgid(0, 0);
    for (;;) pause();
  }
  setpgid(first, first);
  pid_t second = fork();
  if (second == 0) {
    setpgid(0, first);
    for (;;) pause();
  }
  CHECK_OK(setpgid(second, first));
  CHECK_OK(kill(-first, 0));
  CHECK_OK(killpg(first, SIGTERM));
  CHECK_EQ(reap(first), 128 + SIGTERM);
  CHECK_EQ(reap(second), 128 + SIGTERM);
  CHECK_ERR(kill(-first, 0), ESRCH);
}

static volatile sig_atomic_t hups, conts;
static void note(int sig) { *(sig == SIGHUP ? &hups : &conts) += 1; }
/* When a group becomes orphaned with a stopped member, all its members get SIGHUP and SIGCONT. */
TEST(orphaned_group_with_stopped_member) {
  int report[2], ready[2];
  REQUIRE(pipe(report) == 0 && pipe(ready) == 0);
  pid_t leader = fork();
  if (leader == 0) {
    setsid();
    pid_t child = fork();
    if (child == 0) {
      setpgid(0, 0);
      signal(SIGHUP, note);
      signal(SIGCONT, note);
      if (write(ready[1], "r", 1) != 1) _exit(1);
      raise(SIGSTOP);
      usleep(20000);
      char line[2] = {'0' + hups, '0' + conts};
      _exit(write(report[1], line, 2) == 2 ? 0 : 1);
    }
    char c;
    if (read(ready[0], &c, 1) != 1) _exit(1);
    int status;
    waitpid(child, &status, WUNTRACED);
    _exit(0);
  }
  CHECK_EQ(reap(leader), 0);
  char line[3] = {0};
  CHECK_EQ(read(report[0], line, 2), 2);
  CHECK_STR(line, "11");
}

/* In an orphaned group the terminal's stop signals do nothing; SIGSTOP still stops. */
TEST(orphaned_group_ignores_tstp) {
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    raise(SIGTSTP);
    raise(SIGTTIN);
    raise(SIGTTOU);
    _exit(5);
  }
  CHECK_EQ(reap(pid), 5);
}
