/* Random sequences of signal calls on oneself; handlers log what they see, and every result is compared with the host's. GUEST_SEED picks another run. */
#include "guest.h"
#include <sys/signalfd.h>

static unsigned long long state;
static unsigned rnd(unsigned n) {
  state = state * 6364136223846793005ULL + 1442695040888963407ULL;
  return (unsigned)(state >> 33) % n;
}
static const int sigs[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGTSTP, SIGTERM, SIGSEGV, 34, 35, 64, SIGPIPE};
enum { NSIGS = sizeof sigs / sizeof *sigs };
static int sig(void) { return sigs[rnd(NSIGS)]; }

static unsigned bits(const sigset_t *set) {
  unsigned b = 0;
  for (int i = 0; i < NSIGS; i++) b |= (unsigned)sigismember(set, sigs[i]) << i;
  return b;
}
static unsigned blocked(void) {
  sigset_t set;
  sigprocmask(SIG_BLOCK, NULL, &set);
  return bits(&set);
}
static char alternate[4][65536];
static int stack_of(const void *p) {
  for (int i = 0; i < 4; i++)
    if ((char *)p >= alternate[i] && (char *)p < alternate[i] + 65536) return i;
  return -1;
}
static int depth;
static void plain(int s) {
  int here;
  say("    %*splain %d blocked %x stack %d", depth, "", s, blocked(), stack_of(&here));
}
static int raise_inside, budget;
static void with_info(int s, siginfo_t *info, void *context) {
  ucontext_t *uc = context;
  int own = info->si_pid == getpid();
  say("    %*sinfo %d/%d code %d own %d value %d blocked %x old %x stack %d flags %x", depth, "", s, info->si_signo, info->si_code, own,
      info->si_code == SI_QUEUE ? info->si_value.sival_int : 0, blocked(), bits(&uc->uc_sigmask), stack_of(&own), uc->uc_stack.ss_flags);
  if (raise_inside > 0 && depth < 4 && budget-- > 0) {
    depth++;
    raise(raise_inside);
    depth--;
  }
}

static sigset_t some_set(void) {
  sigset_t set;
  sigemptyset(&set);
  int n = rnd(5);
  for (int i = 0; i < n; i++) sigaddset(&set, sig());
  return set;
}
static void show(const char *what, long r) {
  sigset_t pending;
  const char *text = result(r);
  sigpending(&pending);
  say("  %s %s blocked %x pending %x", what, text, blocked(), bits(&pending));
}

