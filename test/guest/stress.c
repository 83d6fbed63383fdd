/* Numbers: many processes, threads, descriptors, timers, files and messages at once, and loops that would show a leak. */
#define GUEST_SECONDS 60
#include "guest.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

TEST(children_at_once) {
  enum { N = 150 };
  static pid_t pids[N];
  int fds[2], alive = 0;
  REQUIRE(pipe(fds) == 0);
  for (int i = 0; i < N; i++) {
    if ((pids[i] = fork()) == 0) {
      char c;
      close(fds[1]);
      _exit(read(fds[0], &c, 1) == 0 ? i & 63 : 100);
    }
    alive += pids[i] > 0;
  }
  CHECK_EQ(alive, N);
  close(fds[1]); /* all wake at once */
  long sum = 0;
  for (int i = 0; i < N; i++) sum += reap(pids[i]) == (i & 63);
  CHECK_EQ(sum, N);
}

TEST(token_round_a_ring) {
  enum { N = 40, ROUNDS = 10 };
  int first[2], from, to[2];
  REQUIRE(pipe(first) == 0);
  from = first[0];
  for (int i = 0; i < N; i++) {
    REQUIRE(pipe(to) == 0);
    if (fork() == 0) {
      close(to[0]), close(first[1]);
      unsigned v;
      while (read(from, &v, sizeof v) == sizeof v) {
        v++;
        if (write(to[1], &v, sizeof v) != sizeof v) break;
      }
      _exit(0);
    }
    close(from), close(to[1]);
    from = to[0];
  }
  unsigned v = 0;
  for (int i = 0; i < ROUNDS; i++) {
    CHECK_EQ(write(first[1], &v, sizeof v), sizeof v);
    CHECK_EQ(read(from, &v, sizeof v), sizeof v);
  }
  CHECK_EQ(v, N * ROUNDS);
  close(first[1]);
  while (wait(NULL) > 0) continue;
}

TEST(forks_one_after_another) {
  int good = 0;
  for (int i = 0; i < 1000; i++) good += IN_CHILD(_exit(i & 63)) == (i & 63);
  CHECK_EQ(good, 1000);
}

static void *add(void *arg) {
  __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
  return NULL;
}
TEST(threads_one_after_another) {
  int n = 0;
  for (int i = 0; i < 1500; i++) {
    pthread_t t;
    REQUIRE(pthread_create(&t, NULL, add, &n) == 0);
    pthread_join(t, NULL);
  }
  CHECK_EQ(n, 1500);
}

static pthread_barrier_t all;
static void *meet(void *arg) {
  pthread_barrier_wait(&all);
  return add(arg);
}
TEST(threads_at_once) {
  enum { N = 300 };
  static pthread_t t[N];
  int n = 0;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 65536);
  pthread_barrier_init(&all, NULL, N);
  for (int i = 0; i < N; i++) REQUIRE(pthread_create(&t[i], &attr, meet, &n) == 0);
  for (int i = 0; i < N; i++) pthread_join(t[i], NULL);
  CHECK_EQ(n, N);
}

TEST(descriptors) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max < 5000 ? limit.rlim_max : 5000;
  setrlimit(RLIMIT_NOFILE, &limit);
  static int fds[5000];
  int n = limit.rlim_cur - 20, ep = epoll_create1(0), ready = 0;
  for (int i = 0; i < n; i++) {
    int last = fds[i] = eventfd(i % 100 == 0, EFD_NONBLOCK);
    REQUIRE(last >= 0);
    struct epoll_event e = {.events = EPOLLIN};
    REQUIRE(epoll_ctl(ep, EPOLL_CTL_ADD, last, &e) == 0);
  }
  static struct epoll_event got[5000];
  ready = epoll_wait(ep, got, 5000, 0);
  CHECK_EQ(ready, (n + 99) / 100);
  static struct pollfd set[5000];
  for (int i = 0; i < n; i++) set[i] = (struct pollfd){fds[i], POLLIN, 0};
  CHECK_EQ(poll(set, n, 0), ready);
}

