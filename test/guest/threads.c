/* Threads: creation, joining, locks, conditions, thread-local storage, cancellation, exit with running threads. */
#include "guest.h"
#include <semaphore.h>

static void *echo(void *arg) { return arg; }
TEST(create_and_join) {
  pthread_t t[16];
  for (long i = 0; i < 16; i++) REQUIRE(pthread_create(&t[i], NULL, echo, (void *)i) == 0);
  long sum = 0;
  for (int i = 0; i < 16; i++) {
    void *v;
    CHECK_EQ(pthread_join(t[i], &v), 0);
    sum += (long)v;
  }
  CHECK_EQ(sum, 120);
}

static void *ids(void *arg) {
  long *out = arg;
  out[0] = getpid();
  out[1] = syscall(SYS_gettid);
  out[2] = getppid();
  return NULL;
}
TEST(ids_of_threads) {
  long out[3];
  pthread_t t;
  pthread_create(&t, NULL, ids, out);
  pthread_join(t, NULL);
  CHECK_EQ(out[0], getpid());
  CHECK(out[1] != getpid());
  CHECK_EQ(out[2], getppid());
  while (syscall(SYS_tgkill, getpid(), out[1], 0) == 0) sched_yield(); /* joined a moment before it is gone */
  CHECK_EQ(errno, ESRCH);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counter;
static void *count(void *arg) {
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&lock);
    counter++;
    pthread_mutex_unlock(&lock);
  }
  return arg;
}
TEST(mutex) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, count, NULL);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  CHECK_EQ(counter, 80000);
}

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn;
static void *ping(void *arg) {
  int me = (int)(long)arg;
  for (int i = 0; i < 500; i++) {
    pthread_mutex_lock(&lock);
    while (turn != me) pthread_cond_wait(&cond, &lock);
    turn = !me;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}
TEST(condition_ping_pong) {
  pthread_t a, b;
  pthread_create(&a, NULL, ping, (void *)0L);
  pthread_create(&b, NULL, ping, (void *)1L);
  pthread_join(a, NULL);
  pthread_join(b, NULL);
  CHECK_EQ(turn, 0);
}

TEST(timed_waits) {
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  ts.tv_nsec += 30000000;
  if (ts.tv_nsec >= 1000000000) ts.tv_sec++, ts.tv_nsec -= 1000000000;
  pthread_mutex_lock(&lock);
  CHECK_EQ(pthread_cond_timedwait(&cond, &lock, &ts), ETIMEDOUT);
  pthread_mutex_unlock(&lock);
  sem_t sem;
  sem_init(&sem, 0, 0);
  CHECK_ERR(sem_timedwait(&sem, &ts), ETIMEDOUT);
  sem_post(&sem);
  CHECK_OK(sem_timedwait(&sem, &ts));
}

static __thread int tls = 7;
static __thread char big_tls[5000];
static void *use_tls(void *arg) {
  if (tls != 7 || big_tls[4999] != 0) return (void *)1L;
  tls = (int)(long)arg;
  memset(big_tls, tls, sizeof big_tls);
  sched_yield();
  return (void *)(long)(tls != (int)(long)arg || big_tls[2500] != (char)tls);
}
TEST(thread_local_storage) {
  pthread_t t[8];
  tls = 100;
  for (long i = 0; i < 8; i++) pthread_create(&t[i], NULL, use_tls, (void *)(i + 1));
  for (int i = 0; i < 8; i++) {
    void *bad;
    pthread_join(t[i], &bad);
    CHECK(!bad);
  }
  CHECK_EQ(tls, 100);
}

static pthread_barrier_t barrier;
static int serial;
static void *meet(void *arg) {
  for (int i = 0; i < 50; i++)
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
  return arg;
}
TEST(barrier_rounds) {
  pthread_t t[4];
  pthread_barrier_init(&barrier, NULL, 4);
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, meet, NULL);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  CHECK_EQ(serial, 50);
}

static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static volatile long a_value, b_value, torn;
static void *reader(void *arg) {
  for (int i = 0; i < 300; i++) {
    pthread_rwlock_rdlock(&rw);
    if (a_value != b_value) torn++;
    pthread_rwlock_unlock(&rw);
  }
  return arg;
}
static void *writer(void *arg) {
  for (int i = 0; i < 300; i++) {
    pthread_rwlock_wrlock(&rw);
    a_value++;
    b_value++;
    pthread_rwlock_unlock(&rw);
  }
  return arg;
}
TEST(read_write_lock) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, i < 2 ? reader : writer, NULL);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  CHECK_EQ(torn, 0);
  CHECK_EQ(a_value, 600);
}

