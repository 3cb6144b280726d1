/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who is connected with a tuple, whether or not it has a claim: a walk along the
 * kernel's own chain of the UDP sockets of a port. It costs as much as there
 * are sockets on the port, and is for the rare case that claims do not tell.
 *
 * Hooks run in an RCU section, UDP sockets are freed after one (SOCK_RCU_FREE),
 * and a socket stays in its port's chain for as long as it has the port. So who
 * was there all the time is met.
 */
#ifndef TUPLEGUARD_BESIDE_BPF_H
#define TUPLEGUARD_BESIDE_BPF_H

#include "chain.bpf.h"

/* Of a longer chain nothing is known. */
#define LONGEST_WALK (1 << 17)

struct walk {
	const struct tg_tuple *tuple;
	__u64 self; /* not to be counted */
	__u64 net;
	__u64 node;
	__u64 holder;	    /* that has the tuple, or may have it; 0: nobody */
	bool has_neighbour; /* one that differs in the local address alone */
};

static long walk_once(__u32 round, struct walk *walk)
{
	__u64 sk = walk->node - bpf_core_field_offset(struct sock, __sk_common.skc_node);
	const struct tg_tuple *tuple = walk->tuple;
	__u32 local[4];

	if (!walk->node)
		return 1;
	walk->node = (__u64)SOCK_FIELD(sk, __sk_common.skc_node.next);
	if (sk == walk->self || (__u64)SOCK_FIELD(sk, __sk_common.skc_net.net) != walk->net ||
	    !is_connected_to(sk, key_of(tuple)))
		return 0;
	read_local(sk, is_mapped(tuple->remote), local);
	if (!is_zero(tuple->local) && !is_same(local, tuple->local)) {
		walk->has_neighbour = true;
		return 0;
	}
	walk->holder = sk;
	return 1;
}

/* Looks for sockets of the namespace of `self`; false where that cannot be told. */
static __always_inline bool walk_chain(__u64 self, const struct tg_tuple *tuple, struct walk *walk)
{
	struct port_table table;

	if (!find_port_table(self, &table))
		return false;
	walk->tuple = tuple;
	walk->self = self;
	walk->net = table.net;
	walk->node = first_in_chain(&table, tuple->local_port);
	bpf_loop(LONGEST_WALK, walk_once, walk, 0);
	return walk->holder || !walk->node;
}

/* When the last complete seeding began, in ns; kept by the user side. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seeded SEC(".maps");

static __always_inline __u64 last_seeding(void)
{
	__u32 zero = 0;
	__u64 *began_ns = bpf_map_lookup_elem(&seeded, &zero);

	return began_ns ? *(volatile __u64 *)began_ns : 0;
}

#endif
