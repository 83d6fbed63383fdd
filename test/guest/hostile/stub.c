/*
 * Turns on the code of ours in its address space: unmaps and overwrites it, reads over it, jumps into it to make host
 * calls of its choice. `stub HOSTPID PATH`: a process of the host that must survive, and a file that must stay unread.
 * Prints "attacked" and waits for the end of its input while the test looks at its processes from the host; then
 * "GAINED: what" for all that worked, and "nothing gained".
 */
#define GUEST_NO_MAIN
#include "../guest.h"
#include <linux/sched.h>
#include <setjmp.h>
#include <sys/ptrace.h>

#define ARENA 0x7fff80000000UL
#define STUB 0x7ffff0000000UL
#define TOP 0x7ffffffff000UL
/* Every `syscall` instruction of the stub that stub.S names; others are found by reading. */
static unsigned long entries[64];
static int entry_count;
static int gained;
static void gain(const char *format, ...) {
  char text[256];
  va_list ap;
  va_start(ap, format);
  vsnprintf(text, sizeof text, format, ap);
  va_end(ap);
  gained = 1;
  say("GAINED: %s", text);
}

static sigjmp_buf back;
static long trapped_rax;
static void caught(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)info;
  trapped_rax = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX];
  siglongjmp(back, 1);
}
static void catch_all(void) {
  static char alt[65536];
  stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
  sigaltstack(&ss, NULL);
  static const int sigs[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS};
  for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) {
    struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(sigs[i], &sa, NULL);
  }
}

/* Jumps to `at` with a call's registers set: rax as it was when that trapped or came back. */
static long jump(unsigned long at, long nr, long a, long b, long c, long d, long e, long f) {
  if (sigsetjmp(back, 1) != 0) return trapped_rax;
  static unsigned long r[8];
  r[0] = nr, r[1] = a, r[2] = b, r[3] = c, r[4] = d, r[5] = e, r[6] = f, r[7] = at;
  __asm__ volatile(
      "mov %0, %%rbx\n"
      "mov (%%rbx), %%rax\n mov 8(%%rbx), %%rdi\n mov 16(%%rbx), %%rsi\n mov 24(%%rbx), %%rdx\n"
      "mov 32(%%rbx), %%r10\n mov 40(%%rbx), %%r8\n mov 48(%%rbx), %%r9\n"
      "call *56(%%rbx)\n"
      "ud2\n" ::"r"(r)
      : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
  return LONG_MIN;
}

static void find_entries(void) {
  static const unsigned long known[] = {STUB, STUB + 0x05, STUB + 0x10, STUB + 0x20, STUB + 0x60, STUB + 0x65, STUB + 0x70, STUB + 0x80, STUB + 0x85};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) entries[entry_count++] = known[i];
  for (volatile unsigned char *p = (void *)STUB; p < (unsigned char *)STUB + 0x4000 && entry_count < 40; p++) {
    if (sigsetjmp(back, 1) != 0) break; /* unreadable: then there is nothing to find */
    if (p[0] == 0x0f && p[1] == 0x05) entries[entry_count++] = (unsigned long)p;
  }
}

static void attack_memory(void) {
  static const unsigned long places[] = {STUB, STUB + 0x1000, STUB + 0x4000, ARENA, ARENA + 0x10000, 0x7fffe0000000UL, TOP - 0x1000, TOP};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    void *p = (void *)places[i];
    if (munmap(p, 4096) == 0) gain("munmap of %lx", places[i]);
    if (mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0) gain("mprotect of %lx", places[i]);
    if (mmap(p, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) gain("mmap over %lx", places[i]);
    if (mremap(p, 4096, 4096, MREMAP_MAYMOVE) != MAP_FAILED) gain("mremap of %lx", places[i]);
    void *mine = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mremap(mine, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, p) != MAP_FAILED) gain("mremap onto %lx", places[i]);
    if (madvise(p, 4096, MADV_DONTNEED) == 0) gain("madvise of %lx", places[i]);
    int fds[2];
    if (pipe(fds) == 0 && write(fds[1], "evil", 4) == 4 && read(fds[0], p, 4) == 4) gain("read over %lx", places[i]);
    close(fds[0]), close(fds[1]);
    struct iovec local = {"evil", 4}, remote = {p, 4};
    if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 4) gain("process_vm_writev over %lx", places[i]);
    int mem = open("/proc/self/mem", O_RDWR);
    if (mem >= 0 && pwrite(mem, "evil", 4, places[i]) == 4) gain("/proc/self/mem over %lx", places[i]);
    close(mem);
    if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, p, 8) == 0) gain("a result over %lx", places[i]);
  }
  if (munmap((void *)0x400000000000, 0x3ffff0000000UL + 0x100000) == 0) gain("munmap of a range that ends in the stub");
}

