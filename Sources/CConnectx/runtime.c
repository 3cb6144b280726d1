// SPDX-License-Identifier: Apache-2.0
// The pool of a process and the notices to the agent: state and calls that Swift has no words for.
#define _GNU_SOURCE
#include "CConnectx.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/// The process's number, in a page of its own which a child finds empty (MADV_WIPEONFORK).
static _Atomic(_Atomic uint64_t *) number_page;
/// The last number that was given out; a child counts on from its parent's.
static _Atomic uint64_t last_number;

static _Atomic uint64_t *make_number_page(void)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	_Atomic uint64_t *made =
	    mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	_Atomic uint64_t *others = NULL;

	if (made == MAP_FAILED)
		return NULL;
	if (madvise((void *)made, size, MADV_WIPEONFORK) == 0 &&
	    atomic_compare_exchange_strong(&number_page, &others, made))
		return made;
	munmap((void *)made, size);
	return others;
}

uint64_t connectx_process(void)
{
	_Atomic uint64_t *page = atomic_load_explicit(&number_page, memory_order_acquire);
	uint64_t number, others = 0;
	int error = errno;

	if (!page)
		page = make_number_page();
	errno = error;
	// Before Linux 4.14, which has no such memory: what tells most processes apart.
	if (!page)
		return (uint64_t)getpid() | 1ULL << 63;
	number = atomic_load_explicit(page, memory_order_acquire);
	if (number)
		return number;
	number = atomic_fetch_add(&last_number, 1) + 1;
	return atomic_compare_exchange_strong(page, &others, number) ? number : others;
}

int connectx_defer_cancel(void)
{
	int before = PTHREAD_CANCEL_ENABLE;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

void connectx_allow_cancel(int before)
{
	pthread_setcancelstate(before, NULL);
}

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
