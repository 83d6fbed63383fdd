/*
 * The zygote: the process that every guest process is a copy of. From vfork to the stub's first instruction: without
 * files, limits, privileges and namespaces of its own kind; whoever starts it (ptrace.c) holds it with ptrace.
 *
 * In C because it runs in Node's memory: raw system calls only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "zygote.h"

/* The sandbox's user and group: the zygote's from its start, the sentry's own once it is confined. */
static int stub_id = 65534;

void pt_set_stub_id(int id)
{
	stub_id = id;
}

struct zygote_arg {
	int stub_fd;
	int namespaces;
	int wake_fd, control_fd, arena_fd; /* systrap's, else -1 */
	int nice;			   /* the guest's; ours may be better */
};

/*
 * Runs in a vfork child: shares memory with Node, so only raw calls, no libc state. glibc's setxid wrappers would
 * signal Node's threads.
 */
static int zygote_main(void *p)
{
	static char *const argv[] = { "tssandbox-stub", NULL };
	static char *const envp[] = { NULL };
	const struct zygote_arg *arg = p;
	struct rlimit zero = { 0, 0 }, inf = { RLIM_INFINITY, RLIM_INFINITY }, files = { 16, 16 };
	sigset_t none;

	if (arg->namespaces) {
		if (syscall(SYS_mount, "none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		    syscall(SYS_mount, "none", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=555") == 0)
			if (syscall(SYS_chroot, "/tmp") != 0)
				return 1;
		syscall(SYS_chdir, "/");
	}
	syscall(SYS_setsid);
	syscall(SYS_setpriority, PRIO_PROCESS, 0, arg->nice);
	/* Above everything that is in use first, so that none of the copies is overwritten. */
	syscall(SYS_dup3, arg->stub_fd, 1003, O_CLOEXEC);
	if (arg->wake_fd >= 0) {
		syscall(SYS_dup3, arg->wake_fd, 1006, 0);
		syscall(SYS_dup3, arg->control_fd, 1007, 0);
		syscall(SYS_dup3, arg->arena_fd, 1008, 0);
		for (int fd = 6; fd <= 8; fd++)
			syscall(SYS_dup2, 1000 + fd, fd);
	}
	syscall(SYS_dup3, 1003, 3, O_CLOEXEC);
	syscall(SYS_close_range, 4, 5, 0);
	syscall(SYS_close_range, arg->wake_fd >= 0 ? 9 : 4, ~0U, 0);
	syscall(SYS_close, 0);
	syscall(SYS_close, 1);
	syscall(SYS_close, 2);
	syscall(SYS_prlimit64, 0, RLIMIT_CORE, &zero, NULL);
	syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, NULL);
	syscall(SYS_prlimit64, 0, RLIMIT_AS, &inf, NULL);
	syscall(SYS_prlimit64, 0, RLIMIT_DATA, &inf, NULL);
	syscall(SYS_prlimit64, 0, RLIMIT_CPU, &inf, NULL);
	syscall(SYS_prlimit64, 0, RLIMIT_NPROC, &inf, NULL);
	if (arg->namespaces) {
		if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, stub_id, stub_id, stub_id) < 0 ||
		    syscall(SYS_setresuid, stub_id, stub_id, stub_id) < 0)
			return 1;
	}
	syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	syscall(SYS_personality, ADDR_NO_RANDOMIZE);
	memset(&none, 0, sizeof(none));
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
	syscall(SYS_execveat, 3, "", argv, envp, AT_EMPTY_PATH);
	return 1;
}

pid_t zygote_start(int stub_fd, int wake_fd, int control_fd, int arena_fd, int nice)
{
	static char stack[65536] __attribute__((aligned(64)));
	struct zygote_arg arg = { stub_fd, 1, wake_fd, control_fd, arena_fd, nice };
	int ns = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
	int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
	pid_t pid = clone(zygote_main, stack + sizeof(stack), flags | ns, &arg);

	if (pid < 0) {
		arg.namespaces = 0;
		pid = clone(zygote_main, stack + sizeof(stack), flags, &arg);
	}
	return pid < 0 ? -errno : pid;
}
