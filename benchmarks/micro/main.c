/*
 * Micro benchmarks of the kernel underneath: `micro [-s SAMPLES] NAME…` prints `start NAME` and then `NAME VALUE` for
 * each, or `fail NAME REASON`: the nanoseconds of one operation, or MB/s, as the median of several samples. Static, so
 * that it runs natively and in any container alike. Other modes: `true`, `idle [MORE PROCESSES]`, `hog`, `threads N`, `time COMMAND…`.
 */
#include "micro.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 99 };
static const double SAMPLE_NS = 15e6, WARM_UP_NS = 5e6;

static int samples = 9;
static const char *current = "micro";
const char *self = "/proc/self/exe";
double untimed;

double now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1e9 + ts.tv_nsec;
}

void fail(const char *what) {
  printf("fail %s %s: %s\n", current, what, strerror(errno));
  exit(1);
}

static double timed(const struct row *row, long n) {
  untimed = 0;
  double start = now();
  row->run(n);
  return now() - start - untimed;
}

/* Turns of `n` calls until a sample's time is over: the ns of one call. */
static double sample(const struct row *row, long n) {
  double spent = 0;
  long calls = 0;
  do {
    spent += timed(row, n);
    calls += n;
  } while (spent < SAMPLE_NS);
  return spent / calls;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/*
 * The first calls warm up and tell how many make a turn: too few where a kernel has just begun and is slow at first, so that
 * a sample is as many turns as fill its time. A slow operation is still done three times in each.
 */
static double measure(const struct row *row) {
  double values[MAX_SAMPLES], start = now(), spent = 0;
  long n = 0, step = 1;
  do {
    spent += timed(row, step);
    n += step;
    step *= 2;
  } while (now() - start < WARM_UP_NS || n < 3);
  long fit = (long)(SAMPLE_NS / (spent / n));
  if (fit < 3) fit = 3;
  for (int s = 0; s < samples; s++) values[s] = sample(row, fit);
  qsort(values, samples, sizeof *values, by_value);
  return values[samples / 2];
}

static const struct row *find(const char *name) {
  const struct row *tables[] = {call_rows, exchange_rows, memory_rows, process_rows};
  for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
    for (const struct row *row = tables[t]; row->name; row++)
      if (strcmp(row->name, name) == 0) return row;
  return NULL;
}

static void run(const char *name) {
  const struct row *row = find(name);
  current = name;
  printf("start %s\n", name);
  if (!row) {
    printf("fail %s no such row\n", name);
    return;
  }
  if (row->set_up) row->set_up();
  double ns = measure(row);
  if (row->tear_down) row->tear_down();
  printf("%s %.1f\n", name, row->megabytes ? row->megabytes * 1e9 / ns : ns);
}

static int other_mode(int argc, char **argv) {
  if (strcmp(argv[1], "true") == 0) return 0;
  if (strcmp(argv[1], "idle") == 0) {
    for (int more = argc == 3 ? atoi(argv[2]) : 0; more > 0; more--) {
      pid_t child = fork();
      if (child < 0) fail("fork");
      if (child == 0)
        for (;;) pause();
    }
    puts("ready");
    for (;;) pause();
  }
  if (strcmp(argv[1], "hog") == 0)
    for (volatile long i = 0;; i++) {
    }
  if (strcmp(argv[1], "threads") == 0 && argc == 3) return count_threads(atoi(argv[2]));
  if (strcmp(argv[1], "time") == 0 && argc > 2) return time_command(argv + 2);
  return -1;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0); /* whoever watches must see which row hangs; and no child inherits unwritten lines */
  int status = argc > 1 ? other_mode(argc, argv) : -1;
  if (status >= 0) return status;
  int first = 1;
  if (argc > 2 && strcmp(argv[1], "-s") == 0) {
    samples = atoi(argv[2]);
    if (samples < 1 || samples > MAX_SAMPLES) return 2;
    first = 3;
  }
  for (int a = first; a < argc; a++) run(argv[a]);
  return 0;
}
