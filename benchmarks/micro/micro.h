/* What the files of the micro benchmark share: a row is one kernel operation, measured by main.c. */
#ifndef MICRO_H
#define MICRO_H

struct row {
  const char *name;
  void (*set_up)(void);    /* may be NULL */
  void (*run)(long n);     /* does the operation n times */
  void (*tear_down)(void); /* may be NULL */
  double megabytes;        /* moved by one operation: the row is printed in MB/s; 0: in ns */
};

extern const struct row call_rows[], exchange_rows[], memory_rows[], process_rows[]; /* each ends with an empty name */

double now(void); /* nanoseconds */
extern double untimed; /* what `run` adds here, in nanoseconds, is not counted */
void fail(const char *what) __attribute__((noreturn));
extern const char *self; /* this program */

/* Modes of the program that are not rows. */
int count_threads(int threads);
int time_command(char **argv);

#endif
