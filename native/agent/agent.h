/*
 * The agent: pid 1 of the VM of --platform=microvm. C because it is the guest's init: it has to be small, static and there
 * before any file system; a JavaScript engine would be most of the VM's memory.
 *
 * One poll loop (loop in init.c), and beside it the relay of the 9P connections (relay.c). Neither may wait for a file of a
 * container, whose end it would have to bring about: what may wait happens in children, and no path is touched that is not
 * of the agent's own initramfs, /proc, /sys or the cgroup tree.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/filter.h>

#include "frame.h"

enum {
	AGENT_VERSION = 1,
	MAX_PROCESSES = 256, /* started by the host; what they start themselves is theirs */
	MAX_MOUNTS = 32,     /* of one container; the host has no more 9P ports than that */
	MAX_CARDS = 4,
	MAX_STRINGS = 16384, /* arguments or variables of one process */
	WINDOW = 65536,      /* bytes of one stream that are on their way at most, in each direction */
	CHUNK = 16384,
	STREAMS = 3,
	TERMINAL = 2, /* index of a terminal's stream */
};

/* Kinds of messages; microvm/messages.ts has the same table with what each carries. */
enum message {
	MSG_WAKE = 1,
	MSG_CREATE,
	MSG_START,
	MSG_EXEC,
	MSG_INPUT,
	MSG_CREDIT,
	MSG_SIGNAL,
	MSG_RESIZE,
	MSG_PROCESSES,
	MSG_STATS,
	MSG_FREEZE,
	MSG_UPDATE,
	MSG_CLOSE,
	MSG_NETWORK,
	MSG_HELLO = 64,
	MSG_REPLY,
	MSG_OUTPUT,
	MSG_CONSUMED,
	MSG_EXIT,
};

enum stdio_kind { STDIO_NULL, STDIO_PIPE, STDIO_TTY };
enum signal_target { TARGET_PROCESS, TARGET_GROUP, TARGET_ALL };

struct rlimit_order {
	uint32_t resource;
	uint64_t soft, hard;
};

/* What a process is started with, out of a frame; strings are copies with a NUL (strings_free). */
struct process_order {
	char **args, **env;
	char *cwd;
	uint32_t uid, gid, gid_count;
	gid_t gids[256];
	int umask;
	uint64_t caps[5]; /* bounding, effective, inheritable, permitted, ambient */
	uint32_t limit_count;
	struct rlimit_order limits[16];
	bool terminal, no_new_privs;
	uint32_t rows, cols;
	int oom_score_adj; /* 1001: as it is */
	uint32_t stdio[3];
	/* For seccomp(2); count 0: none. The kernel checks the program itself. */
	struct sock_filter *filter;
	uint32_t filter_count, filter_flags;
};

/* As microvm/messages.ts numbers them. */
enum mount_type {
	MOUNT_GOFER,
	MOUNT_TMPFS,
	MOUNT_PROC,
	MOUNT_SYSFS,
	MOUNT_DEVPTS,
	MOUNT_MQUEUE,
	MOUNT_CGROUP,
	MOUNT_CGROUP2,
	MOUNT_DEV,
};

struct mount_order {
	char *destination, *source, *options;
	uint32_t type, flags;
	int port; /* of the 9P connection, else -1 */
	bool is_file;
};

/* Who serves the mounts: gofers by ports; or one file system of the VM, with a folder for each port. */
enum shared_by { BY_NINEP, BY_VIRTIO_9P, BY_VIRTIOFSD, BY_FUSE };
#define BY_GOFER(order) ((order)->shared_by == BY_NINEP || (order)->shared_by == BY_FUSE)

struct container_order {
	uint32_t id, sandbox; /* sandbox: the container whose ipc and uts namespaces it shares, or 0 */
	enum shared_by shared_by;
	int root_port;
	bool root_readonly, root_overlay, at_once; /* at_once: init runs when it is there, without a START */
	char *hostname, *domainname;
	uint32_t mount_count, masked_count, readonly_count, sysctl_count;
	struct mount_order mounts[MAX_MOUNTS];
	char *masked[128], *readonly[128], *sysctl[128]; /* sysctl: NAME=VALUE */
	uint32_t pids, memory_kib;
	struct process_order process;
	/*
	 * What mount(2) reads from and writes to, of the 9P mounts by port: pipes of the relay, filled in by relay_open. Of a FUSE
	 * mount, itself and -1.
	 */
	int transport[64][2];
};

