/* Signal handlers: delivery, siginfo, masks, nesting, SA_* flags, queues, sigsuspend and sigwait. */
#include "guest.h"

static volatile sig_atomic_t count, order[32], last;
static siginfo_t seen;
static void note(int sig) {
  if (count < 32) order[count] = sig;
  count++;
  last = sig;
}
static void note_info(int sig, siginfo_t *info, void *context) {
  (void)context;
  seen = *info;
  note(sig);
}
static void install(int sig, int flags) {
  struct sigaction sa = {.sa_flags = flags};
  if (flags & SA_SIGINFO) sa.sa_sigaction = note_info;
  else sa.sa_handler = note;
  REQUIRE(sigaction(sig, &sa, NULL) == 0);
}
static void block(int how, int sig) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, sig);
  sigprocmask(how, &set, NULL);
}

TEST(every_signal) {
  for (int sig = 1; sig < 65; sig++) {
    if (sig == SIGKILL || sig == SIGSTOP || sig == 32 || sig == 33) continue;
    struct sigaction sa = {.sa_handler = note};
    CHECK_OK(syscall(SYS_rt_sigaction, sig, NULL, NULL, 8));
    CHECK_OK(sigaction(sig, &sa, NULL));
    last = 0;
    CHECK_OK(raise(sig));
    CHECK_EQ(last, sig);
  }
}

TEST(sigaction_errors) {
  struct sigaction sa = {.sa_handler = note};
  CHECK_ERR(sigaction(SIGKILL, &sa, NULL), EINVAL);
  CHECK_ERR(sigaction(SIGSTOP, &sa, NULL), EINVAL);
  CHECK_ERR(sigaction(0, &sa, NULL), EINVAL);
  CHECK_ERR(sigaction(65, &sa, NULL), EINVAL);
  CHECK_OK(sigaction(SIGKILL, NULL, &sa));
  CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
  CHECK_ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &sa, NULL, 4), EINVAL);
  CHECK_ERR(sigprocmask(99, (sigset_t *)&sa, NULL), EINVAL);
}

TEST(default_actions) {
  static const int sigs[] = {SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM,
      SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT, SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR, SIGSYS, 34, 64};
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++)
    say("  %d: %d", sigs[i], IN_CHILD(signal(sigs[i], SIG_DFL); kill(getpid(), sigs[i]); _exit(0)));
}

TEST(siginfo_of_kill_and_sigqueue) {
  install(SIGUSR1, SA_SIGINFO);
  kill(getpid(), SIGUSR1);
  CHECK_EQ(seen.si_code, SI_USER);
  CHECK_EQ(seen.si_pid, getpid());
  CHECK_EQ(seen.si_uid, getuid());
  sigqueue(getpid(), SIGUSR1, (union sigval){.sival_ptr = (void *)0x123456789L});
  CHECK_EQ(seen.si_code, SI_QUEUE);
  CHECK_EQ((long)seen.si_value.sival_ptr, 0x123456789L);
  CHECK_EQ(seen.si_pid, getpid());
  raise(SIGUSR1);
  CHECK_EQ(seen.si_code, SI_TKILL);
  siginfo_t forged = {.si_signo = SIGUSR1, .si_code = SI_USER};
  CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &forged)); /* to oneself, anything */
  forged.si_code = -60;
  CHECK_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &forged));
  CHECK_EQ(seen.si_code, -60);
  forged.si_code = SI_USER;
  CHECK_ERR(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &forged), EPERM);
}

static void with_self_masked(int sig) {
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  order[0] = sigismember(&now, SIGUSR1) * 4 + sigismember(&now, SIGUSR2) * 2 + sigismember(&now, SIGTERM);
  last = sig;
}
TEST(mask_in_handler) {
  struct sigaction sa = {.sa_handler = with_self_masked};
  sigaddset(&sa.sa_mask, SIGUSR2);
  sigaction(SIGUSR1, &sa, NULL);
  raise(SIGUSR1);
  CHECK_EQ(order[0], 6);
  sa.sa_flags = SA_NODEFER;
  sigaction(SIGUSR1, &sa, NULL);
  raise(SIGUSR1);
  CHECK_EQ(order[0], 2);
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  CHECK(sigisemptyset(&now));
}

static volatile int depth, deepest, raises = 3;
static void nest(int sig) {
  depth++;
  if (depth > deepest) deepest = depth;
  if (raises-- > 0) raise(sig);
  depth--;
}
TEST(nesting) {
  struct sigaction sa = {.sa_handler = nest, .sa_flags = SA_NODEFER};
  sigaction(SIGUSR1, &sa, NULL);
  raise(SIGUSR1);
  CHECK_EQ(deepest, 4);
  sa.sa_flags = 0; /* now the second waits until the first is done */
  sigaction(SIGUSR1, &sa, NULL);
  deepest = 0;
  raises = 3;
  raise(SIGUSR1);
  CHECK_EQ(deepest, 1);
  CHECK_EQ(raises, -1);
}