static int host_pid;
static const char *host_file;

/* Attacks never end: what they hold when they are stuck or done is looked at from the host. */
static void stay(int sig) {
  (void)sig;
  for (;;) pause();
}
static pid_t attacker(void) {
  pid_t pid = fork();
  if (pid == 0) {
    catch_all();
    signal(SIGALRM, stay);
    ualarm(700000, 0);
  }
  return pid;
}

/* Host calls by way of the stub: a result means nothing, since what is jumped to may compute its own. */
static void attack_call(unsigned long at) {
  static char buf[64];
  long r = jump(at, SYS_openat, AT_FDCWD, (long)host_file, O_RDONLY, 0, 0, 0);
  for (int fd = 0; fd < 16; fd++)
    if (fd == (int)r || fd < 8)
      if (jump(at, SYS_pread64, fd, (long)buf, 10, 0, 0, 0), memcmp(buf, "TOP-SECRET", 10) == 0) gain("read %s from the host", host_file);
  jump(at, SYS_kill, host_pid, SIGKILL, 0, 0, 0, 0);
  jump(at, SYS_tgkill, host_pid, host_pid, SIGKILL, 0, 0, 0);
  jump(at, SYS_rt_sigqueueinfo, host_pid, SIGKILL, (long)buf, 0, 0, 0);
  jump(at, SYS_ptrace, PTRACE_ATTACH, host_pid, 0, 0, 0, 0);
  jump(at, SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0, 0, 0);
  jump(at, SYS_memfd_create, (long)"x", 0, 0, 0, 0, 0);
  jump(at, SYS_eventfd2, 0, 0, 0, 0, 0, 0);
  jump(at, SYS_pipe2, (long)buf, 0, 0, 0, 0, 0);
  jump(at, SYS_dup2, 0, 40, 0, 0, 0, 0);
  jump(at, SYS_io_uring_setup, 8, (long)buf, 0, 0, 0, 0);
  jump(at, SYS_userfaultfd, 0, 0, 0, 0, 0, 0);
  jump(at, SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS, 0, 0, 0, 0, 0);
  jump(at, SYS_prctl, 4 /* PR_SET_DUMPABLE */, 1, 0, 0, 0, 0);
  jump(at, SYS_setsid, 0, 0, 0, 0, 0, 0);
  for (int fd = 3; fd < 12; fd++) {
    jump(at, SYS_write, fd, (long)"evilevil", 8, 0, 0, 0);
    jump(at, SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  jump(at, SYS_execve, (long)"/bin/sh", 0, 0, 0, 0, 0);
  jump(at, SYS_seccomp, 1, 0, (long)buf, 0, 0, 0);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  host_pid = atoi(argv[1]);
  host_file = argv[2];
  attack_memory();
  catch_all();
  find_entries();
  /* Clone by way of the stub, none of it ordered by the sentry. */
  static const unsigned long flags[] = {SIGCHLD, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, CLONE_NEWUSER | SIGCHLD, CLONE_PARENT | SIGCHLD};
  for (int e = 0; e < entry_count; e++) {
    if (attacker() == 0) {
      attack_call(entries[e]);
      stay(0);
    }
    if (attacker() == 0) {
      for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) jump(entries[e], SYS_clone, flags[i], 0, 0, 0, 0, 0);
      stay(0);
    }
    if (e % 4 == 3) sleep_ms(800); /* a few at a time */
  }
  sleep_ms(1500);
  say("attacked");
  char c;
  while (read(0, &c, 1) > 0) continue; /* the test looks at us from outside meanwhile */
  signal(SIGTERM, SIG_IGN);
  kill(-1, SIGKILL);
  while (wait(NULL) > 0) continue;
  /* The kernel is in order for those who did not attack it. */
  pid_t pid = fork();
  if (pid == 0) _exit(getppid() == 1 || getppid() > 0 ? 7 : 8);
  say("afterwards %d", reap(pid));
  say(gained ? "something gained" : "nothing gained");
  return gained;
}
