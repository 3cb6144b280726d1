/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel's own table of UDP sockets: a chain for all ports that are equal in the lower bits. */
#ifndef TUPLEGUARD_CHAIN_BPF_H
#define TUPLEGUARD_CHAIN_BPF_H

#include "tuple.bpf.h"

/* A namespace's table of sockets by port. */
struct port_table {
	__u64 net;
	__u64 slots;
	__u32 mask;
	__u32 mix; /* what the namespace adds to a port before it is masked */
};

/* False where this kernel keeps the table somewhere else. */
static __always_inline bool find_port_table(__u64 sk, struct port_table *out)
{
	struct net *net = SOCK_FIELD(sk, __sk_common.skc_net.net);
	struct udp_table *table = NULL;

	/* udp_get_table_prot(): the protocol's table, else the namespace's. */
	if (bpf_core_field_exists(((struct proto *)0)->h.udp_table)) {
		struct proto *proto = SOCK_FIELD(sk, __sk_common.skc_prot);

		bpf_core_read(&table, sizeof(table), &proto->h.udp_table);
	}
	if (!table && bpf_core_field_exists(net->ipv4.udp_table))
		bpf_core_read(&table, sizeof(table), &net->ipv4.udp_table);
	if (!table || !bpf_core_field_exists(table->hash->head.first))
		return false;
	out->net = (__u64)net;
	bpf_core_read(&out->slots, sizeof(out->slots), &table->hash);
	bpf_core_read(&out->mask, sizeof(out->mask), &table->mask);
	bpf_core_read(&out->mix, sizeof(out->mix), &net->hash_mix);
	return true;
}

/* Of the sockets that have the port, and others; 0: there are none. */
static __always_inline __u64 first_in_chain(const struct port_table *table, __u16 port)
{
	__u32 index = (port + table->mix) & table->mask; /* udp_hashfn() */
	struct udp_hslot *slot =
	    (struct udp_hslot *)(table->slots + index * bpf_core_type_size(struct udp_hslot));
	struct hlist_node *node = NULL;

	bpf_core_read(&node, sizeof(node), &slot->head.first);
	return (__u64)node;
}

#endif
