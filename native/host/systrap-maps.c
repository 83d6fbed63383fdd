/*
 * File mappings that a thread makes as it goes on (st_batch_later): the filter asks about each by a notification, which comes
 * while the sentry does something else. In C for the reason that systrap.c has.
 *
 * An entry lets exactly one mapping through, argument by argument, for one thread, until that thread traps next: an interrupt
 * makes the host ask again. The descriptor is a duplicate, so that its number cannot come to mean another file meanwhile.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/seccomp.h>
#include <string.h>
#include <unistd.h>

#include "systrap.h"

#define MAPS 64

static struct late_map {
	int row;
	int fd;
	int answered;
	uint64_t args[6];
} maps[MAPS];
static int count;

int late_maps_due;

/* `op` maps descriptor DONATED_FD, which is to be `fd`, in row i. 0, or -1: there is no room. */
int late_map_add(int i, const struct stub_op *op, int fd)
{
	struct late_map *map = &maps[count];

	if (count == MAPS)
		return -1;
	map->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (map->fd < 0)
		return -1;
	map->row = i;
	map->answered = 0;
	memcpy(map->args, op->args, sizeof(map->args));
	count++;
	late_maps_due++;
	return 0;
}

/* The descriptor for a mapping that thread `tid` asks for, which stays ours; -1: nobody ordered it. */
int late_map_fd(int tid, const struct seccomp_data *d)
{
	for (int n = 0; n < count; n++) {
		struct late_map *map = &maps[n];

		if (threads[map->row].tid != tid || memcmp(map->args, d->args, sizeof(map->args)) != 0)
			continue;
		if (!map->answered) {
			map->answered = 1;
			late_maps_due--;
		}
		return map->fd;
	}
	return -1;
}

/* Row i has trapped, or is gone. */
void late_map_forget(int i)
{
	for (int n = count - 1; n >= 0; n--) {
		if (maps[n].row != i)
			continue;
		close(maps[n].fd);
		if (!maps[n].answered)
			late_maps_due--;
		maps[n] = maps[--count];
	}
}
