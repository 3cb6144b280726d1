// SPDX-License-Identifier: Apache-2.0
/*
 * What the library does when nothing is in its way, written down as the plain
 * sequence of its system calls: the least that the library can cost. strace -c
 * of either shows the same calls.
 */
#define _GNU_SOURCE
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { REFRESH_NS = 10000000 };

static int diag, route, barrier, range_file, reserved_file, count_file, count_file6;

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die("cannot open %s", path);
	return fd;
}

void open_calls(void)
{
	diag = diag_open();
	route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (diag < 0 || route < 0)
		die("cannot open netlink");
	barrier = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (barrier < 0 || set_option(barrier, SOL_SOCKET, SO_REUSEADDR, 1))
		die("cannot make the barrier");
	range_file = open_file("/proc/sys/net/ipv4/ip_local_port_range");
	reserved_file = open_file("/proc/sys/net/ipv4/ip_local_reserved_ports");
	count_file = open_file("/proc/thread-self/net/sockstat");
	count_file6 = open_file("/proc/thread-self/net/sockstat6");
}

static void check(int result, const char *what)
{
	if (result < 0)
		die("%s", what);
}

static long get_option(int fd, int level, int option, socklen_t length)
{
	long value = 0;

	check(getsockopt(fd, level, option, &value, &length), "getsockopt");
	return value;
}

/* What a socket of the caller's is asked before anything is done to it. */
static void look_at(int fd, bool is_udp)
{
	union name name;
	socklen_t length = sizeof(name);

	check(getsockname(fd, &name.any, &length), "getsockname");
	get_option(fd, SOL_SOCKET, SO_PROTOCOL, sizeof(int));
	if (!is_udp)
		get_option(fd, SOL_SOCKET, SO_TYPE, sizeof(int));
	get_option(fd, SOL_SOCKET, SO_REUSEADDR, sizeof(int));
	get_option(fd, SOL_SOCKET, SO_BINDTOIFINDEX, sizeof(int));
	if (!is_udp)
		return;
	get_option(fd, SOL_SOCKET, SO_REUSEPORT, sizeof(int));
	get_option(fd, SOL_IP, IP_LOCAL_PORT_RANGE, sizeof(int));
}

/* Whether what is kept is still there. */
static void recognize(int kept)
{
	get_option(kept, SOL_SOCKET, SO_COOKIE, sizeof(uint64_t));
}

static bool is_due(uint64_t *done_at, clockid_t clock)
{
	struct timespec time;
	uint64_t now;

	clock_gettime(clock, &time);
	now = time.tv_sec * 1000000000ull + time.tv_nsec;
	if (now - *done_at <= REFRESH_NS)
		return false;
	*done_at = now;
	return true;
}

/* The port range, the reserved ports and how many sockets there are, every ten milliseconds. */
static void refresh_ports(void)
{
	static uint64_t read_at;
	char text[4096];

	if (!is_due(&read_at, CLOCK_MONOTONIC_COARSE))
		return;
	check(pread(range_file, text, 64, 0), "pread");
	check(pread(reserved_file, text, sizeof(text), 0), "pread");
	check(pread(count_file, text, 1024, 0), "pread");
	check(pread(count_file6, text, 1024, 0), "pread");
}

/* ip route get [remote]: the preferred source, asked for every ten milliseconds. */
static void ask_route(const union name *remote, union name *local)
{
	static uint64_t asked_at;
	static struct in_addr source;
	struct {
		struct nlmsghdr header;
		struct rtmsg route;
		struct rtattr attribute;
		struct in_addr address;
	} request = {
	    .header = {sizeof(request), RTM_GETROUTE, NLM_F_REQUEST, 0, 0},
	    .route = {.rtm_family = AF_INET, .rtm_dst_len = 32},
	    .attribute = {RTA_LENGTH(sizeof(struct in_addr)), RTA_DST},
	    .address = remote->v4.sin_addr,
	};
	union {
		struct nlmsghdr header;
		char bytes[1024];
	} reply;
	struct rtattr *attribute =
	    (struct rtattr *)(reply.bytes + NLMSG_SPACE(sizeof(struct rtmsg)));
	int left;

	local->v4.sin_addr = source;
	if (!is_due(&asked_at, CLOCK_MONOTONIC))
		return;
	recognize(route);
	check(send(route, &request, sizeof(request), 0), "send");
	check(recv(route, &reply, sizeof(reply), MSG_TRUNC), "recv");
	left = reply.header.nlmsg_len - NLMSG_SPACE(sizeof(struct rtmsg));
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if (attribute->rta_type == RTA_PREFSRC)
			memcpy(&source, RTA_DATA(attribute), sizeof(source));
	local->v4.sin_addr = source;
}

