/* fork(2), vfork(2): what the child has of its own and what it shares. */
#include "guest.h"

TEST(returns_and_ids) {
  pid_t me = getpid(), pid = fork();
  if (pid == 0) {
    CHECK_EQ(getppid(), me);
    CHECK(getpid() != me);
    CHECK_EQ(syscall(SYS_gettid), getpid());
    _exit(guest_failures ? 99 : 7);
  }
  CHECK(pid > 0 && pid != me);
  CHECK_EQ(reap(pid), 7);
}

TEST(memory_is_copied) {
  static int data = 1;
  int stack = 2, *heap = malloc(sizeof *heap);
  *heap = 3;
  CHECK_EQ(IN_CHILD(data = 10; stack = 20; *heap = 30), 0);
  CHECK_EQ(data + stack + *heap, 6);
}

TEST(offset_is_shared_descriptors_are_not) {
  put_file("f", "abcdef");
  int fd = open("f", O_RDONLY);
  char c;
  CHECK_EQ(IN_CHILD(CHECK_EQ(read(fd, &c, 1), 1); CHECK_EQ(c, 'a'); close(fd)), 0);
  CHECK_EQ(read(fd, &c, 1), 1);
  CHECK_EQ(c, 'b');
}

TEST(inherited) {
  umask(027);
  mkdir("d", 0777);
  CHECK_OK(chdir("d"));
  sigset_t mask, pending;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  raise(SIGUSR1);
  signal(SIGUSR2, SIG_IGN);
  CHECK_EQ(IN_CHILD({
    char cwd[PATH_MAX];
    CHECK_STR(strrchr(getcwd(cwd, sizeof cwd), '/'), "/d");
    CHECK_EQ(umask(0), 027);
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGUSR1)); /* pending signals are not */
    sigprocmask(SIG_BLOCK, NULL, &mask);
    CHECK(sigismember(&mask, SIGUSR1));
    CHECK(signal(SIGUSR2, SIG_DFL) == SIG_IGN);
  }), 0);
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGUSR1));
}

TEST(timers_are_not_inherited) {
  struct itimerval t = {{0, 0}, {100, 0}};
  setitimer(ITIMER_REAL, &t, NULL);
  CHECK_EQ(IN_CHILD(getitimer(ITIMER_REAL, &t); CHECK_EQ(t.it_value.tv_sec, 0)), 0);
  alarm(GUEST_SECONDS);
}

TEST(vfork_waits_and_shares) {
  static volatile int shared;
  pid_t pid = vfork();
  if (pid == 0) {
    usleep(50000);
    shared = 5;
    _exit(3);
  }
  CHECK_EQ(shared, 5);
  CHECK_EQ(reap(pid), 3);
}

TEST(vfork_exec_releases) {
  int fds[2];
  REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
  pid_t pid = vfork();
  if (pid == 0) {
    execl("/bin/sleep", "sleep", "0.3", NULL);
    _exit(127);
  }
  CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0); /* still running: the exec let us go */
  CHECK_EQ(reap(pid), 0);
}

TEST(many_children) {
  int sum = 0;
  pid_t pids[40];
  for (int i = 0; i < 40; i++)
    if ((pids[i] = fork()) == 0) _exit(i);
  for (int i = 0; i < 40; i++) sum += reap(pids[i]);
  CHECK_EQ(sum, 780);
  CHECK_ERR(wait(NULL), ECHILD);
}

TEST(deep_chain) {
  int depth = 0;
  for (; depth < 12; depth++) {
    pid_t pid = fork();
    if (pid == 0) continue;
    int code = reap(pid);
    if (depth > 0) _exit(code + 1);
    CHECK_EQ(code, 11 + 50);
    return;
  }
  _exit(50);
}

TEST(stdio_is_duplicated) {
  FILE *f = fopen("out", "w");
  fputs("once;", f);
  CHECK_EQ(IN_CHILD(fclose(f)), 0);
  fclose(f);
  CHECK_STR(get_file("out"), "once;once;");
}

static void *spin(void *arg) {
  for (;;) pause();
  return arg;
}
TEST(only_the_caller_is_forked) {
  pthread_t t;
  pthread_create(&t, NULL, spin, NULL);
  CHECK_EQ(IN_CHILD({
    int threads = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; (e = readdir(d));) threads += e->d_name[0] != '.';
    CHECK_EQ(threads, 1);
  }), 0);
}
