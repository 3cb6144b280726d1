// SPDX-License-Identifier: Apache-2.0
// What connecting takes of Linux.
#define _GNU_SOURCE
#include "CTupleguardLinux.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>

int linux_open_for_reading(const uint8_t *path)
{
	return open((const char *)path, O_RDONLY | O_CLOEXEC);
}

int linux_random(void *bytes, size_t count)
{
	ssize_t had = -1;
	int device, error;

	// Up to 256 bytes come whole (getrandom(2)), and a kernel that runs programs has them.
	if (getrandom(bytes, count, 0) == (ssize_t)count)
		return 0;
	error = errno;
	device = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	if (device >= 0) {
		had = read(device, bytes, count);
		close(device);
	}
	errno = error;
	return had == (ssize_t)count ? 0 : -1;
}

static struct linux_file identity(const struct stat *found)
{
	return (struct linux_file){
	    .device = found->st_dev,
	    .inode = found->st_ino,
	    .user = found->st_uid,
	};
}

int linux_identify_file(int descriptor, struct linux_file *file)
{
	struct stat found;

	if (fstat(descriptor, &found) < 0)
		return -1;
	*file = identity(&found);
	return 0;
}

// include/linux/sockios.h: a descriptor of the network namespace that a socket is in.
#define SIOCGSKNS 0x894C

int linux_identify_namespace(int socket, struct linux_file *file)
{
	int error, result, namespace = ioctl(socket, SIOCGSKNS);

	if (namespace < 0)
		return -1;
	result = linux_identify_file(namespace, file);
	error = errno;
	close(namespace);
	errno = error;
	return result;
}

int linux_identify_own_namespace(struct linux_file *file)
{
	struct stat found;

	if (stat("/proc/thread-self/ns/net", &found) < 0)
		return -1;
	*file = identity(&found);
	return 0;
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

int linux_set_receive_timeout(int socket, long seconds)
{
	struct timeval time = {.tv_sec = seconds};

	return setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
}

void linux_set_blocking(int descriptor, bool is_on)
{
	int flags = fcntl(descriptor, F_GETFL);

	if (flags >= 0)
		fcntl(descriptor, F_SETFL, is_on ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

bool linux_is_blocking(int descriptor)
{
	int flags = fcntl(descriptor, F_GETFL);

	return flags < 0 || !(flags & O_NONBLOCK);
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

	visit.namespace = ioctl(socket, SIOCGSKNS);
	if (visit.namespace < 0)
		return -1;
	visit.error = pthread_create(&thread, NULL, visit_namespace, &visit);
	if (!visit.error)
		pthread_join(thread, NULL);
	close(visit.namespace);
	errno = visit.error;
	return visit.error ? -1 : 0;
}
