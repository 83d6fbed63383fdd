/* Between the relay (relay.c), who asks it (relay-ask.c) and the ports (ports.c). */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define PORTS "/sys/class/virtio-ports"

enum { PREPARED = 4 /* a root, and what Docker mounts over it */ };

/* What pid 1 asks for. */
struct wish {
	unsigned char number, fuse, is_file, overlaid; /* overlaid: enum overlaid */
};

/* `device`: as PORTS lists it. */
bool port_name(const char *device, char *out, size_t size);
int open_port(const char *device);

/* The relay's life. `ours`: the relay's ends of pipes that are prepared. */
void relay_serve(int asked, int ours[PREPARED][2]) __attribute__((noreturn));
