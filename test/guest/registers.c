/*
 * Everything a thread has, over and over, while all that can disturb it goes on: each call is made with random values in
 * every register that Linux keeps, and they are compared afterwards; between and in the calls come signals whose handler
 * uses vector registers and calls itself, other threads that hand a lock to each other, and forks. What is sought shows
 * once in many thousand calls, under load.
 */
#include "guest.h"
#include <sys/mman.h>

#define SECONDS 1.5
#define THREADS 2

struct registers {
  uint64_t general[16];
  uint8_t vector[16][16];
  uint64_t flags;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t handed = PTHREAD_COND_INITIALIZER;
static volatile int bad;
static __thread uint64_t own;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void wrong(const char *what, long nr) {
  if (bad++ < 5) say("FAIL %s, call %ld", what, nr);
}

/* Makes a call with all registers from `in` but those of its three arguments, and leaves them in `out`. */
static long __attribute__((noinline)) probe(long nr, long a, long b, long c, const struct registers *in, struct registers *out) {
  struct { const struct registers *in; struct registers *out; long nr, a, b, c; uint64_t rbx, rbp, unused, ret; } k = {in, out, nr, a, b, c, 0, 0, 0, 0};
  __asm__ volatile(
      "mov %%rbx, 48(%0)\n mov %%rbp, 56(%0)\n"
      "mov 0(%0), %%rax\n"
      "movdqu 128(%%rax), %%xmm0\n movdqu 144(%%rax), %%xmm1\n movdqu 160(%%rax), %%xmm2\n movdqu 176(%%rax), %%xmm3\n"
      "movdqu 192(%%rax), %%xmm4\n movdqu 208(%%rax), %%xmm5\n movdqu 224(%%rax), %%xmm6\n movdqu 240(%%rax), %%xmm7\n"
      "movdqu 256(%%rax), %%xmm8\n movdqu 272(%%rax), %%xmm9\n movdqu 288(%%rax), %%xmm10\n movdqu 304(%%rax), %%xmm11\n"
      "movdqu 320(%%rax), %%xmm12\n movdqu 336(%%rax), %%xmm13\n movdqu 352(%%rax), %%xmm14\n movdqu 368(%%rax), %%xmm15\n"
      "mov 24(%0), %%rdi\n mov 32(%0), %%rsi\n mov 40(%0), %%rdx\n"
      "mov 8*8(%%rax), %%r8\n mov 9*8(%%rax), %%r9\n mov 10*8(%%rax), %%r10\n mov 12*8(%%rax), %%r12\n mov 13*8(%%rax), %%r13\n mov 14*8(%%rax), %%r14\n mov 15*8(%%rax), %%r15\n"
      "mov 3*8(%%rax), %%rbx\n mov 5*8(%%rax), %%rbp\n"
      "mov 16(%0), %%rax\n"
      "sub $128, %%rsp\n push %0\n"
      "syscall\n"
      "pop %0\n"
      "pushfq\n"
      "push %%rax\n"
      "mov 8(%0), %%rax\n"
      "mov %%rbx, 3*8(%%rax)\n mov %%rbp, 5*8(%%rax)\n mov %%r8, 8*8(%%rax)\n mov %%r9, 9*8(%%rax)\n mov %%r10, 10*8(%%rax)\n mov %%r12, 12*8(%%rax)\n mov %%r13, 13*8(%%rax)\n mov %%r14, 14*8(%%rax)\n mov %%r15, 15*8(%%rax)\n"
      "mov %%rdi, 7*8(%%rax)\n mov %%rsi, 6*8(%%rax)\n mov %%rdx, 2*8(%%rax)\n"
      "movdqu %%xmm0, 128(%%rax)\n movdqu %%xmm1, 144(%%rax)\n movdqu %%xmm2, 160(%%rax)\n movdqu %%xmm3, 176(%%rax)\n"
      "movdqu %%xmm4, 192(%%rax)\n movdqu %%xmm5, 208(%%rax)\n movdqu %%xmm6, 224(%%rax)\n movdqu %%xmm7, 240(%%rax)\n"
      "movdqu %%xmm8, 256(%%rax)\n movdqu %%xmm9, 272(%%rax)\n movdqu %%xmm10, 288(%%rax)\n movdqu %%xmm11, 304(%%rax)\n"
      "movdqu %%xmm12, 320(%%rax)\n movdqu %%xmm13, 336(%%rax)\n movdqu %%xmm14, 352(%%rax)\n movdqu %%xmm15, 368(%%rax)\n"
      "mov 48(%0), %%rbx\n mov 56(%0), %%rbp\n"
      "pop 72(%0)\n pop 384(%%rax)\n add $128, %%rsp\n"
      :: "c"(&k)
      : "rax", "rdi", "rsi", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc",
        "xmm0","xmm1","xmm2","xmm3","xmm4","xmm5","xmm6","xmm7","xmm8","xmm9","xmm10","xmm11","xmm12","xmm13","xmm14","xmm15");
  return k.ret;
}

static uint64_t random_bits(uint64_t *s) {
  *s ^= *s << 13;
  *s ^= *s >> 7;
  *s ^= *s << 17;
  return *s;
}

static void check(uint64_t *seed, long nr, long a, long b, long c, long want) {
  static const int kept[] = {3, 5, 8, 9, 10, 12, 13, 14, 15};
  struct registers in, out;
  for (size_t i = 0; i < sizeof in / 8; i++) ((uint64_t *)&in)[i] = random_bits(seed);
  memset(&out, 0xee, sizeof out);
  long ret = probe(nr, a, b, c, &in, &out);
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
    if (in.general[kept[i]] != out.general[kept[i]]) wrong("a register", nr);
  if ((long)out.general[7] != a || (long)out.general[6] != b || (long)out.general[2] != c) wrong("an argument", nr);
  if (memcmp(in.vector, out.vector, sizeof in.vector) != 0) wrong("a vector register", nr);
  if (out.flags & 0x400) wrong("the direction flag", nr);
  if (ret != want) wrong("the result", nr);
}

static void check_thread(uint64_t expected) {
  char *self = (char *)pthread_self();
  if (own != expected) wrong("a thread's own variable", 0);
  if (*(char **)(self + 16) != self) wrong("the thread pointer", 0);
}

static void deep(int n) {
  volatile char frame[64];
  memset((void *)frame, n, sizeof frame);
  if (n > 0) deep(n - 1);
  for (int i = 0; i < 64; i++)
    if (frame[i] != (char)n) wrong("the stack", n);
}

static void on_signal(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)info, (void)context;
  int saved = errno;
  __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n movdqa %%xmm0, %%xmm7\n movdqa %%xmm0, %%xmm15" ::: "xmm0", "xmm7", "xmm15");
  getppid();
  deep(3);
  errno = saved;
}

