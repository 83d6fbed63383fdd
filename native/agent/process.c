/*
 * Processes that the host started: their pipes or terminal, credit for what is on its way, and how they end. An exit is
 * reported once, after everything that the process had written when it ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

struct process processes[MAX_PROCESSES];

/* Slots of a process in the poll set; -1: not polled. */
static struct { int sync, input, output[STREAMS]; } slots[MAX_PROCESSES];
static struct pollfd *polled;

struct process *process_by_handle(uint32_t handle)
{
	for (int i = 0; i < MAX_PROCESSES; i++)
		if (processes[i].used && processes[i].handle == handle)
			return &processes[i];
	return NULL;
}

struct process *process_init(uint32_t container)
{
	for (int i = 0; i < MAX_PROCESSES; i++)
		if (processes[i].used && processes[i].container == container && processes[i].inner == 1)
			return &processes[i];
	return NULL;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void release(struct process *p)
{
	if (p->output[TERMINAL] == p->input)
		p->input = -1;
	close_fd(&p->sync);
	close_fd(&p->mounts);
	close_fd(&p->input);
	for (int i = 0; i < STREAMS; i++)
		close_fd(&p->output[i]);
	free(p->pending);
	memset(p, 0, sizeof *p);
}

/*
 * In the child: its own descriptors 0, 1 and 2 where they are pipes or nothing. The others' and the far ends of its own go:
 * they would be gone with exec(2) only, which may be long in coming or never come, and a pipe ends with its last holder.
 */
void take_stdio(const uint32_t stdio[3], const int pipes[3])
{
	for (int i = 0; i < MAX_PROCESSES; i++) {
		struct process *p = &processes[i];
		if (!p->used)
			continue;
		close_fd(&p->sync);
		close_fd(&p->input);
		for (int s = 0; s < STREAMS; s++)
			close_fd(&p->output[s]);
	}
	/* Where there is none, ours is nothing already (init.c). */
	for (int i = 0; i < 3; i++)
		if (stdio[i] == STDIO_PIPE && pipes[i] != i)
			dup2(pipes[i], i), close(pipes[i]);
}

/* A place in the table. NULL: errno says why not. */
static struct process *claim(uint32_t handle, uint32_t container, uint32_t seq)
{
	struct process *p = NULL;

	for (int i = 0; i < MAX_PROCESSES && !p; i++)
		if (!processes[i].used)
			p = &processes[i];
	if (!p || process_by_handle(handle)) {
		errno = EAGAIN;
		return NULL;
	}
	*p = (struct process){ .used = true, .handle = handle, .container = container, .seq = seq, .sync = -1, .mounts = -1,
			       .input = -1, .output = { -1, -1, -1 }, .pending = malloc(WINDOW) };
	if (!p->pending) {
		release(p);
		errno = ENOMEM;
		return NULL;
	}
	return p;
}

static int *our_end(struct process *p, int i)
{
	return i == 0 ? &p->input : &p->output[i - 1];
}

int stdio_pipe(int i, int *ours, int *theirs)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC))
		return errno;
	*ours = pair[i == 0];
	*theirs = pair[i != 0];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	return 0;
}

int process_adopt(uint32_t handle, uint32_t container, uint32_t seq, const uint32_t stdio[3], pid_t pid, int sync,
		  int mounts, const int ours[3])
{
	struct process *p = claim(handle, container, seq);

	if (!p)
		return -errno;
	p->pid = pid, p->sync = sync, p->mounts = mounts;
	for (int i = 0; i < 3; i++)
		if (stdio[i] == STDIO_PIPE)
			*our_end(p, i) = ours[i];
	return 0;
}

int process_begin(uint32_t handle, uint32_t container, uint32_t seq, const uint32_t stdio[3], unsigned long clone_flags,
		  int *sync)
{
	struct clone_args args = { .flags = clone_flags, .exit_signal = SIGCHLD };
	int pair[2], theirs[3] = { -1, -1, -1 }, error = 0;
	char path[64];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	struct process *p = claim(handle, container, seq);
	if (!p)
		error = errno;
	for (int i = 0; i < 3 && !error; i++)
		if (stdio[i] == STDIO_PIPE)
			error = stdio_pipe(i, our_end(p, i), &theirs[i]);
	pid_t pid = error ? -1 : syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0 && !error)
		error = errno;
	if (pid == 0) {
		*sync = pair[1];
		take_stdio(stdio, theirs);
		return 0;
	}
	close(pair[1]);
	for (int i = 0; i < 3 && p; i++)
		close_fd(&theirs[i]);
	if (error) {
		close(pair[0]);
		if (p)
			release(p);
		return -error;
	}
	p->pid = pid, p->sync = pair[0];
	/* Not of a pod's member, whose ports are another's soon after its end. */
	if (clone_flags & CLONE_NEWIPC) {
		snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
		p->mounts = open(path, O_RDONLY | O_CLOEXEC);
	}
	return pid;
}

