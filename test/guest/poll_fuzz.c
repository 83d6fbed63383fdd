/*
 * Random operations on pipes, sockets and eventfds watched by an epoll, with fixed seeds: every result, every event and
 * their order must be the host's.
 */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static unsigned seed;
static unsigned rnd(unsigned n) {
  seed = seed * 1103515245u + 12345u;
  return (seed >> 16) % n;
}
static unsigned long hash;
static int verbose;
static void note(const char *what, long a, long b) {
  char text[128];
  int n = snprintf(text, sizeof text, "%s %ld %ld;", what, a, b);
  for (int i = 0; i < n; i++) hash = hash * 1099511628211ul + (unsigned char)text[i];
  if (verbose) say("    %s", text);
}
static long outcome(long r) { return r < 0 ? -errno : r; }

#define N 12
static int fds[N];
/* Kernels differ in whether a write of more than 8 bytes to an eventfd is an error. */
static int counter[N];
static char block[70000];

static void open_some(int i) {
  int p[2], is_counter = 0;
  switch (rnd(4)) {
    case 0:
      CHECK_OK(pipe2(p, O_NONBLOCK | (rnd(6) ? 0 : O_DIRECT)));
      break;
    case 1:
      CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p));
      break;
    case 2:
      CHECK_OK(socketpair(AF_UNIX, (rnd(2) ? SOCK_DGRAM : SOCK_SEQPACKET) | SOCK_NONBLOCK, 0, p));
      break;
    default:
      is_counter = 1;
      p[0] = eventfd(rnd(3), EFD_NONBLOCK | (rnd(2) ? EFD_SEMAPHORE : 0));
      p[1] = dup(p[0]);
  }
  fds[i] = p[0];
  fds[i + 1] = p[1];
  counter[i] = counter[i + 1] = is_counter;
}

static const unsigned masks[] = {EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLRDHUP, EPOLLPRI, EPOLLIN | EPOLLRDHUP, 0};

static void step(int ep) {
  int i = rnd(N), fd = fds[i];
  /* When a socket's failed send tells edge-triggered watchers of room is the host's business. */
  int edges = rnd(3) == 0 && (counter[i] || fcntl(fd, F_GETPIPE_SZ) > 0);
  struct epoll_event e = {masks[rnd(7)] | (edges ? EPOLLET : 0) | (rnd(6) ? 0 : EPOLLONESHOT), {.u64 = i}};
  switch (rnd(14)) {
    case 0:
    case 1: {
      int n = rnd(3) && !counter[i] ? 1 + rnd(300) : 8;
      note("write", i, outcome(write(fd, block, n)));
      break;
    }
    case 2:
      /* How much of it a socket takes depends on the host's accounting. */
      if (fcntl(fd, F_GETPIPE_SZ) > 0) note("big", i, outcome(write(fd, block, 4000 + rnd(60000))));
      break;
    case 3:
    case 4:
      note("read", i, outcome(read(fd, block, 8 + rnd(rnd(4) ? 400 : 60000))));
      break;
    case 5:
      note("events", i, e.events);
      note("add", i, outcome(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)));
      break;
    case 6:
      note("events", i, e.events);
      note("mod", i, outcome(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e)));
      break;
    case 7:
      if (rnd(3) == 0) note("del", i, outcome(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
      break;
    case 8: {
      struct pollfd p[N];
      for (int k = 0; k < N; k++) p[k] = (struct pollfd){fds[k], POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
      note("poll", outcome(poll(p, N, 0)), 0);
      for (int k = 0; k < N; k++) note("revents", k, p[k].revents);
      break;
    }
    case 9:
      if (rnd(4) == 0) {
        close(fd);
        int old = fd;
        int other = (i + 2) % N;
        counter[i] = rnd(2) || counter[other];
        fds[i] = counter[i] && !counter[other] ? eventfd(0, EFD_NONBLOCK) : dup(fds[other]);
        note("reopened", i, fds[i] == old);
      }
      break;
    case 10:
      if (rnd(4) == 0) note("size", i, outcome(fcntl(fd, F_SETPIPE_SZ, 4096 << rnd(6))));
      break;
    case 11: {
      int n = -1;
      long r = ioctl(fd, FIONREAD, &n);
      note("queued", outcome(r), n);
      break;
    }
    default: {
      struct epoll_event out[N];
      int n = epoll_wait(ep, out, 1 + rnd(N), 0);
      note("wait", outcome(n), 0);
      for (int k = 0; k < n; k++) note("event", out[k].data.u64, out[k].events);
    }
  }
}

static void rounds(unsigned first, int count) {
  signal(SIGPIPE, SIG_IGN);
  for (int r = 0; r < count; r++) {
    seed = first + r;
    hash = 14695981039346656037ul;
    int ep = epoll_create1(0);
    for (int i = 0; i < N; i += 2) open_some(i);
    for (int i = 0; i < 400; i++) step(ep);
    say("  seed %u: %016lx", first + r, hash);
    for (int i = 0; i < N; i++) close(fds[i]);
    close(ep);
  }
}

TEST(random_1) { rounds(1, 80); }
TEST(random_2) { rounds(6000, 80); }
/* For debugging: `SEED=n prog show`. */
TEST(show) {
  if (getenv("SEED") == NULL) return;
  verbose = 1;
  rounds(atoi(getenv("SEED")), 1);
}
