/* brk, mmap, munmap, mprotect, mremap, madvise, mincore, mlock: anonymous and private memory. */
#include "guest.h"

#define PAGE 4096L
static char *map(long pages, int prot) {
  char *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(p != MAP_FAILED);
  return p;
}
#define RW (PROT_READ | PROT_WRITE)
/* Whether a read of the byte works, without a handler: write(2) says EFAULT. */
static int readable(const void *p) {
  static int null = -1;
  int fds[2];
  (void)null;
  if (pipe(fds)) return -1;
  int r = write(fds[1], p, 1) == 1;
  close(fds[0]), close(fds[1]);
  return r;
}
/* One character a page: the rights as /proc/self/maps has them, '-' for a hole. */
static const char *rights(char *from, int pages) {
  static char out[256];
  for (int i = 0; i < pages; i++) {
    out[i] = '.';
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512], perms[8];
    unsigned long start, end, at = (unsigned long)from + i * PAGE;
    while (fgets(line, sizeof line, f))
      if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) == 3 && at >= start && at < end)
        out[i] = perms[2] == 'x' ? 'x' : perms[1] == 'w' ? 'w' : perms[0] == 'r' ? 'r' : '0';
    fclose(f);
  }
  out[pages] = 0;
  return out;
}
static int maps_lines(char *from, long pages) {
  FILE *f = fopen("/proc/self/maps", "r");
  char line[512];
  int n = 0;
  unsigned long start, end;
  while (fgets(line, sizeof line, f))
    if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start < (unsigned long)from + pages * PAGE && end > (unsigned long)from) n++;
  fclose(f);
  return n;
}

TEST(brk) {
  char *start = sbrk(0);
  CHECK_EQ(syscall(SYS_brk, 0), start);
  CHECK_EQ(syscall(SYS_brk, start + 3 * PAGE), start + 3 * PAGE);
  memset(start, 7, 3 * PAGE);
  CHECK_EQ(syscall(SYS_brk, start + PAGE), start + PAGE);
  CHECK(!readable((char *)(((long)start + 2 * PAGE) & -PAGE) + PAGE));
  CHECK_EQ(syscall(SYS_brk, start + 3 * PAGE), start + 3 * PAGE);
  CHECK_EQ(start[2 * PAGE + PAGE / 2], 0); /* new pages are zero */
  CHECK_EQ(syscall(SYS_brk, 8), start + 3 * PAGE); /* failure returns the old one */
  CHECK_EQ(syscall(SYS_brk, start), start);
}