static void send_consumed(struct process *p, uint32_t count)
{
	unsigned char buffer[64];
	struct writer w;

	frame_begin(&w, buffer, sizeof buffer);
	write_array(&w, 3);
	write_u64(&w, MSG_CONSUMED);
	write_u64(&w, p->handle);
	write_u64(&w, count);
	send_frame(&w);
}

static void send_output(struct process *p, int stream, const void *bytes, uint32_t length)
{
	static unsigned char buffer[CHUNK + 64];
	struct writer w;

	frame_begin(&w, buffer, sizeof buffer);
	write_array(&w, 4);
	write_u64(&w, MSG_OUTPUT);
	write_u64(&w, p->handle);
	write_u64(&w, stream + 1);
	write_bytes(&w, bytes, length);
	send_frame(&w);
}

static void push_input(struct process *p)
{
	while (p->pending_length && p->input >= 0) {
		ssize_t n = write(p->input, p->pending + p->pending_start, p->pending_length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			/* Nobody reads any more: swallow, so that the host's writer is not held up. */
			n = p->pending_length;
			if (p->input != p->output[TERMINAL])
				close_fd(&p->input);
		}
		send_consumed(p, n);
		p->pending_start += n;
		p->pending_length -= n;
	}
	if (!p->pending_length)
		p->pending_start = 0;
	if (!p->pending_length && p->input_closed && p->input >= 0 && p->input != p->output[TERMINAL])
		close_fd(&p->input);
}

void process_input(uint32_t handle, const unsigned char *bytes, uint32_t length)
{
	struct process *p = process_by_handle(handle);

	if (!p)
		return;
	if (length == 0)
		p->input_closed = true;
	else if (p->input < 0)
		send_consumed(p, length);
	else {
		if (p->pending_start) {
			memmove(p->pending, p->pending + p->pending_start, p->pending_length);
			p->pending_start = 0;
		}
		/* More than the window: the host broke the rules, and loses what is too much. */
		if (length > WINDOW - p->pending_length)
			length = WINDOW - p->pending_length;
		memcpy(p->pending + p->pending_length, bytes, length);
		p->pending_length += length;
	}
	push_input(p);
}

void process_credit(uint32_t handle, uint32_t stream, uint32_t count)
{
	struct process *p = process_by_handle(handle);

	if (!p || stream < 1 || stream > STREAMS)
		return;
	uint32_t *u = &p->unacknowledged[stream - 1];
	*u -= count < *u ? count : *u;
}

void process_close(uint32_t handle, uint32_t stream)
{
	struct process *p = process_by_handle(handle);

	/* A terminal's master stays: its end is a hang-up, which is the host's to send. */
	if (p && stream >= 1 && stream <= TERMINAL)
		close_fd(&p->output[stream - 1]);
}

void process_resize(uint32_t handle, uint32_t rows, uint32_t cols)
{
	struct process *p = process_by_handle(handle);
	struct winsize size = { .ws_row = rows, .ws_col = cols };

	if (p && p->output[TERMINAL] >= 0)
		ioctl(p->output[TERMINAL], TIOCSWINSZ, &size);
}

void process_start(uint32_t seq, uint32_t container)
{
	struct process *p = process_init(container);

	if (!p || !p->ready || p->started || p->exited || send(p->sync, "S", 1, MSG_NOSIGNAL) != 1) {
		reply(seq, p ? EBUSY : ESRCH, "the container cannot be started");
		return;
	}
	p->started = true;
	p->seq = seq;
}

static void pull_output(struct process *p, int stream)
{
	static unsigned char buffer[CHUNK];

	while (p->output[stream] >= 0 && p->unacknowledged[stream] < WINDOW) {
		uint32_t room = WINDOW - p->unacknowledged[stream];
		ssize_t n = read(p->output[stream], buffer, room < CHUNK ? room : CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			/* End of the pipe; EIO: nobody has the terminal open any more. */
			send_output(p, stream, "", 0);
			if (p->output[stream] == p->input)
				p->input = -1;
			close_fd(&p->output[stream]);
			return;
		}
		p->unacknowledged[stream] += n;
		send_output(p, stream, buffer, n);
	}
}

/* Nothing of before the end is left: the pipes are closed, or were found empty. */
static bool drained(struct process *p)
{
	for (int i = 0; i < STREAMS; i++) {
		struct pollfd fd = { p->output[i], POLLIN, 0 };
		if (p->output[i] >= 0 && poll(&fd, 1, 0) > 0)
			return false;
	}
	return true;
}

/* What is written back to 9P files when the last process leaves a mount namespace has to be there before init's end is. */
static bool last_one(const struct process *p)
{
	for (int i = 0; i < MAX_PROCESSES && p->inner == 1; i++) {
		const struct process *other = &processes[i];
		if (other->used && other != p && other->container == p->container && !other->exited)
			return false;
	}
	return true;
}

/* In a child, for it may wait for a server: what the container has written to 9P files goes to the host. */
static bool written_back(struct process *p)
{
	if (p->mounts < 0 || !p->writes || p->flusher < 0)
		return true;
	if (p->flusher == 0 && (p->flusher = fork()) == 0) {
		sync();
		_exit(0);
	}
	return p->flusher < 0;
}

