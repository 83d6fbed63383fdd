/*
 * 9P connections: the kernel's client cannot use a virtio-serial port as its transport (virtio_console has no
 * read_iter), so mount(2) gets one end of a socketpair and this loop carries bytes between the other end and the port.
 * Each mount has a port and a connection of its own; nothing here looks into the messages.
 *
 * It is a process of its own. Were it pid 1's loop, it would wait for itself: sendfile(2) from a 9P file into a pipe holds the
 * pipe's lock while it waits for the server, and pid 1, about to read that pipe, waits for the lock.
 */
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

enum { RELAY_BUFFER = 131072, MAX_RELAYS = 64 };

/* Bytes that were read from one side and not yet written to the other. */
struct pipe_buffer {
	unsigned char bytes[RELAY_BUFFER];
	size_t start, length;
};

struct relay {
	int port, local;
	struct pipe_buffer to_host, to_kernel;
	int slot; /* of `port` in the poll set; local is behind it */
};

static struct relay *relays[MAX_RELAYS];
/* pid 1's end: a port's number with a descriptor, answered by 0 or an errno. */
static int control = -1;

int find_port(const char *name)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		char path[320], text[64] = "";
		snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
		if (read_text(path, text, sizeof text) <= 0)
			continue;
		text[strcspn(text, "\n")] = 0;
		if (strcmp(text, name))
			continue;
		snprintf(path, sizeof path, "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* In the relay: 0 or an errno. Takes `local` over. */
static int attach(unsigned number, int local)
{
	struct relay *r = number < MAX_RELAYS ? relays[number] : NULL;
	char name[16];

	if (number >= MAX_RELAYS)
		return EINVAL;
	if (r)
		return EBUSY;
	if (!(r = calloc(1, sizeof *r)))
		return ENOMEM;
	snprintf(name, sizeof name, "9p.%u", number);
	r->port = find_port(name);
	if (r->port < 0) {
		free(r);
		return ENODEV;
	}
	fcntl(local, F_SETFL, O_NONBLOCK);
	r->local = local;
	relays[number] = r;
	return 0;
}

static void hear(int from)
{
	unsigned char number = 255, answer;
	union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } space;
	struct iovec iov = { &number, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.bytes, .msg_controllen = sizeof space };
	ssize_t n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
	int local;

	if (n <= 0)
		_exit(0);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return;
	memcpy(&local, CMSG_DATA(c), sizeof local);
	answer = attach(number, local);
	if (answer)
		close(local);
	send(from, &answer, 1, MSG_NOSIGNAL);
}

/* The port is found anew for the next mount: it may have been taken out and another put in by its name. */
static void hang_up(int number)
{
	close(relays[number]->local);
	close(relays[number]->port);
	free(relays[number]);
	relays[number] = NULL;
}

/* Moves what is there. False: one side is gone. */
static bool carry(int from, int to, struct pipe_buffer *b)
{
	for (;;) {
		if (b->length == 0) {
			/* A port gives a page at a time; the reader behind the socket is to be woken once for all of them. */
			ssize_t n;
			b->start = 0;
			while (b->length < sizeof b->bytes &&
			       (n = read(from, b->bytes + b->length, sizeof b->bytes - b->length)) > 0)
				b->length += n;
			if (b->length == 0)
				return n < 0 && (errno == EAGAIN || errno == EINTR);
		}
		ssize_t n = write(to, b->bytes + b->start, b->length);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		b->start += n;
		b->length -= n;
	}
}

static void __attribute__((noreturn)) relay_loop(int from)
{
	static struct pollfd fds[1 + 2 * MAX_RELAYS];

	for (;;) {
		int count = 0;
		fds[count++] = (struct pollfd){ from, POLLIN, 0 };
		for (int i = 0; i < MAX_RELAYS; i++) {
			struct relay *r = relays[i];
			if (!r)
				continue;
			r->slot = count;
			short port = (r->to_kernel.length ? 0 : POLLIN) | (r->to_host.length ? POLLOUT : 0);
			short local = (r->to_host.length ? 0 : POLLIN) | (r->to_kernel.length ? POLLOUT : 0);
			fds[count++] = (struct pollfd){ r->port, port, 0 };
			fds[count++] = (struct pollfd){ r->local, local, 0 };
		}
		if (poll(fds, count, -1) < 0)
			continue;
		for (int i = 0; i < MAX_RELAYS; i++) {
			struct relay *r = relays[i];
			if (!r || (!fds[r->slot].revents && !fds[r->slot + 1].revents))
				continue;
			/* A port whose host end is closed reads 0 for ever: the server is gone, and so is the mount. */
			if (!carry(r->local, r->port, &r->to_host) || !carry(r->port, r->local, &r->to_kernel))
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
		relay_loop(pair[1]);
	}
	close(pair[1]);
	control = pair[0];
	return pid;
}

int relay_open(int port)
{
	unsigned char number = port, answer = EIO;
	int pair[2];
	union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } space = { 0 };
	struct iovec iov = { &number, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.bytes, .msg_controllen = sizeof space };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pair[0], sizeof(int));
	if (sendmsg(control, &m, MSG_NOSIGNAL) != 1 || recv(control, &answer, 1, 0) != 1)
		answer = EIO;
	close(pair[0]);
	if (answer) {
		close(pair[1]);
		return -answer;
	}
	return pair[1];
}
