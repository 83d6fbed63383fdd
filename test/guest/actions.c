/*
 * rt_sigaction(2), again and again: a sandbox may answer it where the process is, and take over later what has changed.
 * Nothing of that may show: not when a signal comes meanwhile, nor to children, other threads, or those that look.
 */
#include "guest.h"

#define AGAIN 12

struct action {
  uint64_t handler, flags, restorer, mask;
};

static long act(int sig, const void *set, void *old) { return syscall(SYS_rt_sigaction, sig, set, old, 8); }

static volatile int caught, other_caught;
static void count(int sig) {
  caught++;
  (void)sig;
}
static void other(int sig) {
  other_caught++;
  (void)sig;
}

static void set(int sig, void (*handler)(int), int flags) {
  struct sigaction a = {.sa_handler = handler, .sa_flags = flags};
  CHECK_EQ(sigaction(sig, &a, NULL), 0);
}

/* So that whatever remembers actions knows them. */
static void warm(void) {
  for (int i = 0; i < 3; i++) set(SIGUSR2, SIG_DFL, 0);
}

TEST(actions) {
  struct action a, old;
  warm();
  for (int i = 0; i < AGAIN; i++) {
    for (int sig = 1; sig <= 64; sig++) {
      if (sig == SIGKILL || sig == SIGSTOP || sig == SIGALRM || sig == SIGCHLD) continue;
      a = (struct action){0x1000 + sig + i, 0xffffffffffffffff, 0x2000 + sig, 0xffffffffffffffff};
      CHECK_EQ(act(sig, &a, NULL), 0);
    }
    for (int sig = 1; sig <= 64 && guest_failures == 0; sig++) {
      if (sig == SIGKILL || sig == SIGSTOP || sig == SIGALRM || sig == SIGCHLD) continue;
      memset(&old, 0x55, sizeof old);
      CHECK_EQ(act(sig, NULL, &old), 0);
      CHECK_EQ(old.handler, 0x1000 + sig + i);
      CHECK_EQ(old.flags, 0xdc000807);
      CHECK_EQ(old.restorer, 0x2000 + sig);
      CHECK_EQ(old.mask, ~(1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1)));
    }
    /* Both at one address. */
    a = (struct action){5, 0, 6, 7};
    CHECK_EQ(act(SIGUSR1, &a, &a), 0);
    CHECK_EQ(a.handler, 0x1000 + SIGUSR1 + i);
    CHECK_EQ(act(SIGUSR1, NULL, &a), 0);
    CHECK_EQ(a.handler, 5);
    CHECK_EQ(a.mask, 7);
  }
  for (int sig = 1; sig <= 64; sig++)
    if (sig != SIGKILL && sig != SIGSTOP && sig != SIGALRM) act(sig, &(struct action){0}, NULL);
}

TEST(actions_and_bad_arguments) {
  struct action a = {(uint64_t)count, 0, 0, 0}, old;
  char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQ(munmap(page + 4096, 4096), 0);
  CHECK_EQ(mprotect(page, 4096, PROT_READ), 0);
  warm();
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    CHECK_ERR(act(0, NULL, &old), EINVAL);
    CHECK_ERR(act(65, NULL, &old), EINVAL);
    CHECK_ERR(act(-1, &a, &old), EINVAL);
    CHECK_ERR(act(SIGKILL, &a, NULL), EINVAL);
    CHECK_ERR(act(SIGSTOP, &a, NULL), EINVAL);
    CHECK_EQ(act(SIGKILL, NULL, &old), 0);
    CHECK_EQ(act(SIGSTOP, NULL, NULL), 0);
    CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, &a, NULL, 4), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 16), EINVAL);
    CHECK_ERR(act(SIGUSR1, (void *)8, NULL), EFAULT);
    CHECK_ERR(act(SIGUSR1, page + 4096 - 16, NULL), EFAULT);
    CHECK_ERR(act(SIGUSR1, (void *)-16L, NULL), EFAULT);
    CHECK_ERR(act(SIGUSR1, (void *)0x7fff80001000, NULL), EFAULT);
    CHECK_EQ(act(SIGUSR1, NULL, &old), 0);
    CHECK_EQ(old.handler, 0);
    /* The old action cannot be told, but the new one counts. */
    CHECK_ERR(act(SIGUSR1, &a, page), EFAULT);
    CHECK_EQ(act(SIGUSR1, NULL, &old), 0);
    CHECK_EQ(old.handler, (uint64_t)count);
    set(SIGUSR1, SIG_DFL, 0);
    if (guest_failures != before) break;
  }
}