/* Of the family that its length says: 0 nothing, 4 IPv4, 16 IPv6. */
struct address {
	uint32_t length;
	unsigned char bytes[16];
};

struct network {
	struct address address;
	uint32_t prefix;
};

struct route_order {
	struct network to;
	struct address gateway, source; /* either may be nothing */
	uint32_t metric;
	bool onlink;
};

struct interface_order {
	uint32_t card, mtu, address_count, route_count;
	char name[16];
	unsigned char mac[6];
	struct network addresses[16];
	struct route_order routes[64];
};

struct network_order {
	uint32_t count;
	struct interface_order interfaces[MAX_CARDS];
};

/* orders.c: frames to orders. False: malformed; nothing is left allocated. */
bool read_process(struct reader *r, struct process_order *out);
bool read_container(struct reader *r, struct container_order *out);
bool read_network(struct reader *r, struct network_order *out);
void process_order_free(struct process_order *o);
void container_order_free(struct container_order *o);

/* init.c */
void die(const char *what) __attribute__((noreturn));
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void send_frame(struct writer *w);
void reply(uint32_t seq, int error, const char *text);
bool write_text(const char *path, const char *text);
long read_text(const char *path, char *out, size_t size);
/* Has pages that were shared by a fork copied now, before the VM is saved. */
void own_memory(void);

/* process.c: the processes that the host started, their descriptors and their ends. */
struct process {
	bool used;
	uint32_t handle, container, seq; /* seq: of the request that is not answered yet, else 0 */
	pid_t pid;                       /* ours */
	uint32_t inner;                  /* its own */
	bool ready, started, at_once, exited, reported, input_closed;
	int status;
	int mounts;    /* its mount namespace while it is a container's init, so that its end is not that of the mounts */
	bool writes;   /* something of it may have to be written back */
	pid_t flusher; /* who does that; 0: nobody yet; -1: done */
	int sync;      /* SOCK_SEQPACKET to the child until it has exec'd, else -1 */
	int input;     /* -1: none */
	int output[STREAMS]; /* pipes of standard output and error; a terminal's master, which is `input`, too */
	uint32_t unacknowledged[STREAMS];
	unsigned char *pending; /* input that the process has not taken */
	uint32_t pending_start, pending_length;
};
extern struct process processes[MAX_PROCESSES];
struct process *process_by_handle(uint32_t handle);
struct process *process_init(uint32_t container);
/* Forks; returns 0 in the child, with its end of the sync socket and stdio (-1: made by the child) in place. */
int process_begin(uint32_t handle, uint32_t container, uint32_t seq, const uint32_t stdio[3], unsigned long clone_flags,
		  int *sync);
/* The same for a process that is there already, with pipes of whose ours are given. */
int process_adopt(uint32_t handle, uint32_t container, uint32_t seq, const uint32_t stdio[3], pid_t pid, int sync,
		  int mounts, const int ours[3]);
/* For the standard descriptor i: our end, never waiting, and theirs. 0 or an errno. */
int stdio_pipe(int i, int *ours, int *theirs);
/* In the child: its own descriptors 0, 1 and 2 where they are pipes or nothing. */
void take_stdio(const uint32_t stdio[3], const int pipes[3]);
void process_input(uint32_t handle, const unsigned char *bytes, uint32_t length);
void process_credit(uint32_t handle, uint32_t stream, uint32_t count);
/* Nobody on the host reads the stream any more: its writers get EPIPE. */
void process_close(uint32_t handle, uint32_t stream);
void process_resize(uint32_t handle, uint32_t rows, uint32_t cols);
void process_start(uint32_t seq, uint32_t container);
/* Collects what has ended; `vital` must not. */
void reap(pid_t vital);
/* The poll loop's view: descriptors are added to `fds`, then served. */
struct pollfd;
int processes_poll(struct pollfd *fds, int count);
void processes_serve(void);

