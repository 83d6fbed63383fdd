/* File mappings: private and shared, coherence with read and write, truncation, memfd and seals. */
#include "guest.h"

#define PAGE 4096L
#define RW (PROT_READ | PROT_WRITE)

static int file(const char *name, long pages) {
  int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
  REQUIRE(fd >= 0 && ftruncate(fd, pages * PAGE) == 0);
  return fd;
}

TEST(shared_is_coherent_with_read_and_write) {
  int fd = file("f", 3);
  char *p = mmap(NULL, 3 * PAGE, RW, MAP_SHARED, fd, 0), c;
  p[PAGE + 5] = 'm';
  CHECK_EQ(pread(fd, &c, 1, PAGE + 5), 1);
  CHECK_EQ(c, 'm');
  CHECK_EQ(pwrite(fd, "w", 1, 7), 1);
  CHECK_EQ(p[7], 'w');
  int other = open("f", O_RDWR);
  CHECK_EQ(pwrite(other, "o", 1, 9), 1);
  CHECK_EQ(p[9], 'o');
  char *q = mmap(NULL, PAGE, RW, MAP_SHARED, other, PAGE);
  CHECK_EQ(q[5], 'm');
  q[6] = 'q';
  CHECK_EQ(p[PAGE + 6], 'q');
  CHECK_OK(msync(p, 3 * PAGE, MS_SYNC));
  close(fd), close(other); /* the mapping keeps the file */
  p[0] = 'z';
  CHECK_EQ(get_file("f")[0], 'z');
}

TEST(shared_between_processes) {
  int fd = file("f", 1);
  volatile char *p = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
  CHECK_EQ(IN_CHILD(p[0] = 'c'), 0);
  CHECK_EQ(p[0], 'c');
  CHECK_EQ(IN_CHILD({
    int own = open("f", O_RDWR);
    char *q = mmap(NULL, PAGE, RW, MAP_SHARED, own, 0);
    CHECK_EQ(q[0], 'c');
    q[1] = 'd';
  }), 0);
  CHECK_EQ(p[1], 'd');
}

TEST(private_is_not_written) {
  put_file("f", "original");
  int fd = open("f", O_RDONLY);
  char *p = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
  p[0] = 'X';
  CHECK_STR(p, "Xriginal");
  CHECK_STR(get_file("f"), "original");
  CHECK_EQ(IN_CHILD(CHECK_STR(p, "Xriginal"); p[1] = 'Y'), 0);
  CHECK_STR(p, "Xriginal");
}

TEST(tail_of_the_last_page_is_zero) {
  put_file("f", "abc");
  int fd = open("f", O_RDWR);
  char *p = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
  CHECK_EQ(p[3], 0);
  CHECK_EQ(p[PAGE - 1], 0);
  p[10] = 'x'; /* beyond the end: not part of the file */
  struct stat st;
  fstat(fd, &st);
  CHECK_EQ(st.st_size, 3);
  CHECK_STR(get_file("f"), "abc");
}

TEST(grows_under_a_mapping) {
  int fd = file("f", 1);
  char *p = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
  CHECK_OK(ftruncate(fd, 3 * PAGE));
  p[2 * PAGE] = 'g';
  char c;
  CHECK_EQ(pread(fd, &c, 1, 2 * PAGE), 1);
  CHECK_EQ(c, 'g');
  CHECK_OK(ftruncate(fd, PAGE));
  CHECK_OK(ftruncate(fd, 3 * PAGE));
  CHECK_EQ(p[2 * PAGE], 0); /* cut and grown: zeros */
}

