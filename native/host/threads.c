/*
 * Capabilities belong to threads, and Node has several before the first line of JavaScript runs: here is capset(2) for
 * all of them. As glibc's setuid does, each thread is sent signal 33, which no thread can block and whose handler makes
 * the call. glibc keeps sigaction(33) for itself, hence the raw calls; nobody calls setuid at the same time.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SIGNAL = 33, TRIES = 4000, WAIT_NS = 500000 };

struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};
#define SA_RESTORER_FLAG 0x04000000

static struct __user_cap_data_struct wanted[2];
static int wanted_id = -1; /* user and group; -1: as they are, and the bounding set too */
static int remaining, failure;

__attribute__((naked)) static void restorer(void)
{
	__asm__("mov $15, %eax\n\tsyscall");
}

/* The bounding set first, which takes CAP_SETPCAP; then the ids, with permitted capabilities kept for capset. */
static long become(int id)
{
	for (int cap = 0; cap < 64; cap++) {
		if (wanted[cap / 32].permitted & (1u << cap % 32))
			continue;
		if (syscall(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0)) {
			if (errno != EINVAL)
				return -errno;
			break; /* beyond the last one of this kernel */
		}
	}
	if (syscall(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0) || syscall(SYS_setgroups, 0, NULL) ||
	    syscall(SYS_setresgid, id, id, id) || syscall(SYS_setresuid, id, id, id))
		return -errno;
	return 0;
}

static long set_capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	long result = wanted_id >= 0 ? become(wanted_id) : 0;

	if (result)
		return result;
	if (syscall(SYS_capset, &header, wanted))
		return -errno;
	return wanted_id >= 0 && syscall(SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0) ? -errno : 0;
}

static void on_signal(int sig)
{
	int saved = errno;
	long result = set_capabilities();

	(void)sig;
	if (result)
		__atomic_store_n(&failure, (int)result, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&remaining, 1, __ATOMIC_RELEASE);
	errno = saved;
}

/* Whether a thread has what was wanted and nothing else. A thread that has ended has nothing. */
static int has_wanted(int tid)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, tid };
	struct __user_cap_data_struct have[2];

	if (syscall(SYS_capget, &header, have))
		return errno == ESRCH;
	for (int i = 0; i < 2; i++)
		if (have[i].effective != wanted[i].effective || have[i].permitted != wanted[i].permitted ||
		    have[i].inheritable != 0)
			return 0;
	return 1;
}

/*
 * Makes these the permitted and effective capabilities of every thread of the process, and checks that they are.
 * `task_fd` is an open /proc/self/task, which may be out of reach by now; it is closed. With id >= 0 every thread also
 * becomes that user and group, without supplementary groups, and loses the rest of the bounding set. 0 or -errno.
 */
long host_capset_all_threads(int task_fd, uint32_t low, uint32_t high, int id)
{
	struct kernel_sigaction act = { on_signal, SA_RESTORER_FLAG | SA_RESTART, restorer, ~0ull }, old;
	long result = 0;
	DIR *tasks = fdopendir(task_fd);

	if (!tasks)
		return -errno;
	wanted[0] = (struct __user_cap_data_struct){ low, low, 0 };
	wanted[1] = (struct __user_cap_data_struct){ high, high, 0 };
	wanted_id = id;
	failure = 0;
	if (syscall(SYS_rt_sigaction, SIGNAL, &act, &old, 8)) {
		result = -errno;
		closedir(tasks);
		return result;
	}
	for (struct dirent *entry; (entry = readdir(tasks));) {
		int tid = atoi(entry->d_name);
		if (tid <= 0 || tid == gettid())
			continue;
		__atomic_fetch_add(&remaining, 1, __ATOMIC_RELAXED);
		if (syscall(SYS_tgkill, getpid(), tid, SIGNAL))
			__atomic_fetch_sub(&remaining, 1, __ATOMIC_RELAXED);
	}
	for (int i = 0; __atomic_load_n(&remaining, __ATOMIC_ACQUIRE) > 0; i++) {
		if (i == TRIES) {
			closedir(tasks);
			return -ETIME; /* The handler stays: it may still be needed. */
		}
		nanosleep(&(struct timespec){ 0, WAIT_NS }, NULL);
	}
	syscall(SYS_rt_sigaction, SIGNAL, &old, NULL, 8);
	result = set_capabilities();
	if (!result)
		result = failure;
	rewinddir(tasks);
	for (struct dirent *entry; !result && (entry = readdir(tasks));) {
		int tid = atoi(entry->d_name);
		if (tid > 0 && !has_wanted(tid))
			result = -EPERM;
	}
	closedir(tasks);
	return result;
}
