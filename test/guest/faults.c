/* Faults as signals: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP with their siginfo; the FPU's state through a handler. */
#include "guest.h"
#include <setjmp.h>

static sigjmp_buf back;
static siginfo_t seen;
static unsigned long trapno, err, rip;
static void caught(int sig, siginfo_t *info, void *context) {
  (void)sig;
  ucontext_t *uc = context;
  seen = *info;
  trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
  err = uc->uc_mcontext.gregs[REG_ERR];
  rip = uc->uc_mcontext.gregs[REG_RIP];
  siglongjmp(back, 1);
}
static void catch(int sig) {
  struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
  sigaction(sig, &sa, NULL);
}
static void catch_all(void) {
  catch(SIGSEGV), catch(SIGBUS), catch(SIGFPE), catch(SIGILL), catch(SIGTRAP);
}
/* The fault of one statement, with the address relative to `base`. */
#define FAULT(name, base, ...) \
  do { \
    if (sigsetjmp(back, 1) == 0) { \
      __VA_ARGS__; \
      FAIL(name ": no fault"); \
    } else say("  %s: SIG%s code %d addr %+ld trap %lu err %lx", name, sigabbrev_np(seen.si_signo), seen.si_code, \
               (long)seen.si_addr - (long)(base), trapno, err); \
  } while (0)

TEST(segv) {
  catch_all();
  char *p = mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(p + 4096, 4096, PROT_NONE);
  munmap(p + 8192, 4096);
  FAULT("null read", 0, (void)*(volatile char *)0);
  FAULT("low write", 0, *(volatile char *)100 = 1);
  FAULT("write to read-only", p, *(volatile char *)(p + 10) = 1);
  FAULT("read of PROT_NONE", p, (void)*(volatile char *)(p + 4100));
  FAULT("read of unmapped", p, (void)*(volatile char *)(p + 8200));
  FAULT("non-canonical", 0, (void)*(volatile char *)0x8000000000000000);
  FAULT("kernel address", 0xffff800000000000, (void)*(volatile char *)0xffff800000000010);
  FAULT("jump to unmapped", p, ((void (*)(void))(p + 8192))());
  FAULT("jump to not executable", p, ((void (*)(void))p)());
}

TEST(bus) {
  catch_all();
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  CHECK_OK(ftruncate(fd, 4096));
  char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  p[0] = 1;
  FAULT("beyond the end of the file", p, (void)*(volatile char *)(p + 5000));
  CHECK_OK(ftruncate(fd, 0));
  FAULT("truncated away", p, (void)*(volatile char *)(p + 8));
}

TEST(fpe) {
  catch_all();
  volatile int zero = 0, min = INT_MIN, minus = -1;
  volatile int r;
  FAULT("division by zero", seen.si_addr, r = min / zero);
  FAULT("overflow", seen.si_addr, r = min / minus);
  CHECK_EQ(rip, (unsigned long)seen.si_addr);
  FAULT("SSE", seen.si_addr, {
    unsigned mxcsr = 0x1f80 & ~(1 << 9); /* division by zero unmasked */
    volatile double a = 1, b = 0, c;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    c = a / b;
    (void)c;
  });
  (void)r;
}

TEST(ill_and_trap) {
  catch_all();
  FAULT("ud2", seen.si_addr, __asm__ volatile("ud2"));
  CHECK_EQ(rip, (unsigned long)seen.si_addr);
  FAULT("int3", 0, __asm__ volatile("int3"));
  FAULT("hlt", 0, __asm__ volatile("hlt"));
  FAULT("cli", 0, __asm__ volatile("cli"));
  FAULT("int 0x90", 0, __asm__ volatile("int $0x90"));
}

TEST(single_step) {
  catch_all();
  if (sigsetjmp(back, 1) == 0) {
    __asm__ volatile("pushf\n orl $0x100, (%%rsp)\n popf\n nop\n nop\n" ::: "memory", "cc");
    FAIL("no trap");
  } else say("  trap flag: SIG%s code %d", sigabbrev_np(seen.si_signo), seen.si_code);
}

TEST(blocked_fault_kills) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  CHECK_EQ(IN_CHILD({
    catch_all();
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    *(volatile char *)8 = 1;
  }), 128 + SIGSEGV);
  CHECK_EQ(IN_CHILD(signal(SIGSEGV, SIG_IGN); *(volatile char *)8 = 1), 128 + SIGSEGV);
  CHECK_EQ(IN_CHILD(volatile int zero = 0; volatile int r = INT_MIN / zero; (void)r), 128 + SIGFPE);
  CHECK_EQ(IN_CHILD(__asm__ volatile("ud2")), 128 + SIGILL);
}

