/* Names: link, symlink, readlink, rename in all its combinations, unlink, rmdir, mkdir, mknod. */
#include "guest.h"
#include <sys/sysmacros.h>

TEST(hard_links) {
  put_file("f", "x");
  mkdir("d", 0755);
  CHECK_OK(link("f", "g"));
  CHECK_ERR(link("f", "g"), EEXIST);
  CHECK_ERR(link("missing", "h"), ENOENT);
  CHECK_ERR(link("d", "e"), EPERM);
  CHECK_ERR(link("f", "d/"), EEXIST);
  CHECK_ERR(link("f", "new/"), ENOENT);
  CHECK_ERR(link("f/x", "h"), ENOTDIR);
  CHECK_ERR(link("f", "/dev/shm/guest-x"), EXDEV);
  CHECK_OK(symlink("f", "s"));
  CHECK_OK(link("s", "s2")); /* the link itself */
  struct stat st;
  lstat("s2", &st);
  CHECK(S_ISLNK(st.st_mode));
  CHECK_OK(linkat(AT_FDCWD, "s", AT_FDCWD, "s3", AT_SYMLINK_FOLLOW));
  lstat("s3", &st);
  CHECK(S_ISREG(st.st_mode));
  CHECK_ERR(linkat(AT_FDCWD, "f", AT_FDCWD, "x", 0x1), EINVAL);
  CHECK_OK(unlink("f"));
  CHECK_STR(get_file("g"), "x");
  int fd = open("g", O_RDONLY);
  CHECK_OK(linkat(fd, "", AT_FDCWD, "by-fd", AT_EMPTY_PATH));
}

TEST(symbolic_links) {
  char buf[PATH_MAX];
  CHECK_OK(symlink("anything at all", "s"));
  CHECK_ERR(symlink("x", "s"), EEXIST);
  CHECK_ERR(symlink("", "e"), ENOENT);
  CHECK_ERR(symlink("x", "missing/s"), ENOENT);
  CHECK_EQ(readlink("s", buf, sizeof buf), 15);
  CHECK_EQ(readlink("s", buf, 3), 3);
  CHECK_ERR(readlink("s", buf, 0), EINVAL);
  put_file("f", "");
  CHECK_ERR(readlink("f", buf, sizeof buf), EINVAL);
  CHECK_ERR(readlink("missing", buf, sizeof buf), ENOENT);
  memset(buf, 'p', sizeof buf);
  buf[PATH_MAX - 1] = 0;
  CHECK_OK(symlink(buf, "longest") == 0 || errno == ENAMETOOLONG ? 0 : -1);
  mkdir("d", 0755);
  put_file("d/f", "in d");
  CHECK_OK(symlink("d", "ld"));
  CHECK_STR(get_file("ld/f"), "in d");
  CHECK_STR(get_file("ld/../ld/./f"), "in d");
  CHECK_OK(symlink("ld/", "slash"));
  CHECK_STR(get_file("slash/f"), "in d");
  struct stat st;
  CHECK_OK(lstat("ld", &st));
  CHECK(S_ISLNK(st.st_mode));
  CHECK_OK(lstat("ld/", &st));
  CHECK(S_ISDIR(st.st_mode)); /* a slash follows */
  CHECK_ERR(unlink("ld/"), ENOTDIR);
  CHECK_ERR(rmdir("ld"), ENOTDIR);
  CHECK_ERR(rmdir("ld/"), ENOTDIR);
  CHECK_OK(unlink("ld"));
  CHECK_OK(access("d/f", F_OK));
}

TEST(rename_matrix) {
  /* Every pair of kinds, each way; made anew for each pair. */
  static const char *kinds[] = {"file", "dir", "full", "link", "missing", "fifo"};
  for (int from = 0; from < 6; from++)
    for (int to = 0; to < 6; to++) {
      mkdir("w", 0755);
      char a[32], b[32];
      for (int side = 0; side < 2; side++) {
        int kind = side ? to : from;
        char *path = side ? b : a;
        sprintf(path, "w/%s-%c", kinds[kind], side ? 'b' : 'a');
        if (kind == 0) put_file(path, side ? "b" : "a");
        if (kind == 1 || kind == 2) mkdir(path, 0755);
        if (kind == 2) {
          char inner[64];
          sprintf(inner, "%s/x", path);
          put_file(inner, "");
        }
        if (kind == 3) symlink("nowhere", path);
        if (kind == 5) mkfifo(path, 0600);
      }
      int r = rename(a, b);
      say("  %s over %s: %s", kinds[from], kinds[to], result(r));
      if (r == 0) CHECK_ERR(access(a, F_OK), ENOENT);
      guest_remove("w");
    }
}

