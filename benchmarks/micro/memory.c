/* Memory: mappings, first touches, and what a sandbox should not change at all: bandwidth and computing. */
#define _GNU_SOURCE
#include "micro.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, SMALL = 16 * PAGE, LARGE = 1024 * PAGE, BLOCK_MB = 32 };

static void touch(char *start, size_t length) {
  for (size_t at = 0; at < length; at += PAGE) ((volatile char *)start)[at] = 1;
}
static char *map(size_t length) {
  char *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) fail("mmap");
  return start;
}

static void map_touch_unmap(long n) {
  while (n--) {
    char *start = map(SMALL);
    touch(start, SMALL);
    if (munmap(start, SMALL)) fail("munmap");
  }
}

/* Only the faults count: not the call that makes the region and not the one that gives it back. */
static char *region;
static void map_region(void) {
  region = map(LARGE);
  madvise(region, LARGE, MADV_NOHUGEPAGE);
}
static void unmap_region(void) { munmap(region, LARGE); }
static void page_faults(long n) {
  while (n > 0) {
    long pages = n < LARGE / PAGE ? n : LARGE / PAGE;
    touch(region, pages * PAGE);
    double start = now();
    if (madvise(region, LARGE, MADV_DONTNEED)) fail("madvise");
    untimed += now() - start;
    n -= pages;
  }
}

static char *source, *target;
static void make_blocks(void) {
  source = map((size_t)BLOCK_MB << 20);
  target = map((size_t)BLOCK_MB << 20);
  memset(source, 1, (size_t)BLOCK_MB << 20);
  memset(target, 2, (size_t)BLOCK_MB << 20);
}
static void remove_blocks(void) {
  munmap(source, (size_t)BLOCK_MB << 20);
  munmap(target, (size_t)BLOCK_MB << 20);
}
static void copy_block(long n) {
  while (n--) {
    memcpy(target, source, (size_t)BLOCK_MB << 20);
    __asm__ volatile("" : : "r"(target) : "memory");
  }
}

/* 1,000 steps of a generator whose next state needs the last. */
static void compute(long n) {
  uint64_t x = 88172645463325252u;
  while (n--)
    for (int i = 0; i < 1000; i++) {
      x ^= x << 13;
      x ^= x >> 7;
      x ^= x << 17;
    }
  __asm__ volatile("" : : "r"(x));
}

const struct row memory_rows[] = {
    {"mmap-touch", NULL, map_touch_unmap, NULL, 0},
    {"page-fault", map_region, page_faults, unmap_region, 0},
    {"memory", make_blocks, copy_block, remove_blocks, BLOCK_MB},
    {"cpu", NULL, compute, NULL, 0},
    {0},
};
