/* Waiting for descriptors and processes in less usual ways: time left, signals, pidfds, FIFOs, shared descriptions. */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static void on_signal(int sig) { (void)sig; }
static void handle(int sig, int flags) {
  struct sigaction sa = {.sa_handler = on_signal, .sa_flags = flags};
  sigaction(sig, &sa, NULL);
}
static pid_t later_kill(int ms, int sig) {
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    sleep_ms(ms);
    kill(parent, sig);
    _exit(0);
  }
  return pid;
}
static void done(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) < 0) continue;
}

TEST(time_left) {
  int p[2];
  CHECK_OK(pipe(p));
  fd_set set;
  FD_ZERO(&set);
  FD_SET(p[0], &set);
  struct timeval tv = {5, 0};
  pid_t pid = fork();
  if (pid == 0) {
    sleep_ms(50);
    write(p[1], "x", 1);
    _exit(0);
  }
  CHECK_EQ(select(p[0] + 1, &set, NULL, NULL, &tv), 1);
  CHECK(tv.tv_sec == 4 && tv.tv_usec > 0);
  CHECK(FD_ISSET(p[0], &set));
  done(pid);
  struct timespec ts = {3, 0};
  struct pollfd pf = {p[0], POLLIN, 0};
  CHECK_EQ(syscall(SYS_ppoll, &pf, 1, &ts, NULL, 8), 1);
  CHECK(ts.tv_sec == 2 || (ts.tv_sec == 3 && ts.tv_nsec == 0));
  char c;
  read(p[0], &c, 1);
  ts = (struct timespec){0, 20000000};
  CHECK_EQ(syscall(SYS_ppoll, &pf, 1, &ts, NULL, 8), 0);
  CHECK(ts.tv_sec == 0 && ts.tv_nsec == 0);
  tv = (struct timeval){0, 0};
  FD_SET(p[0], &set);
  CHECK_EQ(select(p[0] + 1, &set, NULL, NULL, &tv), 0);
  CHECK(!FD_ISSET(p[0], &set));
  tv = (struct timeval){0, 2500000};
  handle(SIGUSR1, SA_RESTART);
  pid = later_kill(30, SIGUSR1);
  CHECK_ERR(select(0, NULL, NULL, NULL, &tv), EINTR);
  CHECK(tv.tv_sec == 2);
  done(pid);
}

TEST(select_bad) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(60, &set);
  struct timeval tv = {0, 0};
  CHECK_ERR(select(61, &set, NULL, NULL, &tv), EBADF);
  CHECK_ERR(select(-1, NULL, NULL, NULL, &tv), EINVAL);
  tv.tv_sec = -1;
  CHECK_ERR(select(0, NULL, NULL, NULL, &tv), EINVAL);
  tv = (struct timeval){0, -1};
  CHECK_ERR(select(0, NULL, NULL, NULL, &tv), EINVAL);
  struct timespec ts = {0, 1000000000};
  CHECK_ERR(pselect(0, NULL, NULL, NULL, &ts, NULL), EINVAL);
  struct pollfd p;
  CHECK_ERR(syscall(SYS_poll, &p, 100000000, 0), EINVAL);
  CHECK_ERR(syscall(SYS_ppoll, NULL, 0, &(struct timespec){0, 0}, &set, 4), EINVAL);
}

/* A stop and a continue do not end a poll, and do not make it longer. */
TEST(poll_restarts) {
  pid_t pid = fork();
  if (pid == 0) {
    int64_t start = now_ms();
    int r = poll(NULL, 0, 300);
    int64_t took = now_ms() - start;
    _exit(r == 0 && took >= 299 && took < 1500 ? 0 : 1);
  }
  sleep_ms(100);
  kill(pid, SIGSTOP);
  sleep_ms(50);
  kill(pid, SIGCONT);
  int status;
  CHECK_OK(waitpid(pid, &status, 0));
  CHECK_EQ(status, 0);
  pid = fork();
  if (pid == 0) {
    int ep = epoll_create1(0);
    struct epoll_event e;
    int r = epoll_wait(ep, &e, 1, 2000);
    _exit(r == -1 && errno == EINTR ? 0 : 1);
  }
  sleep_ms(100);
  kill(pid, SIGSTOP);
  sleep_ms(50);
  kill(pid, SIGCONT);
  CHECK_OK(waitpid(pid, &status, 0));
  CHECK_EQ(status, 0);
}

