/* What arrives, in which pieces and with which flags; and how waiting calls end. Compared with the native run. */
#include "guest.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static const char *name_of(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }
static void tcp_pair(int f[2]) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof a;
  int l = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(bind(l, (void *)&a, len) == 0 && listen(l, 4) == 0 && getsockname(l, (void *)&a, &len) == 0);
  f[0] = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(connect(f[0], (void *)&a, len) == 0);
  f[1] = accept(l, NULL, NULL);
  REQUIRE(f[1] >= 0);
  close(l);
}
static void get(const char *what, int fd, size_t room, int flags) {
  char buf[256];
  memset(buf, '.', sizeof buf);
  errno = 0;
  ssize_t n = recv(fd, buf, room, flags);
  say("%s: recv(%zu, %#x) = %zd %s '%.*s'", what, room, flags, n, name_of(n), n > 0 ? (int)(n < 60 ? n : 60) : 0, buf);
}

static void stream_pieces(const char *k, int f[2]) {
  send(f[0], "one", 3, 0);
  send(f[0], "two", 3, 0);
  sleep_ms(2);
  get(k, f[1], 4, MSG_PEEK);
  get(k, f[1], 4, 0);
  get(k, f[1], 64, MSG_PEEK | MSG_TRUNC);
  get(k, f[1], 64, 0);
  get(k, f[1], 64, MSG_DONTWAIT);
  get(k, f[1], 64, MSG_DONTWAIT | MSG_PEEK);
  get(k, f[1], 64, MSG_DONTWAIT | MSG_WAITALL);
  struct iovec v[3] = {{"ab", 2}, {"", 0}, {"cdef", 4}};
  say("%s: writev %zd", k, writev(f[0], v, 3));
  sleep_ms(2);
  char a[3], b[10];
  struct iovec r[2] = {{a, 3}, {b, 10}};
  say("%s: readv %zd", k, readv(f[1], r, 2));
  send(f[0], "tail", 4, 0);
  shutdown(f[0], SHUT_WR);
  sleep_ms(2);
  get(k, f[1], 64, MSG_WAITALL);
  get(k, f[1], 64, MSG_WAITALL);
}
TEST(pieces_unix) {
  int f[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, f) == 0);
  stream_pieces("unix", f);
}
TEST(pieces_tcp) {
  int f[2];
  tcp_pair(f);
  stream_pieces("tcp", f);
}
static void packet_pieces(const char *k, int f[2]) {
  send(f[0], "first", 5, 0);
  send(f[0], "", 0, 0);
  send(f[0], "third", 5, 0);
  get(k, f[1], 3, MSG_PEEK);
  get(k, f[1], 3, MSG_PEEK | MSG_TRUNC);
  struct iovec v = {(char[3]){0}, 3};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  ssize_t n = recvmsg(f[1], &m, 0);
  say("%s: recvmsg %zd flags %#x", k, n, m.msg_flags);
  get(k, f[1], 64, 0);
  get(k, f[1], 2, MSG_TRUNC);
  get(k, f[1], 2, MSG_DONTWAIT);
}
TEST(pieces_dgram) {
  int f[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, f) == 0);
  packet_pieces("dgram", f);
  REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, f) == 0);
  packet_pieces("seqpacket", f);
}

