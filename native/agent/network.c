/*
 * The network of the VM's containers: a namespace of their own, made at boot, with loopback. The cards stay in the agent's,
 * unseen, until the host says which of them a container has and by what name, with addresses and routes of both families
 * (microvm/network.ts); so no network costs nothing. By rtnetlink(7).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

static int own_net = -1, pod_net = -1;

struct nl_message {
	struct nlmsghdr header;
	union { struct ifinfomsg link; struct ifaddrmsg address; struct rtmsg route; } body;
	char attributes[256];
};

static void message_begin(struct nl_message *m, int type, int flags, size_t body)
{
	memset(m, 0, sizeof *m);
	m->header.nlmsg_len = NLMSG_LENGTH(body);
	m->header.nlmsg_type = type;
	m->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
}

/* Values are addresses, names and numbers: a few of them fit. */
static void attribute(struct nl_message *m, int type, const void *value, size_t length)
{
	struct rtattr *a = (struct rtattr *)((char *)m + NLMSG_ALIGN(m->header.nlmsg_len));

	a->rta_type = type;
	a->rta_len = RTA_LENGTH(length);
	memcpy(RTA_DATA(a), value, length);
	m->header.nlmsg_len = NLMSG_ALIGN(m->header.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

/* 0 or an errno. */
static int talk(int fd, struct nl_message *m)
{
	struct { struct nlmsghdr header; struct nlmsgerr error; char rest[4096]; } answer;

	if (send(fd, m, m->header.nlmsg_len, 0) < 0)
		return errno;
	for (;;) {
		ssize_t n = recv(fd, &answer, sizeof answer, 0);
		if (n < 0 && errno != EINTR)
			return errno;
		if (n >= (ssize_t)NLMSG_LENGTH(sizeof answer.error) && answer.header.nlmsg_type == NLMSG_ERROR)
			return -answer.error.error;
	}
}

static int netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
}

static int set_up(int fd, unsigned index)
{
	struct nl_message m;

	message_begin(&m, RTM_NEWLINK, 0, sizeof m.body.link);
	m.body.link.ifi_index = index;
	m.body.link.ifi_flags = m.body.link.ifi_change = IFF_UP;
	return talk(fd, &m);
}

void network_start(void)
{
	own_net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (own_net < 0 || unshare(CLONE_NEWNET))
		die("no network namespace");
	pod_net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd = netlink();
	if (pod_net < 0 || fd < 0 || set_up(fd, if_nametoindex("lo")) || setns(own_net, CLONE_NEWNET))
		die("no loopback");
	close(fd);
}

bool network_enter(void)
{
	return !setns(pod_net, CLONE_NEWNET);
}

/* The card that QEMU has given this number, by its address (microvm/qemu.ts). 0: there is none (any more). */
static unsigned find_card(unsigned number)
{
	DIR *dir = opendir("/sys/class/net");
	struct dirent *entry;
	char wanted[32], path[320], text[64];
	unsigned index = 0;

	snprintf(wanted, sizeof wanted, "52:54:00:00:00:%02x", number);
	while (dir && !index && (entry = readdir(dir))) {
		snprintf(path, sizeof path, "/sys/class/net/%s/address", entry->d_name);
		if (read_text(path, text, sizeof text) > 0 && !strncmp(text, wanted, strlen(wanted)))
			index = if_nametoindex(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return index;
}

static int family(const struct address *a)
{
	return a->length == 4 ? AF_INET : AF_INET6;
}

static int add_address(int fd, unsigned index, const struct network *n)
{
	struct nl_message m;

	message_begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof m.body.address);
	m.body.address.ifa_family = family(&n->address);
	m.body.address.ifa_prefixlen = n->prefix;
	m.body.address.ifa_index = index;
	/* It has been found to be nobody else's where it comes from. */
	m.body.address.ifa_flags = family(&n->address) == AF_INET6 ? IFA_F_NODAD : 0;
	attribute(&m, IFA_LOCAL, n->address.bytes, n->address.length);
	attribute(&m, IFA_ADDRESS, n->address.bytes, n->address.length);
	if (n->address.length == 4 && n->prefix < 31) {
		uint32_t all;
		memcpy(&all, n->address.bytes, 4);
		all |= htonl(~0U >> n->prefix);
		attribute(&m, IFA_BROADCAST, &all, 4);
	}
	return talk(fd, &m);
}

static int add_route(int fd, unsigned index, const struct route_order *o)
{
	struct nl_message m;
	bool routed = o->gateway.length || o->to.address.length == 16;

	message_begin(&m, RTM_NEWROUTE, NLM_F_CREATE, sizeof m.body.route);
	m.body.route.rtm_family = family(&o->to.address);
	m.body.route.rtm_dst_len = o->to.prefix;
	m.body.route.rtm_flags = o->onlink ? RTNH_F_ONLINK : 0;
	m.body.route.rtm_table = RT_TABLE_MAIN;
	m.body.route.rtm_protocol = RTPROT_STATIC;
	m.body.route.rtm_type = RTN_UNICAST;
	m.body.route.rtm_scope = routed ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	attribute(&m, RTA_DST, o->to.address.bytes, o->to.address.length);
	attribute(&m, RTA_OIF, &index, sizeof index);
	if (o->gateway.length)
		attribute(&m, RTA_GATEWAY, o->gateway.bytes, o->gateway.length);
	if (o->source.length)
		attribute(&m, RTA_PREFSRC, o->source.bytes, o->source.length);
	if (o->metric)
		attribute(&m, RTA_PRIORITY, &o->metric, sizeof o->metric);
	int error = talk(fd, &m);
	return error == EEXIST ? 0 : error;
}

static int move_card(unsigned number, const char *name)
{
	struct nl_message m;
	int fd = netlink();
	unsigned index = find_card(number);
	int error = !index ? ENODEV : fd < 0 ? errno : 0;

	if (!error) {
		message_begin(&m, RTM_NEWLINK, 0, sizeof m.body.link);
		m.body.link.ifi_index = index;
		attribute(&m, IFLA_NET_NS_FD, &pod_net, sizeof pod_net);
		attribute(&m, IFLA_IFNAME, name, strlen(name) + 1);
		error = talk(fd, &m);
	}
	if (fd >= 0)
		close(fd);
	return error;
}

/* In the containers' namespace. */
static int set_interface(const struct interface_order *o)
{
	struct nl_message m;
	unsigned index = if_nametoindex(o->name);
	int fd = netlink();

	if (fd < 0)
		return errno;
	message_begin(&m, RTM_NEWLINK, 0, sizeof m.body.link);
	m.body.link.ifi_index = index;
	attribute(&m, IFLA_ADDRESS, o->mac, sizeof o->mac);
	if (o->mtu)
		attribute(&m, IFLA_MTU, &o->mtu, sizeof o->mtu);
	int error = talk(fd, &m);
	for (uint32_t i = 0; i < o->address_count && !error; i++)
		error = add_address(fd, index, &o->addresses[i]);
	if (!error)
		error = set_up(fd, index);
	for (uint32_t i = 0; i < o->route_count && !error; i++)
		error = add_route(fd, index, &o->routes[i]);
	close(fd);
	return error;
}

int network_configure(const struct network_order *o)
{
	int error = 0;

	for (uint32_t i = 0; i < o->count && !error; i++)
		error = move_card(o->interfaces[i].card, o->interfaces[i].name);
	if (error)
		return error;
	if (!network_enter())
		return errno;
	for (uint32_t i = 0; i < o->count && !error; i++)
		error = set_interface(&o->interfaces[i]);
	if (setns(own_net, CLONE_NEWNET))
		die("the agent's network namespace");
	return error;
}
