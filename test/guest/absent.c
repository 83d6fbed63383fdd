/*
 * Names that do not exist, asked for again and again by several processes, as compilers do along their search paths, while
 * all that can make them exist happens: a sandbox may answer such calls from what it was told before, and nothing of that
 * may show. Whoever asks after a change has to see it.
 */
#include "guest.h"
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/un.h>

#define AGAIN 40

static char base[PATH_MAX];

static const char *at(const char *name) {
  static __thread char text[8][PATH_MAX + 64];
  static __thread int turn;
  char *path = text[turn++ & 7];
  if (base[0] == 0) CHECK(getcwd(base, sizeof base) != NULL);
  snprintf(path, sizeof text[0], "%s/%s", base, name);
  return path;
}

static int result_of(long ret) { return ret < 0 ? -errno : (int)ret; }

static int opened(int fd) {
  int ret = result_of(fd);
  if (fd >= 0) close(fd);
  return ret < 0 ? ret : 0;
}

enum { OPEN, OPENAT, OPEN_DIR, OPEN_PATH, STAT, LSTAT, FSTATAT, STATX, ACCESS, FACCESSAT, FACCESSAT2, READLINK, READLINKAT, WAYS };

/* 0 or −errno: of readlink, −EINVAL says that the name exists, too. */
static int ask_by(int way, const char *path) {
  struct stat st;
  struct statx stx;
  char text[64];
  int ret;
  switch (way) {
    case OPEN: return opened(syscall(SYS_open, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0));
    case OPENAT: return opened(syscall(SYS_openat, -1, path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0));
    case OPEN_DIR: return opened(open(path, O_RDONLY | O_DIRECTORY));
    case OPEN_PATH: return opened(open(path, O_PATH | O_NOFOLLOW));
    case STAT: return result_of(syscall(SYS_stat, path, &st));
    case LSTAT: return result_of(syscall(SYS_lstat, path, &st));
    case FSTATAT: return result_of(syscall(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT));
    case STATX: return result_of(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &stx));
    case ACCESS: return result_of(syscall(SYS_access, path, F_OK));
    case FACCESSAT: return result_of(syscall(SYS_faccessat, AT_FDCWD, path, R_OK));
    case FACCESSAT2: return result_of(syscall(SYS_faccessat2, AT_FDCWD, path, F_OK, AT_EACCESS));
    case READLINK: ret = result_of(syscall(SYS_readlink, path, text, sizeof text)); break;
    default: ret = result_of(syscall(SYS_readlinkat, AT_FDCWD, path, text, sizeof text));
  }
  return ret > 0 || ret == -EINVAL ? 0 : ret;
}

/* 1: all calls say ENOENT, again and again; 0: none does; else a mixture. */
static int absent(const char *path) {
  int none = 0, all = 0;
  for (int i = 0; i < AGAIN; i++) {
    for (int way = 0; way < WAYS; way++, all++) none += ask_by(way, path) == -ENOENT;
  }
  return none == all ? 1 : none == 0 ? 0 : 1000 + none;
}

/* Once, the first of each kind: what a program sees that does not insist. */
static int there(const char *path) {
  return (ask_by(OPEN_PATH, path) == 0) + (ask_by(LSTAT, path) == 0) + (ask_by(READLINK, path) == 0);
}

TEST(calls) {
  CHECK_EQ(mkdir("d", 0755), 0);
  put_file("f", "x");
  CHECK_EQ(symlink("none", "dangling"), 0);
  CHECK_EQ(symlink("d", "link"), 0);
  CHECK_EQ(absent(at("none")), 1);
  CHECK_EQ(absent(at("none/")), 1);
  CHECK_EQ(absent(at("none/x/../y")), 1);
  CHECK_EQ(absent(at("d/none")), 1);
  CHECK_EQ(absent(at("d/../none")), 1);
  CHECK_EQ(absent(at("link/none")), 1);
  CHECK_EQ(absent(at("./d//none")), 1);
  CHECK_EQ(absent(at("d")), 0);
  CHECK_EQ(absent(at("f")), 0);
  for (int i = 0; i < AGAIN; i++)
    for (int way = 0; way < WAYS; way++) {
      int got = ask_by(way, at("f/x"));
      if (got != -ENOTDIR) CHECK_EQ(got, way);
      if ((got = ask_by(way, "")) != -ENOENT) CHECK_EQ(got, way);
      if ((got = ask_by(way, (char *)8)) != -EFAULT) CHECK_EQ(got, way);
      int links = way == OPEN_PATH || way == LSTAT || way == FSTATAT || way >= READLINK;
      if ((got = ask_by(way, at("dangling"))) != (links ? 0 : -ENOENT)) CHECK_EQ(got, way);
      if ((got = ask_by(way, at("dangling/"))) != -ENOENT) CHECK_EQ(got, way);
    }
}