/* ---- waiting --------------------------------------------------------------------------------------------------- */
static int feed_fd;
static void *feeder(void *arg __attribute__((unused))) {
  for (int i = 0; i < 4; i++) {
    sleep_ms(20);
    if (write(feed_fd, "12345", 5) != 5) return NULL;
  }
  return NULL;
}
static void waitall(const char *k, int f[2]) {
  pthread_t t;
  feed_fd = f[0];
  pthread_create(&t, NULL, feeder, NULL);
  get(k, f[1], 12, MSG_WAITALL);
  get(k, f[1], 8, MSG_WAITALL);
  pthread_join(t, NULL);
  struct timeval tv = {0, 60000};
  setsockopt(f[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  write(f[0], "abc", 3);
  int64_t start = now_ms();
  get(k, f[1], 10, MSG_WAITALL);
  int64_t took = now_ms() - start;
  say("%s: timed out %s", k, took >= 55 && took < 400 ? "in time" : "at the wrong time");
  start = now_ms();
  get(k, f[1], 10, 0);
  took = now_ms() - start;
  say("%s: timed out %s", k, took >= 55 && took < 400 ? "in time" : "at the wrong time");
  int low = 4;
  tv = (struct timeval){0, 0};
  setsockopt(f[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  setsockopt(f[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
  feed_fd = f[0];
  write(f[0], "xy", 2);
  pthread_create(&t, NULL, feeder, NULL);
  get(k, f[1], 64, 0);
  pthread_join(t, NULL);
}
TEST(waitall_unix) {
  int f[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, f) == 0);
  waitall("unix", f);
}
TEST(waitall_tcp) {
  int f[2];
  tcp_pair(f);
  waitall("tcp", f);
}

static int handled;
static void on_alarm(int sig __attribute__((unused))) { handled++; }
static void alarm_in(int ms, int flags) {
  struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = flags};
  sigaction(SIGALRM, &sa, NULL);
  struct itimerval it = {{0, 0}, {0, ms * 1000}};
  handled = 0;
  setitimer(ITIMER_REAL, &it, NULL);
}
TEST(interrupted) {
  int f[2], l;
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, f) == 0);
  alarm_in(30, 0);
  get("interrupted", f[0], 4, 0);
  write(f[1], "ab", 2);
  alarm_in(30, 0);
  get("interrupted with two bytes", f[0], 4, MSG_WAITALL);
  pthread_t t;
  feed_fd = f[1];
  pthread_create(&t, NULL, feeder, NULL);
  alarm_in(10, SA_RESTART);
  get("restarted", f[0], 4, 0);
  pthread_join(t, NULL);
  say("handled %d", handled);
  struct timeval tv = {5, 0};
  while (recv(f[0], (char[64]){0}, 64, MSG_DONTWAIT) > 0) {
  }
  setsockopt(f[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  alarm_in(10, SA_RESTART);
  get("with a timeout it is not restarted", f[0], 4, 0);
  static char big[1 << 20];
  int small = 8192;
  setsockopt(f[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  alarm_in(30, 0);
  ssize_t n = send(f[0], big, sizeof big, 0);
  say("interrupted send %s", n > 0 && n < (ssize_t)sizeof big ? "in part" : name_of(n));
  alarm_in(30, 0);
  n = send(f[0], big, sizeof big, 0);
  say("interrupted full send %zd %s", n, name_of(n));
  tv = (struct timeval){0, 30000};
  setsockopt(f[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
  n = send(f[0], big, sizeof big, 0);
  say("timed out send %zd %s", n, name_of(n));
  struct sockaddr_un a = {AF_UNIX, {0}};
  socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 + snprintf(a.sun_path + 1, 60, "interrupted-%d", getpid());
  l = socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(bind(l, (void *)&a, len) == 0 && listen(l, 0) == 0);
  alarm_in(30, 0);
  n = accept(l, NULL, NULL);
  say("accept %zd %s", n, name_of(n));
  REQUIRE(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, len) == 0);
  alarm_in(30, 0);
  n = connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, len);
  say("connect %zd %s", n, name_of(n));
  int d = socket(AF_UNIX, SOCK_STREAM, 0);
  setsockopt(d, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
  n = connect(d, (void *)&a, len);
  say("connect with timeout %zd %s", n, name_of(n));
  n = connect(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), (void *)&a, len);
  say("connect without waiting %zd %s", n, name_of(n));
  setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  say("accept %s", accept(l, NULL, NULL) >= 0 ? "ok" : "failed");
  n = accept(l, NULL, NULL);
  say("accept with timeout %zd %s", n, name_of(n));
}

static void *shutter(void *arg) {
  sleep_ms(20);
  shutdown(*(int *)arg, SHUT_RDWR);
  return NULL;
}
TEST(woken_by_shutdown) {
  pthread_t t;
  int f[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, f) == 0);
  pthread_create(&t, NULL, shutter, &f[0]);
  get("unix, own end", f[0], 4, 0);
  pthread_join(t, NULL);
  tcp_pair(f);
  pthread_create(&t, NULL, shutter, &f[1]);
  get("tcp, other end", f[0], 4, 0);
  pthread_join(t, NULL);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int l = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 4) == 0);
  pthread_create(&t, NULL, shutter, &l);
  int r = accept(l, NULL, NULL);
  say("tcp listener %d %s", r, name_of(r));
  pthread_join(t, NULL);
  int u = socket(AF_INET, SOCK_DGRAM, 0);
  a.sin_port = htons(9);
  REQUIRE(connect(u, (void *)&a, sizeof a) == 0);
  pthread_create(&t, NULL, shutter, &u);
  get("udp", u, 4, 0);
  pthread_join(t, NULL);
}

/* ---- ancillary data ---------------------------------------------------------------------------------------------- */
static int send_files(int s, int count, const char *data) {
  union {
    struct cmsghdr h;
    char space[CMSG_SPACE(sizeof(int) * 300)];
  } c;
  memset(&c, 0, sizeof c);
  struct iovec v = {(char *)data, strlen(data)};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
  c.h.cmsg_len = CMSG_LEN(sizeof(int) * count);
  c.h.cmsg_level = SOL_SOCKET;
  c.h.cmsg_type = SCM_RIGHTS;
  for (int i = 0; i < count; i++) ((int *)CMSG_DATA(&c.h))[i] = 0;
  return sendmsg(s, &m, 0);
}
static void receive_files(int s, size_t room, size_t data, int flags) {
  char c[1200];
  char buf[64];
  memset(c, 0x55, sizeof c);
  struct iovec v = {buf, data};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room ? c : NULL, .msg_controllen = room};
  errno = 0;
  ssize_t n = recvmsg(s, &m, flags | MSG_DONTWAIT);
  char text[200];
  int at = snprintf(text, sizeof text, "room %zu: %zd %s flags %#x control %zu", room, n, name_of(n), m.msg_flags & ~MSG_CMSG_CLOEXEC, (size_t)m.msg_controllen);
  for (struct cmsghdr *h = n < 0 ? NULL : CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
    at += snprintf(text + at, sizeof text - at, " [%d/%d len %zu]", h->cmsg_level, h->cmsg_type, (size_t)h->cmsg_len);
    if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
      for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
        int fd = ((int *)CMSG_DATA(h))[i];
        if (i == 0) at += snprintf(text + at, sizeof text - at, " cloexec %d", fcntl(fd, F_GETFD));
        close(fd);
      }
  }
  say("%s", text);
}
TEST(rights) {
  static const size_t rooms[] = {0, 1, 8, 15, 16, 17, 19, 20, 21, 23, 24, 27, 28, 32, 40, 1000};
  static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
  for (int t = 0; t < 3; t++) {
    int f[2];
    REQUIRE(socketpair(AF_UNIX, types[t], 0, f) == 0);
    for (unsigned i = 0; i < sizeof rooms / sizeof *rooms; i++) {
      CHECK_EQ(send_files(f[0], 3, "x"), 1);
      receive_files(f[1], rooms[i], 4, i % 2 ? MSG_CMSG_CLOEXEC : 0);
    }
    /* A read stops at descriptors, before and after. */
    write(f[0], "plain", 5);
    send_files(f[0], 1, "files");
    write(f[0], "more", 4);
    send_files(f[0], 2, "again");
    for (int i = 0; i < 5; i++) receive_files(f[1], 100, 64, MSG_PEEK);
    for (int i = 0; i < 5; i++) receive_files(f[1], 100, 3 + i * 20, 0);
    /* read(2) throws descriptors away. */
    send_files(f[0], 1, "lost");
    get("read over files", f[1], 64, 0);
    for (int n = 252; n <= 255; n++) {
      errno = 0;
      int r = send_files(f[0], n, "m");
      say("%d files: %d %s", n, r, name_of(r));
      if (r > 0) receive_files(f[1], 1200, 64, 0);
    }
    errno = 0;
    int r = send_files(f[0], 0, "none");
    say("0 files: %d %s", r, name_of(r));
    receive_files(f[1], 100, 64, 0);
    close(f[0]);
    close(f[1]);
  }
}
TEST(bad_control) {
  int f[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, f) == 0);
  struct {
    size_t len;
    int level, type, data[4];
  } c;
  struct iovec v = {"x", 1};
  static const struct {
    size_t len, room;
    int level, type, data;
  } tries[] = {
      {0, 20, 1, 1, 0},      {15, 20, 1, 1, 0},  {16, 16, 1, 1, 0},  {17, 20, 1, 1, 0}, {20, 20, 1, 1, 99}, {20, 20, 1, 1, -1}, {24, 20, 1, 1, 0},
      {20, 20, 1, 77, 0},    {20, 20, 99, 1, 0}, {20, 20, 0, 1, 0},  {28, 28, 1, 2, 0}, {27, 32, 1, 2, 0},  {20, 15, 1, 1, 0},  {20, 8, 1, 1, 0},
      {1 << 20, 20, 1, 1, 0}, {20, 24, 1, 1, 0},
  };
  for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++) {
    memset(&c, 0, sizeof c);
    c.len = tries[i].len;
    c.level = tries[i].level;
    c.type = tries[i].type;
    c.data[0] = tries[i].data;
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = tries[i].room};
    errno = 0;
    ssize_t r = sendmsg(f[0], &m, 0);
    say("control %zu in %zu, %d/%d %d: %zd %s", tries[i].len, tries[i].room, tries[i].level, tries[i].type, tries[i].data, r, name_of(r));
  }
}
TEST(bad_headers) {
  int f[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, f) == 0);
  struct iovec v = {"x", 1}, bad = {(void *)8, 4}, neg = {"x", (size_t)-1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_namelen = 5};
