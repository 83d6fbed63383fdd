/* Signals in masses: between processes and threads, during exec, exit, stop and continue. */
#include "guest.h"

static volatile long count;
static void add(int sig) {
  (void)sig;
  __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
}

TEST(ping_pong_of_processes) {
  enum { ROUNDS = 300 };
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  pid_t parent = getpid(), child = fork();
  int sig;
  if (child == 0) {
    for (int i = 0; i < ROUNDS; i++) {
      sigwait(&set, &sig);
      kill(parent, SIGUSR1);
    }
    _exit(0);
  }
  for (int i = 0; i < ROUNDS; i++) {
    kill(child, SIGUSR1);
    sigwait(&set, &sig);
  }
  CHECK_EQ(reap(child), 0);
}

TEST(realtime_flood_arrives_completely) {
  struct sigaction sa = {.sa_handler = add};
  sigaction(SIGRTMIN, &sa, NULL);
  pid_t parent = getpid(), child = fork();
  if (child == 0) {
    for (int i = 0; i < 1000; i++)
      while (sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = i}) == -1 && errno == EAGAIN) sched_yield();
    _exit(0);
  }
  while (__atomic_load_n(&count, __ATOMIC_RELAXED) < 1000) usleep(1000);
  CHECK_EQ(reap(child), 0);
  CHECK_EQ(count, 1000);
}

static volatile int stop;
static void *spin(void *arg) {
  unsigned long *n = arg;
  while (!stop) (*n)++;
  return NULL;
}
static void *call(void *arg) {
  unsigned long *n = arg;
  while (!stop) {
    getppid();
    (*n)++;
  }
  return NULL;
}
TEST(threads_under_fire) {
  struct sigaction sa = {.sa_handler = add, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &sa, NULL);
  pthread_t t[4];
  static unsigned long n[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, i % 2 ? spin : call, &n[i]);
  for (int i = 0; i < 400; i++) {
    pthread_kill(t[i % 4], SIGUSR1);
    if (i % 10 == 0) kill(getpid(), SIGUSR1);
  }
  stop = 1;
  for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(t[i], NULL), 0);
  CHECK(count > 0);
}

TEST(stop_and_continue_storm) {
  pid_t child = fork();
  if (child == 0) {
    int p[2];
    char c = 0;
    if (pipe(p) != 0) _exit(1);
    for (int i = 0; i < 500; i++)
      if (write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1) _exit(2);
    sleep_ms(50);
    _exit(7);
  }
  for (int i = 0; i < 60; i++) {
    kill(child, SIGSTOP);
    kill(child, SIGCONT);
  }
  CHECK_EQ(reap(child), 7);
}

TEST(stopped_child_is_killed) {
  pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  kill(child, SIGSTOP);
  int status;
  CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
  CHECK(WIFSTOPPED(status));
  kill(child, SIGTERM); /* waits for the continue */
  CHECK_EQ(waitpid(child, &status, WNOHANG), 0);
  kill(child, SIGKILL);
  CHECK_EQ(reap(child), 128 + SIGKILL);
}

HELPER(quick) { return 3; }
TEST(exec_under_fire) {
  signal(SIGUSR1, SIG_IGN);
  for (int i = 0; i < 5; i++) {
    pid_t child = fork();
    if (child == 0) {
      execl(guest_self, guest_self, "quick", NULL);
      _exit(1);
    }
    for (int j = 0; j < 50; j++) kill(child, SIGUSR1);
    CHECK_EQ(reap(child), 3);
  }
}

static void *kill_me(void *arg) {
  (void)arg;
  for (;;) pthread_kill(pthread_self(), 0);
  return NULL;
}
TEST(kill_of_busy_threads) {
  for (int round = 0; round < 5; round++) {
    pid_t child = fork();
    if (child == 0) {
      pthread_t t;
      for (int i = 0; i < 8; i++) pthread_create(&t, NULL, i % 2 ? kill_me : spin, &(unsigned long){0});
      for (;;) pause();
    }
    sleep_ms(20);
    kill(child, SIGKILL);
    CHECK_EQ(reap(child), 128 + SIGKILL);
  }
}

static void *leave(void *arg) { return arg; }
TEST(threads_come_and_go) {
  for (int i = 0; i < 200; i++) {
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, leave, NULL), 0);
    if (i % 2) pthread_detach(t);
    else pthread_join(t, NULL);
  }
}

TEST(orphans_in_masses) {
  for (int i = 0; i < 20; i++) {
    pid_t child = fork();
    if (child == 0) {
      for (int j = 0; j < 3; j++)
        if (fork() == 0) {
          usleep(1000 * j);
          _exit(0);
        }
      _exit(0);
    }
    CHECK_EQ(reap(child), 0);
  }
  CHECK_ERR(wait(NULL), ECHILD);
}

TEST(timer_storm) {
  struct sigaction sa = {.sa_handler = add, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &sa, NULL);
  struct itimerval it = {{0, 200}, {0, 200}};
  CHECK_OK(setitimer(ITIMER_REAL, &it, NULL));
  int64_t end = now_ms() + 200;
  while (now_ms() < end) getppid();
  it = (struct itimerval){{0, 0}, {0, 0}};
  CHECK_OK(setitimer(ITIMER_REAL, &it, NULL));
  CHECK(count > 10);
}
