/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Broadcast addresses of subnets. A socket that is connected to one cannot be
 * overshadowed, since no answer comes from there, and sharing is what broadcast
 * is for. No helper tells which addresses those are, so the namespace's own are
 * gone over; only for a socket with SO_BROADCAST, without which the kernel refuses
 * the connect (EACCES).
 */
#ifndef TUPLEGUARD_BROADCAST_BPF_H
#define TUPLEGUARD_BROADCAST_BPF_H

#include "tuple.bpf.h"

enum {
	/* Whatever is beyond is found out by its route, once a socket is connected. */
	MOST_DEVICES = 4096,
	MOST_ADDRESSES = 16,
};

/* Goes over the devices of a namespace. */
struct device_walk {
	struct list_head *node, *end;
	__be32 address;
	bool found;
};

/* As the kernel adds broadcast routes for an address (fib_add_ifaddr). */
__noinline int is_broadcast_of(__u64 own_address, __be32 address)
{
	struct in_ifaddr *own = (struct in_ifaddr *)own_address;
	__be32 mask = BPF_CORE_READ(own, ifa_mask);

	if (BPF_CORE_READ(own, ifa_broadcast) == address)
		return true;
	return bpf_ntohl(~mask) > 1 && (BPF_CORE_READ(own, ifa_address) | ~mask) == address;
}

static long visit_device(__u32 round, struct device_walk *walk)
{
	struct list_head *node = walk->node;
	struct net_device *device;
	struct in_ifaddr *own;

	if (!node || node == walk->end)
		return 1;
	device = (void *)node - bpf_core_field_offset(struct net_device, dev_list);
	own =
	    BPF_CORE_READ(device, flags) & IFF_UP ? BPF_CORE_READ(device, ip_ptr, ifa_list) : NULL;
	for (int i = 0; i < MOST_ADDRESSES && own; i++) {
		if (is_broadcast_of((__u64)own, walk->address)) {
			walk->found = true;
			return 1;
		}
		own = BPF_CORE_READ(own, ifa_next);
	}
	walk->node = BPF_CORE_READ(node, next);
	return 0;
}

/* Whether `address` is a broadcast address of one of the namespace's subnets. */
__noinline int is_subnet_broadcast(__u64 sk, __be32 address)
{
	struct net *net = SOCK_FIELD(sk, __sk_common.skc_net.net);
	struct device_walk walk = {.address = address};

	if (!bpf_core_field_exists(net->dev_base_head) ||
	    !bpf_core_field_exists(((struct net_device *)0)->ip_ptr))
		return false;
	walk.end = __builtin_preserve_access_index(&net->dev_base_head);
	bpf_core_read(&walk.node, sizeof(walk.node), &net->dev_base_head.next);
	bpf_loop(MOST_DEVICES, visit_device, &walk, 0);
	return walk.found;
}

/* SO_BROADCAST */
static __always_inline bool may_broadcast(__u64 sk)
{
	return SOCK_FIELD(sk, __sk_common.skc_flags) >>
		   bpf_core_enum_value(enum sock_flags, SOCK_BROADCAST) &
	       1;
}

#endif