TEST(actions_and_pending_signals) {
  sigset_t usr1, none, now;
  sigemptyset(&none);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  warm();
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    caught = other_caught = 0;
    set(SIGUSR1, count, 0);
    raise(SIGUSR1);
    set(SIGUSR1, other, 0);
    raise(SIGUSR1);
    set(SIGUSR1, SIG_IGN, 0);
    raise(SIGUSR1);
    CHECK_EQ(caught, 1);
    CHECK_EQ(other_caught, 1);
    /* Pending, then ignored for a moment: it is gone. */
    set(SIGUSR1, count, 0);
    sigprocmask(SIG_SETMASK, &usr1, NULL);
    raise(SIGUSR1);
    set(SIGUSR1, SIG_IGN, 0);
    set(SIGUSR1, count, 0);
    sigpending(&now);
    CHECK_EQ(sigismember(&now, SIGUSR1), 0);
    sigprocmask(SIG_SETMASK, &none, NULL);
    CHECK_EQ(caught, 1);
    /* Ignored, then pending while it is blocked: it stays. */
    set(SIGUSR1, SIG_IGN, 0);
    sigprocmask(SIG_SETMASK, &usr1, NULL);
    raise(SIGUSR1);
    set(SIGUSR1, count, 0);
    sigprocmask(SIG_SETMASK, &none, NULL);
    CHECK_EQ(caught, 2);
    /* Once only. */
    struct sigaction old;
    set(SIGUSR1, count, SA_RESETHAND);
    raise(SIGUSR1);
    CHECK_EQ(caught, 3);
    CHECK_EQ(sigaction(SIGUSR1, NULL, &old), 0);
    CHECK_EQ(old.sa_handler == SIG_DFL, 1);
    if (guest_failures != before) break;
  }
}

TEST(actions_and_children) {
  warm();
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures, status;
    set(SIGUSR1, SIG_IGN, 0);
    CHECK_EQ(IN_CHILD(struct sigaction a; raise(SIGUSR1); sigaction(SIGUSR1, NULL, &a); CHECK_EQ(a.sa_handler == SIG_IGN, 1);
                      set(SIGUSR1, count, 0); raise(SIGUSR1); CHECK_EQ(caught, 1)), 0);
    set(SIGUSR1, SIG_DFL, 0);
    pid_t child = fork();
    if (child == 0) {
      kill(getpid(), SIGUSR1);
      _exit(7);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(WTERMSIG(status), SIGUSR1);
    /* A vfork child's actions are its own. */
    set(SIGUSR1, count, 0);
    child = vfork();
    if (child == 0) {
      struct sigaction a = {.sa_handler = SIG_IGN};
      sigaction(SIGUSR1, &a, NULL);
      sigaction(SIGUSR1, &a, NULL);
      _exit(0);
    }
    waitpid(child, &status, 0);
    struct sigaction a;
    CHECK_EQ(sigaction(SIGUSR1, NULL, &a), 0);
    CHECK_EQ(a.sa_handler == count, 1);
    /* Who wants no zombies has none. */
    set(SIGCHLD, i % 2 ? SIG_IGN : SIG_DFL, i % 2 ? 0 : SA_NOCLDWAIT);
    if ((child = fork()) == 0) _exit(3);
    CHECK_ERR(waitpid(child, &status, 0), ECHILD);
    set(SIGCHLD, SIG_DFL, 0);
    if (guest_failures != before) break;
  }
}

