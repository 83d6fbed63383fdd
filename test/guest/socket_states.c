/* Every operation on a socket in every state: result, error and poll mask, for the comparison with the native run. */
#include "guest.h"
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

union address {
  struct sockaddr sa;
  struct sockaddr_un un;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
};

struct kind {
  const char *name;
  int family, type;
};
static const struct kind STREAMS[] = {
    {"unix-stream", AF_UNIX, SOCK_STREAM},
    {"unix-seqpacket", AF_UNIX, SOCK_SEQPACKET},
    {"tcp", AF_INET, SOCK_STREAM},
    {"tcp6", AF_INET6, SOCK_STREAM},
};
static const struct kind DATAGRAMS[] = {
    {"unix-dgram", AF_UNIX, SOCK_DGRAM},
    {"udp", AF_INET, SOCK_DGRAM},
    {"udp6", AF_INET6, SOCK_DGRAM},
};

static int serial;
static socklen_t fresh_address(const struct kind *k, union address *a) {
  memset(a, 0, sizeof *a);
  a->sa.sa_family = k->family;
  if (k->family == AF_INET) {
    a->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof a->in;
  }
  if (k->family == AF_INET6) {
    a->in6.sin6_addr = in6addr_loopback;
    return sizeof a->in6;
  }
  int n = snprintf(a->un.sun_path + 1, 100, "socket-states-%d-%d", getpid(), serial++);
  return offsetof(struct sockaddr_un, sun_path) + 1 + n;
}
static int new_socket(const struct kind *k) {
  int fd = socket(k->family, k->type | SOCK_NONBLOCK, 0);
  REQUIRE(fd >= 0);
  return fd;
}
static void bind_fresh(const struct kind *k, int fd, union address *a, socklen_t *len) {
  *len = fresh_address(k, a);
  REQUIRE(bind(fd, &a->sa, *len) == 0);
  *len = sizeof *a;
  REQUIRE(getsockname(fd, &a->sa, len) == 0);
}

/* s is the socket that is looked at, o the other end or -1. */
struct scene {
  int s, o, l;
  union address a;
  socklen_t len;
};

static void connected(const struct kind *k, struct scene *c) {
  c->l = new_socket(k);
  bind_fresh(k, c->l, &c->a, &c->len);
  REQUIRE(listen(c->l, 4) == 0);
  c->s = new_socket(k);
  int failed = connect(c->s, &c->a.sa, c->len) < 0 ? errno : 0;
  REQUIRE(failed == 0 || failed == EINPROGRESS);
  struct pollfd p = {c->l, POLLIN, 0};
  REQUIRE(poll(&p, 1, 2000) == 1);
  c->o = accept4(c->l, NULL, NULL, SOCK_NONBLOCK);
  REQUIRE(c->o >= 0);
  p = (struct pollfd){c->s, POLLOUT, 0};
  REQUIRE(poll(&p, 1, 2000) == 1);
  /* Takes SS_CONNECTING away. */
  connect(c->s, &c->a.sa, c->len);
}
static void settle(void) { sleep_ms(2); }

