/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets outside the guarded cgroups, which have no claims: a look in the
 * kernel's own table.
 */
#ifndef TUPLEGUARD_OUTSIDE_BPF_H
#define TUPLEGUARD_OUTSIDE_BPF_H

#include "claims.bpf.h"

/*
 * Sockets that never passed a hook, found as a packet would find them. The
 * look-up takes the remote's point of view, finds only sockets whose connect
 * is over, and walks every socket on the local address and port.
 */
static __noinline int is_held_outside(struct bpf_sock_addr *ctx, struct claimant *me)
{
	const struct tg_tuple *tuple = &me->tuple;
	struct bpf_sock_tuple key = {};
	struct bpf_sock *found;
	__u64 sk;
	bool held;

	if (is_zero(tuple->local))
		return false;
	if (is_mapped(tuple->remote)) {
		key.ipv4.saddr = tuple->remote[3];
		key.ipv4.daddr = tuple->local[3];
		key.ipv4.sport = bpf_htons(tuple->remote_port);
		key.ipv4.dport = bpf_htons(tuple->local_port);
		found = bpf_sk_lookup_udp(ctx, &key, sizeof(key.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		set_address(key.ipv6.saddr, tuple->remote);
		set_address(key.ipv6.daddr, tuple->local);
		key.ipv6.sport = bpf_htons(tuple->remote_port);
		key.ipv6.dport = bpf_htons(tuple->local_port);
		found = bpf_sk_lookup_udp(ctx, &key, sizeof(key.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!found)
		return false;
	sk = as_number(found);
	held = sk != me->wanted.claim.sock && is_connected_to(sk, key_of(tuple));
	if (held && !me->is_discovering) {
		me->holder.sock = sk;
		me->holder.cookie = SOCK_FIELD(sk, __sk_common.skc_cookie.counter);
	}
	bpf_sk_release(found);
	return held;
}

enum { MOST_ANCESTORS = 64 };

/*
 * Whether a socket that was found is of this guard's own cgroup after all: one that
 * had its port alone has no claim, and can be met when it shares the port later.
 */
static __noinline int is_insider(__u64 sk)
{
	struct cgroup *cgroup = SOCK_FIELD(sk, sk_cgrp_data.cgroup), *ancestor = NULL;
	/* An index that is known at run time cannot be relocated. */
	struct cgroup **ancestors = __builtin_preserve_access_index(&cgroup->ancestors[0]);
	int level = BPF_CORE_READ(cgroup, level);

	for (int i = 0; i < MOST_ANCESTORS && i <= level; i++) {
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), ancestors + i);
		if (BPF_CORE_READ(ancestor, kn, id) == policy.attachment)
			return true;
	}
	return false;
}

#endif
