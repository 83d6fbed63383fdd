/*
 * What has to happen to a process before its program runs, done in the process itself: the steps of launch.c's options. C
 * because unshare(2), setns(2) and close_range(2) belong to a single-threaded process, which Node never is: it is so
 * before exec (launch.c) and after fork (native/host/fork.c), the two users of this.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "prepare.h"
#include "view.h"

enum { MAX_LIST = 64 };

struct plan {
	const char *cgroups[MAX_LIST];
	int cgroup_count;
	const char *env[MAX_LIST];
	int env_count;
	const char *views[MAX_LIST];
	int view_count;
	const char *shares[MAX_LIST];
	int share_count;
	unsigned long long ambient;
	long uid, gid; /* -1: as it is */
	int keep[MAX_LIST][2];
	int keep_count;
	const char *join_path[3];
	int unshare_flags;
	bool slave, loopback, setsid, block_sigchld, default_signals, no_core, no_new_privs, no_io_uring;
	bool clear_env;
	bool limit_caps;
	unsigned long long caps;
	int pdeathsig;
	const char *oom_score_adj;
	long nofile;
	const char *chdir;
	int umask;
	const char *argv0;
};

static const struct {
	const char *option;
	int flag;
} JOINABLE[3] = { { "--netns", CLONE_NEWNET }, { "--ipcns", CLONE_NEWIPC }, { "--utsns", CLONE_NEWUTS } };

void die(int code, const char *format, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	dprintf(2, "launch: %s\n", line);
	_exit(code);
}

#define fail(what, ...) die(EXIT_STEP, what ": %s", ##__VA_ARGS__, strerror(errno))

static long number(const char *option, const char *s, int base, long max)
{
	char *end;

	errno = 0;
	long n = strtol(s, &end, base);
	if (errno || end == s || *end || n > max || n < -max)
		die(EXIT_USAGE, "%s: not a valid number: %s", option, s);
	return n;
}

static void push(const char **list, int *count, const char *option, const char *value)
{
	if (*count == MAX_LIST)
		die(EXIT_USAGE, "%s: given too often", option);
	list[(*count)++] = value;
}

static int parse_namespaces(const char *list)
{
	static const struct {
		const char *name;
		int flag;
	} names[] = { { "mnt", CLONE_NEWNS },  { "ipc", CLONE_NEWIPC },       { "uts", CLONE_NEWUTS },
		      { "net", CLONE_NEWNET }, { "cgroup", CLONE_NEWCGROUP } };
	int flags = 0;

	while (*list) {
		size_t len = strcspn(list, ",");
		size_t i = 0;
		while (i < 5 && (strlen(names[i].name) != len || strncmp(names[i].name, list, len)))
			i++;
		if (i == 5)
			die(EXIT_USAGE, "--ns: unknown namespace: %.*s", (int)len, list);
		flags |= names[i].flag;
		list += len + (list[len] == ',');
	}
	return flags;
}

static void parse_keep(struct plan *p, char *range)
{
	if (p->keep_count == MAX_LIST)
		die(EXIT_USAGE, "--keep-fd: given too often");
	char *dash = strchr(range, '-');
	if (dash)
		*dash = 0;
	int first = number("--keep-fd", range, 10, INT_MAX - 1);
	int last = dash ? number("--keep-fd", dash + 1, 10, INT_MAX - 1) : first;
	if (first < 0 || last < first)
		die(EXIT_USAGE, "--keep-fd: bad range");
	p->keep[p->keep_count][0] = first;
	p->keep[p->keep_count++][1] = last;
}

static void parse_user(struct plan *p, char *value)
{
	char *colon = strchr(value, ':');

	if (!colon)
		die(EXIT_USAGE, "--user: expected UID:GID");
	*colon = 0;
	p->uid = number("--user", value, 10, INT_MAX);
	p->gid = number("--user", colon + 1, 10, INT_MAX);
}

