/*
 * Connections of mounts to the host, each by a serial port of its own, with threads that carry messages between that and
 * the kernel's client; of the messages nothing but their lengths is looked at. By FUSE the kernel's end is /dev/fuse, which
 * gives a request at a time and takes an answer at a time. By 9P it cannot be the port itself (virtio_console has no
 * read_iter), so mount(2) gets two pipes, which cost less than a socketpair.
 *
 * Threads, pipes and the first FUSE mounts are made before the VM is saved: an emulated CPU translates what it takes to make
 * them at each start otherwise. The first port has a second mount, for the lower layer of an overlay that is mounted by
 * then, too (spare.c): until the port is asked for, what that needs to know is answered here.
 *
 * It is a process of its own. Were it pid 1's loop, it would wait for itself: sendfile(2) from such a file into a pipe holds the
 * pipe's lock while it waits for the server, and pid 1, about to read that pipe, waits for the lock.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "relay.h"

enum {
	RELAY_BUFFER = 131072,
	/* The largest FUSE message: 512 KiB of data with what goes in front (gofer/fuse/wire.ts). */
	FUSE_BUFFER = (512 << 10) + 4096 + 128,
	FUSE_HEADER = 16,
	INIT_LENGTH = 256, /* at most: 104 so far */
	MAX_RELAYS = 64,
	PATIENCE_MS = 5000, /* for the host's end of a port */
};

/*
 * Two threads for each mount, one for each way, which block in their reads: emulated, every call counts, and a loop over
 * poll(2) makes a third more of them.
 */
struct relay {
	int number, port;
	int in, out; /* to the kernel's client, and from it; -1: not made yet. FUSE: the same */
	int detached; /* the FUSE mount that nobody has taken yet, and its device; else -1 */
	int device;
	bool mounted, fuse, overlaid, given; /* given: pid 1 has the mount */
	sem_t begin[2]; /* what the threads wait for: inward, outward */
	pthread_t inward, outward;
	/* The mount below an overlay: device, or -1; the thread that reads it, from the start; whether it is the one in use. */
	int lower_device;
	pthread_t lower;
	atomic_bool lower_used;
	/* What the kernel said there first, which the host has not heard. */
	unsigned char init[INIT_LENGTH];
	size_t init_length;
	/* One way has ended, so the other has to; and the inward one is past its last read. */
	atomic_bool stopping, inward_ended;
	/* Of the message that the port is giving. */
	unsigned char header[4];
	unsigned header_length;
	uint32_t missing;
	unsigned char to_host[FUSE_BUFFER], to_kernel[FUSE_BUFFER];
};

static struct relay *relays[MAX_RELAYS];
static pthread_mutex_t relays_lock = PTHREAD_MUTEX_INITIALIZER;
/* The port is found anew for the next mount: it may have been taken out and another put in by its name. */
static void forget(struct relay *r)
{
	pthread_mutex_lock(&relays_lock);
	relays[r->number] = NULL;
	pthread_mutex_unlock(&relays_lock);
	close(r->port);
	free(r);
}

static bool write_all(int to, const unsigned char *bytes, size_t length)
{
	while (length) {
		ssize_t n = write(to, bytes, length);
		if (n <= 0)
			return false;
		bytes += n;
		length -= n;
	}
	return true;
}

/*
 * Follows the messages that come from the port: true after the last byte of one. The reader behind the pipe is to be woken
 * once for a message, of which a read of the port gives a piece.
 */
static bool ends_message(struct relay *r, const unsigned char *bytes, size_t length)
{
	while (length) {
		if (r->header_length < 4) {
			r->header[r->header_length++] = *bytes++;
			length--;
			if (r->header_length < 4)
				continue;
			const unsigned char *h = r->header;
			uint32_t size = h[0] | h[1] << 8 | h[2] << 16 | (uint32_t)h[3] << 24;
			r->missing = size < 4 ? 0 : size - 4;
		}
		uint32_t here = r->missing < length ? r->missing : length;
		bytes += here;
		length -= here;
		r->missing -= here;
		if (r->missing == 0)
			r->header_length = 0;
	}
	return r->header_length == 0;
}

static void woken(int signal)
{
	(void)signal;
}

/* Wakes a thread from a call that blocks; sent again and again, since it may be about to make it. */
static void prod(pthread_t thread)
{
	pthread_kill(thread, SIGUSR1);
	usleep(1000);
}

/* False: there is none any more. */
static bool wait_for_mount(struct relay *r, int way)
{
	while (sem_wait(&r->begin[way]))
		if (r->stopping)
			return false;
	return true;
}

