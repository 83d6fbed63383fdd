/*
 * Directory entries with their attributes, as READDIR puts them into its frame (gofer/protocol.ts): for each but '.' and
 * '..' the first STAT_SIZE bytes of struct statx, u16 length, name, NUL, u16 length, text of a link, NUL.
 *
 * C because the gofer reads directories while a guest waits and V8 is still cold: the same loop in TypeScript, with a host
 * call for each name, made `find /usr` 12 % slower (488 against 436 ms in turn). A second thread for half of the names
 * gained nothing measurable.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STAT_SIZE = 144, MAX_LINK = 4095 };

struct entry {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

struct listed {
	uint32_t entries;
	/* Bytes of `from` that were taken, and where the last of these entries begins. */
	uint32_t taken, last;
};

static unsigned char *put_text(unsigned char *to, const char *text, uint16_t length)
{
	memcpy(to, &length, 2);
	memcpy(to + 2, text, length);
	to[2 + length] = 0;
	return to + 2 + length + 1;
}

/* Puts the `size` bytes of getdents64's entries, as many as fit into `room`: how many bytes they are. */
long host_list(int fd, const unsigned char *from, long size, unsigned char *to, long room, struct listed *listed)
{
	unsigned char *end = to;
	char link[MAX_LINK];
	struct statx stat;

	*listed = (struct listed){ 0 };
	while (listed->taken < size) {
		const struct entry *e = (const void *)(from + listed->taken);
		const char *name = e->name;
		bool dots = name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
		/* One that is gone since is none. */
		if (!dots && !syscall(SYS_statx, fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
				      STATX_BASIC_STATS | STATX_BTIME, &stat)) {
			size_t length = strlen(name);
			ssize_t target = S_ISLNK(stat.stx_mode) ? readlinkat(fd, name, link, MAX_LINK) : 0;
			if (target < 0)
				target = 0;
			if (to + room - end < (long)(STAT_SIZE + 2 + length + 1 + 2 + target + 1))
				break;
			memcpy(end, &stat, STAT_SIZE);
			end = put_text(put_text(end + STAT_SIZE, name, length), link, target);
			listed->entries++;
		}
		listed->last = listed->taken;
		listed->taken += e->reclen;
	}
	return end - to;
}
