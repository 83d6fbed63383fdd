/*
 * System calls from one instruction, over and over, in every shape that compilers and libraries give it: a sandbox may
 * rewrite such places, and nothing of that may show. Registers, flags, the red zone, vector registers, signals that come
 * in the middle, threads that race, jumps between the two instructions, fork, GS.
 */
#include "guest.h"
#include <asm/prctl.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <ucontext.h>

#define ROUNDS 200

/* "mov $number, %eax; syscall" with nothing near; entered at its second instruction too. */
__asm__(".text\n.p2align 4\n.fill 200, 1, 0xf4\n"
        ".globl site_mov\nsite_mov: mov $110, %eax\n.globl site_mov_call\nsite_mov_call: syscall\n ret\n.fill 200, 1, 0xf4\n"
        /* Number in a register, padding behind. */
        ".p2align 4\n.globl site_any\nsite_any: mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n mov %r8, %r10\n syscall\n ret\n"
        ".nops 9\n.p2align 4\n"
        /* The same over the border of eight bytes. */
        ".globl site_odd\nsite_odd: mov %rdi, %rax\n mov %rsi, %rdi\n .byte 0x90\n syscall\n ret\n.nops 13\n.p2align 4\n"
        /* In a leaf that keeps something below the stack pointer. */
        ".globl site_red\nsite_red: mov %rdi, -8(%rsp)\n mov %rsi, -128(%rsp)\n mov $110, %eax\n syscall\n"
        " mov -8(%rsp), %rax\n add -128(%rsp), %rax\n ret\n.nops 14\n.p2align 4\n");
extern long site_mov(void);
extern const char site_mov_call[];
extern long site_any(long nr, long a, long b, long c, long d);
extern long site_odd(long nr, long a);
extern long site_red(long a, long b);

TEST(results) {
  long parent = getppid(), odd = 0, red = 0;
  int bad = 0;
  for (int i = 0; i < ROUNDS; i++) {
    bad += site_mov() != parent;
    bad += site_any(SYS_getppid, 0, 0, 0, 0) != parent;
    odd += site_odd(SYS_close, -1) == -EBADF;
    red += site_red(i, 1000) == i + 1000;
  }
  CHECK_EQ(bad, 0);
  CHECK_EQ(odd, ROUNDS);
  CHECK_EQ(red, ROUNDS);
}

TEST(other_numbers) {
  /* The same place makes calls of all kinds: native ones, ones that fail, ones that have no number. */
  int word = 1, bad = 0;
  struct timespec now, none = {0, 1000};
  for (int i = 0; i < ROUNDS; i++) {
    bad += site_any(SYS_getpid, 0, 0, 0, 0) != getpid();
    bad += site_any(SYS_gettid, 0, 0, 0, 0) != getpid();
    bad += site_any(SYS_geteuid, 0, 0, 0, 0) != (long)geteuid();
    bad += site_any(SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 0, (long)&none) != -EAGAIN;
    bad += site_any(SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 1, (long)&none) != -ETIMEDOUT;
    bad += site_any(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0) != 0;
    bad += site_any(SYS_write, -1, (long)"x", 1, 0) != -EBADF;
    bad += site_any(SYS_sched_yield, 0, 0, 0, 0) != 0;
    bad += site_any(1000, 0, 0, 0, 0) != -ENOSYS;
  }
  CHECK_EQ(bad, 0);
}

TEST(registers) {
  static struct {
    __m128i x, y;
    unsigned long flags_in, flags_out, got[10];
  } r;
  static const unsigned long want[10] = {0x1001, 0x1002, 0x1003, 0x1004, 0x1005, 0x1007, 0x1008, 0x1009, 0x100a, 0x100b};
  int bad = 0;
  for (long i = 0; i < ROUNDS; i++) {
    r.flags_in = 0x8d5 | (i & 1 ? 0x400 : 0); /* OF SF ZF AF PF CF, and DF */
    r.x = _mm_set1_epi64x(i * 3 + 1);
    register void *at __asm__("r15") = &r;
    __asm__ volatile(
        "sub $256, %%rsp\n\tpush %%rbp\n\tpush %%rbx\n\tmovdqa 0(%[r]), %%xmm7\n\t"
        "mov $0x1001, %%rbx\n\tmov $0x1002, %%rbp\n\tmov $0x1003, %%r12\n\tmov $0x1004, %%r13\n\tmov $0x1005, %%r14\n\t"
        "mov $0x1007, %%rdi\n\tmov $0x1008, %%rsi\n\tmov $0x1009, %%rdx\n\tmov $0x100a, %%r8\n\tmov $0x100b, %%r9\n\tmov $0x100c, %%r10\n\t"
        "push 32(%[r])\n\tpopfq\n\tcall site_mov\n\tpushfq\n\tpop 40(%[r])\n\tcld\n\t"
        "mov %%rbx, 48(%[r])\n\tmov %%rbp, 56(%[r])\n\tmov %%r12, 64(%[r])\n\tmov %%r13, 72(%[r])\n\tmov %%r14, 80(%[r])\n\t"
        "mov %%rdi, 88(%[r])\n\tmov %%rsi, 96(%[r])\n\tmov %%rdx, 104(%[r])\n\tmov %%r8, 112(%[r])\n\tmov %%r9, 120(%[r])\n\t"
        "movdqa %%xmm7, 16(%[r])\n\tpop %%rbx\n\tpop %%rbp\n\tadd $256, %%rsp"
        :
        : [r] "r"(at)
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "xmm7", "cc", "memory");
    bad += memcmp(r.got, want, sizeof want) != 0;
    bad += (r.flags_out & 0xcd5) != (r.flags_in & 0xcd5);
    bad += memcmp(&r.x, &r.y, sizeof r.x) != 0;
  }
  CHECK_EQ(bad, 0);
}

