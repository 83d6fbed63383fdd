/*
 * Connections of mounts to the host, each by a serial port of its own, with threads that carry messages between that and
 * the kernel's client; of the messages nothing but their lengths is looked at. By FUSE the kernel's end is /dev/fuse, which
 * gives a request at a time and takes an answer at a time. By 9P it cannot be the port itself (virtio_console has no
 * read_iter), so mount(2) gets two pipes, which cost less than a socketpair.
 *
 * Threads, pipes and the first FUSE mount are made before the VM is saved: an emulated CPU translates what it takes to make
 * them at each start otherwise.
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

enum {
	RELAY_BUFFER = 131072,
	/* The largest FUSE message: 512 KiB of data with what goes in front (gofer/fuse/wire.ts). */
	FUSE_BUFFER = (512 << 10) + 4096 + 128,
	FUSE_HEADER = 16,
	MAX_RELAYS = 64,
	PREPARED = 4, /* a root, and what Docker mounts over it */
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
	bool mounted, fuse;
	sem_t begin; /* what the threads wait for */
	pthread_t inward, outward;
	/* One way has ended, so the other has to; and the inward one is past its last read. */
	atomic_bool stopping, inward_ended;
	/* Of the message that the port is giving. */
	unsigned char header[4];
	unsigned header_length;
	uint32_t missing;
	unsigned char to_host[FUSE_BUFFER], to_kernel[FUSE_BUFFER];
};

/* What pid 1 asks for. */
struct wish {
	unsigned char number, fuse, is_file;
};

static struct relay *relays[MAX_RELAYS];
static pthread_mutex_t relays_lock = PTHREAD_MUTEX_INITIALIZER;
/* pid 1's end: a wish, perhaps with pipes, answered by 0 or an errno, perhaps with a mount. */
static int control = -1;
/* In pid 1: the kernel's ends of what was prepared; -1: taken. */
static int prepared[PREPARED][2];

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

static void wait_for_mount(struct relay *r)
{
	while (sem_wait(&r->begin))
		;
}

/* A request, and so a read, may be given up while it is read. */
static ssize_t read_request(struct relay *r)
{
	ssize_t n;

	do
		n = read(r->out, r->to_host, r->fuse ? FUSE_BUFFER : RELAY_BUFFER);
	while (n < 0 && r->fuse && !r->stopping && (errno == ENOENT || errno == EINTR));
	return n;
}

static void *outward(void *arg)
{
	struct relay *r = arg;
	ssize_t n;

	wait_for_mount(r);
	while (!r->stopping && (n = read_request(r)) > 0 && write_all(r->port, r->to_host, n))
		;
	r->stopping = true;
	while (!r->inward_ended)
		prod(r->inward);
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
	wait_for_mount(r);
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
	close(r->in);
	if (!r->fuse)
		close(r->out);
	forget(r);
	return NULL;
}

/* In the relay: 0 or an errno. */
static int start_threads(struct relay *r)
{
	if (sem_init(&r->begin, 0, 0) || pthread_create(&r->inward, NULL, inward, r))
		return ENOMEM;
	pthread_detach(r->inward);
	return 0;
}

/*
 * Before the VM may be saved: finding a port costs a start more than all the bytes that it will carry. `ours`: ends of the
 * pipes of the first ones.
 */
static void open_ports(int ours[PREPARED][2])
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
		r->number = number;
		r->in = r->out = r->detached = -1;
		r->port = open_port(entry->d_name);
		if (number == 0)
			fuse_make(false, &r->device, &r->detached);
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

/* What was prepared for the other protocol is of no use. */
static void become_fuse(struct relay *r, int device)
{
	if (r->in >= 0)
		close(r->in), close(r->out);
	r->fuse = true;
	r->in = r->out = device;
}

/*
 * In the relay: 0 or an errno. Takes the pipes over; in -1: it has them. `mounted`: it is to be by FUSE, and the mount, of a
 * file or a folder, is left there.
 */
