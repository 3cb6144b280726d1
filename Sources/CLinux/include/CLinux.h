// SPDX-License-Identifier: Apache-2.0
// The parts of Linux that Swift's Glibc module leaves out or cannot import:
// namespaces, capabilities, file handles of cgroups.
#ifndef TUPLEGUARD_CLINUX_H
#define TUPLEGUARD_CLINUX_H

#include <stdint.h>

/// Moves the calling thread into the network namespace that `descriptor` refers to (setns(2)).
int linux_enter_network_namespace(int descriptor);

/// Moves the calling thread into a new network namespace (unshare(2)).
int linux_new_network_namespace(void);

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