HELPER(actions_after_exec) {
  struct sigaction a;
  sigaction(SIGUSR1, NULL, &a);
  int ignored = a.sa_handler == SIG_IGN;
  sigaction(SIGUSR2, NULL, &a);
  return ignored + 2 * (a.sa_handler == SIG_DFL) + 4 * (a.sa_flags == 0);
}
TEST(actions_and_exec) {
  for (int i = 0; i < 3; i++) {
    int status;
    pid_t child = fork();
    if (child == 0) {
      warm();
      set(SIGUSR1, SIG_IGN, 0);
      set(SIGUSR2, count, SA_NODEFER);
      execl(guest_self, guest_self, "actions_after_exec", NULL);
      _exit(99);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(WEXITSTATUS(status), 7);
  }
}

static struct {
  volatile int turn, ready, stop;
  volatile uint64_t seen, ignored;
} *both;
static void await(int turn) {
  while (both->turn != turn) sched_yield();
}

/* What /proc says of somebody who computes. */
static uint64_t mask_of(pid_t pid, const char *line) {
  char name[64], text[4096];
  snprintf(name, sizeof name, "/proc/%d/status", pid);
  int fd = open(name, O_RDONLY);
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  const char *at = strstr(text, line);
  return at == NULL ? 1 : strtoull(at + strlen(line), NULL, 16);
}

TEST(actions_seen_by_others) {
  both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t parent = getpid(), child = fork();
  if (child == 0) {
    for (;;) {
      await(1);
      if (both->stop) _exit(0);
      both->seen = mask_of(parent, "SigCgt:\t") >> (SIGUSR1 - 1) & 1;
      both->ignored = mask_of(parent, "SigIgn:\t") >> (SIGUSR1 - 1) & 1;
      kill(parent, SIGUSR1);
      both->turn = 2;
    }
  }
  warm();
  for (int i = 0; i < AGAIN; i++) {
    int before = guest_failures;
    caught = other_caught = 0;
    /* The signal comes while we compute: the action set last counts. */
    set(SIGUSR1, other, 0);
    set(SIGUSR1, count, 0);
    both->turn = 1;
    await(2);
    CHECK_EQ(both->seen, 1);
    CHECK_EQ(both->ignored, 0);
    for (int n = 0; n < 1000 && caught == 0; n++) sched_yield();
    getppid();
    CHECK_EQ(caught, 1);
    CHECK_EQ(other_caught, 0);
    set(SIGUSR1, SIG_IGN, 0);
    both->turn = 1;
    await(2);
    CHECK_EQ(both->seen, 0);
    CHECK_EQ(both->ignored, 1);
    getppid();
    CHECK_EQ(caught, 1);
    set(SIGUSR1, count, 0);
    getppid();
    CHECK_EQ(caught, 1);
    if (guest_failures != before) break;
  }
  both->stop = 1;
  both->turn = 1;
  waitpid(child, NULL, 0);
}

/* Another thread, or a process with the same actions, changes them in turn with us. */
static int change(void *arg) {
  struct sigaction a;
  for (int i = 0; i < AGAIN; i++) {
    await(1);
    sigaction(SIGUSR2, NULL, &a);
    both->seen = a.sa_handler == count;
    set(SIGUSR2, other, 0);
    both->turn = 2;
  }
  (void)arg;
  return 0;
}
static void *change_in_thread(void *arg) {
  change(arg);
  return arg;
}
static void in_turn(void) {
  struct sigaction a;
  for (int i = 0; i < AGAIN; i++) {
    set(SIGUSR2, count, 0);
    both->turn = 1;
    await(2);
    CHECK_EQ(both->seen, 1);
    CHECK_EQ(sigaction(SIGUSR2, NULL, &a), 0);
    CHECK_EQ(a.sa_handler == other, 1);
  }
}
TEST(actions_shared) {
  static char stack[65536];
  pthread_t thread;
  both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  warm();
  CHECK_EQ(pthread_create(&thread, NULL, change_in_thread, NULL), 0);
  in_turn();
  pthread_join(thread, NULL);
  warm();
  both->turn = 0;
  pid_t child = clone(change, stack + sizeof stack, CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL);
  CHECK_EQ(child > 0, 1);
  in_turn();
  waitpid(child, NULL, 0);
}
