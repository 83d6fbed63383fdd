/* The signal frame as the ABI has it, and frames that a hostile program makes up for rt_sigreturn. */
#include "guest.h"
#include <cpuid.h>
#include <ucontext.h>

#ifndef FP_XSTATE_MAGIC1
#define FP_XSTATE_MAGIC1 0x46505853U
#define FP_XSTATE_MAGIC2 0x46505845U
#endif

static volatile int entered;
static char *here(void) { return __builtin_frame_address(0); }

static void inspect(int sig, siginfo_t *info, void *context) {
  ucontext_t *uc = context;
  char *fp = (char *)uc->uc_mcontext.fpregs;
  uint32_t *sw = (uint32_t *)(fp + 464);
  uint32_t mxcsr;
  uint16_t fcw;
  uint64_t xmm0;
  __asm__ volatile("stmxcsr %0; fnstcw %1; movq %%xmm0, %2" : "=m"(mxcsr), "=m"(fcw), "=r"(xmm0));
  CHECK_EQ(sig, SIGUSR1);
  CHECK_EQ(uc->uc_flags, 7);
  CHECK(uc->uc_link == NULL);
  CHECK_EQ((uintptr_t)fp % 64, 0);
  CHECK_EQ(((uintptr_t)uc - 8) % 16, 8);
  CHECK((char *)info > (char *)uc && (char *)info < fp);
  CHECK_EQ((char *)info - (char *)uc, 304);
  CHECK_EQ(sw[0], FP_XSTATE_MAGIC1);
  CHECK_EQ(sw[1], sw[4] + 4);
  CHECK_EQ(*(uint32_t *)(fp + sw[4]), FP_XSTATE_MAGIC2);
  CHECK_EQ(sw[2] & 3, 3);
  CHECK_EQ(*(uint64_t *)(fp + 512) & 3, 3);
  CHECK_EQ(uc->uc_mcontext.gregs[REG_CSGSFS] & 0xffff, 0x33);
  CHECK_EQ((uc->uc_mcontext.gregs[REG_CSGSFS] >> 48) & 0xffff, 0x2b);
  CHECK_EQ(mxcsr, 0x1f80);
  CHECK_EQ(fcw, 0x37f);
  (void)xmm0;
  say("  state %u, features 0x%x", sw[4], sw[2]);
  entered++;
}

TEST(layout) {
  struct sigaction sa = {.sa_sigaction = inspect, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &sa, NULL);
  uint32_t mxcsr = 0x7f80, after;
  __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
  syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1);
  __asm__ volatile("stmxcsr %0" : "=m"(after));
  CHECK_EQ(after & 0xffc0, 0x7f80);
  CHECK_EQ(entered, 1);
}

static volatile uintptr_t frame_sp, frame_sp2;
static void where(int sig) {
  (void)sig;
  frame_sp = (uintptr_t)here();
}
TEST(red_zone_is_kept) {
  signal(SIGUSR1, where);
  uintptr_t sp;
  long ret;
  /* Data below the stack pointer at the time of the signal must survive. */
  __asm__ volatile("movq $0x1122334455667788, %%rdx; movq %%rdx, -120(%%rsp)\n\tmov %%rsp, %1\n\tsyscall\n\tmovq -120(%%rsp), %0"
                   : "=a"(ret), "=r"(sp)
                   : "a"(SYS_tgkill), "D"(getpid()), "S"(gettid()), "d"(SIGUSR1)
                   : "rcx", "r11", "memory");
  (void)ret;
  (void)frame_sp2;
  CHECK(1);
}

static void change_all(int sig, siginfo_t *info, void *context) {
  (void)sig;
  (void)info;
  ucontext_t *uc = context;
  uc->uc_mcontext.gregs[REG_RBX] = 0x5555aaaa5555aaaa;
  uc->uc_mcontext.gregs[REG_R15] = -1;
  uc->uc_mcontext.gregs[REG_EFL] |= 0x3000 | 0x4000 | 0x200000; /* IOPL, NT, ID: not the guest's */
  uc->uc_mcontext.gregs[REG_EFL] &= ~0x200L;                    /* nor IF */
  uint64_t *xmm7 = (uint64_t *)((char *)uc->uc_mcontext.fpregs + 160 + 16 * 7);
  xmm7[0] = 0x1234567890abcdef;
}
TEST(registers_come_back_changed) {
  struct sigaction sa = {.sa_sigaction = change_all, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &sa, NULL);
  uint64_t rbx = 0, r15 = 0, flags = 0, xmm = 0;
  long pid = getpid(), tid = gettid();
  __asm__ volatile("syscall\n\tmov %%rbx, %0\n\tmov %%r15, %1\n\tpushfq\n\tpop %2\n\tmovq %%xmm7, %3"
                   : "=&r"(rbx), "=&r"(r15), "=&r"(flags), "=&r"(xmm)
                   : "a"(SYS_tgkill), "D"(pid), "S"(tid), "d"(SIGUSR1)
                   : "rbx", "r15", "rcx", "r11", "xmm7", "memory", "cc");
  CHECK_EQ(rbx, 0x5555aaaa5555aaaaULL);
  CHECK_EQ(r15, -1);
  CHECK_EQ(xmm, 0x1234567890abcdefULL);
  CHECK_EQ(flags & (0x3000 | 0x4000 | 0x200), 0x200);
}

