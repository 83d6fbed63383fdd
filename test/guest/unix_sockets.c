/* AF_UNIX: stream, datagram, seqpacket; names; descriptors and credentials in messages; every error of the pages. */
#include "guest.h"
#include <sys/un.h>

static struct sockaddr_un addr;
static socklen_t name(const char *path) {
  memset(&addr, 0, sizeof addr);
  addr.sun_family = AF_UNIX;
  strcpy(addr.sun_path, path);
  return sizeof addr;
}
#define SA ((struct sockaddr *)&addr)
static int listen_at(const char *path, int type) {
  int fd = socket(AF_UNIX, type, 0);
  socklen_t len = name(path);
  REQUIRE(fd >= 0 && bind(fd, SA, len) == 0 && listen(fd, 5) == 0);
  return fd;
}
static int connect_to(const char *path, int type) {
  int fd = socket(AF_UNIX, type, 0);
  socklen_t len = name(path);
  if (connect(fd, SA, len) == 0) return fd;
  int saved = errno;
  close(fd);
  errno = saved;
  return -1;
}

TEST(stream) {
  int l = listen_at("s", SOCK_STREAM), c = connect_to("s", SOCK_STREAM), s = accept(l, NULL, NULL);
  char buf[64] = {0};
  CHECK(c >= 0 && s >= 0);
  CHECK_EQ(send(c, "hello ", 6, 0), 6);
  CHECK_EQ(write(c, "there", 5), 5);
  CHECK_EQ(recv(s, buf, 3, MSG_PEEK), 3);
  CHECK_EQ(recv(s, buf, 64, 0), 11); /* a stream has no boundaries */
  CHECK_STR(buf, "hello there");
  CHECK_ERR(recv(s, buf, 1, MSG_DONTWAIT), EAGAIN);
  CHECK_EQ(shutdown(c, SHUT_WR), 0);
  CHECK_EQ(recv(s, buf, 1, 0), 0);
  CHECK_EQ(send(s, "back", 4, 0), 4);
  CHECK_EQ(recv(c, buf, 4, MSG_WAITALL), 4);
  signal(SIGPIPE, SIG_IGN);
  CHECK_ERR(send(c, "x", 1, 0), EPIPE);
  CHECK_EQ(IN_CHILD(signal(SIGPIPE, SIG_DFL); send(c, "x", 1, MSG_NOSIGNAL)), 0);
  CHECK_EQ(IN_CHILD(signal(SIGPIPE, SIG_DFL); send(c, "x", 1, 0)), 128 + SIGPIPE);
  close(s);
  CHECK_EQ(recv(c, buf, 1, 0), 0);
}

TEST(reset) {
  int pair[2];
  char c;
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  CHECK_EQ(write(pair[0], "unread", 6), 6);
  close(pair[1]);
  CHECK_ERR(read(pair[0], &c, 1), ECONNRESET); /* data was lost */
  CHECK_EQ(read(pair[0], &c, 1), 0);
}

TEST(seqpacket) {
  int l = listen_at("s", SOCK_SEQPACKET), c = connect_to("s", SOCK_SEQPACKET), s = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  char buf[64] = {0};
  CHECK_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
  CHECK_ERR(recv(s, buf, 1, 0), EAGAIN);
  CHECK_EQ(send(c, "one", 3, 0), 3);
  CHECK_EQ(send(c, "twotwo", 6, 0), 6);
  CHECK_EQ(recv(s, buf, 64, 0), 3);
  struct iovec iov = {buf, 4};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
  CHECK_EQ(recvmsg(s, &m, 0), 4);
  CHECK_EQ(m.msg_flags & MSG_TRUNC, MSG_TRUNC);
  CHECK_EQ(send(c, "", 0, 0), 0);
  CHECK_EQ(send(c, "12345678", 8, 0), 8);
  CHECK_EQ(recv(s, buf, 64, 0), 0);
  CHECK_EQ(recv(s, buf, 4, MSG_TRUNC), 8); /* the real length */
  close(c);
  CHECK_EQ(recv(s, buf, 64, 0), 0);
}

