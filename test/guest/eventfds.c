/* eventfd, timerfd, signalfd, inotify: descriptors that carry events. */
#include "guest.h"
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

TEST(eventfd_counter) {
  int fd = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC);
  uint64_t v;
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(read(fd, &v, 8), 8);
  CHECK_EQ(v, 3);
  CHECK_ERR(read(fd, &v, 8), EAGAIN);
  v = 0xfffffffffffffffe;
  CHECK_EQ(write(fd, &v, 8), 8);
  v = 1;
  CHECK_ERR(write(fd, &v, 8), EAGAIN);
  v = UINT64_MAX;
  CHECK_ERR(write(fd, &v, 8), EINVAL);
  CHECK_ERR(write(fd, &v, 7), EINVAL);
  CHECK_ERR(read(fd, &v, 7), EINVAL);
  CHECK_EQ(read(fd, &v, 8), 8);
  CHECK_EQ(v, 0xfffffffffffffffe);
  CHECK_ERR(eventfd(0, 0x100), EINVAL);
}
TEST(eventfd_semaphore) {
  int fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
  uint64_t v;
  for (int i = 0; i < 2; i++) {
    CHECK_EQ(read(fd, &v, 8), 8);
    CHECK_EQ(v, 1);
  }
  CHECK_ERR(read(fd, &v, 8), EAGAIN);
}
TEST(eventfd_blocks) {
  int fd = eventfd(0, 0);
  pid_t pid = fork();
  if (pid == 0) {
    sleep_ms(30);
    eventfd_write(fd, 9);
    _exit(0);
  }
  uint64_t v;
  CHECK_EQ(read(fd, &v, 8), 8);
  CHECK_EQ(v, 9);
  reap(pid);
}

TEST(timerfd_one_shot) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  struct itimerspec t = {{0, 0}, {0, 30000000}}, now;
  uint64_t n;
  CHECK_ERR(read(fd, &n, 8), EAGAIN);
  CHECK_OK(timerfd_settime(fd, 0, &t, NULL));
  CHECK_OK(timerfd_gettime(fd, &now));
  CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 30000000);
  struct pollfd p = {fd, POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 5000), 1);
  CHECK_EQ(read(fd, &n, 8), 8);
  CHECK_EQ(n, 1);
  CHECK_OK(timerfd_gettime(fd, &now));
  CHECK_EQ(now.it_value.tv_nsec + now.it_value.tv_sec, 0);
  CHECK_ERR(read(fd, &n, 4), EINVAL);
  CHECK_ERR(timerfd_create(99, 0), EINVAL);
  CHECK_ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
  CHECK_ERR(timerfd_settime(0, 0, &t, NULL), EINVAL);
  t.it_value.tv_nsec = 1000000000;
  CHECK_ERR(timerfd_settime(fd, 0, &t, NULL), EINVAL);
}
TEST(timerfd_interval_and_absolute) {
  int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  struct itimerspec t = {{0, 10000000}, {0, 10000000}}, old;
  uint64_t n;
  CHECK_OK(timerfd_settime(fd, 0, &t, NULL));
  sleep_ms(55);
  CHECK_EQ(read(fd, &n, 8), 8);
  CHECK(n >= 5 && n < 30);
  t = (struct itimerspec){{0, 0}, {0, 0}};
  CHECK_OK(timerfd_settime(fd, 0, &t, &old));
  CHECK_EQ(old.it_interval.tv_nsec, 10000000);
  int real = timerfd_create(CLOCK_REALTIME, 0);
  clock_gettime(CLOCK_REALTIME, &t.it_value);
  t.it_value.tv_sec -= 5;
  CHECK_OK(timerfd_settime(real, TFD_TIMER_ABSTIME, &t, NULL)); /* past: at once */
  CHECK_EQ(read(real, &n, 8), 8);
  CHECK_EQ(n, 1);
}