static void fix(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  mprotect((void *)((long)info->si_addr & -4096), 4096, PROT_READ | PROT_WRITE);
}
TEST(fault_handler_repairs_and_retries) {
  struct sigaction sa = {.sa_sigaction = fix, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &sa, NULL);
  char *p = mmap(NULL, 64 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 64; i++) p[i * 4096] = i;
  for (int i = 0; i < 64; i++) CHECK_EQ(p[i * 4096], i);
}

static volatile double handled;
static void clobber(int sig) {
  (void)sig;
  /* Everything that a handler may use: x87, SSE and AVX where there is AVX. */
  volatile long double x = 1.5L;
  for (int i = 0; i < 10; i++) x = x * x - 1;
  __asm__ volatile("pxor %%xmm0, %%xmm0\n pxor %%xmm1, %%xmm1\n pxor %%xmm7, %%xmm7\n pxor %%xmm15, %%xmm15" ::: "xmm0", "xmm1", "xmm7", "xmm15");
  if (__builtin_cpu_supports("avx")) __asm__ volatile("vzeroall" ::: "memory");
  handled = (double)x;
}
TEST(fpu_state_through_a_handler) {
  signal(SIGUSR1, clobber);
  unsigned char before[512] __attribute__((aligned(32))), after[512] __attribute__((aligned(32)));
  for (int i = 0; i < 512; i++) before[i] = i * 7 + 1;
  memset(after, 0, sizeof after);
  long nr = SYS_tkill, pid = getpid(), r = nr;
  if (__builtin_cpu_supports("avx"))
    __asm__ volatile(
        "vmovaps (%3), %%ymm0\n vmovaps 32(%3), %%ymm1\n vmovaps 64(%3), %%ymm7\n vmovaps 96(%3), %%ymm15\n"
        "syscall\n"
        "vmovaps %%ymm0, (%4)\n vmovaps %%ymm1, 32(%4)\n vmovaps %%ymm7, 64(%4)\n vmovaps %%ymm15, 96(%4)\n vzeroupper"
        : "+a"(r) : "D"(pid), "S"(SIGUSR1), "r"(before), "r"(after) : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm7", "xmm15");
  else
    __asm__ volatile(
        "movaps (%3), %%xmm0\n movaps 32(%3), %%xmm1\n movaps 64(%3), %%xmm7\n movaps 96(%3), %%xmm15\n"
        "syscall\n"
        "movaps %%xmm0, (%4)\n movaps %%xmm1, 32(%4)\n movaps %%xmm7, 64(%4)\n movaps %%xmm15, 96(%4)\n"
        : "+a"(r) : "D"(pid), "S"(SIGUSR1), "r"(before), "r"(after) : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm7", "xmm15");
  CHECK_EQ(r, 0);
  CHECK(handled != 0);
  CHECK(memcmp(before, after, __builtin_cpu_supports("avx") ? 128 : 16) == 0);
}

/* A timer interrupts pure computation at any instruction: the sums must not care. */
TEST(computation_under_a_timer) {
  signal(SIGALRM, clobber);
  struct itimerval t = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &t, NULL);
  volatile double sum = 0;
  unsigned long hash = 1469598103934665603UL;
  for (long i = 1; i < 6000000; i++) {
    sum += 1.0 / (double)i;
    hash = (hash ^ (unsigned long)i) * 1099511628211UL;
  }
  t = (struct itimerval){{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &t, NULL);
  say("  sum %.12f hash %016lx", (double)sum, hash);
}

TEST(registers_survive_calls) {
  unsigned long in[6] = {0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444, 0x5555555555555555, 0x6666666666666666}, out[6];
  long r = SYS_getppid;
  __asm__ volatile(
      "push %%rbx\n push %%rbp\n"
      "mov (%1), %%rbx\n mov 8(%1), %%r12\n mov 16(%1), %%r13\n mov 24(%1), %%r14\n mov 32(%1), %%r15\n mov 40(%1), %%rbp\n"
      "syscall\n"
      "mov %%rbx, (%2)\n mov %%r12, 8(%2)\n mov %%r13, 16(%2)\n mov %%r14, 24(%2)\n mov %%r15, 32(%2)\n mov %%rbp, 40(%2)\n"
      "pop %%rbp\n pop %%rbx\n"
      : "+a"(r) : "S"(in), "d"(out) : "rcx", "r11", "r12", "r13", "r14", "r15", "memory");
  CHECK_EQ(r, getppid());
  CHECK(memcmp(in, out, sizeof in) == 0);
}

TEST(wrong_abi) {
  /* A number that does not exist, and numbers with the upper half set, are ENOSYS or cut, never fatal. */
  CHECK_ERR(syscall(5000), ENOSYS);
  CHECK_ERR(syscall(-1), ENOSYS);
  CHECK_ERR(syscall(400), ENOSYS);
}
