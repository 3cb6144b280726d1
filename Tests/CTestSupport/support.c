// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CTestSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

	if (procs < 0 || write(procs, "0", 1) != 1)
		order->result = -errno;
	else if (order->netns >= 0 && setns(order->netns, CLONE_NEWNET) < 0)
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

int support_send_descriptor(int channel, int descriptor)
{
	union rights rights;
	char byte = 0;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &rights,
				 .msg_controllen = sizeof(rights)};

	memset(&rights, 0, sizeof(rights));
	rights.header.cmsg_level = SOL_SOCKET;
	rights.header.cmsg_type = SCM_RIGHTS;
	rights.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&rights.header), &descriptor, sizeof(int));
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
