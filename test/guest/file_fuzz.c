/*
 * Pseudo-random sequences of file calls over a small tree: every result, every attribute and all data must be the host's.
 * The generator has fixed seeds, so that native and sandboxed runs see the same. With GUEST_TREE in the environment the
 * sequences run in trees that were made beforehand: $GUEST_TREE/TESTNAME (the sandbox then starts on lower files);
 * GUEST_SEED is added to the seeds.
 */
#include "guest.h"
#include <sys/xattr.h>

static unsigned seed;
static unsigned rnd(unsigned n) {
  seed = seed * 1103515245u + 12345u;
  return (seed >> 16) % n;
}

static const char *outcome(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }

enum { SLOTS = 6, OPS = 1500 };
static int slot[SLOTS];
static int base;

static char *random_path(char *out) {
  static const char *const parts[] = {"a", "b", "c", "d", "a", "b", "..", ".", "l", "deep"};
  int n = 1 + rnd(3);
  *out = 0;
  if (rnd(25) == 0) return out;
  for (int i = 0; i < n; i++) {
    if (i) strcat(out, rnd(20) ? "/" : "//");
    strcat(out, parts[rnd(10)]);
  }
  if (rnd(12) == 0) strcat(out, "/");
  return out;
}

static void show_stat(const char *what, const char *path, int r, struct stat *st) {
  if (r < 0) say("%s %s: %s", what, path, outcome(r));
  else if (S_ISDIR(st->st_mode)) say("%s %s: %o %u:%u n%lu", what, path, st->st_mode, st->st_uid, st->st_gid, (long)st->st_nlink);
  else say("%s %s: %o %u:%u n%lu %ld", what, path, st->st_mode, st->st_uid, st->st_gid, (long)st->st_nlink, (long)st->st_size);
}

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
  char *names[64], line[2048] = "";
  int n = 0;
  DIR *d = opendir(*path ? path : ".");
  if (!d) {
    say("list %s: %s", path, outcome(-1));
    return;
  }
  for (struct dirent *e; (e = readdir(d)) && n < 64;) {
    names[n] = malloc(300);
    snprintf(names[n++], 300, " %s:%d", e->d_name, e->d_type);
  }
  closedir(d);
  qsort(names, n, sizeof *names, compare);
  for (int i = 0; i < n; i++) strcat(line, names[i]), free(names[i]);
  say("list %s:%s", path, line);
}

