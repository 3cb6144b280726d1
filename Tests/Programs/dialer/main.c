// SPDX-License-Identifier: Apache-2.0
/*
 * tupleguard-dialer: a program as programs are, which knows nothing of any
 * guard. It connects UDP sockets without giving a port, some of them to
 * distinct destinations and some to one, exchanges a datagram with the other
 * side on each, and says how that went.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_PORT = 9000, MAX_SOCKETS = 1000, MAX_PORT = 65535 };

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static const char usage[] =
    "usage: tupleguard-dialer [--family 4|6|mapped|mixed] [--source ADDRESS] [--share]\n"
    "                         [--distinct N] [--same N]\n"
    "\n"
    "Connects UDP sockets without a port on loopback: --distinct to a destination each,\n"
    "then --same to one more, and exchanges a datagram on each. Then one of the last closes,\n"
    "and one more tries. Prints one JSON object.\n"
    "\n"
    "  --family   4 (default), 6, mapped (IPv6 sockets to ::ffff:127.0.0.1), mixed (IPv6\n"
    "             sockets given IPv4 addresses)\n"
    "  --source   bind to this address, with IP_BIND_ADDRESS_NO_PORT\n"
    "  --share    set SO_REUSEADDR first\n";

struct dialer {
	const char *family, *source;
	bool share;
	int distinct, same;
	int servers[MAX_SOCKETS + 1]; /* of the destinations; the last is the common one */
	int clients[2 * MAX_SOCKETS], connected;
	int errors[256]; /* by errno */
};

union name {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(2);
}

static socklen_t make_name(union name *name, int family, const char *address, int port)
{
	memset(name, 0, sizeof(*name));
	name->any.sa_family = (sa_family_t)family;
	name->v4.sin_port = htons((uint16_t)port); /* at the same place in both */
	if (inet_pton(family, address,
		      family == AF_INET ? (void *)&name->v4.sin_addr
					: (void *)&name->v6.sin6_addr) != 1)
		die(address);
	return family == AF_INET ? sizeof(name->v4) : sizeof(name->v6);
}

static int socket_family(const struct dialer *dialer)
{
	return strcmp(dialer->family, "4") ? AF_INET6 : AF_INET;
}

static int open_server(int port)
{
	union name name;
	socklen_t length = make_name(&name, AF_INET6, "::", port);
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, &name.any, length))
		die("cannot open a server");
	return fd;
}

static void bind_source(int fd, int family, const char *address)
{
	union name name;
	socklen_t length = make_name(&name, family, address, 0);
	int on = 1;

	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) ||
	    bind(fd, &name.any, length))
		die("cannot bind to the source address");
}

