// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CTupleguardLinux.h"

ssize_t linux_receive_from(int socket, void *buffer, size_t size, struct linux_sender *sender)
{
	// Room for the credentials, which come first, and for nothing else: what the kernel has
	// no room to deliver (descriptors, above all) it drops, and says so.
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec data = {buffer, size};
	struct msghdr message = {
	    .msg_iov = &data,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control),
	};
	struct ucred credentials;
	ssize_t count = recvmsg(socket, &message, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *header;

	if (count < 0)
		return -1;
	header = CMSG_FIRSTHDR(&message);
	if (message.msg_flags & MSG_CTRUNC || !header || header->cmsg_level != SOL_SOCKET ||
	    header->cmsg_type != SCM_CREDENTIALS ||
	    header->cmsg_len != CMSG_LEN(sizeof(credentials))) {
		errno = EBADMSG;
		return -1;
	}
	memcpy(&credentials, CMSG_DATA(header), sizeof(credentials));
	sender->pid = (uint32_t)credentials.pid;
	sender->uid = credentials.uid;
	return count;
}
