/*
 * host_spawn: starts a program with exactly the given descriptors as its 0, 1, 2, …; the environment is empty. C because
 * fork cannot be made from JavaScript; not Node's child_process, because that copies Node's page tables and loads the
 * network and stream modules first: 6 ms of each start.
 *
 * args: NUL-terminated strings one after the other, an empty one at the end; the first is also the path. Returns the pid
 * or -errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGS = 512, MAX_FDS = 1100 };

long host_spawn(const char *args, const int *fds, int count)
{
	char *argv[MAX_ARGS + 1], *const envp[] = { NULL };
	int argc = 0, copies[MAX_FDS], made = 0, error = 0;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;

	if (count > MAX_FDS)
		return -EMFILE;
	for (const char *arg = args; *arg; arg += strlen(arg) + 1) {
		if (argc == MAX_ARGS)
			return -E2BIG;
		argv[argc++] = (char *)arg;
	}
	argv[argc] = NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	/* Copies above all targets first: a source may be another's target. */
	for (; made < count && !error; made++) {
		copies[made] = fcntl(fds[made], F_DUPFD_CLOEXEC, count);
		if (copies[made] < 0) {
			error = errno;
			break;
		}
		error = posix_spawn_file_actions_adddup2(&actions, copies[made], made);
	}
	if (!error)
		error = posix_spawn(&pid, argv[0], &actions, &attr, argv, envp);
	while (made-- > 0)
		close(copies[made]);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return error ? -error : pid;
}
