/* execve(2), execveat(2): what survives, what does not, scripts, limits, errors. */
#include "guest.h"

HELPER(show) {
  for (int i = 0; i < argc; i++) say("  argv[%d]=%s", i, argv[i]);
  extern char **environ;
  for (int i = 0; environ[i]; i++) say("  env[%d]=%s", i, environ[i]);
  return 12;
}
#define RUN(...) IN_CHILD(__VA_ARGS__; _exit(100 + (errno < 28 ? errno : 28)))
static char *env_two[] = {"A=1", "B=two words", NULL};

TEST(argv_and_env) {
  char *args[] = {guest_self, "show", "", "a b", "\xff\x01", NULL};
  CHECK_EQ(RUN(execve(guest_self, args, env_two)), 12);
  char *empty[] = {NULL};
  char *only[] = {"prog", "show", NULL};
  CHECK_EQ(RUN(execve(guest_self, only, empty)), 12);
}

HELPER(fds) { return fcntl(20, F_GETFD) == 0 && fcntl(21, F_GETFD) == -1 && errno == EBADF && fcntl(22, F_GETFD) == -1 ? 0 : 1; }
TEST(close_on_exec) {
  int fd = open("/dev/null", O_RDONLY);
  dup2(fd, 20);
  dup3(fd, 21, O_CLOEXEC);
  dup2(fd, 22);
  fcntl(22, F_SETFD, FD_CLOEXEC);
  CHECK_EQ(RUN(execl(guest_self, guest_self, "fds", NULL)), 0);
  CHECK_EQ(fcntl(21, F_GETFD), FD_CLOEXEC);
}

static void note(int sig) { (void)sig; }
HELPER(signals) {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  sigset_t pending;
  sigpending(&pending);
  stack_t ss;
  sigaltstack(NULL, &ss);
  return (signal(SIGUSR1, SIG_DFL) == SIG_DFL) && (signal(SIGUSR2, SIG_DFL) == SIG_IGN) && sigismember(&mask, SIGTERM) &&
                 sigismember(&pending, SIGTERM) && (ss.ss_flags & SS_DISABLE)
             ? 0
             : 1;
}
TEST(signal_state) {
  static char alt[16384];
  CHECK_EQ(RUN({
    signal(SIGUSR1, note);
    signal(SIGUSR2, SIG_IGN);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    raise(SIGTERM);
    stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
    sigaltstack(&ss, NULL);
    execl(guest_self, guest_self, "signals", NULL);
  }), 0);
}

HELPER(timer) {
  struct itimerval t;
  getitimer(ITIMER_REAL, &t);
  return t.it_value.tv_sec > 90 && getpid() == atoi(argv[1]) ? 0 : 1;
}
TEST(pid_and_timer_survive) {
  CHECK_EQ(RUN({
    struct itimerval t = {{0, 0}, {100, 0}};
    setitimer(ITIMER_REAL, &t, NULL);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    execl(guest_self, guest_self, "timer", pid, NULL);
  }), 0);
}

TEST(errors) {
  char *none[] = {"x", NULL};
  CHECK_ERR(execve("missing", none, none + 1), ENOENT);
  CHECK_ERR(execve("", none, none + 1), ENOENT);
  CHECK_ERR(execve(".", none, none + 1), EACCES);
  put_file("plain", "#!/bin/sh\n");
  CHECK_ERR(execve("plain", none, none + 1), EACCES);
  CHECK_ERR(execve("plain/x", none, none + 1), ENOTDIR);
  put_file("junk", "neither ELF nor script\n");
  chmod("junk", 0755);
  CHECK_ERR(execve("junk", none, none + 1), ENOEXEC);
  put_file("empty", "");
  chmod("empty", 0755);
  CHECK_ERR(execve("empty", none, none + 1), ENOEXEC);
  CHECK_OK(symlink("loop", "loop"));
  CHECK_ERR(execve("loop", none, none + 1), ELOOP);
  char name[300];
  memset(name, 'a', sizeof name - 1);
  name[299] = 0;
  CHECK_ERR(execve(name, none, none + 1), ENAMETOOLONG);
  CHECK_OK(mkfifo("fifo", 0755));
  CHECK_ERR(execve("fifo", none, none + 1), EACCES);
  put_file("badinterp", "#!/no/such/interpreter\n");
  chmod("badinterp", 0755);
  CHECK_ERR(execve("badinterp", none, none + 1), ENOENT);
  put_file("nointerp", "#!   \n");
  chmod("nointerp", 0755);
  CHECK_ERR(execve("nointerp", none, none + 1), ENOEXEC);
  put_file("elf", "\177ELF\2\1\1");
  chmod("elf", 0755);
  CHECK_ERR(execve("elf", none, none + 1), ENOEXEC);
}

