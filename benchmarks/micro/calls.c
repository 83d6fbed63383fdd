/* Single calls on what one process has open. */
#define _GNU_SOURCE
#include "micro.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char folder[] = "/tmp/micro-XXXXXX", file[64];
static int fd, ends[2];

/* libc's own wrapper: `mov $SYS_getppid, %eax; syscall`, which a sandbox may patch. */
static void getppid_libc(long n) {
  while (n--) getppid();
}

/* The number comes from a register, so no `mov $imm32, %eax` stands before the instruction: nothing to patch. */
static void getppid_register(long n) {
  unsigned long number = SYS_getppid;
  __asm__("" : "+r"(number)); /* the compiler must not know it */
  while (n--) {
    unsigned long result;
    __asm__ volatile("nop; nop; nop; nop; nop; mov %1, %%rax; syscall"
                     : "=&a"(result)
                     : "r"(number)
                     : "rcx", "r11", "memory");
  }
}

static void make_folder(void) {
  strcpy(folder + sizeof folder - 7, "XXXXXX");
  if (!mkdtemp(folder)) fail("mkdtemp");
  snprintf(file, sizeof file, "%s/file", folder);
}
static void make_file(void) {
  static char page[4096];
  make_folder();
  fd = open(file, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd < 0 || write(fd, page, sizeof page) != sizeof page) fail(file);
}
static void remove_file(void) {
  close(fd);
  unlink(file);
  rmdir(folder);
}

static void pread_64(long n) {
  char buffer[64];
  while (n--)
    if (pread(fd, buffer, sizeof buffer, 0) != sizeof buffer) fail("pread");
}
static void pread_4k(long n) {
  static char buffer[4096];
  while (n--)
    if (pread(fd, buffer, sizeof buffer, 0) != sizeof buffer) fail("pread");
}
static void stat_file(long n) {
  struct stat st;
  while (n--)
    if (stat(file, &st)) fail("stat");
}
static void open_close(long n) {
  while (n--) {
    int f = open(file, O_RDONLY);
    if (f < 0) fail("open");
    close(f);
  }
}

static void make_pipe(void) {
  if (pipe(ends)) fail("pipe");
}
static void close_pipe(void) {
  close(ends[0]);
  close(ends[1]);
}
/* The pipe is emptied every 4,096 writes, long before it is full; that is not counted. */
static void write_1(long n) {
  static char buffer[4096];
  while (n > 0) {
    long now_many = n < (long)sizeof buffer ? n : (long)sizeof buffer;
    for (long i = 0; i < now_many; i++)
      if (write(ends[1], buffer, 1) != 1) fail("write");
    double start = now();
    if (read(ends[0], buffer, now_many) != now_many) fail("read");
    untimed += now() - start;
    n -= now_many;
  }
}

enum { ENTRIES = 1000 };
static void each_entry(int create) {
  char path[128];
  for (int i = 0; i < ENTRIES; i++) {
    snprintf(path, sizeof path, "%s/entry-%d", folder, i);
    int f = create ? open(path, O_WRONLY | O_CREAT | O_EXCL, 0600) : unlink(path);
    if (f < 0) fail(path);
    if (create) close(f);
  }
}
static void fill_folder(void) {
  make_folder();
  each_entry(1);
}
static void remove_folder(void) {
  each_entry(0);
  rmdir(folder);
}
static void read_folder(long n) {
  while (n--) {
    DIR *dir = opendir(folder);
    int entries = 0;
    if (!dir) fail("opendir");
    while (readdir(dir)) entries++;
    if (entries != ENTRIES + 2) fail("readdir: wrong number of entries");
    closedir(dir);
  }
}

const struct row call_rows[] = {
    {"getppid", NULL, getppid_libc, NULL, 0},
    {"getppid-sigsys", NULL, getppid_register, NULL, 0},
    {"pread-64", make_file, pread_64, remove_file, 0},
    {"pread-4k", make_file, pread_4k, remove_file, 0},
    {"write-1", make_pipe, write_1, close_pipe, 0},
    {"stat", make_file, stat_file, remove_file, 0},
    {"open-close", make_file, open_close, remove_file, 0},
    {"readdir-1000", fill_folder, read_folder, remove_folder, 0},
    {0},
};
