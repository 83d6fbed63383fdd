/* In a process of a container, between fork and exec: terminal, identity, limits, the program. See runc's init. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

void child_fail(int sync, int error, const char *format, ...)
{
	char message[4096] = "E";
	va_list ap;

	memcpy(message + 1, &error, 4);
	va_start(ap, format);
	int n = vsnprintf(message + 5, sizeof message - 5, format, ap);
	va_end(ap);
	if (n > (int)sizeof message - 6)
		n = sizeof message - 6;
	send(sync, message, 5 + n, MSG_NOSIGNAL);
	_exit(128);
}

void child_ready(int sync, uint32_t inner)
{
	char message[5] = "R";

	memcpy(message + 1, &inner, 4);
	send(sync, message, sizeof message, MSG_NOSIGNAL);
}

/* Opens a terminal of the container's own devpts, makes it the controlling one and hands its master to pid 1. */
int pty_open(const struct process_order *o, int sync)
{
	int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0)
		master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int unlock = 0;
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock))
		child_fail(sync, errno, "cannot open a terminal: %s", strerror(errno));
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		child_fail(sync, errno, "cannot open the terminal's other end: %s", strerror(errno));
	struct winsize size = { .ws_row = o->rows, .ws_col = o->cols };
	if (o->rows && o->cols)
		ioctl(slave, TIOCSWINSZ, &size);
	fchown(slave, o->uid, -1);

	union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
	struct iovec iov = { "M", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &master, sizeof master);
	if (sendmsg(sync, &m, MSG_NOSIGNAL) < 0)
		child_fail(sync, errno, "cannot hand the terminal over");
	close(master);
	if (ioctl(slave, TIOCSCTTY, 0))
		child_fail(sync, errno, "cannot take the terminal: %s", strerror(errno));
	for (int i = 0; i < 3; i++)
		if (o->stdio[i] == STDIO_TTY)
			dup2(slave, i);
	return slave;
}

static const char *variable(char **env, const char *name)
{
	size_t n = strlen(name);

	for (; env && *env; env++)
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

static int runnable(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return errno;
	if (S_ISDIR(st.st_mode))
		return EACCES;
	return st.st_mode & 0111 ? 0 : EACCES;
}

/* As execvp(3) looks for it, with the words of Go's os/exec, which callers of runc know. */
static void find_program(struct process_order *o, int sync, char *out, size_t size)
{
	const char *name = o->args[0], *path = variable(o->env, "PATH");
	int error = ENOENT;

	if (strchr(name, '/')) {
		snprintf(out, size, "%s", name);
		if ((error = runnable(out)))
			child_fail(sync, error, "exec: \"%s\": stat %s: %s", name, name,
				   error == EACCES ? "permission denied" : "no such file or directory");
		return;
	}
	for (const char *at = path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; *at;) {
		size_t n = strcspn(at, ":");
		snprintf(out, size, "%.*s%s%s", (int)n, at, n ? "/" : "./", name);
		int e = runnable(out);
		if (!e)
			return;
		if (e == EACCES)
			error = e;
		at += n + (at[n] == ':');
	}
	child_fail(sync, error, error == EACCES ? "exec: \"%s\": permission denied"
						: "exec: \"%s\": executable file not found in $PATH", name);
}

/* HOME out of the container's passwd when the order has none. */
static void add_home(struct process_order *o)
{
	char line[1024], home[600] = "HOME=/";
	FILE *f = variable(o->env, "HOME") ? NULL : fopen("/etc/passwd", "re");

	if (variable(o->env, "HOME"))
		return;
	while (f && fgets(line, sizeof line, f)) {
		char *field[7] = { 0 }, *at = line;
		for (int i = 0; i < 7 && at; i++)
			field[i] = strsep(&at, ":\n");
		if (field[5] && field[2] && strtoul(field[2], NULL, 10) == o->uid) {
			snprintf(home, sizeof home, "HOME=%.500s", *field[5] ? field[5] : "/");
			break;
		}
	}
	if (f)
		fclose(f);
	size_t count = 0;
	while (o->env[count])
		count++;
	char **env = realloc(o->env, (count + 2) * sizeof *env);
	if (!env)
		return;
	env[count] = strdup(home);
	env[count + 1] = NULL;
	o->env = env;
}

void child_prepare(struct process_order *o, int sync, char *path, size_t size)
{
	char text[16];

	if (o->oom_score_adj <= 1000) {
		snprintf(text, sizeof text, "%d", o->oom_score_adj);
		write_text("/proc/self/oom_score_adj", text);
	}
	if (chdir(o->cwd) && (mkdir(o->cwd, 0755), chdir(o->cwd)))
		child_fail(sync, errno, "cwd: %s: %s", o->cwd, strerror(errno));
	add_home(o);
	find_program(o, sync, path, size);
}

int last_capability(void)
{
	static int last = -1;

	while (last < 63 && prctl(PR_CAPBSET_READ, last + 1, 0, 0, 0) >= 0)
		last++;
	return last;
}

static bool set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = {
		{ effective, permitted, inheritable },
		{ effective >> 32, permitted >> 32, inheritable >> 32 },
	};

	return !syscall(SYS_capset, &header, data);
}

