/* ptrace(2): a child that asks to be traced: every kind of stop, registers and memory, single steps, events of fork and exec. */
#include "tracing.h"
#include <elf.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

struct call_info {
  uint8_t op, pad[3];
  uint32_t arch;
  uint64_t ip, sp;
  union {
    struct { uint64_t nr, args[6]; } entry;
    struct { int64_t rval; uint8_t is_error; } exit;
  };
};

static volatile int counter;
static void count(int sig) { counter += sig; }
static void signals(void) {
  signal(SIGUSR1, count);
  signal(SIGUSR2, SIG_IGN);
  raise(SIGUSR1);
  raise(SIGUSR2);
  raise(SIGCHLD);
  raise(SIGUSR1);
  _exit(counter);
}
TEST(delivery) {
  siginfo_t info;
  pid_t pid = traced(signals);
  await("first", pid);
  CHECK_EQ(ptrace(PTRACE_GETSIGINFO, pid, 0, &info), 0);
  say("signal %d, code %d, own pid %d", info.si_signo, info.si_code, info.si_pid == pid);
  go(PTRACE_CONT, pid, 0);
  await("usr1", pid);
  go(PTRACE_CONT, pid, SIGUSR1);
  await("usr2, ignored", pid);
  go(PTRACE_CONT, pid, SIGUSR2);
  await("chld", pid);
  go(PTRACE_CONT, pid, 0);
  await("usr1 again", pid);
  go(PTRACE_CONT, pid, 0);
  say("counted %d", WEXITSTATUS(await("end", pid)));
}

TEST(fatal) {
  pid_t pid = traced(abort);
  await("first", pid);
  go(PTRACE_CONT, pid, 0);
  await("abort", pid);
  go(PTRACE_CONT, pid, SIGTERM);
  await("term in its place", pid);
  pid = traced(abort);
  await("first", pid);
  kill(pid, SIGKILL);
  await("killed while stopped", pid);
}

static void sleeper(void) { pause(); }
TEST(errors) {
  pid_t pid = traced(sleeper);
  await("first", pid);
  CHECK_ERR(ptrace(PTRACE_CONT, 99999999, 0, 0), ESRCH);
  CHECK_ERR(ptrace(PTRACE_CONT, getpid(), 0, 0), ESRCH);
  CHECK_ERR(ptrace(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
  CHECK_ERR(ptrace(PTRACE_ATTACH, pid, 0, 0), EPERM);
  CHECK_ERR(ptrace(PTRACE_CONT, pid, 0, 65), EIO);
  CHECK_ERR(ptrace(12345, pid, 0, 0), EIO);
  CHECK_ERR(ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 30), EINVAL);
  CHECK_ERR(ptrace(PTRACE_POKEDATA, pid, 8, 0), EIO);
  errno = 0;
  CHECK_ERR(ptrace(PTRACE_PEEKDATA, pid, 8, 0), EIO);
  CHECK_ERR(ptrace(PTRACE_PEEKUSER, pid, 3, 0), EIO);
  CHECK_ERR(ptrace(PTRACE_PEEKUSER, pid, 928, 0), EIO);
  CHECK_ERR(ptrace(PTRACE_INTERRUPT, pid, 0, 0), EIO);
  CHECK_ERR(ptrace(PTRACE_LISTEN, pid, 0, 0), EIO);
  CHECK_ERR(ptrace(PTRACE_GETREGSET, pid, 77, &(struct iovec){&pid, 8}), EINVAL);
  CHECK_ERR(ptrace(PTRACE_GETREGS, pid, 0, 16), EFAULT);
  CHECK_ERR(ptrace(PTRACE_SEIZE, pid, 1, 0), EIO);
  go(PTRACE_CONT, pid, 0);
  usleep(50000);
  CHECK_ERR(ptrace(PTRACE_GETREGS, pid, 0, &(struct user_regs_struct){0}), ESRCH);
  go(PTRACE_KILL, pid, 0);
  await("killed", pid);
}

static void calls(void) {
  syscall(SYS_getppid);
  syscall(SYS_close, 1234);
  syscall(SYS_dup, 3, 1, 2, 3, 4, 5);
  _exit(7);
}
TEST(syscalls) {
  struct user_regs_struct regs;
  struct call_info info;
  pid_t pid = traced(calls);
  await("first", pid);
  CHECK_EQ(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD), 0);
  for (int i = 0; i < 5; i++) {
    go(PTRACE_SYSCALL, pid, 0);
    await("stop", pid);
    CHECK_EQ(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
    unsigned long message = 99;
    CHECK_EQ(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message), 0);
    int ppid = regs.orig_rax == SYS_getppid && i == 1;
    say("call %lld, result %lld, rdi %lld, message %lu", (long long)regs.orig_rax, ppid ? (long long)(regs.rax == (unsigned long)getpid()) : (long long)regs.rax, i > 1 ? (long long)regs.rdi : 0, message);
    long size = ptrace(0x420e, pid, sizeof(info), &info);
    say("info of %ld bytes: op %d, arch %x, ip %d", size, info.op, info.arch, info.ip == regs.rip);
    if (info.op == 1) say("nr %ld", (long)info.entry.nr);
    else say("error %d", info.exit.is_error);
  }
  /* The third call becomes another one, with another argument. */
  CHECK_EQ(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
  regs.orig_rax = SYS_close;
  regs.rdi = 4321;
  CHECK_EQ(ptrace(PTRACE_SETREGS, pid, 0, &regs), 0);
  go(PTRACE_SYSCALL, pid, 0);
  await("changed", pid);
  errno = 0;
  say("result %ld", ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rax), 0));
  go(PTRACE_SYSCALL, pid, 0);
  await("exit_group", pid);
  say("argument %ld", ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rdi), 0));
  CHECK_EQ(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rdi), 42), 0);
  go(PTRACE_SYSCALL, pid, 0);
  await("end", pid);
}