static int cleaned;
static void clean(void *arg) {
  (void)arg;
  cleaned++;
}
static void *block_in_read(void *arg) {
  pthread_cleanup_push(clean, NULL);
  char c;
  if (read((int)(long)arg, &c, 1) < 0) return NULL;
  pthread_cleanup_pop(0);
  return NULL;
}
TEST(cancel_blocked_read) {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  pthread_t t;
  void *v;
  pthread_create(&t, NULL, block_in_read, (void *)(long)fds[0]);
  sleep_ms(30);
  CHECK_EQ(pthread_cancel(t), 0);
  CHECK_EQ(pthread_join(t, &v), 0);
  CHECK(v == PTHREAD_CANCELED);
  CHECK_EQ(cleaned, 1);
}

static void *spin(void *arg) {
  for (volatile int x = 0;; x++) continue;
  return arg;
}
static void *sleeper(void *arg) {
  for (;;) pause();
  return arg;
}
TEST(exit_group_ends_all) {
  CHECK_EQ(IN_CHILD({
    pthread_t t;
    pthread_create(&t, NULL, spin, NULL);
    pthread_create(&t, NULL, sleeper, NULL);
    sleep_ms(20);
    _exit(9);
  }), 9);
}
static void *exiter(void *arg) {
  exit((int)(long)arg);
  return NULL;
}
TEST(exit_from_a_thread) {
  CHECK_EQ(IN_CHILD({
    pthread_t t;
    pthread_create(&t, NULL, exiter, (void *)17L);
    for (;;) pause();
  }), 17);
}
static void *late_exit(void *arg) {
  sleep_ms(40);
  _exit((int)(long)arg);
  return NULL;
}
TEST(main_thread_leaves_first) {
  CHECK_EQ(IN_CHILD({
    pthread_t t;
    pthread_create(&t, NULL, late_exit, (void *)23L);
    syscall(SYS_exit, 5);
  }), 23);
}
TEST(main_leaves_last_thread_returns) {
  CHECK_EQ(IN_CHILD({
    pthread_t t;
    pthread_create(&t, NULL, echo, NULL);
    pthread_exit(NULL);
  }), 0);
}
static void *crash(void *arg) {
  *(volatile int *)arg = 1;
  return NULL;
}
TEST(fatal_signal_in_a_thread_ends_all) {
  CHECK_EQ(IN_CHILD({
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    pthread_t t;
    pthread_create(&t, NULL, spin, NULL);
    pthread_create(&t, NULL, crash, (void *)8L);
    for (;;) pause();
  }), 128 + SIGSEGV);
}

static volatile sig_atomic_t handled_by;
static __thread int me;
static void handler(int sig) {
  (void)sig;
  handled_by = me;
}
static void *wait_signal(void *arg) {
  me = (int)(long)arg;
  while (!handled_by) usleep(1000);
  return NULL;
}
TEST(pthread_kill_hits_the_thread) {
  signal(SIGUSR1, handler);
  pthread_t t[3];
  for (long i = 0; i < 3; i++) pthread_create(&t[i], NULL, wait_signal, (void *)(i + 1));
  sleep_ms(20);
  CHECK_EQ(pthread_kill(t[1], SIGUSR1), 0);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  CHECK_EQ(handled_by, 2);
}
TEST(process_signal_goes_to_an_unblocked_thread) {
  signal(SIGUSR1, handler);
  sigset_t mask;
  sigemptyset(&mask);
  pthread_t t;
  handled_by = 0;
  pthread_create(&t, NULL, wait_signal, (void *)4L);
  sigaddset(&mask, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &mask, NULL);
  sleep_ms(20);
  kill(getpid(), SIGUSR1);
  pthread_join(t, NULL);
  CHECK_EQ(handled_by, 4);
}

TEST(many_threads) {
  enum { N = 100 };
  static pthread_t t[N];
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 65536);
  for (long i = 0; i < N; i++) REQUIRE(pthread_create(&t[i], &attr, echo, (void *)i) == 0);
  for (int i = 0; i < N; i++) CHECK_EQ(pthread_join(t[i], NULL), 0);
}

TEST(detached) {
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  static sem_t sem;
  sem_init(&sem, 0, 0);
  pthread_t t;
  for (int i = 0; i < 20; i++) CHECK_EQ(pthread_create(&t, &attr, (void *(*)(void *))(void *)sem_post, &sem), 0);
  for (int i = 0; i < 20; i++) sem_wait(&sem);
}

static void *forker(void *arg) {
  int code = IN_CHILD(_exit(31));
  return (void *)(long)(code == 31 ? (long)arg : -1);
}
TEST(fork_from_threads) {
  pthread_t t[4];
  for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, forker, (void *)i);
  long sum = 0;
  for (int i = 0; i < 4; i++) {
    void *v;
    pthread_join(t[i], &v);
    sum += (long)v;
  }
  CHECK_EQ(sum, 6);
}

TEST(names) {
  CHECK_EQ(pthread_setname_np(pthread_self(), "fifteen-letters"), 0);
  CHECK_EQ(pthread_setname_np(pthread_self(), "sixteen-letters!"), ERANGE);
  char name[16];
  pthread_getname_np(pthread_self(), name, sizeof name);
  CHECK_STR(name, "fifteen-letters");
  CHECK_STR(get_file("/proc/self/comm"), "fifteen-letters\n");
}