TEST(rename_special) {
  put_file("f", "f");
  put_file("g", "g");
  CHECK_OK(link("f", "same"));
  CHECK_OK(rename("f", "same")); /* two names of one file: nothing happens */
  CHECK_OK(access("f", F_OK));
  CHECK_OK(rename("f", "f"));
  mkdir("d", 0755);
  mkdir("d/e", 0755);
  CHECK_ERR(rename("d", "d/e/x"), EINVAL);
  CHECK_ERR(rename("d", "d/x"), EINVAL);
  CHECK_ERR(rename("d/e", "d"), ENOTEMPTY);
  CHECK_ERR(rename("d/.", "x"), EBUSY);
  CHECK_ERR(rename("d/..", "x"), EBUSY);
  CHECK_ERR(rename("f", "d/."), EBUSY);
  CHECK_ERR(rename("missing/x", "y"), ENOENT);
  CHECK_ERR(rename("f/x", "y"), ENOTDIR);
  CHECK_ERR(rename("f", "new/"), ENOTDIR);
  CHECK_OK(rename("d", "new-dir/"));
  CHECK_ERR(rename("f", "/proc/x"), EXDEV);
  CHECK_ERR(rename("", "x"), ENOENT);
  int fd = open("g", O_RDONLY);
  CHECK_OK(rename("f", "g")); /* replaces an open file */
  char c;
  CHECK_EQ(read(fd, &c, 1), 1);
  CHECK_EQ(c, 'g');
  CHECK_STR(get_file("g"), "f");
}

TEST(renameat2_flags) {
  put_file("a", "A");
  put_file("b", "B");
  mkdir("d", 0755);
  put_file("d/x", "X");
  CHECK_ERR(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
  CHECK_OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
  CHECK_OK(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_EXCHANGE));
  CHECK_STR(get_file("b"), "A");
  CHECK_STR(get_file("c"), "B");
  CHECK_OK(renameat2(AT_FDCWD, "b", AT_FDCWD, "d", RENAME_EXCHANGE)); /* a file and a full directory */
  CHECK_STR(get_file("b/x"), "X");
  CHECK_STR(get_file("d"), "A");
  CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "missing", RENAME_EXCHANGE), ENOENT);
  CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "d", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
  CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "d", 0x80), EINVAL);
}

TEST(moving_directories) {
  mkdir("a", 0755);
  mkdir("a/sub", 0755);
  mkdir("b", 0755);
  put_file("a/sub/f", "deep");
  int fd = open("a/sub", O_RDONLY);
  CHECK_OK(rename("a/sub", "b/moved"));
  CHECK_STR(get_file("b/moved/f"), "deep");
  CHECK_ERR(access("a/sub", F_OK), ENOENT);
  CHECK_OK(faccessat(fd, "f", F_OK, 0));
  struct stat up, b;
  CHECK_OK(fstatat(fd, "..", &up, 0));
  stat("b", &b);
  CHECK_EQ(up.st_ino, b.st_ino);
  char path[64], link[PATH_MAX] = {0};
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, link, sizeof link - 1) > 0);
  CHECK_STR(strstr(link, "/b/") ? strstr(link, "/b/") : link, "/b/moved");
}

