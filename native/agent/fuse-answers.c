/*
 * What of a FUSE connection is answered inside the VM. Before it is saved there is no server yet, and mounting an overlay asks
 * for two things: INIT, to which the gofer's own answer is known (a test compares them) and which it is told of when there is
 * one; and the size of names. Later, attributes of overlayfs in a lower layer: there are none that count, and every file
 * that is looked up would take two messages.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include <linux/fuse.h>

#include "agent.h"

enum {
	MINOR = 37,
	MAX_DATA = 512 << 10,
	BACKGROUND = 64,
	PAGE = 4096,
	/* Of an exclusive mount that is read-only. */
	WANTED = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
		 FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT,
};

#define OVERLAY "trusted.overlay."

static size_t answer(const struct fuse_in_header *in, int error, const void *fields, size_t length, unsigned char *out)
{
	struct fuse_out_header head = { .len = sizeof head + length, .error = -error, .unique = in->unique };

	memcpy(out, &head, sizeof head);
	if (length)
		memcpy(out + sizeof head, fields, length);
	return head.len;
}

bool fuse_is_init(const unsigned char *request, size_t length)
{
	const struct fuse_in_header *in = (const void *)request;

	return length >= sizeof *in && in->opcode == FUSE_INIT;
}

size_t fuse_answer_ahead(const unsigned char *request, size_t length, unsigned char out[FUSE_ANSWER])
{
	const struct fuse_in_header *in = (const void *)request;
	const struct fuse_init_in *init = (const void *)(in + 1);

	if (length >= sizeof *in + 16 && in->opcode == FUSE_INIT) {
		struct fuse_init_out agreed = {
			.major = FUSE_KERNEL_VERSION, .minor = init->minor < MINOR ? init->minor : MINOR, .max_readahead = MAX_DATA,
			.flags = init->flags & WANTED, .max_background = BACKGROUND, .congestion_threshold = BACKGROUND,
			.max_write = MAX_DATA, .time_gran = 1, .max_pages = MAX_DATA / PAGE,
		};
		return answer(in, 0, &agreed, sizeof agreed, out);
	}
	if (in->opcode == FUSE_STATFS) {
		struct fuse_statfs_out size = { .st = { .bsize = PAGE, .frsize = PAGE, .namelen = 255 } };
		return answer(in, 0, &size, sizeof size, out);
	}
	return answer(in, ENOSYS, NULL, 0, out);
}

size_t fuse_answer_overlay(const unsigned char *request, size_t length, unsigned char out[FUSE_ANSWER])
{
	const struct fuse_in_header *in = (const void *)request;
	size_t at = sizeof *in + sizeof(struct fuse_getxattr_in);

	if (in->opcode != FUSE_GETXATTR || length < at + sizeof OVERLAY || memcmp(request + at, OVERLAY, strlen(OVERLAY)))
		return 0;
	return answer(in, ENODATA, NULL, 0, out);
}
