/* Pseudo-terminals: line discipline, echo, signals, window size, controlling terminal, job control, hang-up. */
#include "guest.h"
#include <pty.h>
#include <termios.h>

static int master, slave;
static void open_pair(void) {
  master = posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
  slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  REQUIRE(slave >= 0);
}
/* Bytes in a form that can be read: ^C, \377. */
static const char *show(const char *p, long n) {
  static char out[4096];
  char *o = out;
  if (n < 0) return strerrorname_np(errno);
  for (long i = 0; i < n; i++) {
    unsigned char c = p[i];
    if (c < 32) o += sprintf(o, "^%c", c + 64);
    else if (c < 127) *o++ = c;
    else o += sprintf(o, "\\%o", c);
  }
  *o = 0;
  return out;
}
/* Linux echoes by a worker of its own, which may be in the middle of it: until there is no more for 5 ms. */
static void settle(int fd) {
  for (int before = -1, there = 0; ioctl(fd, FIONREAD, &there) == 0 && there != before; before = there) usleep(5000);
}
static void say_read(const char *name, int fd) {
  char buf[1024];
  struct pollfd p = {fd, POLLIN, 0};
  if (poll(&p, 1, 50) == 0) {
    say("  %s: nothing", name);
    return;
  }
  settle(fd);
  ssize_t n = read(fd, buf, sizeof buf);
  say("  %s: %ld %s", name, (long)n, show(buf, n));
}
static void type(const char *text) { CHECK_EQ(write(master, text, strlen(text)), strlen(text)); }
static void set(int lflag_on, int lflag_off) {
  struct termios t;
  tcgetattr(slave, &t);
  t.c_lflag = (t.c_lflag | lflag_on) & ~lflag_off;
  CHECK_OK(tcsetattr(slave, TCSANOW, &t));
}

TEST(defaults) {
  open_pair();
  struct termios t;
  CHECK_OK(tcgetattr(slave, &t));
  say("  iflag %o oflag %o cflag %o lflag %o line %d", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_line);
  say("  cc %s", show((char *)t.c_cc, 17));
  CHECK(isatty(slave) && isatty(master));
  CHECK(strncmp(ptsname(master), "/dev/pts/", 9) == 0);
  CHECK(strcmp(ttyname(slave), ptsname(master)) == 0);
}

TEST(unlock) {
  int m = open("/dev/ptmx", O_RDWR | O_NOCTTY), n = -1, on = 1, lock = -1;
  CHECK_OK(ioctl(m, TIOCGPTN, &n));
  CHECK_OK(ioctl(m, TIOCGPTLCK, &lock));
  CHECK_EQ(lock, 1);
  char name[32];
  sprintf(name, "/dev/pts/%d", n);
  CHECK_ERR(open(name, O_RDWR | O_NOCTTY), EIO);
  on = 0;
  CHECK_OK(ioctl(m, TIOCSPTLCK, &on));
  CHECK_OK(open(name, O_RDWR | O_NOCTTY));
  CHECK_OK(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY));
}

TEST(canonical_input) {
  open_pair();
  type("hello");
  say_read("no newline yet", slave);
  type(" world\n");
  say_read("line", slave);
  say_read("echo", master);
  type("abc\177\177xy\n"); /* two erased */
  say_read("erased", slave);
  say_read("echo of erasing", master);
  type("some words here\027gone\n"); /* ^W */
  say_read("word erased", slave);
  say_read("echo", master);
  type("all of it\025kept\n"); /* ^U */
  say_read("line killed", slave);
  say_read("echo", master);
  type("part\004"); /* ^D gives what there is */
  say_read("^D after text", slave);
  type("\004");
  say_read("^D alone", slave);
  type("lit\026\003eral\n"); /* ^V quotes */
  say_read("quoted", slave);
  say_read("echo", master);
  type("one\ntwo\nthree\n");
  say_read("first", slave);
  say_read("second", slave);
  say_read("third", slave);
  type("cr\r");
  say_read("CR to NL", slave);
  char c[4] = {0};
  type("long line\n");
  CHECK_EQ(read(slave, c, 3), 3);
  CHECK_STR(c, "lon");
  say_read("the rest", slave);
}

