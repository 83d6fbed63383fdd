/* /proc: what programs read there, of themselves and of others; links, permissions, formats. */
#include "guest.h"
#include <grp.h>

static char *slurp(const char *path) {
  static char data[65536];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return strcpy(data, strerrorname_np(errno));
  long at = 0, n;
  while ((n = read(fd, data + at, sizeof data - 1 - at)) > 0) at += n;
  data[at] = 0;
  close(fd);
  return data;
}
static const char *field(const char *file, const char *key) {
  static char value[256];
  char *text = slurp(file), needle[64];
  snprintf(needle, sizeof needle, "\n%s:", key);
  char *at = strncmp(text, needle + 1, strlen(needle) - 1) == 0 ? text - 1 : strstr(text, needle);
  if (!at) return "(none)";
  at += strlen(needle);
  while (*at == ' ' || *at == '\t') at++;
  snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\n"), at);
  return value;
}

TEST(status) {
  static const char *names[] = {"Name", "State", "Uid", "Gid", "Groups", "Threads", "SigBlk", "SigIgn", "SigCgt", "ShdPnd", "NoNewPrivs", "Umask", "TracerPid"};
  setgroups(0, NULL);
  signal(SIGUSR1, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);
  kill(getpid(), SIGTERM);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) say("  %s: %s", names[i], field("/proc/self/status", names[i]));
  CHECK_EQ(atoi(field("/proc/self/status", "Pid")), getpid());
  CHECK_EQ(atoi(field("/proc/self/status", "PPid")), getppid());
  CHECK_EQ(atoi(field("/proc/self/status", "Tgid")), getpid());
  CHECK(atoi(field("/proc/self/status", "VmSize")) > 0);
  CHECK(atoi(field("/proc/self/status", "VmRSS")) > 0);
}

TEST(stat_line) {
  char *text = slurp("/proc/self/stat"), comm[64], state;
  int pid, ppid, pgrp, session, fields = 1;
  CHECK_EQ(sscanf(text, "%d (%63[^)]) %c %d %d %d", &pid, comm, &state, &ppid, &pgrp, &session), 6);
  CHECK(pid == getpid() && ppid == getppid() && pgrp == getpgrp() && session == getsid(0));
  CHECK_EQ(state, 'R');
  for (char *p = text; *p; p++) fields += *p == ' ';
  CHECK_EQ(fields, 52);
  long size;
  CHECK_EQ(sscanf(slurp("/proc/self/statm"), "%ld", &size), 1);
  CHECK(size > 0);
}

TEST(links) {
  char buf[PATH_MAX] = {0}, cwd[PATH_MAX];
  CHECK(readlink("/proc/self/exe", buf, sizeof buf) > 0);
  CHECK_STR(buf, guest_self);
  memset(buf, 0, sizeof buf);
  CHECK(readlink("/proc/self/cwd", buf, sizeof buf) > 0);
  CHECK_STR(buf, getcwd(cwd, sizeof cwd));
  memset(buf, 0, sizeof buf);
  CHECK_EQ(readlink("/proc/self/root", buf, sizeof buf), 1);
  CHECK_STR(buf, "/");
  char want[32];
  memset(buf, 0, sizeof buf);
  CHECK(readlink("/proc/self", buf, sizeof buf) > 0);
  sprintf(want, "%d", getpid());
  CHECK_STR(buf, want);
  memset(buf, 0, sizeof buf);
  CHECK(readlink("/proc/thread-self", buf, sizeof buf) > 0);
  sprintf(want, "%d/task/%d", getpid(), getpid());
  CHECK_STR(buf, want);
  CHECK_ERR(readlink("/proc/self/status", buf, sizeof buf), EINVAL);
}