TEST(second_instruction) {
  long (*second)(void) = (long (*)(void))site_mov_call;
  int bad = 0;
  for (int i = 0; i < ROUNDS; i++) {
    long ret;
    bad += site_mov() != getppid();
    __asm__ volatile("call *%1" : "=a"(ret) : "r"(second), "a"(SYS_getpgid), "D"(0) : "rcx", "r11", "memory");
    bad += ret != getpgid(0);
  }
  CHECK_EQ(bad, 0);
}

static volatile int handled;
static volatile long rips;
static void on_signal(int sig, siginfo_t *info, void *context) {
  (void)sig;
  (void)info;
  handled++;
  rips |= ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}
TEST(signals_in_between) {
  struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGALRM, &act, NULL);
  struct itimerval every = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &every, NULL);
  long parent = getppid();
  int bad = 0;
  double sum = 0;
  while (handled < 50) {
    bad += site_mov() != parent;
    bad += site_any(SYS_getpid, 0, 0, 0, 0) != getpid();
    sum += 0.5;
  }
  setitimer(ITIMER_REAL, &off, NULL);
  CHECK_EQ(bad, 0);
  CHECK(sum > 0);
  CHECK(rips > 0x70000); /* somewhere in the program, never below where anything can be mapped */
}

static volatile int go;
static void *raise_usr1(void *arg) {
  pthread_t target = *(pthread_t *)arg;
  for (int i = 0; i < 300; i++) {
    int before = handled;
    pthread_kill(target, SIGUSR1);
    while (handled == before) sched_yield();
  }
  go = 0;
  return NULL;
}
TEST(signals_from_a_thread) {
  struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &act, NULL);
  pthread_t self = pthread_self(), t;
  int bad = 0;
  go = 1;
  pthread_create(&t, NULL, raise_usr1, &self);
  while (go) bad += site_any(SYS_getpgid, 0, 0, 0, 0) != getpgid(0);
  pthread_join(t, NULL);
  CHECK_EQ(bad, 0);
  CHECK_EQ(handled, 300);
}

static void *race(void *arg) {
  long bad = 0, parent = getppid();
  while (!go) sched_yield();
  for (int i = 0; i < 2000; i++) {
    bad += site_mov() != parent;
    bad += site_any(SYS_getpgid, 0, 0, 0, 0) <= 0;
    bad += site_odd(SYS_close, -1) != -EBADF;
    bad += site_red(i, 7) != i + 7;
  }
  (void)arg;
  return (void *)bad;
}
TEST(threads_race) {
  pthread_t t[6];
  long bad = 0;
  for (int i = 0; i < 6; i++) pthread_create(&t[i], NULL, race, NULL);
  go = 1;
  for (int i = 0; i < 6; i++) {
    void *v;
    pthread_join(t[i], &v);
    bad += (long)v;
  }
  CHECK_EQ(bad, 0);
}

TEST(forks_have_their_own) {
  for (int i = 0; i < ROUNDS; i++) site_mov();
  int bad = 0;
  for (int c = 0; c < 4; c++) {
    long me = getpid();
    pid_t pid = fork();
    if (pid == 0) {
      for (int i = 0; i < ROUNDS; i++) bad += site_mov() != me || site_any(SYS_getppid, 0, 0, 0, 0) != me;
      _exit(bad);
    }
    int status;
    waitpid(pid, &status, 0);
    bad += status != 0;
  }
  CHECK_EQ(bad, 0);
}

TEST(results_arrive_in_memory) {
  int fds[2], bad = 0;
  char in[4096], out[4096];
  struct stat st, again;
  REQUIRE(pipe(fds) == 0);
  for (int i = 0; i < ROUNDS; i++) {
    memset(in, i, sizeof in);
    int n = 1 + i * 20;
    bad += site_any(SYS_write, fds[1], (long)in, n, 0) != n;
    memset(out, ~i, sizeof out);
    bad += site_any(SYS_read, fds[0], (long)out, sizeof out, 0) != n;
    bad += memcmp(in, out, n) != 0 || (n < 4096 && out[n] != (char)~i);
    bad += site_any(SYS_stat, (long)"/", (long)&st, 0, 0) != 0;
    memset(&again, 0xff, sizeof again);
    bad += fstatat(AT_FDCWD, "/", &again, 0) != 0 || st.st_ino != again.st_ino;
    bad += site_any(SYS_stat, (long)"/there is no such file", (long)&st, 0, 0) != -ENOENT;
  }
  CHECK_EQ(bad, 0);
}

