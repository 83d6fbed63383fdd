/*
 * The first container's init, begun before the VM is saved: a process in namespaces and a cgroup of its own, holding the
 * mounts that most containers have, made but mounted nowhere. All of that is the same for every container, and costs a
 * restored VM most of its start, because an emulated CPU has to translate whatever it runs for the first time.
 *
 * It waits for the order of container SPARE_CONTAINER, which comes as the host sent it, in shared memory. Nobody but the
 * agent can reach it before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

/* Those of `tssandbox do`, then of `runc spec` and Docker what is different. Flags: MS_* below 16, where MOUNT_ATTR_* is the same. */
static struct made { uint32_t type, flags; const char *source, *options; int fd; } made[] = {
	{ MOUNT_PROC, 14, "proc", "", -1 },
	{ MOUNT_SYSFS, 14, "sysfs", "", -1 },
	{ MOUNT_DEV, 2, "devtmpfs", "mode=755", -1 },
	{ MOUNT_DEVPTS, 10, "devpts", "gid=5,mode=620,ptmxmode=666", -1 },
	{ MOUNT_TMPFS, 14, "tmpfs", "mode=1777", -1 },
	{ MOUNT_MQUEUE, 14, "mqueue", "", -1 },
	{ MOUNT_PROC, 0, "proc", "", -1 },
	{ MOUNT_SYSFS, 15, "sysfs", "", -1 },
	{ MOUNT_DEV, 2, "tmpfs", "mode=755,size=65536k", -1 },
	{ MOUNT_DEVPTS, 10, "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", -1 },
	{ MOUNT_TMPFS, 14, "shm", "mode=1777,size=65536k", -1 },
	{ MOUNT_TMPFS, 14, "shm", "mode=1777,size=67108864", -1 },
	{ MOUNT_CGROUP, 15, "cgroup", "", -1 },
};

enum {
	MADE = sizeof made / sizeof *made,
	/* Of the order, so much is there before it comes: most are smaller. */
	TOUCHED = 32768,
	PAGE = 4096,
};

static struct { pid_t pid; int sync, mounts, ours[3]; bool overlay; } spare = { 0, -1, -1, { -1, -1, -1 }, false };
static unsigned char *order; /* MAX_FRAME bytes, shared */

static int make(const struct made *m)
{
	char options[128];
	int context = syscall(SYS_fsopen, mount_types[m->type], FSOPEN_CLOEXEC);

	snprintf(options, sizeof options, "%s", m->options);
	syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", m->source, 0);
	bool taken = true;
	for (char *option = strtok(options, ","); option; option = strtok(NULL, ",")) {
		char *value = strchr(option, '=');
		if (value)
			*value++ = 0;
		int command = value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
		taken &= !syscall(SYS_fsconfig, context, command, option, value, 0);
	}
	int fd = -1;
	if (taken && !syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, m->flags);
	if (fd >= 0 && m->type == MOUNT_DEV && make_devices(fd))
		close(fd), fd = -1;
	close(context);
	return fd;
}

int spare_mount(const struct mount_order *m)
{
	for (int i = 0; i < MADE; i++) {
		const struct made *k = &made[i];
		if (k->fd < 0 || k->type != m->type || k->flags != m->flags || strcmp(k->source, m->source) ||
		    strcmp(k->options, m->options))
			continue;
		int fd = k->fd;
		made[i].fd = -1;
		return fd;
	}
	return -1;
}

/* The mount of this root has been with both sides from the start. */
static bool root_is_there(const struct container_order *o)
{
	return o->shared_by == BY_FUSE && o->root_port == 0 && relay_first_mount(true) >= 0;
}

bool spare_has_overlay(const struct container_order *o)
{
	return spare.pid && spare.overlay && o->id == SPARE_CONTAINER && !o->sandbox && root_is_there(o);
}

/* Descriptors that go along with an order: transports by port. */
static int listed(struct container_order *o, int **list)
{
	int count = 0;

	for (int port = 0; port < 64; port++)
		if ((port == o->root_port || o->transport[port][0] >= 0) && !(port == o->root_port && root_is_there(o))) {
			list[count++] = &o->transport[port][0];
			if (o->shared_by != BY_FUSE)
				list[count++] = &o->transport[port][1];
		}
	return count;
}