TEST(other_arguments) {
  struct stat st;
  struct statx stx;
  char text[8];
  for (int i = 0; i < AGAIN; i++) {
    const char *none = at("none");
    int before = guest_failures;
    CHECK_ERR(open(none, O_RDONLY), ENOENT);
    CHECK_ERR(open(none, O_WRONLY | O_TRUNC), ENOENT);
    CHECK_ERR(open(none, O_RDONLY | O_DIRECT), ENOENT);
    CHECK_ERR(open(at("none/x"), O_RDWR | O_CREAT, 0644), ENOENT);
    CHECK_ERR(open(at("none/x"), O_RDONLY), ENOENT);
    CHECK_ERR(syscall(SYS_open, none, O_RDONLY | O_TMPFILE, 0), EINVAL);
    CHECK_ERR(open(none, O_RDWR | O_TMPFILE, 0644), ENOENT);
    CHECK_ERR(syscall(SYS_access, none, 8), EINVAL);
    CHECK_ERR(syscall(SYS_access, none, -1), EINVAL);
    CHECK_ERR(syscall(SYS_faccessat, -1, none, 7), ENOENT);
    CHECK_ERR(syscall(SYS_faccessat2, -1, none, 0, 0x4000), EINVAL);
    CHECK_ERR(syscall(SYS_faccessat2, -1, none, 9, 0), EINVAL);
    CHECK_ERR(syscall(SYS_stat, none, NULL), ENOENT);
    CHECK_ERR(syscall(SYS_lstat, none, 8), ENOENT);
    CHECK_ERR(syscall(SYS_newfstatat, -1, none, NULL, 0), ENOENT);
    CHECK_ERR(syscall(SYS_newfstatat, AT_FDCWD, none, &st, 1), EINVAL);
    CHECK_ERR(syscall(SYS_newfstatat, -1, "none", &st, 0), EBADF);
    CHECK_ERR(syscall(SYS_statx, AT_FDCWD, none, 0, 0x80000000, &stx), EINVAL);
    CHECK_ERR(syscall(SYS_statx, AT_FDCWD, none, 0x6000, 1, &stx), EINVAL);
    CHECK_ERR(syscall(SYS_statx, AT_FDCWD, none, 1, 1, &stx), EINVAL);
    CHECK_ERR(syscall(SYS_statx, AT_FDCWD, none, 0, 0, NULL), ENOENT);
    CHECK_ERR(syscall(SYS_readlink, none, text, 0), EINVAL);
    CHECK_ERR(syscall(SYS_readlink, none, text, -1), EINVAL);
    CHECK_ERR(syscall(SYS_readlink, none, NULL, 1), ENOENT);
    CHECK_ERR(syscall(SYS_readlinkat, -1, none, text, 0), EINVAL);
    CHECK_ERR(mkdir(at("none/x"), 0755), ENOENT);
    CHECK_ERR(unlink(none), ENOENT);
    CHECK_ERR(chdir(none), ENOENT);
    CHECK_ERR(execl(none, "none", NULL), ENOENT);
    if (guest_failures != before) break;
  }
}

static int made_by_exchange(void) {
  return mkdir("swap", 0755) | mkdir("swap/x", 0755) | mkdir("swapped", 0755) |
         (int)syscall(SYS_renameat2, AT_FDCWD, "swap", AT_FDCWD, "swapped", RENAME_EXCHANGE) | rename("swapped/x", "x") |
         rmdir("swap") | rmdir("swapped");
}

/* Makes "x" in one of many ways; 0 when it did. */
#define MAKERS 10
static int make(int how) {
  struct sockaddr_un name = {AF_UNIX, "x"};
  char self[64];
  int fd, ret;
  switch (how) {
    case 0: return close(creat("x", 0644));
    case 1: return mkdir("x", 0755);
    case 2: return symlink("file", "x");
    case 3: return link("file", "x");
    case 4: return close(creat("y", 0644)) | rename("y", "x");
    case 5: return mkdir("y", 0755) | rename("y", "x");
    case 6: return mkfifo("x", 0644);
    case 7:
      fd = socket(AF_UNIX, SOCK_STREAM, 0);
      ret = bind(fd, (void *)&name, sizeof name);
      return ret | close(fd);
    case 8:
      fd = open(".", O_TMPFILE | O_RDWR, 0644);
      snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
      ret = linkat(AT_FDCWD, self, AT_FDCWD, "x", AT_SYMLINK_FOLLOW);
      return ret | close(fd);
    default: return made_by_exchange();
  }
}
static int unmake(int how) {
  if (how == 1 || how == 5 || how == 9) return rmdir("x");
  return how == 4 ? rename("x", "y") | unlink("y") : unlink("x");
}

