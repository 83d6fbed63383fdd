/* The relay as pid 1 sees it: started before the VM is saved, then asked for mounts' connections. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "relay.h"

/* A wish, perhaps with pipes, is answered by 0 or an errno, perhaps with a mount. */
static int control = -1;
/* The kernel's ends of what was prepared; -1: taken. */
static int prepared[PREPARED][2];
/* Mounts of the first port, for a root and for what lies below an overlay; -1: none, or taken. */
static int first_mounts[2] = { -1, -1 };

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
		relay_serve(pair[1], ours);
	}
	close(pair[1]);
	for (int i = 0; i < PREPARED; i++)
		close_both(ours[i]);
	control = pair[0];
	char ready;
	int fds[MAX_PASSED], count = receive_fds(control, &ready, 1, fds);
	if (count == 2)
		memcpy(first_mounts, fds, sizeof first_mounts);
	return pid > 0 && count >= 0 ? pid : -1;
}

int relay_first_mount(bool lower)
{
	return first_mounts[lower];
}

/* Whether it was there. A VM may have fewer ports than were prepared. */
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

int relay_mount(int port, bool is_file, enum overlaid overlaid, int *mounted)
{
	struct wish wish = { .number = port, .fuse = 1, .is_file = is_file, .overlaid = overlaid };
	unsigned char answer = EIO;
	int fds[MAX_PASSED];

	if (!pass_fds(control, &wish, sizeof wish, NULL, 0))
		return -EIO;
	int count = receive_fds(control, &answer, 1, fds);
	if (count < 0 || answer)
		return -(answer ? answer : EIO);
	if (count == 1)
		*mounted = fds[0];
	else if (overlaid != OVERLAID_AHEAD)
		*mounted = first_mounts[0], first_mounts[0] = -1;
	return 0;
}
