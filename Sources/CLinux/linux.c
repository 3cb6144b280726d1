// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

// include/linux/exportfs.h; not in the user-space headers of every distribution.
#define FILEID_KERNFS 0xfe

int linux_enter_network_namespace(int descriptor)
{
	return setns(descriptor, CLONE_NEWNET);
}

int linux_new_network_namespace(void)
{
	return unshare(CLONE_NEWNET);
}

int linux_effective_capabilities(uint64_t *capabilities)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return -1;
	*capabilities = (uint64_t)data[1].effective << 32 | data[0].effective;
	return 0;
}

// A file handle with room for what kernfs puts into it.
struct kernfs_handle {
	struct file_handle header;
	uint64_t id;
};

int linux_open_cgroup(int mount, uint64_t id)
{
	struct kernfs_handle handle;

	memset(&handle, 0, sizeof(handle));
	handle.header.handle_bytes = sizeof(id);
	handle.header.handle_type = FILEID_KERNFS;
	memcpy(handle.header.f_handle, &id, sizeof(id));
	return open_by_handle_at(mount, &handle.header, O_PATH | O_CLOEXEC);
}

int linux_cgroup_id(int descriptor, uint64_t *id)
{
	struct kernfs_handle handle;
	int mount;

	memset(&handle, 0, sizeof(handle));
	handle.header.handle_bytes = sizeof(*id);
	if (name_to_handle_at(descriptor, "", &handle.header, &mount, AT_EMPTY_PATH) < 0)
		return -1;
	memcpy(id, handle.header.f_handle, sizeof(*id));
	return 0;
}

const char *linux_errno_name(int number)
{
	return strerrorname_np(number);
}

int linux_mount_bpffs(const char *path)
{
	return mount("bpf", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME,
		     "mode=0700");
}

uint64_t linux_filesystem_magic(const char *path)
{
	struct statfs info;

	return statfs(path, &info) < 0 ? 0 : (uint64_t)info.f_type;
}

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

void linux_report(const void *report, size_t size)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	const char *folder = secure_getenv("TUPLEGUARD_RUN");
	int error = errno;
	int length = snprintf(name.sun_path, sizeof(name.sun_path), "%s/report.sock",
			      folder && *folder ? folder : "/run/tupleguard");
	int agent = -1;

	if (length > 0 && (size_t)length < sizeof(name.sun_path))
		agent = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (agent >= 0) {
		sendto(agent, report, size, MSG_NOSIGNAL, (struct sockaddr *)&name, sizeof(name));
		close(agent);
	}
	errno = error;
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
