/* Requests of the host, one function each. Everything about a running container goes by its cgroup, /cg/ID. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

enum { MAX_LISTED = 512, ENTROPY = 256 };

static int random_device = -1;
static bool awake;

/* What is opened ahead of all requests: when a VM is restored, its start does not wait for it. */
void control_start(void)
{
	random_device = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	last_capability();
}

/* Clock and randomness of a VM that may have been restored: before this nothing of a container runs. */
static void wake(uint32_t seq, struct reader *r)
{
	struct { struct rand_pool_info info; unsigned char bytes[ENTROPY]; } pool;
	struct timespec now = { .tv_sec = read_u32(r), .tv_nsec = read_int(r, 0, 999999999) };
	uint32_t length;
	const unsigned char *seed = read_bytes(r, ENTROPY, &length);
	int error = 0;

	if (!r->bad && length < 32)
		r->bad = true;
	if (!r->bad) {
		pool.info.entropy_count = length * 8;
		pool.info.buf_size = length;
		memcpy(pool.info.buf, seed, length);
		if (ioctl(random_device, RNDADDENTROPY, &pool) || ioctl(random_device, RNDRESEEDCRNG) ||
		    clock_settime(CLOCK_REALTIME, &now))
			error = errno;
		awake = !error;
		reply(seq, error, error ? "reseeding or clock" : "");
	}
}

static bool had_container;

/* What former containers have left: rmdir(2) spares those that have processes. */
static void sweep_cgroups(void)
{
	DIR *dir = opendir("/cg");
	struct dirent *entry;
	char path[64];

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof path, "/cg/%.32s", entry->d_name);
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
			rmdir(path);
	}
	if (dir)
		closedir(dir);
}

/* Whether the guest's kernel may keep something of it that the host has not got. */
static bool writes(const struct container_order *o)
{
	bool found = !o->root_overlay && !o->root_readonly;

	for (uint32_t i = 0; i < o->mount_count; i++)
		found |= o->mounts[i].type == MOUNT_GOFER && !(o->mounts[i].flags & MS_RDONLY);
	return found;
}

static void create(uint32_t seq, struct reader *r)
{
	static struct container_order o;
	int sync, error = 0;
	uint32_t handle = read_u32(r);
	const unsigned char *bytes = r->at;

	if (!read_container(r, &o))
		return;
	if (!awake) {
		reply(seq, EAGAIN, "it is not awake");
		container_order_free(&o);
		return;
	}
	struct process *sandbox = o.sandbox ? process_init(o.sandbox) : NULL;
	if (process_init(o.id) || (o.sandbox && (!sandbox || sandbox->exited)))
		error = sandbox || !o.sandbox ? EEXIST : ESRCH;
	if (had_container)
		sweep_cgroups();
	had_container = true;
	for (uint32_t i = 0; i <= o.mount_count && !error && BY_GOFER(&o); i++) {
		int port = i ? o.mounts[i - 1].port : o.root_port;
		enum overlaid overlaid = i || !o.root_overlay ? NOT_OVERLAID : spare_has_overlay(&o) ? OVERLAID_AHEAD : OVERLAID;
		if (port >= 0 && o.shared_by == BY_FUSE)
			error = -relay_mount(port, i && o.mounts[i - 1].is_file, overlaid, o.transport[port]);
		else if (port >= 0)
			error = -relay_open(port, o.transport[port]);
	}
	if (error) {
		reply(seq, error, error == ESRCH ? "the sandbox has ended" : "no connection for a mount");
	} else {
		unsigned long own = CLONE_NEWNS | CLONE_NEWPID | (sandbox ? 0 : CLONE_NEWIPC | CLONE_NEWUTS);
		int pid = spare_take(handle, seq, &o, bytes, r->end - bytes);
		if (pid == 0) {
			pid = process_begin(handle, o.id, seq, o.process.stdio, own, &sync);
			if (pid == 0) {
				container_prepare(o.id, sync);
				container_main(&o, sandbox ? sandbox->pid : 0, sync);
			}
		}
		if (pid < 0)
			reply(seq, -pid, "cannot start a process");
		else {
			struct process *p = process_by_handle(handle);
			p->writes = writes(&o);
			p->at_once = o.at_once;
		}
	}
	for (int i = 0; i < 64; i++)
		for (int end = 0; end < 2; end++)
			if (o.transport[i][end] >= 0)
				close(o.transport[i][end]);
	container_order_free(&o);
}

