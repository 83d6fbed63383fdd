/* Pipes and FIFOs: capacity, atomic writes, end of file, SIGPIPE, packet mode, opening rules of FIFOs. */
#include "guest.h"

static volatile sig_atomic_t pipes;
static void note(int sig) {
  (void)sig;
  pipes++;
}

TEST(end_of_file_and_sigpipe) {
  int fds[2];
  char c;
  REQUIRE(pipe(fds) == 0);
  CHECK_EQ(write(fds[1], "ab", 2), 2);
  close(fds[1]);
  CHECK_EQ(read(fds[0], &c, 1), 1);
  CHECK_EQ(read(fds[0], &c, 1), 1);
  CHECK_EQ(read(fds[0], &c, 1), 0);
  REQUIRE(pipe(fds) == 0);
  close(fds[0]);
  signal(SIGPIPE, note);
  CHECK_ERR(write(fds[1], "x", 1), EPIPE);
  CHECK_EQ(pipes, 1);
  signal(SIGPIPE, SIG_IGN);
  CHECK_ERR(write(fds[1], "x", 1), EPIPE);
  CHECK_EQ(IN_CHILD(signal(SIGPIPE, SIG_DFL); if (write(fds[1], "x", 1)) _exit(1)), 128 + SIGPIPE);
  CHECK_ERR(read(fds[1], &c, 1), EBADF);
}

TEST(capacity) {
  int fds[2];
  static char block[4096];
  REQUIRE(pipe2(fds, O_NONBLOCK) == 0);
  CHECK_EQ(fcntl(fds[0], F_GETPIPE_SZ), 65536);
  long total = 0, n;
  while ((n = write(fds[1], block, sizeof block)) > 0) total += n;
  CHECK_EQ(errno, EAGAIN);
  CHECK_EQ(total, 65536);
  CHECK_ERR(write(fds[1], block, 1), EAGAIN);
  CHECK_EQ(read(fds[0], block, 4096), 4096);
  CHECK_EQ(write(fds[1], block, 4096), 4096);
  CHECK_ERR(fcntl(fds[1], F_SETPIPE_SZ, 4096), EBUSY);
  CHECK_EQ(fcntl(fds[1], F_SETPIPE_SZ, 100000), 131072);
  CHECK_EQ(fcntl(fds[1], F_GETPIPE_SZ), 131072);
  while (read(fds[0], block, 4096) > 0) continue;
  CHECK_ERR(read(fds[0], block, 1), EAGAIN);
  CHECK_EQ(fcntl(fds[1], F_SETPIPE_SZ, 1), 4096);
  CHECK_EQ(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20), 1 << 20);
  CHECK_EQ(IN_CHILD(setuid(1000); CHECK_ERR(fcntl(fds[1], F_SETPIPE_SZ, 64 << 20), EPERM)), 0);
  put_file("f", "");
  CHECK_ERR(fcntl(open("f", O_RDWR), F_GETPIPE_SZ), EBADF);
}

TEST(atomic_writes) {
  int fds[2];
  static char block[65536];
  REQUIRE(pipe2(fds, O_NONBLOCK) == 0);
  CHECK_EQ(write(fds[1], block, 65536 - 100), 65536 - 100);
  CHECK_ERR(write(fds[1], block, PIPE_BUF), EAGAIN); /* all or nothing up to PIPE_BUF */
  long n = write(fds[1], block, PIPE_BUF + 1);
  CHECK(n > 0 || errno == EAGAIN);
  /* Writers of PIPE_BUF bytes never mix. */
  int both[2];
  REQUIRE(pipe(both) == 0);
  for (int i = 0; i < 4; i++)
    if (fork() == 0) {
      close(both[0]);
      char mine[512];
      memset(mine, 'a' + i, sizeof mine);
      for (int k = 0; k < 60; k++)
        if (write(both[1], mine, sizeof mine) != sizeof mine) _exit(1);
      _exit(0);
    }
  close(both[1]);
  long seen = 0, mixed = 0;
  char got[512];
  for (;;) {
    long have = 0;
    while (have < 512 && (n = read(both[0], got + have, 512 - have)) > 0) have += n;
    if (have == 0) break;
    seen += have;
    for (int i = 1; i < 512; i++) mixed += got[i] != got[0];
  }
  CHECK_EQ(seen, 4 * 60 * 512);
  CHECK_EQ(mixed, 0);
  while (wait(NULL) > 0) continue;
}

TEST(large_write_blocks_until_read) {
  int fds[2];
  enum { N = 1 << 20 };
  REQUIRE(pipe(fds) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    char *data = malloc(N);
    for (int i = 0; i < N; i++) data[i] = i * 7;
    _exit(write(fds[1], data, N) == N ? 0 : 1);
  }
  close(fds[1]);
  long at = 0, n, wrong = 0;
  static char buf[10000];
  while ((n = read(fds[0], buf, sizeof buf)) > 0) {
    for (long i = 0; i < n; i++) wrong += buf[i] != (char)((at + i) * 7);
    at += n;
  }
  CHECK_EQ(at, N);
  CHECK_EQ(wrong, 0);
  CHECK_EQ(reap(pid), 0);
}

