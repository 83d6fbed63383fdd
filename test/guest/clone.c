/* clone(2), clone3(2): flag rules, thread-id words, exit signals, shared tables. */
#include "guest.h"
#include <linux/sched.h>

static long raw_clone(unsigned long flags, void *stack, int *ptid, int *ctid, unsigned long tls) {
  return syscall(SYS_clone, flags, stack, ptid, ctid, tls);
}
static long raw_clone3(struct clone_args *args, size_t size) { return syscall(SYS_clone3, args, size); }

TEST(flag_errors) {
  CHECK_ERR(raw_clone(CLONE_SIGHAND | SIGCHLD, NULL, NULL, NULL, 0), EINVAL);
  CHECK_ERR(raw_clone(CLONE_THREAD | CLONE_VM, NULL, NULL, NULL, 0), EINVAL);
  CHECK_ERR(raw_clone(CLONE_FS | CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, 0), EINVAL);
  struct clone_args args = {.exit_signal = 65};
  CHECK_ERR(raw_clone3(&args, sizeof args), EINVAL);
  args = (struct clone_args){.flags = CLONE_DETACHED};
  CHECK_ERR(raw_clone3(&args, sizeof args), EINVAL);
  args = (struct clone_args){.flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, .exit_signal = SIGCHLD};
  CHECK_ERR(raw_clone3(&args, sizeof args), EINVAL);
  args = (struct clone_args){.stack = 0x1000};
  CHECK_ERR(raw_clone3(&args, sizeof args), EINVAL);
  args = (struct clone_args){.stack_size = 0x1000};
  CHECK_ERR(raw_clone3(&args, sizeof args), EINVAL);
  CHECK_ERR(raw_clone3(&args, 63), EINVAL);
  CHECK_ERR(raw_clone3(&args, 4097), E2BIG);
  char big[128] = {0};
  big[120] = 1; /* set beyond what the kernel knows */
  CHECK_ERR(raw_clone3((void *)big, sizeof big), E2BIG);
}

TEST(clone3_larger_struct_of_zeros) {
  char big[128] = {0};
  ((struct clone_args *)big)->exit_signal = SIGCHLD;
  long pid = raw_clone3((void *)big, sizeof big);
  if (pid == 0) _exit(11);
  CHECK(pid > 0);
  CHECK_EQ(reap(pid), 11);
}

TEST(tid_words) {
  int ptid = -1, ctid = -1;
  long pid = raw_clone(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL, &ptid, &ctid, 0);
  if (pid == 0) _exit(ctid == getpid() ? 0 : 1);
  CHECK_EQ(ptid, pid);
  CHECK_EQ(ctid, -1); /* set in the child's copy only */
  CHECK_EQ(reap(pid), 0);
}

TEST(exit_signal_none) {
  long pid = raw_clone(0, NULL, NULL, NULL, 0);
  if (pid == 0) _exit(3);
  int status;
  usleep(20000);
  CHECK_ERR(waitpid(pid, &status, WNOHANG), ECHILD);
  CHECK_EQ(waitpid(pid, &status, __WCLONE), pid);
  CHECK_EQ(WEXITSTATUS(status), 3);
  pid = raw_clone(0, NULL, NULL, NULL, 0);
  if (pid == 0) _exit(4);
  CHECK_EQ(waitpid(pid, &status, __WALL), pid);
}

static volatile sig_atomic_t got;
static void note(int sig) { got = sig; }
TEST(exit_signal_other) {
  signal(SIGUSR1, note);
  long pid = raw_clone(SIGUSR1, NULL, NULL, NULL, 0);
  if (pid == 0) _exit(0);
  int status;
  while (waitpid(pid, &status, __WALL) == -1 && errno == EINTR) continue;
  CHECK_EQ(got, SIGUSR1);
}

TEST(clone_parent) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  pid_t me = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    long sibling = raw_clone(CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0);
    if (sibling == 0) _exit(getppid() == me ? 21 : 22);
    _exit(write(fds[1], &sibling, sizeof sibling) == sizeof sibling ? 0 : 1);
  }
  long sibling;
  CHECK_EQ(read(fds[0], &sibling, sizeof sibling), sizeof sibling);
  CHECK_EQ(reap(pid), 0);
  CHECK_EQ(reap(sibling), 21);
}

TEST(clone_files_shares_the_table) {
  long pid = raw_clone(CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0);
  if (pid == 0) {
    int fd = open("/dev/null", O_RDONLY);
    _exit(fd);
  }
  int fd = reap(pid);
  CHECK_OK(fcntl(fd, F_GETFD));
  CHECK_EQ(IN_CHILD(close(fd)), 0);
  CHECK_OK(fcntl(fd, F_GETFD));
}

TEST(clone_fs_shares_cwd_and_umask) {
  mkdir("d", 0755);
  long pid = raw_clone(CLONE_FS | SIGCHLD, NULL, NULL, NULL, 0);
  if (pid == 0) {
    umask(0123);
    _exit(chdir("d") == 0 ? 0 : 1);
  }
  CHECK_EQ(reap(pid), 0);
  CHECK_EQ(umask(022), 0123);
  char cwd[PATH_MAX];
  CHECK_STR(strrchr(getcwd(cwd, sizeof cwd), '/'), "/d");
}

static char stack[65536] __attribute__((aligned(16)));
static volatile int value;
static int set_value(void *arg) {
  value = (int)(long)arg;
  return 5;
}
TEST(clone_vm_without_thread) {
  pid_t pid = clone(set_value, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)77L);
  CHECK(pid > 0);
  CHECK_EQ(reap(pid), 5);
  CHECK_EQ(value, 77);
}

TEST(child_cleartid_wakes) {
  static int word;
  word = 12345;
  pid_t pid = clone(set_value, stack + sizeof stack, CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, (void *)1L, NULL, NULL, &word);
  CHECK(pid > 0);
  while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 12345) syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 12345, NULL);
  CHECK_EQ(word, 0);
  CHECK_EQ(reap(pid), 5);
}

TEST(clone_pidfd) {
  int fd = -1;
  struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uint64_t)&fd, .exit_signal = SIGCHLD};
  long pid = raw_clone3(&args, sizeof args);
  if (pid == 0) _exit(2);
  CHECK(fd >= 0);
  siginfo_t info;
  CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED));
  CHECK_EQ(info.si_pid, pid);
  CHECK_EQ(info.si_status, 2);
}

TEST(clear_sighand) {
  signal(SIGUSR1, note);
  signal(SIGUSR2, SIG_IGN);
  struct clone_args args = {.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
  long pid = raw_clone3(&args, sizeof args);
  if (pid == 0) _exit(signal(SIGUSR1, SIG_DFL) == SIG_DFL && signal(SIGUSR2, SIG_DFL) == SIG_IGN ? 0 : 1);
  CHECK_EQ(reap(pid), 0);
}