static void execute(uint32_t seq, struct reader *r)
{
	static struct process_order o;
	uint32_t container = read_u32(r), handle = read_u32(r);
	int sync;

	if (!read_process(r, &o))
		return;
	struct process *init = process_init(container);
	if (!init || init->exited) {
		reply(seq, ESRCH, "the container has ended");
	} else {
		pid_t init_pid = init->pid;
		int pid = process_begin(handle, container, seq, o.stdio, 0, &sync);
		if (pid == 0)
			join_main(init_pid, container, &o, sync);
		if (pid < 0)
			reply(seq, -pid, "cannot start a process");
	}
	process_order_free(&o);
}

/* Pids of a container's processes, as we see them. */
static int members(uint32_t container, pid_t *out)
{
	char path[64];
	static char text[16384];
	int count = 0;

	snprintf(path, sizeof path, "/cg/%u/cgroup.procs", container);
	if (read_text(path, text, sizeof text) < 0)
		return 0;
	for (char *line = strtok(text, "\n"); line && count < MAX_LISTED; line = strtok(NULL, "\n"))
		out[count++] = atoi(line);
	return count;
}

/* Value of a line `name:` of /proc/PID/status; of several numbers the last one. */
static long status_field(const char *status, const char *name)
{
	const char *line = strstr(status, name);
	long value = -1;

	if (!line)
		return -1;
	for (line += strlen(name); *line == '\t' || *line == ' ';) {
		char *end;
		value = strtol(line, &end, 10);
		if (end == line)
			break;
		line = end;
	}
	return value;
}

static long inner_pid(pid_t pid, const char *field)
{
	char path[64], text[4096];

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	return read_text(path, text, sizeof text) < 0 ? -1 : status_field(text, field);
}

/* By default, and whatever it is: 0 asks only. */
static bool ends_process(int sig)
{
	static const int harmless[] = { 0, SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU };

	for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
		if (sig == harmless[i])
			return false;
	return true;
}

static void signal_request(uint32_t seq, struct reader *r)
{
	static pid_t pids[MAX_LISTED];
	uint32_t container = read_u32(r), wanted = read_u32(r);
	int sig = read_int(r, 0, 64), target = read_int(r, TARGET_PROCESS, TARGET_ALL), found = 0;
	char path[64];

	if (r->bad)
		return;
	struct process *init = process_init(container);
	if (init && init->exited)
		init = NULL;
	if (target == TARGET_ALL && sig == SIGKILL) {
		snprintf(path, sizeof path, "/cg/%u/cgroup.kill", container);
		reply(seq, init && write_text(path, "1") ? 0 : ESRCH, "");
		return;
	}
	if (wanted == 1 && target == TARGET_PROCESS) {
		/* Before exec it is still ours, with signals ignored: a created container dies of what would kill it. */
		int send = init && !init->started && ends_process(sig) ? SIGKILL : sig;
		reply(seq, init && !kill(init->pid, send) ? 0 : ESRCH, "");
		return;
	}
	int count = members(container, pids);
	for (int i = 0; i < count; i++) {
		if (target != TARGET_ALL && inner_pid(pids[i], "NSpid:") != (long)wanted)
			continue;
		/* The one that stands for an exec'd process lives outside of the container's pid namespace. */
		if (target == TARGET_ALL && inner_pid(pids[i], "NSpid:") == pids[i])
			continue;
		found += !kill(target == TARGET_GROUP ? -getpgid(pids[i]) : pids[i], sig);
	}
	reply(seq, found ? 0 : ESRCH, "");
}