/* Returns the index of PROGRAM in argv. */
static int parse(struct plan *p, int argc, char **argv)
{
	int i = 1;

	for (; i < argc && !strncmp(argv[i], "--", 2); i++) {
		const char *o = argv[i];
#define IS(name) (!strcmp(o, name))
		if (IS("--"))
			return i + 1;
		if (IS("--loopback")) p->loopback = true;
		else if (IS("--setsid")) p->setsid = true;
		else if (IS("--block-sigchld")) p->block_sigchld = true;
		else if (IS("--default-signals")) p->default_signals = true;
		else if (IS("--no-core")) p->no_core = true;
		else if (IS("--no-new-privs")) p->no_new_privs = true;
		else if (IS("--no-io-uring")) p->no_io_uring = true;
		else if (IS("--clear-env")) p->clear_env = true;
		else {
			if (i + 1 == argc)
				die(EXIT_USAGE, "%s: unknown, or its value is missing", o);
			char *v = argv[++i];
			int join = 0;
			while (join < 3 && !IS(JOINABLE[join].option))
				join++;
			if (join < 3) p->join_path[join] = v;
			else if (IS("--cgroup")) push(p->cgroups, &p->cgroup_count, o, v);
			else if (IS("--env")) push(p->env, &p->env_count, o, v);
			else if (IS("--view")) push(p->views, &p->view_count, o, v);
			else if (IS("--share")) push(p->shares, &p->share_count, o, v);
			else if (IS("--ambient-caps")) p->ambient = strtoull(v, NULL, 16);
			else if (IS("--user")) parse_user(p, v);
			else if (IS("--ns")) p->unshare_flags |= parse_namespaces(v);
			else if (IS("--keep-fd")) parse_keep(p, v);
			else if (IS("--pdeathsig")) p->pdeathsig = number(o, v, 10, 64);
			else if (IS("--oom-score-adj")) number(o, v, 10, 1000), p->oom_score_adj = v;
			else if (IS("--nofile")) p->nofile = number(o, v, 10, INT_MAX);
			else if (IS("--chdir")) p->chdir = v;
			else if (IS("--umask")) p->umask = number(o, v, 8, 0777);
			else if (IS("--argv0")) p->argv0 = v;
			else if (IS("--bounding-caps")) p->limit_caps = true, p->caps = strtoull(v, NULL, 16);
			else if (IS("--propagation") && !strcmp(v, "slave")) p->slave = true;
			else if (IS("--propagation") && !strcmp(v, "private")) p->slave = false;
			else die(EXIT_USAGE, "unknown option: %s %s", o, v);
		}
#undef IS
	}
	return i;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail("cannot write %s to %s", text, path);
	close(fd);
}

static void reset_signals(const struct plan *p)
{
	sigset_t mask;

	if (p->default_signals) {
		for (int sig = 1; sig < NSIG; sig++)
			signal(sig, SIG_DFL);
		sigemptyset(&mask);
		sigprocmask(SIG_SETMASK, &mask, NULL);
	}
	if (p->block_sigchld) {
		/* An ignored SIGCHLD would never become pending. */
		signal(SIGCHLD, SIG_DFL);
		sigemptyset(&mask);
		sigaddset(&mask, SIGCHLD);
		sigprocmask(SIG_BLOCK, &mask, NULL);
	}
}

static int by_first(const void *a, const void *b)
{
	return ((const int *)a)[0] - ((const int *)b)[0];
}

static void close_others(struct plan *p, bool in_place)
{
	unsigned int next = 3;

	qsort(p->keep, p->keep_count, sizeof p->keep[0], by_first);
	for (int i = 0; i < p->keep_count; i++) {
		unsigned int first = p->keep[i][0], last = p->keep[i][1];
		if (first > next && syscall(SYS_close_range, next, first - 1, 0))
			fail("close_range");
		if (last + 1 > next)
			next = last + 1;
		for (unsigned int fd = first; fd <= last; fd++)
			if (fcntl(fd, F_SETFD, in_place ? FD_CLOEXEC : 0) < 0)
				fail("--keep-fd %u", fd);
	}
	if (syscall(SYS_close_range, next, ~0U, 0))
		fail("close_range");
}

static void set_limits(const struct plan *p)
{
	if (p->no_core && setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }))
		fail("RLIMIT_CORE");
	if (!p->nofile)
		return;
	struct rlimit want = { p->nofile, p->nofile }, have;
	if (!setrlimit(RLIMIT_NOFILE, &want))
		return;
	/* Above fs.nr_open, or unprivileged: as much as there is. */
	if (getrlimit(RLIMIT_NOFILE, &have))
		fail("RLIMIT_NOFILE");
	if (want.rlim_cur > have.rlim_max)
		want.rlim_cur = have.rlim_max;
	want.rlim_max = have.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &want))
		fail("RLIMIT_NOFILE");
}

static void enter_namespaces(const struct plan *p)
{
	int join[3];

	for (int i = 0; i < 3; i++) {
		join[i] = p->join_path[i] ? open(p->join_path[i], O_RDONLY | O_CLOEXEC) : -1;
		if (p->join_path[i] && join[i] < 0)
			fail("cannot open namespace %s", p->join_path[i]);
	}
	for (int i = 0; i < 3; i++) {
		if (join[i] < 0)
			continue;
		if (setns(join[i], JOINABLE[i].flag))
			fail("cannot enter namespace %s", p->join_path[i]);
		close(join[i]);
	}
	if (p->unshare_flags && unshare(p->unshare_flags))
		fail("cannot create namespaces (flags %#x)", p->unshare_flags);
	if ((p->unshare_flags & CLONE_NEWNS) && mount("", "/", NULL, MS_REC | (p->slave ? MS_SLAVE : MS_PRIVATE), NULL))
		fail("cannot change the propagation of /");
	if (p->loopback) {
		struct ifreq lo = { .ifr_name = "lo" };
		int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &lo))
			fail("cannot find lo");
		lo.ifr_flags |= IFF_UP | IFF_RUNNING;
		if (ioctl(fd, SIOCSIFFLAGS, &lo))
			fail("cannot bring up lo");
		close(fd);
	}
}

