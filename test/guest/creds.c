/* Credentials: set*id in all forms, groups, capabilities, prctl, no_new_privs, securebits. */
#include "guest.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static const char *ids(void) {
  static char out[128];
  uid_t r, e, s;
  gid_t gr, ge, gs;
  getresuid(&r, &e, &s);
  getresgid(&gr, &ge, &gs);
  uid_t fs = setfsuid(-1);
  sprintf(out, "uid %d %d %d fs %d gid %d %d %d", r, e, s, fs, gr, ge, gs);
  return out;
}
/* From a start (real, effective, saved) and a call: what comes of it. */
static void try(uid_t r, uid_t e, uid_t s, const char *name, int (*call)(long, long, long), long a, long b, long c) {
  IN_CHILD({
    setgroups(0, NULL);
    if (setresuid(r, e, s) != 0) _exit(1);
    int result_ = call(a, b, c);
    int saved = errno;
    say("  (%d %d %d) %s(%ld %ld %ld): %s; %s", r, e, s, name, a, b, c, result_ == 0 ? "ok" : strerrorname_np(saved), ids());
  });
}
static int do_setuid(long a, long b, long c) { return (void)b, (void)c, syscall(SYS_setuid, a); }
static int do_setreuid(long a, long b, long c) { return (void)c, syscall(SYS_setreuid, a, b); }
static int do_setresuid(long a, long b, long c) { return syscall(SYS_setresuid, a, b, c); }
TEST(user_ids) {
  static const uid_t starts[][3] = {{0, 0, 0}, {0, 1, 0}, {1, 0, 1}, {1, 2, 3}, {1, 1, 0}, {1, 1, 1}};
  for (int i = 0; i < 6; i++) {
    uid_t r = starts[i][0], e = starts[i][1], s = starts[i][2];
    for (long a = 0; a <= 4; a++) try(r, e, s, "setuid", do_setuid, a, 0, 0);
    static const long pairs[][2] = {{-1, 0}, {-1, 1}, {-1, 4}, {1, -1}, {4, -1}, {2, 1}, {1, 4}};
    for (int k = 0; k < 7; k++) try(r, e, s, "setreuid", do_setreuid, pairs[k][0], pairs[k][1], 0);
    static const long triples[][3] = {{-1, -1, -1}, {1, 1, 1}, {3, 2, 1}, {4, -1, -1}, {-1, 0, -1}};
    for (int k = 0; k < 5; k++) try(r, e, s, "setresuid", do_setresuid, triples[k][0], triples[k][1], triples[k][2]);
  }
}

TEST(group_ids) {
  CHECK_EQ(IN_CHILD({
    CHECK_OK(setresgid(10, 20, 30));
    CHECK_OK(setregid(-1, 30));
    REQUIRE(setresuid(1, 1, 1) == 0);
    CHECK_OK(setgid(10));
    CHECK_OK(setgid(30));
    CHECK_ERR(setgid(20), EPERM);
    CHECK_ERR(setresgid(-1, 99, -1), EPERM);
    say("  %s", ids());
  }), 0);
}

TEST(groups) {
  CHECK_EQ(IN_CHILD({
    gid_t list[3] = {30, 10, 20}, got[64];
    CHECK_OK(setgroups(3, list));
    CHECK_EQ(getgroups(0, NULL), 3);
    CHECK_ERR(getgroups(2, got), EINVAL);
    CHECK_EQ(getgroups(64, got), 3);
    say("  %d %d %d", got[0], got[1], got[2]);
    CHECK_ERR(setgroups(65537, list), EINVAL);
    CHECK_OK(setgroups(0, NULL));
    CHECK_EQ(getgroups(64, got), 0);
    REQUIRE(setuid(1) == 0);
    CHECK_ERR(setgroups(1, list), EPERM);
  }), 0);
}

TEST(fs_ids) {
  CHECK_EQ(IN_CHILD({
    put_file("f", "x");
    chmod("f", 0600);
    CHECK_EQ(setfsuid(1000), 0);
    CHECK_EQ(setfsuid(-1), 1000);
    CHECK_ERR(open("f", O_RDONLY), EACCES);
    CHECK_EQ(setfsuid(0), 1000);
    CHECK_OK(open("f", O_RDONLY));
  }), 0);
}