static void list_one(struct writer *w, pid_t pid, const char *status)
{
	char path[64], stat[1024] = "", command[1024] = "", state = '?';
	unsigned long utime = 0, stime = 0;
	unsigned long long start = 0;
	int tty = 0, ppid = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	read_text(path, stat, sizeof stat);
	char *after = strrchr(stat, ')');
	if (after)
		sscanf(after + 1, " %c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %llu", &state, &ppid,
		       &tty, &utime, &stime, &start);
	snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
	long n = read_text(path, command, sizeof command);
	for (long i = 0; i < n - 1; i++)
		if (!command[i])
			command[i] = ' ';
	if (n <= 0) {
		char *open = strchr(stat, '(');
		snprintf(command, sizeof command, "[%.*s]", open && after ? (int)(after - open - 1) : 0, open ? open + 1 : "");
	}
	struct timespec real, boot;
	clock_gettime(CLOCK_REALTIME, &real), clock_gettime(CLOCK_BOOTTIME, &boot);
	long parent = ppid ? inner_pid(ppid, "NSpid:") : 0;
	char tty_name[16] = "";
	if (tty >> 8 == 136)
		snprintf(tty_name, sizeof tty_name, "pts/%d", tty & 0xff);
	write_array(w, 9);
	write_u64(w, status_field(status, "NSpid:"));
	write_u64(w, parent == ppid || parent < 0 ? 0 : parent);
	long uid = 0;
	sscanf(strstr(status, "\nUid:") ? strstr(status, "\nUid:") : "", "\nUid: %*d %ld", &uid);
	write_u64(w, uid);
	write_bytes(w, &state, 1);
	write_u64(w, status_field(status, "\nThreads:"));
	write_u64(w, (utime + stime) * 10);
	write_u64(w, real.tv_sec - boot.tv_sec + start / 100);
	write_bytes(w, tty_name, strlen(tty_name));
	write_bytes(w, command, strlen(command));
}

static void list(uint32_t seq, struct reader *r)
{
	static unsigned char buffer[MAX_FRAME];
	static pid_t pids[MAX_LISTED];
	static unsigned char entries[MAX_FRAME / 2];
	struct writer w, e = { entries, sizeof entries, 0, false };
	uint32_t container = read_u32(r), shown = 0;
	char path[64], status[4096];

	if (r->bad)
		return;
	int count = members(container, pids);
	for (int i = 0; i < count && e.length < sizeof entries - 4096; i++) {
		snprintf(path, sizeof path, "/proc/%d/status", pids[i]);
		if (read_text(path, status, sizeof status) <= 0 || status_field(status, "NSpid:") == pids[i])
			continue;
		list_one(&e, pids[i], status);
		shown++;
	}
	frame_begin(&w, buffer, sizeof buffer);
	write_array(&w, 5);
	write_u64(&w, MSG_REPLY);
	write_u64(&w, seq);
	write_u64(&w, 0);
	write_bytes(&w, "", 0);
	write_array(&w, shown);
	memcpy(w.buffer + w.length, entries, e.length);
	w.length += e.length;
	send_frame(&w);
}

static void stats(uint32_t seq, struct reader *r)
{
	unsigned char buffer[256];
	uint32_t container = read_u32(r);
	unsigned long long user = 0, system = 0;
	char path[64], text[1024];
	static pid_t pids[MAX_LISTED];
	struct writer w;

	if (r->bad)
		return;
	snprintf(path, sizeof path, "/cg/%u/cpu.stat", container);
	if (read_text(path, text, sizeof text) > 0) {
		char *u = strstr(text, "user_usec "), *s = strstr(text, "system_usec ");
		user = u ? strtoull(u + 10, NULL, 10) : 0;
		system = s ? strtoull(s + 12, NULL, 10) : 0;
	}
	snprintf(path, sizeof path, "/cg/%u/pids.current", container);
	long tasks = read_text(path, text, sizeof text) > 0 ? atol(text) : members(container, pids);
	frame_begin(&w, buffer, sizeof buffer);
	write_array(&w, 5);
	write_u64(&w, MSG_REPLY);
	write_u64(&w, seq);
	write_u64(&w, 0);
	write_bytes(&w, "", 0);
	write_array(&w, 3);
	write_u64(&w, tasks);
	write_u64(&w, user);
	write_u64(&w, system);
	send_frame(&w);
}