static void install_filter(const struct process_order *o, int sync)
{
	struct sock_fprog program = { o->filter_count, o->filter };

	if (o->filter_count && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, o->filter_flags, &program))
		child_fail(sync, errno, "cannot install the seccomp filter: %s", strerror(errno));
}

static void set_identity(struct process_order *o, int sync)
{
	uint64_t effective = o->caps[1], inheritable = o->caps[2], permitted = o->caps[3], ambient = o->caps[4];

	/* The kernel may know fewer capabilities than the order names. */
	int last = last_capability();

	for (int cap = 0; cap <= last; cap++)
		if (!(o->caps[0] >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			child_fail(sync, errno, "cannot drop capability %d", cap);
	/* The agent is root without groups. */
	bool other = o->uid || o->gid || o->gid_count;
	if (other)
		prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (other && (syscall(SYS_setgroups, (size_t)o->gid_count, o->gids) ||
		      syscall(SYS_setresgid, o->gid, o->gid, o->gid) || syscall(SYS_setresuid, o->uid, o->uid, o->uid)))
		child_fail(sync, errno, "cannot become user %u: %s", o->uid, strerror(errno));
	if (other)
		prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	if (o->no_new_privs)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	uint64_t known = last >= 63 ? ~0ULL : (1ULL << (last + 1)) - 1;
	/*
	 * As runc: without no_new_privs a filter takes CAP_SYS_ADMIN, so it is there before capabilities go; otherwise it comes
	 * last. What follows it here has to be allowed by it: capset, prctl and execve, and in the other case execve.
	 */
	if (o->filter_count && !o->no_new_privs) {
		uint64_t all = 1ULL << CAP_SYS_ADMIN | 1ULL << CAP_SETPCAP;
		if (!set_capabilities(all, all | (permitted & known), 0))
			child_fail(sync, errno, "cannot set capabilities: %s", strerror(errno));
		install_filter(o, sync);
	}
	if (!set_capabilities(effective & known, permitted & known, inheritable & known))
		child_fail(sync, errno, "cannot set capabilities: %s", strerror(errno));
	for (int cap = 0; cap <= last && cap < 64; cap++)
		if (ambient >> cap & 1)
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	if (o->no_new_privs)
		install_filter(o, sync);
}

void signals_default(void)
{
	static bool done;
	sigset_t none;

	if (done)
		return;
	done = true;
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void child_exec(struct process_order *o, int sync, const char *path)
{

	for (uint32_t i = 0; i < o->limit_count; i++) {
		struct rlimit limit = { o->limits[i].soft, o->limits[i].hard };
		if (setrlimit(o->limits[i].resource, &limit))
			child_fail(sync, errno, "rlimits: resource %u: %s", o->limits[i].resource, strerror(errno));
	}
	umask(o->umask < 0 ? 022 : o->umask);
	signals_default();
	set_identity(o, sync);
	execve(path, o->args, o->env);
	child_fail(sync, errno, "exec %s: %s", path, errno == ENOENT ? "no such file or directory" : strerror(errno));
}
