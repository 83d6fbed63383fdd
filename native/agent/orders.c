/* Orders out of frames: every count and length is bounded here, and what is wrong is refused as a whole. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bpf_common.h>

#include "agent.h"

enum { MAX_PATH = 4096, MAX_TEXT = 1 << 17 /* Linux's own limit of one argument */ };

static void strings_free(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

static char **read_strings(struct reader *r)
{
	uint32_t count = read_array(r, MAX_STRINGS);
	char **list = calloc((size_t)count + 1, sizeof *list);

	if (!list)
		r->bad = true;
	for (uint32_t i = 0; list && i < count && !r->bad; i++)
		list[i] = read_string(r, MAX_TEXT);
	return list;
}

static uint32_t read_list(struct reader *r, char **out, uint32_t max)
{
	uint32_t count = read_array(r, max);

	for (uint32_t i = 0; i < count; i++)
		out[i] = read_string(r, MAX_PATH);
	return count;
}

static void read_filter(struct reader *r, struct process_order *o)
{
	uint32_t length;
	const unsigned char *program = read_bytes(r, BPF_MAXINSNS * sizeof *o->filter, &length);

	o->filter_flags = read_u32(r);
	if (length % sizeof *o->filter)
		r->bad = true;
	if (r->bad || !length)
		return;
	o->filter = malloc(length);
	if (!o->filter) {
		r->bad = true;
		return;
	}
	memcpy(o->filter, program, length);
	o->filter_count = length / sizeof *o->filter;
}

bool read_process(struct reader *r, struct process_order *o)
{
	memset(o, 0, sizeof *o);
	if (read_array(r, 17) != 17)
		r->bad = true;
	o->args = read_strings(r);
	o->env = read_strings(r);
	o->cwd = read_string(r, MAX_PATH);
	o->uid = read_u32(r);
	o->gid = read_u32(r);
	o->gid_count = read_array(r, 256);
	for (uint32_t i = 0; i < o->gid_count; i++)
		o->gids[i] = read_u32(r);
	o->umask = read_int(r, -1, 0777);
	if (read_array(r, 5) != 5)
		r->bad = true;
	for (int i = 0; i < 5; i++)
		o->caps[i] = read_u64(r);
	o->limit_count = read_array(r, 16);
	for (uint32_t i = 0; i < o->limit_count; i++) {
		if (read_array(r, 3) != 3)
			r->bad = true;
		o->limits[i].resource = read_int(r, 0, 15);
		o->limits[i].soft = read_u64(r);
		o->limits[i].hard = read_u64(r);
	}
	o->terminal = read_bool(r);
	o->rows = read_int(r, 0, 65535);
	o->cols = read_int(r, 0, 65535);
	o->no_new_privs = read_bool(r);
	o->oom_score_adj = read_int(r, -1000, 1001);
	if (read_array(r, 3) != 3)
		r->bad = true;
	for (int i = 0; i < 3; i++)
		o->stdio[i] = read_int(r, STDIO_NULL, STDIO_TTY);
	read_filter(r, o);
	if (r->bad || !o->args[0] || o->cwd[0] != '/' || o->terminal != (o->stdio[0] == STDIO_TTY)) {
		process_order_free(o);
		r->bad = true;
	}
	return !r->bad;
}

void process_order_free(struct process_order *o)
{
	strings_free(o->args);
	strings_free(o->env);
	free(o->cwd);
	free(o->filter);
	memset(o, 0, sizeof *o);
}

static void read_mount(struct reader *r, struct mount_order *m)
{
	if (read_array(r, 7) != 7)
		r->bad = true;
	m->destination = read_string(r, MAX_PATH);
	m->type = read_int(r, 0, 8);
	m->source = read_string(r, MAX_PATH);
	m->port = read_int(r, -1, 63);
	m->is_file = read_bool(r);
	m->flags = read_u32(r);
	m->options = read_string(r, MAX_PATH);
	if (m->destination && m->destination[0] != '/')
		r->bad = true;
}

bool read_container(struct reader *r, struct container_order *o)
{
	memset(o, 0, sizeof *o);
	memset(o->transport, -1, sizeof o->transport);
	o->id = read_u32(r);
	o->sandbox = read_u32(r);
	o->shared_by = read_int(r, BY_NINEP, BY_FUSE);
	if (read_array(r, 3) != 3)
		r->bad = true;
	o->root_port = read_int(r, 0, 63);
	o->root_readonly = read_bool(r);
	o->root_overlay = read_bool(r);
	o->mount_count = read_array(r, MAX_MOUNTS);
	for (uint32_t i = 0; i < o->mount_count; i++)
		read_mount(r, &o->mounts[i]);
	o->masked_count = read_list(r, o->masked, 128);
	o->readonly_count = read_list(r, o->readonly, 128);
	o->hostname = read_string(r, 64);
	o->domainname = read_string(r, 64);
	o->sysctl_count = read_list(r, o->sysctl, 128);
	o->pids = read_u32(r);
	o->memory_kib = read_u32(r);
	o->at_once = read_bool(r);
	if (r->bad || !read_process(r, &o->process)) {
		container_order_free(o);
		r->bad = true;
	}
	return !r->bad;
}

void container_order_free(struct container_order *o)
{
	for (int i = 0; i < MAX_MOUNTS; i++) {
		free(o->mounts[i].destination);
		free(o->mounts[i].source);
		free(o->mounts[i].options);
	}
	for (int i = 0; i < 128; i++) {
		free(o->masked[i]);
		free(o->readonly[i]);
		free(o->sysctl[i]);
	}
	free(o->hostname);
	free(o->domainname);
	process_order_free(&o->process);
}

static void read_address(struct reader *r, struct address *a, bool may_be_nothing)
{
	const unsigned char *bytes = read_bytes(r, sizeof a->bytes, &a->length);

	if (a->length != 4 && a->length != 16 && !(a->length == 0 && may_be_nothing))
		r->bad = true;
	if (!r->bad)
		memcpy(a->bytes, bytes, a->length);
}

static void read_network_address(struct reader *r, struct network *n)
{
	read_address(r, &n->address, false);
	n->prefix = read_int(r, 0, n->address.length == 4 ? 32 : 128);
}

static void read_route(struct reader *r, struct route_order *o)
{
	if (read_array(r, 6) != 6)
		r->bad = true;
	read_network_address(r, &o->to);
	read_address(r, &o->gateway, true);
	read_address(r, &o->source, true);
	o->metric = read_u32(r);
	o->onlink = read_bool(r);
	if ((o->gateway.length && o->gateway.length != o->to.address.length) ||
	    (o->source.length && o->source.length != o->to.address.length))
		r->bad = true;
}

static void read_interface(struct reader *r, struct interface_order *o)
{
	uint32_t length;

	if (read_array(r, 6) != 6)
		r->bad = true;
	o->card = read_int(r, 0, MAX_CARDS - 1);
	const unsigned char *name = read_bytes(r, sizeof o->name - 1, &length);
	if (!r->bad)
		memcpy(o->name, name, length);
	if (!o->name[0] || strlen(o->name) != length || strchr(o->name, '/'))
		r->bad = true;
	const unsigned char *mac = read_bytes(r, sizeof o->mac, &length);
	if (length != sizeof o->mac)
		r->bad = true;
	if (!r->bad)
		memcpy(o->mac, mac, sizeof o->mac);
	o->mtu = read_int(r, 0, 65535);
	o->address_count = read_array(r, sizeof o->addresses / sizeof *o->addresses);
	for (uint32_t i = 0; i < o->address_count && !r->bad; i++) {
		if (read_array(r, 2) != 2)
			r->bad = true;
		read_network_address(r, &o->addresses[i]);
	}
	o->route_count = read_array(r, sizeof o->routes / sizeof *o->routes);
	for (uint32_t i = 0; i < o->route_count && !r->bad; i++)
		read_route(r, &o->routes[i]);
}

bool read_network(struct reader *r, struct network_order *o)
{
	memset(o, 0, sizeof *o);
	o->count = read_array(r, MAX_CARDS);
	for (uint32_t i = 0; i < o->count && !r->bad; i++)
		read_interface(r, &o->interfaces[i]);
	return !r->bad;
}