TEST(bad_pointers) {
  char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int fds[2], bad = 0;
  REQUIRE(munmap(page + 4096, 4096) == 0);
  REQUIRE(pipe(fds) == 0);
  strcpy(page + 4096 - 5, "/tmp"); /* ends with the mapping */
  for (int i = 0; i < ROUNDS; i++) {
    struct stat st;
    bad += site_any(SYS_stat, (long)(page + 4096 - 5), (long)&st, 0, 0) != 0;
    bad += site_any(SYS_stat, (long)(page + 4096), (long)&st, 0, 0) != -EFAULT;
    bad += site_any(SYS_stat, 16, (long)&st, 0, 0) != -EFAULT;
    bad += site_any(SYS_stat, -1, (long)&st, 0, 0) != -EFAULT;
    bad += site_any(SYS_stat, (long)"/", (long)(page + 4096), 0, 0) != -EFAULT;
    bad += site_any(SYS_write, fds[1], (long)(page + 4096), 10, 0) != -EFAULT;
    bad += site_any(SYS_write, fds[1], (long)(page + 4096 - 5), 5, 0) != 5;
    bad += site_any(SYS_read, fds[0], (long)(page + 4096 - 5), 5, 0) != 5;
  }
  CHECK_EQ(bad, 0);
}

TEST(gs_belongs_to_the_program) {
  static long there[4] = {11, 22, 33, 44};
  unsigned long base = 1;
  long value;
  int bad = 0;
  for (int i = 0; i < ROUNDS; i++) site_mov();
  CHECK_EQ(syscall(SYS_arch_prctl, ARCH_GET_GS, &base), 0);
  CHECK_EQ(base, 0);
  CHECK_EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, there), 0);
  for (int i = 0; i < ROUNDS; i++) {
    bad += site_mov() != getppid();
    __asm__ volatile("mov %%gs:16, %0" : "=r"(value));
    bad += value != 33;
  }
  CHECK_EQ(syscall(SYS_arch_prctl, ARCH_GET_GS, &base), 0);
  CHECK_EQ(base, (unsigned long)there);
  /* A base where nothing is mapped. */
  CHECK_EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x1000), 0);
  for (int i = 0; i < ROUNDS; i++) bad += site_mov() != getppid();
  CHECK_EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, 0), 0);
  for (int i = 0; i < ROUNDS; i++) bad += site_mov() != getppid();
  CHECK_EQ(bad, 0);
}

TEST(low_memory_is_free) {
  int bad = 0;
  void *low = (void *)0x10000;
  for (int i = 0; i < ROUNDS; i++) bad += site_mov() != getppid();
  CHECK_EQ(munmap(low, 0x380000), 0);
  for (int i = 0; i < ROUNDS; i++) bad += site_mov() != getppid();
  CHECK_ERR(madvise(low, 0x380000, MADV_DONTNEED), ENOMEM);
  CHECK_ERR(mprotect(low, 0x380000, PROT_NONE), ENOMEM);
  for (int i = 0; i < ROUNDS; i++) bad += site_mov() != getppid();
  /* With something of the program's above the hole. */
  char *mine = mmap((void *)0x390000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK_EQ((unsigned long)mine, 0x390000);
  strcpy(mine, "x");
  CHECK_ERR(madvise(low, 0x390000 + 4096 - 0x10000, MADV_DONTNEED), ENOMEM);
  CHECK_EQ(mine[0], 0);
  for (int i = 0; i < ROUNDS; i++) bad += site_mov() != getppid();
  CHECK_EQ(munmap(low, 0x390000 + 4096 - 0x10000), 0);
  for (int i = 0; i < ROUNDS; i++) bad += site_mov() != getppid();
  CHECK_EQ(bad, 0);
}

TEST(ids_change) {
  int bad = 0;
  for (int i = 0; i < ROUNDS; i++) bad += getuid() != 0 || geteuid() != 0;
  pid_t pid = fork();
  if (pid == 0) {
    if (setresgid(5, 6, 7) != 0 || setresuid(1, 2, 3) != 0) _exit(99);
    for (int i = 0; i < ROUNDS; i++)
      bad += getuid() != 1 || geteuid() != 2 || getgid() != 5 || getegid() != 6 || syscall(SYS_getpid) == getppid();
    _exit(bad);
  }
  int status;
  waitpid(pid, &status, 0);
  CHECK_EQ(status, 0);
  CHECK_EQ(bad, 0);
}