static void step(int sfd) {
  sigset_t set, old;
  struct sigaction sa = {0}, was;
  struct timespec zero = {0, 0};
  siginfo_t info;
  int s = sig();
  budget = 6;
  switch (rnd(17)) {
    case 0:
    case 1:
      sa.sa_handler = rnd(4) ? SIG_DFL : SIG_IGN;
      /* Never a default that ends or stops the program while it may be raised: those are tested in children. */
      if (sa.sa_handler == SIG_DFL && s != SIGCHLD && s != SIGCONT && s != SIGURG && s != SIGWINCH) sa.sa_handler = SIG_IGN;
      show("action", sigaction(s, &sa, &was));
      break;
    case 2:
    case 3:
    case 4:
      sa.sa_mask = some_set();
      sa.sa_flags = (rnd(2) ? SA_NODEFER : 0) | (rnd(2) ? SA_ONSTACK : 0) | (rnd(2) ? SA_RESTART : 0);
      if (rnd(2)) sa.sa_handler = plain;
      else sa.sa_sigaction = with_info, sa.sa_flags |= SA_SIGINFO;
      memset(&was, 0, sizeof was);
      long r = sigaction(s, &sa, &was);
      show("handler", r);
      say("    was %d flags %x mask %x", was.sa_handler == SIG_IGN ? 1 : was.sa_handler == SIG_DFL ? 0 : 2, (unsigned)was.sa_flags & ~0x04000000u, bits(&was.sa_mask));
      break;
    case 5: set = some_set(); show("block", sigprocmask(SIG_BLOCK, &set, &old)); break;
    case 6: set = some_set(); show("unblock", sigprocmask(SIG_UNBLOCK, &set, &old)); break;
    case 7: set = some_set(); show("setmask", sigprocmask(SIG_SETMASK, &set, &old)); break;
    case 8: show("kill", kill(getpid(), s)); break;
    case 9: show("raise", raise(s)); break;
    case 10: show("queue", sigqueue(getpid(), s, (union sigval){.sival_int = (int)rnd(1000)})); break;
    case 11:
      set = some_set();
      memset(&info, 0, sizeof info);
      show("timedwait", sigtimedwait(&set, &info, &zero));
      say("    signo %d code %d", info.si_signo, info.si_code);
      break;
    case 12: {
      stack_t ss = {.ss_sp = alternate[rnd(4)], .ss_size = 65536, .ss_flags = rnd(5) ? 0 : SS_DISABLE}, before = {0};
      show("altstack", sigaltstack(&ss, &before));
      say("    before %d size %zu flags %d", stack_of(before.ss_sp), before.ss_size, before.ss_flags);
      break;
    }
    case 13: {
      struct signalfd_siginfo got;
      set = some_set();
      signalfd(sfd, &set, 0);
      memset(&got, 0, sizeof got);
      struct pollfd p = {.fd = sfd, .events = POLLIN};
      int ready = poll(&p, 1, 0);
      show("signalfd", read(sfd, &got, sizeof got));
      say("    ready %d signo %u code %d int %d", ready, got.ssi_signo, got.ssi_code, got.ssi_code == SI_QUEUE ? got.ssi_int : 0);
      break;
    }
    case 14: {
      set = some_set();
      sigset_t pending;
      sigpending(&pending);
      /* Only where it certainly ends: something pending that the set lets through and that has a handler. */
      int ends = 0;
      for (int i = 0; i < NSIGS; i++)
        if (sigismember(&pending, sigs[i]) && !sigismember(&set, sigs[i]) && sigaction(sigs[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN && was.sa_handler != SIG_DFL) ends = 1;
      if (ends) show("suspend", sigsuspend(&set));
      break;
    }
    case 15:
      set = some_set();
      show("ppoll", ppoll(NULL, 0, &zero, &set));
      break;
    case 16: raise_inside = rnd(3) ? 0 : sig(); break;
  }
}

/* The default action after some history, in a child. */
static void ending(void) {
  int s = sig(), status;
  pid_t pid = fork();
  if (pid == 0) {
    signal(s, SIG_DFL);
    if (s == SIGTSTP) alarm(0);
    sigset_t none;
    sigemptyset(&none);
    raise(s);
    sigprocmask(SIG_SETMASK, &none, NULL);
    _exit(55);
  }
  while (waitpid(pid, &status, WUNTRACED) == -1 && errno == EINTR) continue;
  if (WIFSTOPPED(status)) {
    say("  stopped by %d", WSTOPSIG(status));
    kill(pid, SIGCONT);
    while (waitpid(pid, &status, 0) == -1 && errno == EINTR) continue;
  }
  say("  ends with %x", status & 0xff7f);
}

TEST(sequences) {
  const char *seed = getenv("GUEST_SEED");
  for (int round = 0; round < 60; round++) {
    say("round %d", round);
    IN_CHILD({
      state = (seed ? strtoull(seed, NULL, 0) : 1) * 1000 + round;
      rnd(1);
      for (int i = 0; i < NSIGS; i++) signal(sigs[i], SIG_IGN);
      sigset_t none;
      sigemptyset(&none);
      int sfd = signalfd(-1, &none, SFD_NONBLOCK | SFD_CLOEXEC);
      for (int i = 0; i < 60; i++) step(sfd);
      raise_inside = 0;
      signal(SIGCHLD, SIG_DFL);
      ending();
    });
  }
}
