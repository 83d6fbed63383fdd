/* Messages with descriptors between the agent's own processes: pid 1, the relay, the spare container. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>

#include "agent.h"

bool pass_fds(int sync, const void *text, size_t length, const int *fds, int count)
{
	union { char bytes[CMSG_SPACE(MAX_PASSED * sizeof(int))]; struct cmsghdr align; } control = { 0 };
	struct iovec iov = { (void *)text, length };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count) {
		m.msg_control = control.bytes, m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	return sendmsg(sync, &m, MSG_NOSIGNAL) == (ssize_t)length;
}

int receive_fds(int sync, void *text, size_t length, int *fds)
{
	union { char bytes[CMSG_SPACE(MAX_PASSED * sizeof(int))]; struct cmsghdr align; } control;
	struct iovec iov = { text, length };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control };

	if (recvmsg(sync, &m, MSG_CMSG_CLOEXEC) != (ssize_t)length)
		return -1;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return 0;
	int count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	return count;
}