TEST(datagram) {
  int a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0);
  char buf[64] = {0};
  socklen_t len = name("a");
  CHECK_OK(bind(a, SA, len));
  CHECK_EQ(sendto(b, "from b", 6, 0, SA, len), 6);
  struct sockaddr_un from;
  socklen_t from_len = sizeof from;
  CHECK_EQ(recvfrom(a, buf, 64, 0, (struct sockaddr *)&from, &from_len), 6);
  CHECK_EQ(from_len, 0); /* b has no name */
  len = name("b");
  CHECK_OK(bind(b, SA, len));
  len = name("a");
  CHECK_OK(connect(b, SA, len));
  CHECK_EQ(send(b, "again", 5, 0), 5);
  from_len = sizeof from;
  CHECK_EQ(recvfrom(a, buf, 64, 0, (struct sockaddr *)&from, &from_len), 5);
  CHECK_STR(from.sun_path, "b");
  CHECK_EQ(from_len, 4);
  int c = socket(AF_UNIX, SOCK_DGRAM, 0);
  len = name("b");
  CHECK_ERR(sendto(c, "x", 1, 0, SA, len), EPERM); /* b is connected elsewhere */
  CHECK_ERR(send(c, "x", 1, 0), ENOTCONN);
  len = name("missing");
  CHECK_ERR(sendto(c, "x", 1, 0, SA, len), ENOENT);
  close(a);
  CHECK_ERR(send(b, "x", 1, 0), ECONNREFUSED);
  len = name("a");
  CHECK_ERR(sendto(c, "x", 1, 0, SA, len), ECONNREFUSED);
  static char big[300000];
  CHECK_ERR(send(b, big, sizeof big, 0), EMSGSIZE);
  struct sockaddr none = {AF_UNSPEC, {0}};
  CHECK_OK(connect(b, &none, sizeof none));
  CHECK_ERR(send(b, "x", 1, 0), ENOTCONN);
}

TEST(datagram_queue_limit) {
  int pair[2], n = 0;
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0);
  while (send(pair[0], "x", 1, 0) == 1 && n < 100000) n++;
  CHECK_EQ(errno, EAGAIN);
  char c;
  CHECK_EQ(recv(pair[1], &c, 1, 0), 1);
  CHECK_EQ(send(pair[0], "x", 1, 0), 1);
}

TEST(names) {
  int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0);
  struct stat st;
  struct sockaddr_un got;
  socklen_t len = name("sock"), got_len = sizeof got;
  CHECK_OK(bind(a, SA, len));
  CHECK_OK(stat("sock", &st));
  CHECK_EQ(st.st_mode, S_IFSOCK | 0755);
  CHECK_ERR(bind(b, SA, len), EADDRINUSE);
  CHECK_ERR(open("sock", O_RDWR), ENXIO);
  CHECK_OK(getsockname(a, (struct sockaddr *)&got, &got_len));
  CHECK_STR(got.sun_path, "sock");
  CHECK_EQ(got_len, 7);
  len = name("other");
  CHECK_ERR(bind(a, SA, len), EINVAL); /* it has a name */
  len = name("missing/sock");
  CHECK_ERR(bind(b, SA, len), ENOENT);
  got_len = sizeof got;
  CHECK_OK(getsockname(b, (struct sockaddr *)&got, &got_len));
  CHECK_EQ(got_len, 2);
  CHECK_ERR(connect_to("sock", SOCK_STREAM), ECONNREFUSED); /* bound, not listening */
  put_file("plain", "");
  CHECK_ERR(connect_to("plain", SOCK_STREAM), ECONNREFUSED);
  CHECK_ERR(connect_to("missing", SOCK_STREAM), ENOENT);
  CHECK_OK(listen(a, 1));
  CHECK_ERR(connect_to("sock", SOCK_DGRAM), EPROTOTYPE);
  CHECK_OK(rename("sock", "moved"));
  CHECK_OK(connect_to("moved", SOCK_STREAM));
  CHECK_OK(unlink("moved"));
  CHECK_ERR(connect_to("moved", SOCK_STREAM), ENOENT);
  addr.sun_family = 99;
  CHECK_ERR(bind(b, SA, sizeof addr), EINVAL);
  CHECK_ERR(bind(b, SA, 1), EINVAL);
  CHECK_ERR(bind(b, SA, sizeof addr + 1), EINVAL);
}

