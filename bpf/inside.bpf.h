/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a socket or a task belongs to a guarded cgroup, for programs that run
 * outside of any hook.
 */
#ifndef TUPLEGUARD_INSIDE_BPF_H
#define TUPLEGUARD_INSIDE_BPF_H

#include "tuple.bpf.h"

/* Ids of the cgroups that have a guard, set by the user side. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u8);
} guarded_cgroups SEC(".maps");

enum { CGROUPS_DEEP = 64 };

static __always_inline struct cgroup *cgroup_of(__u64 sk)
{
	return SOCK_FIELD(sk, sk_cgrp_data.cgroup);
}

/* Whether the cgroup has a guard, or one of those above it; also when it was removed. */
static __noinline int is_inside(struct cgroup *cgroup)
{
	/* An index that is known at run time cannot be relocated. */
	struct cgroup **ancestors = __builtin_preserve_access_index(&cgroup->ancestors[0]);
	int level = BPF_CORE_READ(cgroup, level);
	struct cgroup *ancestor = NULL;
	__u64 id;

	for (int i = 0; i < CGROUPS_DEEP && i <= level; i++) {
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), ancestors + i);
		id = BPF_CORE_READ(ancestor, kn, id);
		if (bpf_map_lookup_elem(&guarded_cgroups, &id))
			return true;
	}
	return false;
}

#endif