static void set_file(uint32_t seq, uint32_t container, const char *file, const char *value)
{
	char path[96];

	snprintf(path, sizeof path, "/cg/%u/%s", container, file);
	reply(seq, write_text(path, value) ? 0 : errno, file);
}

static void update(uint32_t seq, struct reader *r)
{
	uint32_t container = read_u32(r);
	bool memory = read_bool(r);
	uint32_t value = read_u32(r);
	char text[32] = "max";

	if (r->bad)
		return;
	if (value)
		snprintf(text, sizeof text, memory ? "%uK" : "%u", value);
	set_file(seq, container, memory ? "memory.max" : "pids.max", text);
}

static void dispatch(uint32_t kind, struct reader *r)
{
	uint32_t length, handle, seq = 0;
	const unsigned char *bytes;

	if (kind != MSG_INPUT && kind != MSG_CREDIT && kind != MSG_RESIZE && kind != MSG_CLOSE)
		seq = read_u32(r);
	switch (kind) {
	case MSG_WAKE: wake(seq, r); return;
	case MSG_CREATE: create(seq, r); return;
	case MSG_EXEC: execute(seq, r); return;
	case MSG_SIGNAL: signal_request(seq, r); return;
	case MSG_PROCESSES: list(seq, r); return;
	case MSG_STATS: stats(seq, r); return;
	case MSG_UPDATE: update(seq, r); return;
	case MSG_START:
		handle = read_u32(r);
		if (!r->bad)
			process_start(seq, handle);
		return;
	case MSG_INPUT:
		handle = read_u32(r);
		bytes = read_bytes(r, WINDOW, &length);
		if (!r->bad)
			process_input(handle, bytes, length);
		return;
	case MSG_CREDIT: {
		handle = read_u32(r);
		uint32_t stream = read_u32(r), count = read_u32(r);
		if (!r->bad)
			process_credit(handle, stream, count);
		return;
	}
	case MSG_CLOSE: {
		handle = read_u32(r);
		uint32_t stream = read_u32(r);
		if (!r->bad)
			process_close(handle, stream);
		return;
	}
	case MSG_RESIZE: {
		handle = read_u32(r);
		uint32_t rows = read_int(r, 0, 65535), cols = read_int(r, 0, 65535);
		if (!r->bad)
			process_resize(handle, rows, cols);
		return;
	}
	case MSG_FREEZE: {
		uint32_t container = read_u32(r);
		bool on = read_bool(r);
		if (!r->bad)
			set_file(seq, container, "cgroup.freeze", on ? "1" : "0");
		return;
	}
	case MSG_NETWORK: {
		static struct network_order o;
		if (!read_network(r, &o))
			return;
		int error = network_configure(&o);
		reply(seq, error, error ? "network" : "");
		return;
	}
	default: r->bad = true;
	}
}

/* A frame that is malformed is refused as a whole: with a reply where it came far enough to have a number. */
void handle_frame(const unsigned char *frame, uint32_t length)
{
	struct reader r = { frame, frame + length, false };

	read_array(&r, 24);
	uint32_t kind = read_u32(&r);
	struct reader at = r;
	if (!r.bad)
		dispatch(kind, &r);
	if (r.bad) {
		uint32_t seq = read_u32(&at);
		say("agent: malformed frame of kind %u\n", kind);
		if (!at.bad)
			reply(seq, EBADMSG, "malformed request");
	}
}
