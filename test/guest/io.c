/* read and write in all forms: vectors, offsets, seeking, holes, truncation, fallocate, copies between descriptors. */
#include "guest.h"
#include <linux/falloc.h>
#include <sys/sendfile.h>

TEST(read_write_offsets) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  char buf[32] = {0};
  CHECK_EQ(write(fd, "hello world", 11), 11);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 11);
  CHECK_EQ(read(fd, buf, 5), 0);
  CHECK_EQ(pread(fd, buf, 5, 6), 5);
  CHECK_STR(buf, "world");
  CHECK_EQ(pwrite(fd, "W", 1, 6), 1);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 11);
  CHECK_EQ(pread(fd, buf, 5, 100), 0);
  CHECK_ERR(pread(fd, buf, 5, -1), EINVAL);
  CHECK_ERR(pwrite(fd, buf, 5, -1), EINVAL);
  CHECK_EQ(write(fd, buf, 0), 0);
  CHECK_EQ(read(fd, buf, 0), 0);
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  CHECK_ERR(pread(fds[0], buf, 1, 0), ESPIPE);
  CHECK_ERR(pwrite(fds[1], buf, 1, 0), ESPIPE);
  CHECK_ERR(lseek(fds[0], 0, SEEK_SET), ESPIPE);
  CHECK_ERR(read(77, buf, 1), EBADF);
}

TEST(seek) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  CHECK_EQ(write(fd, "0123456789", 10), 10);
  CHECK_EQ(lseek(fd, -3, SEEK_END), 7);
  CHECK_EQ(lseek(fd, 2, SEEK_CUR), 9);
  CHECK_EQ(lseek(fd, 100, SEEK_SET), 100);
  CHECK_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
  CHECK_ERR(lseek(fd, -200, SEEK_CUR), EINVAL);
  CHECK_ERR(lseek(fd, 0, 9), EINVAL);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 100);
  CHECK_EQ(write(fd, "x", 1), 1);
  char buf[101];
  CHECK_EQ(pread(fd, buf, 101, 0), 101);
  CHECK_EQ(buf[50], 0);
  CHECK_EQ(buf[100], 'x');
  CHECK_ERR(lseek(fd, LONG_MAX, SEEK_END), EINVAL);
}

TEST(data_and_holes) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  CHECK_OK(ftruncate(fd, 1 << 20));
  CHECK_EQ(pwrite(fd, "x", 1, 512 * 1024), 1);
  CHECK_EQ(lseek(fd, 0, SEEK_DATA) & -65536, 512 * 1024);
  CHECK_EQ(lseek(fd, 0, SEEK_HOLE), 0);
  CHECK(lseek(fd, 512 * 1024, SEEK_HOLE) > 512 * 1024);
  CHECK_ERR(lseek(fd, 1 << 20, SEEK_DATA), ENXIO);
  CHECK_ERR(lseek(fd, 2 << 20, SEEK_HOLE), ENXIO);
}

TEST(vectors) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  char a[4] = {0}, b[8] = {0};
  struct iovec out[3] = {{"ab", 2}, {"", 0}, {"cdef", 4}}, in[2] = {{a, 3}, {b, 7}};
  CHECK_EQ(writev(fd, out, 3), 6);
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  CHECK_EQ(readv(fd, in, 2), 6);
  CHECK_STR(a, "abc");
  CHECK_STR(b, "def");
  CHECK_EQ(pwritev(fd, out, 3, 10), 6);
  CHECK_EQ(preadv(fd, in, 2, 10), 6);
  CHECK_EQ(preadv2(fd, in, 2, -1, 0), 10); /* -1: at the offset, which is 6 */
  CHECK_ERR(preadv2(fd, in, 2, 0, 0x10000), EOPNOTSUPP);
  CHECK_EQ(pwritev2(fd, out, 1, 0, RWF_APPEND), 2);
  struct stat st;
  fstat(fd, &st);
  CHECK_EQ(st.st_size, 18);
  CHECK_ERR(readv(fd, in, -1), EINVAL);
  CHECK_ERR(readv(fd, in, 1025), EINVAL);
  CHECK_EQ(readv(fd, in, 0), 0);
  struct iovec wrong[2] = {{a, -1}, {b, 1}};
  CHECK_ERR(writev(fd, wrong, 2), EINVAL);
  static struct iovec many[1024];
  for (int i = 0; i < 1024; i++) many[i] = (struct iovec){"z", 1};
  CHECK_EQ(writev(fd, many, 1024), 1024);
}

TEST(large_transfers) {
  enum { N = 3 << 20 };
  char *data = malloc(N), *back = malloc(N);
  for (int i = 0; i < N; i++) data[i] = i * 31 + (i >> 12);
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  CHECK_EQ(write(fd, data, N), N);
  CHECK_EQ(pread(fd, back, N, 0), N);
  CHECK(memcmp(data, back, N) == 0);
  CHECK_EQ(pread(fd, back, N, N - 1000), 1000);
  CHECK(memcmp(data + N - 1000, back, 1000) == 0);
}