TEST(resethand) {
  struct sigaction sa = {.sa_handler = note, .sa_flags = SA_RESETHAND}, now;
  sigaction(SIGUSR1, &sa, NULL);
  raise(SIGUSR1);
  CHECK_EQ(last, SIGUSR1);
  sigaction(SIGUSR1, NULL, &now);
  CHECK(now.sa_handler == SIG_DFL);
  CHECK_EQ(IN_CHILD(raise(SIGUSR1)), 128 + SIGUSR1);
}

TEST(pending_and_coalescing) {
  install(SIGUSR1, 0);
  block(SIG_BLOCK, SIGUSR1);
  for (int i = 0; i < 5; i++) raise(SIGUSR1);
  CHECK_EQ(count, 0);
  sigset_t pending;
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGUSR1));
  block(SIG_UNBLOCK, SIGUSR1);
  CHECK_EQ(count, 1);
  block(SIG_BLOCK, SIGUSR1);
  raise(SIGUSR1);
  signal(SIGUSR1, SIG_IGN); /* ignoring drops what is pending */
  sigpending(&pending);
  CHECK(sigisemptyset(&pending));
}

TEST(realtime_order) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  for (int sig = 34; sig < 38; sig++) install(sig, SA_SIGINFO);
  install(SIGUSR2, 0);
  for (int i = 0; i < 3; i++) {
    sigqueue(getpid(), 36, (union sigval){.sival_int = i});
    sigqueue(getpid(), 34, (union sigval){.sival_int = i + 10});
  }
  kill(getpid(), SIGUSR2);
  siginfo_t info;
  for (int i = 0; i < 7; i++) {
    int sig = sigtimedwait(&all, &info, &(struct timespec){0, 0});
    say("  %d value %d", sig, sig >= 34 ? info.si_value.sival_int : -1);
  }
  CHECK_ERR(sigtimedwait(&all, &info, &(struct timespec){0, 0}), EAGAIN);
}

TEST(queue_limit) {
  struct rlimit limit = {3, 3};
  CHECK_OK(setrlimit(RLIMIT_SIGPENDING, &limit));
  block(SIG_BLOCK, 40);
  /* The limit counts per user, so the number that fit may be smaller, never larger. */
  int fit = 0;
  while (fit < 10 && sigqueue(getpid(), 40, (union sigval){0}) == 0) fit++;
  CHECK_EQ(errno, EAGAIN);
  CHECK(fit <= 3);
}

TEST(sigsuspend) {
  install(SIGUSR1, 0);
  block(SIG_BLOCK, SIGUSR1);
  raise(SIGUSR1);
  sigset_t none;
  sigemptyset(&none);
  CHECK_ERR(sigsuspend(&none), EINTR);
  CHECK_EQ(last, SIGUSR1);
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  CHECK(sigismember(&now, SIGUSR1)); /* the old mask is back */
}

TEST(pause_returns_after_handler) {
  install(SIGALRM, SA_RESTART);
  ualarm(20000, 0);
  CHECK_ERR(pause(), EINTR);
}

TEST(sigwaitinfo) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  pid_t me = getpid(), pid = fork();
  if (pid == 0) {
    sleep_ms(20);
    kill(me, SIGUSR1);
    _exit(0);
  }
  siginfo_t info;
  CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  CHECK_EQ(info.si_pid, pid);
  CHECK_EQ(info.si_code, SI_USER);
  reap(pid);
  install(SIGUSR2, SA_RESTART);
  if ((pid = fork()) == 0) {
    sleep_ms(20);
    kill(me, SIGUSR2);
    _exit(0);
  }
  CHECK_ERR(sigwaitinfo(&set, &info), EINTR); /* never restarted */
  reap(pid);
  CHECK_ERR(sigtimedwait(&set, &info, &(struct timespec){0, 20000000}), EAGAIN);
  CHECK_ERR(sigtimedwait(&set, &info, &(struct timespec){0, 1000000000}), EINVAL);
}

TEST(alternate_stack) {
  static char alt[65536];
  stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt}, old;
  CHECK_OK(sigaltstack(&ss, &old));
  CHECK_EQ(old.ss_flags, SS_DISABLE);
  CHECK_OK(sigaltstack(NULL, &old));
  CHECK(old.ss_sp == alt && old.ss_size == sizeof alt && old.ss_flags == 0);
  ss.ss_size = 1000;
  CHECK_ERR(sigaltstack(&ss, NULL), ENOMEM);
  ss.ss_flags = 0x40;
  CHECK_ERR(sigaltstack(&ss, NULL), EINVAL);
}