TEST(output_processing) {
  open_pair();
  CHECK_EQ(write(slave, "a\nb\n", 4), 4);
  say_read("ONLCR", master);
  struct termios t;
  tcgetattr(slave, &t);
  t.c_oflag &= ~OPOST;
  tcsetattr(slave, TCSANOW, &t);
  CHECK_EQ(write(slave, "a\nb\n", 4), 4);
  say_read("raw output", master);
  t.c_oflag |= OPOST | OCRNL;
  tcsetattr(slave, TCSANOW, &t);
  CHECK_EQ(write(slave, "a\rb", 3), 3);
  say_read("OCRNL", master);
}

TEST(raw_mode) {
  open_pair();
  struct termios t;
  tcgetattr(slave, &t);
  cfmakeraw(&t);
  CHECK_OK(tcsetattr(slave, TCSANOW, &t));
  type("a\003\004\177\r");
  say_read("all bytes", slave);
  say_read("no echo", master);
  t.c_cc[VMIN] = 4;
  t.c_cc[VTIME] = 0;
  tcsetattr(slave, TCSANOW, &t);
  pid_t pid = fork();
  if (pid == 0) {
    type("12");
    sleep_ms(30);
    type("34");
    _exit(0);
  }
  char buf[16];
  CHECK_EQ(read(slave, buf, 16), 4);
  reap(pid);
  t.c_cc[VMIN] = 0;
  t.c_cc[VTIME] = 1; /* a tenth of a second */
  tcsetattr(slave, TCSANOW, &t);
  CHECK_EQ(read(slave, buf, 16), 0);
  t.c_cc[VTIME] = 0;
  tcsetattr(slave, TCSANOW, &t);
  CHECK_EQ(read(slave, buf, 16), 0);
}

TEST(echo_variants) {
  open_pair();
  set(0, ECHO);
  type("hidden\n");
  say_read("no echo", master);
  say_read("line", slave);
  set(ECHONL, 0);
  type("x\n");
  say_read("ECHONL", master);
  set(ECHO | ECHOCTL, 0);
  type("\001\n");
  say_read("control as caret", master);
  set(0, ECHOCTL);
  type("\001\n");
  say_read("control as it is", master);
}

TEST(input_flags) {
  open_pair();
  struct termios t;
  tcgetattr(slave, &t);
  t.c_lflag &= ~(ICANON | ECHO | ISIG);
  t.c_iflag = INLCR;
  tcsetattr(slave, TCSANOW, &t);
  type("a\nb\r");
  say_read("INLCR", slave);
  t.c_iflag = IGNCR;
  tcsetattr(slave, TCSANOW, &t);
  type("a\nb\r");
  say_read("IGNCR", slave);
  t.c_iflag = ISTRIP;
  tcsetattr(slave, TCSANOW, &t);
  type("\341");
  say_read("ISTRIP", slave);
  t.c_iflag = IUCLC;
  t.c_lflag |= IEXTEN;
  tcsetattr(slave, TCSANOW, &t);
  type("ABC");
  say_read("IUCLC", slave);
}

TEST(window_size) {
  open_pair();
  struct winsize w;
  CHECK_OK(ioctl(slave, TIOCGWINSZ, &w));
  CHECK_EQ(w.ws_row + w.ws_col, 0);
  w = (struct winsize){24, 80, 1, 2};
  CHECK_OK(ioctl(master, TIOCSWINSZ, &w));
  memset(&w, 0, sizeof w);
  CHECK_OK(ioctl(slave, TIOCGWINSZ, &w));
  say("  %d %d %d %d", w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel);
}

static volatile sig_atomic_t got[65];
static void note(int sig) { got[sig]++; }

/* A session with the slave as its controlling terminal; runs in a child. */
static void take_terminal(void) {
  REQUIRE(setsid() > 0);
  REQUIRE(ioctl(slave, TIOCSCTTY, 0) == 0);
}
#define IN_SESSION(...) CHECK_EQ(IN_CHILD(open_pair(); take_terminal(); __VA_ARGS__), 0)