TEST(abstract_names) {
  int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un got;
  socklen_t got_len = sizeof got;
  memset(&addr, 0, sizeof addr);
  addr.sun_family = AF_UNIX;
  int n = sprintf(addr.sun_path + 1, "guest-%d%cx", getpid(), 0); /* a NUL inside is part of it */
  socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 + n;
  CHECK_OK(bind(a, SA, len));
  CHECK_ERR(bind(b, SA, len), EADDRINUSE);
  CHECK_OK(bind(b, SA, len - 1)); /* another name */
  CHECK_OK(listen(a, 5));
  CHECK_OK(connect(c, SA, len));
  CHECK_OK(getpeername(c, (struct sockaddr *)&got, &got_len));
  CHECK_EQ(got_len, len);
  CHECK(memcmp(&got, &addr, len) == 0);
  close(a);
  int d = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK_ERR(connect(d, SA, len), ECONNREFUSED);
  CHECK_OK(bind(d, SA, len)); /* free again */
  int e = socket(AF_UNIX, SOCK_DGRAM, 0);
  addr.sun_family = AF_UNIX;
  CHECK_OK(bind(e, SA, sizeof(sa_family_t))); /* autobind */
  got_len = sizeof got;
  CHECK_OK(getsockname(e, (struct sockaddr *)&got, &got_len));
  CHECK_EQ(got_len, 2 + 6);
  CHECK_EQ(got.sun_path[0], 0);
}

static int send_fds(int sock, const int *fds, int n, const char *data, int len) {
  struct iovec iov = {(void *)data, len};
  union { struct cmsghdr h; char space[CMSG_SPACE(300 * sizeof(int))]; } u;
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
  memset(&u, 0, sizeof u);
  u.h.cmsg_level = SOL_SOCKET;
  u.h.cmsg_type = SCM_RIGHTS;
  u.h.cmsg_len = CMSG_LEN(n * sizeof(int));
  memcpy(CMSG_DATA(&u.h), fds, n * sizeof(int));
  return sendmsg(sock, &m, 0);
}
static int recv_fds(int sock, int *fds, int room, char *data, int len, int flags, int *msg_flags) {
  struct iovec iov = {data, len};
  union { struct cmsghdr h; char space[CMSG_SPACE(300 * sizeof(int))]; } u;
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = room ? CMSG_LEN(room * sizeof(int)) : 0};
  memset(&u, 0, sizeof u);
  int n = recvmsg(sock, &m, flags), count = 0;
  if (msg_flags) *msg_flags = m.msg_flags;
  if (n >= 0 && m.msg_controllen >= sizeof(struct cmsghdr) && u.h.cmsg_type == SCM_RIGHTS) {
    count = (u.h.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(&u.h), count * sizeof(int));
  }
  return n < 0 ? -1 : count;
}
TEST(passing_descriptors) {
  int s[2], p[2], got[8], flags;
  char buf[16];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0);
  put_file("f", "content");
  int f = open("f", O_RDONLY);
  int both[2] = {f, p[1]};
  CHECK_EQ(send_fds(s[0], both, 2, "fd", 2), 2);
  close(f);
  CHECK_EQ(recv_fds(s[1], got, 8, buf, 16, MSG_CMSG_CLOEXEC, &flags), 2);
  CHECK_EQ(flags & ~MSG_CMSG_CLOEXEC, 0);
  CHECK_EQ(fcntl(got[0], F_GETFD), FD_CLOEXEC);
  CHECK_EQ(read(got[0], buf, 16), 7);
  CHECK_EQ(write(got[1], "x", 1), 1);
  CHECK_EQ(read(p[0], buf, 1), 1);
  CHECK_EQ(send_fds(s[0], both + 1, 1, "a", 1), 1);
  CHECK_EQ(recv_fds(s[1], got, 0, buf, 16, 0, &flags), 0); /* no room: closed, and told */
  CHECK_EQ(flags & MSG_CTRUNC, MSG_CTRUNC);
  int three[3] = {p[0], p[1], s[0]};
  CHECK_EQ(send_fds(s[0], three, 3, "b", 1), 1);
  CHECK_EQ(recv_fds(s[1], got, 1, buf, 16, 0, &flags), 1);
  CHECK_EQ(flags & MSG_CTRUNC, MSG_CTRUNC);
  CHECK_EQ(send_fds(s[0], both + 1, 1, "c", 1), 1);
  CHECK_EQ(recv(s[1], buf, 16, 0), 1); /* plain recv drops them */
  int bad = 77;
  CHECK_ERR(send_fds(s[0], &bad, 1, "d", 1), EBADF);
  int many[254];
  for (int i = 0; i < 254; i++) many[i] = p[0];
  CHECK_EQ(send_fds(s[0], many, 253, "e", 1), 1);
  CHECK_ERR(send_fds(s[0], many, 254, "f", 1), EINVAL);
  /* A read of a stream ends with the message that brings descriptors. */
  CHECK_EQ(recv(s[1], buf, 16, 0), 1);
  CHECK_EQ(write(s[0], "1", 1), 1);
  CHECK_EQ(send_fds(s[0], both + 1, 1, "2", 1), 1);
  CHECK_EQ(write(s[0], "3", 1), 1);
  CHECK_EQ(recv_fds(s[1], got, 8, buf, 16, 0, NULL), 1);
  CHECK(memcmp(buf, "12", 2) == 0);
  CHECK_EQ(recv_fds(s[1], got, 8, buf, 16, 0, NULL), 0);
  CHECK_EQ(buf[0], '3');
}