/* A socket that is connected to the destination, or -1. */
static int dial(struct dialer *dialer, int destination)
{
	bool mixed = !strcmp(dialer->family, "mixed"), mapped = !strcmp(dialer->family, "mapped");
	int family = socket_family(dialer), on = 1;
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	union name name;
	socklen_t length;

	if (fd < 0)
		die("cannot open a socket");
	if (dialer->share && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		die("cannot set SO_REUSEADDR");
	if (dialer->source)
		bind_source(fd, family, dialer->source);
	if (family == AF_INET || mixed)
		length = make_name(&name, AF_INET, "127.0.0.1", FIRST_PORT + destination);
	else
		length = make_name(&name, AF_INET6, mapped ? "::ffff:127.0.0.1" : "::1",
				   FIRST_PORT + destination);
	if (!connect(fd, &name.any, length))
		return fd;
	dialer->errors[errno < 256 ? errno : 0]++;
	close(fd);
	return -1;
}

/* Sends the number of the client, lets the server answer, and looks whose answer comes. */
static bool exchange(struct dialer *dialer, int client, int server)
{
	union name from;
	socklen_t length = sizeof(from);
	int fd = dialer->clients[client], number = client, heard = -1;

	if (send(fd, &number, sizeof(number), 0) != sizeof(number))
		return false;
	if (recvfrom(server, &heard, sizeof(heard), MSG_DONTWAIT, &from.any, &length) < 0 ||
	    sendto(server, &heard, sizeof(heard), 0, &from.any, length) < 0)
		return false;
	heard = -1;
	return recv(fd, &heard, sizeof(heard), MSG_DONTWAIT) == sizeof(heard) && heard == number;
}

static int local_port(int fd)
{
	union name name;
	socklen_t length = sizeof(name);

	if (getsockname(fd, &name.any, &length))
		die("getsockname");
	return ntohs(name.v4.sin_port);
}

static void print_ports(const struct dialer *dialer)
{
	static bool used[MAX_PORT + 1];
	const char *between = "";

	for (int i = 0; i < dialer->connected; i++)
		used[local_port(dialer->clients[i])] = true;
	printf("\"ports\": [");
	for (int port = 0; port <= MAX_PORT; port++) {
		if (!used[port])
			continue;
		printf("%s%d", between, port);
		between = ", ";
	}
	printf("], ");
}

static void print_errors(const struct dialer *dialer)
{
	const char *between = "";

	printf("\"errors\": {");
	for (int error = 0; error < 256; error++) {
		if (!dialer->errors[error])
			continue;
		printf("%s\"%s\": %d", between, strerrorname_np(error), dialer->errors[error]);
		between = ", ";
	}
	printf("}}\n");
}

/* To destinations number `first` and on, or all to `first`; returns how many connected. */
static int dial_all(struct dialer *dialer, int count, int first, bool distinct, int *echoed)
{
	int connected = 0;

	for (int i = 0; i < count; i++) {
		int destination = distinct ? first + i : first;
		int fd = dial(dialer, destination);

		if (fd < 0)
			continue;
		dialer->clients[dialer->connected++] = fd;
		connected++;
	}
	/* Only now, when whoever could take another's answer is there. */
	for (int i = 0; i < connected; i++) {
		union name peer;
		socklen_t length = sizeof(peer);
		int client = dialer->connected - connected + i;

		if (getpeername(dialer->clients[client], &peer.any, &length))
			die("getpeername");
		*echoed +=
		    exchange(dialer, client, dialer->servers[ntohs(peer.v4.sin_port) - FIRST_PORT]);
	}
	return connected;
}

static void run(struct dialer *dialer)
{
	int distinct, same, again = 0, echoed = 0;

	for (int i = 0; i <= dialer->distinct; i++)
		dialer->servers[i] = open_server(FIRST_PORT + i);
	distinct = dial_all(dialer, dialer->distinct, 0, true, &echoed);
	same = dial_all(dialer, dialer->same, dialer->distinct, false, &echoed);
	printf("{\"distinct\": %d, \"same\": %d, ", distinct, same);
	print_ports(dialer);
	if (same) {
		close(dialer->clients[--dialer->connected]);
		again = dial_all(dialer, 1, dialer->distinct, false, &echoed);
	}
	printf("\"again\": %d, \"echoed\": %d, ", again, echoed);
	print_errors(dialer);
}

static int number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (end == text || *end || value < 0 || value > MAX_SOCKETS) {
		fputs(usage, stderr);
		exit(2);
	}
	return (int)value;
}

int main(int count, char **arguments)
{
	static const struct option known[] = {
	    {"family", required_argument, NULL, 'f'}, {"source", required_argument, NULL, 's'},
	    {"share", no_argument, NULL, 'r'},	      {"distinct", required_argument, NULL, 'd'},
	    {"same", required_argument, NULL, 'o'},   {NULL, 0, NULL, 0},
	};
	static struct dialer dialer = {.family = "4", .distinct = 300, .same = 20};
	int option;

	while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
		switch (option) {
		case 'f':
			dialer.family = optarg;
			break;
		case 's':
			dialer.source = optarg;
			break;
		case 'r':
			dialer.share = true;
			break;
		case 'd':
			dialer.distinct = number(optarg);
			break;
		case 'o':
			dialer.same = number(optarg);
			break;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	run(&dialer);
	return 0;
}