TEST(truncate) {
  put_file("f", "0123456789");
  CHECK_OK(truncate("f", 4));
  CHECK_STR(get_file("f"), "0123");
  CHECK_OK(truncate("f", 8));
  int fd = open("f", O_RDWR);
  char buf[8];
  CHECK_EQ(read(fd, buf, 8), 8);
  CHECK(memcmp(buf, "0123\0\0\0\0", 8) == 0);
  CHECK_ERR(truncate("f", -1), EINVAL);
  CHECK_ERR(ftruncate(fd, -1), EINVAL);
  CHECK_ERR(truncate("missing", 0), ENOENT);
  CHECK_ERR(truncate(".", 0), EISDIR);
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  CHECK_ERR(ftruncate(fds[1], 0), EINVAL);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 8); /* the offset stays */
}

TEST(file_size_limit) {
  struct rlimit limit = {1000, 1000};
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  CHECK_EQ(IN_CHILD({
    signal(SIGXFSZ, SIG_IGN);
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
    char buf[2000] = {0};
    CHECK_EQ(write(fd, buf, 2000), 1000);
    CHECK_ERR(write(fd, buf, 1), EFBIG);
    CHECK_ERR(ftruncate(fd, 1001), EFBIG);
  }), 0);
  CHECK_EQ(IN_CHILD(struct rlimit none = {0, 0}; setrlimit(RLIMIT_CORE, &none); setrlimit(RLIMIT_FSIZE, &limit);
                    if (pwrite(fd, "x", 1, 5000)) _exit(1)), 128 + SIGXFSZ);
}

TEST(fallocate_modes) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  struct stat st;
  CHECK_OK(fallocate(fd, 0, 0, 8192));
  fstat(fd, &st);
  CHECK_EQ(st.st_size, 8192);
  CHECK(st.st_blocks >= 16);
  CHECK_OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 16384));
  fstat(fd, &st);
  CHECK_EQ(st.st_size, 8192);
  CHECK_EQ(pwrite(fd, "abcdef", 6, 4096), 6);
  CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
  char buf[6];
  CHECK_EQ(pread(fd, buf, 6, 4096), 6);
  CHECK_EQ(buf[0], 0);
  CHECK_ERR(fallocate(fd, 0, 0, 0), EINVAL);
  CHECK_ERR(fallocate(fd, 0, -1, 10), EINVAL);
  CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
  CHECK_ERR(fallocate(open("f", O_RDONLY), 0, 0, 10), EBADF);
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  CHECK_ERR(fallocate(fds[1], 0, 0, 10), ESPIPE);
  CHECK_EQ(posix_fallocate(fd, 0, 100000), 0);
}

TEST(sendfile) {
  put_file("f", "0123456789");
  int in = open("f", O_RDONLY), out = open("g", O_RDWR | O_CREAT, 0600), fds[2];
  off_t at = 2;
  CHECK_EQ(sendfile(out, in, &at, 5), 5);
  CHECK_EQ(at, 7);
  CHECK_EQ(lseek(in, 0, SEEK_CUR), 0);
  CHECK_EQ(sendfile(out, in, NULL, 100), 10);
  CHECK_EQ(lseek(in, 0, SEEK_CUR), 10);
  CHECK_STR(get_file("g"), "234560123456789");
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  at = 0;
  CHECK_EQ(sendfile(fds[0], in, &at, 3), 3);
  char buf[8] = {0};
  CHECK_EQ(read(fds[1], buf, 8), 3);
  CHECK_STR(buf, "012");
  CHECK_ERR(sendfile(77, in, NULL, 1), EBADF);
  CHECK_ERR(sendfile(in, in, NULL, 1), EBADF);
  at = -1;
  CHECK_ERR(sendfile(out, in, &at, 1), EINVAL);
}

