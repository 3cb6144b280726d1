// SPDX-License-Identifier: Apache-2.0
/* The ways to make a connection, and what is compared with what. */
#define _GNU_SOURCE
#include "ways.h"

#include "../../../Sources/CConnectx/include/connectx.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	UDP_PORT = 9000,
	TCP_PORT = 9001,
	FIRST_PORT = 40000, /* of the named ones, which are used in turn */
	PORTS = 1024,
	CROWD = 900,
	RANDOM_FIRST_PORT = 32768,
	RANDOM_PORTS = 28232,
	BACKLOG = 4096,
};

typedef __typeof__(connectx) connectx_function;

/*
 * The library remembers for a second whether a guard covers it. Blocks with a
 * guard and without it are shorter: so each kind has a copy of the library.
 */
static connectx_function *library, *guarded_library, *other_library;
static int diag, listener = -1;
static union name udp_destination, tcp_destination, any_port;

union name loopback_name(uint16_t port)
{
	union name name = {.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};

	name.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return name;
}

static connectx_function *open_library(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	connectx_function *function = handle ? dlsym(handle, "connectx") : NULL;

	errno = 0;
	if (!function)
		die("%s", dlerror());
	return function;
}

/* Another file is another library to the loader. */
static connectx_function *open_copy(const char *path)
{
	char copy[] = "/tmp/tupleguard-bench.XXXXXX";
	int from = open(path, O_RDONLY | O_CLOEXEC), to = mkstemp(copy);
	connectx_function *function;
	struct stat status;

	if (from < 0 || to < 0 || fstat(from, &status) ||
	    sendfile(to, from, NULL, status.st_size) != status.st_size)
		die("cannot copy %s", path);
	close(from);
	close(to);
	function = open_library(copy);
	unlink(copy);
	return function;
}

static void open_listener(void)
{
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0 || bind(listener, &tcp_destination.any, name_length(&tcp_destination)) ||
	    listen(listener, BACKLOG))
		die("cannot listen on port %d", TCP_PORT);
}

void open_ways(const char *path, const char *beside)
{
	udp_destination = loopback_name(UDP_PORT);
	tcp_destination = loopback_name(TCP_PORT);
	any_port = loopback_name(0);
	library = open_library(path);
	guarded_library = open_copy(path);
	if (beside)
		other_library = open_library(beside);
	diag = diag_open();
	if (diag < 0)
		die("cannot open SOCK_DIAG");
	open_calls();
	open_listener();
}

void drain_listener(void)
{
	int fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
		close(fd);
}

static void set_range(const char *range)
{
	int fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, range, strlen(range)) < 0)
		die("cannot set the port range");
	close(fd);
	/* The library reads it anew every 10 ms. */
	usleep(20000);
}

static int crowd[CROWD];

void make_ports_scarce(void)
{
	union name elsewhere = loopback_name(UDP_PORT + 1);

	for (int i = 0; i < CROWD; i++) {
		union name local = loopback_name(FIRST_PORT + i);

		crowd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (crowd[i] < 0 || connect_plainly(crowd[i], &local, &elsewhere))
			die("cannot put a socket on each port");
	}
	set_range("40000 41023");
}

void make_ports_plenty(void)
{
	for (int i = 0; i < CROWD; i++)
		close(crowd[i]);
	set_range("32768 60999");
}

static union name named_port(void)
{
	static unsigned turn;

	return loopback_name(FIRST_PORT + turn++ % PORTS);
}

static union name random_port(void)
{
	return loopback_name(RANDOM_FIRST_PORT + random() % RANDOM_PORTS);
}

static void must(int error, const char *way)
{
	errno = error;
	if (error)
		die("%s cannot connect", way);
}

/* ---- what the connection is made with ---- */

static void call_library(connectx_function *function, int fd, const union name *local,
			 const union name *remote)
{
	sa_endpoints_t endpoints = {
	    .sae_srcaddr = local ? &local->any : NULL,
	    .sae_srcaddrlen = local ? name_length(local) : 0,
	    .sae_dstaddr = &remote->any,
	    .sae_dstaddrlen = name_length(remote),
	};

	if (function(fd, &endpoints, SAE_ASSOCID_ANY, 0, NULL, 0, NULL, NULL))
		die("connectx() failed");
}

void connect_by_library(int fd, const union name *remote)
{
	call_library(library, fd, NULL, remote);
}

void connect_by_looking_up(int fd, const union name *remote)
{
	for (;;) {
		union name local = random_port();
		uint64_t cookie;

		if (diag_receiver(diag, &local, remote, &cookie))
			die("SOCK_DIAG failed");
		if (cookie)
			continue;
		must(connect_with_lock(fd, diag, &local, remote, true), "the lock");
		return;
	}
}

/* UDP, only the destination is given. */

static void to_by_calls(int fd)
{
	call_udp_to(fd, &udp_destination);
}

static void to_by_library(int fd)
{
	call_library(library, fd, NULL, &udp_destination);
}

static void to_by_guarded_library(int fd)
{
	call_library(guarded_library, fd, NULL, &udp_destination);
}

static void to_by_other_library(int fd)
{
	call_library(other_library, fd, NULL, &udp_destination);
}

static void to_by_kernel(int fd)
{
	if (connect(fd, &udp_destination.any, name_length(&udp_destination)))
		die("connect() failed");
}

