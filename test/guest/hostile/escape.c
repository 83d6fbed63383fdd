/*
 * Tries to read a file outside the container's root: `escape PATH` with the file's path on the host. Its content begins with
 * TOP-SECRET. Tries again from /bind, a writable bind mount, where there is one. Prints "ESCAPED: how" for each way that works, and "contained" at the end.
 */
#define GUEST_NO_MAIN
#include "../guest.h"
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

static const char *target, *base;
static int escaped;

static int is_secret(int fd) {
  char buf[16] = {0};
  int secret = fd >= 0 && pread(fd, buf, 10, 0) == 10 && memcmp(buf, "TOP-SECRET", 10) == 0;
  if (fd >= 0) close(fd);
  return secret;
}
static void attempt(const char *how, int fd) {
  if (is_secret(fd)) {
    escaped = 1;
    say("ESCAPED: %s", how);
  }
}
static void attempt_path(const char *how, const char *format, ...) {
  char path[PATH_MAX];
  va_list ap;
  va_start(ap, format);
  vsnprintf(path, sizeof path, format, ap);
  va_end(ap);
  attempt(how, open(path, O_RDONLY));
}

static void by_path(void) {
  char dots[256] = "";
  attempt_path("its absolute path", "%s", target);
  for (int i = 0; i < 30; i++) {
    strcat(dots, "../");
    attempt_path("dots", "%s%s", dots, target + 1);
    attempt_path("dots from the root", "/%s%s", dots, target + 1);
    attempt_path("dots through /proc/self/root", "/proc/self/root/%s%s", dots, target + 1);
    attempt_path("dots through /proc/self/cwd", "/proc/self/cwd/%s%s", dots, target + 1);
    attempt_path("dots through /proc/1/root", "/proc/1/root/%s%s", dots, target + 1);
    attempt_path("dots through /dev/fd", "/dev/fd/%s%s", dots, target + 1);
    attempt_path("dots and the name", "%s%s", dots, base);
  }
  for (int pid = 1; pid < 300; pid++) attempt_path("another process' root", "/proc/%d/root%s", pid, target);
  for (int fd = 0; fd < 64; fd++) {
    attempt_path("an inherited descriptor", "/proc/self/fd/%d", fd);
    attempt_path("a path from an inherited descriptor", "/proc/self/fd/%d%s", fd, target);
    attempt("openat of an inherited descriptor", openat(fd, target + 1, O_RDONLY));
    attempt("openat of an inherited descriptor, by name", openat(fd, base, O_RDONLY));
  }
}

static void by_link(void) {
  static const char *prefixes[] = {"", "/proc/self/root", "/proc/1/root", "../../../../../../../../../..", "/proc/self/cwd/../../../../../..", "/dev/fd/3"};
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
    char to[PATH_MAX];
    snprintf(to, sizeof to, "%s%s", prefixes[i], target);
    unlink("link");
    if (symlink(to, "link") == 0) {
      attempt("a symbolic link", open("link", O_RDONLY));
      attempt("a link, openat2 in its root", syscall(SYS_openat2, AT_FDCWD, "link", &(struct open_how){O_RDONLY, 0, RESOLVE_IN_ROOT}, 24));
      attempt("a hard link to it", (linkat(AT_FDCWD, "link", AT_FDCWD, "hard", AT_SYMLINK_FOLLOW), open("hard", O_RDONLY)));
      rename("link", "renamed");
      attempt("a renamed link", open("renamed", O_RDONLY));
      unlink("renamed");
    }
  }
}

static void by_root(void) {
  int root = open("/", O_RDONLY | O_DIRECTORY), path = open("/", O_PATH);
  mkdir("jail", 0755);
  pid_t pid = fork();
  if (pid == 0) { /* the classic way out of a chroot */
    if (chroot("jail") == 0 && fchdir(root) == 0)
      for (int i = 0; i < 40; i++) {
        attempt("chroot and fchdir", open(target + 1, O_RDONLY));
        attempt("chroot and fchdir, by name", open(base, O_RDONLY));
        if (chdir("..") != 0) break;
      }
    if (chroot(".") == 0) attempt("chroot twice", open(target, O_RDONLY));
    _exit(escaped);
  }
  escaped |= reap(pid) == 1;
  attempt("openat above an O_PATH root", openat(path, "../../../..", O_RDONLY));
  attempt("openat of dots", openat(root, "../../../../../../..", O_RDONLY));
  struct {
    struct file_handle h;
    char space[128];
  } handle = {.h = {.handle_bytes = 128}};
  int id;
  if (name_to_handle_at(AT_FDCWD, "/", &handle.h, &id, 0) == 0)
    for (unsigned ino = 1; ino < 200; ino++) {
      *(unsigned *)handle.h.f_handle = ino;
      int fd = open_by_handle_at(root, &handle.h, O_RDONLY);
      if (fd >= 0) attempt("a forged file handle", openat(fd, target + 1, O_RDONLY));
    }
}

