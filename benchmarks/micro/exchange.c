/* Round trips: between two processes, between two threads, and from a process to its own signal handler. */
#define _GNU_SOURCE
#include "micro.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int to, from; /* ends of this process */
static pid_t echoer;

static void start_echo(int in, int out) {
  if ((echoer = fork()) < 0) fail("fork");
  if (echoer == 0) {
    char c;
    close(to);
    close(from);
    while (read(in, &c, 1) == 1)
      if (write(out, &c, 1) != 1) break;
    _exit(0);
  }
  close(in);
  if (out != in) close(out);
}
static void open_pipes(void) {
  int there[2], back[2];
  if (pipe(there) || pipe(back)) fail("pipe");
  to = there[1];
  from = back[0];
  start_echo(there[0], back[1]);
}
static void open_sockets(void) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) fail("socketpair");
  to = from = ends[0];
  start_echo(ends[1], ends[1]);
}
static void close_echo(void) {
  close(to);
  if (from != to) close(from);
  waitpid(echoer, NULL, 0);
}
static void round_trips(long n) {
  char c = 1;
  while (n--)
    if (write(to, &c, 1) != 1 || read(from, &c, 1) != 1) fail("round trip");
}

/* Two threads hand a turn over and back: the word says whose it is. */
enum { MAIN, PARTNER, STOP };
static _Atomic int turn;
static pthread_t partner;

static void hand_over(int whose) {
  atomic_store(&turn, whose);
  syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
static void await_turn_after(int other) {
  while (atomic_load(&turn) == other) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, other, NULL, NULL, 0);
}
static void *play(void *unused) {
  for (;;) {
    await_turn_after(MAIN);
    if (atomic_load(&turn) == STOP) return unused;
    hand_over(MAIN);
  }
}
static void start_partner(void) {
  atomic_store(&turn, MAIN);
  if (pthread_create(&partner, NULL, play, NULL)) fail("pthread_create");
}
static void stop_partner(void) {
  hand_over(STOP);
  pthread_join(partner, NULL);
}
static void hand_overs(long n) {
  while (n--) {
    hand_over(PARTNER);
    await_turn_after(PARTNER);
  }
}

static volatile sig_atomic_t caught;
static void on_signal(int number) {
  (void)number;
  caught++;
}
static void catch_signal(void) { signal(SIGUSR1, on_signal); }
static void signals(long n) {
  pid_t me = getpid();
  for (caught = 0; n--;) {
    sig_atomic_t before = caught;
    if (kill(me, SIGUSR1) || caught == before) fail("kill");
  }
}

const struct row exchange_rows[] = {
    {"pipe", open_pipes, round_trips, close_echo, 0},
    {"socketpair", open_sockets, round_trips, close_echo, 0},
    {"futex", start_partner, hand_overs, stop_partner, 0},
    {"signal", catch_signal, signals, NULL, 0},
    {0},
};
