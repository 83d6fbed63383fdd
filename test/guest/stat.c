/* stat family, statx, statfs, times, getdents64: what the metadata calls say. */
#include "guest.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <utime.h>

TEST(kinds_and_modes) {
  struct stat st;
  put_file("f", "12345");
  mkdir("d", 0750);
  CHECK_OK(symlink("target text", "l"));
  CHECK_OK(mkfifo("p", 0604));
  CHECK_OK(mknod("s", S_IFSOCK | 0600, 0));
  CHECK_OK(stat("f", &st));
  CHECK_EQ(st.st_mode, S_IFREG | 0644);
  CHECK_EQ(st.st_size, 5);
  CHECK_EQ(st.st_nlink, 1);
  CHECK_EQ(st.st_uid, 0);
  CHECK_OK(stat("d", &st));
  CHECK_EQ(st.st_mode, S_IFDIR | 0750);
  CHECK_OK(lstat("l", &st));
  CHECK_EQ(st.st_mode, S_IFLNK | 0777);
  CHECK_EQ(st.st_size, 11);
  CHECK_ERR(stat("l", &st), ENOENT);
  CHECK_OK(stat("p", &st));
  CHECK_EQ(st.st_mode, S_IFIFO | 0604);
  CHECK_OK(stat("s", &st));
  CHECK_EQ(st.st_mode, S_IFSOCK | 0600);
  CHECK_OK(stat("/dev/null", &st));
  CHECK(S_ISCHR(st.st_mode) && major(st.st_rdev) == 1 && minor(st.st_rdev) == 3);
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  CHECK_OK(fstat(fds[0], &st));
  CHECK_EQ(st.st_mode, S_IFIFO | 0600);
  int sock = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK_OK(fstat(sock, &st));
  CHECK_EQ(st.st_mode, S_IFSOCK | 0777);
  CHECK_ERR(fstat(77, &st), EBADF);
}

TEST(identity) {
  struct stat a, b, c;
  put_file("f", "");
  put_file("g", "");
  CHECK_OK(link("f", "hard"));
  stat("f", &a), stat("hard", &b), stat("g", &c);
  CHECK(a.st_ino == b.st_ino && a.st_dev == b.st_dev && a.st_ino != c.st_ino);
  CHECK_EQ(a.st_nlink, 2);
  CHECK_OK(rename("f", "renamed"));
  stat("renamed", &b);
  CHECK_EQ(a.st_ino, b.st_ino);
  stat(".", &a), stat("./.", &b);
  CHECK_EQ(a.st_ino, b.st_ino);
}

TEST(statx_call) {
  struct statx sx;
  put_file("f", "123");
  memset(&sx, 0xff, sizeof sx);
  CHECK_OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &sx));
  CHECK_EQ(sx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
  CHECK_EQ(sx.stx_mode, S_IFREG | 0644);
  CHECK_EQ(sx.stx_size, 3);
  CHECK_EQ(sx.stx_nlink, 1);
  struct stat st;
  stat("f", &st);
  CHECK_EQ(sx.stx_ino, st.st_ino);
  CHECK_EQ(makedev(sx.stx_dev_major, sx.stx_dev_minor), st.st_dev);
  CHECK_EQ(sx.stx_mtime.tv_sec, st.st_mtim.tv_sec);
  CHECK_EQ(sx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
  int fd = open("f", O_RDONLY);
  CHECK_OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &sx));
  CHECK_ERR(statx(fd, "", 0, STATX_SIZE, &sx), ENOENT);
  CHECK_ERR(statx(AT_FDCWD, "f", 0x8, STATX_SIZE, &sx), EINVAL);
  CHECK_ERR(statx(AT_FDCWD, "f", 0, 0x80000000, &sx), EINVAL);
  CHECK_ERR(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_SIZE, &sx), EINVAL);
  CHECK_ERR(statx(AT_FDCWD, "missing", 0, STATX_SIZE, &sx), ENOENT);
}

