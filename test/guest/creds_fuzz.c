/* Random sequences of calls that change identity and capabilities; every result and state is compared with the host's. GUEST_SEED picks another run. */
#include "guest.h"
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static unsigned long long state;
static unsigned rnd(unsigned n) {
  state = state * 6364136223846793005ULL + 1442695040888963407ULL;
  return (unsigned)(state >> 33) % n;
}
static int id(void) {
  static const int ids[] = {0, 0, 1, 2, 1000, -1};
  return ids[rnd(6)];
}
/* A few interesting ones: CHOWN, SETGID, SETUID, SETPCAP, NET_RAW, and one of the upper word. */
static const int caps[] = {0, 6, 7, 8, 13, 38};
static unsigned long long some_caps(void) {
  unsigned long long set = 0;
  for (int i = 0; i < 6; i++)
    if (rnd(3)) set |= 1ULL << caps[i];
  return set;
}
static unsigned long long all_caps(void) {
  unsigned long long set = 0;
  for (int i = 0; i < 6; i++) set |= 1ULL << caps[i];
  return set;
}
static int set_caps(unsigned long long e, unsigned long long p, unsigned long long i) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct d[2] = {{e, p, i}, {e >> 32, p >> 32, i >> 32}};
  return syscall(SYS_capset, &h, d);
}
static void show(const char *what, long r) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct d[2];
  uid_t u[3];
  gid_t g[3];
  int fsuid = setfsuid(-1), fsgid = setfsgid(-1), ambient = 0, bounding = 0;
  const char *text = r < 0 ? strerrorname_np(errno) : "";
  syscall(SYS_capget, &h, d);
  getresuid(&u[0], &u[1], &u[2]);
  getresgid(&g[0], &g[1], &g[2]);
  for (int i = 0; i < 6; i++) {
    ambient |= (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, caps[i], 0, 0) > 0) << i;
    bounding |= (prctl(PR_CAPBSET_READ, caps[i]) > 0) << i;
  }
  say("  %s %ld%s: %d %d %d/%d %d %d %d/%d e %x.%x p %x.%x i %x.%x a %x b %x s %x k %d d %d", what, r, text, u[0], u[1], u[2], fsuid,
      g[0], g[1], g[2], fsgid, d[1].effective, d[0].effective, d[1].permitted, d[0].permitted, d[1].inheritable, d[0].inheritable, ambient, bounding,
      (int)prctl(PR_GET_SECUREBITS), (int)prctl(PR_GET_KEEPCAPS), (int)prctl(PR_GET_DUMPABLE));
}
static void step(void) {
  switch (rnd(16)) {
    case 0: show("setuid", syscall(SYS_setuid, id())); break;
    case 1: show("setgid", syscall(SYS_setgid, id())); break;
    case 2: show("setreuid", syscall(SYS_setreuid, id(), id())); break;
    case 3: show("setregid", syscall(SYS_setregid, id(), id())); break;
    case 4: show("setresuid", syscall(SYS_setresuid, id(), id(), id())); break;
    case 5: show("setresgid", syscall(SYS_setresgid, id(), id(), id())); break;
    case 6: show("setfsuid", syscall(SYS_setfsuid, id())); break;
    case 7: show("setfsgid", syscall(SYS_setfsgid, id())); break;
    case 8:
    case 9: show("capset", set_caps(some_caps(), some_caps(), some_caps())); break;
    case 10: {
      unsigned long long p = some_caps();
      show("capset", set_caps(p & some_caps(), p, rnd(2) ? p : some_caps()));
      break;
    }
    case 11: show("keepcaps", prctl(PR_SET_KEEPCAPS, rnd(3))); break;
    case 12: show("securebits", prctl(PR_SET_SECUREBITS, rnd(4) ? 0x10 * rnd(2) : rnd(256))); break;
    case 13: show("ambient", prctl(PR_CAP_AMBIENT, 1 + rnd(4), rnd(4) ? caps[rnd(6)] : 0, 0, 0)); break;
    case 14: show("capbset", rnd(3) ? 0 : prctl(PR_CAPBSET_DROP, caps[rnd(6)])); break;
    case 15: show("nnp", rnd(4) ? 0 : prctl(PR_SET_NO_NEW_PRIVS, rnd(2), 0, 0, 0)); break;
  }
}

HELPER(after_exec) {
  show("exec", 0);
  say("  secure %lu", getauxval(AT_SECURE));
  return 0;
}

TEST(sequences) {
  const char *seed = getenv("GUEST_SEED");
  /* Where a test may read and execute itself under any identity. */
  char copy[PATH_MAX], suid[PATH_MAX], data[65536];
  snprintf(copy, sizeof copy, "/tmp/creds-fuzz-%d", getpid());
  snprintf(suid, sizeof suid, "%s-s", copy);
  int in = open(guest_self, O_RDONLY), out = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0755), out2 = open(suid, O_WRONLY | O_CREAT | O_TRUNC, 0755);
  for (ssize_t n; (n = read(in, data, sizeof data)) > 0;)
    if (write(out, data, n) != n || write(out2, data, n) != n) FAIL("copy");
  close(out), close(out2);
  CHECK_OK(chown(suid, 1000, 2));
  CHECK_OK(chmod(suid, 06755));
  for (int round = 0; round < 120; round++) {
    say("round %d", round);
    IN_CHILD({
      state = (seed ? strtoull(seed, NULL, 0) : 1) * 1000 + round;
      rnd(1);
      for (int cap = 0; cap <= 40; cap++)
        if (!(all_caps() >> cap & 1)) prctl(PR_CAPBSET_DROP, cap);
      set_caps(all_caps(), all_caps(), 0);
      for (int i = 0; i < 25; i++) step();
      char *file = rnd(2) ? copy : suid;
      execl(file, file, "after_exec", NULL);
      say("  exec: %s", strerrorname_np(errno));
    });
  }
  unlink(copy), unlink(suid);
}