static void skipped(void) {
  long ret = syscall(SYS_dup, 1);
  _exit(ret == 77 ? 1 : 2);
}
TEST(skip) {
  pid_t pid = traced(skipped);
  await("first", pid);
  go(PTRACE_SYSCALL, pid, 0);
  await("entry", pid);
  CHECK_EQ(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1), 0);
  go(PTRACE_SYSCALL, pid, 0);
  await("exit", pid);
  CHECK_EQ(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), 77), 0);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
  pid = traced(skipped);
  await("first", pid);
  go(PTRACE_SYSEMU, pid, 0);
  await("emulated", pid);
  CHECK_EQ(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), 77), 0);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

static long word = 0x1122334455667788;
static const long constant[512] __attribute__((aligned(4096))) = {42};
static int __attribute__((noipa, aligned(16))) answer(void) { return 1; }
static void memory(void) { _exit(word == 99 && *(volatile const long *)constant == 43 ? answer() : 55); }
TEST(memory) {
  pid_t pid = traced(memory);
  await("first", pid);
  say("word %lx, constant %ld", ptrace(PTRACE_PEEKDATA, pid, &word, 0), ptrace(PTRACE_PEEKDATA, pid, constant, 0));
  CHECK_EQ(ptrace(PTRACE_POKEDATA, pid, &word, 99), 0);
  CHECK_EQ(ptrace(PTRACE_POKEDATA, pid, constant, 43), 0);
  /* mov $9, %eax; ret: code of private pages may be written, and ours stays as it is. */
  long code = ptrace(PTRACE_PEEKTEXT, pid, answer, 0);
  CHECK_EQ(ptrace(PTRACE_POKETEXT, pid, answer, (code & ~0xffffffffffff) | 0xc300000009b8), 0);
  say("ours %ld, %d", *(volatile const long *)constant, answer());
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/mem", pid);
  int fd = open(path, O_RDWR);
  long value = 0;
  CHECK_EQ(pread(fd, &value, 8, (long)constant), 8);
  say("through /proc: %ld", value);
  value = 43;
  CHECK_EQ(pwrite(fd, &value, 8, (long)constant), 8);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

/* Ten instructions; its length is what a debugger's steps show. */
static void stepped(void) {
  __asm__ volatile("int3\n nop\n mov $5, %%eax\n add $6, %%eax\n mov $39, %%eax\n syscall\n nop\n int3\n" ::: "rax", "rcx", "r11", "memory");
  _exit(3);
}
TEST(step) {
  siginfo_t info;
  struct user_regs_struct regs;
  pid_t pid = traced(stepped);
  await("first", pid);
  go(PTRACE_CONT, pid, 0);
  await("int3", pid);
  CHECK_EQ(ptrace(PTRACE_GETSIGINFO, pid, 0, &info), 0);
  say("code %d", info.si_code);
  CHECK_EQ(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
  unsigned long start = regs.rip;
  for (int i = 0; i < 6; i++) {
    go(PTRACE_SINGLESTEP, pid, 0);
    await("step", pid);
    CHECK_EQ(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
    CHECK_EQ(ptrace(PTRACE_GETSIGINFO, pid, 0, &info), 0);
    say("at %lu, eax %lld, trap flag %d, code %d", (unsigned long)regs.rip - start, (int)regs.rax == pid ? -7 : (long long)(int)regs.rax, (regs.eflags & 0x100) != 0, info.si_code);
  }
  go(PTRACE_CONT, pid, 0);
  await("second int3", pid);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

static void handled(void) {
  signal(SIGUSR1, count);
  raise(SIGUSR1);
  _exit(counter);
}
TEST(step_into_handler) {
  struct user_regs_struct regs;
  pid_t pid = traced(handled);
  await("first", pid);
  go(PTRACE_CONT, pid, 0);
  await("signal", pid);
  go(PTRACE_SINGLESTEP, pid, SIGUSR1);
  await("step", pid);
  CHECK_EQ(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
  say("in the handler %d", regs.rip == (unsigned long)count);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

static void floats(void) {
  float x = 1.5f, y;
  __asm__ volatile("movss %1, %%xmm3\n int3\n movss %%xmm3, %0" : "=m"(y) : "m"(x) : "xmm3");
  _exit((int)y);
}
TEST(fpu) {
  struct user_fpregs_struct fp;
  pid_t pid = traced(floats);
  await("first", pid);
  go(PTRACE_CONT, pid, 0);
  await("int3", pid);
  CHECK_EQ(ptrace(PTRACE_GETFPREGS, pid, 0, &fp), 0);
  say("xmm3 %x", fp.xmm_space[12]);
  fp.xmm_space[12] = 0x42280000; /* 42.0 */
  CHECK_EQ(ptrace(PTRACE_SETFPREGS, pid, 0, &fp), 0);
  struct iovec iov = {&fp, sizeof(fp)};
  CHECK_EQ(ptrace(PTRACE_GETREGSET, pid, NT_PRFPREG, &iov), 0);
  say("%zu bytes, xmm3 %x", iov.iov_len, fp.xmm_space[12]);
  struct user_regs_struct regs;
  iov = (struct iovec){&regs, 1000};
  CHECK_EQ(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov), 0);
  say("%zu bytes", iov.iov_len);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

HELPER(leaf) { return 5; }
static char *leaf_argv[] = {guest_self, "leaf", NULL};
static void forks(void) {
  pid_t pid = fork();
  if (pid == 0) _exit(1);
  waitpid(pid, NULL, 0);
  pid = vfork();
  if (pid == 0) {
    execv(guest_self, leaf_argv);
    _exit(2);
  }
  waitpid(pid, NULL, 0);
  _exit(6);
}
TEST(events) {
  pid_t pid = traced(forks);
  await("first", pid);
  long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT;
  CHECK_EQ(ptrace(PTRACE_SETOPTIONS, pid, 0, options), 0);
  unsigned long child, message;
  go(PTRACE_CONT, pid, 0);
  await("fork", pid);
  CHECK_EQ(ptrace(PTRACE_GETEVENTMSG, pid, 0, &child), 0);
  await("child", child);
  go(PTRACE_CONT, child, 0);
  await("child exits", child);
  CHECK_EQ(ptrace(PTRACE_GETEVENTMSG, child, 0, &message), 0);
  say("status %lx", message);
  go(PTRACE_CONT, child, 0);
  await("child's end", child);
  go(PTRACE_CONT, pid, 0);
  await("chld", pid);
  go(PTRACE_CONT, pid, SIGCHLD);
  await("vfork", pid);
  CHECK_EQ(ptrace(PTRACE_GETEVENTMSG, pid, 0, &child), 0);
  await("child", child);
  go(PTRACE_CONT, pid, 0);
  go(PTRACE_CONT, child, 0);
  await("exec", child);
  CHECK_EQ(ptrace(PTRACE_GETEVENTMSG, child, 0, &message), 0);
  say("was %d", message == child);
  await("vfork done", pid);
  go(PTRACE_CONT, pid, 0);
  go(PTRACE_CONT, child, 0);
  await("child exits", child);
  go(PTRACE_CONT, child, 0);
  await("child's end", child);
  await("chld", pid);
  go(PTRACE_CONT, pid, 0);
  await("exit", pid);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

TEST(legacy_exec) {
  pid_t pid = fork();
  if (pid == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    execv(guest_self, leaf_argv);
    _exit(1);
  }
  await("exec", pid);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

static void *thread(void *arg) {
  syscall(SYS_getppid);
  return arg;
}
static void threads(void) {
  pthread_t t;
  pthread_create(&t, NULL, thread, NULL);
  pthread_join(t, NULL);
  usleep(200000);
  _exit(4);
}
TEST(clone) {
  pid_t pid = traced(threads);
  await("first", pid);
  CHECK_EQ(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE), 0);
  unsigned long tid;
  go(PTRACE_CONT, pid, 0);
  await("clone", pid);
  CHECK_EQ(ptrace(PTRACE_GETEVENTMSG, pid, 0, &tid), 0);
  await("thread", tid);
  go(PTRACE_CONT, pid, 0);
  go(PTRACE_CONT, tid, 0);
  await("thread's end", tid);
  await("end", pid);
}

TEST(seccomp_trace) {
  pid_t pid = fork();
  if (pid == 0) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 33),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {4, code};
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
    long without = syscall(SYS_getpriority, 0, 0);
    raise(SIGSTOP);
    long with = syscall(SYS_getpriority, 0, 0);
    long skipped = syscall(SYS_getpriority, 0, 0);
    say("without %ld, with %d, skipped %ld", without, with > 0, skipped);
    _exit(0);
  }
  await("first", pid);
  CHECK_EQ(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP), 0);
  unsigned long data;
  go(PTRACE_CONT, pid, 0);
  await("seccomp", pid);
  CHECK_EQ(ptrace(PTRACE_GETEVENTMSG, pid, 0, &data), 0);
  say("data %lu", data);
  go(PTRACE_CONT, pid, 0);
  await("seccomp", pid);
  CHECK_EQ(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1), 0);
  CHECK_EQ(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), 12), 0);
  go(PTRACE_CONT, pid, 0);
  await("end", pid);
}

/* Whatever a tracer puts into registers: only its tracee suffers. */
static void spin(void) {
  for (;;) counter++;
}
TEST(wild_registers) {
  unsigned long long seed = 12345;
  for (int round = 0; round < 150; round++) {
    pid_t pid = fork();
    if (pid == 0) {
      ptrace(PTRACE_TRACEME, 0, 0, 0);
      raise(SIGSTOP);
      spin();
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    for (int i = 0; i < 6; i++) {
      unsigned long long value = seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      value = i % 3 == 0 ? value >> 33 : i % 3 == 1 ? value : 0x7fff00000000 + (value >> 32);
      ptrace(PTRACE_POKEUSER, pid, (seed >> 40) % (sizeof(struct user_regs_struct) / 8) * 8, value);
    }
    struct user_fpregs_struct fp;
    CHECK_EQ(ptrace(PTRACE_GETFPREGS, pid, 0, &fp), 0);
    if (round % 4 == 0) fp.mxcsr = (unsigned)(seed >> 32);
    ptrace(PTRACE_SETFPREGS, pid, 0, &fp);
    static const int requests[] = {PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP};
    for (int i = 0; i < 3; i++) {
      ptrace(requests[(round + i) % 3], pid, 0, 0);
      if (i == 2) usleep(200);
      waitpid(pid, &status, WNOHANG | __WALL);
    }
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, __WALL) == pid && !WIFEXITED(status) && !WIFSIGNALED(status)) {}
  }
  say("survived");
}

/* Steps through a call that is made over and over, whatever a sandbox has made of the place by then. */
static void asks(void) {
  for (;;) getppid();
}
TEST(step_through_hot_call) {
  pid_t pid = fork();
  if (pid == 0) asks();
  usleep(50000);
  CHECK_EQ(ptrace(PTRACE_ATTACH, pid, 0, 0), 0);
  await("attached", pid);
  int trapped = 0, status;
  for (int i = 0; i < 200; i++) {
    go(PTRACE_SINGLESTEP, pid, 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    trapped += WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
  }
  say("%d steps", trapped);
  CHECK_EQ(ptrace(PTRACE_DETACH, pid, 0, 0), 0);
  kill(pid, SIGTERM);
  await("end", pid);
}
