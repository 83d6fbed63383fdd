/*
 * read(2), pread(2), lseek(2) and close(2) of a file that is opened again and again: a sandbox may have its beginning ready
 * since the open, and may carry out what moved the position, or closed the descriptor, later. Nothing of that may show: not to
 * the process, not to others that look at its descriptors or change the file while it computes.
 */
#include "guest.h"
#include <linux/kcmp.h>
#include <sys/inotify.h>

#define AGAIN 20
#define TEXT "0123456789"

/* What a read of `size` gives, as a string; or the errno's name. */
static const char *got(int fd, size_t size) {
  static char text[64];
  ssize_t n = read(fd, text, size);
  if (n < 0) return strerrorname_np(errno);
  text[n] = 0;
  return text;
}

static int at(int fd) { return lseek(fd, 0, SEEK_CUR); }

/* So that the file is known to be read as soon as it is open. */
static void read_twice(const char *name) {
  for (int i = 0; i < 2; i++) {
    int fd = open(name, O_RDONLY);
    got(fd, 4);
    close(fd);
  }
}

TEST(reopened) {
  put_file("f", TEXT);
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    struct stat st;
    char byte[4];
    int fd = open("f", O_RDONLY);
    CHECK_STR(got(fd, 4), "0123");
    CHECK_EQ(pread(fd, byte, 2, 7), 2);
    CHECK_EQ(memcmp(byte, "78", 2), 0);
    CHECK_STR(got(fd, 4), "4567");
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_size, 10);
    CHECK_STR(got(fd, 40), "89");
    CHECK_STR(got(fd, 40), "");
    CHECK_EQ(pread(fd, byte, 4, 10), 0);
    CHECK_EQ(pread(fd, byte, 4, 11), 0);
    CHECK_ERR(pread(fd, byte, 4, -1), EINVAL);
    CHECK_EQ(at(fd), 10);
    CHECK_EQ(lseek(fd, 3, SEEK_SET), 3);
    CHECK_STR(got(fd, 2), "34");
    CHECK_EQ(close(fd), 0);
    CHECK_STR(got(fd, 2), "EBADF");
    CHECK_ERR(close(fd), EBADF);
    CHECK_EQ(open("f", O_RDONLY), fd);
    CHECK_EQ(close(fd), 0);
    CHECK_ERR(fstat(fd, &st), EBADF);
    CHECK_ERR(fcntl(fd, F_GETFD), EBADF);
    CHECK_EQ(open("f", O_RDONLY), fd);
    CHECK_STR(got(fd, 3), "012");
    CHECK_EQ(open("f", O_RDONLY), fd + 1);
    CHECK_STR(got(fd, 3), "345");
    CHECK_STR(got(fd + 1, 1), "0");
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(open("f", O_RDONLY | O_CLOEXEC), fd);
    CHECK_EQ(close(fd + 1) | close(fd), 0);
    CHECK_EQ(open("f", O_WRONLY), fd);
    CHECK_STR(got(fd, 3), "EBADF");
    CHECK_EQ(close(fd), 0);
    if (guest_failures != before) break;
  }
}

TEST(reopened_and_shared) {
  put_file("f", TEXT);
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    int fd = open("f", O_RDONLY);
    CHECK_STR(got(fd, 3), "012");
    int copy = dup(fd);
    CHECK_STR(got(copy, 2), "34");
    CHECK_STR(got(fd, 1), "5");
    CHECK_EQ(close(copy), 0);
    CHECK_STR(got(fd, 1), "6");
    CHECK_EQ(IN_CHILD(CHECK_STR(got(fd, 2), "78"); CHECK_EQ(close(fd), 0)), 0);
    CHECK_STR(got(fd, 2), "9");
    CHECK_EQ(close(fd), 0);
    fd = open("f", O_RDONLY);
    copy = dup(fd);
    CHECK_STR(got(fd, 3), "012");
    CHECK_EQ(close(fd), 0);
    CHECK_STR(got(copy, 3), "345");
    CHECK_EQ(close(copy), 0);
    if (guest_failures != before) break;
  }
}

