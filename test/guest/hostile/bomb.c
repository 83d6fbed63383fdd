/* A fork bomb that counts: every process forks for ever; the first tells how many there are at most, and that fork failed. */
#define GUEST_NO_MAIN
#include "../guest.h"

int main(void) {
  volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t first = fork();
  if (first == 0) {
    setpgid(0, 0);
    for (int64_t end = now_ms() + 2000; now_ms() < end;) {
      pid_t pid = fork();
      if (pid < 0) {
        shared[errno == EAGAIN ? 1 : 2] = 1;
        usleep(1000);
      } else if (pid == 0) __atomic_add_fetch(&shared[0], 1, __ATOMIC_SEQ_CST);
    }
    for (;;) pause();
  }
  setpgid(first, first);
  sleep_ms(2500);
  kill(-first, SIGKILL);
  reap(first);
  say("processes %s, fork %s", shared[0] < 64 ? "bounded" : "not bounded", shared[1] && !shared[2] ? "gave EAGAIN" : "never gave EAGAIN");
  /* The limit frees again. */
  while (wait(NULL) > 0) continue;
  for (int i = 0; i < 200; i++) {
    pid_t pid = fork();
    if (pid == 0) _exit(7);
    if (pid > 0) {
      say("and afterwards %d", reap(pid));
      return 0;
    }
    sleep_ms(20);
  }
  say("no process for a long time");
  return 1;
}
