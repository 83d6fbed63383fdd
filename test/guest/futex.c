/* futex(2): every operation glibc and other runtimes use, their errors, robust lists, across processes. */
#include "guest.h"
#include <linux/futex.h>

static long futex(void *word, int op, unsigned val, const void *timeout, void *word2, unsigned val3) {
  return syscall(SYS_futex, word, op, val, timeout, word2, val3);
}
static int word, word2;

/* Until `count` threads beside this one sleep, or for ten seconds: they do nothing but wait for a futex. */
static void until_threads_sleep(int count) {
  for (int i = 0, found = 0; i < 10000 && found < count; i++) {
    sleep_ms(1);
    DIR *tasks = opendir("/proc/self/task");
    found = 0;
    for (struct dirent *e; (e = readdir(tasks));) {
      char name[300];
      if (e->d_name[0] == '.' || atoi(e->d_name) == getpid()) continue;
      snprintf(name, sizeof(name), "self/task/%s", e->d_name);
      found += task_sleeps(name);
    }
    closedir(tasks);
  }
}

TEST(wait_errors) {
  struct timespec short_time = {0, 20000000}, bad = {0, 1000000000}, negative = {-1, 0};
  word = 5;
  CHECK_ERR(futex(&word, FUTEX_WAIT, 4, NULL, NULL, 0), EAGAIN);
  CHECK_ERR(futex(&word, FUTEX_WAIT, 5, &short_time, NULL, 0), ETIMEDOUT);
  CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 5, &short_time, NULL, 0), ETIMEDOUT);
  CHECK_ERR(futex(&word, FUTEX_WAIT, 5, &bad, NULL, 0), EINVAL);
  CHECK_ERR(futex(&word, FUTEX_WAIT, 5, &negative, NULL, 0), EINVAL);
  CHECK_ERR(futex((char *)&word + 1, FUTEX_WAIT, 5, NULL, NULL, 0), EINVAL);
  CHECK_ERR(futex((void *)8, FUTEX_WAIT, 5, NULL, NULL, 0), EFAULT);
  CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET, 5, NULL, NULL, 0), EINVAL);
  CHECK_ERR(futex(&word, 99, 5, NULL, NULL, 0), ENOSYS);
  CHECK_EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
}

static volatile int woken;
static void *wait_word(void *arg) {
  long r = futex(&word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
  __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
  (void)arg;
  return (void *)r;
}
TEST(wake_counts) {
  word = 1;
  pthread_t t[3];
  for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, wait_word, NULL);
  until_threads_sleep(3);
  CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 1);
  CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 2);
  for (int i = 0; i < 3; i++) {
    void *r;
    pthread_join(t[i], &r);
    CHECK_EQ((long)r, 0);
  }
}

TEST(requeue) {
  word = 1;
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, wait_word, NULL);
  until_threads_sleep(4);
  CHECK_ERR(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10L, &word2, 2), EAGAIN);
  CHECK_EQ(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2L, &word2, 1), 3); /* one woken, two moved */
  CHECK_EQ(futex(&word2, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 2);
  CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
}

static void *wait_bits(void *arg) { return (void *)futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 1, NULL, NULL, (unsigned)(long)arg); }
TEST(bitset) {
  word = 1;
  pthread_t a, b;
  pthread_create(&a, NULL, wait_bits, (void *)1L);
  pthread_create(&b, NULL, wait_bits, (void *)2L);
  until_threads_sleep(2);
  CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4), 0);
  CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2), 1);
  CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 1), 1);
  pthread_join(a, NULL);
  pthread_join(b, NULL);
}

TEST(wake_op) {
  word = 1;
  word2 = 0;
  pthread_t t;
  pthread_create(&t, NULL, wait_word, NULL);
  until_threads_sleep(1);
  CHECK_EQ(futex(&word2, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1L, &word, FUTEX_OP(FUTEX_OP_SET, 9, FUTEX_OP_CMP_EQ, 1)), 1);
  CHECK_EQ(word, 9);
  pthread_join(t, NULL);
}