/* What a thread leaves behind is not the next one's. */
static unsigned control_word(void) {
  unsigned value;
  __asm__ volatile("stmxcsr %0" : "=m"(value));
  return value;
}
static void set_control_word(unsigned value) { __asm__ volatile("ldmxcsr %0" : : "m"(value)); }
struct begun {
  unsigned mxcsr;
  int masked, alternate, cpus, bits;
  long cpu_ns;
};
static void *leave_traces(void *out) {
  struct begun *begun = out;
  struct timespec ts;
  sigset_t set;
  stack_t stack;
  cpu_set_t cpus;
  static _Thread_local char alternate[16384];

  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  begun->cpu_ns = ts.tv_sec * 1000000000L + ts.tv_nsec;
  begun->mxcsr = control_word();
  pthread_sigmask(SIG_SETMASK, NULL, &set);
  begun->masked = sigismember(&set, SIGUSR1);
  sigaltstack(NULL, &stack);
  begun->alternate = !(stack.ss_flags & SS_DISABLE);
  sched_getaffinity(0, sizeof(cpus), &cpus);
  begun->cpus = CPU_COUNT(&cpus);
  do
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  while (ts.tv_sec == 0 && ts.tv_nsec - begun->cpu_ns < 30000000);
  set_control_word(control_word() ^ 0x2000);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_SETMASK, &set, NULL);
  sigaltstack(&(stack_t){.ss_sp = alternate, .ss_size = sizeof(alternate)}, NULL);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &cpus)) {
      CPU_ZERO(&cpus);
      CPU_SET(cpu, &cpus);
      break;
    }
  CHECK_EQ(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
  return NULL;
}
TEST(one_after_another) {
  unsigned before = control_word();
  sigset_t set;
  cpu_set_t cpus;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sched_getaffinity(0, sizeof(cpus), &cpus);
  for (int i = 0; i < 6; i++) {
    struct begun begun;
    pthread_t t;
    pthread_sigmask(i & 1 ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    set_control_word(i & 2 ? before | 0x4000 : before);
    REQUIRE(pthread_create(&t, NULL, leave_traces, &begun) == 0);
    pthread_join(t, NULL);
    CHECK_EQ(begun.masked, i & 1);
    CHECK_EQ(begun.mxcsr, i & 2 ? before | 0x4000 : before);
    CHECK_EQ(begun.alternate, 0);
    CHECK_EQ(begun.cpus, CPU_COUNT(&cpus));
    CHECK(begun.cpu_ns < 20000000);
  }
  set_control_word(before);
}

static sem_t met;
static void meet_signal(int sig) {
  (void)sig;
  sem_post(&met);
}
static volatile int leave;
static void *wait_to_leave(void *arg) {
  while (!leave) sched_yield();
  return arg;
}
TEST(signal_as_it_begins) {
  signal(SIGUSR1, meet_signal);
  sem_init(&met, 0, 0);
  for (int i = 0; i < 300; i++) {
    pthread_t t;
    leave = 0;
    REQUIRE(pthread_create(&t, NULL, wait_to_leave, NULL) == 0);
    REQUIRE(pthread_kill(t, SIGUSR1) == 0);
    while (sem_wait(&met) < 0) REQUIRE(errno == EINTR);
    leave = 1;
    pthread_join(t, NULL);
  }
}

static pthread_mutex_t robust;
static void *die_with_it(void *arg) {
  pthread_mutex_lock(&robust);
  return arg;
}
TEST(owner_dies_and_another_begins) {
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attr);
  for (int i = 0; i < 20; i++) {
    pthread_t t, next;
    REQUIRE(pthread_create(&t, NULL, die_with_it, NULL) == 0);
    pthread_join(t, NULL);
    REQUIRE(pthread_create(&next, NULL, echo, NULL) == 0);
    REQUIRE(pthread_mutex_lock(&robust) == EOWNERDEAD);
    REQUIRE(pthread_mutex_consistent(&robust) == 0);
    pthread_mutex_unlock(&robust);
    pthread_join(next, NULL);
  }
}

TEST(threads_and_vforks_in_turn) {
  for (int i = 0; i < 40; i++) {
    pthread_t t;
    int status;
    pid_t pid = vfork();
    if (pid == 0) _exit(i & 127);
    REQUIRE(pid > 0);
    REQUIRE(pthread_create(&t, NULL, echo, NULL) == 0);
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(WEXITSTATUS(status), i & 127);
    pthread_join(t, NULL);
    pid = fork();
    if (pid == 0) {
      pthread_create(&t, NULL, echo, NULL);
      pthread_join(t, NULL);
      _exit(3);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(WEXITSTATUS(status), 3);
  }
}
