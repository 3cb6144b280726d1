/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which local ports are in use: a look into the kernel's own table of UDP
 * sockets, as binding takes it (udp_lib_get_port), but without its lock. What is
 * seen may change at any time, so it is good for choosing a port, not for more.
 */
#ifndef TUPLEGUARD_PORTS_BPF_H
#define TUPLEGUARD_PORTS_BPF_H

#include "chain.bpf.h"

/* Of a longer chain it is not known what it holds: looking on would cost more than it gains. */
#define CHAIN 16

/* Whether a socket of the namespace has the port, or may have it. */
__noinline int is_port_used(const struct port_table *table, __u16 port)
{
	__u64 node, sk;
	int i;

	if (!table)
		return true;
	node = first_in_chain(table, port);
	for (i = 0; i < CHAIN; i++) {
		if (!node)
			return false;
		sk = node - bpf_core_field_offset(struct sock, __sk_common.skc_node);
		if (SOCK_FIELD(sk, __sk_common.skc_num) == port &&
		    (__u64)SOCK_FIELD(sk, __sk_common.skc_net.net) == table->net)
			return true;
		node = (__u64)SOCK_FIELD(sk, __sk_common.skc_node.next);
	}
	return true;
}

/* The same for one port only, in the namespace of `sk`. */
__noinline int is_used(__u64 sk, __u16 port)
{
	struct port_table table;

	return find_port_table(sk, &table) && is_port_used(&table, port);
}

#endif