TEST(reopened_and_large) {
  static char all[20000], part[20000];
  for (size_t i = 0; i < sizeof all; i++) all[i] = i * 7 + (i >> 8);
  int sizes[] = {8191, 8192, 8193, 20000};
  for (size_t s = 0; s < 4; s++) {
    int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK_EQ(write(fd, all, sizes[s]), sizes[s]);
    CHECK_EQ(close(fd), 0);
    for (int i = 0; i < 4; i++) {
      int chunk = i < 2 ? 1000 : i == 2 ? 8192 : 20000, done = 0, n;
      fd = open("f", O_RDONLY);
      while ((n = read(fd, part + done, chunk)) > 0) done += n;
      CHECK_EQ(done, sizes[s]);
      CHECK_EQ(memcmp(all, part, done), 0);
      CHECK_EQ(at(fd), sizes[s]);
      CHECK_EQ(close(fd), 0);
    }
  }
}

TEST(reopened_and_bad_arguments) {
  put_file("f", TEXT);
  char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQ(munmap(page + 4096, 4096), 0);
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    int fd = open("f", O_RDONLY);
    CHECK_ERR(read(fd, NULL, 4), EFAULT);
    CHECK_ERR(syscall(SYS_read, fd, -16L, 4), EFAULT);
    CHECK_ERR(syscall(SYS_read, fd, 0x7fff80001000, 4), EFAULT);
    CHECK_ERR(syscall(SYS_read, fd, 0x7fff7ffffffe, 4), EFAULT);
    CHECK_EQ(at(fd), 0);
    CHECK_EQ(read(fd, NULL, 0), 0);
    CHECK_EQ(close(fd), 0);
    fd = open("f", O_RDONLY);
    CHECK_EQ(read(fd, page + 4096 - 4, 10), 4);
    CHECK_STR(got(fd, 2), "45");
    CHECK_EQ(close(fd), 0);
    fd = open("f", O_RDONLY);
    CHECK_EQ(syscall(SYS_read, fd, page, 0x70000000L) == 10 || errno == EFAULT, 1);
    CHECK_EQ(close(fd), 0);
    if (guest_failures != before) break;
  }
}

/* What two processes share: whose turn it is, and what the second says. Waiting makes no call that a sandbox sees. */
static struct {
  volatile int turn, fd, stop;
  volatile long said[4];
} *both;

static void await(int turn) {
  while (both->turn != turn) sched_yield();
}
static void hand_over(int turn) {
  __sync_synchronize();
  both->turn = turn;
}

/* Forks a process that runs `other` each time that it is its turn. */
static pid_t beside(void (*other)(pid_t parent)) {
  pid_t parent = getpid(), child;
  both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if ((child = fork()) != 0) return child;
  for (;;) {
    await(1);
    if (both->stop) _exit(guest_failures != 0);
    other(parent);
    hand_over(2);
  }
}
static void end_beside(pid_t child) {
  int status;
  both->stop = 1;
  hand_over(1);
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}
static void let_other(void) {
  hand_over(1);
  await(2);
}

static void overwrite(pid_t parent) {
  int fd = open("f", O_WRONLY);
  CHECK_EQ(pwrite(fd, "abcd", 4, 0), 4);
  CHECK_EQ(close(fd), 0);
  (void)parent;
}
static void shorten(pid_t parent) {
  CHECK_EQ(truncate("f", 2), 0);
  (void)parent;
}
static void replace(pid_t parent) {
  put_file("g", "other");
  CHECK_EQ(rename("g", "f"), 0);
  (void)parent;
}

TEST(reopened_and_changed) {
  void (*const change[])(pid_t) = {overwrite, shorten, replace};
  const char *const want[] = {"abcd456789", "01", TEXT};
  for (int c = 0; c < 3; c++) {
    pid_t child = beside(change[c]);
    for (int i = 0; i < AGAIN; i++) {
      int before = guest_failures;
      put_file("f", TEXT);
      read_twice("f");
      int fd = open("f", O_RDONLY);
      let_other();
      CHECK_STR(got(fd, 40), want[c]);
      CHECK_EQ(at(fd), strlen(want[c]));
      CHECK_EQ(close(fd), 0);
      if (guest_failures != before) break;
    }
    end_beside(child);
  }
}