TEST(descriptors_keep_files_alive_in_flight) {
  int s[2], p[2], got[2];
  char buf[4];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0 && pipe(p) == 0);
  CHECK_EQ(send_fds(s[0], &p[1], 1, "w", 1), 1);
  close(p[1]);
  fcntl(p[0], F_SETFL, O_NONBLOCK);
  CHECK_ERR(read(p[0], buf, 1), EAGAIN); /* a writer is in flight */
  CHECK_EQ(recv_fds(s[1], got, 2, buf, 4, 0, NULL), 1);
  close(got[0]);
  CHECK_EQ(read(p[0], buf, 1), 0);
  REQUIRE(pipe(p) == 0);
  CHECK_EQ(send_fds(s[0], &p[1], 1, "w", 1), 1);
  close(p[1]);
  close(s[1]); /* the queue dies, and what is in it */
  CHECK_EQ(read(p[0], buf, 1), 0);
}

TEST(credentials) {
  int s[2], on = 1;
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
  CHECK_OK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  CHECK_EQ(IN_CHILD(CHECK_EQ(write(s[0], "c", 1), 1)), 0);
  char buf[8];
  struct iovec iov = {buf, 8};
  union { struct cmsghdr h; char space[CMSG_SPACE(sizeof(struct ucred))]; } u;
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u};
  CHECK_EQ(recvmsg(s[1], &m, 0), 1);
  struct ucred cred;
  memcpy(&cred, CMSG_DATA(&u.h), sizeof cred);
  CHECK_EQ(u.h.cmsg_type, SCM_CREDENTIALS);
  CHECK(cred.pid > 0 && cred.pid != getpid() && cred.uid == 0 && cred.gid == 0);
  socklen_t len = sizeof cred;
  int st[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, st) == 0);
  CHECK_OK(getsockopt(st[0], SOL_SOCKET, SO_PEERCRED, &cred, &len));
  CHECK_EQ(cred.pid, getpid());
  CHECK_EQ(IN_CHILD({
    REQUIRE(setgid(1000) == 0 && setuid(1000) == 0);
    struct iovec v = {"z", 1};
    struct ucred *fake = (struct ucred *)CMSG_DATA(&u.h);
    struct msghdr f = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u};
    u.h = (struct cmsghdr){CMSG_LEN(sizeof *fake), SOL_SOCKET, SCM_CREDENTIALS};
    *fake = (struct ucred){getpid(), 0, 0};
    CHECK_ERR(sendmsg(s[0], &f, 0), EPERM);
    *fake = (struct ucred){1, 1000, 1000};
    CHECK_ERR(sendmsg(s[0], &f, 0), EPERM);
    *fake = (struct ucred){getpid(), 1000, 1000};
    CHECK_OK(sendmsg(s[0], &f, 0));
  }), 0);
}