TEST(controlling_terminal) {
  IN_SESSION({
    CHECK_EQ(tcgetpgrp(slave), getpgrp());
    CHECK_EQ(tcgetsid(slave), getpid());
    int tty = open("/dev/tty", O_RDWR);
    CHECK(tty >= 0);
    CHECK_EQ(write(tty, "via tty", 7), 7);
    say_read("through /dev/tty", master);
    CHECK(strcmp(ttyname(0) ? ttyname(0) : "", ptsname(master)) != 0);
    signal(SIGHUP, SIG_IGN);
    signal(SIGCONT, SIG_IGN);
    CHECK_OK(ioctl(tty, TIOCNOTTY));
    CHECK_ERR(open("/dev/tty", O_RDWR), ENXIO);
    CHECK_ERR(tcgetpgrp(slave), ENOTTY);
  });
}

TEST(first_open_takes_it) {
  CHECK_EQ(IN_CHILD({
    master = posix_openpt(O_RDWR | O_NOCTTY);
    unlockpt(master);
    setsid();
    slave = open(ptsname(master), O_RDWR); /* without O_NOCTTY */
    CHECK_EQ(tcgetsid(slave), getpid());
  }), 0);
}

TEST(interrupt_characters) {
  IN_SESSION({
    signal(SIGINT, note), signal(SIGQUIT, note), signal(SIGTSTP, note);
    type("typed\003");
    sleep_ms(20);
    CHECK_EQ(got[SIGINT], 1);
    say_read("echo of ^C", master);
    say_read("what was typed is gone", slave);
    type("\034");
    type("\032");
    sleep_ms(20);
    CHECK_EQ(got[SIGQUIT], 1);
    CHECK_EQ(got[SIGTSTP], 1);
    set(0, ISIG);
    type("\003\n");
    sleep_ms(20);
    CHECK_EQ(got[SIGINT], 1);
    say_read("^C as data", slave);
  });
}

TEST(winch) {
  IN_SESSION({
    signal(SIGWINCH, note);
    struct winsize w = {10, 20, 0, 0};
    CHECK_OK(ioctl(master, TIOCSWINSZ, &w));
    sleep_ms(10);
    CHECK_OK(ioctl(slave, TIOCSWINSZ, &w)); /* the same size: no signal */
    sleep_ms(10);
    CHECK_EQ(got[SIGWINCH], 1);
  });
}

TEST(background_reads_stop) {
  IN_SESSION({
    pid_t pid = fork();
    if (pid == 0) {
      setpgid(0, 0);
      char c;
      _exit(read(slave, &c, 1) == 1 ? c : 1);
    }
    setpgid(pid, pid);
    int status;
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    CHECK_OK(tcsetpgrp(slave, pid));
    kill(pid, SIGCONT);
    type("k\n");
    CHECK_EQ(reap(pid), 'k');
    /* The leader is in the background now: with SIGTTOU ignored it may take the terminal back. */
    signal(SIGTTOU, SIG_IGN);
    CHECK_OK(tcsetpgrp(slave, getpgrp()));
    CHECK_EQ(tcgetpgrp(slave), getpgrp());
  });
}

TEST(background_writes) {
  IN_SESSION({
    for (int tostop = 0; tostop < 2; tostop++) {
      set(tostop ? TOSTOP : 0, tostop ? 0 : TOSTOP);
      pid_t pid = fork();
      if (pid == 0) {
        setpgid(0, 0);
        _exit(write(slave, "bg", 2) == 2 ? 0 : 1);
      }
      setpgid(pid, pid);
      int status;
      waitpid(pid, &status, WUNTRACED);
      say("  TOSTOP %d: %s", tostop, WIFSTOPPED(status) ? "stopped" : "written");
      kill(pid, SIGKILL);
      if (WIFSTOPPED(status)) reap(pid);
    }
  });
}

TEST(background_ignored) {
  IN_SESSION({
    CHECK_EQ(IN_CHILD({
      setpgid(0, 0);
      signal(SIGTTIN, SIG_IGN);
      char c;
      CHECK_ERR(read(slave, &c, 1), EIO);
    }), 0);
    CHECK_EQ(IN_CHILD({
      setpgid(0, 0);
      struct sigaction sa = {.sa_handler = note}; /* with SA_RESTART it would be tried for ever */
      sigaction(SIGTTOU, &sa, NULL);
      CHECK_ERR(tcsetpgrp(slave, getpgrp()), EINTR);
    }), 0);
  });
}

