// SPDX-License-Identifier: Apache-2.0
/*
 * The others: sockets that share the contended source ports, connected to
 * destinations that nobody contends for. The more of them, the longer the
 * kernel walks when it binds and looks up, and the wider a race is open.
 */
#include "contest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FIRST_DESTINATION_PORT = 10000 };

static void allow_many_descriptors(void)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void add_to_crowd(const union name *local, unsigned number)
{
	union name remote = *local;
	int fd = socket(local->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), error;

	remote.v4.sin_port = htons((uint16_t)(FIRST_DESTINATION_PORT + number));
	error = fd < 0 ? errno : connect_plainly(fd, local, &remote);
	if (error)
		fail(EXIT_CANNOT_RUN, "cannot connect other socket number %u on port %u: %s",
		     number, ntohs(local->v4.sin_port), strerror(error));
}

void gather_crowd(const union name *local, uint16_t first_port, uint16_t last_port, unsigned count)
{
	union name name = *local;

	allow_many_descriptors();
	for (uint32_t port = first_port; port <= last_port; port++) {
		name.v4.sin_port = htons((uint16_t)port);
		for (unsigned number = 0; number < count; number++)
			add_to_crowd(&name, number);
	}
}

/* sysctl net.ipv4.ip_local_port_range="[first] [last]" */
void set_port_range(uint16_t first, uint16_t last)
{
	static const char path[] = "/proc/sys/net/ipv4/ip_local_port_range";
	char text[16];
	int length = snprintf(text, sizeof(text), "%u %u", first, last);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, (size_t)length) != length)
		fail(EXIT_CANNOT_RUN, "cannot write %s: %s", path, strerror(errno));
	close(fd);
}
