/* exec: a further process in a container, by its init's namespaces. It has two steps, as a process cannot change its own
 * pid namespace: the first joins, the second is its sibling inside. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

void join_main(pid_t init, uint32_t container, struct process_order *o, int sync)
{
	static const struct { const char *name; int flag; } kinds[] = {
		{ "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS }, { "pid", CLONE_NEWPID }, { "cgroup", CLONE_NEWCGROUP },
		{ "mnt", CLONE_NEWNS },
	};
	char path[4096];
	int fds[5], root;

	snprintf(path, sizeof path, "/cg/%u/cgroup.procs", container);
	if (!write_text(path, "0"))
		child_fail(sync, errno, "cannot enter the container's cgroup: %s", strerror(errno));
	for (int i = 0; i < 5; i++) {
		snprintf(path, sizeof path, "/proc/%d/ns/%s", init, kinds[i].name);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
	}
	snprintf(path, sizeof path, "/proc/%d/root", init);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!network_enter())
		child_fail(sync, errno, "network: %s", strerror(errno));
	for (int i = 0; i < 5; i++)
		if (fds[i] < 0 || setns(fds[i], kinds[i].flag))
			child_fail(sync, ESRCH, "cannot enter the container: it has ended");
	if (root < 0 || fchdir(root) || chroot(".") || chdir("/"))
		child_fail(sync, errno, "cannot enter the container's root: %s", strerror(errno));
	struct clone_args args = { .exit_signal = SIGCHLD };
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0)
		child_fail(sync, errno, "fork: %s", strerror(errno));
	if (pid > 0) {
		/* Stands for it towards pid 1: ends as it ends. */
		int status = 0;
		close(sync);
		for (int fd = 0; fd < 3; fd++)
			close(fd);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFSIGNALED(status)) {
			signal(WTERMSIG(status), SIG_DFL);
			sigset_t all;
			sigemptyset(&all);
			sigprocmask(SIG_SETMASK, &all, NULL);
			kill(getpid(), WTERMSIG(status));
			_exit(128 + WTERMSIG(status));
		}
		_exit(WEXITSTATUS(status));
	}
	setsid();
	if (o->terminal) {
		int slave = pty_open(o, sync);
		if (slave > 2)
			close(slave);
	}
	child_prepare(o, sync, path, sizeof path);
	child_ready(sync, getpid());
	child_exec(o, sync, path);
}