TEST(signalfd_reads) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, 40);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  struct signalfd_siginfo info[4];
  CHECK_ERR(read(fd, info, sizeof info), EAGAIN);
  kill(getpid(), SIGUSR1);
  sigqueue(getpid(), 40, (union sigval){.sival_int = 7});
  sigqueue(getpid(), 40, (union sigval){.sival_int = 8});
  CHECK_EQ(read(fd, info, sizeof info), 3 * sizeof *info);
  CHECK_EQ(info[0].ssi_signo, SIGUSR1);
  CHECK_EQ(info[0].ssi_pid, getpid());
  CHECK_EQ(info[0].ssi_code, SI_USER);
  CHECK_EQ(info[1].ssi_int * 10 + info[2].ssi_int, 78);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigprocmask(SIG_BLOCK, &set, NULL);
  CHECK_EQ(signalfd(fd, &set, 0), fd); /* changes the mask of the existing one */
  kill(getpid(), SIGUSR2);
  struct pollfd p = {fd, POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 0), 1);
  CHECK_EQ(read(fd, info, sizeof info), sizeof *info);
  CHECK_EQ(info[0].ssi_signo, SIGUSR2);
  CHECK_ERR(signalfd(0, &set, 0), EINVAL);
  CHECK_ERR(signalfd(-1, &set, 1), EINVAL);
  CHECK_ERR(read(fd, info, 10), EINVAL);
}
TEST(signalfd_child) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int fd = signalfd(-1, &set, 0);
  pid_t pid = fork();
  if (pid == 0) _exit(3);
  struct signalfd_siginfo info;
  CHECK_EQ(read(fd, &info, sizeof info), sizeof info);
  CHECK_EQ(info.ssi_pid, pid);
  CHECK_EQ(info.ssi_status, 3);
  CHECK_EQ(info.ssi_code, CLD_EXITED);
  CHECK_EQ(reap(pid), 3);
}

static void show_events(const char *name, int fd) {
  char buf[4096] __attribute__((aligned(8)));
  ssize_t n = read(fd, buf, sizeof buf);
  if (n < 0) {
    say("  %s: %s", name, strerrorname_np(errno));
    return;
  }
  uint32_t cookie = 0;
  for (char *p = buf; p < buf + n;) {
    struct inotify_event *e = (void *)p;
    say("  %s: wd %d mask %x %s%s", name, e->wd, e->mask, e->len ? e->name : "-", e->cookie ? (e->cookie == cookie ? " same cookie" : " cookie") : "");
    cookie = e->cookie;
    p += sizeof *e + e->len;
  }
}
TEST(inotify) {
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  mkdir("d", 0755);
  int wd = inotify_add_watch(fd, "d", IN_ALL_EVENTS);
  CHECK_EQ(wd, 1);
  show_events("nothing", fd);
  int f = open("d/f", O_RDWR | O_CREAT, 0600);
  CHECK_EQ(write(f, "x", 1), 1);
  char c;
  CHECK_EQ(pread(f, &c, 1, 0), 1);
  show_events("create, write, read", fd);
  fchmod(f, 0644);
  close(f);
  show_events("chmod, close", fd);
  rename("d/f", "d/g");
  show_events("rename", fd);
  rename("d/g", "out");
  show_events("moved out", fd);
  mkdir("d/sub", 0755);
  rmdir("d/sub");
  show_events("mkdir, rmdir", fd);
  int file = inotify_add_watch(fd, "out", IN_MODIFY | IN_DELETE_SELF | IN_ATTRIB);
  CHECK_OK(truncate("out", 0));
  unlink("out");
  show_events("file gone", fd);
  CHECK_ERR(inotify_rm_watch(fd, file), EINVAL);
  CHECK_OK(inotify_rm_watch(fd, wd));
  show_events("removed", fd);
  CHECK_ERR(inotify_add_watch(fd, "missing", IN_CREATE), ENOENT);
  CHECK_ERR(inotify_add_watch(fd, "d", 0), EINVAL);
  put_file("plain", "");
  CHECK_ERR(inotify_add_watch(fd, "plain", IN_CREATE | IN_ONLYDIR), ENOTDIR);
  CHECK_ERR(inotify_add_watch(0, "d", IN_CREATE), EINVAL);
  CHECK_ERR(inotify_init1(1), EINVAL);
}
