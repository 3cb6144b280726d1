// SPDX-License-Identifier: Apache-2.0
// What connecting takes of Linux; the C library connectx has this file too.
#define _GNU_SOURCE
#include "CTupleguardLinux.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/random.h>

int linux_open_for_reading(const uint8_t *path)
{
	return open((const char *)path, O_RDONLY | O_CLOEXEC);
}

int linux_random(void *bytes, size_t count)
{
	// Up to 256 bytes come whole (getrandom(2)), and a kernel that runs programs has them.
	return getrandom(bytes, count, 0) == (ssize_t)count ? 0 : -1;
}

ssize_t linux_send_fast_open(int socket, const struct sockaddr *name, socklen_t length,
			     const struct iovec *vectors, size_t count)
{
	struct msghdr message = {
	    .msg_name = (void *)name,
	    .msg_namelen = length,
	    .msg_iov = (struct iovec *)vectors,
	    .msg_iovlen = count,
	};

	return sendmsg(socket, &message, MSG_FASTOPEN | MSG_NOSIGNAL);
}

ssize_t linux_send(int socket, const struct iovec *vectors, size_t count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)vectors, .msg_iovlen = count};

	return sendmsg(socket, &message, MSG_NOSIGNAL);
}

void linux_pause(long nanoseconds)
{
	struct timespec time = {.tv_nsec = nanoseconds};

	nanosleep(&time, NULL);
}

void linux_set_blocking(int descriptor)
{
	int flags = fcntl(descriptor, F_GETFL);

	if (flags >= 0)
		fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK);
}

bool linux_report(const void *report, size_t size)
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
		if (sendto(agent, report, size, MSG_NOSIGNAL, (struct sockaddr *)&name,
			   sizeof(name)) < 0)
			has_room = errno != EAGAIN;
		close(agent);
	}
	errno = error;
	return has_room;
}

static void *_Atomic pool[LINUX_POOL_SIZE];

void *linux_pool_exchange(unsigned place, void *thing)
{
	return atomic_exchange_explicit(&pool[place % LINUX_POOL_SIZE], thing,
					memory_order_acq_rel);
}

struct visit {
	int namespace;
	int error;
	void (*body)(void *);
	void *context;
};

static void *visit_namespace(void *argument)
{
	struct visit *visit = argument;

	if (setns(visit->namespace, CLONE_NEWNET) < 0)
		visit->error = errno;
	else
		visit->body(visit->context);
	return NULL;
}

int linux_run_in_namespace_of(int socket, void (*body)(void *), void *context)
{
	struct visit visit = {.body = body, .context = context};
	pthread_t thread;

	visit.namespace = ioctl(socket, LINUX_SIOCGSKNS);
	if (visit.namespace < 0)
		return -1;
	visit.error = pthread_create(&thread, NULL, visit_namespace, &visit);
	if (!visit.error)
		pthread_join(thread, NULL);
	close(visit.namespace);
	errno = visit.error;
	return visit.error ? -1 : 0;
}
