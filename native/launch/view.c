/*
 * A root of a process's own: an empty read-only tmpfs in which only the given paths are there, read-only but for device
 * nodes, and below /share what it is to serve. Needs a new mount namespace. The paths are opened before anything is covered, so they may lie anywhere.
 */
#define _GNU_SOURCE
#include "view.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_PATHS = 64 };
static const char STAGE[] = "/tmp";

/* Makes the directories above `path`. */
static int parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		int made = mkdir(path, 0755);
		*slash = '/';
		if (made && errno != EEXIST)
			return -1;
	}
	return 0;
}

static int show(const char *path, int fd, const struct stat *st)
{
	char at[PATH_MAX], source[32];
	unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | (S_ISCHR(st->st_mode) ? MS_NOEXEC : MS_RDONLY | MS_NODEV);

	if ((size_t)snprintf(at, sizeof at, "%s%s", STAGE, path) >= sizeof at)
		return errno = ENAMETOOLONG, -1;
	if (parents(at))
		return -1;
	if (S_ISLNK(st->st_mode)) {
		char target[PATH_MAX] = "";
		return readlinkat(fd, "", target, sizeof target - 1) < 0 ? -1 : symlink(target, at);
	}
	if (S_ISDIR(st->st_mode) ? mkdir(at, 0755) && errno != EEXIST : mknod(at, S_IFREG | 0444, 0))
		return -1;
	/* A /proc of its own, which does not show other users' processes: settings can be read. */
	if (!strcmp(path, "/proc") &&
	    !mount("proc", at, "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2"))
		return 0;
	snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
	return mount(source, at, NULL, MS_BIND, NULL) || mount(NULL, at, NULL, flags, NULL);
}

/* `share`: N:ro|rw:PATH, PATH being open as fd. */
static int show_share(const char *share, int fd)
{
	char at[PATH_MAX], source[32];
	struct stat st;
	int number = atoi(share);
	const char *mode = strchr(share, ':') + 1;
	unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (strncmp(mode, "rw", 2) ? MS_RDONLY : 0);

	snprintf(at, sizeof at, "%s/share/%d", STAGE, number);
	if (fstat(fd, &st) || (mkdir(at, 0755) && errno != EEXIST))
		return -1;
	if (!S_ISDIR(st.st_mode)) {
		strcat(at, "/file");
		if (mknod(at, S_IFREG | 0444, 0))
			return -1;
	}
	snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
	return mount(source, at, NULL, MS_BIND, NULL) || mount(NULL, at, NULL, flags, NULL);
}

const char *make_view(const char *const *paths, int count, const char *const *shares, int share_count)
{
	int fds[MAX_PATHS], share_fds[MAX_PATHS];
	struct stat st[MAX_PATHS];

	if (count > MAX_PATHS || share_count > MAX_PATHS)
		return errno = E2BIG, "view";
	for (int i = 0; i < share_count; i++) {
		const char *path = strchr(shares[i], '/');
		share_fds[i] = path ? open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
		if (share_fds[i] < 0)
			return shares[i];
	}
	for (int i = 0; i < count; i++) {
		fds[i] = open(paths[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fds[i] < 0 || fstat(fds[i], &st[i]))
			return paths[i];
	}
	if (mount("view", STAGE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m"))
		return "tmpfs";
	for (int i = 0; i < count; i++) {
		if (show(paths[i], fds[i], &st[i]))
			return paths[i];
		close(fds[i]);
	}
	if (share_count && mkdir("/tmp/share", 0755))
		return "share";
	for (int i = 0; i < share_count; i++) {
		if (show_share(shares[i], share_fds[i]))
			return shares[i];
		close(share_fds[i]);
	}
	if (mount(NULL, STAGE, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) ||
	    chdir(STAGE) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return "pivot_root";
	return NULL;
}