TEST(pidfd) {
  CHECK_ERR(syscall(SYS_pidfd_open, 0, 0), EINVAL);
  CHECK_ERR(syscall(SYS_pidfd_open, getpid(), 1), EINVAL);
  CHECK_ERR(syscall(SYS_pidfd_open, 4000000, 0), ESRCH);
  int gate[2];
  CHECK_OK(pipe(gate));
  pid_t pid = fork();
  if (pid == 0) {
    int fd = dup2(gate[1], 77);
    CHECK_EQ(fd, 77);
    char c;
    read(gate[0], &c, 1);
    _exit(5);
  }
  int fd = syscall(SYS_pidfd_open, pid, 0);
  REQUIRE(fd >= 0);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  struct pollfd p = {fd, POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 0), 0);
  sleep_ms(30);
  int theirs = syscall(SYS_pidfd_getfd, fd, 77, 0);
  CHECK(theirs >= 0);
  CHECK_ERR(syscall(SYS_pidfd_getfd, fd, 999, 0), EBADF);
  CHECK_ERR(syscall(SYS_pidfd_getfd, gate[0], 1, 0), EBADF);
  CHECK_EQ(write(theirs, "g", 1), 1);
  CHECK_EQ(poll(&p, 1, 2000), 1);
  CHECK_EQ(p.revents, POLLIN);
  siginfo_t info;
  CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED | WNOWAIT));
  CHECK_EQ(info.si_status, 5);
  CHECK_ERR(syscall(SYS_pidfd_getfd, fd, 77, 0), ESRCH);
  CHECK_OK(waitid(P_PIDFD, fd, &info, WEXITED));
  CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
  CHECK_ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
  CHECK_EQ(poll(&p, 1, 0), 1);
  char name[64];
  char path[64];
  sprintf(path, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(path, name, sizeof name - 1);
  name[n > 0 ? n : 0] = 0;
  CHECK_STR(name, "anon_inode:[pidfd]");
  char byte;
  CHECK_ERR(read(fd, &byte, 1), EINVAL);
}

TEST(pidfd_in_epoll) {
  pid_t pid = fork();
  if (pid == 0) {
    sleep_ms(40);
    _exit(0);
  }
  int fd = syscall(SYS_pidfd_open, pid, 0), ep = epoll_create1(0);
  struct epoll_event e = {EPOLLIN, {.u64 = 0x123456789abcdefull}};
  CHECK_OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
  memset(&e, 0, sizeof e);
  CHECK_EQ(epoll_wait(ep, &e, 1, 2000), 1);
  CHECK_EQ(e.events, EPOLLIN);
  CHECK_EQ(e.data.u64, 0x123456789abcdefll);
  done(pid);
}

TEST(fifo_open_is_interrupted) {
  CHECK_OK(mkfifo("f", 0600));
  handle(SIGALRM, 0);
  struct itimerval it = {{0, 0}, {0, 50000}};
  setitimer(ITIMER_REAL, &it, NULL);
  CHECK_ERR(open("f", O_RDONLY), EINTR);
  CHECK_ERR(open("f", O_WRONLY | O_NONBLOCK), ENXIO);
  pid_t pid = fork();
  if (pid == 0) {
    open("f", O_RDONLY);
    _exit(1);
  }
  sleep_ms(50);
  kill(pid, SIGKILL);
  done(pid);
  CHECK_ERR(open("f", O_WRONLY | O_NONBLOCK), ENXIO);
  int r = open("f", O_RDONLY | O_NONBLOCK), w = open("f", O_WRONLY | O_NONBLOCK);
  CHECK(r >= 0 && w >= 0);
  CHECK_EQ(write(w, "x", 1), 1);
  char c;
  CHECK_EQ(read(r, &c, 1), 1);
  CHECK_ERR(read(r, &c, 1), EAGAIN);
  close(w);
  CHECK_EQ(read(r, &c, 1), 0);
  struct pollfd p = {r, POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 0), 1);
  CHECK_EQ(p.revents, POLLHUP);
}

