/*
 * A container's first process, from clone(2) to exec(2): root file system, the OCI mounts, then the wait for `start`.
 * In mount and pid namespaces of its own; those of ipc and uts are its sandbox's, if it has one; the network is the VM's. Mount points are found with RESOLVE_IN_ROOT,
 * so a link in the image never leads out of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent.h"

const char *const mount_types[] = { "9p", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2", "cgroup2", "tmpfs" };

/* Where the root is put together, in the agent's own tmpfs. */
#define ROOT "/run/root"
#define LOWER "/run/lower"
#define UPPER "/run/upper"
#define SHARE "/run/share"
#define NO_DOMAIN "(none)" /* the kernel's own */

static int sync_fd, root_fd;

#define fail(format, ...) child_fail(sync_fd, errno, format ": %s", ##__VA_ARGS__, strerror(errno))

static int in_root(const char *path, int flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };

	return syscall(SYS_openat2, root_fd, path, &how, sizeof how);
}

/* O_PATH descriptor of a mount point, made where it is missing. */
static int mount_point(const char *path, bool is_file)
{
	char part[4096];
	int fd = in_root(path, O_PATH);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	for (size_t i = 1;; i++) {
		if (path[i] && path[i] != '/')
			continue;
		snprintf(part, sizeof part, "%.*s", (int)i, path);
		fd = in_root(part, O_PATH);
		if (fd < 0) {
			char *slash = strrchr(part, '/');
			const char *name = slash + 1;
			*slash = 0;
			int parent = in_root(*part ? part : "/", O_PATH | O_DIRECTORY);
			if (parent < 0)
				return -1;
			int made = is_file && !path[i] ? mknodat(parent, name, S_IFREG | 0644, 0) : mkdirat(parent, name, 0755);
			int error = errno;
			close(parent);
			if (made && error != EEXIST)
				return errno = error, -1;
			*slash = '/';
			fd = in_root(part, O_PATH);
		}
		if (fd < 0 || !path[i])
			return fd;
		close(fd);
	}
}

static const char *fd_path(int fd, char out[32])
{
	snprintf(out, 32, "/proc/self/fd/%d", fd);
	return out;
}

static void mount_9p(const struct container_order *o, int port, const char *aname, const char *cache, const char *source,
		     const char *target)
{
	char options[256];
	/* msize: half a mebibyte of data and the 24 bytes of a read's or write's header. */
	static const int none[2] = { -1, -1 };
	const int *fds = port >= 0 && port < 64 ? o->transport[port] : none;

	snprintf(options, sizeof options,
		 "trans=fd,rfdno=%d,wfdno=%d,version=9p2000.L,msize=524312,access=user,aname=%s,cache=%s", fds[0], fds[1], aname,
		 cache);
	if (mount(source, target, "9p", 0, options))
		fail("mounting %s from the gofer", source);
	close(fds[0]);
	close(fds[1]);
}

static int fuse_mount(const struct container_order *o, int port)
{
	return port >= 0 && port < 64 ? o->transport[port][0] : -1;
}

