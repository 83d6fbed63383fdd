/* Signals for events on descriptors: O_ASYNC with F_SETOWN and F_SETSIG, and F_NOTIFY of directories. */
#include "guest.h"
#include <termios.h>

static volatile int got, last_code, last_fd;
static volatile long last_band;
static void on_io(int sig, siginfo_t *info, void *context) {
  (void)sig;
  (void)context;
  got++;
  last_code = info->si_code;
  last_fd = info->si_fd;
  last_band = info->si_band;
}
static void listen_for(int sig) {
  struct sigaction sa = {.sa_sigaction = on_io, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(sig, &sa, NULL);
}
static void settle(void) {
  for (int i = 0; i < 20 && got == 0; i++) sleep_ms(5);
}

TEST(owner) {
  int p[2];
  CHECK_OK(pipe(p));
  CHECK_EQ(fcntl(p[0], F_GETOWN), 0);
  CHECK_ERR(fcntl(p[0], F_SETOWN, 4000000), ESRCH);
  CHECK_OK(fcntl(p[0], F_SETOWN, getpid()));
  CHECK_EQ(fcntl(p[0], F_GETOWN), getpid());
  CHECK_ERR(fcntl(p[0], F_SETSIG, 65), EINVAL);
  CHECK_EQ(fcntl(p[0], F_GETSIG), 0);
  CHECK_OK(fcntl(p[0], F_SETSIG, SIGRTMIN + 3));
  CHECK_EQ(fcntl(p[0], F_GETSIG), SIGRTMIN + 3);
  struct f_owner_ex ex;
  CHECK_OK(fcntl(p[0], F_GETOWN_EX, &ex));
  CHECK_EQ(ex.type, F_OWNER_PID);
  put_file("f", "");
  int fd = open("f", O_RDWR);
  CHECK_OK(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
  say("  flags of a file %x", fcntl(fd, F_GETFL) & (O_ASYNC | O_NONBLOCK));
  CHECK_OK(fcntl(p[0], F_SETFL, O_ASYNC));
  say("  flags of a pipe %x", fcntl(p[0], F_GETFL) & (O_ASYNC | O_NONBLOCK));
}

TEST(pipe_data) {
  int p[2];
  CHECK_OK(pipe(p));
  listen_for(SIGIO);
  CHECK_OK(fcntl(p[0], F_SETOWN, getpid()));
  CHECK_OK(fcntl(p[0], F_SETFL, O_ASYNC));
  CHECK_EQ(write(p[1], "x", 1), 1);
  settle();
  say("  %d code %d", got, last_code);
  got = 0;
  CHECK_OK(fcntl(p[0], F_SETSIG, SIGRTMIN));
  listen_for(SIGRTMIN);
  CHECK_EQ(write(p[1], "x", 1), 1);
  settle();
  say("  %d code %d band %lx own fd %d", got, last_code, last_band, last_fd == p[0]);
  got = 0;
  CHECK_OK(fcntl(p[0], F_SETFL, 0));
  CHECK_EQ(write(p[1], "x", 1), 1);
  sleep_ms(20);
  say("  %d", got);
}

TEST(socket_to_group) {
  int s[2];
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  listen_for(SIGIO);
  setpgid(0, 0);
  CHECK_OK(fcntl(s[0], F_SETOWN, -getpgrp()));
  int on = 1;
  CHECK_OK(ioctl(s[0], FIOASYNC, &on));
  CHECK_EQ(write(s[1], "x", 1), 1);
  settle();
  say("  %d", got > 0);
}

TEST(directory) {
  mkdir("d", 0755);
  int fd = open("d", O_RDONLY);
  listen_for(SIGRTMIN + 1);
  CHECK_OK(fcntl(fd, F_SETSIG, SIGRTMIN + 1));
  CHECK_OK(fcntl(fd, F_NOTIFY, DN_CREATE));
  put_file("d/a", "x");
  settle();
  say("  %d code %d fd %d", got, last_code, last_fd == fd);
  got = 0;
  put_file("d/b", "x");
  sleep_ms(10);
  say("  once only: %d", got);
  CHECK_OK(fcntl(fd, F_NOTIFY, DN_DELETE | DN_MULTISHOT));
  unlink("d/a");
  unlink("d/b");
  settle();
  say("  %d", got);
  got = 0;
  CHECK_OK(fcntl(fd, F_NOTIFY, 0));
  put_file("d/c", "");
  unlink("d/c");
  sleep_ms(10);
  say("  ended: %d", got);
  int file = open("d", O_RDONLY | O_PATH);
  CHECK_ERR(fcntl(file, F_NOTIFY, DN_CREATE), EBADF);
  put_file("f", "");
  CHECK_ERR(fcntl(open("f", O_RDONLY), F_NOTIFY, DN_CREATE), ENOTDIR);
}

/* The default action of SIGIO ends the process in the middle of somebody else's write. */
TEST(deadly) {
  int p[2];
  CHECK_OK(pipe(p));
  pid_t pid = fork();
  if (pid == 0) {
    fcntl(p[0], F_SETOWN, getpid());
    fcntl(p[0], F_SETFL, O_ASYNC);
    for (;;) pause();
  }
  sleep_ms(50);
  CHECK_EQ(write(p[1], "x", 1), 1);
  int status;
  CHECK_OK(waitpid(pid, &status, 0));
  CHECK(WIFSIGNALED(status));
  CHECK_EQ(WTERMSIG(status), SIGIO);
}