static void by_mount(void) {
  mkdir("m", 0755);
  pid_t pid = fork();
  if (pid == 0) {
    unshare(CLONE_NEWNS);
    if (mount("/", "m", NULL, MS_BIND | MS_REC, NULL) == 0) attempt_path("a bind mount of /", "m%s", target);
    if (mount("/proc/1/root", "m", NULL, MS_BIND, NULL) == 0) attempt_path("a bind mount of init's root", "m%s", target);
    if (mount("/..", "m", NULL, MS_BIND, NULL) == 0) attempt_path("a bind mount of /..", "m%s", target);
    umount2("/", MNT_DETACH);
    attempt("unmounting the root", open(target, O_RDONLY));
    umount2("/proc", MNT_DETACH);
    attempt_path("unmounting /proc", "%s", target);
    _exit(escaped);
  }
  escaped |= reap(pid) == 1;
  static const int devices[][2] = {{8, 0}, {8, 1}, {253, 0}, {254, 0}, {259, 0}, {1, 1}, {1, 2}, {1, 4}};
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
    for (int block = 0; block < 2; block++) {
      unlink("dev");
      if (mknod("dev", (block ? S_IFBLK : S_IFCHR) | 0600, makedev(devices[i][0], devices[i][1])) != 0) continue;
      int fd = open("dev", O_RDONLY);
      char buf[512];
      if (fd >= 0 && pread(fd, buf, 512, 0) == 512) {
        escaped = 1;
        say("ESCAPED: device %d:%d can be read", devices[i][0], devices[i][1]);
      }
      if (fd >= 0) close(fd);
    }
}

/* One side turns a directory into a link and back, the other walks through it. */
static volatile int stop;
static void *swapper(void *arg) {
  while (!stop) {
    if (syscall(SYS_renameat2, AT_FDCWD, "race/dir", AT_FDCWD, "race/link", RENAME_EXCHANGE) != 0) {
      rename("race/dir", "race/tmp");
      rename("race/link", "race/dir");
      rename("race/tmp", "race/link");
    }
  }
  return arg;
}
/* One side moves the directory that the other climbs out of. */
static void *mover(void *arg) {
  while (!stop) {
    rename("race/deep/a/b", "race/b");
    rename("race/b", "race/deep/a/b");
  }
  return arg;
}
static void by_race(void) {
  mkdir("race", 0755);
  mkdir("race/dir", 0755);
  mkdir("race/deep", 0755);
  mkdir("race/deep/a", 0755);
  mkdir("race/deep/a/b", 0755);
  char up[PATH_MAX];
  snprintf(up, sizeof up, "../../../../../../../../../..%.*s", (int)(base - target), target);
  symlink(up, "race/link");
  char through[64 + 1] = "";
  pthread_t t[2];
  pthread_create(&t[0], NULL, swapper, NULL);
  pthread_create(&t[1], NULL, mover, NULL);
  snprintf(through, sizeof through, "race/dir/%.40s", base);
  int64_t end = now_ms() + 2500;
  while (now_ms() < end && !escaped) {
    attempt("a directory that becomes a link", open(through, O_RDONLY));
    attempt_path("dots out of a moving directory", "race/deep/a/b/../../../../../../../..%s", target);
    int b = open("race/deep/a/b", O_RDONLY | O_DIRECTORY);
    if (b >= 0) {
      attempt("openat out of a moving directory", openat(b, "../../../../../../../../../../..", O_RDONLY));
      char path[PATH_MAX];
      snprintf(path, sizeof path, "../../../../../../../..%s", target);
      attempt("openat out of a moving directory, whole path", openat(b, path, O_RDONLY));
      close(b);
    }
  }
  stop = 1;
  pthread_join(t[0], NULL);
  pthread_join(t[1], NULL);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  target = argv[1];
  base = strrchr(target, '/') + 1;
  char dir[] = "/tmp/escape-XXXXXX";
  mkdir("/tmp", 01777);
  if (!mkdtemp(dir) || chdir(dir) != 0) return 3;
  by_path();
  by_link();
  by_root();
  by_mount();
  by_race();
  if (chdir("/bind") == 0) { /* a folder of the host that may be written */
    by_path();
    by_link();
    by_root();
    stop = 0;
    by_race();
  }
  say(escaped ? "not contained" : "contained");
  return escaped;
}
