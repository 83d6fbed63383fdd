/* Clocks, sleeping, interval timers, POSIX timers. */
#include "guest.h"
#include <sys/times.h>

TEST(clocks) {
  static const int ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW,
      CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
    struct timespec a, b;
    CHECK_OK(clock_gettime(ids[i], &a));
    CHECK_OK(syscall(SYS_clock_gettime, ids[i], &b)); /* the call itself, not the vDSO */
    long ns = (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec;
    CHECK(ns >= -20000000 && ns < 2000000000);
    CHECK_OK(clock_getres(ids[i], &a));
  }
  struct timespec ts;
  CHECK_ERR(syscall(SYS_clock_gettime, 99, &ts), EINVAL);
  CHECK_ERR(syscall(SYS_clock_getres, 99, &ts), EINVAL);
  CHECK_ERR(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8), EFAULT);
  CHECK_OK(clock_getres(CLOCK_MONOTONIC, &ts));
  CHECK_EQ(ts.tv_sec * 1000000000L + ts.tv_nsec, 1);
  CHECK(labs(time(NULL) - syscall(SYS_time, NULL)) <= 1);
  struct timeval tv;
  CHECK_OK(syscall(SYS_gettimeofday, &tv, NULL));
  CHECK(labs(tv.tv_sec - time(NULL)) <= 1);
}

TEST(monotonic) {
  struct timespec before, now;
  clock_gettime(CLOCK_MONOTONIC, &before);
  for (int i = 0; i < 20000; i++) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec < before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec < before.tv_nsec)) FAIL("went back");
    before = now;
  }
}

TEST(sleeps) {
  int64_t before = now_ms();
  struct timespec ts = {0, 30000000};
  CHECK_OK(nanosleep(&ts, NULL));
  CHECK(now_ms() - before >= 30);
  ts.tv_nsec = 1000000000;
  CHECK_ERR(nanosleep(&ts, NULL), EINVAL);
  ts = (struct timespec){-1, 0};
  CHECK_ERR(nanosleep(&ts, NULL), EINVAL);
  ts = (struct timespec){0, 0};
  CHECK_OK(nanosleep(&ts, NULL));
  CHECK_EQ(clock_nanosleep(99, 0, &ts, NULL), EINVAL);
  CHECK_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL), EINVAL);
  before = now_ms();
  clock_gettime(CLOCK_REALTIME, &ts);
  ts.tv_nsec += 30000000;
  if (ts.tv_nsec >= 1000000000) ts.tv_sec++, ts.tv_nsec -= 1000000000;
  CHECK_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &ts, NULL), 0);
  CHECK(now_ms() - before >= 29);
  CHECK_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &ts, NULL), 0); /* past */
}

static volatile sig_atomic_t alarms, last;
static siginfo_t seen;
static void note(int sig, siginfo_t *info, void *context) {
  (void)context;
  alarms++;
  last = sig;
  seen = *info;
}
static void catch(int sig) {
  struct sigaction sa = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
  sigaction(sig, &sa, NULL);
}

TEST(alarm_and_itimers) {
  catch(SIGALRM);
  CHECK_EQ(alarm(100) > 0, 1); /* the harness's own was running */
  CHECK_EQ(alarm(0), 100);
  struct itimerval t = {{0, 10000}, {0, 10000}}, now;
  CHECK_OK(setitimer(ITIMER_REAL, &t, NULL));
  while (alarms < 3) pause();
  CHECK_OK(getitimer(ITIMER_REAL, &now));
  CHECK_EQ(now.it_interval.tv_usec, 10000);
  CHECK_EQ(seen.si_code, SI_KERNEL);
  t = (struct itimerval){{0, 0}, {0, 0}};
  CHECK_OK(setitimer(ITIMER_REAL, &t, &now));
  int n = alarms;
  sleep_ms(30);
  CHECK_EQ(alarms, n);
  t.it_value.tv_usec = 1000000;
  CHECK_ERR(setitimer(ITIMER_REAL, &t, NULL), EINVAL);
  CHECK_ERR(setitimer(9, &t, NULL), EINVAL);
  CHECK_ERR(getitimer(9, &t), EINVAL);
}

