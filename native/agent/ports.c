/* Serial ports by their names, which sysfs knows. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "relay.h"

bool port_name(const char *device, char *out, size_t size)
{
	char path[320];

	snprintf(path, sizeof path, PORTS "/%s/name", device);
	if (read_text(path, out, size) <= 0)
		return false;
	out[strcspn(out, "\n")] = 0;
	return true;
}

int open_port(const char *device)
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