static void look_at_descriptor(pid_t parent) {
  char name[64], text[256] = "";
  snprintf(name, sizeof name, "/proc/%d/fd/%d", parent, both->fd);
  both->said[0] = readlink(name, text, sizeof text) < 0 ? -errno : 1;
  snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", parent, both->fd);
  int fd = open(name, O_RDONLY);
  both->said[1] = fd < 0 ? -errno : 0;
  if (fd >= 0 && read(fd, text, sizeof text - 1) > 0) both->said[1] = atoi(text + 4);
  if (fd >= 0) close(fd);
  snprintf(name, sizeof name, "/proc/%d/fd", parent);
  DIR *dir = opendir(name);
  both->said[2] = 0;
  for (struct dirent *d; (d = readdir(dir)) != NULL;) both->said[2] += atoi(d->d_name) == both->fd && d->d_name[0] != '.';
  closedir(dir);
  both->said[3] = syscall(SYS_kcmp, parent, getpid(), KCMP_FILE, both->fd, 1) < 0 ? -errno : 0;
}

TEST(reopened_and_looked_at) {
  put_file("f", TEXT);
  pid_t child = beside(look_at_descriptor);
  read_twice("f");
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    int fd = both->fd = open("f", O_RDONLY);
    CHECK_STR(got(fd, 3), "012");
    let_other();
    CHECK_EQ(both->said[0], 1);
    CHECK_EQ(both->said[1], 3);
    CHECK_EQ(both->said[2], 1);
    CHECK_EQ(both->said[3], 0);
    CHECK_STR(got(fd, 3), "345");
    CHECK_EQ(close(fd), 0);
    let_other();
    CHECK_EQ(both->said[0], -ENOENT);
    CHECK_EQ(both->said[1], -ENOENT);
    CHECK_EQ(both->said[2], 0);
    CHECK_EQ(both->said[3], -EBADF);
    CHECK_ERR(close(fd), EBADF);
    if (guest_failures != before) break;
  }
  end_beside(child);
}

/* Asks whether anybody has it open, as the first thing; says the descriptor, or what happened with it since. */
static void watch(pid_t parent) {
  static int fd = -1;
  char events[512];
  if (fd < 0) {
    fd = inotify_init1(IN_NONBLOCK);
    both->said[0] = inotify_add_watch(fd, "f", IN_ALL_EVENTS) < 0 ? -errno : 0;
  } else {
    both->said[0] = read(fd, events, sizeof events) < 0 ? -errno : (long)((struct inotify_event *)events)->mask;
    close(fd);
    fd = -1;
  }
  (void)parent;
}
static void lease(pid_t parent) {
  int fd = open("f", O_RDONLY);
  both->said[0] = fcntl(fd, F_SETLEASE, F_WRLCK) < 0 ? -errno : 0;
  close(fd);
  (void)parent;
}
static void compare(pid_t parent) {
  both->said[0] = syscall(SYS_kcmp, parent, getpid(), KCMP_FILE, both->fd, 1) < 0 ? -errno : 0;
}

TEST(reopened_and_watched) {
  pid_t child = beside(watch);
  for (int i = 0; i < 3; i++) {
    put_file("f", TEXT);
    read_twice("f");
    int fd = open("f", O_RDONLY);
    CHECK_STR(got(fd, 3), "012");
    CHECK_EQ(close(fd), 0);
    let_other();
    CHECK_EQ(both->said[0], 0);
    CHECK_ERR(at(fd), EBADF);
    let_other();
    CHECK_EQ(both->said[0], -EAGAIN);
    CHECK_EQ(unlink("f"), 0);
  }
  end_beside(child);
  void (*const others[])(pid_t) = {lease, compare};
  const int while_open[] = {-EAGAIN, 0}, when_closed[] = {0, -EBADF};
  for (int o = 0; o < 2; o++) {
    child = beside(others[o]);
    for (int i = 0; i < AGAIN; i++) {
      int before = guest_failures;
      put_file("f", TEXT);
      read_twice("f");
      int fd = both->fd = open("f", O_RDONLY);
      CHECK_STR(got(fd, 3), "012");
      if (i % 2) let_other();
      if (i % 2) CHECK_EQ(both->said[0], while_open[o]);
      CHECK_EQ(close(fd), 0);
      let_other();
      CHECK_EQ(both->said[0], when_closed[o]);
      CHECK_EQ(unlink("f"), 0);
      if (guest_failures != before) break;
    }
    end_beside(child);
  }
}