TEST(absolute_timeout) {
  struct timespec ts;
  word = 1;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  int64_t before = now_ms();
  ts.tv_nsec += 40000000;
  if (ts.tv_nsec >= 1000000000) ts.tv_sec++, ts.tv_nsec -= 1000000000;
  CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 1, &ts, NULL, ~0U), ETIMEDOUT);
  CHECK(now_ms() - before >= 39);
  ts.tv_sec -= 10; /* the past */
  CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 1, &ts, NULL, ~0U), ETIMEDOUT);
  clock_gettime(CLOCK_REALTIME, &ts);
  CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 1, &ts, NULL, ~0U), ETIMEDOUT);
}

static void note(int sig) { (void)sig; }
TEST(interrupted) {
  struct sigaction sa = {.sa_handler = note};
  sigaction(SIGALRM, &sa, NULL);
  word = 1;
  ualarm(30000, 30000); /* again, should the first come before the wait */
  CHECK_ERR(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), EINTR);
  ualarm(0, 0);
  sa.sa_flags = SA_RESTART; /* without a time-out it restarts; the word has changed by then */
  sigaction(SIGALRM, &sa, NULL);
  pid_t me = getpid();
  int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  *shared = 1;
  pid_t pid = fork();
  if (pid == 0) {
    sleep_ms(30);
    *shared = 2;
    kill(me, SIGALRM);
    _exit(0);
  }
  CHECK_ERR(futex(shared, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
  reap(pid);
}

TEST(shared_between_processes) {
  int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t pid = fork();
  if (pid == 0) {
    while (__atomic_load_n(shared, __ATOMIC_SEQ_CST) == 0) futex(shared, FUTEX_WAIT, 0, NULL, NULL, 0);
    _exit(*shared);
  }
  await_sleep(pid);
  *shared = 6;
  CHECK_EQ(futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
  CHECK_EQ(reap(pid), 6);
}

TEST(shared_file_mapping) {
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  CHECK_OK(ftruncate(fd, 8192));
  int *mine = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
  pid_t pid = fork();
  if (pid == 0) {
    int *own = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, open("f", O_RDWR), 0);
    munmap(mine, 4096);
    while (__atomic_load_n(own + 1024, __ATOMIC_SEQ_CST) == 0) futex(own + 1024, FUTEX_WAIT, 0, NULL, NULL, 0);
    _exit(own[1024]);
  }
  await_sleep(pid);
  *mine = 3;
  CHECK_EQ(futex(mine, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
  CHECK_EQ(reap(pid), 3);
}

static void *die_holding(void *m) {
  pthread_mutex_lock(m);
  return NULL;
}
TEST(robust_mutex) {
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_t m;
  pthread_mutex_init(&m, &attr);
  pthread_t t;
  pthread_create(&t, NULL, die_holding, &m);
  pthread_join(t, NULL);
  CHECK_EQ(pthread_mutex_lock(&m), EOWNERDEAD);
  CHECK_EQ(pthread_mutex_consistent(&m), 0);
  CHECK_EQ(pthread_mutex_unlock(&m), 0);
}
TEST(robust_mutex_of_a_dead_process) {
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutex_init(m, &attr);
  CHECK_EQ(IN_CHILD(pthread_mutex_lock(m); raise(SIGKILL)), 128 + SIGKILL);
  CHECK_EQ(pthread_mutex_lock(m), EOWNERDEAD);
  pthread_mutex_consistent(m);
  CHECK_EQ(pthread_mutex_unlock(m), 0);
}

TEST(robust_list_calls) {
  struct robust_list_head *head;
  size_t len = 0;
  CHECK_OK(syscall(SYS_get_robust_list, 0, &head, &len));
  CHECK_EQ(len, sizeof *head);
  CHECK_ERR(syscall(SYS_set_robust_list, head, len + 1), EINVAL);
  CHECK_ERR(syscall(SYS_get_robust_list, 999999, &head, &len), ESRCH);
}

TEST(priority_inheritance) {
  word = 0;
  CHECK_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
  CHECK_EQ(word & FUTEX_TID_MASK, syscall(SYS_gettid));
  CHECK_ERR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
  CHECK_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
  CHECK_EQ(word, 0);
  CHECK_ERR(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
}
