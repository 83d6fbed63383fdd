/*
 * launch: prepares a process before Node starts in it. unshare(2), setns(2), the signal mask that threads inherit and
 * close_range(2) belong to a single-threaded process, which Node never is. It never forks: the pid that was spawned is
 * the pid that ends up running PROGRAM.
 *
 * usage: launch [OPTION...] [--] PROGRAM [ARG...]        (PROGRAM is a path; PATH is not searched)
 *
 *   --cgroup DIR            join: write own pid to DIR/cgroup.procs (repeat: one per v1 hierarchy)
 *   --netns PATH            enter an existing network namespace (a file such as /proc/PID/ns/net)
 *   --ipcns PATH  --utsns PATH                     the same for these
 *   --ns LIST               new namespaces, comma separated: mnt,ipc,uts,net,cgroup
 *                           (pid and user are refused: a thread cannot be created across pid namespaces)
 *   --propagation KIND      of the new mount namespace: private (default) or slave, recursively from /
 *   --loopback              bring up `lo` in the network namespace that is then current
 *   --keep-fd N[-M]         keep these descriptors (repeat). All others above 2 are closed, always; kept ones lose
 *                           FD_CLOEXEC
 *   --setsid                new session
 *   --pdeathsig N           signal when the spawner's thread dies; exits at once if it is gone already
 *   --block-sigchld         SIGCHLD blocked in all threads to come (for a signalfd)
 *   --default-signals       undo SIG_IGN and an inherited mask before anything else
 *   --oom-score-adj N       /proc/self/oom_score_adj
 *   --nofile N              RLIMIT_NOFILE, soft and hard; less where the host does not allow as much
 *   --no-core               RLIMIT_CORE 0
 *   --bounding-caps HEX     drop every other capability from the bounding set (root keeps just these through exec)
 *   --user UID:GID          become this user, without groups and capabilities
 *   --view PATH             (repeat; with --ns mnt) an empty root in which only these paths are there, read-only; see view.c
 *   --share N:ro|rw:PATH    (repeat; with --view) PATH there as /share/N, a file as /share/N/file; without what is mounted below
 *   --ambient-caps HEX      what a --user keeps of root's capabilities, through exec
 *   --no-new-privs
 *   --no-io-uring           io_uring_setup(2) fails with ENOSYS from here on, also in children: libuv makes rings that
 *                           nothing else turns off, and a ring is a way around seccomp filters
 *   --chdir DIR  --umask OCTAL  --argv0 NAME
 *   --clear-env  --env K=V  environment of PROGRAM (env may repeat; a later one wins)
 *
 * Exit codes, each with one line "launch: ..." on stderr: 125 usage, 126 a step failed, 127 PROGRAM cannot be run.
 * The steps happen in a fixed order, whatever the order of the options: signals, descriptors, cgroups, oom score,
 * limits, session, namespaces, view, capabilities, user, io_uring, environment, exec. Paths are opened before namespaces change.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "prepare.h"

int main(int argc, char **argv)
{
	const char *argv0;
	int program = prepare(argc, argv, &argv0, false);
	const char *path = argv[program];

	if (argv0)
		argv[program] = (char *)argv0;
	execv(path, argv + program);
	die(EXIT_EXEC, "cannot run %s: %s", path, strerror(errno));
}