TEST(offsets) {
  int fd = file("f", 4);
  for (int i = 0; i < 4; i++) CHECK_EQ(pwrite(fd, &(char){'a' + i}, 1, i * PAGE), 1);
  char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 2 * PAGE);
  CHECK_EQ(p[0], 'c');
  CHECK_ERR(syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
  CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100 * PAGE) != MAP_FAILED); /* beyond the end is allowed */
  CHECK_EQ(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, PAGE), p);
  CHECK_EQ(p[0], 'b');
  char *all = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
  munmap(all + PAGE, PAGE);
  CHECK_EQ(all[2 * PAGE], 'c');
  char *moved = mremap(all + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, mmap(NULL, 2 * PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK_EQ(moved[PAGE], 'd');
}

TEST(unlinked_file_stays) {
  int fd = file("f", 1);
  char *p = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
  unlink("f");
  close(fd);
  p[0] = 'u';
  CHECK_EQ(IN_CHILD(CHECK_EQ(p[0], 'u'); p[0] = 'v'), 0);
  CHECK_EQ(p[0], 'v');
}

TEST(maps_names_the_file) {
  int fd = file("named", 2);
  char *p = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0), line[512], cwd[256], want[600], perms[8];
  unsigned long start, end, offset, ino;
  unsigned major, minor;
  struct stat st;
  fstat(fd, &st);
  FILE *f = fopen("/proc/self/maps", "r");
  int found = 0;
  REQUIRE(getcwd(cwd, sizeof cwd));
  snprintf(want, sizeof want, "%s/named\n", cwd);
  while (fgets(line, sizeof line, f)) {
    if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu", &start, &end, perms, &offset, &major, &minor, &ino) != 7 || start != (unsigned long)p) continue;
    found = 1;
    CHECK_EQ(end - start, 2 * PAGE);
    CHECK_STR(perms, "r--s");
    CHECK_EQ(offset, 0);
    CHECK_EQ(ino, st.st_ino);
    CHECK_STR(strchr(line, '/'), want);
  }
  fclose(f);
  CHECK_EQ(found, 1);
}

TEST(memfd) {
  int fd = memfd_create("some name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  CHECK_OK(ftruncate(fd, 2 * PAGE));
  volatile char *p = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
  CHECK_EQ(IN_CHILD(p[0] = 'm'; p[PAGE] = 'n'), 0);
  CHECK_EQ(p[0] + p[PAGE], 'm' + 'n');
  char path[64], link[128] = {0};
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, link, sizeof link - 1) > 0);
  CHECK_STR(link, "/memfd:some name (deleted)");
  struct stat st;
  fstat(fd, &st);
  CHECK_EQ(st.st_nlink, 0);
  CHECK_EQ(st.st_mode, S_IFREG | 0777);
  CHECK_ERR(memfd_create("x", 0x8000), EINVAL);
  char name[300];
  memset(name, 'n', sizeof name);
  name[250] = 0;
  CHECK_ERR(memfd_create(name, 0), EINVAL);
  name[249] = 0;
  CHECK_OK(memfd_create(name, 0));
  int again = open(path, O_RDONLY);
  char c;
  CHECK_EQ(pread(again, &c, 1, 0), 1);
  CHECK_EQ(c, 'm');
}

TEST(seals) {
  int fd = memfd_create("s", MFD_ALLOW_SEALING), plain = memfd_create("p", 0);
  CHECK_EQ(fcntl(fd, F_GET_SEALS), 0);
  CHECK_EQ(fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
  CHECK_ERR(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW), EPERM);
  CHECK_OK(ftruncate(fd, 2 * PAGE));
  char *p = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
  CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  munmap(p, PAGE);
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
  CHECK_ERR(ftruncate(fd, PAGE), EPERM);
  CHECK_ERR(ftruncate(fd, 3 * PAGE), EPERM);
  CHECK_OK(pwrite(fd, "w", 1, 0));
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
  CHECK_ERR(pwrite(fd, "w", 1, 0), EPERM);
  CHECK_ERR(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
  CHECK(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0) != MAP_FAILED);
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
  CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
  CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  put_file("f", "x");
  CHECK_ERR(fcntl(open("f", O_RDWR), F_GET_SEALS), EINVAL);
}

TEST(read_into_own_mapping) {
  int fd = file("f", 2);
  char *p = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
  strcpy(p, "self");
  CHECK_EQ(pwrite(fd, p, 4, PAGE), 4);
  CHECK_EQ(pread(fd, p + 100, 4, PAGE), 4);
  CHECK(memcmp(p + 100, "self", 4) == 0);
}

TEST(dev_zero_and_shm) {
  int fd = open("/dev/zero", O_RDWR);
  char *p = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
  CHECK_EQ(p[0], 0);
  p[0] = 1;
  int shm = open("/dev/shm/guest-filemap-test", O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(shm >= 0);
  unlink("/dev/shm/guest-filemap-test");
  CHECK_OK(ftruncate(shm, PAGE));
  volatile char *q = mmap(NULL, PAGE, RW, MAP_SHARED, shm, 0);
  CHECK_EQ(IN_CHILD(q[5] = 5), 0);
  CHECK_EQ(q[5], 5);
}