TEST(oneshot_and_modes) {
  int p[2], ep = epoll_create1(EPOLL_CLOEXEC);
  CHECK_OK(pipe(p));
  struct epoll_event e = {EPOLLIN | EPOLLONESHOT, {.u32 = 1}};
  CHECK_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
  write(p[1], "a", 1);
  CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
  CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
  write(p[1], "b", 1);
  CHECK_EQ(epoll_wait(ep, &e, 1, 10), 0);
  e.events = EPOLLIN | EPOLLET;
  CHECK_OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
  CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
  CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
  write(p[1], "c", 1);
  CHECK_EQ(epoll_wait(ep, &e, 1, 100), 1);
  close(p[1]);
  CHECK_EQ(epoll_wait(ep, &e, 1, 100), 1);
  CHECK_EQ(e.events, EPOLLIN | EPOLLHUP);
  struct timespec ts = {0, 1000};
  CHECK_EQ(syscall(SYS_epoll_pwait2, ep, &e, 1, &ts, NULL, 8), 0);
  ts.tv_nsec = 1000000000;
  CHECK_ERR(syscall(SYS_epoll_pwait2, ep, &e, 1, &ts, NULL, 8), EINVAL);
}

/* The same file by two numbers, and a number that was reused while a copy lives on. */
TEST(epoll_identity) {
  int p[2], ep = epoll_create1(0);
  CHECK_OK(pipe(p));
  int copy = dup(p[0]);
  struct epoll_event e = {EPOLLIN, {.u32 = 1}};
  CHECK_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
  e.data.u32 = 2;
  CHECK_OK(epoll_ctl(ep, EPOLL_CTL_ADD, copy, &e));
  write(p[1], "x", 1);
  struct epoll_event out[4];
  CHECK_EQ(epoll_wait(ep, out, 4, 0), 2);
  int old = p[0];
  close(p[0]);
  CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_DEL, old, NULL), EBADF);
  CHECK_EQ(epoll_wait(ep, out, 4, 0), 2);
  int other = eventfd(1, 0);
  CHECK_EQ(other, old);
  e.data.u32 = 3;
  CHECK_OK(epoll_ctl(ep, EPOLL_CTL_ADD, other, &e));
  CHECK_EQ(epoll_wait(ep, out, 4, 0), 3);
  close(copy);
  CHECK_EQ(epoll_wait(ep, out, 4, 0), 1);
  CHECK_EQ(out[0].data.u32, 3);
}

TEST(signalfd_follows_the_reader) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN + 1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int fd = signalfd(-1, &set, SFD_NONBLOCK);
  kill(getpid(), SIGUSR1);
  struct signalfd_siginfo info[4];
  pid_t pid = fork();
  if (pid == 0) {
    struct pollfd p = {fd, POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 0), 0);
    CHECK_ERR(read(fd, info, sizeof info), EAGAIN);
    union sigval v = {.sival_int = 42};
    sigqueue(getpid(), SIGRTMIN + 1, v);
    sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 43});
    CHECK_EQ(poll(&p, 1, 0), 1);
    CHECK_EQ(read(fd, info, sizeof info), 2 * sizeof info[0]);
    CHECK_EQ(info[0].ssi_int, 42);
    CHECK_EQ(info[1].ssi_int, 43);
    CHECK_EQ(info[1].ssi_code, SI_QUEUE);
    CHECK_EQ(info[1].ssi_pid, getpid());
    _exit(guest_failures);
  }
  int status;
  CHECK_OK(waitpid(pid, &status, 0));
  CHECK_EQ(status, 0);
  CHECK_EQ(read(fd, info, sizeof info), sizeof info[0]);
  CHECK_EQ(info[0].ssi_signo, SIGUSR1);
  CHECK_ERR(read(fd, info, 10), EINVAL);
  sigdelset(&set, SIGUSR1);
  CHECK_EQ(signalfd(fd, &set, 0), fd);
  kill(getpid(), SIGUSR1);
  CHECK_ERR(read(fd, info, sizeof info), EAGAIN);
}

