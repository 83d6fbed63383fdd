/*
 * Start of the VM and the poll loop: mounts what the kernel offers, loads the modules of the initramfs in their order,
 * opens the port, says hello, and serves. From the hello on the VM may be saved as a template: nothing of any container
 * is in it then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

static int port = -1;
/* Frames that the port has not taken. Bounded by what may be on its way: windows, and replies to requests. */
static unsigned char *outgoing;
static size_t outgoing_start, outgoing_length, outgoing_size;

static unsigned char incoming[4 + MAX_FRAME];
static size_t incoming_length;

void say(const char *format, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, format);
	int n = vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	if (n >= (int)sizeof line)
		n = sizeof line - 1;
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, line, n) < 0)
		dprintf(2, "%s", line);
	if (fd >= 0)
		close(fd);
}

void die(const char *what)
{
	say("<0>agent: %s: %s\n", what, strerror(errno));
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	int error = errno;

	if (fd >= 0)
		close(fd);
	errno = error;
	return ok;
}

/* Up to size - 1 bytes and a NUL. -1: cannot be read. */
long read_text(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t at = 0;
	ssize_t n = 0;

	while (fd >= 0 && at < size - 1 && (n = read(fd, out + at, size - 1 - at)) > 0)
		at += n;
	out[at] = 0;
	if (fd >= 0)
		close(fd);
	return fd < 0 || n < 0 ? -1 : (long)at;
}

static void flush_outgoing(void)
{
	while (outgoing_length) {
		size_t n = outgoing_length < 32768 ? outgoing_length : 32768;
		ssize_t done = write(port, outgoing + outgoing_start, n);
		if (done < 0)
			return;
		outgoing_start += done;
		outgoing_length -= done;
	}
	outgoing_start = 0;
}

void send_frame(struct writer *w)
{
	if (w->full)
		die("a frame does not fit its buffer");
	frame_end(w);
	if (outgoing_start + outgoing_length + w->length > outgoing_size) {
		memmove(outgoing, outgoing + outgoing_start, outgoing_length);
		outgoing_start = 0;
		if (outgoing_length + w->length > outgoing_size) {
			outgoing_size = (outgoing_length + w->length) * 2;
			outgoing = realloc(outgoing, outgoing_size);
			if (!outgoing)
				die("no memory");
		}
	}
	memcpy(outgoing + outgoing_start + outgoing_length, w->buffer, w->length);
	outgoing_length += w->length;
	flush_outgoing();
}

void reply(uint32_t seq, int error, const char *text)
{
	unsigned char buffer[4200];
	struct writer w;

	frame_begin(&w, buffer, sizeof buffer);
	write_array(&w, 5);
	write_u64(&w, MSG_REPLY);
	write_u64(&w, seq);
	write_u64(&w, error);
	write_bytes(&w, text, strnlen(text, 4000));
	write_array(&w, 0);
	send_frame(&w);
}

static void mount_or_die(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, data) && errno != EBUSY)
		die(target);
}

/* Those that a list in /modules names, in its order; a kernel with everything built in has no such folder. */
static void load_modules(const char *name)
{
	char list[4096], order[64];

	snprintf(order, sizeof order, "/modules/%s", name);
	if (read_text(order, list, sizeof list) < 0)
		return;
	for (char *line = strtok(list, "\n"); line; line = strtok(NULL, "\n")) {
		char path[300];
		snprintf(path, sizeof path, "/modules/%s", line);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			die(path);
		close(fd);
		unlink(path);
	}
}

/*
 * pivot_root(2) refuses the initramfs, so a tmpfs becomes the root and containers pivot away from that. The names of the
 * old one are gone with it.
 */
