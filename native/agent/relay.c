/*
 * 9P connections: the kernel's client cannot use a virtio-serial port as its transport (virtio_console has no
 * read_iter), so mount(2) gets one end of a socketpair and this loop carries bytes between the other end and the port.
 * Each mount has a port and a connection of its own; nothing here looks into the messages.
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
	int port, local; /* local: -1 while there is no mount */
	struct pipe_buffer to_host, to_kernel;
	int slot; /* of `port` in the poll set; local is behind it */
};

static struct relay *relays[MAX_RELAYS];
static struct pollfd *polled;

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

int relay_open(int number)
{
	char name[16];
	int pair[2];
	struct relay *r = relays[number];

	if (!r) {
		if (!(r = calloc(1, sizeof *r)))
			return -ENOMEM;
		snprintf(name, sizeof name, "9p.%d", number);
		r->local = -1;
		r->port = find_port(name);
		if (r->port < 0) {
			free(r);
			return -ENODEV;
		}
		relays[number] = r;
	}
	if (r->local >= 0)
		return -EBUSY;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	r->to_host.length = r->to_kernel.length = 0;
	r->local = pair[0];
	return pair[1];
}

static void hang_up(struct relay *r)
{
	close(r->local);
	r->local = -1;
}

int relays_poll(struct pollfd *fds, int count)
{
	polled = fds;
	for (int i = 0; i < MAX_RELAYS; i++) {
		struct relay *r = relays[i];
		if (!r || r->local < 0)
			continue;
		r->slot = count;
		short port = (r->to_kernel.length ? 0 : POLLIN) | (r->to_host.length ? POLLOUT : 0);
		short local = (r->to_host.length ? 0 : POLLIN) | (r->to_kernel.length ? POLLOUT : 0);
		fds[count++] = (struct pollfd){ r->port, port, 0 };
		fds[count++] = (struct pollfd){ r->local, local, 0 };
	}
	return count;
}

/* Moves what is there. False: one side is gone. */
static bool carry(int from, int to, struct pipe_buffer *b)
{
	for (;;) {
		if (b->length == 0) {
			ssize_t n = read(from, b->bytes, sizeof b->bytes);
			if (n < 0)
				return errno == EAGAIN || errno == EINTR;
			if (n == 0)
				return false;
			b->start = 0;
			b->length = n;
		}
		ssize_t n = write(to, b->bytes + b->start, b->length);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		b->start += n;
		b->length -= n;
	}
}

void relays_serve(void)
{
	for (int i = 0; i < MAX_RELAYS; i++) {
		struct relay *r = relays[i];
		if (!r || r->local < 0)
			continue;
		short port = polled[r->slot].revents, local = polled[r->slot + 1].revents;
		if (!port && !local)
			continue;
		/* A port whose host end is closed reads 0 for ever: the server is gone, and so is the mount. */
		if (!carry(r->local, r->port, &r->to_host) || !carry(r->port, r->local, &r->to_kernel))
			hang_up(r);
	}
}
