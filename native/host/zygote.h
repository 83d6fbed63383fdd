#include <sys/types.h>

/*
 * Starts the zygote, which execs the stub. For systrap it has the given descriptors as WAKE_FD, 7 and 8; else they are -1.
 * Its pid or -errno.
 */
pid_t zygote_start(int stub_fd, int wake_fd, int control_fd, int arena_fd, int nice);