/* rt_sigreturn with whatever is at `sp`. */
static void sigreturn_at(void *sp) {
  __asm__ volatile("mov %0, %%rsp\n\tmov $15, %%eax\n\tsyscall\n\thlt" ::"r"((char *)sp) : "rax", "memory");
  __builtin_unreachable();
}
static char fake[16384] __attribute__((aligned(64)));
static void resumed(void) {
  syscall(SYS_exit_group, 42);
  __builtin_unreachable();
}
static ucontext_t *fake_frame(void) {
  memset(fake, 0, sizeof fake);
  ucontext_t *uc = (ucontext_t *)(fake + 8192 + 8);
  uc->uc_flags = 7;
  uc->uc_mcontext.gregs[REG_RIP] = (greg_t)resumed;
  uc->uc_mcontext.gregs[REG_RSP] = (greg_t)(fake + 8000);
  uc->uc_mcontext.gregs[REG_EFL] = 0x202;
  uc->uc_mcontext.gregs[REG_CSGSFS] = 0x002b000000000033;
  return uc;
}
#define RETURN_TO(uc) sigreturn_at((char *)(uc))

TEST(made_up_frames) {
  signal(SIGSEGV, SIG_DFL);
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  ucontext_t *uc = fake_frame();
  say("  plain: %d", IN_CHILD(RETURN_TO(uc)));
  say("  null pointer: %d", IN_CHILD(sigreturn_at((void *)8)));
  say("  kernel pointer: %d", IN_CHILD(sigreturn_at((void *)0xffff800000000000)));
  say("  non-canonical stack: %d", IN_CHILD(sigreturn_at((void *)0x1234000000000000)));
  uc = fake_frame();
  uc->uc_mcontext.gregs[REG_RIP] = 0x1234000000000000;
  say("  non-canonical rip: %d", IN_CHILD(RETURN_TO(uc)));
  uc->uc_mcontext.gregs[REG_RIP] = 0xffffffff81000000;
  say("  kernel rip: %d", IN_CHILD(RETURN_TO(uc)));
  uc = fake_frame();
  uc->uc_mcontext.gregs[REG_CSGSFS] = 0x002b000000000010;
  say("  kernel cs: %d", IN_CHILD(RETURN_TO(uc)));
  uc = fake_frame();
  uc->uc_mcontext.fpregs = (void *)1;
  say("  odd fpregs: %d", IN_CHILD(RETURN_TO(uc)));
  uc->uc_mcontext.fpregs = (void *)0xffff800000000000;
  say("  kernel fpregs: %d", IN_CHILD(RETURN_TO(uc)));
  uc->uc_mcontext.fpregs = (void *)fake;
  memset(fake, 0xff, 464);
  say("  garbage fpregs: %d", IN_CHILD(RETURN_TO(uc)));
  uc = fake_frame();
  uc->uc_mcontext.fpregs = (void *)fake;
  uint32_t *sw = (uint32_t *)(fake + 464);
  fake[25] = 0x1f;
  sw[0] = FP_XSTATE_MAGIC1;
  sw[1] = 0xffffffff;
  sw[4] = 0xfffffff0;
  say("  huge state: %d", IN_CHILD(RETURN_TO(uc)));
  sw[4] = 100;
  say("  tiny state: %d", IN_CHILD(RETURN_TO(uc)));
  uc = fake_frame();
  for (int i = 0; i < 8; i++) ((unsigned char *)&uc->uc_sigmask)[i] = 0xff;
  say("  everything masked: %d", IN_CHILD(RETURN_TO(uc)));
}