/* Stores through a mapping make no call. */
static void store(pid_t parent) {
  static char *map;
  if (map != NULL) {
    memcpy(map, "abcd", 4);
    munmap(map, 10);
    map = NULL;
    return;
  }
  int fd = open("f", O_RDWR);
  map = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  (void)parent;
}
TEST(reopened_and_mapped) {
  pid_t child = beside(store);
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    put_file("f", TEXT);
    read_twice("f");
    let_other();
    int fd = open("f", O_RDONLY);
    let_other();
    CHECK_STR(got(fd, 40), "abcd456789");
    CHECK_EQ(close(fd), 0);
    if (guest_failures != before) break;
  }
  end_beside(child);
}

/* Its own watch hears of each open, read and close. */
TEST(reopened_under_watch) {
  put_file("f", TEXT);
  read_twice("f");
  char events[512];
  int watch = inotify_init1(IN_NONBLOCK);
  CHECK_EQ(inotify_add_watch(watch, ".", IN_OPEN | IN_ACCESS | IN_CLOSE) > 0, 1);
  for (int i = 0; i < 4; i++) {
    int fd = open("f", O_RDONLY), all = 0, n;
    CHECK_STR(got(fd, 3), "012");
    CHECK_EQ(close(fd), 0);
    n = read(watch, events, sizeof events);
    for (int p = 0; p < n; p += sizeof(struct inotify_event) + ((struct inotify_event *)(events + p))->len)
      all |= ((struct inotify_event *)(events + p))->mask;
    CHECK_EQ(all, IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE);
  }
}

static volatile int interrupted;
static void close_it(int sig) {
  interrupted = close(both->fd) == 0 ? 1 : -errno;
  (void)sig;
}

/* A handler that closes the descriptor between two calls; a child that is made between two reads. */
TEST(reopened_and_interrupted) {
  put_file("f", TEXT);
  read_twice("f");
  both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  signal(SIGUSR1, close_it);
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    int fd = both->fd = open("f", O_RDONLY);
    CHECK_STR(got(fd, 3), "012");
    raise(SIGUSR1);
    CHECK_EQ(interrupted, 1);
    CHECK_STR(got(fd, 3), "EBADF");
    CHECK_ERR(close(fd), EBADF);
    fd = open("f", O_RDONLY);
    pid_t child = vfork();
    if (child == 0) {
      close(fd);
      _exit(0);
    }
    waitpid(child, NULL, 0);
    CHECK_STR(got(fd, 3), "012");
    CHECK_EQ(close(fd), 0);
    if (guest_failures != before) break;
  }
}

static void *close_other(void *arg) {
  while (both->turn != 3) {
    await(1);
    if (both->stop) break;
    both->said[0] = close(both->fd);
    both->said[1] = open("g", O_RDONLY);
    hand_over(2);
  }
  return arg;
}

TEST(reopened_with_threads) {
  pthread_t thread;
  put_file("f", TEXT);
  put_file("g", "other");
  both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  read_twice("f");
  int fd = open("f", O_RDONLY);
  CHECK_EQ(pthread_create(&thread, NULL, close_other, NULL), 0);
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    both->fd = fd;
    CHECK_STR(got(fd, 3), "012");
    let_other();
    CHECK_EQ(both->said[0], 0);
    CHECK_EQ(both->said[1], fd);
    CHECK_STR(got(fd, 3), "oth");
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(open("f", O_RDONLY), fd);
    if (guest_failures != before) break;
  }
  both->stop = 1;
  hand_over(1);
  pthread_join(thread, NULL);
}