TEST(timers) {
  enum { N = 400 };
  static int fds[N];
  int ep = epoll_create1(0), fired = 0;
  for (int i = 0; i < N; i++) {
    fds[i] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec t = {{0, 0}, {0, (1 + (i * 37) % 100) * 1000000}};
    REQUIRE(timerfd_settime(fds[i], 0, &t, NULL) == 0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fds[i]};
    epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e);
  }
  while (fired < N) {
    struct epoll_event e;
    if (epoll_wait(ep, &e, 1, 3000) != 1) break;
    uint64_t v;
    if (read(e.data.fd, &v, 8) == 8 && v == 1) fired++;
  }
  CHECK_EQ(fired, N);
}

TEST(files) {
  char name[32];
  struct stat st;
  int n = 0;
  for (int i = 0; i < 3000; i++) {
    sprintf(name, "file-%d", i);
    int fd = open(name, O_CREAT | O_WRONLY | O_EXCL, 0644);
    REQUIRE(fd >= 0);
    if (write(fd, name, strlen(name)) > 0) n++;
    close(fd);
  }
  CHECK_EQ(n, 3000);
  DIR *d = opendir(".");
  for (struct dirent *e; (e = readdir(d));) n -= e->d_name[0] == 'f';
  closedir(d);
  CHECK_EQ(n, 0);
  for (int i = 0; i < 3000; i += 2) {
    sprintf(name, "file-%d", i);
    CHECK_OK(stat(name, &st));
    CHECK_OK(unlink(name));
  }
  for (int i = 1; i < 3000; i += 2) {
    char to[32];
    sprintf(name, "file-%d", i);
    sprintf(to, "moved-%d", i);
    CHECK_OK(rename(name, to));
    CHECK_OK(unlink(to));
  }
}

TEST(mappings) {
  enum { N = 2000 };
  static char *p[N];
  for (int i = 0; i < N; i++) {
    p[i] = mmap(NULL, 4096, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p[i] != MAP_FAILED);
    if (i & 1) *p[i] = 1;
  }
  CHECK_EQ(IN_CHILD(for (int i = 1; i < N; i += 2) CHECK_EQ(*p[i], 1)), 0);
  for (int i = 0; i < N; i += 3) CHECK_OK(munmap(p[i], 4096));
  for (int i = 0; i < N; i++)
    if (i % 3) CHECK_OK(munmap(p[i], 4096));
}

TEST(calls_in_a_loop) {
  long sum = 0;
  pid_t me = getpid();
  for (int i = 0; i < 60000; i++) sum += syscall(SYS_getpid) == me;
  CHECK_EQ(sum, 60000);
  int fds[2];
  char c = 'x';
  REQUIRE(pipe(fds) == 0);
  for (int i = 0; i < 10000; i++) {
    CHECK_EQ(write(fds[1], &c, 1), 1);
    CHECK_EQ(read(fds[0], &c, 1), 1);
  }
}

static int good_children;
static void *forks(void *arg) {
  for (int i = 0; i < 25; i++) {
    pid_t pid = fork();
    if (pid == 0) _exit(i);
    int status;
    if (waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == i) __atomic_add_fetch(&good_children, 1, __ATOMIC_SEQ_CST);
  }
  return arg;
}
/* Every thread forks and waits for its own, while others do the same. */
TEST(children_of_threads) {
  pthread_t t[8];
  for (int i = 0; i < 8; i++) pthread_create(&t[i], NULL, forks, NULL);
  for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
  CHECK_EQ(good_children, 200);
}

TEST(execs) {
  int good = 0;
  for (int i = 0; i < 60; i++) good += IN_CHILD(execl("/bin/true", "true", NULL)) == 0;
  CHECK_EQ(good, 60);
}