/* A detached mount to its place. Takes it. */
static void move_mount_to(int made, int point, const char *source, const char *destination)
{
	if (syscall(SYS_move_mount, made, "", point, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
		fail("mounting %s on %s", source, destination);
	close(made);
}

/* The folder of a mount in the VM's shared file system, which is mounted with the first of them. */
static void mount_share(const struct container_order *o, int port, const char *source, const char *target)
{
	static bool mounted;
	char path[64];
	bool virtiofs = o->shared_by == BY_VIRTIOFSD;

	mkdir(SHARE, 0755);
	if (!mounted && mount("share", SHARE, virtiofs ? "virtiofs" : "9p", 0,
			      virtiofs ? "" : "trans=virtio,version=9p2000.L,msize=524288,access=user,cache=mmap"))
		fail("shared files");
	mounted = true;
	snprintf(path, sizeof path, SHARE "/%d", port);
	if (mount(path, target, NULL, MS_BIND, NULL))
		fail("mounting %s from the shared files", source);
}

static void mount_files(const struct container_order *o, int port, const char *aname, const char *cache,
			const char *source, const char *target)
{
	if (o->shared_by == BY_FUSE) {
		int point = open(target, O_PATH | O_CLOEXEC);
		move_mount_to(fuse_mount(o, port), point, source, target);
		close(point);
	} else if (BY_GOFER(o))
		mount_9p(o, port, aname, cache, source, target);
	else
		mount_share(o, port, source, target);
}

/* Of LOWER. What was mounted before, for another lower layer, is covered. */
static bool mount_overlay(void)
{
	return !mount("upper", UPPER, "tmpfs", 0, "mode=755") && !mkdir(UPPER "/data", 0755) && !mkdir(UPPER "/work", 0755) &&
	       !mount("overlay", ROOT, "overlay", 0, "lowerdir=" LOWER ",upperdir=" UPPER "/data,workdir=" UPPER "/work");
}

static int overlay = -1; /* mounted ahead, on ROOT, or -1 */

static void mount_root(const struct container_order *o)
{
	bool ahead = o->root_overlay && overlay >= 0 && o->root_port == 0 && o->shared_by == BY_FUSE;

	if (!o->root_overlay) {
		mount_files(o, o->root_port, "0", "loose", "rootfs", ROOT);
	} else {
		/* Nobody sets what overlayfs, ACLs and SELinux would ask a message each for, for every file that is looked at. */
		if (!ahead)
			mount_files(o, o->root_port, "0", "loose,noxattr", "rootfs", LOWER);
		if (!ahead && !mount_overlay())
			fail("overlay");
		/* The new root has the attributes of the old one's directory. */
		struct stat st = { .st_mode = 0755 };
		stat(LOWER, &st);
		if (st.st_uid || st.st_gid)
			chown(ROOT, st.st_uid, st.st_gid);
		if ((st.st_mode & 07777) != 0755)
			chmod(ROOT, st.st_mode & 07777);
	}
	root_fd = ahead ? overlay : open(ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		fail("root");
}

int make_devices(int dev)
{
	static const struct { const char *name; unsigned major, minor; } nodes[] = {
		{ "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 },
	};
	static const char *const links[][2] = {
		{ "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
		{ "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" }, { "core", "/proc/kcore" },
	};
	int error = 0;

	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		if (mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)))
			error = errno;
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		symlinkat(links[i][1], dev, links[i][0]);
	mkdirat(dev, "pts", 0755), mkdirat(dev, "shm", 01777), mkdirat(dev, "mqueue", 0755);
	return error;
}

static void mount_one(const struct container_order *o, const struct mount_order *m)
{
	char at[32], aname[16];
	int fd = mount_point(m->destination, m->is_file), made = spare_mount(m);

	if (fd < 0)
		fail("mount point %s", m->destination);
	if (made >= 0) {
		move_mount_to(made, fd, m->source, m->destination);
		close(fd);
		return;
	}
	if (m->type == MOUNT_GOFER && o->shared_by == BY_FUSE) {
		move_mount_to(fuse_mount(o, m->port), fd, m->source, m->destination);
	} else if (m->type == MOUNT_GOFER) {
		char own[40];
		snprintf(own, sizeof own, "/run/mount%d", m->port);
		snprintf(aname, sizeof aname, "%s", m->options);
		mkdir(own, 0755);
		mount_files(o, m->port, aname, "mmap", m->source, own);
		/* v9fs takes every root for a directory, so a single file comes in one of its own. */
		if (m->is_file)
			strcat(own, "/file");
		if (mount(own, fd_path(fd, at), NULL, MS_BIND, NULL))
			fail("mounting %s on %s", m->source, m->destination);
	} else {
		const char *options = m->type == MOUNT_CGROUP ? "" : m->options;
		if (mount(m->source, fd_path(fd, at), mount_types[m->type], m->flags, options))
			fail("mounting %s (%s, %s) on %s", m->source, mount_types[m->type], options, m->destination);
	}
	close(fd);
	if (m->type != MOUNT_DEV && !(m->type == MOUNT_GOFER && m->flags))
		return;
	/* What was mounted lies over the point now. */
	fd = in_root(m->destination, O_PATH);
	if (fd < 0)
		fail("%s", m->destination);
	if (m->type == MOUNT_DEV) {
		if ((errno = make_devices(fd)))
			fail("device nodes");
	} else if (mount(NULL, fd_path(fd, at), NULL, MS_REMOUNT | MS_BIND | m->flags, NULL))
		fail("flags of %s", m->destination);
	close(fd);
}

static void cover(const char *path, bool readonly)
{
	struct stat st;

	if (stat(path, &st))
		return;
	if (readonly) {
		if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) ||
		    mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL))
			fail("readonlyPaths: %s", path);
	} else if (S_ISDIR(st.st_mode) ? mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0")
				       : mount("/dev/null", path, NULL, MS_BIND, NULL))
		fail("maskedPaths: %s", path);
}