static void new_root(void)
{
	mkdir("/root", 0700);
	if (mount("agent", "/root", "tmpfs", MS_NOSUID | MS_NODEV, "mode=700,size=1m") || chdir("/root") ||
	    mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		die("cannot make a root");
	mount_or_die("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_die("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_die("dev", "/dev", "devtmpfs", MS_NOSUID, NULL);
	mount_or_die("cgroup", "/cg", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mkdir("/run", 0700);
	/* One at a time: a controller that the kernel lacks is not to keep the others away. */
	write_text("/cg/cgroup.subtree_control", "+memory");
	write_text("/cg/cgroup.subtree_control", "+pids");
	write_text("/cg/cgroup.subtree_control", "+cpu");
	/* Otherwise looked after twice a second. */
	write_text("/proc/sys/vm/compaction_proactiveness", "0");
}

void own_memory(void)
{
	extern char __data_start, _end;
	uintptr_t page = 4096, from = (uintptr_t)&__data_start & -page, to = ((uintptr_t)&_end + page - 1) & -page;
	uintptr_t stack = (uintptr_t)__builtin_frame_address(0) & -page;

	madvise((void *)from, to - from, MADV_POPULATE_WRITE);
	madvise((void *)(stack - 4 * page), 5 * page, MADV_POPULATE_WRITE);
}

static void hello(void)
{
	unsigned char buffer[64];
	struct writer w;

	frame_begin(&w, buffer, sizeof buffer);
	write_array(&w, 2);
	write_u64(&w, MSG_HELLO);
	write_u64(&w, AGENT_VERSION);
	send_frame(&w);
}

static void receive(void)
{
	for (;;) {
		ssize_t n = read(port, incoming + incoming_length, sizeof incoming - incoming_length);
		if (n <= 0)
			return;
		incoming_length += n;
		size_t at = 0;
		while (incoming_length - at >= 4) {
			const unsigned char *f = incoming + at;
			uint32_t length = f[0] | f[1] << 8 | f[2] << 16 | (uint32_t)f[3] << 24;
			if (length == 0 || length > MAX_FRAME)
				die("a frame of a wrong length");
			if (incoming_length - at < 4 + length)
				break;
			handle_frame(f + 4, length);
			at += 4 + length;
		}
		memmove(incoming, incoming + at, incoming_length - at);
		incoming_length -= at;
	}
}

static void __attribute__((noreturn)) loop(int signals, pid_t relay)
{
	static struct pollfd fds[2 + 5 * MAX_PROCESSES];
	struct signalfd_siginfo info;

	for (;;) {
		fds[0] = (struct pollfd){ port, POLLIN | (outgoing_length ? POLLOUT : 0), 0 };
		fds[1] = (struct pollfd){ signals, POLLIN, 0 };
		int count = processes_poll(fds, 2);
		if (poll(fds, count, -1) < 0)
			continue;
		if (fds[1].revents) {
			while (read(signals, &info, sizeof info) > 0)
				;
			reap(relay);
		}
		processes_serve();
		if (fds[0].revents & POLLOUT)
			flush_outgoing();
		if (fds[0].revents & POLLIN)
			receive();
		/* The host has closed its end (a template is being made, or the VM is about to go): do not spin. */
		if ((fds[0].revents & (POLLHUP | POLLIN)) == POLLHUP)
			usleep(2000);
	}
}

int main(void)
{
	sigset_t mask;

	mkdir("/proc", 0755), mkdir("/sys", 0755), mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	/* Below 3 there is room for children's stdio, which is nothing before it is something, and for nothing of ours. */
	int nothing = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(nothing, fd);
	if (nothing > 2)
		close(nothing);
	load_modules("order");
	/* What the kernel does not know of its command line is its init's environment. */
	if (getenv("share_modules"))
		load_modules(getenv("share_modules"));
	new_root();
	umask(0);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	int signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
	/* A port's name appears with a message of its own, shortly after the device. */
	for (int i = 0; i < 1000 && (port = find_port("agent")) < 0; i++)
		usleep(5000);
	network_start();
	if (port < 0 || signals < 0)
		die("no port named agent");
	pid_t relay = relay_start();
	if (relay < 0)
		die("no relay");
	control_start();
	spare_start();
	own_memory();
	hello();
	loop(signals, relay);
}
