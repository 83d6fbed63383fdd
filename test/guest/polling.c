/* poll, ppoll, select, pselect, epoll: levels, edges, one-shot, hang-ups, nesting, masks, time-outs. */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int events_of(int fd, int events) {
  struct pollfd p = {fd, events, 0};
  int n = poll(&p, 1, 0);
  return n == 0 ? 0 : p.revents;
}
#define ALL (POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM)

/* What poll says about each kind of descriptor in each state. */
TEST(states) {
  int p[2], s[2];
  static char block[65536];
  REQUIRE(pipe(p) == 0);
  say("  empty pipe: %x %x", events_of(p[0], ALL), events_of(p[1], ALL));
  CHECK_EQ(write(p[1], block, 1), 1);
  say("  pipe with a byte: %x %x", events_of(p[0], ALL), events_of(p[1], ALL));
  CHECK_EQ(write(p[1], block, 65535), 65535);
  say("  full pipe: %x %x", events_of(p[0], ALL), events_of(p[1], ALL));
  close(p[1]);
  say("  full pipe without writer: %x", events_of(p[0], ALL));
  while (read(p[0], block, sizeof block) > 0) continue;
  say("  empty pipe without writer: %x", events_of(p[0], ALL));
  REQUIRE(pipe(p) == 0);
  close(p[0]);
  say("  pipe without reader: %x", events_of(p[1], ALL));
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  say("  socket: %x", events_of(s[0], ALL));
  shutdown(s[1], SHUT_WR);
  say("  peer shut down writing: %x", events_of(s[0], ALL));
  close(s[1]);
  say("  peer closed: %x", events_of(s[0], ALL));
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  shutdown(s[0], SHUT_RDWR);
  say("  shut down here: %x there: %x", events_of(s[0], ALL), events_of(s[1], ALL));
  put_file("f", "");
  say("  file: %x", events_of(open("f", O_RDONLY), ALL));
  say("  null: %x", events_of(open("/dev/null", O_RDWR), ALL));
  say("  directory: %x", events_of(open(".", O_RDONLY), ALL));
  say("  bad: %x", events_of(77, ALL));
  say("  negative: %x", events_of(-1, ALL));
  say("  nothing asked: %x", events_of(p[1], 0));
  say("  new unix socket: %x", events_of(socket(AF_UNIX, SOCK_STREAM, 0), ALL));
  say("  new tcp socket: %x", events_of(socket(AF_INET, SOCK_STREAM, 0), ALL));
  say("  new udp socket: %x", events_of(socket(AF_INET, SOCK_DGRAM, 0), ALL));
}

TEST(poll_call) {
  int p[2];
  REQUIRE(pipe(p) == 0);
  struct pollfd set[3] = {{p[0], POLLIN, 99}, {77, POLLIN, 99}, {-5, POLLIN, 99}};
  CHECK_EQ(poll(set, 3, 0), 1);
  CHECK_EQ(set[0].revents, 0);
  CHECK_EQ(set[1].revents, POLLNVAL);
  CHECK_EQ(set[2].revents, 0);
  int64_t before = now_ms();
  CHECK_EQ(poll(set, 1, 30), 0);
  CHECK(now_ms() - before >= 29);
  CHECK_EQ(poll(NULL, 0, 1), 0);
  struct rlimit limit = {30, 30};
  setrlimit(RLIMIT_NOFILE, &limit);
  static struct pollfd many[31];
  CHECK_ERR(poll(many, 31, 0), EINVAL);
  CHECK_ERR(ppoll(set, 1, &(struct timespec){0, 1000000000}, NULL), EINVAL);
  CHECK_ERR(ppoll(set, 1, &(struct timespec){-1, 0}, NULL), EINVAL);
}

static void note(int sig) { (void)sig; }
TEST(atomic_masks) {
  sigset_t block, none;
  sigemptyset(&none);
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  sigprocmask(SIG_BLOCK, &block, NULL);
  signal(SIGUSR1, note);
  int p[2];
  REQUIRE(pipe(p) == 0);
  struct pollfd set = {p[0], POLLIN, 0};
  fd_set fds;
  FD_ZERO(&fds);
  FD_SET(p[0], &fds);
  struct timespec second = {1, 0};
  raise(SIGUSR1);
  CHECK_ERR(ppoll(&set, 1, &second, &none), EINTR);
  raise(SIGUSR1);
  CHECK_ERR(pselect(p[0] + 1, &fds, NULL, NULL, &second, &none), EINTR);
  int ep = epoll_create1(0);
  struct epoll_event e;
  raise(SIGUSR1);
  CHECK_ERR(epoll_pwait(ep, &e, 1, 1000, &none), EINTR);
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  CHECK(sigismember(&now, SIGUSR1));
  raise(SIGUSR1); /* stays pending when nothing has to wait */
  CHECK_EQ(write(p[1], "x", 1), 1);
  CHECK_EQ(ppoll(&set, 1, &second, &block), 1);
}