HELPER(sleep) {
  for (;;) pause();
}
TEST(cmdline_environ_comm) {
  int fds[2];
  REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    char *args[] = {"zero", "sleep", "two words", "", NULL}, *env[] = {"X=1", "Y=2", NULL};
    execve(guest_self, args, env);
  }
  close(fds[1]);
  char c, path[64];
  CHECK_EQ(read(fds[0], &c, 1), 0); /* the exec has happened */
  sprintf(path, "/proc/%d/cmdline", pid);
  char *text = slurp(path);
  CHECK(memcmp(text, "zero\0sleep\0two words\0\0", 22) == 0);
  sprintf(path, "/proc/%d/environ", pid);
  text = slurp(path);
  CHECK(memcmp(text, "X=1\0Y=2\0", 8) == 0);
  sprintf(path, "/proc/%d/comm", pid);
  const char *base = strrchr(guest_self, '/') + 1;
  char want[20];
  snprintf(want, sizeof want, "%.15s\n", base);
  CHECK_STR(slurp(path), want);
  sprintf(path, "/proc/%d/status", pid);
  sleep_ms(20);
  CHECK_STR(field(path, "State"), "S (sleeping)");
  kill(pid, SIGSTOP);
  waitpid(pid, NULL, WUNTRACED);
  CHECK_STR(field(path, "State"), "T (stopped)");
  kill(pid, SIGKILL);
  reap(pid);
  CHECK_ERR(access(path, F_OK), ENOENT);
}

TEST(descriptors) {
  put_file("f", "12345");
  int fd = open("f", O_RDWR | O_APPEND | O_CLOEXEC), n = 0;
  char path[64], link[PATH_MAX] = {0}, cwd[PATH_MAX], want[PATH_MAX + 8];
  lseek(fd, 3, SEEK_SET);
  sprintf(path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, link, sizeof link) > 0);
  snprintf(want, sizeof want, "%s/f", getcwd(cwd, sizeof cwd));
  CHECK_STR(link, want);
  sprintf(path, "/proc/self/fdinfo/%d", fd);
  say("  pos %s", field(path, "pos"));
  say("  flags %s", field(path, "flags"));
  DIR *d = opendir("/proc/self/fd");
  for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
  closedir(d);
  CHECK(n >= 4);
  int again = open("/dev/fd/0", O_RDONLY);
  CHECK(again >= 0 || errno == ENXIO || errno == EACCES);
  CHECK_ERR(access("/proc/self/fd/777", F_OK), ENOENT);
}

static void *idle(void *arg) {
  for (;;) pause();
  return arg;
}
TEST(tasks) {
  pthread_t t;
  pthread_create(&t, NULL, idle, NULL);
  int n = 0;
  DIR *d = opendir("/proc/self/task");
  for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
  CHECK_EQ(n, 2);
  CHECK_EQ(atoi(field("/proc/self/status", "Threads")), 2);
}

static pid_t idle_tid;
static void *brief(void *arg) {
  idle_tid = gettid();
  pthread_barrier_wait(arg);
  pthread_barrier_wait(arg);
  return NULL;
}
/* A thread that does not lead its process has a directory of its own in /proc, which shows the process and goes with it. */
TEST(thread_by_its_id) {
  char path[64], name[64], below[64];
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_t t;
  pthread_create(&t, NULL, brief, &barrier);
  pthread_barrier_wait(&barrier);
  sprintf(path, "/proc/%d", idle_tid);
  sprintf(name, "/proc/%d/stat", idle_tid);
  sprintf(below, "/proc/self/task/%d/comm", idle_tid);
  CHECK_EQ(atoi(slurp(name)), idle_tid);
  sprintf(name, "/proc/%d/status", idle_tid);
  CHECK_EQ(atoi(field(name, "Pid")), idle_tid);
  CHECK_EQ(atoi(field(name, "Tgid")), getpid());
  CHECK_OK(access(below, F_OK));
  int listed = 0, fd = open(path, O_RDONLY | O_DIRECTORY);
  sprintf(name, "/proc/self/task/%d", idle_tid);
  int own = open(name, O_RDONLY | O_DIRECTORY);
  DIR *d = opendir("/proc");
  for (struct dirent *e; (e = readdir(d));) listed += atoi(e->d_name) == idle_tid;
  closedir(d);
  CHECK_EQ(listed, 0);
  pthread_barrier_wait(&barrier);
  pthread_join(t, NULL);
  /* Joined is a little before gone. */
  for (int tries = 0; access(below, F_OK) == 0 && tries < 1000; tries++) sleep_ms(1);
  CHECK_ERR(access(below, F_OK), ENOENT);
  CHECK_ERR(access(path, F_OK), ENOENT);
  CHECK_ERR(openat(fd, "stat", O_RDONLY), ESRCH);
  CHECK_ERR(openat(fd, "nothing", O_RDONLY), ESRCH);
  CHECK_ERR(openat(own, "stat", O_RDONLY), ENOENT);
  CHECK_ERR(openat(own, "nothing", O_RDONLY), ENOENT);
  char entries[1024];
  CHECK_ERR(syscall(SYS_getdents64, fd, entries, sizeof entries), ENOENT);
  CHECK_ERR(syscall(SYS_getdents64, own, entries, sizeof entries), ENOENT);
  close(fd);
  close(own);
}