TEST(text_busy) {
  int in = open(guest_self, O_RDONLY);
  int out = open("copy", O_WRONLY | O_CREAT, 0755);
  char buf[65536];
  for (ssize_t n; (n = read(in, buf, sizeof buf)) > 0;) REQUIRE(write(out, buf, n) == n);
  char *args[] = {"copy", "show", NULL};
  CHECK_ERR(execve("copy", args, args + 2), ETXTBSY);
  close(out);
  CHECK_EQ(RUN(execve("./copy", args, args + 2)), 12);
}

TEST(scripts) {
  char line[PATH_MAX + 64];
  snprintf(line, sizeof line, "#!%s show one arg\nbody", guest_self);
  put_file("s", line);
  chmod("s", 0755);
  char *args[] = {"ignored", "x", "y", NULL};
  char *link = "interp";
  CHECK_OK(symlink(guest_self, link)); /* so that the path printed is the same everywhere */
  put_file("s2", "#!interp show\n");
  chmod("s2", 0755);
  put_file("s3", "#! \tinterp   show  many words  \n");
  chmod("s3", 0755);
  put_file("s4", "#!s2\n"); /* a script as interpreter */
  chmod("s4", 0755);
  CHECK_EQ(RUN(execve("s2", args, env_two)), 12);
  CHECK_EQ(RUN(execve("s3", args, env_two)), 0); /* "show  many words  " came as one word, so no helper and no test ran */
  CHECK_EQ(RUN(execve("s4", args, env_two)), 12);
}

TEST(script_loop) {
  put_file("loop", "#!loop\n");
  chmod("loop", 0755);
  char *args[] = {"x", NULL};
  CHECK_ERR(execve("loop", args, args + 1), ELOOP);
}

TEST(argument_limits) {
  size_t big = 128 * 1024;
  char *arg = malloc(big + 1);
  memset(arg, 'x', big);
  arg[big] = 0;
  char *args[] = {"true", arg, NULL};
  CHECK_ERR(execve("/bin/true", args, args + 2), E2BIG);
  arg[big - 1] = 0; /* 128 KiB with its NUL is the longest */
  CHECK_EQ(RUN(execve("/bin/true", args, args + 2)), 0);
  int count = 100;
  char **many = calloc(count + 1, sizeof *many);
  for (int i = 0; i < count; i++) many[i] = arg;
  many[count] = NULL;
  CHECK_ERR(execve("/bin/true", many, args + 2), E2BIG); /* more than a quarter of the stack */
  for (int i = 0; i < 10; i++) many[i] = arg;
  many[10] = NULL;
  CHECK_EQ(RUN(execve("/bin/true", many, args + 2)), 0);
}

HELPER(comm) {
  char want[32];
  snprintf(want, sizeof want, "%s\n", argv[1]);
  return strcmp(get_file("/proc/self/comm"), want) == 0 ? 0 : 1;
}
TEST(comm_is_the_file_name) {
  CHECK_OK(symlink(guest_self, "a-rather-long-program-name"));
  CHECK_EQ(RUN(execl("./a-rather-long-program-name", "zero", "comm", "a-rather-long-p", NULL)), 0);
}

TEST(execveat) {
  char *args[] = {"zero", "show", "at", NULL};
  int fd = open(guest_self, O_RDONLY | O_CLOEXEC);
  int path = open(guest_self, O_PATH);
  int dir = open(".", O_RDONLY | O_DIRECTORY);
  CHECK_OK(symlink(guest_self, "link"));
  CHECK_EQ(RUN(syscall(SYS_execveat, fd, "", args, env_two, AT_EMPTY_PATH)), 12);
  CHECK_EQ(RUN(syscall(SYS_execveat, path, "", args, env_two, AT_EMPTY_PATH)), 12);
  CHECK_EQ(RUN(syscall(SYS_execveat, dir, "link", args, env_two, 0)), 12);
  CHECK_ERR(syscall(SYS_execveat, dir, "link", args, env_two, AT_SYMLINK_NOFOLLOW), ELOOP);
  CHECK_ERR(syscall(SYS_execveat, fd, "", args, env_two, 0), ENOENT);
  CHECK_ERR(syscall(SYS_execveat, 77, "link", args, env_two, 0), EBADF);
  CHECK_ERR(syscall(SYS_execveat, fd, "x", args, env_two, 0), ENOTDIR);
  CHECK_ERR(syscall(SYS_execveat, dir, "link", args, env_two, 0x1), EINVAL);
  CHECK_EQ(RUN(fexecve(fd, args, env_two)), 12);
}

