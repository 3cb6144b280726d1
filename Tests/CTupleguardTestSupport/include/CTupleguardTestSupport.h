// SPDX-License-Identifier: Apache-2.0
// What the tests need and Swift cannot do: sockets made inside a cgroup and a
// network namespace while the test itself stays where it is.
#ifndef TUPLEGUARD_CTESTSUPPORT_H
#define TUPLEGUARD_CTESTSUPPORT_H

#include <stddef.h>

/// Makes a socket as a process of that cgroup and network namespace would.
///
/// A short-lived child that shares our descriptors enters both and calls
/// socket(); the socket belongs to its cgroup for ever. Returns a descriptor,
/// or -errno.
int support_socket(const char *procs_file, int netns, int family, int type);

/// Descriptor of a new network namespace, or -errno.
int support_new_netns(void);

/// Sends a descriptor over a Unix socket (SCM_RIGHTS); 0, or -errno.
int support_send_descriptor(int channel, int descriptor);

/// Receives what support_send_descriptor() sent; a descriptor, or -errno.
int support_receive_descriptor(int channel);

/// Sends one datagram `count` times to the Unix socket at `path`, as a process of its own with this
/// user and group, and waits for its end.
///
/// Each is sent with a copy of `descriptor` (SCM_RIGHTS) unless that is -1; where the receiver is
/// slow the sender waits, for ten seconds at most. Returns the process id that it had, or -errno.
int support_send_as(unsigned uid, const char *path, const void *bytes, size_t size, int count,
		    int descriptor);

#endif