TEST(timerfd_details) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  uint64_t ticks;
  CHECK_ERR(read(fd, &ticks, 4), EINVAL);
  CHECK_ERR(read(fd, &ticks, 8), EAGAIN);
  struct itimerspec it = {{0, 20000000}, {0, 20000000}}, old;
  CHECK_OK(timerfd_settime(fd, 0, &it, NULL));
  sleep_ms(110);
  CHECK_OK(timerfd_gettime(fd, &old));
  CHECK(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 20000000);
  CHECK_EQ(read(fd, &ticks, 8), 8);
  CHECK(ticks >= 5 && ticks <= 40);
  it = (struct itimerspec){{0, 0}, {0, 0}};
  CHECK_OK(timerfd_settime(fd, 0, &it, &old));
  CHECK_EQ(old.it_interval.tv_nsec, 20000000);
  CHECK_OK(timerfd_gettime(fd, &old));
  CHECK(old.it_value.tv_sec == 0 && old.it_value.tv_nsec == 0);
  it.it_value.tv_sec = 1; /* long ago */
  CHECK_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &it, NULL));
  struct pollfd p = {fd, POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 1000), 1);
  CHECK_EQ(read(fd, &ticks, 8), 8);
  CHECK_EQ(ticks, 1);
  it.it_value.tv_nsec = 1000000000;
  CHECK_ERR(timerfd_settime(fd, 0, &it, NULL), EINVAL);
  CHECK_ERR(timerfd_create(2, 0), EINVAL);
  CHECK_ERR(timerfd_settime(0, 0, &(struct itimerspec){0}, NULL), EINVAL);
  int rt = timerfd_create(CLOCK_REALTIME, 0);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  now.tv_nsec += 30000000;
  if (now.tv_nsec >= 1000000000) now.tv_sec++, now.tv_nsec -= 1000000000;
  it = (struct itimerspec){{0, 0}, now};
  CHECK_OK(timerfd_settime(rt, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &it, NULL));
  CHECK_EQ(read(rt, &ticks, 8), 8);
  CHECK_EQ(ticks, 1);
}

static void events(int fd) {
  char buf[4096];
  ssize_t n;
  while ((n = read(fd, buf, sizeof buf)) > 0)
    for (char *p = buf; p < buf + n;) {
      struct inotify_event *e = (void *)p;
      say("  wd %d mask %x cookie %d len %u %s", e->wd, e->mask, e->cookie != 0, e->len, e->len ? e->name : "-");
      p += sizeof *e + e->len;
    }
}

TEST(inotify_more) {
  mkdir("d", 0755);
  put_file("d/a", "x");
  int fd = inotify_init1(IN_NONBLOCK);
  CHECK_EQ(inotify_add_watch(fd, "d", IN_ALL_EVENTS), 1);
  CHECK_EQ(inotify_add_watch(fd, "d/a", IN_ALL_EVENTS), 2);
  CHECK_ERR(inotify_add_watch(fd, "d", IN_MASK_CREATE | IN_OPEN), EEXIST);
  CHECK_ERR(inotify_add_watch(fd, "d/a", IN_ONLYDIR | IN_OPEN), ENOTDIR);
  CHECK_ERR(inotify_add_watch(fd, "nothing", IN_OPEN), ENOENT);
  CHECK_ERR(inotify_add_watch(fd, "d", 0), EINVAL);
  CHECK_ERR(inotify_rm_watch(fd, 9), EINVAL);
  int f = open("d/a", O_RDWR);
  char c;
  read(f, &c, 1);
  write(f, "yz", 2);
  ftruncate(f, 1);
  fchmod(f, 0600);
  close(f);
  say("file");
  events(fd);
  rename("d/a", "d/b");
  say("rename");
  events(fd);
  link("d/b", "d/c");
  symlink("b", "d/s");
  mkdir("d/sub", 0755);
  rmdir("d/sub");
  unlink("d/c");
  say("names");
  events(fd);
  put_file("d/new", "data");
  rename("d/new", "d/b");
  say("replace");
  events(fd);
  CHECK_EQ(inotify_add_watch(fd, "d/b", IN_MODIFY | IN_ONESHOT), 3);
  put_file("d/b", "1");
  put_file("d/b", "22");
  say("oneshot");
  events(fd);
  int n = -1;
  f = open("d/b", O_RDONLY);
  CHECK_OK(ioctl(fd, FIONREAD, &n));
  say("  queued %d", n);
  char small[10];
  CHECK_ERR(read(fd, small, sizeof small), EINVAL);
  close(f);
  events(fd);
  unlink("d/b");
  unlink("d/s");
  rmdir("d");
  say("gone");
  events(fd);
}
