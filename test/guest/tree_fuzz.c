/* A tree of processes that do what they are told: fork, exit, wait, signals, process groups, sessions, stop and continue, in random order. Every result and everybody's state is compared with the host's. GUEST_SEED picks another, longer run. */
#define GUEST_SECONDS 60
#include "guest.h"
#include <sys/prctl.h>

static unsigned long long state;
static unsigned rnd(unsigned n) {
  state = state * 6364136223846793005ULL + 1442695040888963407ULL;
  return (unsigned)(state >> 33) % n;
}

enum { ACTORS = 9 };
struct command {
  int op, a, b, c;
};
struct reply {
  long ret;
  int err, status, code, value;
};
static struct shared {
  pid_t pid[ACTORS];
  int handled[ACTORS];
} *shared;
static int command_pipe[ACTORS][2], reply_pipe[ACTORS][2];
static int me;

enum { FORK, EXIT, SETSID, SETPGID, GETPGID, GETSID, GETPPID, KILL, KILLPG, WAITPID, WAITID, OPS };

static int index_of(pid_t pid) {
  if (pid == 0) return 0;
  for (int i = 0; i < ACTORS; i++)
    if (shared->pid[i] == pid) return i + 1;
  return pid == getpid() ? 50 : 99;
}
static pid_t pid_of(int i) { return i == 0 ? 0 : i > ACTORS ? getppid() : shared->pid[i - 1] ? shared->pid[i - 1] : 1 << 22; }

static void handled(int sig) {
  (void)sig;
  __atomic_add_fetch(&shared->handled[me], 1, __ATOMIC_SEQ_CST);
}

static void serve(void);
static struct reply carry_out(struct command c) {
  struct reply r = {0};
  siginfo_t info;
  memset(&info, 0, sizeof info);
  errno = 0;
  switch (c.op) {
    case FORK: {
      pid_t pid = fork();
      if (pid == 0) {
        me = c.a;
        shared->pid[me] = getpid();
        serve();
      }
      while (!__atomic_load_n(&shared->pid[c.a], __ATOMIC_SEQ_CST)) usleep(100);
      r.ret = pid > 0;
      break;
    }
    case SETSID: r.ret = setsid() > 0 ? 0 : -1; break;
    case SETPGID: r.ret = setpgid(pid_of(c.a), pid_of(c.b)); break;
    case GETPGID: r.ret = getpgid(pid_of(c.a)); if (r.ret > 0) r.ret = index_of(r.ret); break;
    case GETSID: r.ret = getsid(pid_of(c.a)); if (r.ret > 0) r.ret = index_of(r.ret); break;
    case GETPPID: r.ret = index_of(getppid()); break;
    case KILL: r.ret = kill(pid_of(c.a ? c.a : me + 1), c.b); break;
    case KILLPG: r.ret = kill(-pid_of(c.a ? c.a : me + 1), c.b); break;
    case WAITPID: {
      pid_t pid = c.a == 0 ? -1 : c.a == 1 ? 0 : c.a % 2 ? -pid_of(c.a / 2) : pid_of(c.a / 2);
      r.ret = waitpid(pid, &r.status, WNOHANG | c.b);
      if (r.ret > 0) r.ret = index_of(r.ret);
      else r.status = 0;
      break;
    }
    case WAITID:
      r.ret = waitid(c.a == 0 ? P_ALL : c.a % 2 ? P_PGID : P_PID, pid_of(c.a / 2), &info, WNOHANG | c.b);
      r.status = info.si_pid ? index_of(info.si_pid) : 0;
      r.code = info.si_code;
      r.value = info.si_status;
      break;
  }
  r.err = r.ret == -1 ? errno : 0;
  return r;
}

static void serve(void) {
  struct command c;
  for (;;) {
    ssize_t n = read(command_pipe[me][0], &c, sizeof c);
    if (n == -1 && errno == EINTR) continue;
    if (n != sizeof c) _exit(88);
    if (c.op == EXIT) _exit(c.a);
    struct reply r = carry_out(c);
    if (write(reply_pipe[me][1], &r, sizeof r) != sizeof r) _exit(89);
  }
}

/* r running, T stopped, Z zombie, - gone; and how many signals were handled. */
static void states(char *out) {
  for (int i = 0; i < ACTORS; i++) {
    char path[64], text[512], c = '-';
    snprintf(path, sizeof path, "/proc/%d/stat", shared->pid[i]);
    int fd = shared->pid[i] ? open(path, O_RDONLY) : -1;
    if (fd >= 0) {
      ssize_t n = read(fd, text, sizeof text - 1);
      close(fd);
      if (n > 0) {
        text[n] = 0;
        char *p = strrchr(text, ')');
        c = p ? p[2] : '?';
        if (strchr("RSDI", c)) c = 'r';
        if (c == 'X') c = '-';
      }
    }
    *out++ = c;
    *out++ = '0' + shared->handled[i] % 10;
  }
  *out = 0;
}
static const char *settle(void) {
  static char now[2 * ACTORS + 1], before[2 * ACTORS + 1];
  int same = 0;
  states(before);
  /* Long enough for a signalled process to be scheduled on a busy machine. */
  for (int i = 0; i < 400 && same < 6; i++) {
    usleep(5000);
    states(now);
    if (strcmp(now, before) == 0) same++;
    else same = 0, strcpy(before, now);
  }
  return now;
}