/*
 * The host knows of the end, and most often ends the VM now. Where it does not, the mounts are taken down, by a child,
 * because that is a message for each file that was ever looked at.
 */
static void let_go(struct process *p)
{
	enum { MS = 1000, AFTER = 200 * MS };

	if (p->mounts >= 0 && fork() == 0) {
		dup2(p->mounts, 3);
		close_range(4, ~0U, 0);
		/* Until nobody else has it. */
		usleep(AFTER);
		_exit(0);
	}
	close_fd(&p->mounts);
}

static void report_exit(struct process *p)
{
	unsigned char buffer[64];
	struct writer w;

	if (p->exited && !p->reported && drained(p) && last_one(p) && written_back(p)) {
		frame_begin(&w, buffer, sizeof buffer);
		write_array(&w, 3);
		write_u64(&w, MSG_EXIT);
		write_u64(&w, p->handle);
		write_u64(&w, WIFSIGNALED(p->status) ? 128 + WTERMSIG(p->status) : WEXITSTATUS(p->status));
		send_frame(&w);
		p->reported = true;
		let_go(p);
	}
	if (p->reported && p->output[0] < 0 && p->output[1] < 0 && p->output[TERMINAL] < 0)
		release(p);
}

/* Sent once a request about this process is settled: 0, or why not. */
static void settle(struct process *p, int error, const char *text)
{
	unsigned char buffer[4200];
	struct writer w;

	if (!p->seq)
		return;
	frame_begin(&w, buffer, sizeof buffer);
	write_array(&w, 5);
	write_u64(&w, MSG_REPLY);
	write_u64(&w, p->seq);
	write_u64(&w, error);
	write_bytes(&w, text, strlen(text));
	write_array(&w, 1);
	write_u64(&w, p->inner);
	send_frame(&w);
	p->seq = 0;
}

/* Messages of the child: 'M' with a terminal's master, 'R' inner pid, 'E' errno and text; its end: it runs. */
static void hear(struct process *p)
{
	unsigned char text[4096];
	union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
	struct iovec iov = { text, sizeof text - 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control };
	ssize_t n = recvmsg(p->sync, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close_fd(&p->sync);
		if (p->ready)
			settle(p, 0, "");
		return;
	}
	text[n] = 0;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (text[0] == 'M' && c && c->cmsg_type == SCM_RIGHTS) {
		int fd;
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		close_fd(&p->input);
		p->input = p->output[TERMINAL] = fd;
	} else if (text[0] == 'R' && n == 5) {
		memcpy(&p->inner, text + 1, 4);
		p->ready = true;
		p->started = p->at_once;
		/* A container's init waits for `start`, mostly; others are settled when their exec(2) has worked. */
		if (p->inner == 1 && !p->at_once)
			settle(p, 0, "");
	} else if (text[0] == 'E' && n >= 5) {
		int error;
		memcpy(&error, text + 1, 4);
		settle(p, error ? error : EIO, (char *)text + 5);
	}
}

int processes_poll(struct pollfd *fds, int count)
{
	polled = fds;
	for (int i = 0; i < MAX_PROCESSES; i++) {
		struct process *p = &processes[i];
		slots[i].sync = slots[i].input = -1;
		for (int s = 0; s < STREAMS; s++)
			slots[i].output[s] = -1;
		if (!p->used)
			continue;
#define ADD(slot, fd, events) (slots[i].slot = count, fds[count++] = (struct pollfd){ fd, events, 0 })
		if (p->sync >= 0)
			ADD(sync, p->sync, POLLIN);
		if (p->input >= 0 && p->pending_length)
			ADD(input, p->input, POLLOUT);
		for (int s = 0; s < STREAMS; s++)
			if (p->output[s] >= 0 && p->unacknowledged[s] < WINDOW)
				ADD(output[s], p->output[s], POLLIN);
#undef ADD
	}
	return count;
}

void processes_serve(void)
{
	for (int i = 0; i < MAX_PROCESSES; i++) {
		struct process *p = &processes[i];
		if (!p->used)
			continue;
		if (slots[i].sync >= 0 && polled[slots[i].sync].revents)
			hear(p);
		if (slots[i].input >= 0 && polled[slots[i].input].revents)
			push_input(p);
		for (int s = 0; s < STREAMS; s++)
			if (slots[i].output[s] >= 0 && polled[slots[i].output[s]].revents)
				pull_output(p, s);
		if (p->exited)
			report_exit(p);
	}
}

void reap(pid_t vital)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == vital)
			die("the relay has ended");
		for (int i = 0; i < MAX_PROCESSES; i++) {
			struct process *p = &processes[i];
			if (p->used && p->flusher == pid)
				p->flusher = -1;
			if (!p->used || p->pid != pid || p->exited)
				continue;
			/* What it said last comes before its end. */
			while (p->sync >= 0 && poll(&(struct pollfd){ p->sync, POLLIN, 0 }, 1, 0) > 0)
				hear(p);
			settle(p, ECHILD, "the process ended before it ran");
			p->exited = true;
			p->status = status;
		}
	}
}