/* A request, and so a read, may be given up while it is read. */
static ssize_t read_request(struct relay *r, int from)
{
	ssize_t n;

	do
		n = read(from, r->to_host, r->fuse ? FUSE_BUFFER : RELAY_BUFFER);
	while (n < 0 && r->fuse && !r->stopping && (errno == ENOENT || errno == EINTR));
	return n;
}

/* False: the host's end is gone. */
static bool carry_request(struct relay *r, size_t length)
{
	unsigned char out[FUSE_ANSWER];
	size_t answered = r->overlaid ? fuse_answer_overlay(r->to_host, length, out) : 0;

	if (!answered)
		return write_all(r->port, r->to_host, length);
	return write(r->out, out, answered) > 0 || errno == ENOENT;
}

static void stop_inward(struct relay *r)
{
	r->stopping = true;
	while (!r->inward_ended)
		prod(r->inward);
}

static void *outward(void *arg)
{
	struct relay *r = arg;
	ssize_t n;

	if (!wait_for_mount(r, 1))
		return NULL;
	while (!r->stopping && (n = read_request(r, r->out)) > 0 && carry_request(r, n))
		;
	stop_inward(r);
	return NULL;
}

/* The same for a lower layer, from before there is a host: then nobody has to be woken later. */
static void *lower_outward(void *arg)
{
	struct relay *r = arg;
	ssize_t n;

	while (!r->stopping && ((n = read(r->lower_device, r->to_host, FUSE_BUFFER)) > 0 || errno == ENOENT || errno == EINTR)) {
		unsigned char out[FUSE_ANSWER];
		if (n <= 0)
			continue;
		if (r->lower_used) {
			if (carry_request(r, n))
				continue;
			break;
		}
		if (fuse_is_init(r->to_host, n) && n <= INIT_LENGTH)
			memcpy(r->init, r->to_host, r->init_length = n);
		if (write(r->lower_device, out, fuse_answer_ahead(r->to_host, n, out)) < 0)
			return NULL;
	}
	if (r->lower_used)
		stop_inward(r);
	return NULL;
}

/* One write for each answer; one that nobody waits for any more is refused, and goes. */
static void carry_answers(struct relay *r)
{
	size_t have = 0;
	ssize_t n;

	while (!r->stopping && (n = read(r->port, r->to_kernel + have, FUSE_BUFFER - have)) > 0) {
		size_t at = 0;
		have += n;
		while (have - at >= 4) {
			const unsigned char *h = r->to_kernel + at;
			uint32_t size = h[0] | h[1] << 8 | h[2] << 16 | (uint32_t)h[3] << 24;
			if (size < FUSE_HEADER || size > FUSE_BUFFER)
				return;
			if (have - at < size)
				break;
			if (write(r->in, h, size) < 0 && errno == ENODEV)
				return;
			at += size;
		}
		have -= at;
		if (at && have)
			memmove(r->to_kernel, r->to_kernel + at, have);
	}
}

/* A port whose host end is closed reads 0 for ever: the server is gone, and so is the mount. */
static void *inward(void *arg)
{
	struct relay *r = arg;
	ssize_t n = 0;

	bool paired = !pthread_create(&r->outward, NULL, outward, r);
	wait_for_mount(r, 0);
	if (paired && r->fuse)
		carry_answers(r);
	while (paired && !r->fuse && !r->stopping) {
		size_t length = 0;
		bool whole = false;
		while (!whole && length < RELAY_BUFFER && (n = read(r->port, r->to_kernel + length, RELAY_BUFFER - length)) > 0) {
			whole = ends_message(r, r->to_kernel + length, n);
			length += n;
		}
		if (n <= 0 || !write_all(r->in, r->to_kernel, length))
			break;
	}
	r->stopping = true;
	r->inward_ended = true;
	while (paired && pthread_tryjoin_np(r->outward, NULL))
		prod(r->outward);
	while (r->lower_device >= 0 && pthread_tryjoin_np(r->lower, NULL))
		prod(r->lower);
	if (r->lower_device >= 0 && r->lower_device != r->in)
		close(r->lower_device);
	close(r->in);
	if (!r->fuse)
		close(r->out);
	forget(r);
	return NULL;
}

/* In the relay: 0 or an errno. */
static int start_threads(struct relay *r)
{
	if (sem_init(&r->begin[0], 0, 0) || sem_init(&r->begin[1], 0, 0) || pthread_create(&r->inward, NULL, inward, r))
		return ENOMEM;
	pthread_detach(r->inward);
	return 0;
}

static struct relay *new_relay(unsigned number)
{
	struct relay *r = calloc(1, sizeof *r);