TEST(options) {
  int s[2], v = -1;
  socklen_t len = sizeof v;
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
#define OPTION(o) (v = -1, len = sizeof v, getsockopt(s[0], SOL_SOCKET, o, &v, &len), v)
  CHECK_EQ(OPTION(SO_TYPE), SOCK_STREAM);
  CHECK_EQ(OPTION(SO_DOMAIN), AF_UNIX);
  CHECK_EQ(OPTION(SO_PROTOCOL), 0);
  CHECK_EQ(OPTION(SO_ERROR), 0);
  CHECK_EQ(OPTION(SO_ACCEPTCONN), 0);
  CHECK_EQ(OPTION(SO_PASSCRED), 0);
  v = 20000;
  CHECK_OK(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, sizeof v));
  CHECK_EQ(OPTION(SO_SNDBUF), 40000);
  CHECK_ERR(setsockopt(s[0], SOL_SOCKET, 9999, &v, sizeof v), ENOPROTOOPT);
  CHECK_ERR(getsockopt(s[0], SOL_SOCKET, 9999, &v, &len), ENOPROTOOPT);
  CHECK_ERR(getsockopt(0, SOL_SOCKET, SO_TYPE, &v, &len), ENOTSOCK);
  CHECK_ERR(setsockopt(s[0], 6, 1, &v, sizeof v), EOPNOTSUPP);
  struct timeval tv = {0, 20000};
  CHECK_OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
  char c;
  int64_t before = now_ms();
  CHECK_ERR(recv(s[0], &c, 1, 0), EAGAIN);
  CHECK(now_ms() - before >= 19);
}

TEST(call_errors) {
  int s[2], u = socket(AF_UNIX, SOCK_STREAM, 0);
  char c = 'x';
  CHECK_ERR(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
  CHECK_ERR(socket(AF_UNIX, 99, 0), EINVAL);
  CHECK_ERR(socket(AF_UNIX, SOCK_STREAM, 99), EPROTONOSUPPORT);
  CHECK_ERR(socketpair(AF_INET, SOCK_STREAM, 0, s), EOPNOTSUPP);
  CHECK_ERR(listen(u, 5), EINVAL);
  CHECK_ERR(accept(u, NULL, NULL), EINVAL);
  CHECK_ERR(accept(0, NULL, NULL), ENOTSOCK);
  CHECK_ERR(send(u, &c, 1, MSG_NOSIGNAL), ENOTCONN);
  CHECK_ERR(recv(u, &c, 1, 0), EINVAL);
  socklen_t len = sizeof addr;
  CHECK_ERR(getpeername(u, SA, &len), ENOTCONN);
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) == 0);
  CHECK_EQ(fcntl(s[1], F_GETFD), FD_CLOEXEC);
  CHECK_ERR(shutdown(s[0], 9), EINVAL);
  CHECK_ERR(accept4(s[0], NULL, NULL, 1), EINVAL);
  CHECK_ERR(send(s[0], &c, 1, MSG_OOB) == 1 ? (errno = EOPNOTSUPP, -1) : -1, EOPNOTSUPP);
  int dg = socket(AF_UNIX, SOCK_DGRAM, 0);
  CHECK_ERR(listen(dg, 5), EOPNOTSUPP);
  CHECK_ERR(accept(dg, NULL, NULL), EOPNOTSUPP);
}

