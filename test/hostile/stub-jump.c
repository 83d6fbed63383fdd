/*
 * A guest that knows where the stub is: jumps to its system call instruction with calls of its choice, and scribbles
 * over the memory that the stub shares with the sentry. Run inside a sandbox only; prints one line per attempt, "alive"
 * at the end. What matters: nothing of the host is gained, and the sentry outlives it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "../../native/stub/protocol.h"

static void on_trap(int sig, siginfo_t *info, void *context) {
  (void)sig;
  (void)info;
  greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
  regs[REG_RIP] = regs[REG_RBX];
}

/* The stub's "syscall; int3": the trap brings us back. */
static long jump(long nr, long a, long b, long c, long d, long e, long f) {
  long ret;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("lea 1f(%%rip), %%rbx\n\tjmp *%[stub]\n1:"
                   : "=a"(ret)
                   : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9), [stub] "r"((long)STUB_ONE)
                   : "rbx", "rcx", "r11", "memory");
  return ret;
}

static const char *verdict(long r) { return r < 0 && r > -4096 ? strerrorname_np(-r) : "done"; }

static void attempt(const char *name, long r) { printf("%s: %s\n", name, verdict(r)); }

/* In a child, so that the damage is its own. */
static void in_child(const char *name, void (*body)(void)) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    alarm(5);
    body();
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  printf("%s: over\n", name);
}

static void unmap_stub(void) {
  jump(SYS_munmap, STUB_TEXT, STUB_TEXT_SIZE, 0, 0, 0, 0);
  getppid();
}
static void unmap_arena(void) {
  jump(SYS_munmap, ARENA_BASE, ARENA_SIZE, 0, 0, 0, 0);
  getppid();
}
static void unmap_control(void) {
  jump(SYS_munmap, CONTROL_ADDR, 4096, 0, 0, 0, 0);
  getppid();
}
static void bad_sigreturn(void) { jump(SYS_rt_sigreturn, 0, 0, 0, 0, 0, 0); }
static void native_exit(void) { jump(SYS_exit, 0, 0, 0, 0, 0, 0); }
static void grow_arena(void) {
  /* A shared mapping grown with mremap shows more of its file: of our own arena, nobody else's. */
  jump(SYS_mremap, ARENA_BASE, SLOT_SIZE, 64 * SLOT_SIZE, 0, 0, 0);
  getppid();
}
static void map_over_control(void) {
  jump(SYS_mmap, CONTROL_ADDR, 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *(volatile uint32_t *)CONTROL_ADDR = 1;
  for (int i = 0; i < 100; i++) getppid();
}
static void write_control(void) {
  jump(SYS_mprotect, CONTROL_ADDR, 4096, PROT_READ | PROT_WRITE, 0, 0, 0);
  *(volatile uint32_t *)CONTROL_ADDR = 7;
}
static void write_names(void) {
  jump(SYS_mprotect, CONTROL_ADDR + KNOWN_OFFSET, 4096, PROT_READ | PROT_WRITE, 0, 0, 0);
  *(volatile uint32_t *)(CONTROL_ADDR + KNOWN_OFFSET) = 7;
  printf("the table of names can be written\n");
  fflush(stdout);
}

/* One place that has made calls often enough to be patched. */
static void __attribute__((noinline)) hot(void) {
  for (int i = 0; i < 100; i++) getppid();
}
static void damage_entries(void) {
  unsigned seed = 99;
  hot();
  jump(SYS_mprotect, PATCH_BASE, PATCH_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0);
  for (unsigned long at = 0; at < 16 * PATCH_ENTRY_SIZE; at += 4)
    *(volatile uint32_t *)(PATCH_BASE + at) = rand_r(&seed);
  hot();
}
static void unmap_entries(void) {
  hot();
  jump(SYS_munmap, PATCH_BASE, PATCH_SIZE, 0, 0, 0, 0);
  hot();
}
/* The window's words say nonsense while calls use them. */
static volatile int go = 1;
static void *call_with_windows(void *arg) {
  char text[100];
  (void)arg;
  while (go) {
    readlink("/proc/self/exe", text, sizeof text);
    access("/etc/passwd", R_OK);
    if (write(-1, text, sizeof text) > 0) go = 0;
  }
  return NULL;
}
static void lie_about_windows(void) {
  pthread_t thread;
  unsigned seed = 7;
  pthread_create(&thread, NULL, call_with_windows, NULL);
  for (int n = 0; n < 300000; n++) {
    struct stub_slot *slot = (void *)(ARENA_BASE + SLOT_SIZE);
    slot->in_len[n & 1] = rand_r(&seed) % 3 ? rand_r(&seed) % 2000 : (uint32_t)rand_r(&seed) * 2;
    slot->in_addr[n & 1] = rand_r(&seed);
    slot->out_count = rand_r(&seed) % 20;
    slot->out[n % MAX_WINDOW_OUT].offset = rand_r(&seed);
    slot->out[n % MAX_WINDOW_OUT].len = rand_r(&seed);
    slot->entry = n % 5 ? slot->entry : (uint64_t)rand_r(&seed);
  }
  go = 0;
  pthread_join(thread, NULL);
}
/* A thread that is told to change its mappings never says that it is done. */
static void *map_for_ever(void *arg) {
  (void)arg;
  for (;;) munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
  return NULL;
}
static void hold_the_sentry(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, map_for_ever, NULL);
  for (;;) *(volatile uint32_t *)(ARENA_BASE + SLOT_SIZE) = STATE_GUEST;
}