	if (r) {
		r->number = number;
		r->in = r->out = r->detached = r->lower_device = -1;
	}
	return r;
}

/*
 * Before the VM may be saved: finding a port costs a start more than all the bytes that it will carry. `ours`: ends of the
 * pipes of the first ones. `mounts`: gets those of the first port, if there are any.
 */
static void open_ports(int ours[PREPARED][2], int mounts[2])
{
	DIR *dir = opendir(PORTS);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char name[64];
		unsigned number;
		if (!port_name(entry->d_name, name, sizeof name) || sscanf(name, "9p.%u", &number) != 1 ||
		    number >= MAX_RELAYS || relays[number])
			continue;
		struct relay *r = new_relay(number);
		if (!r)
			die("no memory");
		r->port = open_port(entry->d_name);
		/* A root; the others are files, most often. */
		if (number < PREPARED)
			fuse_make(number > 0, false, &r->device, &r->detached);
		if (number == 0 && r->detached >= 0 && !fuse_make(false, true, &r->lower_device, &mounts[1])) {
			mounts[0] = r->detached;
			r->detached = -1;
			r->given = true;
			if (pthread_create(&r->lower, NULL, lower_outward, r))
				die("no threads");
		}
		if (number < PREPARED) {
			r->in = ours[number][0];
			r->out = ours[number][1];
			if (start_threads(r))
				die("no threads");
		}
		relays[number] = r;
	}
	if (dir)
		closedir(dir);
}

/*
 * In the relay: 0 or an errno. Takes the pipes over; in -1: it has them. `mounted`: it is to be by FUSE, and the mount, of a
 * file or a folder, is left there, unless pid 1 has it.
 */
static int attach(const struct wish *wish, int in, int out, int *mounted)
{
	unsigned number = wish->number;
	struct relay *r;
	char name[16];
	int device, error;

	if (number >= MAX_RELAYS)
		return EINVAL;
	pthread_mutex_lock(&relays_lock);
	r = relays[number];
	bool busy = r && r->mounted;
	pthread_mutex_unlock(&relays_lock);
	if (busy)
		return EBUSY;
	if (!r) {
		if (in < 0 && !mounted)
			return ENODEV;
		if (!(r = new_relay(number)))
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
	fcntl(r->port, F_SETFL, 0);
	pthread_mutex_lock(&relays_lock);
	relays[number] = r;
	pthread_mutex_unlock(&relays_lock);
	bool started = r->in >= 0;
	bool lower = wish->overlaid == OVERLAID_AHEAD;
	if (mounted) {
		bool ready = (r->given || r->detached >= 0) && wish->is_file == (number > 0);
		if (lower)
			device = r->lower_device;
		else if (ready)
			*mounted = r->detached, device = r->device;
		else if ((error = -fuse_make(wish->is_file, wish->overlaid, &device, mounted)))
			return error;
		/* Pipes that were prepared stay, and serve nobody. */
		r->fuse = true;
		r->in = r->out = device;
	} else if (in >= 0) {
		r->in = in;
		r->out = out;
	}
	r->overlaid = wish->overlaid != NOT_OVERLAID;
	if (!started && start_threads(r)) {
		forget(r);
		return ENOMEM;
	}
	r->mounted = true;
	if (lower) {
		r->lower_used = true;
		write_all(r->port, r->init, r->init_length);
	}
	sem_post(&r->begin[0]);
	if (!lower)
		sem_post(&r->begin[1]);
	return 0;
}

static void hear(int from)
{
	struct wish wish;
	unsigned char answer = EPROTO;
	int ends[MAX_PASSED], mounted = -1, count = receive_fds(from, &wish, sizeof wish, ends);

	if (count < 0)
		_exit(0);
	if (count == 2)
		answer = attach(&wish, ends[0], ends[1], NULL);
	else if (count == 0)
		answer = attach(&wish, -1, -1, wish.fuse ? &mounted : NULL);
	for (int i = 0; answer && i < count; i++)
		close(ends[i]);
	pass_fds(from, &answer, 1, &mounted, mounted >= 0);
	if (mounted >= 0)
		close(mounted);
}

void relay_serve(int asked, int ours[PREPARED][2])
{
	int mounts[2] = { -1, -1 };

	/* No SA_RESTART: a call that blocks ends. */
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = woken }, NULL);
	open_ports(ours, mounts);
	own_memory();
	/* Answers the agent, which greets the host then. */
	pass_fds(asked, "", 1, mounts, mounts[1] >= 0 ? 2 : 0);
	for (int i = 0; i < 2; i++)
		if (mounts[i] >= 0)
			close(mounts[i]);
	for (;;)
		hear(asked);
}
