/* What the agent answers to a FUSE request before there is a server: a request on standard input, the answer on standard output. */
#include <unistd.h>

#include "../../native/agent/agent.h"

int main(void)
{
	unsigned char request[4096] __attribute__((aligned(8))), out[FUSE_ANSWER];
	ssize_t n = read(0, request, sizeof request);

	return n < 40 || write(1, out, fuse_answer_ahead(request, n, out)) < 16;
}
