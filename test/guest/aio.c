/* Linux AIO: contexts, submitting, results, eventfd notification, waiting. */
#include "guest.h"
#include <linux/aio_abi.h>
#include <sys/eventfd.h>

static long setup(unsigned n, aio_context_t *c) { return syscall(SYS_io_setup, n, c); }
static long destroy(aio_context_t c) { return syscall(SYS_io_destroy, c); }
static long submit(aio_context_t c, long n, struct iocb **list) { return syscall(SYS_io_submit, c, n, list); }
static long getevents(aio_context_t c, long least, long most, struct io_event *e, struct timespec *timeout) {
  return syscall(SYS_io_getevents, c, least, most, e, timeout);
}
static struct iocb request(int op, int fd, void *buf, size_t len, long long offset) {
  struct iocb io = {0};
  io.aio_lio_opcode = op;
  io.aio_fildes = fd;
  io.aio_buf = (uint64_t)buf;
  io.aio_nbytes = len;
  io.aio_offset = offset;
  io.aio_data = 0x123456789abcdef0 + op;
  return io;
}

TEST(contexts) {
  aio_context_t c = 1;
  CHECK_ERR(setup(8, &c), EINVAL);
  c = 0;
  CHECK_ERR(setup(0, &c), EINVAL);
  CHECK_ERR(setup(8, (void *)1), EFAULT);
  CHECK_OK(setup(8, &c));
  CHECK(c != 0);
  CHECK_ERR(destroy(c + 1), EINVAL);
  CHECK_OK(destroy(c));
  CHECK_ERR(destroy(c), EINVAL);
}

TEST(write_then_read) {
  aio_context_t c = 0;
  char in[16] = {0}, out[] = "hello, aio";
  struct io_event e[4];
  int fd = open("file", O_RDWR | O_CREAT, 0600), ev = eventfd(0, EFD_NONBLOCK);
  CHECK_OK(setup(4, &c));
  struct iocb w = request(IOCB_CMD_PWRITE, fd, out, 10, 4);
  w.aio_flags = IOCB_FLAG_RESFD;
  w.aio_resfd = ev;
  struct iocb *list[] = {&w};
  CHECK_EQ(submit(c, 1, list), 1);
  CHECK_EQ(getevents(c, 1, 4, e, NULL), 1);
  CHECK_EQ(e[0].res, 10);
  CHECK(e[0].data == w.aio_data && e[0].obj == (uint64_t)&w);
  uint64_t count = 0;
  CHECK_EQ(read(ev, &count, 8), 8);
  CHECK_EQ(count, 1);
  struct iovec v[] = {{in, 3}, {in + 3, 13}};
  struct iocb r = request(IOCB_CMD_PREADV, fd, v, 2, 4), s = request(IOCB_CMD_FSYNC, fd, NULL, 0, 0);
  struct iocb *both[] = {&r, &s};
  CHECK_EQ(submit(c, 2, both), 2);
  CHECK_EQ(getevents(c, 2, 4, e, NULL), 2);
  CHECK_EQ(e[0].res + e[1].res, 10);
  CHECK_STR(in, "hello, aio");
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
  CHECK_OK(destroy(c));
}

TEST(refusals) {
  aio_context_t c = 0;
  char b[8];
  int fd = open("file", O_RDONLY | O_CREAT, 0600);
  CHECK_OK(setup(4, &c));
  struct iocb bad = request(IOCB_CMD_PREAD, 99, b, 8, 0);
  struct iocb *list[] = {&bad, &bad};
  CHECK_ERR(submit(c, 1, list), EBADF);
  bad = request(IOCB_CMD_PWRITE, fd, b, 8, 0);
  CHECK_ERR(submit(c, 1, list), EBADF);
  bad = request(77, fd, b, 8, 0);
  CHECK_ERR(submit(c, 1, list), EINVAL);
  bad = request(IOCB_CMD_PREAD, fd, b, 8, 0);
  bad.aio_reserved2 = 1;
  CHECK_ERR(submit(c, 1, list), EINVAL);
  CHECK_ERR(submit(c, -1, list), EINVAL);
  CHECK_ERR(submit(c + 8, 1, list), EINVAL);
  CHECK_ERR(submit(c, 1, (void *)8), EFAULT);
  CHECK_EQ(submit(c, 0, list), 0);
  struct io_event e[2];
  CHECK_ERR(getevents(c, 3, 2, e, NULL), EINVAL);
  CHECK_ERR(getevents(c, -1, 2, e, NULL), EINVAL);
  CHECK_EQ(getevents(c, 0, 2, e, NULL), 0);
}

TEST(waiting) {
  aio_context_t c = 0;
  struct io_event e;
  CHECK_OK(setup(4, &c));
  struct timespec t = {0, 20 * 1000 * 1000}, before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  CHECK_EQ(getevents(c, 1, 1, &e, &t), 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  CHECK((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec >= 20 * 1000 * 1000);
}