TEST(made_and_removed) {
  put_file("file", "");
  for (int round = 0; round < 3; round++)
    for (int how = 0; how < MAKERS; how++) {
      CHECK_EQ(absent(at("x")), 1);
      CHECK_EQ(make(how), 0);
      if (there(at("x")) != 3) FAIL("made in way %d, and not there", how);
      CHECK_EQ(unmake(how), 0);
      if (there(at("x")) != 0) FAIL("removed in way %d, and there", how);
    }
}

/* The other process and the other thread see each change, and nobody asks the kernel when to look. */
struct shared {
  int made, seen;
};
static struct shared *shared;

static int watch_one(int i) {
  char name[16];
  snprintf(name, sizeof name, "n%d", i);
  const char *path = at(name);
  int bad = 0;
  for (int k = 0; k < 4; k++) bad += ask_by(OPEN, path) != -ENOENT && __atomic_load_n(&shared->made, __ATOMIC_SEQ_CST) < i;
  __atomic_store_n(&shared->seen, i, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&shared->made, __ATOMIC_SEQ_CST) < i)
    if (ask_by(STAT, path) == -EPERM) bad++;
  for (int way = 0; way < WAYS; way++) bad += ask_by(way, path) == -ENOENT;
  return bad;
}
static void make_one(int i) {
  char name[16];
  snprintf(name, sizeof name, "n%d", i);
  while (__atomic_load_n(&shared->seen, __ATOMIC_SEQ_CST) < i)
    if (access(at(name), F_OK) == 0) _exit(8);
  if (i % 3 == 0 ? mkdir(name, 0755) : i % 3 == 1 ? close(creat(name, 0644)) : rename("spare", name)) _exit(9);
  __atomic_store_n(&shared->made, i, __ATOMIC_SEQ_CST);
  if (i % 3 == 1 && close(creat("spare", 0644)) != 0) _exit(9);
}
static void *make_all(void *arg) {
  for (int i = 1; i <= 200; i++) make_one(i);
  return arg;
}
static void watch_all(void) {
  int bad = 0;
  for (int i = 1; i <= 200; i++) bad += watch_one(i);
  CHECK_EQ(bad, 0);
}

TEST(made_by_a_process) {
  shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  at("");
  pid_t pid = fork();
  if (pid == 0) {
    make_all(NULL);
    _exit(0);
  }
  watch_all();
  CHECK_EQ(reap(pid), 0);
}

TEST(made_by_a_thread) {
  static struct shared here;
  pthread_t thread;
  shared = &here;
  at("");
  CHECK_EQ(pthread_create(&thread, NULL, make_all, NULL), 0);
  watch_all();
  CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(asked_by_many) {
  put_file("file", "");
  for (int how = 0; how < MAKERS; how++) {
    int go[2], ready[2];
    char byte;
    CHECK_EQ(pipe(go) | pipe(ready), 0);
    pid_t pids[3];
    for (int k = 0; k < 3; k++)
      if ((pids[k] = fork()) == 0) {
        close(go[1]);
        int ok = absent(at("x")) == 1 && write(ready[1], "", 1) == 1 && read(go[0], &byte, 1) == 0;
        _exit(ok && there(at("x")) == 3 ? 0 : 1);
      }
    for (int k = 0; k < 3; k++) CHECK_EQ(read(ready[0], &byte, 1), 1);
    CHECK_EQ(make(how), 0);
    close(go[1]);
    for (int k = 0; k < 3; k++) CHECK_EQ(reap(pids[k]), 0);
    CHECK_EQ(unmake(how), 0);
    close(go[0]), close(ready[0]), close(ready[1]);
  }
}

TEST(way_leads_elsewhere) {
  CHECK_EQ(mkdir("a", 0755) | mkdir("a/b", 0755) | mkdir("c", 0755) | mkdir("c/b", 0755) | mkdir("c/b/x", 0755), 0);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(absent(at("a/b/x")), 1);
    CHECK_EQ(absent(at("a/b/x/y")), 1);
    CHECK_EQ(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "c", RENAME_EXCHANGE), 0);
    CHECK_EQ(there(at("a/b/x")), 3);
    CHECK_EQ(absent(at("a/b/x/y")), 1);
    CHECK_EQ(absent(at("c/b/x")), 1);
    CHECK_EQ(rename("a", "d"), 0);
    CHECK_EQ(absent(at("a/b/x")), 1);
    CHECK_EQ(symlink("d", "a"), 0);
    CHECK_EQ(there(at("a/b/x")), 3);
    CHECK_EQ(unlink("a") | symlink("c", "a"), 0);
    CHECK_EQ(absent(at("a/b/x")), 1);
    CHECK_EQ(unlink("a") | rename("c", "a") | rename("d", "c"), 0);
  }
}

