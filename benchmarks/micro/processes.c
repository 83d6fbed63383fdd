/* Threads and processes that come and go, and the modes that need them. */
#define _GNU_SOURCE
#include "micro.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *nothing(void *unused) { return unused; }
static void threads(long n) {
  while (n--) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL)) fail("pthread_create");
    pthread_join(thread, NULL);
  }
}

static void forks(long n) {
  while (n--) {
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) _exit(0);
    if (waitpid(pid, NULL, 0) != pid) fail("waitpid");
  }
}

static int run(const char *program, char **argv) {
  int status;
  pid_t pid = fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    execvp(program, argv);
    _exit(127);
  }
  if (waitpid(pid, &status, 0) != pid) fail("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static void execs_static(long n) {
  char *argv[] = {"micro", "true", NULL};
  while (n--)
    if (run(self, argv)) fail("exec");
}
static void execs_dynamic(long n) {
  char *argv[] = {"true", NULL};
  while (n--)
    if (run("/bin/true", argv)) fail("exec");
}

const struct row process_rows[] = {
    {"thread", NULL, threads, NULL, 0},
    {"fork", NULL, forks, NULL, 0},
    {"exec-static", NULL, execs_static, NULL, 0},
    {"exec-dynamic", NULL, execs_dynamic, NULL, 0},
    {0},
};

/* `time COMMAND…`: prints the milliseconds from fork to exit as `time MS`, behind whatever the command printed. */
int time_command(char **argv) {
  double start = now();
  int status = run(argv[0], argv);
  printf("time %.3f\n", (now() - start) / 1e6);
  return status;
}

/* `threads N`: calls per second of N threads that each read 64 bytes of one file over and over. */
enum { MAX_THREADS = 256, COUNT_MS = 400 };
static int fd;
static _Atomic int go;
static struct {
  _Alignas(64) long calls;
} counters[MAX_THREADS];

static void *call(void *counter) {
  char buffer[64];
  while (!atomic_load(&go)) usleep(1000);
  while (atomic_load(&go) == 1) {
    if (pread(fd, buffer, sizeof buffer, 0) != sizeof buffer) fail("pread");
    ++*(long *)counter;
  }
  return NULL;
}
int count_threads(int count) {
  pthread_t ids[MAX_THREADS];
  if (count < 1 || count > MAX_THREADS) return 2;
  if ((fd = open(self, O_RDONLY)) < 0) fail(self);
  printf("start threads-%d\n", count);
  for (int i = 0; i < count; i++)
    if (pthread_create(&ids[i], NULL, call, &counters[i].calls)) fail("pthread_create");
  double start = now();
  atomic_store(&go, 1);
  usleep(COUNT_MS * 1000);
  atomic_store(&go, 2);
  double seconds = (now() - start) / 1e9;
  long calls = 0;
  for (int i = 0; i < count; i++) pthread_join(ids[i], NULL);
  for (int i = 0; i < count; i++) calls += counters[i].calls;
  printf("threads-%d %.0f\n", count, calls / seconds);
  return 0;
}