TEST(utimensat_rules) {
  struct stat st;
  put_file("f", "");
  struct timespec ts[2] = {{1000000000, 123456789}, {2000000000, 987654321}};
  CHECK_OK(utimensat(AT_FDCWD, "f", ts, 0));
  stat("f", &st);
  CHECK_EQ(st.st_atim.tv_sec, 1000000000);
  CHECK_EQ(st.st_atim.tv_nsec, 123456789);
  CHECK_EQ(st.st_mtim.tv_sec, 2000000000);
  CHECK_EQ(st.st_mtim.tv_nsec, 987654321);
  ts[0].tv_nsec = UTIME_OMIT;
  ts[1] = (struct timespec){5, 6};
  CHECK_OK(utimensat(AT_FDCWD, "f", ts, 0));
  stat("f", &st);
  CHECK_EQ(st.st_atim.tv_sec, 1000000000);
  CHECK_EQ(st.st_mtim.tv_sec, 5);
  ts[0].tv_nsec = UTIME_NOW;
  CHECK_OK(utimensat(AT_FDCWD, "f", ts, 0));
  stat("f", &st);
  CHECK(labs(st.st_atim.tv_sec - time(NULL)) <= 2);
  ts[0].tv_nsec = 1000000000;
  CHECK_ERR(utimensat(AT_FDCWD, "f", ts, 0), EINVAL);
  CHECK_ERR(utimensat(AT_FDCWD, "missing", NULL, 0), ENOENT);
  ts[0].tv_nsec = ts[1].tv_nsec = 7;
  CHECK_OK(symlink("f", "l"));
  CHECK_OK(utimensat(AT_FDCWD, "l", ts, AT_SYMLINK_NOFOLLOW));
  lstat("l", &st);
  CHECK_EQ(st.st_mtim.tv_nsec, 7);
  int fd = open("f", O_RDONLY);
  CHECK_OK(futimens(fd, ts));
  struct utimbuf ub = {11, 22};
  CHECK_OK(utime("f", &ub));
  stat("f", &st);
  CHECK_EQ(st.st_mtime, 22);
  chmod("f", 0666);
  chmod(".", 0777);
  CHECK_EQ(IN_CHILD(setuid(1000); CHECK_OK(utimensat(AT_FDCWD, "f", NULL, 0)); CHECK_ERR(utimensat(AT_FDCWD, "f", ts, 0), EPERM)), 0);
  chmod("f", 0644);
  CHECK_EQ(IN_CHILD(setuid(1000); CHECK_ERR(utimensat(AT_FDCWD, "f", NULL, 0), EACCES)), 0);
}

static struct timespec mtime_of(const char *path, int change) {
  struct stat st;
  stat(path, &st);
  return change ? st.st_ctim : st.st_mtim;
}
static int later(struct timespec a, struct timespec b) { return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec); }
/* What changes mtime (M), ctime (C) of a file and of its directory, in that order. */
TEST(what_changes_times) {
  put_file("f", "data");
  int fd = open("f", O_RDWR);
#define TIMES(name, action) \
  do { \
    struct timespec fm = mtime_of("f", 0), fc = mtime_of("f", 1), dm = mtime_of(".", 0), dc = mtime_of(".", 1); \
    sleep_ms(25); \
    CHECK_OK(action); \
    say("  " name ": %s%s %s%s", later(mtime_of("f", 0), fm) ? "M" : "", later(mtime_of("f", 1), fc) ? "C" : "", \
        later(mtime_of(".", 0), dm) ? "M" : "", later(mtime_of(".", 1), dc) ? "C" : ""); \
  } while (0)
  TIMES("write", write(fd, "x", 1));
  TIMES("truncate", ftruncate(fd, 1));
  TIMES("chmod", fchmod(fd, 0600));
  TIMES("chown", fchown(fd, 0, 0));
  TIMES("link", link("f", "g"));
  TIMES("unlink of another name", unlink("g"));
  TIMES("rename of another", (put_file("h", ""), rename("h", "i")));
  TIMES("mkdir", mkdir("d", 0700));
  TIMES("rmdir", rmdir("d"));
  TIMES("stat", access("f", F_OK));
}

