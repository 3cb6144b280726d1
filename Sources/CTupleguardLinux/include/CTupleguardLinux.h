// SPDX-License-Identifier: Apache-2.0
// The parts of Linux that Swift's Glibc module leaves out or cannot import:
// namespaces, capabilities, file handles of cgroups, netlink, newer socket options.
#ifndef TUPLEGUARD_LINUX_H
#define TUPLEGUARD_LINUX_H

// For Swift these headers are those of its module of libc. Included once more, what is in them
// would be declared twice, and which of the two modules a name belongs to would be left to chance.
// (Embedded Swift has no such module.)
#if __has_feature(modules) && !defined(TUPLEGUARD_EMBEDDED)
#pragma clang module import SwiftGlibc
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

// Enumeration constants of <netinet/in.h> as Swift wants levels: as numbers.
#define LINUX_SOL_IP 0
#define LINUX_SOL_TCP 6
#define LINUX_SOL_IPV6 41
// Newer than the headers of some distributions, and <netinet/tcp.h> must not be included here.
#define LINUX_TCP_INFO 11
#define LINUX_TCP_FASTOPEN_CONNECT 30
#define LINUX_IP_LOCAL_PORT_RANGE 51

// A flag of open(2) that libc keeps from those who ask for POSIX only.
#define LINUX_O_PATH 010000000

/// `errno`, which is a macro.
static inline int linux_errno(void)
{
	return errno;
}

static inline void linux_set_errno(int number)
{
	errno = number;
}

/// open(2) with O_RDONLY and O_CLOEXEC; Swift cannot call a function with varying arguments.
int linux_open_for_reading(const uint8_t *path);

/// Fills memory with bytes that nobody can guess, from getrandom(2) or, where a filter denies that,
/// from /dev/urandom; -1 with errno when there are none.
int linux_random(void *bytes, size_t count);

/// Connects a TCP socket and sends data with the SYN (MSG_FASTOPEN): how many bytes were taken,
/// or -1 with errno.
ssize_t linux_send_fast_open(int socket, const struct sockaddr *name, socklen_t length,
			     const struct iovec *vectors, size_t count);

/// Sends data on a connected socket, without SIGPIPE: how many bytes were taken, or -1 with errno.
ssize_t linux_send(int socket, const struct iovec *vectors, size_t count);

/// Sleeps at least so long, unless a signal comes (clock_nanosleep(2)).
void linux_pause(long nanoseconds);

/// Which file a descriptor refers to, as fstat(2) tells.
struct linux_file {
	uint64_t device;
	uint64_t inode;
	/// Who owns it; of a socket, the user that its routes and its traffic are counted to.
	uint32_t user;
};

/// -1 with errno when the descriptor is not open.
int linux_identify_file(int descriptor, struct linux_file *file);

/// Which network namespace a socket is in, as the file that it is (SIOCGSKNS); -1 with errno, EPERM
/// without CAP_NET_ADMIN there.
int linux_identify_namespace(int socket, struct linux_file *file);

/// The same of the calling thread (/proc/thread-self/ns/net).
int linux_identify_own_namespace(struct linux_file *file);

/// How long recv(2) waits before it gives up with EAGAIN (SO_RCVTIMEO); -1 with errno.
int linux_set_receive_timeout(int socket, long seconds);

/// Takes O_NONBLOCK off, or sets it.
void linux_set_blocking(int descriptor, bool is_on);

/// Whether a descriptor is without O_NONBLOCK.
bool linux_is_blocking(int descriptor);

/// Who sent a datagram, as the kernel knows (SCM_CREDENTIALS, unix(7)).
struct linux_sender {
	/// In the receiver's PID namespace; 0 for a process that is not visible there.
	uint32_t pid;
	uint32_t uid;
};

/// Takes one datagram, without waiting, from a Unix socket that has SO_PASSCRED: its whole length,
/// of which at most `size` bytes are stored, or -1 with errno.
///
/// EAGAIN: there is none. EBADMSG: there was one that came with descriptors (SCM_RIGHTS; the kernel
/// has closed them) or without credentials, and it is gone.
ssize_t linux_receive_from(int socket, void *buffer, size_t size, struct linux_sender *sender);

/// Runs `body(context)` on a new thread, in the network namespace that `socket` is
/// in, and waits for it; -1 with errno when that cannot be (EPERM without
/// CAP_NET_ADMIN and CAP_SYS_ADMIN), and `body` has not run then.
int linux_run_in_namespace_of(int socket, void (*body)(void *), void *context);

/// Moves the calling thread into the network namespace that `descriptor` refers to (setns(2)).
int linux_enter_network_namespace(int descriptor);

/// Moves the calling thread into a cgroup namespace (setns(2)).
int linux_enter_cgroup_namespace(int descriptor);

/// Moves the calling thread into a new network namespace (unshare(2)).
int linux_new_network_namespace(void);

/// Moves the calling process, which must have one thread, into a new user namespace, in which it
/// has every capability, and a new network namespace of that (unshare(2)).
int linux_new_user_and_network_namespace(void);

/// Sets the loopback interface of the thread's network namespace up; -1 with errno.
int linux_bring_up_loopback(void);

/// How many processors the calling thread may run on (sched_getaffinity(2)); at least 1.
int linux_processors(void);

/// Keeps the calling thread on one of its processors: number `index`, counted round and round.
void linux_stay_on_processor(int index);

/// The lowest processor from `first` on that the calling thread may run on; -1 when there is none.
int linux_next_processor(int first);

/// Keeps the calling thread on this processor (sched_setaffinity(2)).
int linux_move_to_processor(int number);

/// The calling thread's effective capabilities, bit n for capability n (capabilities(7)).
int linux_effective_capabilities(uint64_t *capabilities);

/// Opens (O_PATH) the cgroup with this id in the hierarchy that `mount` is a folder of.
///
/// A cgroup's id is its kernfs node's, which is also its file handle
/// (FILEID_KERNFS); -1 with ESTALE when it exists no more.
int linux_open_cgroup(int mount, uint64_t id);

/// The id of the cgroup that the folder `descriptor` is; -1 with errno.
int linux_cgroup_id(int descriptor, uint64_t *id);

/// The symbolic name of an errno, such as "EPERM"; null for a number that is none.
const char *linux_errno_name(int number);

/// Mounts a BPF file system on `path` (mount(2)).
int linux_mount_bpffs(const char *path);

/// The superblock magic of the file system that holds `path`, or 0 (statfs(2)).
uint64_t linux_filesystem_magic(const char *path);

#endif
