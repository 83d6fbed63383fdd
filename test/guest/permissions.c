/* Permission checks as another user: the matrix of owner, group and others; sticky, set-id bits, chown, chmod, access. */
#include "guest.h"
#include <grp.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static void become(uid_t uid, gid_t gid, gid_t extra) {
  REQUIRE(setgroups(extra ? 1 : 0, &extra) == 0 && setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0);
}
#define AS(uid, gid, ...) CHECK_EQ(IN_CHILD(become(uid, gid, 0); __VA_ARGS__), 0)

static int can(const char *path, int flags) {
  int fd = open(path, flags);
  if (fd >= 0) close(fd);
  return fd >= 0;
}
TEST(matrix) {
  static const struct { const char *who; uid_t uid; gid_t gid, extra; } users[] = {
      {"owner", 1000, 9, 0}, {"group", 2000, 3000, 0}, {"extra group", 2000, 9, 3000}, {"other", 2000, 9, 0}, {"root", 0, 0, 0}};
  static const mode_t modes[] = {0, 0700, 0070, 0007, 0400, 0200, 0100, 0444, 0222, 0111, 0070, 0640};
  put_file("f", "#!/bin/true\n");
  CHECK_OK(chown("f", 1000, 3000));
  for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
    CHECK_OK(chmod("f", modes[m]));
    for (size_t u = 0; u < 5; u++) {
      int code = IN_CHILD(become(users[u].uid, users[u].gid, users[u].extra);
                          _exit(can("f", O_RDONLY) * 1 + can("f", O_WRONLY) * 2 + (access("f", X_OK) == 0) * 4 + (access("f", R_OK | W_OK) == 0) * 8));
      say("  %04o %s: %s%s%s%s", modes[m], users[u].who, code & 1 ? "r" : "-", code & 2 ? "w" : "-", code & 4 ? "x" : "-", code & 8 ? " rw" : "");
    }
  }
}

TEST(directories) {
  mkdir("d", 0700);
  put_file("d/f", "x");
  chmod("d/f", 0666);
  AS(1000, 1000, {
    CHECK_ERR(open("d", O_RDONLY), EACCES);
    CHECK_ERR(open("d/f", O_RDONLY), EACCES);
    CHECK_ERR(chdir("d"), EACCES);
    CHECK_ERR(unlink("d/f"), EACCES);
    CHECK_ERR(access("d/f", F_OK), EACCES);
    CHECK_ERR(access("d/missing", F_OK), EACCES);
  });
  chmod("d", 0711); /* search, but no reading */
  AS(1000, 1000, {
    CHECK_ERR(open("d", O_RDONLY), EACCES);
    CHECK_OK(open("d/f", O_RDONLY));
    CHECK_OK(chdir("d"));
    CHECK_ERR(unlink("f"), EACCES);
    CHECK_ERR(rename("f", "g"), EACCES);
    CHECK_ERR(open("new", O_CREAT | O_WRONLY, 0600), EACCES);
    CHECK_ERR(mkdir("m", 0700), EACCES);
    CHECK_ERR(symlink("x", "s"), EACCES);
  });
  chmod("d", 0744); /* reading, but no search */
  AS(1000, 1000, {
    CHECK_OK(open("d", O_RDONLY));
    CHECK_ERR(open("d/f", O_RDONLY), EACCES);
  });
}

TEST(sticky) {
  mkdir("d", 0777);
  chmod("d", 01777);
  AS(1000, 1000, put_file("d/mine", "x"); CHECK_OK(mkdir("d/sub", 0777)));
  AS(2000, 2000, {
    CHECK_ERR(unlink("d/mine"), EPERM);
    CHECK_ERR(rename("d/mine", "d/theirs"), EPERM);
    CHECK_ERR(rmdir("d/sub"), EPERM);
    put_file("d/other", "y");
    CHECK_ERR(rename("d/other", "d/mine"), EPERM); /* it would remove mine */
    CHECK_OK(unlink("d/other"));
  });
  AS(1000, 1000, CHECK_OK(rename("d/mine", "d/renamed")); CHECK_OK(unlink("d/renamed")));
}

