// SPDX-License-Identifier: Apache-2.0
/*
 * Addresses and tuples in one form, and the sockets that have them.
 */
#include "stress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static struct address map(const struct in_addr *v4)
{
	struct address address;

	memcpy(address.bytes, mapped_prefix, sizeof(mapped_prefix));
	memcpy(address.bytes + sizeof(mapped_prefix), v4, sizeof(*v4));
	return address;
}

struct address address_of(const char *text)
{
	struct address address;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return map(&v4);
	if (inet_pton(AF_INET6, text, &address) != 1)
		fail(EXIT_CANNOT_RUN, "not an address: %s", text);
	return address;
}

struct shape shape_at(int family, const char *local, uint16_t port)
{
	return (struct shape){.family = family, .local = address_of(local), .port = port};
}

bool is_same_address(const struct address *a, const struct address *b)
{
	return !memcmp(a, b, sizeof(*a));
}

bool is_mapped(const struct address *address)
{
	return !memcmp(address->bytes, mapped_prefix, sizeof(mapped_prefix));
}

bool is_wildcard(const struct address *address)
{
	static const struct address any;

	if (is_mapped(address))
		return !memcmp(address->bytes + sizeof(mapped_prefix), &any,
			       sizeof(struct in_addr));
	return is_same_address(address, &any);
}

bool is_same_tuple(const struct tuple *a, const struct tuple *b)
{
	return a->local_port == b->local_port && a->remote_port == b->remote_port &&
	       is_same_address(&a->local, &b->local) && is_same_address(&a->remote, &b->remote);
}

static void print_endpoint(const struct address *address, uint16_t port, char *text, size_t size)
{
	char printed[ADDRESS_TEXT_LENGTH];

	if (is_mapped(address)) {
		inet_ntop(AF_INET, address->bytes + 12, printed, sizeof(printed));
		snprintf(text, size, "%s:%u", printed, port);
	} else {
		inet_ntop(AF_INET6, address, printed, sizeof(printed));
		snprintf(text, size, "[%s]:%u", printed, port);
	}
}

void print_tuple(const struct tuple *tuple, char text[TUPLE_TEXT_LENGTH])
{
	char local[ADDRESS_TEXT_LENGTH + 8], remote[ADDRESS_TEXT_LENGTH + 8];

	print_endpoint(&tuple->local, tuple->local_port, local, sizeof(local));
	print_endpoint(&tuple->remote, tuple->remote_port, remote, sizeof(remote));
	snprintf(text, TUPLE_TEXT_LENGTH, "%s -> %s", local, remote);
}

union any_sockaddr {
	struct sockaddr generic;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t fill_sockaddr(union any_sockaddr *to, int family, const struct address *address,
			       uint16_t port)
{
	memset(to, 0, sizeof(*to));
	if (family == AF_INET) {
		to->v4.sin_family = AF_INET;
		to->v4.sin_port = htons(port);
		memcpy(&to->v4.sin_addr, address->bytes + 12, sizeof(to->v4.sin_addr));
		return sizeof(to->v4);
	}
	to->v6.sin6_family = AF_INET6;
	to->v6.sin6_port = htons(port);
	memcpy(&to->v6.sin6_addr, address, sizeof(to->v6.sin6_addr));
	return sizeof(to->v6);
}

static int set_flag(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value));
}

int bind_shape(int fd, const struct shape *shape)
{
	union any_sockaddr local;
	socklen_t length = fill_sockaddr(&local, shape->family, &shape->local, shape->port);

	return bind(fd, &local.generic, length);
}

void set_sharing(int fd, unsigned sharing)
{
	set_flag(fd, SOL_SOCKET, SO_REUSEADDR, sharing & 1);
	set_flag(fd, SOL_SOCKET, SO_REUSEPORT, sharing >> 1);
}

int set_own_port_range(int fd, uint16_t first, uint16_t last)
{
	uint32_t range = (uint32_t)last << 16 | first;

	return set_flag(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, (int)range);
}

void send_to(int fd, const struct destination *destination)
{
	union any_sockaddr remote;
	socklen_t length =
	    fill_sockaddr(&remote, destination->family, &destination->address, destination->port);

	sendto(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, &remote.generic, length);
}

static int apply(int fd, const struct shape *shape)
{
	if (!shape->exclusive && set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1))
		return -1;
	if (shape->in_group && set_flag(fd, SOL_SOCKET, SO_REUSEPORT, 1))
		return -1;
	if (shape->family == AF_INET6 && set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0))
		return -1;
	if (shape->on_device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3))
		return -1;
	if (shape->may_broadcast && set_flag(fd, SOL_SOCKET, SO_BROADCAST, 1))
		return -1;
	if (shape->port_at_connect && set_flag(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1))
		return -1;
	return shape->unbound ? 0 : bind_shape(fd, shape);
}

int open_shape(const struct shape *shape)
{
	int type = shape->type ? shape->type : SOCK_DGRAM;
	int fd = socket(shape->family, type | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0 || !apply(fd, shape))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

int connect_to(int fd, const struct destination *destination)
{
	union any_sockaddr remote;
	socklen_t length =
	    fill_sockaddr(&remote, destination->family, &destination->address, destination->port);

	return connect(fd, &remote.generic, length) ? errno : 0;
}

int disconnect(int fd)
{
	struct sockaddr unspecified = {.sa_family = AF_UNSPEC};

	return connect(fd, &unspecified, sizeof(unspecified)) ? errno : 0;
}

static void read_sockaddr(const union any_sockaddr *from, struct address *address, uint16_t *port)
{
	if (from->generic.sa_family == AF_INET) {
		*address = map(&from->v4.sin_addr);
		*port = ntohs(from->v4.sin_port);
	} else {
		memcpy(address, &from->v6.sin6_addr, sizeof(*address));
		*port = ntohs(from->v6.sin6_port);
	}
}

bool read_tuple(int fd, struct tuple *tuple)
{
	union any_sockaddr local = {0}, remote = {0};
	socklen_t local_length = sizeof(local), remote_length = sizeof(remote);

	if (getpeername(fd, &remote.generic, &remote_length) ||
	    getsockname(fd, &local.generic, &local_length))
		return false;
	read_sockaddr(&local, &tuple->local, &tuple->local_port);
	read_sockaddr(&remote, &tuple->remote, &tuple->remote_port);
	/*
	 * An IPv6 socket with an IPv6 address of its own that goes to an IPv4
	 * destination: to IPv4 traffic its address is the kernel's stand-in
	 * LOOPBACK4_IPV6, whatever getsockname() shows.
	 */
	if (is_mapped(&tuple->remote) && !is_mapped(&tuple->local))
		tuple->local = address_of("127.0.0.6");
	return true;
}

bool is_local_address(const struct address *address)
{
	struct shape shape = {.family = is_mapped(address) ? AF_INET : AF_INET6, .local = *address};
	int fd = open_shape(&shape);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}
