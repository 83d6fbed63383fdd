/* What the system says of itself: uname, sysinfo, limits, usage, scheduling, affinity, random, personality. */
#include "guest.h"
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

TEST(uname_call) {
  struct utsname u;
  int major = 0, minor = 0;
  CHECK_OK(uname(&u));
  CHECK_STR(u.sysname, "Linux");
  CHECK_STR(u.machine, "x86_64");
  CHECK_EQ(sscanf(u.release, "%d.%d", &major, &minor), 2);
  CHECK(major > 6 || (major == 6 && minor >= 1));
  char host[65] = {0};
  CHECK_OK(gethostname(host, sizeof host));
  CHECK_STR(host, u.nodename);
  CHECK_EQ(IN_CHILD(setuid(1000); CHECK_ERR(sethostname("x", 1), EPERM)), 0);
}

TEST(sysinfo_call) {
  struct sysinfo s;
  CHECK_OK(sysinfo(&s));
  CHECK(s.totalram > 0 && s.freeram <= s.totalram && s.procs > 0 && s.uptime >= 0 && s.mem_unit > 0);
  CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
  CHECK_EQ(sysconf(_SC_PAGESIZE), 4096);
  CHECK(sysconf(_SC_PHYS_PAGES) > 0);
}

TEST(limits) {
  struct rlimit old, now, bad = {10, 5};
  for (int r = 0; r < 16; r++) CHECK_OK(getrlimit(r, &old));
  CHECK_ERR(getrlimit(16, &old), EINVAL);
  CHECK_ERR(setrlimit(RLIMIT_NOFILE, &bad), EINVAL);
  getrlimit(RLIMIT_NOFILE, &old);
  CHECK_EQ(IN_CHILD({
    REQUIRE(setuid(1000) == 0);
    struct rlimit lower = {50, 60};
    struct rlimit higher = {50, 61};
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &lower));
    CHECK_ERR(setrlimit(RLIMIT_NOFILE, &higher), EPERM);
    CHECK_OK(prlimit(0, RLIMIT_NOFILE, NULL, &now));
    CHECK_EQ(now.rlim_cur * 100 + now.rlim_max, 5060);
    CHECK_EQ(IN_CHILD(getrlimit(RLIMIT_NOFILE, &now); CHECK_EQ(now.rlim_cur, 50)), 0); /* inherited */
    CHECK_ERR(prlimit(1, RLIMIT_NOFILE, NULL, &now), EPERM);
  }), 0);
  getrlimit(RLIMIT_NOFILE, &now);
  CHECK_EQ(now.rlim_cur, old.rlim_cur);
  CHECK_ERR(prlimit(999999, RLIMIT_NOFILE, NULL, &now), ESRCH);
  pid_t pid = fork();
  if (pid == 0) for (;;) pause();
  struct rlimit set = {33, 44};
  CHECK_OK(prlimit(pid, RLIMIT_NOFILE, &set, NULL));
  CHECK_OK(prlimit(pid, RLIMIT_NOFILE, NULL, &now));
  CHECK_EQ(now.rlim_cur, 33);
  kill(pid, SIGKILL);
  reap(pid);
}

TEST(process_limit) {
  CHECK_EQ(IN_CHILD({
    struct rlimit limit = {0, 0};
    REQUIRE(setrlimit(RLIMIT_NPROC, &limit) == 0 && setuid(4321) == 0);
    CHECK_ERR(fork(), EAGAIN);
  }), 0);
}

TEST(cpu_limit) {
  CHECK_EQ(IN_CHILD({
    struct rlimit limit = {1, 3}, none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    CHECK_OK(setrlimit(RLIMIT_CPU, &limit));
    for (volatile long x = 0;; x++) continue;
  }), 128 + SIGXCPU);
}

TEST(usage) {
  struct rusage u;
  CHECK_OK(getrusage(RUSAGE_SELF, &u));
  CHECK(u.ru_maxrss > 0);
  CHECK_OK(getrusage(RUSAGE_THREAD, &u));
  CHECK_OK(getrusage(RUSAGE_CHILDREN, &u));
  CHECK_ERR(getrusage(9, &u), EINVAL);
}

TEST(nice_values) {
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
  CHECK_EQ(IN_CHILD({
    CHECK_OK(setpriority(PRIO_PROCESS, 0, 5));
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
    CHECK_EQ(syscall(SYS_getpriority, PRIO_PROCESS, 0), 15); /* the raw call gives 20 - nice */
    CHECK_OK(setpriority(PRIO_PROCESS, 0, 100));
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 19);
    REQUIRE(setuid(1000) == 0);
    CHECK_ERR(setpriority(PRIO_PROCESS, 0, 0), EACCES);
    CHECK_ERR(setpriority(PRIO_PROCESS, 1, 19), EPERM);
  }), 0);
  CHECK_ERR(getpriority(9, 0), EINVAL);
  CHECK_ERR(getpriority(PRIO_PROCESS, 999999), ESRCH);
}

