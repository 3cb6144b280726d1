// SPDX-License-Identifier: Apache-2.0
/*
 * A network namespace of our own: nothing in it but loopback, with addresses
 * enough for sockets to differ in, and one network of each family whose
 * preferred source address can be changed while sockets connect to it.
 */
#include "stress.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* As in linux/ipv6.h, which can't be included beside netinet/in.h. */
struct in6_ifreq {
	struct in6_addr address;
	uint32_t prefix_length;
	int interface_index;
};

static const struct {
	const char *network4, *network6, *address4, *address6;
	unsigned prefix_length4, prefix_length6;
} shifting = {"10.99.0.0", "fd00:99::", "10.99.0.1", "fd00:99::1", 24, 64};

struct address shifting_address(int family)
{
	return address_of(family == AF_INET ? shifting.address4 : shifting.address6);
}

/* ip link set lo up */
static void bring_up_loopback(int fd)
{
	struct ifreq request = {.ifr_name = "lo"};

	if (ioctl(fd, SIOCGIFFLAGS, &request))
		fail(EXIT_CANNOT_RUN, "cannot read the flags of lo: %s", strerror(errno));
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		fail(EXIT_CANNOT_RUN, "cannot bring lo up: %s", strerror(errno));
}

/* ip address add 10.77.0.[index] dev lo label lo:[index] */
static void add_address4(int fd, int index)
{
	struct ifreq request = {.ifr_addr.sa_family = AF_INET};
	char text[32];
	struct address address;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "lo:%d", index);
	snprintf(text, sizeof(text), "10.77.0.%d", index);
	address = address_of(text);
	memcpy(&((struct sockaddr_in *)&request.ifr_addr)->sin_addr, address.bytes + 12, 4);
	if (ioctl(fd, SIOCSIFADDR, &request))
		fail(EXIT_CANNOT_RUN, "cannot give lo the address %s: %s", text, strerror(errno));
	/* Otherwise the whole network would be local, 10.99.0.0 included. */
	memset(&((struct sockaddr_in *)&request.ifr_addr)->sin_addr, 0xff, 4);
	if (ioctl(fd, SIOCSIFNETMASK, &request))
		fail(EXIT_CANNOT_RUN, "cannot set the netmask of %s: %s", text, strerror(errno));
}

/* ip address add fd00:77::[index]/128 dev lo */
static void add_address6(int fd, int index)
{
	struct in6_ifreq request = {.prefix_length = 128,
				    .interface_index = (int)if_nametoindex("lo")};
	char text[32];
	struct address address;

	snprintf(text, sizeof(text), "fd00:77::%d", index);
	address = address_of(text);
	memcpy(&request.address, &address, sizeof(request.address));
	if (ioctl(fd, SIOCSIFADDR, &request))
		fail(EXIT_CANNOT_RUN, "cannot give lo the address %s: %s", text, strerror(errno));
}

void enter_own_netns(void)
{
	enum { ADDRESSES = 4 };
	int v4, v6;

	if (unshare(CLONE_NEWNET))
		fail(EXIT_CANNOT_RUN,
		     "cannot make a network namespace: %s (--netns needs root or CAP_SYS_ADMIN)",
		     strerror(errno));
	v4 = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (v4 < 0)
		fail(EXIT_CANNOT_RUN, "cannot make a socket: %s", strerror(errno));
	bring_up_loopback(v4);
	for (int index = 1; index <= ADDRESSES; index++)
		add_address4(v4, index);
	close(v4);
	v6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (v6 < 0)
		return; /* a kernel without IPv6 */
	for (int index = 1; index <= ADDRESSES; index++)
		add_address6(v6, index);
	close(v6);
}

struct route_request {
	struct nlmsghdr header;
	struct rtmsg route;
	char attributes[128];
};

static void add_attribute(struct route_request *request, unsigned short type, const void *data,
			  size_t size)
{
	struct rtattr *attribute =
	    (struct rtattr *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(size);
	memcpy(RTA_DATA(attribute), data, size);
	request->header.nlmsg_len =
	    NLMSG_ALIGN(request->header.nlmsg_len) + (uint32_t)RTA_ALIGN(attribute->rta_len);
}

/* ip route replace local 10.99.0.0/24 dev lo table local src [source] */
void shift_route(int family, const struct address *source)
{
	bool v4 = family == AF_INET;
	size_t offset = v4 ? 12 : 0, size = v4 ? 4 : 16;
	struct address network = address_of(v4 ? shifting.network4 : shifting.network6);
	uint32_t interface_index = if_nametoindex("lo");
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} answer = {0};
	struct route_request request = {
	    .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
		       .nlmsg_type = RTM_NEWROUTE,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE},
	    .route = {.rtm_family = (unsigned char)family,
		      .rtm_dst_len =
			  (unsigned char)(v4 ? shifting.prefix_length4 : shifting.prefix_length6),
		      .rtm_table = RT_TABLE_LOCAL,
		      .rtm_protocol = RTPROT_STATIC,
		      .rtm_scope = RT_SCOPE_HOST,
		      .rtm_type = RTN_LOCAL},
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	add_attribute(&request, RTA_DST, network.bytes + offset, size);
	add_attribute(&request, RTA_PREFSRC, source->bytes + offset, size);
	add_attribute(&request, RTA_OIF, &interface_index, sizeof(interface_index));
	if (fd < 0 || send(fd, &request, request.header.nlmsg_len, 0) < 0 ||
	    recv(fd, &answer, sizeof(answer), 0) < 0)
		fail(EXIT_CANNOT_RUN, "cannot talk to rtnetlink: %s", strerror(errno));
	if (answer.error.error)
		fail(EXIT_CANNOT_RUN, "cannot change a route's preferred source: %s",
		     strerror(-answer.error.error));
	close(fd);
}
