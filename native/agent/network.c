/* The VM's interface with the container's addresses and routes, as text lines for the routes' sake: see microvm/network.ts. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <linux/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

static int up(int fd, const char *name)
{
	struct ifreq i = { 0 };

	snprintf(i.ifr_name, IFNAMSIZ, "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &i))
		return errno;
	i.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &i) ? errno : 0;
}

/* A container without a network sees loopback and nothing else: the card's driver lets go of it. */
static void remove_card(void)
{
	char device[64] = "";

	if (readlink("/sys/class/net/eth0/device", device, sizeof device - 1) > 0 && strrchr(device, '/'))
		write_text("/sys/bus/virtio/drivers/virtio_net/unbind", strrchr(device, '/') + 1);
}

static struct sockaddr address(const char *text)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr out;

	inet_pton(AF_INET, text, &in.sin_addr);
	memcpy(&out, &in, sizeof out);
	return out;
}

/* [mac (6 bytes or none), mtu, [[address, netmask]], [[destination, gateway, netmask]]]: IPv4, dotted. Loopback always. */
int network_configure(struct reader *r)
{
	uint32_t mac_length;
	const unsigned char *mac = read_bytes(r, 6, &mac_length);
	int mtu = read_int(r, 0, 65535), error = 0;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq i = { 0 };

	snprintf(i.ifr_name, IFNAMSIZ, "eth0");
	if (r->bad || fd < 0)
		return close(fd), EINVAL;
	error = up(fd, "lo");
	if (!mac_length)
		remove_card();
	if (mac_length == 6) {
		i.ifr_hwaddr.sa_family = ARPHRD_ETHER;
		memcpy(i.ifr_hwaddr.sa_data, mac, 6);
		if (!error && ioctl(fd, SIOCSIFHWADDR, &i))
			error = errno;
		i.ifr_mtu = mtu;
		if (!error && mtu && ioctl(fd, SIOCSIFMTU, &i))
			error = errno;
	}
	uint32_t addresses = read_array(r, 16);
	for (uint32_t n = 0; n < addresses && !r->bad; n++) {
		if (read_array(r, 2) != 2)
			r->bad = true;
		char *own = read_string(r, 15), *mask = read_string(r, 15);
		/* Further addresses of one interface are aliases of it. */
		if (n)
			snprintf(i.ifr_name, IFNAMSIZ, "eth0:%u", n);
		if (!r->bad && !error) {
			i.ifr_addr = address(own);
			if (ioctl(fd, SIOCSIFADDR, &i))
				error = errno;
			i.ifr_netmask = address(mask);
			if (!error && ioctl(fd, SIOCSIFNETMASK, &i))
				error = errno;
		}
		free(own), free(mask);
	}
	if (mac_length == 6 && !error)
		error = up(fd, "eth0");
	uint32_t routes = read_array(r, 64);
	for (uint32_t n = 0; n < routes && !r->bad; n++) {
		if (read_array(r, 3) != 3)
			r->bad = true;
		char *to = read_string(r, 15), *via = read_string(r, 15), *mask = read_string(r, 15);
		if (!r->bad && !error) {
			struct rtentry route = { .rt_dst = address(to), .rt_gateway = address(via), .rt_genmask = address(mask),
						 .rt_flags = RTF_UP, .rt_dev = "eth0" };
			if (strcmp(via, "0.0.0.0"))
				route.rt_flags |= RTF_GATEWAY;
			if (ioctl(fd, SIOCADDRT, &route) && errno != EEXIST)
				error = errno;
		}
		free(to), free(via), free(mask);
	}
	close(fd);
	return error;
}