/* What somebody still holds of a process that is no more says so; its number may come again. */
TEST(process_that_is_gone) {
  char path[64];
  pid_t pid = fork();
  if (pid == 0) {
    pause();
    _exit(0);
  }
  sprintf(path, "/proc/%d", pid);
  int dir = open(path, O_RDONLY | O_DIRECTORY);
  strcat(path, "/stat");
  int file = open(path, O_RDONLY);
  CHECK(dir >= 0 && file >= 0);
  char buf[64];
  CHECK(pread(file, buf, sizeof buf, 0) > 0);
  kill(pid, SIGKILL);
  siginfo_t info;
  CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  CHECK(pread(file, buf, sizeof buf, 0) > 0);
  CHECK_OK(faccessat(dir, "status", F_OK, 0));
  CHECK_EQ(waitpid(pid, NULL, 0), pid);
  CHECK_ERR(pread(file, buf, sizeof buf, 0), ESRCH);
  CHECK_ERR(access(path, F_OK), ENOENT);
  CHECK_ERR(openat(dir, "stat", O_RDONLY), ESRCH);
  CHECK_ERR(openat(dir, "nothing", O_RDONLY), ESRCH);
  struct stat st;
  CHECK_OK(fstat(dir, &st));
  CHECK(S_ISDIR(st.st_mode));
  close(dir);
  close(file);
}

TEST(system_files) {
  CHECK(strncmp(slurp("/proc/version"), "Linux version ", 14) == 0);
  CHECK(strstr(slurp("/proc/cpuinfo"), "processor\t: 0") != NULL);
  CHECK(strstr(slurp("/proc/cpuinfo"), "model name\t: ") != NULL);
  CHECK(atol(field("/proc/meminfo", "MemTotal")) > 0);
  CHECK(atol(field("/proc/meminfo", "MemAvailable")) > 0);
  double up, idle_time;
  CHECK_EQ(sscanf(slurp("/proc/uptime"), "%lf %lf", &up, &idle_time), 2);
  CHECK(strncmp(slurp("/proc/stat"), "cpu  ", 5) == 0);
  CHECK(strstr(slurp("/proc/stat"), "\nbtime ") != NULL);
  float a, b, c;
  CHECK_EQ(sscanf(slurp("/proc/loadavg"), "%f %f %f", &a, &b, &c), 3);
  CHECK(strstr(slurp("/proc/filesystems"), "tmpfs") != NULL);
  CHECK(strstr(slurp("/proc/self/mounts"), " /proc proc ") != NULL);
  CHECK(strstr(slurp("/proc/self/mountinfo"), " / / ") != NULL);
  CHECK(atoi(slurp("/proc/sys/kernel/pid_max")) > 0);
  CHECK_STR(slurp("/proc/sys/kernel/ostype"), "Linux\n");
  CHECK(strlen(slurp("/proc/sys/kernel/random/boot_id")) == 37);
  CHECK(strlen(slurp("/proc/sys/kernel/random/uuid")) == 37);
  CHECK(strncmp(slurp("/proc/self/cgroup"), "0::/", 4) == 0 || strchr(slurp("/proc/self/cgroup"), ':'));
  CHECK(strstr(slurp("/proc/self/limits"), "Max open files") != NULL);
  CHECK(atoi(slurp("/proc/self/oom_score_adj")) >= -1000);
  CHECK(strlen(slurp("/proc/self/auxv")) > 0);
}

