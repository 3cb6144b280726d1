/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bind() without a port. For a socket that shares ports the kernel chooses one
 * that others may have, long before it is known where the socket will connect to;
 * where that turns out to be another's tuple it is too late for another port, and
 * the connect has to be refused. So a free one is chosen here. Where none is found
 * quickly the kernel goes on to choose: a program may well mean to share.
 *
 * A port that is chosen here is locked, like one that the program named. With
 * strict all sockets get theirs so: the kernel's choice could still be undone.
 */
#ifndef TUPLEGUARD_BIND_BPF_H
#define TUPLEGUARD_BIND_BPF_H

#include "discovery.bpf.h"
#include "ports.bpf.h"

enum {
	/* With nine of ten ports in use, all are in one bind of 800. */
	BIND_PROBES = 64,
	/* Where the kernel's choice is not good enough. */
	STRICT_BIND_PROBES = 4096,
};

/* What a bind looks through. */
struct free_port {
	struct port_table table;
	struct discovery range;
	__u16 port; /* 0: none found */
};

static long try_port(__u32 round, struct free_port *it)
{
	__u32 count = it->range.high - it->range.low + 1;
	__u16 port = it->range.low + ((__u64)draw() * count >> 32);

	if (is_reserved(&it->range, port) || is_port_used(&it->table, port))
		return 0;
	it->port = port;
	return 1;
}

/* IP_BIND_ADDRESS_NO_PORT: the port is left to connect(). */
static __always_inline bool binds_without_port(__u64 sk)
{
	struct inet_sock *inet = (struct inet_sock *)sk;
	struct inet_sock___bits *old = (struct inet_sock___bits *)sk;
	unsigned long flags = 0;

	if (bpf_core_field_exists(old->bind_address_no_port))
		return BPF_CORE_READ_BITFIELD_PROBED(old, bind_address_no_port);
	bpf_core_read(&flags, sizeof(flags), &inet->inet_flags);
	return flags >> INET_FLAGS_BIND_ADDRESS_NO_PORT & 1;
}

/* Whether the policy is to choose a port for a bind. */
static __always_inline bool is_to_be_chosen(__u64 sk)
{
	if (policy.observe)
		return false;
	return policy.strict || (policy.discover != TG_DISCOVER_OFF && shares_port(sk));
}

/* Always lets the bind go on; at most it has a port then. */
static __always_inline int on_bind(struct bpf_sock_addr *ctx)
{
	struct free_port it = {};
	struct tg_counters *counters;
	__u64 sk;

	if (ctx->protocol != IPPROTO_UDP || ctx->user_port || !ctx->sk || bpf_get_retval())
		return ALLOW;
	sk = as_number(ctx->sk);
	if (!is_to_be_chosen(sk) || binds_without_port(sk))
		return ALLOW;
	if (!read_ports(sk, &it.range) || !find_port_table(sk, &it.table))
		return ALLOW;
	bpf_loop(policy.strict ? STRICT_BIND_PROBES : BIND_PROBES, try_port, &it, 0);
	if (!it.port)
		return ALLOW;
	ctx->user_port = bpf_htons(it.port);
	counters = find_counters();
	if (counters)
		COUNT(counters, bound);
	return ALLOW;
}

#endif