TEST(whole_way_made) {
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(absent(at("p/q/r")), 1);
    CHECK_EQ(absent(at("p/q")), 1);
    CHECK_EQ(mkdir("p", 0755), 0);
    CHECK_EQ(absent(at("p/q/r")), 1);
    CHECK_EQ(mkdir("p/q", 0755), 0);
    CHECK_EQ(there(at("p/q")), 3);
    CHECK_EQ(absent(at("p/q/r")), 1);
    CHECK_EQ(symlink("..", "p/q/r"), 0);
    CHECK_EQ(there(at("p/q/r")), 3);
    CHECK_EQ(unlink("p/q/r") | rmdir("p/q") | rmdir("p"), 0);
  }
}

TEST(links) {
  put_file("file", "");
  CHECK_EQ(symlink("target", "l"), 0);
  for (int i = 0; i < 3; i++) {
    for (int k = 0; k < AGAIN; k++) CHECK_ERR(access(at("l"), F_OK), ENOENT);
    CHECK_EQ(link("file", "target"), 0);
    CHECK_EQ(access(at("l"), F_OK), 0);
    CHECK_EQ(opened(open(at("l"), O_RDONLY | O_NOFOLLOW)), -ELOOP);
    CHECK_EQ(unlink("target"), 0);
  }
}

/* What is no link becomes one: a plain file's moves, too. */
TEST(no_links) {
  char text[8];
  for (int i = 0; i < 6; i++) {
    CHECK_EQ(close(creat("n", 0644)) | close(creat("other", 0644)) | symlink("12", "l"), 0);
    for (int k = 0; k < AGAIN; k++) CHECK_ERR(readlink(at("n"), text, 8), EINVAL);
    CHECK_EQ(i % 3 == 0 ? rename("l", "n")
             : i % 3 == 1 ? unlink("n") | rename("l", "n")
                          : (int)syscall(SYS_renameat2, AT_FDCWD, "l", AT_FDCWD, "n", RENAME_EXCHANGE), 0);
    CHECK_EQ(readlink(at("n"), text, 8), 2);
    for (int k = 0; k < AGAIN; k++) CHECK_ERR(readlink(at("other"), text, 8), EINVAL);
    CHECK_EQ(rename("other", "moved"), 0);
    CHECK_ERR(readlink(at("other"), text, 8), ENOENT);
    CHECK_EQ(unlink("n") | unlink("moved"), 0);
    unlink("l");
  }
}

TEST(rights) {
  CHECK_EQ(chmod(".", 0755) | mkdir("p", 0755) | mkdir("p/q", 0755), 0);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(chmod("p", 0755), 0);
    CHECK_EQ(absent(at("p/q/x")), 1);
    CHECK_EQ(seteuid(65534), 0);
    CHECK_EQ(ask_by(STAT, at("p/q/x")), -ENOENT);
    CHECK_EQ(seteuid(0), 0);
    CHECK_EQ(chmod("p", 0700), 0);
    CHECK_EQ(absent(at("p/q/x")), 1);
    CHECK_EQ(seteuid(65534), 0);
    for (int way = 0; way < WAYS; way++) {
      int real = way == ACCESS || way == FACCESSAT;
      CHECK_EQ(ask_by(way, at("p/q/x")), real ? -ENOENT : -EACCES);
    }
    CHECK_EQ(seteuid(0) | chmod("p", 0755) | chown("p", 65534, 65534) | chmod("p", 0077), 0);
    CHECK_EQ(absent(at("p/q/x")), 1);
    CHECK_EQ(seteuid(65534), 0);
    CHECK_EQ(ask_by(STAT, at("p/q/x")), -EACCES);
    CHECK_EQ(seteuid(0) | chown("p", 0, 0), 0);
  }
}