static void keep_capabilities(unsigned long long caps)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	unsigned low = caps, high = caps >> 32;
	struct __user_cap_data_struct data[2] = { { low, low, low }, { high, high, high } };

	if (syscall(SYS_capset, &header, data))
		fail("cannot keep capabilities %llx", caps);
	for (int cap = 0; cap < 64; cap++)
		if ((caps >> cap & 1) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0))
			fail("cannot keep capability %d", cap);
}

static void drop_privileges(const struct plan *p)
{
	if (p->limit_caps)
		for (int cap = 0; cap < 64; cap++)
			if (!(p->caps >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) && errno != EINVAL)
				fail("cannot drop capability %d", cap);
	if (p->ambient && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
		fail("cannot keep capabilities");
	/* Leaving root gives up its capabilities, too. */
	if (p->uid >= 0 && (setgroups(0, NULL) || setresgid(p->gid, p->gid, p->gid) || setresuid(p->uid, p->uid, p->uid)))
		fail("cannot become user %ld", p->uid);
	if (p->ambient)
		keep_capabilities(p->ambient);
	if (p->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("no_new_privs");
}

static void forbid_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof code[0], code };

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) && errno == EACCES) {
		/* Unprivileged: only with no_new_privs. */
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
			fail("cannot forbid io_uring");
	}
}

/* Permitted, effective and inheritable: what is in the bounding set, which exec would have left a root. */
static void keep_bounding_caps(unsigned long long caps)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct have[2];

	if (syscall(SYS_capget, &header, have))
		fail("capget");
	for (int i = 0; i < 2; i++) {
		have[i].permitted &= (unsigned int)(caps >> 32 * i);
		have[i].effective = have[i].permitted;
		have[i].inheritable &= have[i].permitted;
	}
	if (syscall(SYS_capset, &header, have))
		fail("capset");
}

/* The strings lie on the stack, one after the other, and would stay readable in memory and in /proc/PID/environ. */
static void wipe_environment(void)
{
	for (char **entry = environ; entry && *entry; entry++)
		memset(*entry, 0, strlen(*entry));
}

static void set_environment(const struct plan *p, bool in_place)
{
	if (p->clear_env && in_place)
		wipe_environment();
	if (p->clear_env)
		clearenv();
	for (int i = 0; i < p->env_count; i++) {
		char *entry = strchr(p->env[i], '=') ? strdup(p->env[i]) : NULL;
		if (!entry || putenv(entry))
			die(EXIT_USAGE, "--env: not of the form NAME=VALUE: %s", p->env[i]);
	}
}

int prepare(int argc, char **argv, const char **argv0, bool in_place)
{
	struct plan p = { .umask = -1, .uid = -1, .gid = -1 };
	int program = parse(&p, argc, argv);
	pid_t spawner = getppid();

	if (!in_place && program >= argc)
		die(EXIT_USAGE, "no program given");
	reset_signals(&p);
	if (in_place) {
		signal(SIGPIPE, SIG_IGN);
		signal(SIGXFSZ, SIG_IGN);
		/* What its host pid is sent by mistake is not to end a container. */
		sigset_t usr1;
		sigemptyset(&usr1);
		sigaddset(&usr1, SIGUSR1);
		sigprocmask(SIG_BLOCK, &usr1, NULL);
	}
	close_others(&p, in_place);
	for (int i = 0; i < p.cgroup_count; i++) {
		char path[PATH_MAX];
		if ((size_t)snprintf(path, sizeof path, "%s/cgroup.procs", p.cgroups[i]) >= sizeof path)
			die(EXIT_USAGE, "--cgroup: path too long");
		write_file(path, "0");
	}
	if (p.oom_score_adj)
		write_file("/proc/self/oom_score_adj", p.oom_score_adj);
	set_limits(&p);
	if (p.setsid && getsid(0) != getpid() && setsid() < 0)
		fail("setsid");
	enter_namespaces(&p);
	const char *missing = p.view_count ? make_view(p.views, p.view_count, p.shares, p.share_count) : NULL;
	if (missing)
		fail("view: %s", missing);
	if (p.chdir && chdir(p.chdir))
		fail("cannot change to %s", p.chdir);
	if (p.umask >= 0)
		umask(p.umask);
	drop_privileges(&p);
	if (p.no_io_uring)
		forbid_io_uring();
	if (in_place && p.limit_caps)
		keep_bounding_caps(p.caps);
	set_environment(&p, in_place);
	if (p.pdeathsig) {
		if (prctl(PR_SET_PDEATHSIG, p.pdeathsig, 0, 0, 0))
			fail("pdeathsig");
		if (getppid() != spawner)
			die(EXIT_STEP, "the process that started this one is gone");
	}
	*argv0 = p.argv0;
	return program;
}