TEST(select_call) {
  int p[2];
  REQUIRE(pipe(p) == 0);
  fd_set r, w, x;
  FD_ZERO(&r);
  FD_ZERO(&w);
  FD_ZERO(&x);
  FD_SET(p[0], &r);
  FD_SET(p[1], &w);
  FD_SET(p[0], &x);
  struct timeval tv = {0, 20000};
  CHECK_EQ(select(p[1] + 1, &r, &w, &x, &tv), 1);
  CHECK(!FD_ISSET(p[0], &r) && FD_ISSET(p[1], &w) && !FD_ISSET(p[0], &x));
  FD_ZERO(&r);
  FD_SET(p[0], &r);
  tv = (struct timeval){0, 20000};
  CHECK_EQ(select(p[0] + 1, &r, NULL, NULL, &tv), 0);
  CHECK_EQ(tv.tv_sec * 1000000 + tv.tv_usec, 0); /* Linux leaves what remains */
  close(p[1]);
  FD_SET(p[0], &r);
  CHECK_EQ(select(p[0] + 1, &r, NULL, NULL, NULL), 1); /* a hang-up is readable */
  FD_ZERO(&r);
  FD_SET(50, &r);
  CHECK_ERR(select(51, &r, NULL, NULL, &tv), EBADF);
  CHECK_ERR(select(-1, NULL, NULL, NULL, &tv), EINVAL);
  tv = (struct timeval){-1, 0};
  CHECK_ERR(select(0, NULL, NULL, NULL, &tv), EINVAL);
}

static int add(int ep, int fd, uint32_t events) {
  struct epoll_event e = {.events = events, .data.u64 = 0x1122334400000000UL + (unsigned)fd};
  return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}
static int wait_events(int ep) {
  struct epoll_event e = {0};
  int n = epoll_wait(ep, &e, 1, 0);
  return n == 1 ? (int)e.events : n == 0 ? 0 : -errno;
}

TEST(epoll_errors) {
  int ep = epoll_create1(EPOLL_CLOEXEC), p[2];
  struct epoll_event e = {.events = EPOLLIN};
  REQUIRE(pipe(p) == 0);
  CHECK_EQ(fcntl(ep, F_GETFD), FD_CLOEXEC);
  CHECK_ERR(epoll_create(0), EINVAL);
  CHECK_ERR(epoll_create1(1), EINVAL);
  CHECK_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
  CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e), EEXIST);
  CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e), ENOENT);
  CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], &e), ENOENT);
  CHECK_ERR(epoll_ctl(ep, 9, p[0], &e), EINVAL);
  CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e), EINVAL);
  CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, 77, &e), EBADF);
  CHECK_ERR(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &e), EINVAL);
  put_file("f", "");
  CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, open("f", O_RDONLY), &e), EPERM);
  CHECK_ERR(epoll_wait(ep, &e, 0, 0), EINVAL);
  CHECK_ERR(epoll_wait(p[0], &e, 1, 0), EINVAL);
  CHECK_OK(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
}

TEST(epoll_levels_and_edges) {
  int level = epoll_create1(0), edge = epoll_create1(0), once = epoll_create1(0), p[2];
  char buf[8];
  REQUIRE(pipe(p) == 0);
  add(level, p[0], EPOLLIN), add(edge, p[0], EPOLLIN | EPOLLET), add(once, p[0], EPOLLIN | EPOLLONESHOT);
  CHECK_EQ(wait_events(level) + wait_events(edge) + wait_events(once), 0);
  CHECK_EQ(write(p[1], "ab", 2), 2);
  for (int i = 0; i < 3; i++) say("  after write %d: level %x edge %x once %x", i, wait_events(level), wait_events(edge), wait_events(once));
  CHECK_EQ(read(p[0], buf, 1), 1);
  say("  after a partial read: level %x edge %x", wait_events(level), wait_events(edge));
  CHECK_EQ(write(p[1], "c", 1), 1);
  say("  after another write: level %x edge %x once %x", wait_events(level), wait_events(edge), wait_events(once));
  struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT};
  CHECK_OK(epoll_ctl(once, EPOLL_CTL_MOD, p[0], &e));
  say("  re-armed: once %x %x", wait_events(once), wait_events(once));
  CHECK_EQ(read(p[0], buf, 8), 2);
  CHECK_EQ(wait_events(level), 0);
  close(p[1]);
  say("  hang-up: level %x edge %x %x", wait_events(level), wait_events(edge), wait_events(edge));
}

