/*
 * The line discipline under pseudo-random settings and input: every byte of echo, output and input must be the host's.
 * The generator has fixed seeds, so that native and sandboxed runs see the same.
 */
#include "guest.h"
#include <pty.h>
#include <termios.h>

static unsigned seed;
static unsigned rnd(unsigned n) {
  seed = seed * 1103515245u + 12345u;
  return (seed >> 16) % n;
}
static unsigned long hash;
static void mix(const char *p, long n) {
  for (long i = 0; i < n; i++) hash = hash * 1099511628211ul + (unsigned char)p[i];
}

static int master, slave;
static void open_pair(void) {
  master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  REQUIRE(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
  slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK);
  REQUIRE(slave >= 0);
}

/* The host hands input to the line discipline in a kernel thread: wait until the queues are quiet. */
static void settle(void) {
  struct pollfd p[2] = {{slave, POLLIN, 0}, {master, POLLIN, 0}};
  for (int i = 0; i < 4; i++) {
    poll(p, 2, 0);
    sleep_ms(3);
  }
}

static long drain(int fd, const char *tag, int chunk) {
  char buf[4096];
  long total = 0;
  for (int i = 0; i < 64; i++) {
    ssize_t n = read(fd, buf, chunk);
    if (n < 0) {
      mix(tag, 1);
      if (errno != EAGAIN) mix(strerrorname_np(errno), 3);
      break;
    }
    mix(buf, n);
    mix("|", 1);
    total += n;
    if (n == 0) break;
  }
  return total;
}

static const char typed[] = "abc def\tgh_i\n\r\177\025\027\022\026\004\010\001\377\303\251\302 xyz0\033[A\021";
static const tcflag_t lflags[] = {ECHO, ECHOE, ECHOK, ECHONL, ECHOCTL, ECHOPRT, ECHOKE, IEXTEN, ICANON};
static const tcflag_t iflags[] = {IGNCR, ICRNL, INLCR, ISTRIP, IUCLC, PARMRK, IUTF8};
static const tcflag_t oflags[] = {OPOST, ONLCR, OCRNL, ONOCR, ONLRET, XTABS, OLCUC};

static void configure(void) {
  struct termios t;
  tcgetattr(slave, &t);
  t.c_lflag = ISIG;
  t.c_iflag = 0;
  t.c_oflag = 0;
  for (unsigned i = 0; i < sizeof lflags / sizeof *lflags; i++)
    if (rnd(3)) t.c_lflag |= lflags[i];
  for (unsigned i = 0; i < sizeof iflags / sizeof *iflags; i++)
    if (rnd(4) == 0) t.c_iflag |= iflags[i];
  for (unsigned i = 0; i < sizeof oflags / sizeof *oflags; i++)
    if (rnd(3) == 0) t.c_oflag |= oflags[i];
  t.c_cc[VEOL] = rnd(3) ? 0 : 'x';
  t.c_cc[VEOL2] = rnd(3) ? 0 : '0';
  t.c_cc[VMIN] = 1;
  t.c_cc[VTIME] = 0;
  CHECK_OK(tcsetattr(slave, rnd(4) ? TCSANOW : TCSAFLUSH, &t));
}

static void rounds(unsigned first, int count) {
  for (int r = 0; r < count; r++) {
    seed = first + r;
    hash = 14695981039346656037ul;
    open_pair();
    long in = 0, out = 0;
    for (int step = 0; step < 12; step++) {
      if (step == 0 || rnd(3) == 0) configure();
      char text[64];
      int n = 1 + rnd(20);
      for (int i = 0; i < n; i++) text[i] = typed[rnd(sizeof typed - 1)];
      if (rnd(4) == 0) {
        long w = write(slave, text, n);
        mix((char *)&w, sizeof w);
      } else {
        CHECK_EQ(write(master, text, n), n);
      }
      settle();
      out += drain(master, "m", 4096);
      if (rnd(2)) in += drain(slave, "s", 1 + rnd(12));
      int queued = -1;
      ioctl(slave, FIONREAD, &queued);
      mix((char *)&queued, sizeof queued);
    }
    say("  seed %u: in %ld out %ld hash %016lx", first + r, in, out, hash);
    close(slave);
    close(master);
  }
}