static mode_t mode_of(const char *path) {
  struct stat st;
  return stat(path, &st) ? 0 : st.st_mode & 07777;
}
TEST(chown_and_set_id_bits) {
  put_file("f", "x");
  chmod("f", 06755);
  CHECK_OK(chown("f", 1000, 1000));
  CHECK_EQ(mode_of("f"), 0755); /* even root's chown clears them on an executable */
  chmod("f", 06755);
  AS(1000, 1000, {
    CHECK_OK(chown("f", -1, 1000));
    CHECK_EQ(mode_of("f"), 0755);
    CHECK_ERR(chown("f", 2000, -1), EPERM);
    CHECK_ERR(chown("f", -1, 4000), EPERM);
    CHECK_OK(chmod("f", 06755));
    int fd = open("f", O_WRONLY);
    CHECK_EQ(write(fd, "y", 1), 1);
    CHECK_EQ(mode_of("f"), 0755); /* writing clears them */
  });
  chmod("f", 06755);
  AS(2000, 2000, CHECK_ERR(chmod("f", 0777), EPERM); CHECK_ERR(chown("f", 2000, 2000), EPERM));
  chown("f", 1000, 3000);
  AS(1000, 1000, CHECK_OK(chmod("f", 02755)); CHECK_EQ(mode_of("f"), 0755)); /* not a member of the group */
  struct stat st;
  CHECK_OK(symlink("f", "l"));
  CHECK_OK(lchown("l", 7, 8));
  lstat("l", &st);
  CHECK_EQ(st.st_uid, 7);
  stat("f", &st);
  CHECK_EQ(st.st_uid, 1000);
  CHECK_ERR(chown("missing", 0, 0), ENOENT);
  CHECK_ERR(fchown(77, 0, 0), EBADF);
  CHECK_ERR(fchownat(AT_FDCWD, "f", 0, 0, 0x1), EINVAL);
  CHECK_ERR(chmod("missing", 0), ENOENT);
  CHECK_ERR(fchmod(77, 0), EBADF);
}

TEST(access_uses_real_ids) {
  put_file("f", "x");
  chmod("f", 0600);
  CHECK_EQ(IN_CHILD({
    REQUIRE(setresgid(1000, 0, 0) == 0 && setresuid(1000, 0, 0) == 0); /* real user 1000, effective root */
    CHECK_ERR(access("f", R_OK), EACCES);
    CHECK_OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
    CHECK_OK(open("f", O_RDONLY));
    CHECK_ERR(access("f", 8), EINVAL);
    CHECK_ERR(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, 0x10), EINVAL);
  }), 0);
  CHECK_ERR(access("f", X_OK), EACCES); /* no execute bit: not even root */
  CHECK_OK(access(".", X_OK));
}

TEST(creation) {
  mkdir("d", 0777);
  chmod("d", 0777);
  AS(1000, 1001, {
    struct stat st;
    put_file("d/f", "x");
    stat("d/f", &st);
    CHECK_EQ(st.st_uid, 1000);
    CHECK_EQ(st.st_gid, 1001);
    /* Created without write permission, but open for writing. */
    int fd = open("d/ro", O_CREAT | O_WRONLY, 0400);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_ERR(open("d/ro", O_WRONLY), EACCES);
    CHECK_ERR(open("d/ro", O_RDONLY | O_TRUNC), EACCES);
    CHECK_ERR(truncate("d/ro", 0), EACCES);
    CHECK_ERR(mknod("d/dev", S_IFCHR | 0600, makedev(1, 3)), EPERM);
    CHECK_OK(open("d/f", O_RDONLY | O_NOATIME));
  });
  AS(2000, 2000, CHECK_ERR(open("d/f", O_RDONLY | O_NOATIME), EPERM));
}

TEST(protected_links) {
  /* fs.protected_hardlinks and fs.protected_symlinks are the host's; only what does not depend on them. */
  put_file("f", "x");
  chmod("f", 0644);
  CHECK_OK(link("f", "g"));
  AS(1000, 1000, CHECK_OK(open("g", O_RDONLY)));
}

TEST(descriptors_keep_their_rights) {
  put_file("f", "secret");
  chmod("f", 0600);
  int fd = open("f", O_RDWR), dir = open(".", O_RDONLY);
  AS(1000, 1000, {
    char c;
    CHECK_EQ(pread(fd, &c, 1, 0), 1);
    CHECK_EQ(pwrite(fd, "S", 1, 0), 1);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_ERR(open(path, O_RDONLY), EACCES);
    CHECK_ERR(openat(dir, "f", O_RDONLY), EACCES);
  });
}

TEST(extended_attributes) {
  put_file("f", "x");
  char buf[64];
  int r = setxattr("f", "user.test", "value", 5, 0);
  if (r == -1 && errno == EOPNOTSUPP) return; /* a tmpfs without them: nothing to compare */
  CHECK_EQ(getxattr("f", "user.test", buf, sizeof buf), 5);
  CHECK(memcmp(buf, "value", 5) == 0);
  CHECK_EQ(getxattr("f", "user.test", NULL, 0), 5);
  CHECK_ERR(getxattr("f", "user.test", buf, 2), ERANGE);
  CHECK_ERR(getxattr("f", "user.none", buf, sizeof buf), ENODATA);
  CHECK_ERR(setxattr("f", "user.test", "v", 1, XATTR_CREATE), EEXIST);
  CHECK_ERR(setxattr("f", "user.new", "v", 1, XATTR_REPLACE), ENODATA);
  CHECK_ERR(setxattr("f", "nonsense", "v", 1, 0), EOPNOTSUPP);
  CHECK_ERR(setxattr("f", "user.x", "v", 1, 4), EINVAL);
  CHECK_OK(removexattr("f", "user.test"));
  CHECK_ERR(removexattr("f", "user.test"), ENODATA);
}