TEST(packet_mode) {
  int fds[2];
  char buf[64];
  REQUIRE(pipe2(fds, O_DIRECT) == 0);
  CHECK_EQ(write(fds[1], "first", 5), 5);
  CHECK_EQ(write(fds[1], "second", 6), 6);
  CHECK_EQ(read(fds[0], buf, 64), 5);
  CHECK_EQ(read(fds[0], buf, 3), 3); /* the rest of the packet is lost */
  CHECK_EQ(write(fds[1], "third", 5), 5);
  CHECK_EQ(read(fds[0], buf, 64), 5);
  CHECK(memcmp(buf, "third", 5) == 0);
}

TEST(pipe2_flags) {
  int fds[2];
  CHECK_OK(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
  CHECK_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(fds[1], F_GETFL), O_WRONLY | O_NONBLOCK);
  CHECK_ERR(pipe2(fds, O_APPEND), EINVAL);
}

TEST(fifo_rendezvous) {
  char buf[8] = {0};
  CHECK_OK(mkfifo("p", 0600));
  CHECK_ERR(open("p", O_WRONLY | O_NONBLOCK), ENXIO);
  int r = open("p", O_RDONLY | O_NONBLOCK);
  CHECK(r >= 0);
  CHECK_EQ(read(r, buf, 1), 0); /* nobody writes: end of file */
  int w = open("p", O_WRONLY | O_NONBLOCK);
  CHECK(w >= 0);
  CHECK_ERR(read(r, buf, 1), EAGAIN);
  CHECK_EQ(write(w, "hi", 2), 2);
  CHECK_EQ(read(r, buf, 8), 2);
  close(w);
  CHECK_EQ(read(r, buf, 1), 0);
  close(r);
  int rw = open("p", O_RDWR); /* does not wait on Linux */
  CHECK_EQ(write(rw, "self", 4), 4);
  CHECK_EQ(read(rw, buf, 8), 4);
  close(rw);
  pid_t pid = fork();
  if (pid == 0) {
    sleep_ms(30);
    int fd = open("p", O_WRONLY);
    _exit(write(fd, "late", 4) == 4 ? 0 : 1);
  }
  r = open("p", O_RDONLY);
  CHECK_EQ(read(r, buf, 8), 4);
  CHECK_EQ(read(r, buf, 8), 0);
  CHECK_EQ(reap(pid), 0);
  close(r);
  if ((pid = fork()) == 0) {
    sleep_ms(30);
    int fd = open("p", O_RDONLY);
    _exit(read(fd, buf, 8) == 2 ? 0 : 1);
  }
  w = open("p", O_WRONLY);
  CHECK_EQ(write(w, "ok", 2), 2);
  close(w);
  CHECK_EQ(reap(pid), 0);
}

TEST(fifo_stays_open_between_writers) {
  CHECK_OK(mkfifo("p", 0600));
  int r = open("p", O_RDONLY | O_NONBLOCK);
  for (int i = 0; i < 3; i++) {
    int w = open("p", O_WRONLY);
    CHECK_EQ(write(w, "x", 1), 1);
    close(w);
  }
  char buf[8];
  CHECK_EQ(read(r, buf, 8), 3);
  struct pollfd p = {r, POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 0), 1);
  CHECK_EQ(p.revents, POLLHUP);
}

TEST(reopen_through_proc) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  char path[64], link[64] = {0}, c;
  snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
  CHECK(readlink(path, link, sizeof link - 1) > 0);
  CHECK(strncmp(link, "pipe:[", 6) == 0);
  int again = open(path, O_RDONLY | O_NONBLOCK);
  CHECK_ERR(read(again, &c, 1), EAGAIN);
  CHECK_EQ(write(fds[1], "z", 1), 1);
  CHECK_EQ(read(again, &c, 1), 1);
}

/* A writer that always has more does not keep a reader from finding the pipe empty: it is woken later than the reader reads. */
TEST(reading_until_there_is_nothing) {
  static char page[4096];
  int fds[2], most = 0;
  REQUIRE(pipe(fds) == 0);
  CHECK_EQ(fcntl(fds[1], F_SETPIPE_SZ, 8192), 8192);
  CHECK_OK(fcntl(fds[0], F_SETFL, O_NONBLOCK));
  pid_t pid = fork();
  if (pid == 0)
    for (;;) CHECK_EQ(write(fds[1], page, sizeof page), (long)sizeof page);
  for (int i = 0; i < 100; i++) {
    struct pollfd p = {fds[0], POLLIN, 0};
    CHECK_EQ(poll(&p, 1, -1), 1);
    int reads = 0;
    while (read(fds[0], page, sizeof page) > 0 && reads < 20000) reads++;
    if (reads > most) most = reads;
  }
  CHECK(most < 20000);
  kill(pid, SIGKILL);
  CHECK_EQ(reap(pid), 128 + SIGKILL);
}