#define STREAM_STATES 16
static const char *stream_state(const struct kind *k, int n, struct scene *c) {
  c->s = c->o = c->l = -1;
  switch (n) {
    case 0: c->s = new_socket(k); c->len = fresh_address(k, &c->a); return "fresh";
    case 1: c->s = new_socket(k); bind_fresh(k, c->s, &c->a, &c->len); return "bound";
    case 2: c->s = new_socket(k); bind_fresh(k, c->s, &c->a, &c->len); REQUIRE(listen(c->s, 4) == 0); return "listening";
    case 3: connected(k, c); close(c->s); c->s = c->l; c->l = -1;
      { int extra = new_socket(k); connect(extra, &c->a.sa, c->len); close(c->o); c->o = extra; settle(); }
      return "listening, one waits";
    case 4: connected(k, c); return "connected";
    case 5: connected(k, c); { int t = c->s; c->s = c->o; c->o = t; } return "accepted";
    case 6: connected(k, c); write(c->o, "data", 4); settle(); return "data to read";
    case 7: connected(k, c); close(c->o); c->o = -1; settle(); return "peer closed";
    case 8: connected(k, c); write(c->o, "data", 4); close(c->o); c->o = -1; settle(); return "peer closed after data";
    case 9: connected(k, c); write(c->s, "data", 4); settle(); close(c->o); c->o = -1; settle(); return "peer closed, unread";
    case 10: connected(k, c); shutdown(c->o, SHUT_WR); settle(); return "peer shut write";
    case 11: connected(k, c); shutdown(c->o, SHUT_RD); settle(); return "peer shut read";
    case 12: connected(k, c); shutdown(c->s, SHUT_WR); settle(); return "shut write";
    case 13: connected(k, c); shutdown(c->s, SHUT_RD); settle(); return "shut read";
    case 14: connected(k, c); shutdown(c->s, SHUT_RDWR); settle(); return "shut both";
    default:
      c->s = new_socket(k);
      c->l = new_socket(k);
      bind_fresh(k, c->l, &c->a, &c->len);
      connect(c->s, &c->a.sa, c->len);
      settle();
      return "refused";
  }
}

#define DATAGRAM_STATES 10
static const char *datagram_state(const struct kind *k, int n, struct scene *c) {
  c->l = c->o = -1;
  c->s = new_socket(k);
  if (n == 0) {
    c->len = fresh_address(k, &c->a);
    return "fresh";
  }
  c->o = new_socket(k);
  union address own;
  socklen_t own_len;
  bind_fresh(k, c->o, &c->a, &c->len);
  if (n != 2) bind_fresh(k, c->s, &own, &own_len);
  if (n == 1) return "bound";
  REQUIRE(connect(c->s, &c->a.sa, c->len) == 0);
  switch (n) {
    case 2: return "connected, unnamed";
    case 3: REQUIRE(connect(c->o, &own.sa, own_len) == 0); return "connected both ways";
    case 4: sendto(c->o, "data", 4, 0, &own.sa, own_len); sendto(c->o, "two", 3, 0, &own.sa, own_len); return "data to read";
    case 5: close(c->o); c->o = -1; return "peer closed";
    case 6: shutdown(c->s, SHUT_WR); return "shut write";
    case 7: shutdown(c->s, SHUT_RD); return "shut read";
    case 8: shutdown(c->o, SHUT_RD); return "peer shut read";
    default: close(c->o); c->o = -1; send(c->s, "x", 1, MSG_NOSIGNAL); settle(); return "sent to nobody";
  }
}

static const char *error_name(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }
static int masks(int fd) {
  struct pollfd p = {fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND, 0};
  poll(&p, 1, 0);
  return p.revents;
}

