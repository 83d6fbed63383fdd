/*
 * fstat(2) of what was opened last, while its attributes or the descriptor change: a sandbox may have its answer ready since
 * the open, and nothing of that may show. The answer must be that of the moment.
 */
#include "guest.h"

#define AGAIN 40

/* Size, links and mode in one number; or −errno. */
static long long look(int fd) {
  struct stat st;
  memset(&st, 0xff, sizeof st);
  if (fstat(fd, &st) != 0) return -errno;
  int m = st.st_mode, digits = (m >> 6 & 7) * 100 + (m >> 3 & 7) * 10 + (m & 7);
  return st.st_size * 1000000 + st.st_nlink * 10000 + digits;
}

static int pass(int socket, int fd) {
  char data = 0, control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec iov = {&data, 1};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
  *c = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  return sendmsg(socket, &msg, 0) == 1 ? 0 : -1;
}

TEST(opened) {
  int pair[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    unlink("f"), unlink("g"), unlink("h");
    put_file("f", "123");
    put_file("g", "12345");
    int fd = open("f", O_RDONLY), other;
    CHECK_EQ(look(fd), 3010644);
    CHECK_EQ(look(fd), 3010644);
    CHECK_EQ(chmod("f", 0600), 0);
    CHECK_EQ(look(fd), 3010600);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(look(fd), -EBADF);
    CHECK_EQ(open("f", O_RDONLY), fd);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(look(fd), -EBADF);
    CHECK_EQ(open("f", O_RDONLY), fd);
    CHECK_EQ(link("f", "h"), 0);
    CHECK_EQ(look(fd), 3020600);
    CHECK_EQ(close(fd), 0);
    other = open("f", O_WRONLY | O_APPEND);
    fd = open("f", O_RDONLY);
    CHECK_EQ(write(other, "4567", 4), 4);
    CHECK_EQ(look(fd), 7020600);
    CHECK_EQ(close(fd), 0);
    fd = open("f", O_RDONLY);
    CHECK_EQ(ftruncate(other, 1), 0);
    CHECK_EQ(look(fd), 1020600);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(close(other), 0);
    fd = open("f", O_RDONLY);
    other = open("f", O_WRONLY | O_TRUNC);
    CHECK_EQ(look(fd), 20600);
    CHECK_EQ(close(other) | close(fd), 0);
    other = open("g", O_RDONLY);
    fd = open("f", O_RDONLY);
    CHECK_EQ(look(other), 5010644);
    CHECK_EQ(look(fd), 20600);
    CHECK_EQ(dup2(other, fd), fd);
    CHECK_EQ(look(fd), 5010644);
    CHECK_EQ(close(fd) | close(other), 0);
    fd = open("f", O_RDONLY);
    CHECK_EQ(IN_CHILD(CHECK_EQ(look(fd), 20600); CHECK_EQ(unlink("h"), 0); CHECK_EQ(look(fd), 10600)), 0);
    CHECK_EQ(look(fd), 10600);
    CHECK_EQ(close(fd), 0);
    fd = open("g", O_RDONLY);
    CHECK_EQ(pass(pair[0], fd), 0);
    CHECK_EQ(close_range(fd, fd, 0), 0);
    CHECK_EQ(look(fd), -EBADF);
    CHECK_EQ(open("f", O_RDONLY), fd);
    CHECK_EQ(look(fd), 10600);
    CHECK_EQ(close(fd), 0);
    struct msghdr msg = {0};
    CHECK_EQ(recvmsg(pair[1], &msg, MSG_TRUNC), 1);
    if (guest_failures != before) break;
  }
}

TEST(opened_and_bad_arguments) {
  struct stat st;
  put_file("f", "123");
  char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQ(munmap(page + 4096, 4096), 0);
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    int fd = open("f", O_RDONLY);
    CHECK_ERR(syscall(SYS_fstat, fd, NULL), EFAULT);
    CHECK_ERR(syscall(SYS_fstat, fd, page + 4096 - 140), EFAULT);
    CHECK_ERR(syscall(SYS_fstat, fd, -200L), EFAULT);
    CHECK_ERR(syscall(SYS_fstat, fd, 0x7fff80001000), EFAULT);
    CHECK_ERR(syscall(SYS_fstat, fd, 0x7fff7fffffc0), EFAULT);
    CHECK_ERR(syscall(SYS_newfstatat, fd, "", NULL, AT_EMPTY_PATH), EFAULT);
    CHECK_ERR(syscall(SYS_newfstatat, fd, "", &st, 0), ENOENT);
    CHECK_ERR(syscall(SYS_newfstatat, fd, "x", &st, AT_EMPTY_PATH), ENOTDIR);
    CHECK_ERR(syscall(SYS_newfstatat, fd, 8, &st, AT_EMPTY_PATH), EFAULT);
    CHECK_ERR(syscall(SYS_fstat, fd + 1, &st), EBADF);
    CHECK_ERR(syscall(SYS_fstat, -1, &st), EBADF);
    CHECK_EQ(syscall(SYS_fstat, fd, page + 4096 - sizeof st), 0);
    CHECK_EQ(((struct stat *)(page + 4096 - sizeof st))->st_size, 3);
    CHECK_EQ(close(fd), 0);
    if (guest_failures != before) break;
  }
}

static int table[2][2];
static void *change_files(void *arg) {
  int fd;
  while (read(table[0][0], &fd, sizeof fd) == sizeof fd) {
    int other = open("g", O_RDONLY);
    if (dup2(other, fd) != fd || close(other) != 0 || write(table[1][1], "", 1) != 1) _exit(9);
  }
  return arg;
}

TEST(opened_with_threads) {
  pthread_t thread;
  int bad = 0;
  char byte;
  put_file("f", "123");
  put_file("g", "12345");
  CHECK_EQ(pipe(table[0]) | pipe(table[1]), 0);
  CHECK_EQ(pthread_create(&thread, NULL, change_files, NULL), 0);
  for (int i = 0; i < 200; i++) {
    int fd = open("f", O_RDONLY);
    bad += i % 2 && look(fd) != 3010644;
    bad += write(table[0][1], &fd, sizeof fd) != sizeof fd || read(table[1][0], &byte, 1) != 1;
    bad += look(fd) != 5010644;
    bad += close(fd) != 0;
  }
  CHECK_EQ(bad, 0);
  close(table[0][1]);
  CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(opened_and_changed_by_a_process) {
  int go[2], back[2], bad = 0;
  char byte;
  put_file("f", "");
  CHECK_EQ(pipe(go) | pipe(back), 0);
  pid_t pid = fork();
  if (pid == 0) {
    int fd = open("f", O_WRONLY | O_APPEND);
    close(go[1]);
    while (read(go[0], &byte, 1) == 1)
      if (write(fd, "x", 1) != 1 || write(back[1], "", 1) != 1) _exit(9);
    _exit(0);
  }
  for (int i = 0; i < 200; i++) {
    struct stat st;
    int fd = open("f", O_RDONLY);
    bad += fstat(fd, &st) != 0 || st.st_size != i;
    bad += write(go[1], "", 1) != 1 || read(back[0], &byte, 1) != 1;
    bad += fstat(fd, &st) != 0 || st.st_size != i + 1;
    bad += close(fd) != 0;
  }
  CHECK_EQ(bad, 0);
  close(go[1]);
  CHECK_EQ(reap(pid), 0);
}