static void __attribute__((noreturn)) spare_main(int sync, const int stdio[3])
{
	static struct container_order o;
	int fds[MAX_PASSED], limits[2], *list[MAX_PASSED], held = 0;
	uint32_t length;

	container_prepare(SPARE_CONTAINER, sync);
	int overlay = container_prepare_more(SPARE_CONTAINER, limits, relay_first_mount(true));
	for (int i = 0; i < 2; i++)
		if (limits[i] >= 0)
			fds[held++] = limits[i];
	if (overlay >= 0)
		fds[held++] = overlay;
	for (int i = 0; i < MADE; i++)
		if ((made[i].fd = make(&made[i])) >= 0)
			fds[held++] = made[i].fd;
	for (int at = 0; at < TOUCHED; at += PAGE)
		(void)*(volatile unsigned char *)(order + at);
	signals_default();
	own_memory();
	pass_fds(sync, overlay >= 0 ? "O" : "M", 1, fds, held);
	int count = receive_fds(sync, &length, sizeof length, fds);
	struct reader r = { order, order + length, false };
	if (count < 0 || !read_container(&r, &o))
		_exit(0);
	for (uint32_t i = 0; i < o.mount_count; i++)
		if (o.mounts[i].port >= 0)
			o.transport[o.mounts[i].port][0] = 0;
	if (listed(&o, list) != count)
		_exit(0);
	for (int i = 0; i < count; i++)
		*list[i] = fds[i];
	if (root_is_there(&o))
		o.transport[0][0] = relay_first_mount(false);
	take_stdio(o.process.stdio, stdio);
	container_main(&o, 0, sync);
}

/*
 * Its mount, ipc and uts namespaces, or fewer: so that its end is not theirs, which is a wait for the host. Opened by a child
 * that enters them: what was looked up in /proc/PID has to be found and taken away at that process's end.
 */
static int hold_namespaces(pid_t pid, int held[3])
{
	static const char *const names[] = { "mnt", "ipc", "uts" };
	int pair[2], fds[MAX_PASSED], count = 0;
	char path[64], text;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return 0;
	pid_t child = fork();
	if (child == 0) {
		int process = syscall(SYS_pidfd_open, pid, 0);
		if (process < 0 || setns(process, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS))
			_exit(1);
		for (; count < 3; count++) {
			snprintf(path, sizeof path, "/proc/self/ns/%s", names[count]);
			if ((fds[count] = open(path, O_RDONLY | O_CLOEXEC)) < 0)
				break;
		}
		_exit(!pass_fds(pair[1], "", 1, fds, count));
	}
	close(pair[1]);
	count = child < 0 ? 0 : receive_fds(pair[0], &text, 1, fds);
	close(pair[0]);
	if (child > 0)
		waitpid(child, NULL, 0);
	for (int i = 0; i < count; i++)
		held[i] = fds[i];
	return count < 0 ? 0 : count;
}

/* A spare that cannot be had is none: containers then begin at the beginning. */
void spare_start(void)
{
	int pair[2], fds[MAX_PASSED], theirs[3], held[3];
	char ready;
	struct clone_args args = { .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS, .exit_signal = SIGCHLD };

	order = mmap(NULL, MAX_FRAME, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (order == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return;
	memset(order, 0, TOUCHED);
	for (int i = 0; i < 3; i++)
		if (stdio_pipe(i, &spare.ours[i], &theirs[i]))
			return;
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0) {
		close(pair[0]);
		for (int i = 0; i < 3; i++)
			close(spare.ours[i]);
		spare_main(pair[1], theirs);
	}
	close(pair[1]);
	for (int i = 0; i < 3; i++)
		close(theirs[i]);
	/* We hold it all, too, and pipes that are not wanted: what no container uses is then never taken down. */
	if (pid < 0 || receive_fds(pair[0], &ready, 1, fds) < 0 || (ready != 'M' && ready != 'O')) {
		say("agent: no spare container\n");
		close(pair[0]);
		return;
	}
	spare.overlay = ready == 'O';
	spare.pid = pid, spare.sync = pair[0];
	/* The others stay open: this is the sandbox, if there is one, and its end the VM's. */
	if (hold_namespaces(pid, held))
		spare.mounts = held[0];
}

int spare_take(uint32_t handle, uint32_t seq, struct container_order *o, const unsigned char *bytes, uint32_t length)
{
	int fds[MAX_PASSED], *list[MAX_PASSED];

	if (o->id != SPARE_CONTAINER || o->sandbox || !spare.pid)
		return 0;
	pid_t pid = spare.pid;
	spare.pid = 0;
	/* Files that come without transports: rare, and not worth a start of their own. */
	if (!BY_GOFER(o)) {
		kill(pid, SIGKILL);
		close(spare.sync);
		close(spare.mounts);
		return 0;
	}
	int error = process_adopt(handle, o->id, seq, o->process.stdio, pid, spare.sync, spare.mounts, spare.ours);
	if (error)
		return error;
	int count = listed(o, list);
	for (int i = 0; i < count; i++)
		fds[i] = *list[i];
	memcpy(order, bytes, length);
	/* Then its end is what is reported. */
	if (!pass_fds(spare.sync, &length, sizeof length, fds, count))
		kill(pid, SIGKILL);
	return pid;
}
