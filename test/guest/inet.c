/* AF_INET and AF_INET6 over loopback: TCP and UDP, names, options, errors, non-blocking connects. */
#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

static struct sockaddr_in addr4(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}
static int listener(struct sockaddr_in *a) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  socklen_t len = sizeof *a;
  *a = addr4(0);
  REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)a, len) == 0 && listen(fd, 8) == 0 && getsockname(fd, (struct sockaddr *)a, &len) == 0);
  return fd;
}
static void pair(int fds[2]) {
  struct sockaddr_in a;
  int l = listener(&a);
  fds[0] = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(connect(fds[0], (struct sockaddr *)&a, sizeof a) == 0);
  fds[1] = accept(l, NULL, NULL);
  REQUIRE(fds[1] >= 0);
  close(l);
}

TEST(tcp_echo) {
  struct sockaddr_in a, peer, own;
  socklen_t len = sizeof peer;
  int l = listener(&a);
  CHECK(ntohs(a.sin_port) != 0);
  pid_t pid = fork();
  if (pid == 0) {
    int s = accept(l, NULL, NULL);
    char buf[64];
    for (ssize_t n; (n = read(s, buf, sizeof buf)) > 0;)
      if (write(s, buf, n) != n) _exit(1);
    _exit(0);
  }
  int c = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(connect(c, (struct sockaddr *)&a, sizeof a));
  CHECK_OK(getpeername(c, (struct sockaddr *)&peer, &len));
  CHECK_EQ(len, sizeof peer);
  CHECK(peer.sin_port == a.sin_port && peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
  CHECK_OK(getsockname(c, (struct sockaddr *)&own, &len));
  CHECK(own.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && own.sin_port != 0);
  char buf[64] = {0};
  CHECK_EQ(send(c, "hello", 5, 0), 5);
  CHECK_EQ(recv(c, buf, 5, MSG_WAITALL), 5);
  CHECK_STR(buf, "hello");
  CHECK_OK(shutdown(c, SHUT_WR));
  CHECK_EQ(recv(c, buf, 5, 0), 0);
  CHECK_EQ(reap(pid), 0);
}

TEST(tcp_refused_and_in_use) {
  struct sockaddr_in a;
  int l = listener(&a), c = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_ERR(bind(c, (struct sockaddr *)&a, sizeof a), EADDRINUSE);
  close(l);
  CHECK_ERR(connect(c, (struct sockaddr *)&a, sizeof a), ECONNREFUSED);
  a.sin_addr.s_addr = htonl(0x7f000002);
  a.sin_port = 0;
  c = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(bind(c, (struct sockaddr *)&a, sizeof a)); /* all of 127/8 is local */
  struct sockaddr_in foreign = addr4(0);
  foreign.sin_addr.s_addr = htonl(0x08080808);
  CHECK_ERR(bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&foreign, sizeof foreign), EADDRNOTAVAIL);
  CHECK_ERR(bind(c, (struct sockaddr *)&a, sizeof a), EINVAL);
  CHECK_ERR(bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&a, 4), EINVAL);
  a.sin_family = AF_INET6;
  CHECK_ERR(bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof a), EAFNOSUPPORT);
}

TEST(tcp_nonblocking_connect) {
  struct sockaddr_in a;
  int l = listener(&a), c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), err = -1;
  socklen_t len = sizeof err;
  int r = connect(c, (struct sockaddr *)&a, sizeof a);
  CHECK(r == 0 || errno == EINPROGRESS);
  struct pollfd p = {c, POLLOUT, 0};
  CHECK_EQ(poll(&p, 1, 5000), 1);
  CHECK_EQ(p.revents & POLLOUT, POLLOUT);
  CHECK_OK(getsockopt(c, SOL_SOCKET, SO_ERROR, &err, &len));
  CHECK_EQ(err, 0);
  CHECK_ERR(connect(c, (struct sockaddr *)&a, sizeof a) == 0 ? connect(c, (struct sockaddr *)&a, sizeof a) : -1, EISCONN);
  close(l);
  c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  a.sin_port = htons(1);
  r = connect(c, (struct sockaddr *)&a, sizeof a);
  if (r == -1 && errno == EINPROGRESS) {
    p.fd = c;
    CHECK_EQ(poll(&p, 1, 5000), 1);
    len = sizeof err;
    CHECK_OK(getsockopt(c, SOL_SOCKET, SO_ERROR, &err, &len));
    CHECK_EQ(err, ECONNREFUSED);
    CHECK_OK(getsockopt(c, SOL_SOCKET, SO_ERROR, &err, &len));
    CHECK_EQ(err, 0); /* told once */
  } else CHECK_EQ(errno, ECONNREFUSED);
}

