/*
 * Shared by the guest programs: each runs natively first, where it must pass, and then in the sandbox, where its output
 * must be the same byte for byte. So nothing printed may depend on pids, addresses or the moment.
 *
 * A program is a list of TEST(name) { … }; each runs in a forked child of its own, under an alarm, in an empty
 * directory that is its cwd. `prog name` runs one of them in the process itself, for debugging. HELPER(name) are entry
 * points for tests that exec the program again: helper(NAME, arg…) runs in it as main(argc, argv).
 */
#ifndef GUEST_H
#define GUEST_H
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct guest_test {
  const char *name;
  void (*run)(void);
  int (*help)(int argc, char **argv);
};
#define GUEST_ENTRY(n, r, h) \
  static const struct guest_test guest_entry_##n = {#n, r, h}; \
  static const struct guest_test *const guest_ptr_##n __attribute__((used, section("guest_tests"))) = &guest_entry_##n;
#define TEST(n) \
  static void test_##n(void); \
  GUEST_ENTRY(n, test_##n, NULL) \
  static void test_##n(void)
#define HELPER(n) \
  static int helper_##n(int argc, char **argv); \
  GUEST_ENTRY(n, NULL, helper_##n) \
  static int helper_##n(int argc __attribute__((unused)), char **argv __attribute__((unused)))
extern const struct guest_test *const __start_guest_tests[], *const __stop_guest_tests[];

static int guest_failures __attribute__((unused));
static char guest_self[PATH_MAX] __attribute__((unused));

/* One write per line: lines of parent and child never mix, and nothing is lost or doubled by a fork or a crash. */
static void __attribute__((format(printf, 1, 2), unused)) say(const char *format, ...) {
  char line[4096];
  int saved = errno;
  va_list ap;
  va_start(ap, format);
  int n = vsnprintf(line, sizeof line - 1, format, ap);
  va_end(ap);
  if (n > (int)sizeof line - 2) n = sizeof line - 2;
  line[n++] = '\n';
  for (int at = 0; at < n;) {
    ssize_t w = write(1, line + at, n - at);
    if (w < 0 && errno != EINTR) break;
    if (w > 0) at += w;
  }
  errno = saved;
}

#define FAIL(...) (guest_failures++, say("FAIL " __VA_ARGS__))
#define GUEST_WHERE __FILE_NAME__, __LINE__
#define CHECK(cond) \
  do { \
    if (!(cond)) FAIL("%s:%d: %s (errno %s)", GUEST_WHERE, #cond, strerrorname_np(errno)); \
  } while (0)
#define REQUIRE(cond) \
  do { \
    errno = 0; \
    if (!(cond)) { \
      FAIL("%s:%d: %s (errno %s)", GUEST_WHERE, #cond, strerrorname_np(errno)); \
      _exit(1); \
    } \
  } while (0)
#define CHECK_EQ(got, want) \
  do { \
    long long g_ = (long long)(got), w_ = (long long)(want); \
    if (g_ != w_) FAIL("%s:%d: %.100s is %lld (0x%llx), not %lld (0x%llx)", GUEST_WHERE, #got, g_, g_, w_, w_); \
  } while (0)
/* The call fails with exactly this errno. */
#define CHECK_ERR(call, want) \
  do { \
    errno = 0; \
    long r_ = (long)(call); \
    int e_ = errno; \
    if (r_ != -1 || e_ != (want)) \
      FAIL("%s:%d: %.100s returned %ld with %s, not -1 with %s", GUEST_WHERE, #call, r_, strerrorname_np(e_), strerrorname_np(want)); \
  } while (0)
#define CHECK_OK(call) \
  do { \
    errno = 0; \
    long r_ = (long)(call); \
    if (r_ == -1) FAIL("%s:%d: %.100s failed with %s", GUEST_WHERE, #call, strerrorname_np(errno)); \
  } while (0)
#define CHECK_STR(got, want) \
  do { \
    const char *g_ = (got), *w_ = (want); \
    if (strcmp(g_, w_) != 0) FAIL("%s:%d: %s is \"%s\", not \"%s\"", GUEST_WHERE, #got, g_, w_); \
  } while (0)

/* "0", "17" or the name of the errno: for matrices whose values the native run supplies. */
static __attribute__((unused)) const char *result(long r) {
  static char text[4][32];
  static int next;
  if (r == -1) return strerrorname_np(errno);
  char *out = text[next++ & 3];
  snprintf(out, sizeof text[0], "%ld", r);
  return out;
}

static void __attribute__((unused)) sleep_ms(int ms) {
  struct timespec ts = {ms / 1000, (ms % 1000) * 1000000L};
  while (nanosleep(&ts, &ts) == -1 && errno == EINTR) continue;
}

/* Whether /proc/TASK/stat says that it sleeps; until process `pid` does, or for two seconds. */
static int __attribute__((unused)) task_sleeps(const char *task) {
  char path[300], state = 0;
  snprintf(path, sizeof(path), "/proc/%s/stat", task);
  FILE *f = fopen(path, "r");
  if (!f) return 0;
  CHECK_EQ(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
  fclose(f);
  return state == 'S';
}
static void __attribute__((unused)) await_sleep(pid_t pid) {
  char name[16];
  snprintf(name, sizeof(name), "%d", pid);
  for (int i = 0; i < 2000; i++) {
    sleep_ms(1);
    if (task_sleeps(name)) return;
  }
}

static int64_t __attribute__((unused)) now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void __attribute__((unused)) put_file(const char *path, const char *data) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  REQUIRE(fd >= 0);
  REQUIRE(write(fd, data, strlen(data)) == (ssize_t)strlen(data));
  close(fd);
}

static __attribute__((unused)) const char *get_file(const char *path) {
  static char data[4096];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return strerrorname_np(errno);
  ssize_t n = read(fd, data, sizeof data - 1);
  close(fd);
  data[n < 0 ? 0 : n] = 0;
  return data;
}

/* Waits for one child: its exit code, or 128 + the signal that killed it. */
static int __attribute__((unused)) reap(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) == -1)
    if (errno != EINTR) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs `body` in a child and gives its exit code; CHECKs that fail in the child make the parent fail too. */
#define IN_CHILD(...) \
  __extension__({ \
    pid_t pid_ = fork(); \
    if (pid_ == 0) { \
      guest_failures = 0; \
      __VA_ARGS__; \
      _exit(guest_failures ? 99 : 0); \
    } \
    reap(pid_); \
  })

static int __attribute__((unused)) guest_remove(const char *path) {
  DIR *d = opendir(path);
  if (d) {
    for (struct dirent *e; (e = readdir(d));) {
      if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
      char sub[PATH_MAX];
      snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
      struct stat st;
      if (lstat(sub, &st) == 0 && S_ISDIR(st.st_mode)) guest_remove(sub);
      else unlink(sub);
    }
    closedir(d);
  }
  return rmdir(path);
}

#ifndef GUEST_NO_MAIN
#ifndef GUEST_SECONDS
#define GUEST_SECONDS 20
#endif
int main(int argc, char **argv) {
  const char *only = argc > 1 ? argv[1] : NULL;
  if (!realpath("/proc/self/exe", guest_self)) snprintf(guest_self, sizeof guest_self, "%s", argv[0]);
  if (only)
    for (const struct guest_test *const *t = __start_guest_tests; t < __stop_guest_tests; t++)
      if ((*t)->help && strcmp((*t)->name, only) == 0) return (*t)->help(argc - 1, argv + 1);
  char dir[] = "/tmp/guest-XXXXXX";
  if (!mkdtemp(dir) || chdir(dir) != 0 || chmod(dir, 0777) != 0) {
    say("FAIL cannot make a directory in /tmp: %s", strerrorname_np(errno));
    return 1;
  }
  umask(022);
  int failed = 0;
  for (const struct guest_test *const *t = __start_guest_tests; t < __stop_guest_tests; t++) {
    if (!(*t)->run || (only && strcmp((*t)->name, only) != 0)) continue;
    if (mkdir((*t)->name, 0777) != 0 || chmod((*t)->name, 0777) != 0 || chdir((*t)->name) != 0) {
      say("FAIL %s: cannot make its directory: %s", (*t)->name, strerrorname_np(errno));
      return 1;
    }
    int code;
    if (only) {
      (*t)->run();
      code = guest_failures ? 1 : 0;
    } else {
      pid_t pid = fork();
      if (pid == 0) {
        setpgid(0, 0); /* what it leaves behind is killed with its group */
        alarm(GUEST_SECONDS);
        (*t)->run();
        _exit(guest_failures ? 1 : 0);
      }
      setpgid(pid, pid);
      code = pid < 0 ? 1 : reap(pid);
      kill(-pid, SIGKILL);
    }
    if (code == 128 + SIGALRM) say("FAIL %s: hangs", (*t)->name);
    else if (code > 128) say("FAIL %s: killed by SIG%s", (*t)->name, sigabbrev_np(code - 128));
    else if (code != 0) say("FAIL %s", (*t)->name);
    else say("ok %s", (*t)->name);
    failed |= code != 0;
    if (chdir(dir) != 0) return 1;
    guest_remove((*t)->name);
  }
  if (chdir("/") == 0) guest_remove(dir);
  return failed;
}
#endif
#endif