TEST(directory_links) {
  struct stat st;
  mkdir("d", 0755);
  mkdir("d/a", 0755);
  mkdir("d/b", 0755);
  put_file("d/f", "");
  stat("d", &st);
  CHECK(st.st_nlink == 4 || st.st_nlink == 1); /* file systems that do not count say 1 */
}

TEST(getdents) {
  mkdir("d", 0755);
  for (int i = 0; i < 300; i++) {
    char name[32];
    sprintf(name, "d/file-%03d", i);
    put_file(name, "");
  }
  mkdir("d/sub", 0755);
  symlink("x", "d/link");
  mkfifo("d/fifo", 0600);
  DIR *d = opendir("d");
  int dots = 0, files = 0, types[16] = {0};
  for (struct dirent *e; (e = readdir(d));) {
    dots += strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    files += strncmp(e->d_name, "file-", 5) == 0;
    types[e->d_type & 15]++;
    CHECK(e->d_ino != 0);
  }
  CHECK_EQ(dots, 2);
  CHECK_EQ(files, 300);
  CHECK_EQ(types[DT_DIR], 3);
  CHECK_EQ(types[DT_REG], 300);
  CHECK_EQ(types[DT_LNK], 1);
  CHECK_EQ(types[DT_FIFO], 1);
  rewinddir(d);
  files = 0;
  long mid = 0;
  char at_mid[256] = "";
  for (struct dirent *e; (e = readdir(d));) {
    if (++files == 150) {
      mid = telldir(d);
      struct dirent *next = readdir(d);
      strcpy(at_mid, next->d_name);
      files++;
    }
  }
  CHECK_EQ(files, 305);
  seekdir(d, mid);
  CHECK_STR(readdir(d)->d_name, at_mid);
  closedir(d);
  int fd = open("d", O_RDONLY);
  char buf[32];
  CHECK_ERR(syscall(SYS_getdents64, fd, buf, 10), EINVAL); /* no room for one */
  put_file("f", "");
  CHECK_ERR(syscall(SYS_getdents64, open("f", O_RDONLY), buf, sizeof buf), ENOTDIR);
}

/* All names in `path`, sorted, with their types; and each name's number must be the one that lstat tells. */
static const char *listing(const char *path) {
  static char text[256];
  struct dirent **names;
  int n = scandir(path, &names, NULL, alphasort);
  text[0] = 0;
  for (int i = 0; i < n; i++) {
    char full[600];
    struct stat st;
    snprintf(full, sizeof full, "%s/%s", path, names[i]->d_name);
    if (names[i]->d_name[0] != '.') {
      snprintf(text + strlen(text), sizeof text - strlen(text), "%s:%d ", names[i]->d_name, names[i]->d_type);
      CHECK_OK(lstat(full, &st));
      CHECK(st.st_ino == names[i]->d_ino);
    }
    free(names[i]);
  }
  if (n >= 0) free(names);
  return text;
}

