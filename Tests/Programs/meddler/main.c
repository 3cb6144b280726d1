// SPDX-License-Identifier: Apache-2.0
/*
 * tupleguard-meddler: tries to come to a tuple that another socket holds, by
 * changing a socket from one thread while another thread connects it. Between
 * the guard's hook and the kernel's choice of a port the socket is unlocked.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

static const char usage[] =
    "usage: tupleguard-meddler bind|toggle|disconnect ADDRESS PORT REMOTE-PORT ROUNDS\n"
    "\n"
    "Tries in so many rounds to connect from ADDRESS:PORT to ADDRESS:REMOTE-PORT. Meanwhile\n"
    "another thread binds the socket to that port (bind), switches SO_REUSEADDR on and off\n"
    "(toggle), or disconnects it so that it loses another port (disconnect). Prints \"taken\"\n"
    "and waits to be ended, or \"not taken\" and how many connects were refused.\n";

enum { ROUNDS_PER_SOCKET = 500, DELAYS = 400 };

struct name {
	struct sockaddr_storage storage;
	socklen_t length;
};

static struct name local, other, target;
static int port;
/* What the other thread is to meddle with: a socket, and the number of the round. */
static atomic_int victim = -1;
static atomic_uint round_number;

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static struct name make_name(const char *address, int number)
{
	struct name name = {.length = sizeof(struct sockaddr_in6)};
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&name.storage;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&name.storage;

	if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(number);
	} else if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(number);
		name.length = sizeof(*v4);
	} else {
		fputs(usage, stderr);
		exit(2);
	}
	return name;
}

static void share(int fd, int on)
{
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

/* The kernel is to choose from this one port. */
static void set_range(int fd, int only)
{
	unsigned range = (unsigned)only << 16 | only;

	if (setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof(range)))
		fail("IP_LOCAL_PORT_RANGE");
}

static int disconnect(int fd)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	return connect(fd, &nowhere, sizeof(nowhere));
}

static int port_of(int fd)
{
	struct sockaddr_in6 name = {0};
	socklen_t length = sizeof(name);

	/* Both families have the port in the same place. */
	return getsockname(fd, (struct sockaddr *)&name, &length) ? 0 : ntohs(name.sin6_port);
}

static bool is_connected(int fd)
{
	struct sockaddr_in6 name;
	socklen_t length = sizeof(name);

	return !getpeername(fd, (struct sockaddr *)&name, &length);
}

static void meddle_bind(int fd)
{
	share(fd, 1);
	(void)!bind(fd, (struct sockaddr *)&local.storage, local.length);
}

static void meddle_toggle(int fd)
{
	for (int i = 0; i < 8; i++)
		share(fd, ~i & 1);
}

static void meddle_disconnect(int fd)
{
	disconnect(fd);
}

static void *meddle_on(void *function)
{
	void (*meddle)(int) = *(void (**)(int))function;
	unsigned seen = 0, now;
	int fd;

	for (;;) {
		now = atomic_load(&round_number);
		if (now == seen)
			continue;
		seen = now;
		for (volatile unsigned i = 0; i < now % DELAYS; i++)
			;
		fd = atomic_load(&victim);
		if (fd >= 0)
			meddle(fd);
	}
	return NULL;
}

/* One connect with the other thread at work; true when it led to the tuple. */
static bool attempt(int fd, long *refused)
{
	int result;

	atomic_store(&victim, fd);
	atomic_fetch_add(&round_number, 1);
	result = connect(fd, (struct sockaddr *)&target.storage, target.length);
	if (result && errno == EPERM)
		++*refused;
	atomic_store(&victim, -1);
	return !result && port_of(fd) == port && is_connected(fd);
}

static int make_socket(const char *method)
{
	int fd = socket(local.storage.ss_family, SOCK_DGRAM, 0);

	if (fd < 0)
		fail("socket");
	if (!strcmp(method, "toggle"))
		set_range(fd, port);
	if (!strcmp(method, "disconnect"))
		share(fd, 1);
	return fd;
}

/* An unlocked port of its own, which the hook is to see. */
static void take_other_port(int fd)
{
	set_range(fd, port + 1);
	(void)!sendto(fd, "", 0, 0, (struct sockaddr *)&other.storage, other.length);
	set_range(fd, port);
}

static bool run(const char *method, long rounds, long *refused)
{
	int fd = -1;

	for (long round = 0; round < rounds; round++) {
		if (fd < 0)
			fd = make_socket(method);
		if (!strcmp(method, "disconnect"))
			take_other_port(fd);
		if (attempt(fd, refused)) {
			usleep(1000); /* the other thread may still be at it */
			if (port_of(fd) == port && is_connected(fd))
				return true;
		}
		disconnect(fd);
		if (port_of(fd) || round % ROUNDS_PER_SOCKET == 0 || !strcmp(method, "bind")) {
			close(fd);
			fd = -1;
		}
	}
	return false;
}

int main(int count, char **arguments)
{
	static void (*meddle)(int);
	long refused = 0;
	pthread_t thread;

	if (count != 6) {
		fputs(usage, stderr);
		return 2;
	}
	port = atoi(arguments[3]);
	local = make_name(arguments[2], port);
	other = make_name(arguments[2], 9);
	target = make_name(arguments[2], atoi(arguments[4]));
	if (!strcmp(arguments[1], "bind"))
		meddle = meddle_bind;
	else if (!strcmp(arguments[1], "toggle"))
		meddle = meddle_toggle;
	else
		meddle = meddle_disconnect;
	if (pthread_create(&thread, NULL, meddle_on, &meddle))
		fail("pthread_create");
	if (!run(arguments[1], atol(arguments[5]), &refused)) {
		printf("not taken, %ld refused\n", refused);
		return 0;
	}
	puts("taken");
	fflush(stdout);
	pause();
	return 0;
}
