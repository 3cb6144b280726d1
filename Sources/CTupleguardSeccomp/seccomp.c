// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CTupleguardSeccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// Newer than the headers of some distributions.
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
// PIDFD_THREAD: a descriptor of a thread (Linux 6.9).
#define OPEN_THREAD O_EXCL

#if defined(__x86_64__)
#define OWN_ABI AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ABI AUDIT_ARCH_AARCH64
#else
#error "which AUDIT_ARCH_ is this machine's?"
#endif

// The shortest address that bind() takes for a socket of IPv4 (__inet_bind).
#define SHORTEST_ADDRESS 16

// How far a jump leads: from one instruction to another, by their indices.
#define JUMPS_TO(instruction, target) ((target) - (instruction)-1)

static int install(unsigned long flags, bool with_getsockname)
{
	enum { ABI, IS_OURS, NUMBER, IS_BIND, IS_NAME, LENGTH, IS_LONG, HOLD, PASS };
	struct sock_filter filter[] = {
	    [ABI] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	    [IS_OURS] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ABI, 0, JUMPS_TO(IS_OURS, PASS)),
	    [NUMBER] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    [IS_BIND] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bind, JUMPS_TO(IS_BIND, LENGTH), 0),
	    [IS_NAME] =
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockname,
			 with_getsockname ? JUMPS_TO(IS_NAME, HOLD) : JUMPS_TO(IS_NAME, PASS),
			 JUMPS_TO(IS_NAME, PASS)),
	    // The lower half: the kernel takes an int. Both machines are little-endian.
	    [LENGTH] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
	    [IS_LONG] =
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SHORTEST_ADDRESS, 0, JUMPS_TO(IS_LONG, PASS)),
	    [HOLD] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	    [PASS] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		       SECCOMP_FILTER_FLAG_NEW_LISTENER | flags, &program);
}

int seccomp_hold_binds(bool with_getsockname)
{
	// A caller whose call has been read waits for the answer whatever signals come, but
	// SIGKILL: Go's runtime interrupts its threads all the time (Linux 5.19).
	unsigned long flags = SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	int listener = install(flags, with_getsockname);

	if (listener < 0 && errno == EINVAL) {
		flags = 0;
		listener = install(flags, with_getsockname);
	}
	if (listener < 0 && errno == EACCES) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
			return -1;
		listener = install(flags, with_getsockname);
	}
	return listener;
}

int seccomp_next_call(int listener, struct seccomp_call *call)
{
	// As large as this kernel's, which may be larger than ours: it refuses what is not zero.
	union {
		struct seccomp_notif notification;
		char room[512];
	} buffer;

	memset(&buffer, 0, sizeof(buffer));
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &buffer.notification) != 0)
		return -1;
	const struct seccomp_data *data = &buffer.notification.data;

	*call = (struct seccomp_call){
	    .id = buffer.notification.id,
	    .thread = buffer.notification.pid,
	    .is_bind = data->nr == SYS_bind,
	    .descriptor = (int32_t)data->args[0],
	    .address = data->args[1],
	    .length = (uint32_t)data->args[2],
	};
	return 0;
}

bool seccomp_is_waiting(int listener, uint64_t id)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

int seccomp_continue(int listener, uint64_t id)
{
	struct seccomp_notif_resp answer = {
	    .id = id,
	    .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE,
	};

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

void seccomp_answer_synchronously(int listener)
{
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

int seccomp_open_thread(uint32_t thread)
{
	return syscall(SYS_pidfd_open, thread, OPEN_THREAD);
}

int seccomp_open_process(uint32_t process)
{
	return syscall(SYS_pidfd_open, process, 0);
}

int seccomp_take_descriptor(int process, int descriptor)
{
	return syscall(SYS_pidfd_getfd, process, descriptor, 0);
}

ssize_t seccomp_read_memory(uint32_t thread, uint64_t address, void *bytes, size_t count)
{
	struct iovec here = {bytes, count};
	struct iovec there = {(void *)(uintptr_t)address, count};

	return process_vm_readv(thread, &here, 1, &there, 1, 0);
}

/// Room for the control message of one descriptor.
union rights {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

int seccomp_send_descriptor(int channel, int descriptor)
{
	char byte = 0;
	struct iovec data = {&byte, 1};
	union rights rights = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
					  .cmsg_level = SOL_SOCKET,
					  .cmsg_type = SCM_RIGHTS}};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &rights,
				 .msg_controllen = sizeof(rights)};

	memcpy(CMSG_DATA(&rights.header), &descriptor, sizeof(int));
	return sendmsg(channel, &message, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int seccomp_receive_descriptor(int channel)
{
	char byte;
	struct iovec data = {&byte, 1};
	union rights rights;
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &rights,
				 .msg_controllen = sizeof(rights)};
	ssize_t count = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *header = count == 1 ? CMSG_FIRSTHDR(&message) : NULL;
	int descriptor;

	if (count < 0)
		return -1;
	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
		errno = ENODATA;
		return -1;
	}
	memcpy(&descriptor, CMSG_DATA(header), sizeof(int));
	return descriptor;
}

int seccomp_end_with_parent(int signal)
{
	return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0);
}

int seccomp_adopt_orphans(void)
{
	return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}