/* A directory that was listed before is listed as it is now, whatever made the difference. */
TEST(listing_follows_changes) {
  mkdir("d", 0755);
  mkdir("e", 0755);
  CHECK_STR(listing("d"), "");
  put_file("d/a", "");
  CHECK_STR(listing("d"), "a:8 ");
  CHECK_STR(listing("d"), "a:8 ");
  CHECK_OK(symlink("a", "d/b"));
  CHECK_OK(mkdir("d/c", 0755));
  CHECK_STR(listing("d"), "a:8 b:10 c:4 ");
  CHECK_OK(mkfifo("d/f", 0600));
  CHECK_OK(link("d/a", "d/g"));
  CHECK_STR(listing("d"), "a:8 b:10 c:4 f:1 g:8 ");
  CHECK_OK(unlink("d/b"));
  CHECK_OK(rmdir("d/c"));
  CHECK_STR(listing("d"), "a:8 f:1 g:8 ");
  CHECK_OK(rename("d/f", "d/h"));
  CHECK_STR(listing("d"), "a:8 g:8 h:1 ");
  CHECK_STR(listing("e"), "");
  CHECK_OK(rename("d/h", "e/h"));
  CHECK_STR(listing("d"), "a:8 g:8 ");
  CHECK_STR(listing("e"), "h:1 ");
  CHECK_OK(rename("e/h", "d/a")); /* over another */
  CHECK_STR(listing("d"), "a:1 g:8 ");
  CHECK_OK(syscall(SYS_renameat2, AT_FDCWD, "d/a", AT_FDCWD, "d/g", 2)); /* RENAME_EXCHANGE */
  CHECK_STR(listing("d"), "a:8 g:1 ");
  CHECK_OK(unlink("d/g"));
  CHECK_OK(mkdir("d/g", 0755));
  CHECK_STR(listing("d"), "a:8 g:4 ");
  CHECK_OK(rename("d", "moved"));
  CHECK_STR(listing("moved"), "a:8 g:4 ");
  CHECK_OK(mkdir("d", 0755));
  CHECK_STR(listing("d"), "");
  DIR *open_before = opendir("moved");
  CHECK(readdir(open_before) != NULL);
  put_file("moved/new", "");
  rewinddir(open_before);
  int found = 0;
  for (struct dirent *e; (e = readdir(open_before));) found += strcmp(e->d_name, "new") == 0;
  CHECK_EQ(found, 1);
  closedir(open_before);
  pid_t pid = fork(); /* another process's changes too */
  if (pid == 0) {
    put_file("d/child", "");
    _exit(0);
  }
  waitpid(pid, NULL, 0);
  CHECK_STR(listing("d"), "child:8 ");
}

TEST(getdents_while_deleting) {
  mkdir("d", 0755);
  for (int i = 0; i < 200; i++) {
    char name[32];
    sprintf(name, "d/%d", i);
    put_file(name, "");
  }
  DIR *d = opendir("d");
  int removed = 0;
  for (struct dirent *e; (e = readdir(d));)
    if (e->d_name[0] != '.') removed += unlinkat(dirfd(d), e->d_name, 0) == 0;
  CHECK_EQ(removed, 200);
  closedir(d);
  CHECK_OK(rmdir("d"));
}

TEST(removed_directory) {
  mkdir("d", 0755);
  DIR *d = opendir("d");
  rmdir("d");
  CHECK(readdir(d) == NULL);
  struct stat st;
  CHECK_OK(fstat(dirfd(d), &st));
  CHECK_EQ(st.st_nlink, 0);
}

TEST(statfs_call) {
  struct statfs s;
  CHECK_OK(statfs("/proc", &s));
  CHECK_EQ(s.f_type, 0x9fa0);
  CHECK_OK(statfs("/dev/shm", &s));
  CHECK_EQ(s.f_type, 0x01021994);
  CHECK_OK(statfs(".", &s));
  CHECK_EQ(s.f_namelen, 255);
  CHECK(s.f_bsize >= 512 && s.f_blocks > 0);
  CHECK_ERR(statfs("missing", &s), ENOENT);
  CHECK_ERR(fstatfs(77, &s), EBADF);
}

TEST(umask_rules) {
  CHECK_EQ(umask(0777), 022);
  CHECK_EQ(umask(0), 0777);
  close(open("a", O_CREAT | O_WRONLY, 07777));
  umask(0137);
  close(open("b", O_CREAT | O_WRONLY, 0777));
  mkdir("c", 0777);
  mkfifo("p", 0777);
  struct stat st;
  const char *names[] = {"a", "b", "c", "p"};
  for (int i = 0; i < 4; i++) {
    stat(names[i], &st);
    say("  %s %o", names[i], st.st_mode);
  }
}

TEST(blocks) {
  struct stat st;
  int fd = open("f", O_CREAT | O_RDWR, 0600);
  CHECK_OK(ftruncate(fd, 1 << 20));
  fstat(fd, &st);
  CHECK_EQ(st.st_size, 1 << 20);
  CHECK(st.st_blocks < 100); /* sparse */
  CHECK(st.st_blksize >= 512);
}
