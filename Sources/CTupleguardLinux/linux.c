// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CTupleguardLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
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

int linux_enter_cgroup_namespace(int descriptor)
{
	return setns(descriptor, CLONE_NEWCGROUP);
}

int linux_new_network_namespace(void)
{
	return unshare(CLONE_NEWNET);
}

int linux_new_user_and_network_namespace(void)
{
	return unshare(CLONE_NEWUSER | CLONE_NEWNET);
}

int linux_bring_up_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int result, error, handle = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (handle < 0)
		return -1;
	result = ioctl(handle, SIOCGIFFLAGS, &request);
	if (result == 0) {
		request.ifr_flags |= IFF_UP;
		result = ioctl(handle, SIOCSIFFLAGS, &request);
	}
	error = errno;
	close(handle);
	errno = error;
	return result;
}

int linux_processors(void)
{
	cpu_set_t allowed;

	return sched_getaffinity(0, sizeof(allowed), &allowed) < 0 ? 1 : CPU_COUNT(&allowed);
}

void linux_stay_on_processor(int index)
{
	cpu_set_t allowed, one;
	int left;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return;
	left = index % CPU_COUNT(&allowed);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || left-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

// Room for as many processors as Linux can have (NR_CPUS); cpu_set_t has 1,024.
enum { MAX_PROCESSORS = 8192 };

struct processor_set {
	cpu_set_t parts[MAX_PROCESSORS / CPU_SETSIZE];
};

int linux_next_processor(int first)
{
	struct processor_set allowed;

	memset(&allowed, 0, sizeof(allowed));
	if (sched_getaffinity(0, sizeof(allowed), allowed.parts) < 0)
		return -1;
	for (int number = first; number < MAX_PROCESSORS; number++)
		if (CPU_ISSET_S(number, sizeof(allowed), allowed.parts))
			return number;
	return -1;
}

int linux_move_to_processor(int number)
{
	struct processor_set only;

	memset(&only, 0, sizeof(only));
	CPU_SET_S(number, sizeof(only), only.parts);
	return sched_setaffinity(0, sizeof(only), only.parts);
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

// Weak: neither musl has it nor glibc before 2.32, and nothing but a name depends on it.
extern const char *strerrorname_np(int number) __attribute__((weak));

const char *linux_errno_name(int number)
{
	return strerrorname_np ? strerrorname_np(number) : NULL;
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