TEST(errors) {
  CHECK_ERR(open("/proc/999999", O_RDONLY), ENOENT);
  CHECK_ERR(open("/proc/self/nothing", O_RDONLY), ENOENT);
  CHECK_ERR(open("/proc/new", O_CREAT | O_WRONLY, 0600), ENOENT);
  CHECK_ERR(mkdir("/proc/self/x", 0700), ENOENT);
  CHECK_ERR(unlink("/proc/self/status"), EPERM);
  CHECK_ERR(rmdir("/proc/self/fd"), EPERM);
  CHECK_ERR(open("/proc/self/status/x", O_RDONLY), ENOTDIR);
  struct stat st;
  CHECK_OK(stat("/proc/self/status", &st));
  CHECK_EQ(st.st_size, 0);
  CHECK_EQ(st.st_mode, S_IFREG | 0444);
  CHECK_OK(stat("/proc/self/environ", &st));
  CHECK_EQ(st.st_mode, S_IFREG | 0400);
  CHECK_OK(lstat("/proc/self/exe", &st));
  CHECK_EQ(st.st_mode, S_IFLNK | 0777);
  CHECK_OK(stat("/proc/1", &st));
  CHECK(S_ISDIR(st.st_mode));
}

TEST(of_other_users) {
  char path[64];
  sprintf(path, "/proc/%d/environ", getpid());
  CHECK_EQ(IN_CHILD({
    char buf[8], exe[64];
    REQUIRE(setuid(1000) == 0);
    CHECK_ERR(open(path, O_RDONLY), EACCES);
    sprintf(exe, "/proc/%d/exe", getppid());
    CHECK_ERR(readlink(exe, buf, 8), EACCES);
    sprintf(exe, "/proc/%d/fd", getppid());
    CHECK_ERR(open(exe, O_RDONLY), EACCES);
    sprintf(exe, "/proc/%d/status", getppid());
    CHECK_OK(open(exe, O_RDONLY));
  }), 0);
}

TEST(memory_file) {
  static char here[16] = "in memory";
  int fd = open("/proc/self/mem", O_RDWR);
  char buf[16] = {0};
  CHECK(fd >= 0);
  CHECK_EQ(pread(fd, buf, 9, (off_t)(long)here), 9);
  CHECK_STR(buf, "in memory");
  CHECK_EQ(pwrite(fd, "IN", 2, (off_t)(long)here), 2);
  CHECK_STR(here, "IN memory");
  CHECK_ERR(pread(fd, buf, 1, 8), EIO);
}

TEST(writable) {
  int fd = open("/proc/self/comm", O_WRONLY);
  CHECK_EQ(write(fd, "renamed", 7), 7);
  CHECK_STR(slurp("/proc/self/comm"), "renamed\n");
  fd = open("/proc/self/oom_score_adj", O_WRONLY);
  CHECK_EQ(write(fd, "100", 3), 3);
  CHECK_STR(slurp("/proc/self/oom_score_adj"), "100\n");
}

TEST(seek_and_reread) {
  int fd = open("/proc/self/status", O_RDONLY);
  char a[8] = {0}, b[8] = {0};
  CHECK_EQ(read(fd, a, 5), 5);
  CHECK_EQ(pread(fd, b, 5, 0), 5);
  CHECK_STR(a, b);
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  CHECK_EQ(read(fd, b, 4), 4);
  char c;
  long total = 0;
  lseek(fd, 0, SEEK_SET);
  while (read(fd, &c, 1) == 1) total++;
  CHECK(total > 200);
}