static void one(int k) {
  static const int flags[] = {O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_CREAT, O_WRONLY | O_CREAT | O_TRUNC,
                              O_RDWR | O_CREAT | O_EXCL, O_RDONLY | O_DIRECTORY, O_PATH, O_RDWR | O_NOFOLLOW,
                              O_WRONLY | O_APPEND | O_CREAT, O_PATH | O_NOFOLLOW, O_RDWR | O_TRUNC, O_RDONLY | O_CREAT};
  char p[128], q[128], buf[9000];
  struct stat st;
  int s = rnd(SLOTS), r;
  long n;
  random_path(p);
  random_path(q);
  switch (rnd(34)) {
    case 0: case 1: case 2: case 3: case 4: {
      int f = flags[rnd(sizeof flags / sizeof *flags)];
      if (slot[s] >= 0) close(slot[s]);
      slot[s] = open(p, f | O_NONBLOCK, 0640 + rnd(8));
      say("%d open %s %o: %s", k, p, f, outcome(slot[s]));
      break;
    }
    case 5: case 6: case 7:
      n = rnd(3) ? rnd(300) : rnd(9000);
      memset(buf, 'A' + k % 26, n);
      if (rnd(2)) n = write(slot[s], buf, n);
      else n = pwrite(slot[s], buf, n, rnd(20000));
      say("%d write: %ld %s", k, n, outcome(n));
      break;
    case 8: case 9: case 10: {
      unsigned h = 5381;
      n = rnd(2) ? read(slot[s], buf, rnd(9000)) : pread(slot[s], buf, rnd(9000), rnd(20000));
      for (long i = 0; i < n; i++) h = h * 33 + (unsigned char)buf[i];
      say("%d read: %ld %s %x", k, n, outcome(n), h);
      break;
    }
    case 11: {
      /* Where data and holes begin is the file system's own affair. */
      int whence = rnd(3);
      n = lseek(slot[s], (long)rnd(30000) - 5000, whence);
      r = fstat(slot[s], &st);
      say("%d lseek %d: %ld %s", k, whence, r == 0 && S_ISDIR(st.st_mode) ? 0 : n, r == 0 && S_ISDIR(st.st_mode) ? "dir" : outcome(n));
      break;
    }
    case 12:
      say("%d mkdir %s: %s", k, p, outcome(mkdir(p, 0750 + rnd(8))));
      break;
    case 13:
      say("%d mkdir %s: %s", k, p, outcome(mkdir(p, 0777)));
      break;
    case 14:
      say("%d rmdir %s: %s", k, p, outcome(rmdir(p)));
      break;
    case 15: case 16:
      say("%d unlink %s: %s", k, p, outcome(unlink(p)));
      break;
    case 17: case 18: case 19:
      say("%d rename %s %s: %s", k, p, q, outcome(rename(p, q)));
      break;
    case 20:
      r = 1 << rnd(2);
      say("%d renameat2 %s %s %d: %s", k, p, q, r, outcome(syscall(SYS_renameat2, AT_FDCWD, p, AT_FDCWD, q, r)));
      break;
    case 21:
      r = rnd(2) ? AT_SYMLINK_FOLLOW : 0;
      say("%d link %s %s %x: %s", k, p, q, r, outcome(linkat(AT_FDCWD, p, AT_FDCWD, q, r)));
      break;
    case 22:
      say("%d symlink %s %s: %s", k, p, q, outcome(symlink(p, q)));
      break;
    case 23:
      n = readlink(p, buf, 100);
      say("%d readlink %s: %.*s %s", k, p, n > 0 ? (int)n : 0, buf, outcome(n));
      break;
    case 24:
      snprintf(buf, 20, "%d stat", k);
      show_stat(buf, p, stat(p, &st), &st);
      break;
    case 25:
      snprintf(buf, 20, "%d lstat", k);
      show_stat(buf, p, lstat(p, &st), &st);
      break;
    case 26:
      snprintf(buf, 20, "%d fstat", k);
      show_stat(buf, "", fstat(slot[s], &st), &st);
      break;
    case 27:
      r = rnd(01000);
      say("%d chmod %s %o: %s", k, p, r | 0100, outcome(chmod(p, r | 0100)));
      break;
    case 28: {
      n = rnd(20000);
      if (rnd(2)) say("%d truncate %s %ld: %s", k, p, n, outcome(truncate(p, n)));
      else say("%d ftruncate %ld: %s", k, n, outcome(ftruncate(slot[s], n)));
      break;
    }
    case 29:
      list(p);
      break;
    case 30: {
      struct timespec ts[2] = {{rnd(1000), 5}, {rnd(1000), rnd(3) ? 7 : UTIME_OMIT}};
      r = utimensat(AT_FDCWD, p, ts, rnd(2) ? AT_SYMLINK_NOFOLLOW : 0);
      say("%d utimens %s: %s", k, p, outcome(r));
      if (r == 0 && stat(p, &st) == 0 && st.st_mtime < 1000) say("  %ld.%ld", (long)st.st_mtime, st.st_mtim.tv_nsec);
      break;
    }
    case 31:
      if (rnd(2)) say("%d setxattr %s: %s", k, p, outcome(setxattr(p, "user.k", &k, 4, rnd(3))));
      else {
        n = getxattr(p, "user.k", buf, 100);
        say("%d getxattr %s: %ld %s", k, p, n, outcome(n));
      }
      break;
    case 32:
      r = rnd(2) ? FALLOC_FL_KEEP_SIZE : 0;
      say("%d fallocate %d: %s", k, r, outcome(fallocate(slot[s], r, rnd(10000), 1 + rnd(10000))));
      break;
    case 33:
      if (rnd(2)) {
        r = chdir(p);
        say("%d chdir %s: %s", k, p, outcome(r));
      } else fchdir(base);
      break;
  }
}

static void sequence(const char *name, unsigned start, int user) {
  char dir[PATH_MAX];
  if (getenv("GUEST_TREE")) {
    snprintf(dir, sizeof dir, "%s/%s", getenv("GUEST_TREE"), name);
    REQUIRE(chdir(dir) == 0);
  }
  /* Whatever the sequence makes of '..' and links, it stays in this directory: without chroot it does not run. */
  if (chroot(".") < 0) return;
  if (user) REQUIRE(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
  base = open(".", O_RDONLY | O_DIRECTORY);
  REQUIRE(base >= 0);
  umask(022);
  seed = start + (getenv("GUEST_SEED") ? atoi(getenv("GUEST_SEED")) : 0);
  for (int i = 0; i < SLOTS; i++) slot[i] = -1;
  for (int k = 0; k < OPS; k++) {
    if (k % 40 == 0) fchdir(base);
    one(k);
  }
  fchdir(base);
  list("");
}

TEST(root_1) { sequence("root_1", 1, 0); }
TEST(root_2) { sequence("root_2", 2222, 0); }
TEST(root_3) { sequence("root_3", 333333, 0); }

/* Somebody with no rights: every permission bit counts. */
TEST(user_1) {
  if (getenv("GUEST_TREE") == NULL) CHECK_OK(chmod(".", 0777));
  sequence("user_1", 71, 1);
}
TEST(user_2) {
  if (getenv("GUEST_TREE") == NULL) CHECK_OK(chmod(".", 0777));
  sequence("user_2", 81818181, 1);
}
