/* Socket options: defaults, what setting 1, 0, -1 or too little does, and what is read back. */
#include "guest.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char *name_of(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }

static void show(const char *kind, int fd, int level, int option, int with_values) {
  static const int values[] = {1, 0, -1, 70000};
  char text[512];
  int n = 0;
  unsigned char out[256] = {0};
  socklen_t len = sizeof out;
  int r = getsockopt(fd, level, option, out, &len);
  n += snprintf(text + n, sizeof text - n, "%s %d/%d: get %s", kind, level, option, name_of(r));
  if (r == 0) {
    n += snprintf(text + n, sizeof text - n, " len %d", len);
    if (with_values && len >= 4) n += snprintf(text + n, sizeof text - n, " = %d", *(int *)out);
  }
  len = 2;
  r = getsockopt(fd, level, option, out, &len);
  n += snprintf(text + n, sizeof text - n, ", 2 bytes %s %d", name_of(r), r == 0 ? (int)len : 0);
  r = setsockopt(fd, level, option, out, 0);
  n += snprintf(text + n, sizeof text - n, ", set nothing %s", name_of(r));
  for (int i = 0; i < 4; i++) {
    int v = values[i];
    r = setsockopt(fd, level, option, &v, sizeof v);
    n += snprintf(text + n, sizeof text - n, ", set %d %s", v, name_of(r));
    if (r < 0 || !with_values) continue;
    v = 0;
    len = sizeof v;
    if (getsockopt(fd, level, option, &v, &len) == 0) n += snprintf(text + n, sizeof text - n, " -> %d", v);
  }
  say("%s", text);
}

static int hidden(int level, int option) {
  /* Differ from run to run or from kernel to kernel. */
  if (level == SOL_SOCKET) {
    switch (option) {
      case SO_INCOMING_CPU: case SO_COOKIE: case SO_MEMINFO: case 71: case SO_PEERSEC: case SO_INCOMING_NAPI_ID:
        return 1;
    }
  }
  return level == IPPROTO_TCP && (option == TCP_INFO || option == TCP_CC_INFO);
}
static int skipped(int level, int option) {
  if (level == SOL_SOCKET) {
    /* Filters, busy polling and what newer kernels than ours have. */
    switch (option) {
      case SO_ATTACH_FILTER: case SO_DETACH_FILTER: case SO_ATTACH_BPF: case SO_ATTACH_REUSEPORT_CBPF:
      case SO_ATTACH_REUSEPORT_EBPF: case 68: case SO_BUSY_POLL: case 69: case 70: case 73: case SO_BPF_EXTENSIONS:
      case SO_TXTIME: case SO_BINDTOIFINDEX: case SO_BINDTODEVICE: case SO_PEERSEC: case SO_PASSSEC: case SO_TIMESTAMPING: case 65:
      case SO_PASSCRED: case SO_SNDBUF: case SO_RCVBUF: case SO_RCVLOWAT: case 74:
        return 1;
    }
    return option > 75;
  }
  if (level == IPPROTO_TCP) return option == TCP_INFO || option == TCP_CONGESTION || option == TCP_TIMESTAMP || option > TCP_NOTSENT_LOWAT || option == TCP_MD5SIG || (option >= 19 && option <= 22);
  if (level == IPPROTO_IP) return option >= 32 || option == 17 || option == 16 || option == 4 || option == 9 || option == IP_RECVFRAGSIZE;
  if (level == IPPROTO_IPV6) return 1;
  return 0;
}
static void all(const char *kind, int fd, int level) {
  for (int o = 0; o <= 80; o++)
    if (!skipped(level, o)) show(kind, fd, level, o, !hidden(level, o));
}

TEST(unix_stream) { all("unix-stream", socket(AF_UNIX, SOCK_STREAM, 0), SOL_SOCKET); }
TEST(unix_dgram) { all("unix-dgram", socket(AF_UNIX, SOCK_DGRAM, 0), SOL_SOCKET); }
TEST(tcp) {
  all("tcp", socket(AF_INET, SOCK_STREAM, 0), SOL_SOCKET);
  all("tcp", socket(AF_INET, SOCK_STREAM, 0), IPPROTO_IP);
  all("tcp", socket(AF_INET, SOCK_STREAM, 0), IPPROTO_TCP);
}
TEST(udp) {
  all("udp", socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET);
  all("udp", socket(AF_INET, SOCK_DGRAM, 0), IPPROTO_IP);
}
TEST(wrong_levels) {
  int u = socket(AF_UNIX, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_DGRAM, 0), six = socket(AF_INET6, SOCK_STREAM, 0);
  static const int levels[] = {IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6, IPPROTO_RAW, 270, 99999, -1};
  for (unsigned i = 0; i < sizeof levels / sizeof *levels; i++) {
    show("unix", u, levels[i], 1, 1);
    show("tcp", s, levels[i], 1000, 1);
    show("udp", d, levels[i], 1000, 1);
    show("tcp6", six, levels[i], 1000, 1);
  }
}
TEST(ipv6) {
  int s = socket(AF_INET6, SOCK_DGRAM, 0);
  static const int options[] = {IPV6_V6ONLY, IPV6_UNICAST_HOPS, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP, IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_TCLASS, IPV6_RECVERR, IPV6_DONTFRAG, IPV6_MTU_DISCOVER};
  for (unsigned i = 0; i < sizeof options / sizeof *options; i++) show("udp6", s, IPPROTO_IPV6, options[i], 1);
}
TEST(timeouts) {
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  static const struct timeval tries[] = {{1, 500000}, {0, 1}, {0, 0}, {1, 1000000}, {1, -1}, {-1, 0}, {100000, 999999}};
  for (int o = SO_RCVTIMEO; o <= SO_SNDTIMEO; o++)
    for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++) {
      struct timeval tv = tries[i];
      int r = setsockopt(s, SOL_SOCKET, o, &tv, sizeof tv);
      say("%d: set %ld.%ld %s", o, (long)tries[i].tv_sec, (long)tries[i].tv_usec, name_of(r));
      socklen_t len = sizeof tv;
      r = getsockopt(s, SOL_SOCKET, o, &tv, &len);
      /* Linux keeps jiffies: shown to 10 ms here. */
      say("%d: get %s %d %ld.%02ld", o, name_of(r), len, (long)tv.tv_sec, (long)tv.tv_usec / 10000);
    }
}