static uint64_t caps[3];
static void get_caps(void) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct d[2];
  REQUIRE(syscall(SYS_capget, &h, d) == 0);
  caps[0] = d[0].effective | (uint64_t)d[1].effective << 32;
  caps[1] = d[0].permitted | (uint64_t)d[1].permitted << 32;
  caps[2] = d[0].inheritable | (uint64_t)d[1].inheritable << 32;
}
static int set_caps(uint64_t e, uint64_t p, uint64_t i) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct d[2] = {{e, p, i}, {e >> 32, p >> 32, i >> 32}};
  return syscall(SYS_capset, &h, d);
}
#define BIT(c) (1ULL << (c))
TEST(capabilities_and_ids) {
  CHECK_EQ(IN_CHILD({
    get_caps();
    uint64_t all = caps[1];
    CHECK(all & BIT(CAP_SETUID) && all & BIT(CAP_CHOWN));
    CHECK_OK(seteuid(1000)); /* effective ones go, permitted ones stay */
    get_caps();
    CHECK_EQ(caps[0], 0);
    CHECK_EQ(caps[1], all);
    CHECK_OK(seteuid(0));
    get_caps();
    CHECK_EQ(caps[0], all);
    CHECK_OK(setresuid(1000, 1000, 1000)); /* all gone */
    get_caps();
    CHECK_EQ(caps[0] | caps[1], 0);
  }), 0);
  CHECK_EQ(IN_CHILD({
    CHECK_OK(prctl(PR_SET_KEEPCAPS, 1));
    CHECK_EQ(prctl(PR_GET_KEEPCAPS), 1);
    CHECK_OK(setresuid(1000, 1000, 1000));
    get_caps();
    CHECK_EQ(caps[0], 0);
    CHECK(caps[1] != 0);
    CHECK_OK(set_caps(BIT(CAP_CHOWN), BIT(CAP_CHOWN), 0));
    put_file("probe", "");
    CHECK_OK(chown("probe", 1, 1));
    unlink("probe");
    CHECK_ERR(set_caps(0, BIT(CAP_SETUID), 0), EPERM); /* none can be added */
    CHECK_ERR(set_caps(BIT(CAP_SETUID), BIT(CAP_CHOWN), 0), EPERM);
  }), 0);
}

TEST(capability_calls) {
  struct __user_cap_header_struct h = {0, 0};
  struct __user_cap_data_struct d[2];
  CHECK_ERR(syscall(SYS_capget, &h, d), EINVAL); /* and the version is told */
  CHECK_EQ(h.version, _LINUX_CAPABILITY_VERSION_3);
  h = (struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_3, -1};
  CHECK_ERR(syscall(SYS_capget, &h, d), EINVAL);
  h.pid = 999999;
  CHECK_ERR(syscall(SYS_capget, &h, d), ESRCH);
  h.pid = getppid();
  CHECK_OK(syscall(SYS_capget, &h, d));
  CHECK_ERR(syscall(SYS_capset, &h, d), EPERM);
  CHECK_EQ(IN_CHILD({
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_CHOWN), 1);
    CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_CHOWN), 0);
    CHECK_ERR(prctl(PR_CAPBSET_READ, 99), EINVAL);
    CHECK_ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETUID, 0, 0), EPERM); /* not inheritable */
    get_caps();
    CHECK_OK(set_caps(caps[0], caps[1], BIT(CAP_SETUID)));
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETUID, 0, 0));
    CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SETUID, 0, 0), 1);
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
  }), 0);
}

HELPER(have) {
  get_caps();
  return (caps[0] & BIT(CAP_SETUID) ? 1 : 0) + (caps[0] & BIT(CAP_CHOWN) ? 2 : 0);
}
TEST(capabilities_over_exec) {
  CHECK_EQ(IN_CHILD(execl(guest_self, guest_self, "have", NULL)), 3); /* root has them again */
  CHECK_EQ(IN_CHILD(REQUIRE(setuid(1000) == 0); execl(guest_self, guest_self, "have", NULL)), 0);
  CHECK_EQ(IN_CHILD(prctl(PR_CAPBSET_DROP, CAP_CHOWN); execl(guest_self, guest_self, "have", NULL)), 1);
  CHECK_EQ(IN_CHILD({ /* ambient ones survive for a user */
    get_caps();
    CHECK_OK(set_caps(caps[0], caps[1], BIT(CAP_SETUID)));
    CHECK_OK(prctl(PR_SET_KEEPCAPS, 1));
    REQUIRE(setresuid(1000, 1000, 1000) == 0);
    CHECK_OK(set_caps(BIT(CAP_SETUID), BIT(CAP_SETUID), BIT(CAP_SETUID)));
    CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETUID, 0, 0));
    execl(guest_self, guest_self, "have", NULL);
  }), 1);
}

TEST(prctl_calls) {
  char name[17] = {0};
  CHECK_OK(prctl(PR_SET_NAME, "a name that is too long"));
  CHECK_OK(prctl(PR_GET_NAME, name));
  CHECK_STR(name, "a name that is ");
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
  CHECK_OK(prctl(PR_SET_DUMPABLE, 0));
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
  CHECK_ERR(prctl(PR_SET_DUMPABLE, 7), EINVAL);
  CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
  CHECK_ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  CHECK_ERR(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0), EINVAL);
  CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGTERM));
  int sig = 0;
  CHECK_OK(prctl(PR_GET_PDEATHSIG, &sig));
  CHECK_EQ(sig, SIGTERM);
  CHECK_ERR(prctl(PR_SET_PDEATHSIG, 99), EINVAL);
  CHECK_ERR(prctl(99999), EINVAL);
  CHECK_EQ(prctl(PR_GET_SECUREBITS), 0);
  CHECK_EQ(prctl(PR_GET_TIMERSLACK), 50000);
}