TEST(unlink_rules) {
  mkdir("d", 0755);
  put_file("d/f", "x");
  CHECK_ERR(unlink("d"), EISDIR);
  CHECK_ERR(rmdir("d"), ENOTEMPTY);
  CHECK_ERR(rmdir("d/f"), ENOTDIR);
  CHECK_ERR(rmdir("missing"), ENOENT);
  CHECK_ERR(unlink("missing"), ENOENT);
  CHECK_ERR(unlink("d/f/"), ENOTDIR);
  CHECK_ERR(rmdir("d/."), EINVAL);
  CHECK_ERR(rmdir("d/.."), ENOTEMPTY);
  CHECK_ERR(rmdir("/"), EBUSY);
  CHECK_ERR(unlink(""), ENOENT);
  int fd = open("d/f", O_RDWR);
  CHECK_OK(unlink("d/f"));
  CHECK_OK(rmdir("d"));
  CHECK_EQ(write(fd, "still", 5), 5);
  char buf[8] = {0}, path[64], link[PATH_MAX] = {0};
  CHECK_EQ(pread(fd, buf, 8, 0), 5);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK(readlink(path, link, sizeof link - 1) > 0);
  CHECK_STR(strrchr(link, '/'), "/f (deleted)");
  struct stat st;
  fstat(fd, &st);
  CHECK_EQ(st.st_nlink, 0);
  int again = open(path, O_RDONLY); /* through /proc it can still be opened */
  CHECK_EQ(read(again, buf, 8), 5);
}

TEST(mkdir_and_mknod) {
  CHECK_OK(mkdir("d", 0755));
  CHECK_ERR(mkdir("d", 0755), EEXIST);
  CHECK_ERR(mkdir("/", 0755), EEXIST);
  CHECK_ERR(mkdir("missing/d", 0755), ENOENT);
  put_file("f", "");
  CHECK_ERR(mkdir("f/d", 0755), ENOTDIR);
  CHECK_OK(mkdir("slash/", 0755));
  CHECK_ERR(mkdir("f", 0755), EEXIST);
  CHECK_OK(symlink("target", "dangling"));
  CHECK_ERR(mkdir("dangling", 0755), EEXIST);
  CHECK_OK(mknod("plain", S_IFREG | 0600, 0));
  CHECK_OK(mknod("zero", 0600, 0));
  CHECK_ERR(mknod("dir", S_IFDIR | 0700, 0), EPERM);
  CHECK_ERR(mknod("bad", 0170000, 0), EINVAL);
  CHECK_ERR(mknod("plain", S_IFREG | 0600, 0), EEXIST);
  struct stat st;
  stat("zero", &st);
  CHECK(S_ISREG(st.st_mode));
  CHECK_OK(mkdir("sgid", 0755));
  CHECK_OK(chown("sgid", 5, 6));
  CHECK_OK(chmod("sgid", 02755));
  CHECK_OK(mkdir("sgid/sub", 0755));
  put_file("sgid/f", "");
  stat("sgid/sub", &st);
  CHECK_EQ(st.st_gid, 6);
  CHECK_EQ(st.st_mode & 07777, 02755);
  stat("sgid/f", &st);
  CHECK_EQ(st.st_gid, 6);
}

TEST(deep_paths) {
  /* Deeper than PATH_MAX: reachable step by step only. */
  char name[201];
  memset(name, 'n', 200);
  name[200] = 0;
  for (int i = 0; i < 25; i++) {
    REQUIRE(mkdir(name, 0755) == 0);
    REQUIRE(chdir(name) == 0);
  }
  put_file("bottom", "deep");
  CHECK_STR(get_file("bottom"), "deep");
  char cwd[PATH_MAX];
  CHECK_ERR(syscall(SYS_getcwd, cwd, sizeof cwd), ENAMETOOLONG);
  unlink("bottom");
  for (int i = 0; i < 25; i++) {
    CHECK_OK(chdir(".."));
    CHECK_OK(rmdir(name));
  }
}

TEST(odd_names) {
  static const char *names[] = {"a b", "\xff\xfe", "new\nline", "\xc3\xa4", "...", "..x", "-rf", "\\", "'\"", "\x01\x7f"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    put_file(names[i], names[i]);
    CHECK_STR(get_file(names[i]), names[i]);
  }
  DIR *d = opendir(".");
  unsigned found = 0;
  for (struct dirent *e; (e = readdir(d));)
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) found |= strcmp(e->d_name, names[i]) == 0 ? 1U << i : 0;
  CHECK_EQ(found, 1023);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) CHECK_OK(unlink(names[i]));
}