static void *change_root(void *arg) { return (void *)(long)chroot(arg); }

TEST(another_root) {
  char byte;
  int go[2];
  CHECK_EQ(mkdir("root", 0755) | mkdir("root/only-here", 0755), 0);
  CHECK_EQ(absent("/only-here"), 1);
  CHECK_EQ(pipe(go), 0);
  pid_t pid = fork();
  if (pid == 0) {
    CHECK_EQ(chroot("root"), 0);
    CHECK_EQ(there("/only-here"), 3);
    CHECK_EQ(absent("/usr"), 1);
    CHECK_EQ(absent("/usr/bin"), 1);
    CHECK_EQ(there("/only-here"), 3);
    CHECK_EQ(write(go[1], "", 1), 1);
    _exit(guest_failures != 0);
  }
  CHECK_EQ(read(go[0], &byte, 1), 1);
  CHECK_EQ(there("/usr/bin"), 3);
  CHECK_EQ(reap(pid), 0);
  CHECK_EQ(absent("/only-here"), 1);
  CHECK_EQ(there("/usr"), 3);
  /* Who keeps the root goes on asking. */
  int done[2];
  CHECK_EQ(pipe(done), 0);
  if ((pid = fork()) == 0) _exit(!(read(go[0], &byte, 1) == 1 && absent("/only-here") == 1 && write(done[1], "", 1) == 1));
  pthread_t thread;
  void *ret;
  CHECK_EQ(pthread_create(&thread, NULL, change_root, "root"), 0);
  CHECK_EQ(pthread_join(thread, &ret), 0);
  CHECK_EQ((long)ret, 0);
  CHECK_EQ(write(go[1], "", 1), 1);
  CHECK_EQ(read(done[0], &byte, 1), 1);
  CHECK_EQ(there("/only-here"), 3);
  CHECK_EQ(reap(pid), 0);
  CHECK_EQ(absent("/usr"), 1);
}

static void mount_over(void) {
  /* With a container's capabilities there is nothing to try. */
  int made = unshare(CLONE_NEWNS);
  if (made != 0 && errno == EPERM) return;
  CHECK_EQ(made, 0);
  CHECK_EQ(mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(absent(at("m/x")), 1);
    CHECK_EQ(mount(at("full"), at("m"), NULL, MS_BIND, NULL), 0);
    CHECK_EQ(there(at("m/x")), 3);
    CHECK_EQ(absent(at("m/y")), 1);
    CHECK_EQ(umount2(at("m"), 0), 0);
    CHECK_EQ(absent(at("m/x")), 1);
    CHECK_EQ(mount("t", at("m"), "tmpfs", 0, ""), 0);
    CHECK_EQ(absent(at("m/x")), 1);
    CHECK_EQ(mkdir(at("m/x"), 0755), 0);
    CHECK_EQ(there(at("m/x")), 3);
    CHECK_EQ(umount2(at("m"), MNT_DETACH), 0);
    CHECK_EQ(absent(at("m/x")), 1);
  }
}

TEST(mounted_over) {
  CHECK_EQ(mkdir("m", 0755) | mkdir("full", 0755) | mkdir("full/x", 0755), 0);
  CHECK_EQ(absent(at("m/x")), 1);
  CHECK_EQ(IN_CHILD(mount_over()), 0);
  CHECK_EQ(absent(at("m/x")), 1);
}

TEST(many_names) {
  int bad = 0;
  for (int k = 0; k < 4; k++)
    for (int i = 0; i < 3000; i++) {
      char name[200];
      memset(name, 'a' + i % 26, sizeof name);
      snprintf(name + i % 90, 20, "%d", i);
      bad += access(at(name), F_OK) != -1 || errno != ENOENT;
      if (i % 100 == k) bad += mkdir(name, 0755) != 0 || access(at(name), F_OK) != 0 || rmdir(name) != 0;
    }
  CHECK_EQ(bad, 0);
}

TEST(same_buffer) {
  char name[PATH_MAX + 64];
  int bad = 0;
  CHECK_EQ(mkdir("d1", 0755), 0);
  strcpy(name, at("d1"));
  char *last = name + strlen(name) - 1;
  for (int i = 0; i < 10 * AGAIN; i++) {
    *last = '1' + i % 2;
    bad += access(name, F_OK) != (i % 2 ? -1 : 0);
  }
  CHECK_EQ(bad, 0);
}