#define OPS 27
static const char *operate(int op, const struct kind *k, struct scene *c, long *r) {
  char buf[64];
  int v = -1;
  union address a;
  socklen_t len = sizeof a, vlen = sizeof v;
  struct sockaddr none = {AF_UNSPEC, {0}};
  struct msghdr empty = {0};
  errno = 0;
  switch (op) {
    case 0: *r = 0; return "nothing";
    case 1: *r = read(c->s, buf, 3); return "read";
    case 2: *r = write(c->s, "w", 1); return "write";
    case 3: *r = write(c->s, "", 0); return "write nothing";
    case 4: *r = recv(c->s, buf, 64, MSG_PEEK); return "peek";
    case 5: *r = recv(c->s, buf, 2, MSG_TRUNC); return "recv trunc";
    case 6: *r = recv(c->s, buf, 0, 0); return "recv nothing";
    case 7: *r = recv(c->s, buf, 1, MSG_OOB); return "recv oob";
    case 8: *r = recvmsg(c->s, &empty, 0); return "recvmsg nothing";
    case 9: *r = recv(c->s, buf, 64, MSG_ERRQUEUE) ; return "recv error queue";
    case 10: *r = accept(c->s, NULL, NULL); if (*r >= 0) { close(*r); *r = 0; } return "accept";
    case 11: *r = listen(c->s, 4); return "listen";
    case 12: len = fresh_address(k, &a); *r = bind(c->s, &a.sa, len); return "bind";
    case 13: *r = connect(c->s, &c->a.sa, c->len); return "connect";
    case 14: *r = connect(c->s, &none, sizeof none); return "disconnect";
    case 15: *r = shutdown(c->s, SHUT_RD); return "shutdown read";
    case 16: *r = shutdown(c->s, SHUT_WR); return "shutdown write";
    case 17: *r = shutdown(c->s, SHUT_RDWR); return "shutdown both";
    case 18: *r = shutdown(c->s, 3); return "shutdown 3";
    case 19: *r = getsockname(c->s, &a.sa, &len); if (*r == 0 && k->family != AF_UNIX) *r = len; return "getsockname";
    case 20: *r = getpeername(c->s, &a.sa, &len); if (*r == 0 && k->family != AF_UNIX) *r = len; return "getpeername";
    case 21: *r = getsockopt(c->s, SOL_SOCKET, SO_ERROR, &v, &vlen); if (*r == 0) *r = v; return "SO_ERROR";
    case 22: *r = getsockopt(c->s, SOL_SOCKET, SO_ACCEPTCONN, &v, &vlen); if (*r == 0) *r = v; return "SO_ACCEPTCONN";
    case 23: *r = ioctl(c->s, FIONREAD, &v); if (*r == 0) *r = v; return "FIONREAD";
    case 24: *r = ioctl(c->s, SIOCOUTQ, &v); return "SIOCOUTQ";
    case 25: *r = sendto(c->s, "x", 1, MSG_NOSIGNAL, &c->a.sa, c->len); return "sendto";
    default: *r = ioctl(c->s, SIOCATMARK, &v); if (*r == 0) *r = v; return "SIOCATMARK";
  }
}

static int got_sigpipe;
static void on_sigpipe(int sig __attribute__((unused))) { got_sigpipe++; }

static void matrix(const struct kind *k, int states, const char *(*enter)(const struct kind *, int, struct scene *)) {
  signal(SIGPIPE, on_sigpipe);
  for (int n = 0; n < states; n++) {
    if (k->family == AF_UNIX && k->type != SOCK_DGRAM && n == 15) continue;
    for (int op = 0; op < OPS; op++) {
      struct scene c;
      char buf[64];
      long r;
      const char *state = enter(k, n, &c);
      got_sigpipe = 0;
      const char *what = operate(op, k, &c, &r);
      const char *err = error_name(r);
      settle();
      int mask = masks(c.s);
      int other = c.o < 0 ? -1 : masks(c.o);
      errno = 0;
      long again = read(c.s, buf, 64);
      say("%s, %s: %s = %ld %s%s, poll %#x, peer %#x, read %ld %s", k->name, state, what, r, err,
          got_sigpipe ? " SIGPIPE" : "", mask, other, again, error_name(again));
      close(c.s);
      if (c.o >= 0) close(c.o);
      if (c.l >= 0) close(c.l);
    }
  }
}

TEST(unix_stream) { matrix(&STREAMS[0], STREAM_STATES, stream_state); }
TEST(unix_seqpacket) { matrix(&STREAMS[1], STREAM_STATES, stream_state); }
TEST(tcp) { matrix(&STREAMS[2], STREAM_STATES, stream_state); }
TEST(tcp6) { matrix(&STREAMS[3], STREAM_STATES, stream_state); }
TEST(unix_datagram) { matrix(&DATAGRAMS[0], DATAGRAM_STATES, datagram_state); }
TEST(udp) { matrix(&DATAGRAMS[1], DATAGRAM_STATES, datagram_state); }
TEST(udp6) { matrix(&DATAGRAMS[2], DATAGRAM_STATES, datagram_state); }