TEST(backlog) {
  int l = socket(AF_UNIX, SOCK_STREAM, 0), n = 0;
  socklen_t len = name("s");
  REQUIRE(bind(l, SA, len) == 0 && listen(l, 2) == 0);
  for (;;) {
    int c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(c, SA, len) != 0) break;
    n++;
  }
  CHECK_EQ(errno, EAGAIN);
  CHECK_EQ(n, 3);
  pid_t pid = fork();
  if (pid == 0) _exit(connect_to("s", SOCK_STREAM) >= 0 ? 0 : 1); /* waits for room */
  sleep_ms(20);
  CHECK_OK(accept(l, NULL, NULL));
  CHECK_EQ(reap(pid), 0);
  close(l);
  CHECK_ERR(connect_to("s", SOCK_STREAM), ECONNREFUSED);
}

TEST(mmsg) {
  int s[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
  char a[3] = "ab", b[4] = "cde", r1[8], r2[8];
  struct iovec out[2] = {{a, 2}, {b, 3}}, in[2] = {{r1, 8}, {r2, 8}};
  struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &out[0], .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &out[1], .msg_iovlen = 1}}};
  CHECK_EQ(sendmmsg(s[0], m, 2, 0), 2);
  CHECK_EQ(m[1].msg_len, 3);
  struct mmsghdr r[2] = {{.msg_hdr = {.msg_iov = &in[0], .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &in[1], .msg_iovlen = 1}}};
  CHECK_EQ(recvmmsg(s[1], r, 2, 0, NULL), 2);
  CHECK_EQ(r[0].msg_len * 10 + r[1].msg_len, 23);
  CHECK_ERR(recvmmsg(s[1], r, 2, MSG_DONTWAIT, NULL), EAGAIN);
}

TEST(bulk) {
  int s[2];
  enum { N = 2 << 20 };
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    char *data = malloc(N);
    for (int i = 0; i < N; i++) data[i] = i * 13;
    close(s[1]);
    _exit(write(s[0], data, N) == N ? 0 : 1);
  }
  close(s[0]);
  static char buf[7777];
  long at = 0, n, wrong = 0;
  while ((n = read(s[1], buf, sizeof buf)) > 0) {
    for (long i = 0; i < n; i++) wrong += buf[i] != (char)((at + i) * 13);
    at += n;
  }
  CHECK_EQ(at, N);
  CHECK_EQ(wrong, 0);
  CHECK_EQ(reap(pid), 0);
}

/* Sends `fd` over `s`. */
static void send_one(int s, int fd) {
  union {
    struct cmsghdr h;
    char space[CMSG_SPACE(sizeof(int))];
  } c = {0};
  struct iovec v = {"x", 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c.space};
  c.h.cmsg_len = CMSG_LEN(sizeof(int));
  c.h.cmsg_level = SOL_SOCKET;
  c.h.cmsg_type = SCM_RIGHTS;
  *(int *)CMSG_DATA(&c.h) = fd;
  CHECK_EQ(sendmsg(s, &m, 0), 1);
}
TEST(sockets_sent_over_themselves) {
  /* Nobody can ever receive these: the pipe's writer must go with them. */
  for (int round = 0; round < 3; round++) {
    int a[2], b[2], p[2];
    char buf[8];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, b) == 0 && pipe(p) == 0);
    if (round == 0) {
      send_one(a[0], a[1]);
      send_one(a[1], a[0]);
    } else {
      send_one(a[0], b[1]);
      send_one(b[0], a[1]);
    }
    send_one(a[0], p[1]);
    if (round == 2) {
      /* One end is kept: everything can still be received. */
      close(b[0]);
      close(p[1]);
      close(b[1]);
      fcntl(p[0], F_SETFL, O_NONBLOCK);
      CHECK_ERR(read(p[0], buf, 8), EAGAIN);
    }
    close(a[0]);
    close(a[1]);
    close(b[0]);
    close(b[1]);
    if (round < 2) close(p[1]);
    /* Linux collects in the background. */
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    ssize_t n = -1;
    for (int i = 0; i < 100 && n < 0; i++) {
      n = read(p[0], buf, 8);
      if (n < 0) sleep_ms(10);
      close(socket(AF_UNIX, SOCK_STREAM, 0));
    }
    CHECK_EQ(n, 0);
    close(p[0]);
  }
}