static const char *const names[] = {"fork", "exit", "setsid", "setpgid", "getpgid", "getsid", "getppid", "kill", "killpg", "waitpid", "waitid"};
static const int signals[] = {0, SIGUSR1, SIGUSR1, SIGTERM, SIGKILL, SIGSTOP, SIGSTOP, SIGTSTP, SIGTTIN, SIGCONT, SIGCONT, SIGHUP};

static void round_of(int steps) {
  memset(shared, 0, sizeof *shared);
  int owed[ACTORS] = {0};
  for (int i = 0; i < ACTORS; i++) REQUIRE(pipe(command_pipe[i]) == 0 && pipe(reply_pipe[i]) == 0);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  pid_t first = fork();
  if (first == 0) {
    me = 0;
    shared->pid[0] = getpid();
    signal(SIGUSR1, handled);
    setpgid(0, 0);
    serve();
  }
  setpgid(first, first);
  int born = 1;
  const char *now = settle();
  for (int s = 0; s < steps; s++) {
    int who = rnd(born), op = (s < 5 || rnd(5) == 0) && born < ACTORS ? FORK : (int)rnd(OPS);
    if (now[2 * who] == 'T' && rnd(3)) {
      kill(shared->pid[who], SIGCONT);
      now = settle();
      say("  continued %d  %s", who + 1, now);
    }
    struct command c = {.op = op};
    if (op == KILL || op == KILLPG) c.a = rnd(ACTORS + 1), c.b = signals[rnd(sizeof signals / sizeof *signals)];
    else if (op == EXIT) c.a = rnd(256);
    else if (op == WAITPID) c.a = rnd(2 * ACTORS + 2), c.b = (rnd(2) ? WUNTRACED : 0) | (rnd(2) ? WCONTINUED : 0);
    else if (op == WAITID) c.a = rnd(2 * ACTORS + 2), c.b = (int[]){0, WEXITED, WSTOPPED, WCONTINUED, WEXITED | WSTOPPED | WCONTINUED}[rnd(5)] | (rnd(3) ? 0 : WNOWAIT);
    else c.a = rnd(ACTORS + 1), c.b = rnd(ACTORS + 1);
    if ((op == EXIT || c.b == SIGKILL || c.b == SIGTERM || c.b == SIGHUP) && rnd(3)) continue;
    if (op == FORK) {
      if (born == ACTORS) continue;
      c.a = born;
    }
    if (now[2 * who] != 'r') continue;
    if (op == FORK) born++;
    if (owed[who]) { /* it stopped itself before it could answer */
      struct reply late;
      REQUIRE(read(reply_pipe[who][0], &late, sizeof late) == sizeof late);
      owed[who] = 0;
    }
    REQUIRE(write(command_pipe[who][1], &c, sizeof c) == sizeof c);
    struct reply r = {0};
    int silent = 0;
    /* Who ends or stops itself does not answer (now). */
    struct pollfd p = {reply_pipe[who][0], POLLIN, 0};
    while (poll(&p, 1, 20) == 0) {
      now = settle();
      if (now[2 * who] != 'r') {
        silent = 1;
        break;
      }
    }
    if (!silent) REQUIRE(read(reply_pipe[who][0], &r, sizeof r) == sizeof r);
    now = settle();
    say("  %d %s %d %d: %ld %s %x %d %d%s  %s", who + 1, names[op], c.a, c.b, r.ret, r.err ? strerrorname_np(r.err) : "", r.status, r.code, r.value,
        silent ? " silent" : "", now);
    if (silent && now[2 * who] == 'T') owed[who] = 1;
  }
  for (int i = 0; i < ACTORS; i++)
    if (shared->pid[i]) kill(shared->pid[i], SIGKILL);
  for (int i = 0; i < ACTORS; i++) close(command_pipe[i][0]), close(command_pipe[i][1]), close(reply_pipe[i][0]), close(reply_pipe[i][1]);
  while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) continue;
}

TEST(orders) {
  const char *seed = getenv("GUEST_SEED");
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int round = 0; round < (seed ? 12 : 3); round++) {
    say("round %d", round);
    state = (seed ? strtoull(seed, NULL, 0) : 1) * 1000 + round;
    rnd(1);
    round_of(60);
  }
}