TEST(scheduling) {
  struct sched_param p = {0};
  CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
  CHECK_OK(sched_getparam(0, &p));
  CHECK_EQ(p.sched_priority, 0);
  CHECK_EQ(sched_get_priority_max(SCHED_FIFO), 99);
  CHECK_EQ(sched_get_priority_min(SCHED_FIFO), 1);
  CHECK_EQ(sched_get_priority_max(SCHED_OTHER), 0);
  CHECK_ERR(sched_get_priority_max(99), EINVAL);
  CHECK_OK(sched_setscheduler(0, SCHED_BATCH, &p));
  CHECK_EQ(sched_getscheduler(0), SCHED_BATCH);
  CHECK_OK(sched_setscheduler(0, SCHED_OTHER, &p));
  p.sched_priority = 5;
  CHECK_ERR(sched_setscheduler(0, SCHED_OTHER, &p), EINVAL);
  CHECK_ERR(sched_getscheduler(-1), EINVAL);
  CHECK_ERR(sched_getscheduler(999999), ESRCH);
  CHECK_OK(sched_yield());
  struct timespec ts;
  CHECK_OK(sched_rr_get_interval(0, &ts));
}

TEST(affinity) {
  cpu_set_t set, one;
  CPU_ZERO(&set);
  CHECK_OK(sched_getaffinity(0, sizeof set, &set));
  int n = CPU_COUNT(&set), first = 0;
  CHECK_EQ(n, sysconf(_SC_NPROCESSORS_ONLN));
  while (!CPU_ISSET(first, &set)) first++;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  CHECK_OK(sched_setaffinity(0, sizeof one, &one));
  CHECK_OK(sched_getaffinity(0, sizeof set, &set));
  CHECK_EQ(CPU_COUNT(&set), 1);
  CHECK_EQ(IN_CHILD(sched_getaffinity(0, sizeof set, &set); CHECK_EQ(CPU_COUNT(&set), 1)), 0);
  CPU_ZERO(&one);
  CHECK_ERR(sched_setaffinity(0, sizeof one, &one), EINVAL);
  CHECK_ERR(sched_getaffinity(999999, sizeof set, &set), ESRCH);
  CHECK_ERR(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
  unsigned cpu, node;
  CHECK_OK(syscall(SYS_getcpu, &cpu, &node, NULL));
}

TEST(random_bytes) {
  unsigned char a[32] = {0}, b[32] = {0};
  CHECK_EQ(getrandom(a, 32, 0), 32);
  CHECK_EQ(getrandom(b, 32, GRND_NONBLOCK), 32);
  CHECK(memcmp(a, b, 32) != 0);
  CHECK_ERR(getrandom(a, 32, 0x100), EINVAL);
  CHECK_ERR(getrandom(a, 32, GRND_RANDOM | GRND_INSECURE), EINVAL);
  CHECK_EQ(getrandom(a, 0, 0), 0);
}

TEST(personality_call) {
  CHECK_EQ(personality(0xffffffff), 0);
  CHECK_EQ(personality(ADDR_NO_RANDOMIZE), 0);
  CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
}

TEST(process_memory_of_children) {
  static char secret[16] = "parent";
  int ready[2];
  char c;
  CHECK_OK(pipe(ready));
  pid_t pid = fork();
  if (pid == 0) {
    strcpy(secret, "child");
    CHECK_EQ(write(ready[1], "r", 1), 1);
    for (;;) pause();
  }
  CHECK_EQ(read(ready[0], &c, 1), 1);
  char buf[16] = {0};
  struct iovec local = {buf, 16}, remote = {secret, 16};
  CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), 16);
  CHECK_STR(buf, "child");
  strcpy(buf, "written");
  CHECK_EQ(process_vm_writev(pid, &local, 1, &remote, 1, 0), 16);
  memset(buf, 0, 16);
  CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), 16);
  CHECK_STR(buf, "written");
  CHECK_ERR(process_vm_readv(pid, &local, 1, &remote, 1, 1), EINVAL);
  CHECK_ERR(process_vm_readv(999999, &local, 1, &remote, 1, 0), ESRCH);
  remote.iov_base = (void *)8;
  CHECK_ERR(process_vm_readv(pid, &local, 1, &remote, 1, 0), EFAULT);
  kill(pid, SIGKILL);
  reap(pid);
}

TEST(membarrier_and_rseq) {
  CHECK(syscall(SYS_membarrier, 0, 0, 0) >= 0 || errno == ENOSYS);
  CHECK_ERR(syscall(SYS_membarrier, 0, 7, 0) == -1 && errno == ENOSYS ? (errno = EINVAL, -1) : -1, EINVAL);
}
