/*
 * 9P connections: the kernel's client cannot use a virtio-serial port as its transport (virtio_console has no
 * read_iter), so mount(2) gets two pipes, which cost less than a socketpair, and this loop carries bytes between them and
 * the port. Each mount has a port and pipes of its own; nothing here looks into the messages.
 *
 * It is a process of its own. Were it pid 1's loop, it would wait for itself: sendfile(2) from a 9P file into a pipe holds the
 * pipe's lock while it waits for the server, and pid 1, about to read that pipe, waits for the lock.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

enum {
	RELAY_BUFFER = 131072,
	MAX_RELAYS = 64,
	PORT_BUFFER = 4096, /* of virtio_console: a read gives one at most */
	PATIENCE_MS = 5000, /* for the host's end of a port */
};

/* Bytes that were read from one side and not yet written to the other. */
struct pipe_buffer {
	unsigned char bytes[RELAY_BUFFER];
	size_t start, length;
};

struct relay {
	int port;
	int in, out; /* to the kernel's client, and from it; -1: not mounted */
	struct pipe_buffer to_host, to_kernel;
	int slot; /* of `port` in the poll set; in and out are behind it */
};

static struct relay *relays[MAX_RELAYS];
/* pid 1's end: a port's number with a descriptor, answered by 0 or an errno. */
static int control = -1;

#define PORTS "/sys/class/virtio-ports"

static bool port_name(const char *device, char *out, size_t size)
{
	char path[320];

	snprintf(path, sizeof path, PORTS "/%s/name", device);
	if (read_text(path, out, size) <= 0)
		return false;
	out[strcspn(out, "\n")] = 0;
	return true;
}