static void work(uint64_t seed, double seconds, int forks) {
  uint64_t mine = random_bits(&seed);
  long parent = getppid(), tid = syscall(SYS_gettid);
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
  struct itimerspec often = {{0, 2000000 + random_bits(&seed) % 3000000}, {0, 500000}};
  char bytes[64], got[64];
  int pair[2];
  timer_t timer;
  own = mine;
  event._sigev_un._tid = tid;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) wrong("socketpair", errno);
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0) wrong("timer_create", errno);
  timer_settime(timer, 0, &often, NULL);
  for (double until = now() + seconds; now() < until && !bad;) {
    for (int i = 0; i < 20; i++) {
      check(&seed, SYS_getppid, 1, 2, 3, parent);
      check(&seed, SYS_gettid, 1, 2, 3, tid);
      memset(bytes, i, sizeof bytes);
      check(&seed, SYS_write, pair[0], (long)bytes, sizeof bytes, sizeof bytes);
      check(&seed, SYS_read, pair[1], (long)got, sizeof got, sizeof got);
      if (memcmp(bytes, got, sizeof bytes) != 0) wrong("what was read", i);
      deep(5);
      check_thread(mine);
    }
    void *pages = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 65536; i += 4096)
      if (((char *)pages)[i]++ != 0) wrong("a fresh page", i);
    munmap(pages, 65536);
    if (forks && random_bits(&seed) % 4 == 0) {
      pid_t child = fork();
      if (child == 0) {
        work(random_bits(&seed), 0.02, 0);
        _exit(bad != 0);
      }
      int status = -1;
      pid_t reaped;
      while ((reaped = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
      }
      if (reaped != child || status != 0) wrong("a child", status);
      check_thread(mine);
    }
  }
  timer_delete(timer);
  close(pair[0]);
  close(pair[1]);
}

static void *worker(void *arg) {
  work((uint64_t)arg * 7919 + 12345, SECONDS, 1);
  return NULL;
}

static void *hand(void *arg) {
  uint64_t mine = (uint64_t)arg + 100;
  own = mine;
  pthread_mutex_lock(&lock);
  for (double until = now() + SECONDS; now() < until && !bad;) {
    struct timespec soon;
    pthread_cond_signal(&handed);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 2000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_nsec -= 1000000000, soon.tv_sec++;
    pthread_cond_timedwait(&handed, &lock, &soon);
    check_thread(mine);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

TEST(kept_whatever_happens) {
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  pthread_t threads[THREADS + 2];
  CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
  for (long i = 0; i < THREADS + 2; i++)
    CHECK_EQ(pthread_create(&threads[i], NULL, i < THREADS ? worker : hand, (void *)(i + 1)), 0);
  for (int i = 0; i < THREADS + 2; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
  CHECK_EQ(bad, 0);
}