static void *caller(void *arg) {
  (void)arg;
  while (go) {
    getppid();
    close(-1);
  }
  return NULL;
}

/* One thread makes calls while the other writes noise over every slot word. */
static void scribble(void) {
  pthread_t thread;
  unsigned seed = 12345;
  pthread_create(&thread, NULL, caller, NULL);
  for (int n = 0; n < 20000; n++) {
    uint64_t slot = ARENA_BASE + (rand_r(&seed) % 2) * SLOT_SIZE;
    uint64_t at = rand_r(&seed) % 4 ? rand_r(&seed) % 0x240 : rand_r(&seed) % SLOT_SIZE;
    *(volatile uint32_t *)(slot + (at & ~3UL)) = rand_r(&seed) % 3 ? rand_r(&seed) % 8 : (unsigned)rand_r(&seed) * 2654435761u;
    if (n % 64 == 0) getuid();
  }
}

int main(void) {
  struct sigaction act = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER };
  char text[64] = "";
  sigaction(SIGTRAP, &act, NULL);
  setvbuf(stdout, NULL, _IOLBF, 0);

  /* Calls that the filter gives to the sentry are ordinary guest calls, wherever they come from. */
  long fd = jump(SYS_open, (long)"/etc/hostname-of-nobody", O_RDONLY, 0, 0, 0, 0);
  attempt("open of a missing file", fd);
  attempt("socket(AF_PACKET)", jump(SYS_socket, AF_PACKET, SOCK_RAW, 0, 0, 0, 0));
  attempt("ptrace(ATTACH, 1)", jump(SYS_ptrace, 16, 1, 0, 0, 0, 0));
  attempt("kill of a host pid", jump(SYS_kill, 3999999, 9, 0, 0, 0, 0));
  attempt("io_uring_setup", jump(SYS_io_uring_setup, 8, (long)text, 0, 0, 0, 0));
  attempt("process_vm_readv of a host pid", jump(SYS_process_vm_readv, 3999999, (long)text, 1, (long)text, 1, 0));
  attempt("execve of nothing", jump(SYS_execve, (long)"/nonexistent", 0, 0, 0, 0, 0));
  /* Descriptors of the stub: whatever number, no file may appear in memory. */
  int mapped = 0;
  for (int i = 0; i < 32; i++) {
    long r = jump(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, i, 0);
    if (r > 0 || r < -4095) mapped++;
  }
  printf("mappings of descriptors: %d\n", mapped);
  for (int i = 3; i < 32; i++) jump(SYS_close, i, 0, 0, 0, 0, 0);
  long r = jump(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
  if (r == 0) _exit(0);
  printf("clone: %s\n", r > 0 || r == -EPERM ? "harmless" : verdict(r));
  if (r > 0) waitpid((pid_t)r, NULL, 0);
  printf("write to the wake-up: %s\n", jump(SYS_write, WAKE_FD, (long)"12345678", 8, 0, 0, 0) > 0 ? "harmless" : "harmless");

  in_child("unmap the stub", unmap_stub);
  in_child("unmap the arena", unmap_arena);
  in_child("unmap the control page", unmap_control);
  in_child("grow the arena", grow_arena);
  in_child("map over the control page", map_over_control);
  in_child("write the control page", write_control);
  in_child("write the table of names", write_names);
  in_child("sigreturn without a frame", bad_sigreturn);
  in_child("exit behind the sentry's back", native_exit);
  for (int i = 0; i < 5; i++) in_child("scribble", scribble);
  in_child("damage the entries of patched sites", damage_entries);
  in_child("unmap the entries of patched sites", unmap_entries);
  in_child("lie about the copy window", lie_about_windows);
  in_child("hold the sentry", hold_the_sentry);
  printf("alive\n");
  return 0;
}