TEST(mmap_errors) {
  CHECK_ERR(mmap(NULL, 0, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
  CHECK_ERR(mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
  CHECK_ERR(mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
  CHECK_ERR(syscall(SYS_mmap, NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1), EINVAL);
  CHECK_ERR(mmap((void *)1, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
  CHECK_ERR(mmap(NULL, -1UL, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
  CHECK_ERR(mmap(NULL, 1UL << 47, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), ENOMEM);
  CHECK_ERR(mmap((void *)0x7ffffffff000, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), ENOMEM);
  put_file("f", "x");
  int r = open("f", O_RDONLY), w = open("f", O_WRONLY), d = open(".", O_RDONLY), fds[2];
  REQUIRE(pipe(fds) == 0);
  CHECK_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, w, 0), EACCES);
  CHECK_ERR(mmap(NULL, PAGE, RW, MAP_SHARED, r, 0), EACCES);
  CHECK(mmap(NULL, PAGE, RW, MAP_PRIVATE, r, 0) != MAP_FAILED);
  CHECK_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, d, 0), ENODEV);
  CHECK_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fds[0], 0), ENODEV);
}

TEST(hints_and_fixed) {
  char *p = map(16, RW);
  munmap(p, 16 * PAGE);
  char *q = mmap(p + 4 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQ(q, p + 4 * PAGE); /* a free hint is taken */
  char *other = mmap(q, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(other != q);
  CHECK_ERR(mmap(q, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
  CHECK_ERR(mmap(q - PAGE, 3 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
  q[0] = 'x';
  CHECK_EQ(mmap(q, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), q);
  CHECK_EQ(q[0], 0); /* replaced */
  CHECK_EQ(mmap(q + 123, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED, 0); /* a hint need not be aligned */
}

TEST(munmap_holes) {
  char *p = map(8, RW);
  memset(p, 1, 8 * PAGE);
  CHECK_OK(munmap(p + 2 * PAGE, 2 * PAGE));
  CHECK_STR(rights(p, 8), "ww..wwww");
  CHECK_OK(munmap(p, 8 * PAGE)); /* a range with holes */
  CHECK_OK(munmap(p, 8 * PAGE)); /* nothing there is no error */
  CHECK_ERR(munmap(p + 1, PAGE), EINVAL);
  CHECK_ERR(munmap(p, 0), EINVAL);
  CHECK_ERR(munmap((void *)-PAGE, PAGE), EINVAL);
  p = map(2, RW);
  CHECK_OK(munmap(p, 1)); /* the length is rounded up */
  CHECK_STR(rights(p, 2), ".w");
}

/* Top-down: a new mapping takes the highest gap that it fits into, also with thousands of others around. */
TEST(highest_gap_first) {
  enum { N = 3000 };
  static char *p[N];
  for (int i = 0; i < N; i++) {
    p[i] = mmap(NULL, PAGE, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (i > 0 && p[i] >= p[i - 1]) CHECK(!"downwards");
  }
  CHECK_OK(munmap(p[2000], PAGE));
  CHECK_OK(munmap(p[10], PAGE));
  CHECK(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == p[10]);
  CHECK(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == p[2000]);
  CHECK(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < (void *)p[N - 1]);
  /* The last ones follow each other without a gap. */
  CHECK_OK(munmap(p[N - 2], PAGE));
  CHECK_OK(munmap(p[N - 3], PAGE));
  CHECK(mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == p[N - 2]);
}

TEST(mprotect) {
  char *p = map(6, RW);
  CHECK_OK(mprotect(p + PAGE, PAGE, PROT_READ));
  CHECK_OK(mprotect(p + 3 * PAGE, PAGE, PROT_NONE));
  CHECK_OK(mprotect(p + 4 * PAGE, PAGE, PROT_READ | PROT_EXEC));
  CHECK_STR(rights(p, 6), "wrw0xw");
  CHECK_EQ(maps_lines(p, 6) >= 6, 1);
  CHECK_OK(mprotect(p, 6 * PAGE, RW));
  CHECK_EQ(maps_lines(p, 6), 1); /* merged again */
  CHECK_ERR(mprotect(p + 1, PAGE, RW), EINVAL);
  CHECK_OK(mprotect(p, 0, RW));
  munmap(p + 2 * PAGE, PAGE);
  CHECK_ERR(mprotect(p, 6 * PAGE, PROT_READ), ENOMEM);
  CHECK_STR(rights(p, 6), "rr.www"); /* up to the hole */
  put_file("f", "x");
  char *ro = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, open("f", O_RDONLY), 0);
  CHECK_ERR(mprotect(ro, PAGE, RW), EACCES);
  CHECK_ERR(mprotect(p, PAGE, 0x100), EINVAL);
  CHECK_ERR(mprotect(p, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP), EINVAL);
}

TEST(mremap) {
  char *p = map(4, RW);
  memset(p, 'a', 4 * PAGE);
  CHECK_EQ(mremap(p, 4 * PAGE, 2 * PAGE, 0), p);
  CHECK_STR(rights(p, 4), "ww..");
  CHECK_EQ(mremap(p, 2 * PAGE, 3 * PAGE, 0), p); /* grows in place */
  CHECK_EQ(p[2 * PAGE], 0);
  char *wall = mmap(p + 3 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  CHECK(wall != MAP_FAILED);
  CHECK_ERR(mremap(p, 3 * PAGE, 8 * PAGE, 0), ENOMEM);
  char *q = mremap(p, 3 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
  CHECK(q != MAP_FAILED && q != p);
  CHECK_EQ(q[PAGE], 'a');
  CHECK_EQ(q[7 * PAGE], 0);
  CHECK_STR(rights(p, 3), "...");
  char *target = map(8, RW);
  CHECK_EQ(mremap(q, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target), target);
  CHECK_EQ(target[0], 'a');
  CHECK_ERR(mremap(target, PAGE, PAGE, MREMAP_FIXED, p), EINVAL);
  CHECK_ERR(mremap(target, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + PAGE), EINVAL);
  CHECK_ERR(mremap(target + 1, PAGE, PAGE, 0), EINVAL);
  CHECK_ERR(mremap(target, PAGE, 0, 0), EINVAL);
  CHECK_ERR(mremap(target, PAGE, PAGE, 0x80), EINVAL);
  munmap(target, 8 * PAGE);
  CHECK_ERR(mremap(target, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
  char *s = mmap(NULL, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  s[0] = 's';
  char *copy = mremap(s, 0, 2 * PAGE, MREMAP_MAYMOVE); /* a second view of a shared mapping */
  CHECK(copy != MAP_FAILED && copy != s);
  copy[1] = 't';
  CHECK_EQ(s[1], 't');
  char *d = map(1, RW);
  d[0] = 'd';
  char *moved = mremap(d, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
  CHECK(moved != MAP_FAILED && moved != d);
  CHECK_EQ(moved[0], 'd');
  CHECK_EQ(d[0], 0);
}

TEST(madvise) {
  char *p = map(4, RW);
  memset(p, 'm', 4 * PAGE);
  CHECK_OK(madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED));
  CHECK_EQ(p[0], 'm');
  CHECK_EQ(p[PAGE], 0);
  CHECK_OK(madvise(p, 4 * PAGE, MADV_WILLNEED));
  CHECK_OK(madvise(p, 4 * PAGE, MADV_SEQUENTIAL));
  CHECK_OK(madvise(p, 4 * PAGE, MADV_FREE));
  CHECK_OK(madvise(p, 0, MADV_DONTNEED));
  CHECK_ERR(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
  CHECK_ERR(madvise(p, PAGE, 9999), EINVAL);
  munmap(p + PAGE, PAGE);
  CHECK_ERR(madvise(p, 4 * PAGE, MADV_DONTNEED), ENOMEM);
  p = map(2, RW);
  memset(p, 'w', 2 * PAGE);
  CHECK_OK(madvise(p, PAGE, MADV_WIPEONFORK));
  CHECK_OK(madvise(p + PAGE, PAGE, MADV_DONTFORK));
  CHECK_EQ(IN_CHILD(CHECK_EQ(p[0], 0); CHECK(!readable(p + PAGE))), 0);
  CHECK_EQ(p[0], 'w');
}

TEST(mincore_and_mlock) {
  char *p = map(4, RW);
  unsigned char vec[4] = {9, 9, 9, 9};
  p[PAGE] = 1;
  CHECK_OK(mincore(p, 4 * PAGE, vec));
  CHECK_EQ(vec[1] & 1, 1);
  CHECK_ERR(mincore(p + 1, PAGE, vec), EINVAL);
  CHECK_ERR(mincore(p, 4 * PAGE, (void *)8), EFAULT);
  munmap(p + 2 * PAGE, PAGE);
  CHECK_ERR(mincore(p, 4 * PAGE, vec), ENOMEM);
  CHECK_OK(mlock(p, PAGE));
  CHECK_OK(munlock(p, PAGE));
  CHECK_ERR(mlock(p, 4 * PAGE), ENOMEM);
  /* Beyond every address: nothing mapped; only a range that wraps around is invalid. */
  CHECK_ERR(mlock((void *)(LONG_MAX - LONG_MAX % PAGE), 8), ENOMEM);
  CHECK_ERR(munlock((void *)(LONG_MAX - LONG_MAX % PAGE), 8), ENOMEM);
  CHECK_ERR(munlock((void *)-PAGE, PAGE), EINVAL);
  CHECK_OK(msync(p, PAGE, MS_SYNC));
  CHECK_ERR(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
  CHECK_ERR(msync(p, PAGE, 0x100), EINVAL);
  CHECK_ERR(msync(p + 1, PAGE, MS_SYNC), EINVAL);
  CHECK_ERR(msync(p, 4 * PAGE, MS_SYNC), ENOMEM);
}

TEST(fork_copies_on_write) {
  char *p = map(64, RW);
  for (int i = 0; i < 64; i++) p[i * PAGE] = i;
  CHECK_EQ(IN_CHILD({
    for (int i = 0; i < 64; i++) CHECK_EQ(p[i * PAGE], i);
    memset(p, 0xee, 64 * PAGE);
    CHECK_EQ(IN_CHILD(CHECK_EQ((unsigned char)p[0], 0xee); p[0] = 1), 0);
    CHECK_EQ((unsigned char)p[0], 0xee);
  }), 0);
  for (int i = 0; i < 64; i++) CHECK_EQ(p[i * PAGE], i);
}

TEST(shared_anonymous) {
  volatile int *p = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_EQ(IN_CHILD(p[0] = 41; IN_CHILD(p[1] = 42)), 0);
  CHECK_EQ(p[0], 41);
  CHECK_EQ(p[1], 42);
}

TEST(address_space_limit) {
  CHECK_EQ(IN_CHILD({
    struct rlimit limit = {64 << 20, 64 << 20};
    CHECK_OK(setrlimit(RLIMIT_AS, &limit));
    CHECK_ERR(mmap(NULL, 128 << 20, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK(mmap(NULL, 1 << 20, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    char *now = (char *)syscall(SYS_brk, 0);
    CHECK_EQ(syscall(SYS_brk, now + (128 << 20)), now);
  }), 0);
  CHECK_EQ(IN_CHILD({
    struct rlimit limit = {0, 0};
    CHECK_OK(setrlimit(RLIMIT_DATA, &limit));
    CHECK_ERR(mmap(NULL, 1 << 20, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
  }), 0);
}

TEST(executable_memory) {
  static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
  unsigned char *p = (unsigned char *)map(1, RW);
  memcpy(p, code, sizeof code);
  CHECK_OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
  CHECK_EQ(((int (*)(void))p)(), 42);
  CHECK_OK(mprotect(p, PAGE, RW | PROT_EXEC));
  p[1] = 43;
  CHECK_EQ(((int (*)(void))p)(), 43);
  /* A system call made from such memory, patched or not, works as any other. */
  static const unsigned char getpid_code[] = {0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xc3};
  memcpy(p + 64, getpid_code, sizeof getpid_code);
  for (int i = 0; i < 100; i++) CHECK_EQ(((int (*)(void))(p + 64))(), getpid());
  static const unsigned char getppid_code[] = {0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05, 0xc3};
  memcpy(p + 64, getppid_code, sizeof getppid_code);
  CHECK_EQ(((int (*)(void))(p + 64))(), getppid());
}

TEST(large_sparse) {
  long size = 8L << 30;
  char *p = mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(p != MAP_FAILED);
  for (long at = 0; at < size; at += 1L << 30) p[at] = 1;
  CHECK_EQ(IN_CHILD(CHECK_EQ(p[5L << 30], 1); p[5L << 30] = 2), 0);
  CHECK_EQ(p[5L << 30], 1);
  CHECK_OK(munmap(p, size));
}

TEST(grows_down) {
  /* The stack grows by itself up to its limit. */
  volatile char big[2 << 20];
  for (size_t i = 0; i < sizeof big; i += 4096) big[i] = 1;
  CHECK_EQ(big[0], 1);
}

TEST(maps_shape) {
  char line[512];
  FILE *f = fopen("/proc/self/maps", "r");
  int stack = 0, heap = 0, vdso = 0, sorted = 1, self = 0;
  unsigned long start, end, before = 0;
  free(malloc(100));
  while (fgets(line, sizeof line, f)) {
    if (sscanf(line, "%lx-%lx", &start, &end) != 2 || start < before || end <= start) sorted = 0;
    if (start != 0xffffffffff600000) before = end;
    stack += strstr(line, "[stack]") != NULL;
    heap += strstr(line, "[heap]") != NULL;
    vdso += strstr(line, "[vdso]") != NULL;
    self += strstr(line, guest_self) != NULL;
  }
  CHECK_EQ(stack, 1);
  CHECK_EQ(heap, 1);
  CHECK_EQ(vdso, 1);
  CHECK_EQ(sorted, 1);
  CHECK(self >= 3);
  fclose(f);
}

TEST(no_room_for_the_kernel_inside) {
  /* Whatever a program finds in its maps it may unmap: it ends itself, at worst. */
  CHECK_EQ(IN_CHILD({
    for (unsigned long at = 0x7fffffffe000; at > 0x7fff00000000; at -= 1UL << 24) mprotect((void *)at, 4096, PROT_READ);
  }) >= 0, 1);
}
