/*
 * readlink(2) of what is no link, asked again and again as realpath(3) does, while names change under it: a sandbox may
 * remember such answers, and nothing of that may show. Every change has to be seen by whoever asks after it.
 */
#include "guest.h"
#include <linux/fs.h>

#define AGAIN 60

static char base[PATH_MAX];

static const char *at(const char *name) {
  static char text[4][PATH_MAX + 64];
  static int turn;
  char *path = text[turn++ & 3];
  if (base[0] == 0) CHECK(getcwd(base, sizeof base) != NULL);
  snprintf(path, sizeof text[0], "%s/%s", base, name);
  return path;
}

/* The same answer however often: the length, or −errno. */
static int ask(const char *path) {
  char text[PATH_MAX];
  int first = 0;
  for (int i = 0; i < AGAIN; i++) {
    ssize_t n = readlink(path, text, sizeof text);
    int got = n < 0 ? -errno : (int)n;
    if (i == 0) first = got;
    if (got != first) {
      CHECK_EQ(got, first);
      break;
    }
  }
  return first;
}

TEST(kinds) {
  CHECK_EQ(mkdir("d", 0755), 0);
  CHECK_EQ(close(open("f", O_CREAT | O_WRONLY, 0644)), 0);
  CHECK_EQ(symlink("d", "l"), 0);
  CHECK_EQ(ask(at("d")), -EINVAL);
  CHECK_EQ(ask(at("d/")), -EINVAL);
  CHECK_EQ(ask(at("d/.")), -EINVAL);
  CHECK_EQ(ask(at("d/..")), -EINVAL);
  CHECK_EQ(ask(at("f")), -EINVAL);
  CHECK_EQ(ask(at("f/")), -ENOTDIR);
  CHECK_EQ(ask(at("l")), 1);
  CHECK_EQ(ask(at("l/")), -EINVAL);
  CHECK_EQ(ask(at("none")), -ENOENT);
  CHECK_EQ(ask("/"), -EINVAL);
  CHECK_EQ(ask("/proc"), -EINVAL);
  CHECK_EQ(ask("d"), -EINVAL);
  CHECK_EQ(ask(""), -ENOENT);
  CHECK_EQ(ask((char *)8), -EFAULT);
}

TEST(removed_and_made_again) {
  for (int i = 0; i < 5; i++) {
    CHECK_EQ(mkdir("x", 0755), 0);
    CHECK_EQ(ask(at("x")), -EINVAL);
    CHECK_EQ(rmdir("x"), 0);
    CHECK_EQ(ask(at("x")), -ENOENT);
    CHECK_EQ(symlink("four", "x"), 0);
    CHECK_EQ(ask(at("x")), 4);
    CHECK_EQ(unlink("x"), 0);
    CHECK_EQ(close(open("x", O_CREAT | O_WRONLY, 0644)), 0);
    CHECK_EQ(ask(at("x")), -EINVAL);
    CHECK_EQ(unlink("x"), 0);
    CHECK_EQ(symlink("fives", "x"), 0);
    CHECK_EQ(ask(at("x")), 5);
    CHECK_EQ(unlink("x"), 0);
  }
}

TEST(way_leads_elsewhere) {
  CHECK_EQ(mkdir("a", 0755) | mkdir("a/b", 0755) | mkdir("c", 0755), 0);
  CHECK_EQ(symlink("there", "c/b"), 0);
  CHECK_EQ(ask(at("a/b")), -EINVAL);
  CHECK_EQ(rename("a", "kept"), 0);
  CHECK_EQ(ask(at("a/b")), -ENOENT);
  CHECK_EQ(symlink("c", "a"), 0);
  CHECK_EQ(ask(at("a/b")), 5);
  CHECK_EQ(unlink("a"), 0);
  CHECK_EQ(symlink("kept", "a"), 0);
  CHECK_EQ(ask(at("a/b")), -EINVAL);
  CHECK_EQ(syscall(SYS_renameat2, AT_FDCWD, "c", AT_FDCWD, "kept", RENAME_EXCHANGE), 0);
  CHECK_EQ(ask(at("a/b")), 5);
}

TEST(same_buffer) {
  char name[PATH_MAX + 64];
  CHECK_EQ(mkdir("d1", 0755) | symlink("123", "d2"), 0);
  strcpy(name, at("d1"));
  for (int i = 0; i < AGAIN; i++) {
    name[strlen(name) - 1] = '1' + i % 2;
    char text[16];
    ssize_t n = readlink(name, text, sizeof text);
    if (i % 2 == 0 ? n != -1 || errno != EINVAL : n != 3) CHECK_EQ(n, i);
  }
  CHECK_EQ(ask(at("d1")), -EINVAL);
}

TEST(sizes) {
  char text[8];
  int bad = 0;
  CHECK_EQ(mkdir("d", 0755) | symlink("123", "l"), 0);
  for (int i = 0; i < AGAIN; i++) {
    bad += readlink(at("l"), text, 0) != -1 || errno != EINVAL;
    bad += readlink(at("l"), text, sizeof text) != 3;
    bad += readlink(at("l"), text, 2) != 2;
    bad += readlink(at("d"), NULL, 1) != -1 || errno != EINVAL;
    bad += readlinkat(-1, at("d"), text, 1) != -1 || errno != EINVAL;
    bad += readlinkat(-1, "d", text, 1) != -1 || errno != EBADF;
    bad += readlinkat(AT_FDCWD, at("l"), text, 1) != 1;
  }
  CHECK_EQ(bad, 0);
}

