/*
 * Signals of the sentry's own process as a readable descriptor. Not a signalfd: that needs the signal blocked in every
 * thread, and Node has threads of its own before any of our code runs.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int fds[65];

static void on_signal(int signo)
{
	int saved = errno;
	uint64_t one = 1;

	(void)!write(fds[signo], &one, sizeof one);
	errno = saved;
}

/* From now on `signo` makes the returned eventfd readable. One per signal. >= 0 or -errno. */
long host_signal_eventfd(int signo)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	int fd;

	if (signo < 1 || signo > 64)
		return -EINVAL;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	fds[signo] = fd;
	if (sigaction(signo, &act, NULL) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}
