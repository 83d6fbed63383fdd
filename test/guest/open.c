/* open(2) and relatives: flags, errors, O_PATH, O_TMPFILE, O_APPEND, openat2's resolve flags, *at directories. */
#include "guest.h"
#include <linux/openat2.h>

static long openat2_(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  struct open_how how = {flags, mode, resolve};
  return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

TEST(errors) {
  put_file("f", "x");
  mkdir("d", 0755);
  CHECK_ERR(open("missing", O_RDONLY), ENOENT);
  CHECK_ERR(open("", O_RDONLY), ENOENT);
  CHECK_ERR(open("f/x", O_RDONLY), ENOTDIR);
  CHECK_ERR(open("f/", O_RDONLY), ENOTDIR);
  CHECK_ERR(open("missing/x", O_RDONLY | O_CREAT, 0600), ENOENT);
  CHECK_ERR(open("new/", O_RDWR | O_CREAT, 0600), EISDIR);
  CHECK_ERR(open("d", O_WRONLY), EISDIR);
  CHECK_ERR(open("d", O_RDWR), EISDIR);
  CHECK_ERR(open("d", O_RDONLY | O_CREAT, 0600), EISDIR);
  CHECK_ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
  CHECK_ERR(open("f", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
  CHECK_ERR(open("d", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
  CHECK_ERR(openat(77, "f", O_RDONLY), EBADF);
  CHECK_ERR(openat(open("f", O_RDONLY), "f", O_RDONLY), ENOTDIR);
  char name[5000];
  memset(name, 'a', sizeof name);
  name[256] = 0;
  CHECK_ERR(open(name, O_RDWR | O_CREAT, 0600), ENAMETOOLONG);
  name[255] = 0;
  CHECK_OK(open(name, O_RDWR | O_CREAT, 0600));
  for (int i = 0; i < 4999; i += 2) name[i] = '.', name[i + 1] = '/';
  name[4096] = 0;
  CHECK_ERR(open(name, O_RDONLY), ENAMETOOLONG);
  name[4095] = 0;
  CHECK_OK(open(name, O_RDONLY));
  CHECK_OK(symlink("loop2", "loop1"));
  CHECK_OK(symlink("loop1", "loop2"));
  CHECK_ERR(open("loop1", O_RDONLY), ELOOP);
  CHECK_OK(symlink("f", "link"));
  CHECK_ERR(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
  CHECK_ERR(open("link", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
  CHECK_OK(symlink("nowhere", "dangling"));
  CHECK_ERR(open("dangling", O_RDONLY), ENOENT);
  CHECK_ERR(open("dangling", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
  CHECK_OK(open("dangling", O_RDWR | O_CREAT, 0600)); /* creates the target */
  CHECK_OK(access("nowhere", F_OK));
}

TEST(forty_links) {
  put_file("l0", "x");
  for (int i = 1; i <= 41; i++) {
    char to[8], from[8];
    sprintf(to, "l%d", i - 1);
    sprintf(from, "l%d", i);
    CHECK_OK(symlink(to, from));
  }
  CHECK_OK(open("l40", O_RDONLY));
  CHECK_ERR(open("l41", O_RDONLY), ELOOP);
}

TEST(lowest_descriptor) {
  int a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY);
  CHECK_EQ(b, a + 1);
  close(a);
  CHECK_EQ(open("/dev/null", O_RDONLY), a);
}

TEST(access_modes) {
  put_file("f", "x");
  char c;
  int r = open("f", O_RDONLY), w = open("f", O_WRONLY), rw = open("f", O_RDWR);
  CHECK_ERR(write(r, "y", 1), EBADF);
  CHECK_ERR(read(w, &c, 1), EBADF);
  CHECK_OK(read(rw, &c, 1));
  CHECK_EQ(fcntl(r, F_GETFL), O_RDONLY | 0100000 /* O_LARGEFILE */);
  CHECK_EQ(fcntl(w, F_GETFL), O_WRONLY | 0100000 /* O_LARGEFILE */);
  CHECK_EQ(fcntl(open("f", O_RDWR | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_CREAT | O_TRUNC, 0600), F_GETFL),
           O_RDWR | O_APPEND | O_NONBLOCK | 0100000 /* O_LARGEFILE */);
  CHECK_ERR(ftruncate(r, 0), EINVAL);
  CHECK_ERR(read(open(".", O_RDONLY), &c, 1), EISDIR);
}

TEST(truncate_flag) {
  put_file("f", "long content");
  close(open("f", O_WRONLY | O_TRUNC));
  CHECK_STR(get_file("f"), "");
}

TEST(append) {
  int a = open("f", O_WRONLY | O_CREAT | O_APPEND, 0600), b = open("f", O_WRONLY);
  CHECK_EQ(write(a, "aaa", 3), 3);
  CHECK_EQ(write(b, "B", 1), 1);
  CHECK_EQ(lseek(a, 0, SEEK_SET), 0);
  CHECK_EQ(write(a, "ccc", 3), 3);
  CHECK_EQ(lseek(a, 0, SEEK_CUR), 6);
  CHECK_EQ(pwrite(a, "dd", 2, 0), 2); /* Linux appends even here */
  CHECK_STR(get_file("f"), "Baacccdd");
  CHECK_OK(fcntl(b, F_SETFL, O_APPEND));
  CHECK_EQ(write(b, "e", 1), 1);
  CHECK_STR(get_file("f"), "Baacccdde");
  for (int i = 0; i < 4; i++)
    if (fork() == 0) {
      for (int n = 0; n < 50; n++)
        if (write(a, "12345678", 8) != 8) _exit(1);
      _exit(0);
    }
  for (int i = 0; i < 4; i++) wait(NULL);
  struct stat st;
  fstat(a, &st);
  CHECK_EQ(st.st_size, 9 + 1600);
}

TEST(o_path) {
  put_file("f", "x");
  int fd = open("f", O_PATH);
  char c;
  struct stat st;
  CHECK_ERR(read(fd, &c, 1), EBADF);
  CHECK_ERR(write(fd, &c, 1), EBADF);
  CHECK_ERR(ftruncate(fd, 0), EBADF);
  CHECK_ERR(fchmod(fd, 0600), EBADF);
  CHECK_ERR(lseek(fd, 0, SEEK_SET), EBADF);
  CHECK_ERR(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), EBADF);
  CHECK_OK(fstat(fd, &st));
  CHECK_EQ(fcntl(fd, F_GETFL) & ~0100000 /* O_LARGEFILE */, O_PATH);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int real = open(path, O_RDONLY);
  CHECK_EQ(read(real, &c, 1), 1);
  CHECK_OK(symlink("f", "link"));
  int link = open("link", O_PATH | O_NOFOLLOW);
  CHECK_OK(fstat(link, &st));
  CHECK(S_ISLNK(st.st_mode));
  CHECK_EQ(readlinkat(link, "", &c, 1), 1);
  int dir = open(".", O_PATH | O_DIRECTORY);
  CHECK_OK(openat(dir, "f", O_RDONLY));
  CHECK_OK(fchdir(dir));
  CHECK_OK(close(dup(fd)));
}

TEST(o_tmpfile) {
  int fd = open(".", O_TMPFILE | O_RDWR, 0640);
  CHECK(fd >= 0);
  struct stat st;
  fstat(fd, &st);
  CHECK_EQ(st.st_nlink, 0);
  CHECK_EQ(st.st_mode, S_IFREG | 0640);
  CHECK_EQ(write(fd, "tmp", 3), 3);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
  CHECK_STR(get_file("named"), "tmp");
  CHECK_ERR(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
  put_file("f", "");
  CHECK_ERR(open("f", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
  int excl = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
  snprintf(path, sizeof path, "/proc/self/fd/%d", excl);
  CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
}

TEST(openat2_errors) {
  struct {
    struct open_how how;
    uint64_t more;
  } big = {{O_RDONLY, 0, 0}, 0};
  put_file("f", "x");
  CHECK_OK(syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big));
  big.more = 1;
  CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big), E2BIG);
  CHECK_ERR(syscall(SYS_openat2, AT_FDCWD, "f", &big, 23), EINVAL);
  CHECK_ERR(openat2_(AT_FDCWD, "f", 1UL << 40, 0, 0), EINVAL);
  CHECK_ERR(openat2_(AT_FDCWD, "f", O_RDONLY, 0600, 0), EINVAL); /* a mode without O_CREAT */
  CHECK_ERR(openat2_(AT_FDCWD, "f", O_CREAT, 010000, 0), EINVAL);
  CHECK_ERR(openat2_(AT_FDCWD, "f", O_RDONLY, 0, 0x1000), EINVAL);
  CHECK_ERR(openat2_(AT_FDCWD, "f", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
  CHECK_ERR(openat2_(AT_FDCWD, "f", O_PATH | O_RDWR, 0, 0), EINVAL);
}

TEST(openat2_resolve) {
  mkdir("top", 0755);
  mkdir("top/sub", 0755);
  put_file("outside", "out");
  put_file("top/inside", "in");
  CHECK_OK(symlink("../outside", "top/out"));
  CHECK_OK(symlink("inside", "top/in"));
  CHECK_OK(symlink("/inside", "top/abs"));
  CHECK_OK(symlink("../inside", "top/sub/up"));
  int top = open("top", O_PATH | O_DIRECTORY);
  static const struct { const char *path; uint64_t resolve; } cases[] = {
      {"inside", RESOLVE_BENEATH}, {"../outside", RESOLVE_BENEATH}, {"out", RESOLVE_BENEATH}, {"abs", RESOLVE_BENEATH},
      {"sub/up", RESOLVE_BENEATH}, {"sub/../inside", RESOLVE_BENEATH}, {"sub/../../top/inside", RESOLVE_BENEATH}, {"/etc/passwd", RESOLVE_BENEATH},
      {"../inside", RESOLVE_IN_ROOT}, {"abs", RESOLVE_IN_ROOT}, {"out", RESOLVE_IN_ROOT}, {"/inside", RESOLVE_IN_ROOT}, {"../../../../inside", RESOLVE_IN_ROOT},
      {"in", RESOLVE_NO_SYMLINKS}, {"inside", RESOLVE_NO_SYMLINKS}, {"/proc/self/fd/0", RESOLVE_NO_MAGICLINKS}, {"/proc/self/exe", RESOLVE_NO_MAGICLINKS},
      {"/proc/self/status", RESOLVE_NO_SYMLINKS}, {"/proc", RESOLVE_NO_XDEV}, {"inside", RESOLVE_NO_XDEV}, {".", RESOLVE_BENEATH}, {"..", RESOLVE_BENEATH},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    long fd = openat2_(top, cases[i].path, O_RDONLY, 0, cases[i].resolve);
    say("  %s with %lx: %s", cases[i].path, (unsigned long)cases[i].resolve, fd >= 0 ? "ok" : strerrorname_np(errno));
    if (fd >= 0) close(fd);
  }
}

TEST(at_family) {
  mkdir("d", 0755);
  int d = open("d", O_RDONLY | O_DIRECTORY);
  close(openat(d, "f", O_CREAT | O_WRONLY, 0600));
  CHECK_OK(access("d/f", F_OK));
  CHECK_OK(mkdirat(d, "sub", 0755));
  CHECK_OK(linkat(d, "f", d, "g", 0));
  CHECK_OK(symlinkat("f", d, "s"));
  CHECK_OK(renameat(d, "g", AT_FDCWD, "moved"));
  CHECK_OK(faccessat(d, "f", R_OK, 0));
  CHECK_OK(fchmodat(d, "f", 0640, 0));
  CHECK_OK(fchownat(d, "f", 1, 2, 0));
  struct stat st;
  CHECK_OK(fstatat(d, "f", &st, 0));
  CHECK_EQ(st.st_mode & 0777, 0640);
  CHECK_EQ(st.st_uid * 10 + st.st_gid, 12);
  CHECK_OK(fstatat(d, "s", &st, AT_SYMLINK_NOFOLLOW));
  CHECK(S_ISLNK(st.st_mode));
  char buf[16] = {0};
  CHECK_EQ(readlinkat(d, "s", buf, sizeof buf), 1);
  CHECK_OK(mkfifo("d/fifo", 0600));
  CHECK_OK(unlinkat(d, "sub", AT_REMOVEDIR));
  CHECK_ERR(unlinkat(d, "f", AT_REMOVEDIR), ENOTDIR);
  CHECK_ERR(unlinkat(d, "f", 0x1000), EINVAL);
  CHECK_OK(fstatat(d, "", &st, AT_EMPTY_PATH));
  CHECK(S_ISDIR(st.st_mode));
  CHECK_ERR(fstatat(d, "", &st, 0), ENOENT);
  CHECK_ERR(fstatat(77, "f", &st, 0), EBADF);
  CHECK_OK(fstatat(77, "/", &st, 0)); /* an absolute path needs no directory */
  CHECK_OK(rename("d", "e")); /* a descriptor follows its directory */
  CHECK_OK(faccessat(d, "f", F_OK, 0));
  CHECK_OK(fchdir(d));
  CHECK_STR(strrchr(getcwd(NULL, 0), '/'), "/e");
}

TEST(descriptor_limit) {
  struct rlimit limit = {20, 20};
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
  int last = -1, fd;
  while ((fd = open("/dev/null", O_RDONLY)) >= 0) last = fd;
  CHECK_EQ(errno, EMFILE);
  CHECK_EQ(last, 19);
  CHECK_ERR(dup(0), EMFILE);
  CHECK_ERR(dup2(0, 20), EBADF);
  CHECK_ERR(fcntl(0, F_DUPFD, 20), EINVAL);
  CHECK_ERR(fcntl(0, F_DUPFD, 3), EMFILE);
  int fds[2];
  CHECK_ERR(pipe(fds), EMFILE);
}

TEST(dup_family) {
  int fd = open("/dev/null", O_RDONLY);
  CHECK_EQ(dup2(fd, 50), 50);
  CHECK_EQ(dup2(fd, fd), fd);
  CHECK_ERR(dup3(fd, fd, 0), EINVAL);
  CHECK_ERR(dup3(fd, 51, 1), EINVAL);
  CHECK_ERR(dup(77), EBADF);
  CHECK_ERR(dup2(77, 52), EBADF);
  CHECK_ERR(dup2(fd, -1), EBADF);
  CHECK_EQ(dup3(fd, 53, O_CLOEXEC), 53);
  CHECK_EQ(fcntl(53, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(dup2(53, 54), 54);
  CHECK_EQ(fcntl(54, F_GETFD), 0);
  CHECK_EQ(fcntl(fd, F_DUPFD, 60), 60);
  CHECK_EQ(fcntl(fd, F_DUPFD_CLOEXEC, 60), 61);
  CHECK_EQ(fcntl(61, F_GETFD), FD_CLOEXEC);
  CHECK_OK(syscall(SYS_close_range, 50, 60, 0));
  CHECK_ERR(fcntl(60, F_GETFD), EBADF);
  CHECK_OK(fcntl(61, F_GETFD));
  dup2(fd, 60);
  CHECK_OK(syscall(SYS_close_range, 60, 100, 4 /* CLOSE_RANGE_CLOEXEC */));
  CHECK_EQ(fcntl(60, F_GETFD), FD_CLOEXEC);
  CHECK_ERR(syscall(SYS_close_range, 5, 4, 0), EINVAL);
  CHECK_ERR(syscall(SYS_close_range, 5, 6, 64), EINVAL);
  close(60);
  CHECK_ERR(close(60), EBADF);
  CHECK_ERR(fcntl(fd, 9999), EINVAL);
  CHECK_ERR(fcntl(-1, F_GETFD), EBADF);
}

TEST(working_directory) {
  char cwd[PATH_MAX], small[4];
  mkdir("d", 0755);
  CHECK_OK(chdir("d"));
  CHECK_STR(strrchr(getcwd(cwd, sizeof cwd), '/'), "/d");
  CHECK_ERR(syscall(SYS_getcwd, small, sizeof small), ERANGE);
  CHECK_EQ(syscall(SYS_getcwd, cwd, sizeof cwd), strlen(cwd) + 1);
  CHECK_OK(rmdir("../d"));
  CHECK_ERR(syscall(SYS_getcwd, cwd, sizeof cwd), ENOENT);
  CHECK_ERR(open("x", O_CREAT | O_WRONLY, 0600), ENOENT);
  CHECK_OK(chdir(".."));
  CHECK_ERR(chdir("missing"), ENOENT);
  put_file("f", "");
  CHECK_ERR(chdir("f"), ENOTDIR);
  CHECK_ERR(fchdir(open("f", O_RDONLY)), ENOTDIR);
  CHECK_ERR(fchdir(77), EBADF);
  mkdir("root", 0755);
  put_file("root/inside", "in");
  CHECK_EQ(IN_CHILD({
    CHECK_OK(chroot("root"));
    CHECK_OK(access("/inside", F_OK));
    CHECK_OK(chdir("/"));
    CHECK_OK(access("../../../inside", F_OK));
    CHECK_STR(getcwd(cwd, sizeof cwd), "/");
  }), 0);
  CHECK_ERR(chroot("f"), ENOTDIR);
  CHECK_EQ(IN_CHILD(setuid(1000); CHECK_ERR(chroot("root"), EPERM)), 0);
}