static char alt_stack[65536];
static volatile int on_alt, alt_flags, change_errno;
static void where(int sig) {
  char local;
  static char elsewhere[65536];
  stack_t now, other = {.ss_sp = elsewhere, .ss_size = sizeof elsewhere};
  on_alt = &local >= alt_stack && &local < alt_stack + sizeof alt_stack;
  sigaltstack(NULL, &now);
  alt_flags = now.ss_flags;
  errno = 0;
  sigaltstack(&other, NULL);
  change_errno = errno;
  (void)sig;
}
TEST(handler_on_alternate_stack) {
  stack_t ss = {.ss_sp = alt_stack, .ss_size = sizeof alt_stack};
  CHECK_OK(sigaltstack(&ss, NULL));
  struct sigaction sa = {.sa_handler = where};
  sigaction(SIGUSR1, &sa, NULL);
  raise(SIGUSR1);
  CHECK_EQ(on_alt, 0);
  CHECK_EQ(alt_flags, 0);
  sigaltstack(&ss, NULL);
  sa.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR1, &sa, NULL);
  raise(SIGUSR1);
  CHECK_EQ(on_alt, 1);
  CHECK_EQ(alt_flags, SS_ONSTACK);
  CHECK_EQ(change_errno, EPERM);
  ss.ss_flags = (int)(1U << 31) /* SS_AUTODISARM */;
  CHECK_OK(sigaltstack(&ss, NULL));
  raise(SIGUSR1);
  CHECK_EQ(on_alt, 1);
  CHECK_EQ(alt_flags, SS_DISABLE);
}

static int recurse(int n) {
  volatile char frame[4096];
  frame[0] = n;
  return recurse(n + 1) + frame[0];
}
static void overflowed(int sig) {
  (void)sig;
  _exit(44);
}
TEST(stack_overflow_on_alternate_stack) {
  CHECK_EQ(IN_CHILD({
    struct rlimit limit = {256 * 1024, 256 * 1024};
    setrlimit(RLIMIT_STACK, &limit);
    stack_t ss = {.ss_sp = alt_stack, .ss_size = sizeof alt_stack};
    sigaltstack(&ss, NULL);
    struct sigaction sa = {.sa_handler = overflowed, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &sa, NULL);
    recurse(0);
  }), 44);
}
TEST(stack_overflow_without_one_kills) {
  CHECK_EQ(IN_CHILD({
    struct rlimit limit = {256 * 1024, 256 * 1024}, none = {0, 0};
    setrlimit(RLIMIT_STACK, &limit);
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGSEGV, overflowed);
    recurse(0);
  }), 128 + SIGSEGV);
}

TEST(longjmp_out_of_handler) {
  /* Without restoring the mask the signal stays blocked: a handler that leaves by itself. */
  sigset_t now;
  install(SIGUSR1, 0);
  block(SIG_BLOCK, SIGUSR1);
  sigprocmask(SIG_BLOCK, NULL, &now);
  CHECK(sigismember(&now, SIGUSR1));
  sigaddset(&now, SIGKILL);
  sigaddset(&now, SIGSTOP);
  sigprocmask(SIG_SETMASK, &now, NULL);
  sigprocmask(SIG_BLOCK, NULL, &now);
  CHECK(!sigismember(&now, SIGKILL) && !sigismember(&now, SIGSTOP)); /* these cannot be blocked */
}

TEST(kill_errors) {
  CHECK_ERR(kill(999999, SIGUSR1), ESRCH);
  CHECK_ERR(kill(getpid(), 65), EINVAL);
  CHECK_ERR(kill(getpid(), -1), EINVAL);
  CHECK_ERR(kill(INT_MIN, 0), ESRCH);
  CHECK_ERR(syscall(SYS_tgkill, getpid(), 0, 0), EINVAL);
  CHECK_ERR(syscall(SYS_tgkill, -1, getpid(), 0), EINVAL);
  CHECK_ERR(syscall(SYS_tgkill, getpid() + 1, getpid(), 0), ESRCH);
  CHECK_ERR(syscall(SYS_tkill, 0, 0), EINVAL);
  CHECK_OK(syscall(SYS_tkill, getpid(), 0));
  CHECK_OK(kill(getpid(), 0));
}

TEST(kill_permissions) {
  pid_t root = fork();
  if (root == 0) for (;;) pause();
  CHECK_EQ(IN_CHILD({
    REQUIRE(setgid(1000) == 0 && setuid(1000) == 0);
    CHECK_ERR(kill(root, SIGTERM), EPERM);
    CHECK_ERR(kill(root, 0), EPERM);
    CHECK_ERR(kill(1, 0), EPERM);
    pid_t own = fork();
    if (own == 0) for (;;) pause();
    CHECK_OK(kill(own, SIGTERM));
    CHECK_EQ(reap(own), 128 + SIGTERM);
  }), 0);
  kill(root, SIGKILL);
  reap(root);
}

static void change_registers(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)info;
  ucontext_t *uc = context;
  uc->uc_mcontext.gregs[REG_R12] = 0x1122334455667788;
  sigaddset(&uc->uc_sigmask, SIGTERM);
}
TEST(context_can_be_changed) {
  struct sigaction sa = {.sa_sigaction = change_registers, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &sa, NULL);
  unsigned long r12;
  long r = SYS_tkill, pid = getpid();
  __asm__ volatile("mov $1, %%r12\n syscall\n mov %%r12, %1" : "+a"(r), "=r"(r12) : "D"(pid), "S"(SIGUSR1) : "rcx", "r11", "r12", "memory");
  CHECK_EQ(r, 0);
  CHECK_EQ(r12, 0x1122334455667788);
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  CHECK(sigismember(&now, SIGTERM));
}