TEST(copy_file_range) {
  put_file("f", "0123456789");
  int in = open("f", O_RDONLY), out = open("g", O_RDWR | O_CREAT, 0600), append = open("h", O_WRONLY | O_CREAT | O_APPEND, 0600);
  loff_t from = 3, to = 1;
  CHECK_EQ(copy_file_range(in, &from, out, &to, 4, 0), 4);
  CHECK_EQ(from * 10 + to, 75);
  CHECK_EQ(copy_file_range(in, NULL, out, NULL, 2, 0), 2);
  CHECK_EQ(lseek(in, 0, SEEK_CUR), 2);
  CHECK_STR(get_file("g"), "01456");
  from = 100;
  CHECK_EQ(copy_file_range(in, &from, out, NULL, 10, 0), 0);
  CHECK_ERR(copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
  CHECK_ERR(copy_file_range(in, NULL, append, NULL, 1, 0), EBADF);
  CHECK_ERR(copy_file_range(out, NULL, in, NULL, 1, 0), EBADF);
  CHECK_ERR(copy_file_range(in, NULL, open(".", O_RDONLY), NULL, 1, 0), EISDIR);
  int rw = open("f", O_RDWR);
  from = 0, to = 2;
  CHECK_ERR(copy_file_range(rw, &from, rw, &to, 5, 0), EINVAL); /* they overlap */
}

TEST(splice_and_tee) {
  int a[2], b[2];
  REQUIRE(pipe(a) == 0 && pipe(b) == 0);
  put_file("f", "0123456789");
  int in = open("f", O_RDONLY), out = open("g", O_RDWR | O_CREAT, 0600);
  loff_t at = 4;
  CHECK_EQ(splice(in, &at, a[1], NULL, 5, 0), 5);
  CHECK_EQ(at, 9);
  CHECK_EQ(tee(a[0], b[1], 3, 0), 3);
  char buf[16] = {0};
  CHECK_EQ(read(b[0], buf, 16), 3);
  CHECK_STR(buf, "456");
  CHECK_EQ(splice(a[0], NULL, out, NULL, 100, 0), 5);
  CHECK_STR(get_file("g"), "45678");
  CHECK_ERR(splice(in, NULL, out, NULL, 1, 0), EINVAL); /* one must be a pipe */
  CHECK_ERR(splice(a[0], &at, out, NULL, 1, 0), ESPIPE);
  CHECK_ERR(splice(a[0], NULL, b[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
  CHECK_ERR(tee(a[0], a[1], 1, 0), EINVAL);
  CHECK_ERR(tee(in, b[1], 1, 0), EINVAL);
  struct iovec iov = {"vms", 3};
  CHECK_EQ(vmsplice(a[1], &iov, 1, 0), 3);
  CHECK_EQ(splice(a[0], NULL, b[1], NULL, 2, 0), 2);
  CHECK_EQ(read(b[0], buf, 16), 2);
}

TEST(devices) {
  char buf[16];
  int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), full = open("/dev/full", O_RDWR), rnd = open("/dev/urandom", O_RDONLY);
  CHECK_EQ(read(null, buf, 16), 0);
  CHECK_EQ(write(null, buf, 16), 16);
  memset(buf, 1, 16);
  CHECK_EQ(read(zero, buf, 16), 16);
  CHECK_EQ(buf[15], 0);
  CHECK_EQ(write(zero, buf, 16), 16);
  CHECK_EQ(read(full, buf, 16), 16);
  CHECK_ERR(write(full, buf, 1), ENOSPC);
  CHECK_EQ(read(rnd, buf, 16), 16);
  CHECK_EQ(lseek(null, 100, SEEK_SET), 0);
  CHECK_ERR(ioctl(null, TCGETS, buf), ENOTTY);
  CHECK_ERR(isatty(null) ? 0 : -1, ENOTTY);
}

TEST(sync_family) {
  int fd = open("f", O_RDWR | O_CREAT, 0600), fds[2];
  CHECK_OK(fsync(fd));
  CHECK_OK(fdatasync(fd));
  CHECK_OK(syncfs(fd));
  CHECK_OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
  CHECK_OK(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
  CHECK_EQ(posix_fadvise(fd, 0, 0, 99), EINVAL);
  CHECK_OK(readahead(fd, 0, 4096));
  REQUIRE(pipe(fds) == 0);
  CHECK_ERR(fsync(fds[0]), EINVAL);
  CHECK_EQ(posix_fadvise(fds[0], 0, 0, POSIX_FADV_NORMAL), ESPIPE);
  CHECK_ERR(fsync(77), EBADF);
  CHECK_OK(fsync(open(".", O_RDONLY)));
}

TEST(fionread) {
  put_file("f", "12345");
  int fd = open("f", O_RDONLY), n = -1, fds[2];
  CHECK_OK(ioctl(fd, FIONREAD, &n));
  CHECK_EQ(n, 5);
  REQUIRE(pipe(fds) == 0);
  CHECK_EQ(write(fds[1], "abc", 3), 3);
  CHECK_OK(ioctl(fds[0], FIONREAD, &n));
  CHECK_EQ(n, 3);
  int on = 1;
  CHECK_OK(ioctl(fds[0], FIONBIO, &on));
  CHECK_EQ(fcntl(fds[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  CHECK_OK(ioctl(fds[0], FIOCLEX));
  CHECK_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
  CHECK_ERR(ioctl(fd, 0x12345678, &n), ENOTTY);
  CHECK_ERR(ioctl(77, FIONREAD, &n), EBADF);
}