/* child.c: in the child, until exec. */
int pty_open(const struct process_order *o, int sync);
void child_prepare(struct process_order *o, int sync, char *path, size_t size);
void child_exec(struct process_order *o, int sync, const char *path) __attribute__((noreturn));
/* As a program expects them; once, which may be ahead. */
void signals_default(void);
/* Of the guest's kernel. What was found out before a fork is known after it. */
int last_capability(void);
void child_fail(int sync, int error, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));
void child_ready(int sync, uint32_t inner);

/* container.c */
extern const char *const mount_types[];
/* The nodes and links of a /dev: 0 or an errno. */
int make_devices(int dev);
/* What goes before the order is known. */
void container_prepare(uint32_t id, int sync);
/*
 * And what most need: the limits' files, in `limits`, or -1; an overlay over a detached mount, for which that is taken. Returns
 * something to hold it by, or -1.
 */
int container_prepare_more(uint32_t id, int limits[2], int lower);
/* `sandbox`: init of the sandbox, or 0. */
void container_main(struct container_order *o, pid_t sandbox, int sync) __attribute__((noreturn));
enum { MAX_PASSED = 2 * 64 + 3 };
/* pass.c: a message with descriptors over a socket; false, or -1 instead of how many came: the other end is gone. */
bool pass_fds(int socket, const void *text, size_t length, const int *fds, int count);
int receive_fds(int socket, void *text, size_t length, int *fds);

/* spare.c: the container that is there before it is ordered. */
enum { SPARE_CONTAINER = 1 };
void spare_start(void);
/* Whether the first container's overlay is there. */
bool spare_has_overlay(const struct container_order *o);
/* Its pid; 0: it is none for this container; or -errno. `bytes`: the order as it came. */
int spare_take(uint32_t handle, uint32_t seq, struct container_order *o, const unsigned char *bytes, uint32_t length);
/* In the container's process: a detached mount like this one, or -1. */
int spare_mount(const struct mount_order *m);

/* join.c: exec. */
void join_main(pid_t init, uint32_t container, struct process_order *o, int sync) __attribute__((noreturn));

/* control.c: what is asked of running containers. */
void control_start(void);
void handle_frame(const unsigned char *frame, uint32_t length);

/* fuse.c: the device and a detached mount, whose root is a file or a folder: 0 or -errno. */
int fuse_make(bool is_file, bool readonly, int *device, int *mounted);

/* fuse-answers.c: answers to requests that the kernel has made, their lengths; the second: 0 if it is the gofer's to answer. */
enum { FUSE_ANSWER = 128 };
bool fuse_is_init(const unsigned char *request, size_t length);
size_t fuse_answer_ahead(const unsigned char *request, size_t length, unsigned char out[FUSE_ANSWER]);
size_t fuse_answer_overlay(const unsigned char *request, size_t length, unsigned char out[FUSE_ANSWER]);

/* relay.c: ports of mounts, in a process of their own. */
pid_t relay_start(void);
int relay_open(int port, int transport[2]); /* 0, or -errno */
/*
 * By FUSE: a detached mount, whose root is a file or a folder; the same. Of what lies below an overlay, attributes of
 * overlayfs are not asked for; where that was mounted ahead, by relay_first_mount, nothing is left in `mounted`.
 */
enum overlaid { NOT_OVERLAID, OVERLAID, OVERLAID_AHEAD };
int relay_mount(int port, bool is_file, enum overlaid overlaid, int *mounted);
/* Made before the VM was saved, of the first port: for a root, or for the lower layer of its overlay. -1: there is none. */
int relay_first_mount(bool lower);
int find_port(const char *name);

/* network.c */
void network_start(void);
/* This process goes where the containers' network is. */
bool network_enter(void);
int network_configure(const struct network_order *o); /* 0 or an errno */