static void must_receive(const union name *local, const union name *remote, uint64_t expected)
{
	uint64_t cookie;

	check(diag_receiver(diag, local, remote, &cookie), "SOCK_DIAG");
	errno = 0;
	if (cookie != expected)
		die("somebody else is on the port");
}

/* bind() to a port that the kernel lets go of again at connect(AF_UNSPEC). */
static void bind_lent(int fd, const union name *local)
{
	union name any_port = *local;
	uint32_t port = ntohs(local->v4.sin_port);

	any_port.v4.sin_port = 0;
	check(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1), "SO_REUSEADDR");
	check(set_option(fd, SOL_IP, IP_LOCAL_PORT_RANGE, port << 16 | port), "range");
	check(bind(fd, &any_port.any, name_length(local)), "bind");
	check(set_option(fd, SOL_IP, IP_LOCAL_PORT_RANGE, 0), "range");
}

static void connect_locked(int fd, const union name *local, const union name *remote,
			   uint64_t cookie)
{
	recognize(barrier);
	check(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 0), "SO_REUSEADDR");
	if (!bind(barrier, &local->any, name_length(local)))
		die("the lock does not hold");
	must_receive(local, remote, cookie);
	check(connect(fd, &remote->any, name_length(remote)), "connect");
	check(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1), "SO_REUSEADDR");
}

static void connect_from(int fd, const union name *local, const union name *remote, uint64_t cookie)
{
	must_receive(local, remote, 0);
	bind_lent(fd, local);
	connect_locked(fd, local, remote, cookie);
}

static uint64_t read_cookies(int fd)
{
	get_option(fd, SOL_SOCKET, SO_NETNS_COOKIE, sizeof(uint64_t));
	return get_option(fd, SOL_SOCKET, SO_COOKIE, sizeof(uint64_t));
}

/* What the route depends on, besides the destination. */
static void ask_for_route_options(int fd)
{
	struct stat status;

	get_option(fd, SOL_SOCKET, SO_MARK, sizeof(int));
	get_option(fd, SOL_IP, IP_TOS, sizeof(int));
	get_option(fd, SOL_SOCKET, SO_DONTROUTE, sizeof(int));
	get_option(fd, SOL_IP, IP_UNICAST_IF, sizeof(int));
	check(fstat(fd, &status), "fstat");
}

void call_udp_to(int fd, const union name *remote)
{
	union name local = {.v4 = {.sin_family = AF_INET}};

	look_at(fd, true);
	read_cookies(fd);
	recognize(diag);
	ask_for_route_options(fd);
	ask_route(remote, &local);
	refresh_ports();
	check(bind(fd, &local.any, name_length(&local)), "bind");
	check(connect(fd, &remote->any, name_length(remote)), "connect");
	check(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1), "SO_REUSEADDR");
}

void call_udp_from(int fd, const union name *local, const union name *remote)
{
	uint64_t cookie;

	look_at(fd, true);
	cookie = read_cookies(fd);
	recognize(diag);
	refresh_ports();
	connect_from(fd, local, remote, cookie);
}

void call_tcp_from(int fd, const union name *local, const union name *remote)
{
	look_at(fd, false);
	check(set_option(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1), "IP_BIND_ADDRESS_NO_PORT");
	check(bind(fd, &local->any, name_length(local)), "bind");
	check(connect(fd, &remote->any, name_length(remote)), "connect");
}