static int open_port(const char *device)
{
	char path[320];

	snprintf(path, sizeof path, "/dev/%s", device);
	return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

int find_port(const char *name)
{
	DIR *dir = opendir(PORTS);
	struct dirent *entry;
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		char text[64];
		if (port_name(entry->d_name, text, sizeof text) && !strcmp(text, name))
			fd = open_port(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* Before the VM may be saved: finding a port costs a start more than all the bytes that it will carry. */
static void open_ports(void)
{
	DIR *dir = opendir(PORTS);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char name[64];
		unsigned number;
		if (!port_name(entry->d_name, name, sizeof name) || sscanf(name, "9p.%u", &number) != 1 ||
		    number >= MAX_RELAYS || relays[number])
			continue;
		struct relay *r = calloc(1, sizeof *r);
		if (!r)
			die("no memory");
		r->in = r->out = -1;
		r->port = open_port(entry->d_name);
		relays[number] = r;
	}
	if (dir)
		closedir(dir);
}

/* In the relay: 0 or an errno. Takes the pipes over. */
static int attach(unsigned number, int in, int out)
{
	struct relay *r = number < MAX_RELAYS ? relays[number] : NULL;
	char name[16];

	if (number >= MAX_RELAYS)
		return EINVAL;
	if (r && r->in >= 0)
		return EBUSY;
	if (!r) {
		if (!(r = calloc(1, sizeof *r)))
			return ENOMEM;
		snprintf(name, sizeof name, "9p.%u", number);
		r->port = find_port(name);
		if (r->port < 0) {
			free(r);
			return ENODEV;
		}
	}
	/* A restored VM hears of the host's end by an interrupt, and until then the port looks closed. */
	struct pollfd state = { r->port, POLLOUT, 0 };
	for (int ms = 0; poll(&state, 1, 0) > 0 && state.revents & POLLHUP; ms++) {
		if (ms == PATIENCE_MS)
			break;
		usleep(1000);
	}
	fcntl(in, F_SETFL, O_NONBLOCK);
	fcntl(out, F_SETFL, O_NONBLOCK);
	r->in = in;
	r->out = out;
	relays[number] = r;
	return 0;
}

static void hear(int from)
{
	unsigned char number = 255, answer;
	union { char bytes[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } space;
	struct iovec iov = { &number, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.bytes, .msg_controllen = sizeof space };
	ssize_t n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
	int ends[2];

	if (n <= 0)
		_exit(0);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof ends))
		return;
	memcpy(ends, CMSG_DATA(c), sizeof ends);
	answer = attach(number, ends[0], ends[1]);
	if (answer) {
		close(ends[0]);
		close(ends[1]);
	}
	send(from, &answer, 1, MSG_NOSIGNAL);
}

/* The port is found anew for the next mount: it may have been taken out and another put in by its name. */
static void hang_up(int number)
{
	close(relays[number]->in);
	close(relays[number]->out);
	close(relays[number]->port);
	free(relays[number]);
	relays[number] = NULL;
}

/*
 * Moves what is there. `whole`: what a read gives when there is more. Each call counts: emulated, they are half of what a
 * message costs. False: one side is gone.
 */
static bool carry(int from, int to, struct pipe_buffer *b, size_t whole)
{
	for (;;) {
		if (b->length == 0) {
			/* The reader behind the pipe is to be woken once for all of a port's buffers. */
			ssize_t n;
			b->start = 0;
			do {
				n = read(from, b->bytes + b->length, sizeof b->bytes - b->length);
				if (n > 0)
					b->length += n;
			} while (n > 0 && n % whole == 0 && b->length < sizeof b->bytes);
			if (b->length == 0)
				return n < 0 && (errno == EAGAIN || errno == EINTR);
		}
		bool more = b->length == sizeof b->bytes;
		while (b->length) {
			ssize_t n = write(to, b->bytes + b->start, b->length);
			if (n < 0)
				return errno == EAGAIN || errno == EINTR;
			b->start += n;
			b->length -= n;
		}
		if (!more)
			return true;
	}
}

static void __attribute__((noreturn)) relay_loop(int from)
{
	static struct pollfd fds[1 + 3 * MAX_RELAYS];

	for (;;) {
		int count = 0;
		fds[count++] = (struct pollfd){ from, POLLIN, 0 };
		for (int i = 0; i < MAX_RELAYS; i++) {
			struct relay *r = relays[i];
			if (!r || r->in < 0)
				continue;
			r->slot = count;
			short port = (r->to_kernel.length ? 0 : POLLIN) | (r->to_host.length ? POLLOUT : 0);
			fds[count++] = (struct pollfd){ r->port, port, 0 };
			fds[count++] = (struct pollfd){ r->in, r->to_kernel.length ? POLLOUT : 0, 0 };
			fds[count++] = (struct pollfd){ r->out, r->to_host.length ? 0 : POLLIN, 0 };
		}
		if (poll(fds, count, -1) < 0)
			continue;
		for (int i = 0; i < MAX_RELAYS; i++) {
			struct relay *r = relays[i];
			if (!r || r->in < 0)
				continue;
			bool outward = fds[r->to_host.length ? r->slot : r->slot + 2].revents != 0;
			bool inward = fds[r->to_kernel.length ? r->slot + 1 : r->slot].revents != 0;
			/* A port whose host end is closed reads 0 for ever: the server is gone, and so is the mount. */
			if ((outward && !carry(r->out, r->port, &r->to_host, RELAY_BUFFER)) ||
			    (inward && !carry(r->port, r->in, &r->to_kernel, PORT_BUFFER)))
				hang_up(i);
		}
		if (fds[0].revents)
			hear(from);
	}
}

pid_t relay_start(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		write_text("/proc/self/oom_score_adj", "-1000");
		open_ports();
		/* Answers the agent, which greets the host then. */
		send(pair[1], "", 1, MSG_NOSIGNAL);
		relay_loop(pair[1]);
	}
	close(pair[1]);
	control = pair[0];
	char ready;
	return pid > 0 && recv(control, &ready, 1, 0) == 1 ? pid : -1;
}

int relay_open(int port, int transport[2])
{
	unsigned char number = port, answer = EIO;
	int in[2], out[2];
	union { char bytes[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } space = { 0 };
	struct iovec iov = { &number, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.bytes, .msg_controllen = sizeof space };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	if (pipe2(in, O_CLOEXEC))
		return -errno;
	if (pipe2(out, O_CLOEXEC)) {
		close(in[0]);
		close(in[1]);
		return -EMFILE;
	}
	/* Room for a whole answer, where the limit allows: who fills a pipe has to sleep and be woken. */
	fcntl(in[1], F_SETPIPE_SZ, 1 << 20);
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(c), (int[2]){ in[1], out[0] }, 2 * sizeof(int));
	if (sendmsg(control, &m, MSG_NOSIGNAL) != 1 || recv(control, &answer, 1, 0) != 1)
		answer = EIO;
	close(in[1]);
	close(out[0]);
	if (answer) {
		close(in[0]);
		close(out[1]);
		return -answer;
	}
	transport[0] = in[0];
	transport[1] = out[1];
	return 0;
}