TEST(random_1) { rounds(1, 10); }
TEST(random_2) { rounds(1000, 10); }
TEST(random_3) { rounds(77786, 10); }

TEST(long_lines) {
  open_pair();
  char line[6000];
  for (int n = 4090; n <= 4100; n++) {
    memset(line, 'a', n);
    line[n] = '\n';
    for (int at = 0; at <= n;) {
      ssize_t w = write(master, line + at, n + 1 - at);
      if (w < 0) break;
      at += w;
      settle();
      char echo[8192];
      while (read(master, echo, sizeof echo) > 0) continue;
    }
    settle();
    ssize_t got = read(slave, line, sizeof line);
    say("  %d: read %ld, last %d", n, (long)got, got > 0 ? line[got - 1] : -1);
  }
}

/* How much fits where nobody reads. */
TEST(full_queues) {
  open_pair();
  struct termios t;
  tcgetattr(slave, &t);
  cfmakeraw(&t);
  tcsetattr(slave, TCSANOW, &t);
  char block[1000];
  memset(block, 'x', sizeof block);
  long sum = 0;
  for (int i = 0; i < 100; i++) {
    ssize_t w = write(slave, block, sizeof block);
    if (w < 0) break;
    sum += w;
  }
  struct pollfd p = {slave, POLLOUT, 0};
  CHECK_EQ(poll(&p, 1, 0), 0);
  CHECK(sum >= 4096 && sum < 40000);
  long back = 0;
  char buf[4096];
  for (int i = 0; i < 100; i++) {
    ssize_t n = read(master, buf, sizeof buf);
    if (n <= 0) {
      settle();
      n = read(master, buf, sizeof buf);
      if (n <= 0) break;
    }
    back += n;
  }
  CHECK_EQ(back, sum);
  CHECK_EQ(poll(&p, 1, 1000), 1);
}

TEST(time_between_bytes) {
  open_pair();
  struct termios t;
  tcgetattr(slave, &t);
  cfmakeraw(&t);
  t.c_cc[VMIN] = 10;
  t.c_cc[VTIME] = 2;
  tcsetattr(slave, TCSANOW, &t);
  fcntl(slave, F_SETFL, O_RDWR);
  pid_t pid = fork();
  if (pid == 0) {
    sleep_ms(100);
    for (int i = 0; i < 3; i++) {
      write(master, "ab", 2);
      sleep_ms(60);
    }
    _exit(0);
  }
  char buf[32];
  int64_t start = now_ms();
  ssize_t n = read(slave, buf, sizeof buf);
  int64_t took = now_ms() - start;
  say("  got %ld", (long)n);
  if (took < 350 || took > 1500) FAIL("took %ld ms", (long)took);
  while (waitpid(pid, NULL, 0) < 0) continue;
  t.c_cc[VMIN] = 0;
  t.c_cc[VTIME] = 3;
  tcsetattr(slave, TCSANOW, &t);
  start = now_ms();
  n = read(slave, buf, sizeof buf);
  took = now_ms() - start;
  say("  then %ld", (long)n);
  if (took < 290 || took > 1500) FAIL("took %ld ms", (long)took);
  t.c_cc[VMIN] = 4;
  t.c_cc[VTIME] = 0;
  tcsetattr(slave, TCSANOW, &t);
  fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
  write(master, "xy", 2);
  settle();
  struct pollfd p = {slave, POLLIN, 0};
  say("  poll below VMIN %d", poll(&p, 1, 0));
  say("  read below VMIN %ld", (long)read(slave, buf, sizeof buf));
}