TEST(cpu_timers) {
  catch(SIGVTALRM);
  catch(SIGPROF);
  struct itimerval t = {{0, 0}, {0, 20000}};
  CHECK_OK(setitimer(ITIMER_VIRTUAL, &t, NULL));
  int64_t end = now_ms() + 3000;
  while (!alarms && now_ms() < end)
    for (volatile int i = 0; i < 100000; i++) continue;
  CHECK_EQ(last, SIGVTALRM);
  CHECK_OK(setitimer(ITIMER_PROF, &t, NULL));
  while (last != SIGPROF && now_ms() < end)
    for (volatile int i = 0; i < 100000; i++) continue;
  CHECK_EQ(last, SIGPROF);
}

TEST(posix_timers) {
  catch(SIGUSR1);
  timer_t id;
  struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
  CHECK_OK(timer_create(CLOCK_MONOTONIC, &ev, &id));
  struct itimerspec t = {{0, 0}, {0, 20000000}}, now;
  CHECK_OK(timer_settime(id, 0, &t, NULL));
  CHECK_OK(timer_gettime(id, &now));
  CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 20000000);
  while (!alarms) pause();
  CHECK_EQ(seen.si_code, SI_TIMER);
  CHECK_EQ(seen.si_value.sival_int, 42);
  CHECK_OK(timer_gettime(id, &now));
  CHECK_EQ(now.it_value.tv_nsec, 0);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  t = (struct itimerspec){{0, 5000000}, {0, 5000000}};
  CHECK_OK(timer_settime(id, 0, &t, NULL));
  sleep_ms(52);
  siginfo_t info;
  CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  CHECK(info.si_overrun >= 8 && info.si_overrun < 40); /* one signal, the rest counted */
  CHECK(timer_getoverrun(id) >= 8);
  CHECK_OK(timer_delete(id));
  CHECK_ERR(syscall(SYS_timer_delete, 12345), EINVAL);
  CHECK_ERR(syscall(SYS_timer_settime, 12345, 0, &t, NULL), EINVAL);
  CHECK_ERR(timer_create(99, &ev, &id), EINVAL);
  ev.sigev_signo = 99;
  CHECK_ERR(timer_create(CLOCK_MONOTONIC, &ev, &id), EINVAL);
  ev = (struct sigevent){.sigev_notify = SIGEV_NONE};
  CHECK_OK(timer_create(CLOCK_REALTIME, &ev, &id));
}

static volatile int ran;
static void on_thread(union sigval v) { ran = v.sival_int; }
TEST(timer_with_a_thread) {
  timer_t id;
  struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread, .sigev_value.sival_int = 8};
  CHECK_OK(timer_create(CLOCK_MONOTONIC, &ev, &id));
  struct itimerspec t = {{0, 0}, {0, 10000000}};
  CHECK_OK(timer_settime(id, 0, &t, NULL));
  for (int i = 0; i < 300 && !ran; i++) sleep_ms(5);
  CHECK_EQ(ran, 8);
}

TEST(cpu_time_advances) {
  struct timespec a, b;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
  int64_t end = now_ms() + 40;
  while (now_ms() < end) continue;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
  CHECK((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec >= 5000000);
  struct tms t;
  CHECK(times(&t) != (clock_t)-1);
  CHECK_EQ(sysconf(_SC_CLK_TCK), 100);
  CHECK_EQ(IN_CHILD(sleep_ms(30); clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b); CHECK(b.tv_sec == 0 && b.tv_nsec < 25000000)), 0);
}

TEST(setting_needs_rights) {
  CHECK_EQ(IN_CHILD({
    REQUIRE(setuid(1000) == 0);
    struct timespec ts = {1, 0};
    CHECK_ERR(clock_settime(CLOCK_REALTIME, &ts), EPERM);
    CHECK_ERR(clock_settime(CLOCK_MONOTONIC, &ts), EINVAL);
  }), 0);
}
