/*
 * A second process from this one, Node and all: its V8 has started, and what start-up touched is shared until written.
 * C because fork(2) and what follows it happen below JavaScript.
 *
 * The child has one thread: Node must run with --single-threaded, so that its others (a worker, the scheduler of delayed
 * tasks, the debugger's signal watcher) sleep and V8 never waits for them, and the child's JavaScript must never return to Node's
 * event loop.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../launch/prepare.h"

enum { MAX_ARGS = 256, MAX_FDS = 1100, FIRST_FD = 32 };

static int allow_fork(unsigned long from, unsigned long to)
{
	return madvise((void *)from, to - from, MADV_DOFORK);
}

static int replace(unsigned long from, unsigned long to)
{
	return mmap((void *)from, to - from, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
			       MAP_FAILED
		       ? -1
		       : 0;
}

/* Calls `each` for the mappings of this process with this name; "": private memory without a file ("[anon:…]" too). */
static int for_mappings(const char *name, int (*each)(unsigned long from, unsigned long to))
{
	char line[512], shared;
	unsigned long from, to;
	int failed = 0, at;
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps)
		return -1;
	while (!failed && fgets(line, sizeof line, maps)) {
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%lx-%lx %*3c%c %*x %*s %*u %n", &from, &to, &shared, &at) == 3 &&
		    (*name ? !strcmp(line + at, name) : shared == 'p' && (!line[at] || !strncmp(line + at, "[anon", 5))))
			failed = each(from, to);
	}
	fclose(maps);
	return failed;
}

/*
 * Calls `each` for every eventfd of this process. libuv's loops write to theirs when V8 posts a task, and abort when they
 * cannot: a child keeps the numbers, all below FIRST_FD.
 */
static int for_eventfds(int (*each)(int fd))
{
	DIR *dir = opendir("/proc/self/fd");
	int failed = 0;

	if (!dir)
		return -1;
	for (struct dirent *entry; !failed && (entry = readdir(dir));) {
		char path[300], link[32] = "";
		snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
		if (readlink(path, link, sizeof link - 1) > 0 && !strcmp(link, "anon_inode:[eventfd]"))
			failed = each(atoi(entry->d_name));
	}
	closedir(dir);
	return failed;
}

static int is_high(int fd)
{
	return fd >= FIRST_FD;
}

static char kept[FIRST_FD][4];
static int kept_count;

/* An own one: the parent's loop is not to be woken. */
static int renew(int fd)
{
	snprintf(kept[kept_count++], sizeof kept[0], "%d", fd);
	int fresh = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int failed = fresh < 0 || dup3(fresh, fd, O_CLOEXEC) < 0;

	close(fresh);
	return failed;
}

/* fork(2) into a session of its own. 0 in the child, the pid or -errno in the parent. */
long host_fork(void)
{
	/* V8 keeps its heap out of forks, which are usually followed by exec. */
	if (for_mappings("", allow_fork))
		return -EIO;
	if (for_eventfds(is_high))
		return -EMFILE;
	pid_t pid = fork();
	if (pid)
		return pid < 0 ? -errno : pid;
	/*
	 * libuv's io_uring rings are shared memory: a child that wrote to them could have the parent's loop make calls for
	 * it. Private memory takes their place, for what libuv may still write there.
	 */
	if (setsid() < 0 || for_mappings("anon_inode:[io_uring]", replace) || for_eventfds(renew))
		_exit(EXIT_STEP);
	return 0;
}

/*
 * In such a child: the first three of `fds` become 0, 1 and 2, the others FIRST_FD and on, then the steps that `args` asks
 * for (NUL-terminated strings one after the other, an empty one at the end: native/launch/launch.c's options). Comes back
 * only when all succeeded.
 */
void host_become(char *args, const int *fds, int count)
{
	char *argv[MAX_ARGS + 2 * FIRST_FD + 1] = { (char *)"launch" };
	int argc = 1, copies[MAX_FDS];
	const char *argv0;

	if (count > MAX_FDS)
		die(EXIT_USAGE, "too many descriptors");
	for (char *arg = args; *arg; arg += strlen(arg) + 1) {
		if (argc == MAX_ARGS)
			die(EXIT_USAGE, "too many options");
		argv[argc++] = arg;
	}
	/* Copies above all targets first: a source may be another's target. */
	for (int i = 0; i < count; i++)
		if ((copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_FD + count)) < 0)
			die(EXIT_STEP, "descriptor %d: %s", fds[i], strerror(errno));
	for (int i = 0; i < count; i++) {
		int target = i < 3 ? i : FIRST_FD + i - 3;
		if (dup2(copies[i], target) < 0)
			die(EXIT_STEP, "descriptor %d: %s", target, strerror(errno));
	}
	for (int i = 0; i < kept_count; i++) {
		argv[argc++] = (char *)"--keep-fd";
		argv[argc++] = kept[i];
	}
	prepare(argc, argv, &argv0, true);
}