static int attach(unsigned number, int in, int out, bool is_file, int *mounted)
{
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
		if (!(r = calloc(1, sizeof *r)))
			return ENOMEM;
		snprintf(name, sizeof name, "9p.%u", number);
		r->number = number;
		r->in = r->out = r->detached = -1;
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
	if (mounted) {
		if (!is_file)
			*mounted = r->detached, device = r->device;
		if (*mounted < 0 && (error = -fuse_make(is_file, &device, mounted)))
			return error;
		become_fuse(r, device);
	} else if (in >= 0) {
		r->in = in;
		r->out = out;
	}
	if (!started && start_threads(r)) {
		forget(r);
		return ENOMEM;
	}
	r->mounted = true;
	sem_post(&r->begin);
	sem_post(&r->begin);
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
		answer = attach(wish.number, ends[0], ends[1], false, NULL);
	else if (count == 0)
		answer = attach(wish.number, -1, -1, wish.is_file, wish.fuse ? &mounted : NULL);
	for (int i = 0; answer && i < count; i++)
		close(ends[i]);
	pass_fds(from, &answer, 1, &mounted, mounted >= 0);
	if (mounted >= 0)
		close(mounted);
}

/* Two pipes: what the kernel gets, and our ends. 0 or -errno. */
static int make_pipes(int theirs[2], int ours[2])
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC))
		return -errno;
	if (pipe2(out, O_CLOEXEC)) {
		int error = errno;
		close(in[0]);
		close(in[1]);
		return -error;
	}
	/* Room for a whole answer, where the limit allows: who fills a pipe has to sleep and be woken. */
	fcntl(in[1], F_SETPIPE_SZ, 1 << 20);
	theirs[0] = in[0], theirs[1] = out[1];
	ours[0] = in[1], ours[1] = out[0];
	return 0;
}

static void close_both(const int ends[2])
{
	close(ends[0]);
	close(ends[1]);
}

pid_t relay_start(void)
{
	int pair[2], ours[PREPARED][2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	for (int i = 0; i < PREPARED; i++)
		if (make_pipes(prepared[i], ours[i]))
			return -1;
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		for (int i = 0; i < PREPARED; i++)
			close_both(prepared[i]);
		write_text("/proc/self/oom_score_adj", "-1000");
		/* No SA_RESTART: a call that blocks ends. */
		sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = woken }, NULL);
		open_ports(ours);
		/* Answers the agent, which greets the host then. */
		send(pair[1], "", 1, MSG_NOSIGNAL);
		for (;;)
			hear(pair[1]);
	}
	close(pair[1]);
	for (int i = 0; i < PREPARED; i++)
		close_both(ours[i]);
	control = pair[0];
	char ready;
	return pid > 0 && recv(control, &ready, 1, 0) == 1 ? pid : -1;
}

/* In pid 1: whether it was there. A VM may have fewer ports than were prepared. */
static bool take_prepared(int number, int transport[2])
{
	struct wish wish = { .number = number };
	unsigned char answer = EIO;

	if (number >= PREPARED || prepared[number][0] < 0)
		return false;
	if (!pass_fds(control, &wish, sizeof wish, NULL, 0) || recv(control, &answer, 1, 0) != 1 || answer)
		return false;
	memcpy(transport, prepared[number], sizeof prepared[number]);
	prepared[number][0] = -1;
	return true;
}

int relay_open(int port, int transport[2])
{
	struct wish wish = { .number = port };
	unsigned char answer = EIO;
	int theirs[2], ours[2];

	if (take_prepared(port, transport))
		return 0;
	int error = make_pipes(theirs, ours);
	if (error)
		return error;
	if (!pass_fds(control, &wish, sizeof wish, ours, 2) || recv(control, &answer, 1, 0) != 1)
		answer = EIO;
	close_both(ours);
	if (answer) {
		close_both(theirs);
		return -answer;
	}
	transport[0] = theirs[0];
	transport[1] = theirs[1];
	return 0;
}

int relay_mount(int port, bool is_file, int *mounted)
{
	struct wish wish = { .number = port, .fuse = 1, .is_file = is_file };
	unsigned char answer = EIO;
	int fds[MAX_PASSED];

	if (!pass_fds(control, &wish, sizeof wish, NULL, 0) || receive_fds(control, &answer, 1, fds) != 1)
		return -(answer ? answer : EIO);
	*mounted = fds[0];
	return 0;
}
