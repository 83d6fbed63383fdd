/*
 * FUSE mounts: made detached, so that one can be there before the VM is saved, and moved to their place by the container's
 * process. The first request (FUSE_INIT) waits in the device until somebody reads it; whoever looks into the mount waits
 * for its answer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#define READ_AHEAD "512"

/* How far the kernel reads ahead, in KiB. Nothing is asked of the server for that. */
static void set_read_ahead(int mounted)
{
	struct statx st;
	char path[64];

	if (statx(mounted, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st))
		return;
	snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", st.stx_dev_major, st.stx_dev_minor);
	write_text(path, READ_AHEAD);
}

int fuse_make(bool is_file, bool readonly, int *device, int *mounted)
{
	char number[16];

	*mounted = -1;
	*device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (*device < 0)
		return -errno;
	snprintf(number, sizeof number, "%d", *device);
	/* The guest's kernel checks permissions, by the attributes that it is told. */
	const char *const options[][2] = { { "source", "gofer" },	  { "fd", number },	   { "rootmode", is_file ? "100000" : "40000" },
					   { "user_id", "0" },		  { "group_id", "0" },
					   { "default_permissions", NULL }, { "allow_other", NULL } };
	int context = syscall(SYS_fsopen, "fuse", FSOPEN_CLOEXEC);
	bool taken = context >= 0;
	for (size_t i = 0; i < sizeof options / sizeof *options && taken; i++) {
		int command = options[i][1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
		taken = !syscall(SYS_fsconfig, context, command, options[i][0], options[i][1], 0);
	}
	/* Reading changes no time of a file then, of which the server would be asked afterwards. */
	if (readonly)
		syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "ro", NULL, 0);
	if (taken && !syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		*mounted = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	int error = errno;
	if (context >= 0)
		close(context);
	if (*mounted >= 0) {
		set_read_ahead(*mounted);
		return 0;
	}
	close(*device);
	return -error;
}