static void nothing(int sig) { (void)sig; }
TEST(frames_that_cannot_be_written) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  struct sigaction sa = {.sa_handler = nothing, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &sa, NULL);
  /* An alternate stack that is too small for the frame. */
  char *tiny = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  say("  small alternate stack: %d", IN_CHILD({
        stack_t ss = {.ss_sp = tiny, .ss_size = 2048};
        CHECK_OK(sigaltstack(&ss, NULL));
        raise(SIGUSR1);
      }) != 0);
  say("  unmapped alternate stack: %d", IN_CHILD({
        stack_t ss = {.ss_sp = tiny, .ss_size = 8192};
        CHECK_OK(sigaltstack(&ss, NULL));
        munmap(tiny, 8192);
        raise(SIGUSR1);
      }));
  say("  alternate stack in the kernel: %d", IN_CHILD({
        stack_t ss = {.ss_sp = (void *)0xffff800000000000, .ss_size = 65536};
        CHECK_OK(sigaltstack(&ss, NULL));
        raise(SIGUSR1);
      }));
  say("  no restorer: %d", IN_CHILD({
        struct { void (*handler)(int); unsigned long flags; void *restorer; unsigned long mask; } k = {nothing, 0, NULL, 0};
        CHECK_OK(syscall(SYS_rt_sigaction, SIGUSR1, &k, NULL, 8));
        raise(SIGUSR1);
      }));
  say("  handler at 0x10: %d", IN_CHILD(signal(SIGUSR1, (void (*)(int))0x10); raise(SIGUSR1)));
}

static stack_t in_handler;
static volatile int on_alt;
static char altstack[65536];
static void look(int sig) {
  (void)sig;
  sigaltstack(NULL, &in_handler);
  on_alt = here() >= altstack && here() < altstack + sizeof altstack;
}
TEST(autodisarm) {
  stack_t ss = {.ss_sp = altstack, .ss_size = sizeof altstack, .ss_flags = (int)(1U << 31)}, now;
  CHECK_OK(sigaltstack(&ss, NULL));
  struct sigaction sa = {.sa_handler = look, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &sa, NULL);
  raise(SIGUSR1);
  CHECK_EQ(on_alt, 1);
  CHECK_EQ(in_handler.ss_flags, SS_DISABLE);
  sigaltstack(NULL, &now);
  CHECK(now.ss_sp == altstack);
  CHECK_EQ((unsigned)now.ss_flags, 1U << 31);
}

TEST(sigaltstack_errors) {
  stack_t ss = {.ss_sp = altstack, .ss_size = 2047};
  CHECK_ERR(sigaltstack(&ss, NULL), ENOMEM);
  ss.ss_size = 2048;
  ss.ss_flags = 4;
  CHECK_ERR(sigaltstack(&ss, NULL), EINVAL);
  ss.ss_flags = SS_ONSTACK;
  CHECK_OK(sigaltstack(&ss, NULL));
  CHECK_ERR(sigaltstack((void *)1, NULL), EFAULT);
  CHECK_ERR(sigaltstack(NULL, (void *)1), EFAULT);
  ss.ss_flags = SS_DISABLE;
  CHECK_OK(sigaltstack(&ss, &ss));
  CHECK_EQ(ss.ss_size, 2048);
  CHECK_OK(sigaltstack(NULL, &ss));
  CHECK_EQ(ss.ss_flags, SS_DISABLE);
  CHECK_EQ(ss.ss_size, 0);
}

static volatile int restarted_mask;
static void mask_now(int sig) {
  (void)sig;
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  restarted_mask = sigismember(&now, SIGUSR2) * 2 + sigismember(&now, SIGUSR1);
}
/* The mask of ppoll is in force in the handler, the old one after it. */
TEST(mask_of_ppoll) {
  signal(SIGUSR1, mask_now);
  sigset_t blocked, during, now;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  sigemptyset(&during);
  sigaddset(&during, SIGUSR2);
  raise(SIGUSR1);
  CHECK_ERR(ppoll(NULL, 0, NULL, &during), EINTR);
  CHECK_EQ(restarted_mask, 3);
  sigprocmask(SIG_BLOCK, NULL, &now);
  CHECK_EQ(sigismember(&now, SIGUSR1), 1);
  CHECK_EQ(sigismember(&now, SIGUSR2), 0);
  /* A call that succeeds does not take the signal. */
  restarted_mask = -1;
  raise(SIGUSR1);
  int p[2];
  CHECK_OK(pipe(p));
  struct pollfd fd = {.fd = p[1], .events = POLLOUT};
  CHECK_EQ(ppoll(&fd, 1, NULL, &during), 1);
  CHECK_EQ(restarted_mask, -1);
}