#define TRY(what) (errno = 0, r = (what), say("%s = %ld %s", #what, r, name_of(r)))
  long r;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_namelen = -1;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_name = &m;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_namelen = 1000;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_name = NULL;
  m.msg_iovlen = 1025;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_iovlen = 0;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_iovlen = 1;
  m.msg_iov = &bad;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_iov = &neg;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_iov = (void *)8;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_iov = &v;
  m.msg_controllen = 1000000;
  TRY(sendmsg(f[0], &m, 0));
  m.msg_controllen = 24;
  m.msg_control = (void *)8;
  TRY(sendmsg(f[0], &m, 0));
  TRY(sendmsg(f[0], (void *)8, 0));
  TRY(sendmsg(f[0], &m, 0x80000000));
  TRY(recvmsg(f[0], (void *)8, MSG_DONTWAIT));
  TRY(recvmsg(f[0], &m, 0x80000000));
  TRY(sendto(f[0], (void *)8, 4, 0, NULL, 0));
  TRY(sendto(f[0], "x", 1, 0, (void *)8, 10));
  TRY(sendto(f[0], "x", 1, 0, (void *)&v, 1000));
  TRY(sendto(f[0], "x", 1, 0, (void *)&v, 0));
  TRY(send(f[0], "x", 1, MSG_OOB));
  TRY(recv(f[1], (void *)8, 4, MSG_DONTWAIT));
  TRY(recv(f[1], &m, 4, MSG_DONTWAIT));
  TRY(recvmmsg(f[0], (void *)8, 1, MSG_DONTWAIT, NULL));
  TRY(recvmmsg(f[0], NULL, 0, MSG_DONTWAIT, NULL));
  TRY(recvmmsg(f[0], NULL, 0, MSG_DONTWAIT, (void *)8));
  struct timespec wrong = {0, 1000000000};
  TRY(recvmmsg(f[0], NULL, 0, MSG_DONTWAIT, &wrong));
  TRY(sendmmsg(f[0], NULL, 0, 0));
  TRY(sendmmsg(f[0], (void *)8, 1, 0));
}
TEST(many) {
  int f[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, f) == 0);
  struct mmsghdr m[4];
  struct iovec v[4];
  char data[4][8];
  memset(m, 0, sizeof m);
  for (int i = 0; i < 4; i++) {
    v[i] = (struct iovec){data[i], 8};
    m[i].msg_hdr.msg_iov = &v[i];
    m[i].msg_hdr.msg_iovlen = 1;
    v[i].iov_len = i + 1;
  }
  long r;
  TRY(sendmmsg(f[0], m, 4, 0));
  say("lengths %u %u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len, m[3].msg_len);
  for (int i = 0; i < 4; i++) v[i].iov_len = 3;
  TRY(recvmmsg(f[1], m, 2, 0, NULL));
  TRY(recvmmsg(f[1], m, 4, MSG_WAITFORONE, NULL));
  say("lengths %u %u flags %#x %#x", m[0].msg_len, m[1].msg_len, m[0].msg_hdr.msg_flags, m[1].msg_hdr.msg_flags);
  TRY(recvmmsg(f[1], m, 4, MSG_DONTWAIT, NULL));
  v[2].iov_base = (void *)8;
  TRY(sendmmsg(f[0], m, 4, 0));
  struct timespec ts = {0, 1};
  TRY(recvmmsg(f[1], m, 1, 0, &ts));
  say("time left %s", ts.tv_sec == 0 && ts.tv_nsec == 0 ? "none" : "some");
  struct timeval tv = {0, 30000};
  setsockopt(f[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  TRY(recvmmsg(f[1], m, 2, 0, NULL));
  TRY(recvmmsg(f[1], m, 2, 0, NULL));
}

/* ---- urgent data ---------------------------------------------------------------------------------------------------- */
static void urgent(const char *k, int f[2]) {
  int mark = -1;
  send(f[0], "abc", 3, 0);
  send(f[0], "de!", 3, MSG_OOB);
  send(f[0], "fg", 2, 0);
  sleep_ms(5);
  get(k, f[1], 64, MSG_PEEK);
  get(k, f[1], 64, 0);
  ioctl(f[1], SIOCATMARK, &mark);
  say("%s: at mark %d", k, mark);
  get(k, f[1], 64, MSG_OOB | MSG_PEEK);
  get(k, f[1], 64, MSG_OOB);
  get(k, f[1], 64, MSG_OOB);
  get(k, f[1], 64, 0);
  ioctl(f[1], SIOCATMARK, &mark);
  say("%s: at mark %d", k, mark);
  send(f[0], "x", 1, MSG_OOB);
  send(f[0], "y", 1, 0);
  sleep_ms(5);
  get(k, f[1], 64, MSG_DONTWAIT);
  get(k, f[1], 64, MSG_DONTWAIT | MSG_OOB);
  get(k, f[1], 64, MSG_DONTWAIT);
  int on = 1;
  setsockopt(f[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
  send(f[0], "pq", 2, 0);
  send(f[0], "r", 1, MSG_OOB);
  send(f[0], "s", 1, 0);
  sleep_ms(5);
  get(k, f[1], 64, MSG_OOB);
  get(k, f[1], 64, 0);
  get(k, f[1], 64, MSG_DONTWAIT);
}
TEST(urgent_unix) {
  int f[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, f) == 0);
  urgent("unix", f);
}
TEST(urgent_tcp) {
  int f[2];
  tcp_pair(f);
  urgent("tcp", f);
}
