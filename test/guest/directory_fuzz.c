/*
 * Trees that are walked while they change: at random, from fixed seeds, names are made, removed, moved and written to
 * between whole and partial walks, and every walk prints what it saw. What a file system remembers of a directory must
 * never show.
 */
#define GUEST_SECONDS 60
#include "guest.h"

/* Linux's 9P client, and so a container in a virtual machine, has no RENAME_EXCHANGE. */
static int exchanges;
static unsigned seed;
static unsigned pick(unsigned n) {
  seed = seed * 1103515245 + 12345;
  return (seed >> 16) % n;
}

/* A path of up to four components out of few names, so that they often exist. */
static const char *some_path(void) {
  static char paths[4][64];
  static unsigned next;
  char *path = paths[next++ % 4];
  unsigned depth = 1 + pick(4);
  path[0] = 0;
  for (unsigned i = 0; i < depth; i++) sprintf(path + strlen(path), "%s%c", i ? "/" : "", 'a' + pick(5));
  return path;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static unsigned long sum;
static void add(const char *text) {
  for (; *text; text++) sum = sum * 31 + (unsigned char)*text;
}

/* Depth first, as find and tar do; `changes` at random on the way. */
static void walk(int at, const char *name, int depth, int changes);

static void change(void) {
  const char *path = some_path();
  switch (pick(10)) {
    case 0:
    case 1:
    case 2: mkdir(path, 0755); break;
    case 3: {
      int fd = open(path, O_CREAT | O_WRONLY | (pick(2) ? O_EXCL : 0), 0644);
      if (fd >= 0) {
        if (write(fd, "0123456789", pick(11)) < 0) FAIL("write");
        close(fd);
      }
      break;
    }
    case 4: unlink(path); break;
    case 5: rmdir(path); break;
    case 6:
    case 7: rename(path, some_path()); break;
    case 8: if (symlink("a/b", path) < 0) add("-"); break;
    case 9: {
      const char *to = some_path();
      if (pick(2)) {
        if (exchanges) syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, to, 2);
      } else if (link(path, to) < 0) add("-");
      break;
    }
  }
}

static void walk(int at, const char *name, int depth, int changes) {
  struct dirent **list;
  char line[400];
  struct stat st;
  int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (fd < 0) {
    add(strerror(errno));
    return;
  }
  int n = scandirat(fd, ".", &list, NULL, by_name);
  for (int i = 0; i < n; i++) {
    const char *entry = list[i]->d_name;
    if (strcmp(entry, ".") == 0 || strcmp(entry, "..") == 0) continue;
    if (changes && pick(6) == 0) change();
    if (fstatat(fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0) sprintf(line, "%d %s: %s;", depth, entry, strerror(errno));
    else
      sprintf(line, "%d %s %o %ld %ld;", depth, entry, st.st_mode, S_ISREG(st.st_mode) ? (long)st.st_nlink : 0,
              S_ISREG(st.st_mode) ? (long)st.st_size : 0);
    add(line);
    if (list[i]->d_type == DT_DIR && depth < 8) walk(fd, entry, depth + 1, changes);
  }
  for (int i = 0; i < n; i++) free(list[i]);
  if (n >= 0) free(list);
  close(fd);
}

static void run(unsigned from) {
  for (seed = from; seed < from + 5; seed++) {
    unsigned mine = seed;
    char top[32];
    sprintf(top, "top-%u", mine);
    if (mkdir(top, 0755) < 0 || chdir(top) < 0) FAIL("top");
    sum = 0;
    for (int round = 0; round < 20; round++) {
      for (int i = 0; i < 12; i++) change();
      walk(AT_FDCWD, ".", 0, round % 3 == 1);
      /* A subtree alone: not every walk begins at the top. */
      if (round % 4 == 0) walk(AT_FDCWD, some_path(), 0, 1);
    }
    say("seed %u: %lx", mine, sum);
    if (chdir("..") < 0) FAIL("..");
    seed = mine;
  }
}

TEST(walks_1) { run(1); }
TEST(walks_2) { run(100); }
TEST(walks_3) { run(1000); }
TEST(walks_with_exchanges) {
  exchanges = 1;
  run(1);
  run(100);
}
