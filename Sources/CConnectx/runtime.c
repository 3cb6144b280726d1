// SPDX-License-Identifier: Apache-2.0
// The pool of a process and the notices to the agent: state and calls that Swift has no words for.
#define _GNU_SOURCE
#include "connectx_runtime.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void *_Atomic pool[CONNECTX_POOL_SIZE];

void *connectx_pool_exchange(unsigned place, void *thing)
{
	return atomic_exchange_explicit(&pool[place % CONNECTX_POOL_SIZE], thing,
					memory_order_acq_rel);
}

bool connectx_send_notice(const void *notice, size_t size)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	const char *folder = secure_getenv("TUPLEGUARD_RUN");
	int error = errno;
	int length = snprintf(name.sun_path, sizeof(name.sun_path), "%s/report.sock",
			      folder && *folder ? folder : "/run/tupleguard");
	bool has_room = true;
	int agent = -1;

	if (length > 0 && (size_t)length < sizeof(name.sun_path))
		agent = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (agent >= 0) {
		if (sendto(agent, notice, size, MSG_NOSIGNAL, (struct sockaddr *)&name,
			   sizeof(name)) < 0)
			has_room = errno != EAGAIN;
		close(agent);
	}
	errno = error;
	return has_room;
}