TEST(relative_names) {
  CHECK_EQ(mkdir("n", 0755) | mkdir("other", 0755) | symlink("123", "other/n"), 0);
  int dir = open("other", O_RDONLY), bad = 0;
  char text[8];
  for (int i = 0; i < AGAIN; i++) {
    bad += readlink("n", text, 8) != -1 || errno != EINVAL;
    bad += readlinkat(dir, "n", text, 8) != 3;
  }
  CHECK_EQ(bad, 0);
  CHECK_EQ(fchdir(dir), 0);
  CHECK_EQ(ask("n"), 3);
  CHECK_EQ(ask("../n"), -EINVAL);
}

TEST(changed_by_a_child) {
  CHECK_EQ(mkdir("d", 0755), 0);
  for (int i = 0; i < 4; i++) {
    CHECK_EQ(ask(at("d")), i % 2 == 0 ? -EINVAL : 6);
    pid_t pid = fork();
    if (pid == 0) {
      int ret = ask(at("d")) != (i % 2 == 0 ? -EINVAL : 6);
      if (i % 2 == 0) ret |= rmdir("d") | symlink("abcdef", "d");
      else ret |= unlink("d") | mkdir("d", 0755);
      ret |= ask(at("d")) != (i % 2 == 0 ? 6 : -EINVAL);
      _exit(ret);
    }
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
  }
}

static int turn[2][2];
static void *exchange(void *arg) {
  char byte;
  (void)arg;
  while (read(turn[0][0], &byte, 1) == 1) {
    if (syscall(SYS_renameat2, AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE) != 0) _exit(9);
    if (write(turn[1][1], "", 1) != 1) _exit(9);
  }
  return NULL;
}

TEST(changed_by_a_thread) {
  pthread_t thread;
  int bad = 0;
  char text[16], byte;
  CHECK_EQ(mkdir("one", 0755) | symlink("target", "two"), 0);
  CHECK_EQ(pipe(turn[0]) | pipe(turn[1]), 0);
  CHECK_EQ(pthread_create(&thread, NULL, exchange, NULL), 0);
  for (int i = 0; i < 300; i++) {
    for (int k = 0; k < 3; k++) {
      ssize_t one = readlink(at("one"), text, 16), two = readlink(at("two"), text, 16);
      bad += (i % 2 == 0 ? one : two) != -1 || (i % 2 == 0 ? two : one) != 6;
    }
    CHECK_EQ(write(turn[0][1], "", 1), 1);
    CHECK_EQ(read(turn[1][0], &byte, 1), 1);
  }
  CHECK_EQ(bad, 0);
  close(turn[0][1]);
  CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(rights) {
  CHECK_EQ(chmod(".", 0755), 0);
  CHECK_EQ(mkdir("p", 0755) | mkdir("p/d", 0755), 0);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(chmod("p", 0700), 0);
    CHECK_EQ(ask(at("p/d")), -EINVAL);
    CHECK_EQ(seteuid(65534), 0);
    CHECK_EQ(ask(at("p/d")), -EACCES);
    CHECK_EQ(seteuid(0), 0);
    CHECK_EQ(ask(at("p/d")), -EINVAL);
    CHECK_EQ(chmod("p", 0755), 0);
    CHECK_EQ(seteuid(65534), 0);
    CHECK_EQ(ask(at("p/d")), -EINVAL);
    CHECK_EQ(seteuid(0), 0);
  }
}

static void *change_root(void *arg) {
  return (void *)(long)chroot(arg);
}

TEST(another_root) {
  pthread_t thread;
  void *ret;
  CHECK_EQ(mkdir("root", 0755) | symlink("123", "root/usr"), 0);
  CHECK_EQ(ask("/usr"), -EINVAL);
  CHECK_EQ(pthread_create(&thread, NULL, change_root, "root"), 0);
  CHECK_EQ(pthread_join(thread, &ret), 0);
  CHECK_EQ((long)ret, 0);
  CHECK_EQ(ask("/usr"), 3);
  CHECK_EQ(ask("/"), -EINVAL);
}

TEST(many_names) {
  char name[300], text[16];
  int bad = 0;
  for (int i = 0; i < 120; i++) {
    memset(name, 'a' + i % 26, sizeof name);
    snprintf(name + i * 2, 20, "%d", i);
    CHECK_EQ(i % 3 == 0 ? symlink("x", name) : mkdir(name, 0755), 0);
  }
  for (int k = 0; k < 6; k++)
    for (int i = 0; i < 120; i++) {
      memset(name, 'a' + i % 26, sizeof name);
      snprintf(name + i * 2, 20, "%d", i);
      ssize_t n = readlink(at(name), text, 16);
      bad += i % 3 == 0 ? n != 1 : n != -1 || errno != EINVAL;
    }
  CHECK_EQ(bad, 0);
}

TEST(resolves) {
  char *path;
  CHECK_EQ(mkdir("a", 0755) | mkdir("a/b", 0755) | symlink("a/b", "l") | symlink("../..", "a/b/up"), 0);
  for (int i = 0; i < 20; i++) {
    path = realpath("l/up/a/./b", NULL);
    CHECK(path != NULL && strcmp(path, at("a/b")) == 0);
    free(path);
  }
}
