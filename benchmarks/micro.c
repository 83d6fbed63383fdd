/*
 * Micro benchmarks of the kernel underneath: `micro NAME…` prints `NAME NS` for each, the nanoseconds of one operation,
 * the median of several samples. Static, so that it runs natively and in any container alike.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1e9 + ts.tv_nsec;
}
static void fail(const char *what) {
  perror(what);
  exit(1);
}

static const char *self = "/proc/self/exe";
static char file[] = "/tmp/micro-XXXXXX";
static int fd, to[2], from[2];
static pid_t echoer;

static void op_getppid(void) { syscall(SYS_getppid); }
static void op_read64(void) {
  char buf[64];
  if (pread(fd, buf, 64, 0) != 64) fail("pread");
}
static void op_write64(void) {
  static char buf[64];
  if (pwrite(fd, buf, 64, 0) != 64) fail("pwrite");
}
static void op_stat(void) {
  struct stat st;
  if (stat(file, &st)) fail("stat");
}
static void op_open_close(void) {
  int f = open(file, O_RDONLY);
  if (f < 0) fail("open");
  close(f);
}
static void op_pipe(void) {
  char c = 1;
  if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1) fail("pipe");
}
static void op_fork(void) {
  pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) _exit(0);
  waitpid(pid, NULL, 0);
}
static void op_exec(void) {
  pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    execl(self, self, "true", NULL);
    _exit(1);
  }
  int status;
  waitpid(pid, &status, 0);
  if (status) fail("exec");
}

static const struct {
  const char *name;
  void (*op)(void);
} ops[] = {{"getppid", op_getppid}, {"read64", op_read64}, {"write64", op_write64}, {"stat", op_stat}, {"open+close", op_open_close},
    {"pipe", op_pipe}, {"fork+exit+wait", op_fork}, {"fork+exec+wait", op_exec}};

static int by_value(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

static double measure(void (*op)(void)) {
  enum { SAMPLES = 9 };
  double samples[SAMPLES], start = now(), each;
  long n = 0;
  do op(), n++;
  while ((each = (now() - start) / n) * n < 5e6 || n < 3); /* warm up, and learn how long one takes */
  n = 15e6 / each < 3 ? 3 : (long)(15e6 / each);
  for (int s = 0; s < SAMPLES; s++) {
    start = now();
    for (long i = 0; i < n; i++) op();
    samples[s] = (now() - start) / n;
  }
  qsort(samples, SAMPLES, sizeof *samples, by_value);
  return samples[SAMPLES / 2];
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "true") == 0) return 0;
  if (argc > 1 && strcmp(argv[1], "idle") == 0)
    for (;;) pause();
  fd = mkstemp(file);
  if (fd < 0 || write(fd, memset(malloc(4096), 'x', 4096), 4096) != 4096) fail(file);
  if (pipe(to) || pipe(from)) fail("pipe");
  if ((echoer = fork()) == 0) {
    char c;
    close(to[1]);
    while (read(to[0], &c, 1) == 1)
      if (write(from[1], &c, 1) != 1) break;
    _exit(0);
  }
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
    int wanted = argc == 1;
    for (int a = 1; a < argc; a++) wanted |= strcmp(argv[a], ops[i].name) == 0;
    if (wanted) printf("%s %.0f\n", ops[i].name, measure(ops[i].op));
  }
  close(to[1]);
  waitpid(echoer, NULL, 0);
  unlink(file);
  return 0;
}
