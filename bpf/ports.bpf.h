/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which local ports are in use: a look into the kernel's own table of UDP
 * sockets, as binding takes it (udp_lib_get_port), but without its lock. What is
 * seen may change at any time, so it is good for choosing a port, not for more.
 */
#ifndef TUPLEGUARD_PORTS_BPF_H
#define TUPLEGUARD_PORTS_BPF_H

#include "tuple.bpf.h"

/* Of a longer chain it is not known what it holds: looking on would cost more than it gains. */
#define CHAIN 16

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

/* Whether a socket of the namespace has the port, or may have it. */
static __noinline int is_port_used(const struct port_table *table, __u16 port)
{
	__u32 index = (port + table->mix) & table->mask; /* udp_hashfn() */
	struct udp_hslot *slot =
	    (struct udp_hslot *)(table->slots + index * bpf_core_type_size(struct udp_hslot));
	struct hlist_node *node = NULL;
	__u64 sk;
	int i;

	bpf_core_read(&node, sizeof(node), &slot->head.first);
	for (i = 0; i < CHAIN; i++) {
		if (!node)
			return false;
		sk = (__u64)node - bpf_core_field_offset(struct sock, __sk_common.skc_node);
		if (SOCK_FIELD(sk, __sk_common.skc_num) == port &&
		    (__u64)SOCK_FIELD(sk, __sk_common.skc_net.net) == table->net)
			return true;
		node = SOCK_FIELD(sk, __sk_common.skc_node.next);
	}
	return true;
}

/* The same for one port only, in the namespace of `sk`. */
static __noinline int is_used(__u64 sk, __u16 port)
{
	struct port_table table;

	return find_port_table(sk, &table) && is_port_used(&table, port);
}

#endif