TEST(epoll_edge_for_output) {
  int s[2], ep = epoll_create1(0);
  static char block[300000];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) == 0);
  add(ep, s[0], EPOLLOUT | EPOLLET);
  CHECK_EQ(wait_events(ep), EPOLLOUT);
  CHECK_EQ(wait_events(ep), 0);
  while (write(s[0], block, sizeof block) > 0) continue;
  wait_events(ep);
  while (read(s[1], block, sizeof block) > 0) continue;
  CHECK_EQ(wait_events(ep), EPOLLOUT);
}

TEST(epoll_closing) {
  int p[2], ep = epoll_create1(0);
  REQUIRE(pipe(p) == 0);
  CHECK_EQ(write(p[1], "x", 1), 1);
  add(ep, p[0], EPOLLIN);
  int copy = dup(p[0]);
  close(p[0]);
  CHECK_EQ(wait_events(ep), EPOLLIN); /* the description lives on */
  close(copy);
  CHECK_EQ(wait_events(ep), 0);
}

TEST(epoll_data_and_many) {
  int ep = epoll_create1(0), ev[50];
  for (int i = 0; i < 50; i++) {
    ev[i] = eventfd(i % 2, EFD_NONBLOCK);
    add(ep, ev[i], EPOLLIN);
  }
  struct epoll_event got[64];
  CHECK_EQ(epoll_wait(ep, got, 64, 0), 25);
  long sum = 0, want = 0;
  for (int i = 0; i < 25; i++) {
    CHECK_EQ(got[i].data.u64 >> 32, 0x11223344);
    sum += (unsigned)got[i].data.u64;
  }
  for (int i = 1; i < 50; i += 2) want += ev[i];
  CHECK_EQ(sum, want);
  /* A short array is filled in turn: every one of them comes up. */
  char seen[1024] = {0};
  for (int i = 0; i < 5; i++) {
    CHECK_EQ(epoll_wait(ep, got, 5, 0), 5);
    for (int k = 0; k < 5; k++) seen[(unsigned)got[k].data.u64] = 1;
  }
  int distinct = 0;
  for (int i = 0; i < 1024; i++) distinct += seen[i];
  CHECK_EQ(distinct, 25);
}

TEST(epoll_nested) {
  int inner = epoll_create1(0), outer = epoll_create1(0), ev = eventfd(0, 0);
  add(inner, ev, EPOLLIN);
  add(outer, inner, EPOLLIN);
  CHECK_EQ(wait_events(outer), 0);
  eventfd_write(ev, 1);
  CHECK_EQ(wait_events(outer), EPOLLIN);
  CHECK_EQ(events_of(outer, POLLIN), POLLIN);
  eventfd_t v;
  eventfd_read(ev, &v);
  CHECK_EQ(wait_events(outer), 0);
  CHECK_ERR(add(inner, outer, EPOLLIN), ELOOP);
}

TEST(epoll_wakes_a_sleeper) {
  int ep = epoll_create1(0), ev = eventfd(0, 0);
  add(ep, ev, EPOLLIN);
  pid_t pid = fork();
  if (pid == 0) {
    sleep_ms(30);
    eventfd_write(ev, 5);
    _exit(0);
  }
  struct epoll_event e;
  CHECK_EQ(epoll_wait(ep, &e, 1, 5000), 1);
  reap(pid);
  int64_t before = now_ms();
  eventfd_t v;
  eventfd_read(ev, &v);
  CHECK_EQ(epoll_wait(ep, &e, 1, 30), 0);
  CHECK(now_ms() - before >= 29);
  CHECK_EQ(syscall(SYS_epoll_pwait2, ep, &e, 1, &(struct timespec){0, 10000000}, NULL, 8), 0);
}

static void *adder(void *arg) {
  int *fds = arg;
  sleep_ms(30);
  add(fds[0], fds[1], EPOLLIN);
  return NULL;
}
TEST(epoll_add_while_waiting) {
  int fds[2] = {epoll_create1(0), eventfd(1, 0)};
  pthread_t t;
  pthread_create(&t, NULL, adder, fds);
  struct epoll_event e;
  CHECK_EQ(epoll_wait(fds[0], &e, 1, 5000), 1);
  pthread_join(t, NULL);
}

TEST(epoll_exclusive) {
  int a = epoll_create1(0), ev = eventfd(0, 0);
  CHECK_OK(add(a, ev, EPOLLIN | EPOLLEXCLUSIVE));
  struct epoll_event e = {.events = EPOLLIN};
  CHECK_ERR(epoll_ctl(a, EPOLL_CTL_MOD, ev, &e), EINVAL);
  CHECK_ERR(add(epoll_create1(0), ev, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT), EINVAL);
}