HELPER(threads) {
  int n = 0;
  DIR *d = opendir("/proc/self/task");
  for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
  return n == 1 && getpid() == atoi(argv[1]) && syscall(SYS_gettid) == getpid() ? 0 : 1;
}
static void *idle(void *arg) {
  for (;;) pause();
  return arg;
}
static void *exec_it(void *pid) {
  execl(guest_self, guest_self, "threads", (char *)pid, NULL);
  return NULL;
}
TEST(from_a_thread) {
  CHECK_EQ(IN_CHILD({
    static char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    pthread_t t;
    for (int i = 0; i < 3; i++) pthread_create(&t, NULL, idle, NULL);
    pthread_create(&t, NULL, exec_it, pid);
    for (;;) pause();
  }), 0);
}
TEST(from_main_with_threads) {
  CHECK_EQ(IN_CHILD({
    static char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    pthread_t t;
    for (int i = 0; i < 3; i++) pthread_create(&t, NULL, idle, NULL);
    exec_it(pid);
  }), 0);
}

HELPER(ids) { return geteuid() == 1234 && getuid() == (uid_t)atoi(argv[1]) && getegid() == 4321 ? 0 : 1; }
TEST(set_user_and_group_id) {
  int in = open(guest_self, O_RDONLY);
  int out = open("suid", O_WRONLY | O_CREAT, 0755);
  char buf[65536];
  for (ssize_t n; (n = read(in, buf, sizeof buf)) > 0;) REQUIRE(write(out, buf, n) == n);
  close(out);
  CHECK_OK(chown("suid", 1234, 4321));
  CHECK_OK(chmod("suid", 06755));
  CHECK_EQ(RUN(REQUIRE(setgid(99) == 0 && setuid(99) == 0); execl("./suid", "suid", "ids", "99", NULL)), 0);
  CHECK_EQ(RUN(syscall(SYS_prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0); REQUIRE(setuid(99) == 0);
               execl("./suid", "suid", "ids", "99", NULL)), 1);
}

TEST(proc_self_exe) {
  CHECK_EQ(RUN(execle("/proc/self/exe", "x", "show", NULL, env_two)), 12);
}

HELPER(auxv) {
  extern char **environ;
  char **p = environ;
  while (*p) p++;
  unsigned long *aux = (unsigned long *)(p + 1);
  unsigned seen = 0;
  for (; aux[0]; aux += 2) {
    if (aux[0] == 6) say("  AT_PAGESZ %lu", aux[1]);
    if (aux[0] == 17) say("  AT_CLKTCK %lu", aux[1]);
    if (aux[0] == 4) say("  AT_PHENT %lu", aux[1]);
    if (aux[0] == 23) say("  AT_SECURE %lu", aux[1]);
    if (aux[0] == 11) say("  AT_UID %lu", aux[1]);
    if (aux[0] == 31) say("  AT_EXECFN %s", (char *)aux[1]);
    if (aux[0] == 15) say("  AT_PLATFORM %s", (char *)aux[1]);
    if (aux[0] < 64) seen |= aux[0] == 25 ? 1 : aux[0] == 33 ? 2 : aux[0] == 3 ? 4 : aux[0] == 5 ? 8 : aux[0] == 9 ? 16 : aux[0] == 16 ? 32 : 0;
  }
  say("  AT_RANDOM, SYSINFO_EHDR, PHDR, PHNUM, ENTRY, HWCAP: %x", seen);
  return 12;
}
TEST(auxiliary_vector) {
  CHECK_OK(symlink(guest_self, "me"));
  CHECK_EQ(RUN(execl("./me", "x", "auxv", NULL)), 12);
}
