// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CTupleguardTestSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct order {
	const char *procs_file;
	int netns, family, type;
	int result;
};

static int carry_out(void *argument)
{
	struct order *order = argument;
	int procs = open(order->procs_file, O_WRONLY | O_CLOEXEC);

	/* In this order: where a guarded process is, other tests' sockets get claims too. */
	if (order->netns >= 0 && setns(order->netns, CLONE_NEWNET) < 0)
		order->result = -errno;
	else if (procs < 0 || write(procs, "0", 1) != 1)
		order->result = -errno;
	else
		order->result = socket(order->family, order->type | SOCK_CLOEXEC, 0);
	if (order->result == -1)
		order->result = -errno;
	if (procs >= 0)
		close(procs); /* the table of descriptors is shared with the parent */
	return 0;
}

int support_socket(const char *procs_file, int netns, int family, int type)
{
	struct order order = {procs_file, netns, family, type, 0};
	size_t size = 64 * 1024;
	char *stack = malloc(size);
	int pid, failure;

	if (!stack)
		return -ENOMEM;
	pid =
	    clone(carry_out, stack + size, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &order);
	failure = errno;
	if (pid > 0)
		waitpid(pid, NULL, 0);
	free(stack);
	return pid < 0 ? -failure : order.result;
}

static void *make_netns(void *result)
{
	int *descriptor = result;

	if (unshare(CLONE_NEWNET) < 0)
		*descriptor = -errno;
	else if ((*descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) < 0)
		*descriptor = -errno;
	return NULL;
}

int support_new_netns(void)
{
	pthread_t thread;
	int descriptor = -EAGAIN;

	if (pthread_create(&thread, NULL, make_netns, &descriptor) == 0)
		pthread_join(thread, NULL);
	return descriptor;
}

union rights {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static void put_descriptor(struct msghdr *message, union rights *rights, int descriptor)
{
	memset(rights, 0, sizeof(*rights));
	rights->header.cmsg_level = SOL_SOCKET;
	rights->header.cmsg_type = SCM_RIGHTS;
	rights->header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&rights->header), &descriptor, sizeof(int));
	message->msg_control = rights;
	message->msg_controllen = sizeof(*rights);
}

int support_send_descriptor(int channel, int descriptor)
{
	union rights rights;
	char byte = 0;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

	put_descriptor(&message, &rights, descriptor);
	return sendmsg(channel, &message, 0) < 0 ? -errno : 0;
}

int support_receive_descriptor(int channel)
{
	union rights rights;
	char byte;
	int descriptor = -1;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &rights,
				 .msg_controllen = sizeof(rights)};

	if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	memcpy(&descriptor, CMSG_DATA(&rights.header), sizeof(int));
	return descriptor;
}

// Between fork and exit of a process with threads: system calls only, and none that libc
// would carry out for every thread.
static int become(unsigned uid)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, uid, uid, uid) < 0)
		return -1;
	return (int)syscall(SYS_setresuid, uid, uid, uid);
}

static int send_all(const struct sockaddr_un *name, struct msghdr *message, int count)
{
	struct timeval limit = {.tv_sec = 10};
	int channel = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (channel < 0 || setsockopt(channel, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return -1;
	message->msg_name = (void *)name;
	message->msg_namelen = sizeof(*name);
	while (count-- > 0)
		if (sendmsg(channel, message, MSG_NOSIGNAL) < 0)
			return -1;
	return 0;
}

/* Other tests' sockets live as long as the last process that has them. */
static void close_all_but(int descriptor)
{
	if (descriptor <= STDERR_FILENO) {
		close_range(STDERR_FILENO + 1, ~0U, 0);
		return;
	}
	if (descriptor > STDERR_FILENO + 1)
		close_range(STDERR_FILENO + 1, descriptor - 1, 0);
	close_range(descriptor + 1, ~0U, 0);
}

int support_send_as(unsigned uid, const char *path, const void *bytes, size_t size, int count,
		    int descriptor)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	union rights rights;
	struct iovec data = {(void *)bytes, size};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
	int child, status;

	if (strlen(path) >= sizeof(name.sun_path))
		return -ENAMETOOLONG;
	strcpy(name.sun_path, path);
	if (descriptor >= 0)
		put_descriptor(&message, &rights, descriptor);
	child = fork();
	if (child == 0) {
		close_all_but(descriptor);
		_exit(become(uid) < 0 || send_all(&name, &message, count) < 0 ? errno : 0);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? child : -WEXITSTATUS(status);
}
