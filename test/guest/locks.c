/* flock, POSIX record locks, open-file-description locks: conflicts, splitting, inheritance, deadlock. */
#include "guest.h"
#include <sys/file.h>

static int lock(int fd, int cmd, int type, long start, long len) {
  struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
  return fcntl(fd, cmd, &l);
}
static int file(void) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  REQUIRE(fd >= 0);
  return fd;
}
/* What another process sees at a byte: the kind and extent of the lock that stands in its way. */
static void show(const char *name, long start, long len) {
  pid_t me = getpid();
  IN_CHILD({
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    fcntl(file(), F_GETLK, &l);
    if (l.l_type == F_UNLCK) say("  %s: free", name);
    else say("  %s: %s %ld+%ld %s", name, l.l_type == F_RDLCK ? "read" : "write", (long)l.l_start, (long)l.l_len, l.l_pid == me ? "mine" : "other");
  });
}

TEST(flock_rules) {
  int a = file(), b = file();
  CHECK_OK(flock(a, LOCK_EX));
  CHECK_ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  CHECK_ERR(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
  CHECK_OK(flock(dup(a), LOCK_EX | LOCK_NB)); /* one description */
  CHECK_OK(flock(a, LOCK_SH));
  CHECK_OK(flock(b, LOCK_SH | LOCK_NB));
  CHECK_ERR(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  CHECK_OK(flock(b, LOCK_UN));
  CHECK_ERR(flock(a, 77), EINVAL);
  CHECK_ERR(flock(77, LOCK_SH), EBADF);
  CHECK_EQ(IN_CHILD(CHECK_OK(flock(a, LOCK_UN))), 0); /* shared with a child */
  CHECK_OK(flock(b, LOCK_EX | LOCK_NB));
  close(b);
  CHECK_OK(flock(a, LOCK_EX | LOCK_NB)); /* the last close releases */
}

TEST(flock_waits) {
  int a = file();
  CHECK_OK(flock(a, LOCK_EX));
  pid_t pid = fork();
  if (pid == 0) {
    close(a);
    int64_t before = now_ms();
    int b = file();
    if (flock(b, LOCK_EX) != 0) _exit(1);
    _exit(now_ms() - before >= 40 ? 0 : 2);
  }
  sleep_ms(60);
  CHECK_OK(flock(a, LOCK_UN));
  CHECK_EQ(reap(pid), 0);
}

TEST(record_locks) {
  int fd = file();
  CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 10, 10));
  show("inside", 15, 1);
  show("before", 0, 10);
  show("after", 20, 0);
  CHECK_OK(lock(fd, F_SETLK, F_RDLCK, 14, 2)); /* splits in three */
  show("first", 10, 1);
  show("middle", 14, 1);
  show("last", 16, 1);
  CHECK_OK(lock(fd, F_SETLK, F_UNLCK, 12, 3));
  show("hole", 12, 2);
  show("read rest", 15, 1);
  CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 0)); /* everything, to the end of time */
  show("far away", 1L << 40, 1);
  CHECK_OK(lock(fd, F_SETLK, F_UNLCK, 100, 0));
  show("below 100", 50, 1);
  show("above 100", 100, 0);
}

TEST(record_lock_errors) {
  int fd = file();
  CHECK_ERR(lock(fd, F_SETLK, 77, 0, 1), EINVAL);
  CHECK_ERR(lock(fd, F_SETLK, F_WRLCK, -1, 1), EINVAL);
  CHECK_ERR(lock(open("f", O_RDONLY), F_SETLK, F_WRLCK, 0, 1), EBADF);
  CHECK_ERR(lock(open("f", O_WRONLY), F_SETLK, F_RDLCK, 0, 1), EBADF);
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = -5};
  CHECK_OK(fcntl(fd, F_SETLK, &l)); /* bytes 5 to 9 */
  show("negative length", 0, 0);
  CHECK_OK(ftruncate(fd, 100));
  l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -10, .l_len = 5};
  CHECK_OK(fcntl(fd, F_SETLK, &l));
  show("from the end", 20, 0);
}

TEST(record_locks_belong_to_the_process) {
  int a = file(), b = file();
  CHECK_OK(lock(a, F_SETLK, F_WRLCK, 0, 10));
  CHECK_OK(lock(b, F_SETLK, F_WRLCK, 0, 10)); /* no conflict with oneself */
  CHECK_EQ(IN_CHILD(CHECK_ERR(lock(a, F_SETLK, F_WRLCK, 0, 1), EAGAIN)), 0);
  close(b); /* closing any descriptor of the file drops all */
  show("after close", 0, 10);
}

TEST(waiting_and_deadlock) {
  int fd = file(), fds[2];
  REQUIRE(pipe(fds) == 0);
  CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 0, 1));
  pid_t pid = fork();
  if (pid == 0) {
    if (lock(fd, F_SETLK, F_WRLCK, 1, 1) != 0 || write(fds[1], "x", 1) != 1) _exit(1);
    _exit(lock(fd, F_SETLKW, F_WRLCK, 0, 1) == 0 ? 0 : 2); /* waits for the parent */
  }
  char c;
  CHECK_EQ(read(fds[0], &c, 1), 1);
  sleep_ms(40);
  CHECK_ERR(lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
  CHECK_OK(lock(fd, F_SETLK, F_UNLCK, 0, 1));
  CHECK_EQ(reap(pid), 0);
  CHECK_OK(lock(fd, F_SETLK, F_WRLCK, 1, 1)); /* the child's went with it */
}

TEST(description_locks) {
  int a = file(), b = file();
  CHECK_OK(lock(a, F_OFD_SETLK, F_WRLCK, 0, 10));
  CHECK_ERR(lock(b, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN); /* even in one process */
  CHECK_ERR(lock(b, F_SETLK, F_WRLCK, 5, 1), EAGAIN);
  CHECK_EQ(IN_CHILD(CHECK_OK(lock(a, F_OFD_SETLK, F_WRLCK, 0, 1))), 0); /* inherited */
  struct flock l = {.l_type = F_RDLCK, .l_len = 1};
  CHECK_OK(fcntl(b, F_OFD_GETLK, &l));
  CHECK_EQ(l.l_type, F_WRLCK);
  CHECK_EQ(l.l_pid, -1);
  l = (struct flock){.l_type = F_RDLCK, .l_pid = 5};
  CHECK_ERR(fcntl(b, F_OFD_SETLK, &l), EINVAL);
  int c = file();
  close(c); /* closing another one changes nothing */
  CHECK_ERR(lock(b, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
  close(a);
  CHECK_OK(lock(b, F_OFD_SETLK, F_WRLCK, 5, 1));
}

TEST(many_processes_count) {
  int fd = file();
  CHECK_EQ(pwrite(fd, "\0\0\0\0", 4, 0), 4);
  for (int i = 0; i < 4; i++)
    if (fork() == 0) {
      for (int n = 0; n < 50; n++) {
        int v = -1;
        lock(fd, F_SETLKW, F_WRLCK, 0, 0);
        if (pread(fd, &v, 4, 0) != 4) _exit(1);
        v++;
        if (pwrite(fd, &v, 4, 0) != 4) _exit(1);
        lock(fd, F_SETLK, F_UNLCK, 0, 0);
      }
      _exit(0);
    }
  while (wait(NULL) > 0) continue;
  int v = 0;
  CHECK_EQ(pread(fd, &v, 4, 0), 4);
  CHECK_EQ(v, 200);
}