static void to_by_lock(int fd)
{
	union name local = random_port();

	must(connect_with_lock(fd, diag, &local, &udp_destination, false), "the lock");
}

/* UDP, the whole tuple is given. */

static void from_by_calls(int fd)
{
	union name local = named_port();

	call_udp_from(fd, &local, &udp_destination);
}

static void from_by_library(int fd)
{
	union name local = named_port();

	call_library(library, fd, &local, &udp_destination);
}

static void from_by_guarded_library(int fd)
{
	union name local = named_port();

	call_library(guarded_library, fd, &local, &udp_destination);
}

static void from_by_other_library(int fd)
{
	union name local = named_port();

	call_library(other_library, fd, &local, &udp_destination);
}

static void from_plainly(int fd)
{
	union name local = named_port();

	must(connect_plainly(fd, &local, &udp_destination), "bind() and connect()");
}

static void from_by_lock(int fd)
{
	union name local = named_port();

	must(connect_with_lock(fd, diag, &local, &udp_destination, false), "the lock");
}

/* TCP from an address. Closed with a reset, or the ports would soon be used up by TIME_WAIT. */

static void reset_on_close(int fd)
{
	const struct linger linger = {.l_onoff = 1};

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)))
		die("cannot set SO_LINGER");
}

static void tcp_by_calls(int fd)
{
	reset_on_close(fd);
	call_tcp_from(fd, &any_port, &tcp_destination);
}

static void tcp_by_library(int fd)
{
	reset_on_close(fd);
	call_library(library, fd, &any_port, &tcp_destination);
}

static void tcp_by_kernel(int fd)
{
	reset_on_close(fd);
	if (connect(fd, &tcp_destination.any, name_length(&tcp_destination)))
		die("connect() failed");
}

#define UDP(title_, name_, connect_)                                                               \
	.title = title_, .name = name_, .type = SOCK_DGRAM, .connect = connect_
#define TCP(title_, name_, connect_)                                                               \
	.title = title_, .name = name_, .type = SOCK_STREAM, .connect = connect_

/* As many more connections in a second come to this share of the time. */
#define TIMES_AS_MANY(times) (1 / (times))

const struct comparison comparisons[COMPARISONS] = {
    {.title = "UDP, destination only",
     .name = "udp_to",
     .count = 4,
     .ways = {{UDP("the same calls from C", "calls", to_by_calls)},
	      {UDP("connectx()", "connectx", to_by_library), .at_most = 1.05},
	      {UDP("connect(), own port", "connect", to_by_kernel)},
	      {UDP("published lock, random port", "lock", to_by_lock)}}},
    {.title = "UDP, named tuple",
     .name = "udp_from",
     .count = 4,
     .ways = {{UDP("the same calls from C", "calls", from_by_calls)},
	      {UDP("connectx()", "connectx", from_by_library), .at_most = 1.05},
	      {UDP("bind(), connect()", "plain", from_plainly)},
	      {UDP("published lock", "lock", from_by_lock)}}},
    {.title = "TCP, from an address",
     .name = "tcp_from",
     .count = 3,
     .ways = {{TCP("the same calls from C", "calls", tcp_by_calls)},
	      {TCP("connectx()", "connectx", tcp_by_library), .at_most = 1.05},
	      {TCP("connect(), no address", "connect", tcp_by_kernel)}}},
    {.title = "UDP, destination only, under the guard",
     .name = "udp_to_guarded",
     .count = 2,
     .ways = {{UDP("connectx(), not covered", "connectx", to_by_library)},
	      {UDP("connectx(), covered", "guarded", to_by_guarded_library), .is_guarded = true}}},
    {.title = "UDP, destination only, ports scarce, under the guard",
     .name = "udp_to_scarce_guarded",
     .is_scarce = true,
     .count = 2,
     .ways = {{UDP("connectx(), not covered", "connectx", to_by_library)},
	      {UDP("connectx(), covered", "guarded", to_by_guarded_library), .is_guarded = true,
	       .at_most = TIMES_AS_MANY(1.4)}}},
    {.title = "UDP, named tuple, under the guard",
     .name = "udp_from_guarded",
     .count = 3,
     .ways = {{UDP("connectx(), not covered", "connectx", from_by_library)},
	      {UDP("connectx(), covered", "guarded", from_by_guarded_library), .is_guarded = true,
	       .at_most = TIMES_AS_MANY(1.4)},
	      {UDP("bind(), connect(), covered", "plain", from_plainly), .is_guarded = true}}},
    {.title = "UDP, destination only, against the other library",
     .name = "udp_to_beside",
     .is_of_libraries = true,
     .count = 2,
     .ways = {{UDP("connectx() of --beside", "beside", to_by_other_library)},
	      {UDP("connectx()", "connectx", to_by_library)}}},
    {.title = "UDP, destination only, ports scarce, against the other library",
     .name = "udp_to_scarce_beside",
     .is_of_libraries = true,
     .is_scarce = true,
     .count = 2,
     .ways = {{UDP("connectx() of --beside", "beside", to_by_other_library)},
	      {UDP("connectx()", "connectx", to_by_library)}}},
    {.title = "UDP, named tuple, against the other library",
     .name = "udp_from_beside",
     .is_of_libraries = true,
     .count = 2,
     .ways = {{UDP("connectx() of --beside", "beside", from_by_other_library)},
	      {UDP("connectx()", "connectx", from_by_library)}}},
};