TEST(tcsetpgrp_errors) {
  IN_SESSION({
    CHECK_ERR(tcsetpgrp(slave, 999999), ESRCH);
    CHECK_ERR(tcsetpgrp(slave, -1), EINVAL);
    put_file("/dev/null", "");
    CHECK_ERR(tcgetpgrp(open("/dev/null", O_RDONLY)), ENOTTY);
  });
}

TEST(hangup) {
  open_pair();
  close(slave);
  char c;
  CHECK_ERR(read(master, &c, 1), EIO); /* no slave */
  slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  CHECK_EQ(write(slave, "x", 1), 1);
  CHECK_EQ(read(master, &c, 1), 1);
  close(master);
  CHECK_EQ(read(slave, &c, 1), 0);
  CHECK_ERR(write(slave, "x", 1), EIO);
  struct pollfd p = {slave, POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 0), 1);
  say("  slave after hang-up: %x", p.revents);
}

TEST(hangup_signals) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  open_pair();
  pid_t pid = fork();
  if (pid == 0) {
    take_terminal();
    close(master);
    signal(SIGHUP, note);
    signal(SIGCONT, note);
    if (write(fds[1], "r", 1) != 1) _exit(1);
    while (!got[SIGHUP]) sleep_ms(2);
    _exit(got[SIGHUP] == 1 ? 7 : 8);
  }
  char c;
  CHECK_EQ(read(fds[0], &c, 1), 1);
  close(slave);
  close(master);
  CHECK_EQ(reap(pid), 7);
}

TEST(leader_exit_hangs_up) {
  open_pair();
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    take_terminal();
    if (fork() == 0) {
      signal(SIGHUP, note);
      if (write(fds[1], "r", 1) != 1) _exit(1);
      while (!got[SIGHUP]) sleep_ms(2);
      if (write(fds[1], "h", 1) != 1) _exit(1);
      _exit(0);
    }
    char c;
    if (read(fds[0], &c, 1) != 1) _exit(1);
    _exit(0);
  }
  CHECK_EQ(reap(pid), 0);
  char c = 0;
  CHECK_EQ(read(fds[0], &c, 1), 1);
  CHECK_EQ(c, 'h');
}

TEST(flush_and_queues) {
  open_pair();
  set(0, ECHO);
  type("abc\n");
  sleep_ms(20); /* the line discipline may run later than the write */
  int n = -1;
  CHECK_OK(ioctl(slave, FIONREAD, &n));
  CHECK_EQ(n, 4);
  CHECK_OK(tcflush(slave, TCIFLUSH));
  say_read("flushed", slave);
  CHECK_OK(ioctl(slave, TIOCOUTQ, &n));
  CHECK_OK(tcdrain(slave));
  char c = 's';
  CHECK_OK(ioctl(slave, TIOCSTI, &c) == 0 || errno == EIO || errno == EPERM ? 0 : -1);
  CHECK_ERR(ioctl(slave, 0x54ff, &n), ENOTTY);
}

TEST(packet_mode) {
  open_pair();
  int on = 1;
  CHECK_OK(ioctl(master, TIOCPKT, &on));
  CHECK_EQ(write(slave, "data", 4), 4);
  say_read("data packet", master);
  tcflush(slave, TCIFLUSH);
  say_read("flush packet", master);
}

TEST(large_output_blocks) {
  open_pair();
  pid_t pid = fork();
  if (pid == 0) {
    char line[80];
    memset(line, 'x', 79);
    line[79] = '\n';
    for (int i = 0; i < 1000; i++)
      if (write(slave, line, 80) != 80) _exit(1);
    _exit(0);
  }
  close(slave);
  long total = 0, n;
  char buf[4096];
  while ((n = read(master, buf, sizeof buf)) > 0) total += n;
  CHECK_EQ(total, 81000);
  CHECK_EQ(errno, EIO);
  CHECK_EQ(reap(pid), 0);
}