TEST(tcp_half_close_and_reset) {
  int s[2];
  char c;
  pair(s);
  shutdown(s[0], SHUT_WR);
  CHECK_EQ(recv(s[1], &c, 1, 0), 0);
  CHECK_EQ(send(s[1], "back", 4, 0), 4);
  sleep_ms(5);
  CHECK_EQ(recv(s[0], &c, 1, 0), 1);
  pair(s);
  CHECK_EQ(send(s[0], "unread", 6, 0), 6);
  sleep_ms(5);
  close(s[1]);
  sleep_ms(5);
  CHECK_ERR(recv(s[0], &c, 1, 0), ECONNRESET);
  signal(SIGPIPE, SIG_IGN);
  CHECK_ERR(send(s[0], "x", 1, 0), EPIPE);
  pair(s);
  struct linger hard = {1, 0};
  CHECK_OK(setsockopt(s[1], SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
  close(s[1]);
  sleep_ms(5);
  CHECK_ERR(recv(s[0], &c, 1, 0), ECONNRESET);
}

TEST(tcp_flags) {
  int s[2];
  char buf[16] = {0};
  pair(s);
  CHECK_ERR(recv(s[1], buf, 1, MSG_DONTWAIT), EAGAIN);
  CHECK_EQ(send(s[0], "abcdef", 6, MSG_NOSIGNAL), 6);
  sleep_ms(5);
  CHECK_EQ(recv(s[1], buf, 3, MSG_PEEK), 3);
  CHECK_EQ(recv(s[1], buf, 16, 0), 6);
  CHECK_STR(buf, "abcdef");
  int n = -1;
  CHECK_EQ(send(s[0], "xyz", 3, 0), 3);
  sleep_ms(5);
  CHECK_OK(ioctl(s[1], FIONREAD, &n));
  CHECK_EQ(n, 3);
  CHECK_EQ(recv(s[1], buf, 16, MSG_TRUNC), 3); /* thrown away */
  CHECK_EQ(send(s[0], "u", 1, MSG_OOB), 1);
  sleep_ms(5);
  CHECK_EQ(recv(s[1], buf, 1, MSG_OOB), 1);
  CHECK_EQ(buf[0], 'u');
}

TEST(tcp_options) {
  int s[2], v, one = 1;
  socklen_t len;
  pair(s);
#define OPTION(level, o) (v = -1, len = sizeof v, getsockopt(s[0], level, o, &v, &len), v)
  CHECK_EQ(OPTION(SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  CHECK_EQ(OPTION(SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  CHECK_EQ(OPTION(SOL_SOCKET, SO_DOMAIN), AF_INET);
  CHECK_EQ(OPTION(IPPROTO_TCP, TCP_NODELAY), 0);
  CHECK_OK(setsockopt(s[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
  CHECK_EQ(OPTION(IPPROTO_TCP, TCP_NODELAY), 1);
  CHECK_OK(setsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
  CHECK_EQ(OPTION(SOL_SOCKET, SO_KEEPALIVE), 1);
  CHECK_OK(setsockopt(s[0], IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof one));
  CHECK_EQ(OPTION(IPPROTO_TCP, TCP_KEEPIDLE), 1);
  CHECK_OK(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
  CHECK_EQ(OPTION(SOL_SOCKET, SO_REUSEADDR), 1);
  CHECK_EQ(OPTION(SOL_SOCKET, SO_ACCEPTCONN), 0);
  CHECK_EQ(OPTION(SOL_SOCKET, SO_ERROR), 0);
  CHECK_ERR(setsockopt(s[0], SOL_SOCKET, 9999, &one, sizeof one), ENOPROTOOPT);
  CHECK_ERR(setsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, &one, 1), EINVAL);
  CHECK_ERR(setsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4), EFAULT);
  struct timeval tv = {0, 20000}, got;
  CHECK_OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
  len = sizeof got;
  CHECK_OK(getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &got, &len));
  CHECK_EQ(got.tv_usec, 20000);
  char c;
  CHECK_ERR(recv(s[0], &c, 1, 0), EAGAIN);
  struct tcp_info info;
  len = sizeof info;
  CHECK_OK(getsockopt(s[0], IPPROTO_TCP, TCP_INFO, &info, &len));
  CHECK_EQ(info.tcpi_state, TCP_ESTABLISHED);
}

TEST(tcp_bulk_and_epoll) {
  int s[2];
  enum { N = 4 << 20 };
  pair(s);
  pid_t pid = fork();
  if (pid == 0) {
    close(s[1]);
    char *data = malloc(N);
    for (int i = 0; i < N; i++) data[i] = i * 17;
    fcntl(s[0], F_SETFL, O_NONBLOCK);
    int ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLOUT | EPOLLET};
    epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &e);
    for (long at = 0; at < N;) {
      ssize_t n = send(s[0], data + at, N - at, 0);
      if (n > 0) at += n;
      else if (errno != EAGAIN || epoll_wait(ep, &e, 1, 5000) != 1) _exit(1);
    }
    _exit(0);
  }
  close(s[0]);
  static char buf[50000];
  long at = 0, n, wrong = 0;
  while ((n = read(s[1], buf, sizeof buf)) > 0) {
    for (long i = 0; i < n; i++) wrong += buf[i] != (char)((at + i) * 17);
    at += n;
  }
  CHECK_EQ(at, N);
  CHECK_EQ(wrong, 0);
  CHECK_EQ(reap(pid), 0);
}

TEST(udp) {
  int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in at = addr4(0), from;
  socklen_t len = sizeof at;
  char buf[64] = {0};
  CHECK_OK(bind(a, (struct sockaddr *)&at, len));
  CHECK_OK(getsockname(a, (struct sockaddr *)&at, &len));
  CHECK_EQ(sendto(b, "one", 3, 0, (struct sockaddr *)&at, sizeof at), 3);
  CHECK_EQ(sendto(b, "", 0, 0, (struct sockaddr *)&at, sizeof at), 0);
  CHECK_EQ(sendto(b, "longer", 6, 0, (struct sockaddr *)&at, sizeof at), 6);
  len = sizeof from;
  CHECK_EQ(recvfrom(a, buf, 64, 0, (struct sockaddr *)&from, &len), 3);
  CHECK_EQ(len, sizeof from);
  CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  CHECK_EQ(recv(a, buf, 64, 0), 0);
  CHECK_EQ(recv(a, buf, 3, MSG_TRUNC), 6);
  CHECK_ERR(recv(a, buf, 3, MSG_DONTWAIT), EAGAIN);
  CHECK_ERR(send(a, "x", 1, 0), EDESTADDRREQ);
  CHECK_OK(connect(b, (struct sockaddr *)&at, sizeof at));
  CHECK_EQ(send(b, "two", 3, 0), 3);
  CHECK_EQ(recv(a, buf, 64, 0), 3);
  close(a);
  CHECK_EQ(send(b, "x", 1, 0), 1);
  sleep_ms(10);
  CHECK_ERR(send(b, "x", 1, 0), ECONNREFUSED); /* the port unreachable came back */
  static char big[70000];
  CHECK_ERR(sendto(b, big, sizeof big, 0, (struct sockaddr *)&at, sizeof at), EMSGSIZE);
  CHECK_ERR(listen(b, 1), EOPNOTSUPP);
  struct sockaddr none = {AF_UNSPEC, {0}};
  CHECK_OK(connect(b, &none, sizeof none));
}

TEST(ipv6) {
  int l = socket(AF_INET6, SOCK_STREAM, 0);
  struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}, peer;
  socklen_t len = sizeof a;
  CHECK(l >= 0);
  if (bind(l, (struct sockaddr *)&a, len) != 0) {
    CHECK_EQ(errno, EADDRNOTAVAIL); /* a machine without IPv6 */
    return;
  }
  CHECK_OK(listen(l, 5));
  CHECK_OK(getsockname(l, (struct sockaddr *)&a, &len));
  CHECK_EQ(len, sizeof a);
  int c = socket(AF_INET6, SOCK_STREAM, 0);
  CHECK_OK(connect(c, (struct sockaddr *)&a, sizeof a));
  int s = accept(l, (struct sockaddr *)&peer, &len);
  CHECK(IN6_IS_ADDR_LOOPBACK(&peer.sin6_addr));
  CHECK_EQ(write(c, "six", 3), 3);
  char buf[8] = {0};
  CHECK_EQ(read(s, buf, 8), 3);
  /* A dual-stack listener takes IPv4 as mapped addresses. */
  int d = socket(AF_INET6, SOCK_STREAM, 0);
  struct sockaddr_in6 any = {.sin6_family = AF_INET6};
  len = sizeof any;
  CHECK_OK(bind(d, (struct sockaddr *)&any, len));
  CHECK_OK(listen(d, 5));
  CHECK_OK(getsockname(d, (struct sockaddr *)&any, &len));
  struct sockaddr_in four = addr4(ntohs(any.sin6_port));
  int c4 = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(connect(c4, (struct sockaddr *)&four, sizeof four));
  len = sizeof peer;
  CHECK_OK(accept(d, (struct sockaddr *)&peer, &len));
  CHECK(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
}

TEST(unconnected_errors) {
  int t = socket(AF_INET, SOCK_STREAM, 0);
  char c = 0;
  socklen_t len = 0;
  signal(SIGPIPE, SIG_IGN);
  CHECK_ERR(recv(t, &c, 1, 0), ENOTCONN);
  CHECK_ERR(send(t, &c, 1, 0), EPIPE);
  CHECK_ERR(getpeername(t, NULL, &len), ENOTCONN);
  CHECK_ERR(shutdown(t, SHUT_RDWR), ENOTCONN);
  CHECK_ERR(accept(t, NULL, NULL), EINVAL);
  struct sockaddr_in a = addr4(1);
  CHECK_ERR(connect(t, (struct sockaddr *)&a, 4), EINVAL);
  a.sin_family = 77;
  CHECK_ERR(connect(t, (struct sockaddr *)&a, sizeof a), EAFNOSUPPORT);
  CHECK_ERR(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  CHECK_ERR(socket(AF_INET, 77, 0), EINVAL);
}

TEST(shared_by_processes) {
  struct sockaddr_in a;
  int l = listener(&a), served = 0;
  pid_t pids[3];
  for (int i = 0; i < 3; i++)
    if ((pids[i] = fork()) == 0) { /* all accept from one listener */
      int s = accept(l, NULL, NULL);
      _exit(write(s, "k", 1) == 1 ? 0 : 1);
    }
  for (int i = 0; i < 3; i++) {
    int c = socket(AF_INET, SOCK_STREAM, 0);
    char k = 0;
    CHECK_OK(connect(c, (struct sockaddr *)&a, sizeof a));
    CHECK_EQ(read(c, &k, 1), 1);
    served += k == 'k';
    close(c);
  }
  CHECK_EQ(served, 3);
  for (int i = 0; i < 3; i++) CHECK_EQ(reap(pids[i]), 0);
}

static void *accept_one(void *arg) { return (void *)(long)accept((int)(long)arg, NULL, NULL); }
TEST(accept_in_a_thread) {
  struct sockaddr_in a;
  int l = listener(&a), c = socket(AF_INET, SOCK_STREAM, 0);
  pthread_t t;
  void *r;
  pthread_create(&t, NULL, accept_one, (void *)(long)l);
  sleep_ms(20);
  CHECK_OK(connect(c, (struct sockaddr *)&a, sizeof a));
  pthread_join(t, &r);
  CHECK((long)r >= 0);
}