static void set_sysctl(char *assignment)
{
	char path[512] = "/proc/sys/";
	char *value = strchr(assignment, '=');

	if (!value)
		return;
	*value++ = 0;
	size_t at = strlen(path);
	for (const char *c = assignment; *c && at < sizeof path - 1; c++)
		path[at++] = *c == '.' ? '/' : *c;
	path[at] = 0;
	if (!write_text(path, value))
		fail("sysctl %s", assignment);
}

static int pids_max = -1, memory_max = -1; /* opened ahead, or -1 */

static int limit_file(uint32_t id, const char *name)
{
	char path[128];

	snprintf(path, sizeof path, "/cg/%u/%s", id, name);
	return open(path, O_WRONLY | O_CLOEXEC);
}

/* `ahead`: its file, if it is open. */
static void set_limit(int ahead, uint32_t id, const char *name, const char *value)
{
	int fd = ahead >= 0 ? ahead : limit_file(id, name);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		fail("%s", name);
	if (ahead < 0)
		close(fd);
}

static void limit(const struct container_order *o)
{
	char text[32];

	snprintf(text, sizeof text, "%u", o->pids);
	if (o->pids)
		set_limit(pids_max, o->id, "pids.max", text);
	snprintf(text, sizeof text, "%lluK", (unsigned long long)o->memory_kib);
	if (o->memory_kib)
		set_limit(memory_max, o->id, "memory.max", text);
}

void container_prepare(uint32_t id, int sync)
{
	char path[128];

	sync_fd = sync;
	setsid();
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		fail("propagation");
	snprintf(path, sizeof path, "/cg/%u", id);
	mkdir(path, 0755);
	strcat(path, "/cgroup.procs");
	if (!write_text(path, "0") || unshare(CLONE_NEWCGROUP))
		fail("cgroup");
	if (!network_enter())
		fail("network");
	mkdir(ROOT, 0755), mkdir(LOWER, 0755), mkdir(UPPER, 0755);
}

int container_prepare_more(uint32_t id, int limits[2], int lower)
{
	limits[0] = pids_max = limit_file(id, "pids.max");
	limits[1] = memory_max = limit_file(id, "memory.max");
	int point = lower < 0 ? -1 : open(LOWER, O_PATH | O_CLOEXEC);
	if (point >= 0 && !syscall(SYS_move_mount, lower, "", point, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) &&
	    mount_overlay())
		overlay = open(ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (point >= 0)
		close(point);
	return overlay;
}

static void share_namespaces(pid_t sandbox)
{
	static const struct { const char *name; int flag; } kinds[] = { { "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS } };
	char path[64];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "/proc/%d/ns/%s", sandbox, kinds[i].name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, kinds[i].flag))
			fail("%s namespace of the sandbox", kinds[i].name);
		close(fd);
	}
}

void container_main(struct container_order *o, pid_t sandbox, int sync)
{
	char path[4096], go;
	bool wait = !o->at_once;

	limit(o);
	if (sandbox)
		share_namespaces(sandbox);
	mount_root(o);
	for (uint32_t i = 0; i < o->mount_count; i++)
		mount_one(o, &o->mounts[i]);
	if (!sandbox && (sethostname(o->hostname, strlen(o->hostname)) ||
			 (strcmp(o->domainname, NO_DOMAIN) && setdomainname(o->domainname, strlen(o->domainname)))))
		fail("hostname");
	if (chdir(ROOT) || syscall(SYS_pivot_root, ".", "."))
		fail("pivot_root");
	close(root_fd);
	for (uint32_t i = 0; i < o->sysctl_count; i++)
		set_sysctl(o->sysctl[i]);
	/* The container's /dev/null is needed for masking; the agent's tree is still below. */
	for (uint32_t i = 0; i < o->readonly_count; i++)
		cover(o->readonly[i], true);
	for (uint32_t i = 0; i < o->masked_count; i++)
		cover(o->masked[i], false);
	if (umount2(".", MNT_DETACH) || chdir("/"))
		fail("leaving the agent's tree");
	if (o->root_readonly && mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL))
		fail("read-only root");
	if (o->process.terminal) {
		int slave = pty_open(&o->process, sync);
		int console = open("/dev/console", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (console >= 0)
			close(console);
		char name[32];
		/* As runc: the terminal is the container's console. */
		mount(fd_path(slave, name), "/dev/console", NULL, MS_BIND, NULL);
		if (slave > 2)
			close(slave);
	}
	child_prepare(&o->process, sync, path, sizeof path);
	child_ready(sync, 1);
	if (wait && recv(sync, &go, 1, 0) != 1)
		_exit(0);
	child_exec(&o->process, sync, path);
}
