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

#define MOST_BIND_PROBES (policy.strict || policy.first_port ? STRICT_BIND_PROBES : BIND_PROBES)

/* What a bind looks through. */
struct free_port {
	struct port_table table;
	struct discovery range;
	__u16 port; /* 0: none found */
};

static __always_inline __u16 draw_port(const struct discovery *range)
{
	return range->low + ((__u64)draw() * count_ports(range) >> 32);
}

static long try_port(__u32 round, struct free_port *it)
{
	__u16 port = draw_port(&it->range);

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
	return policy.strict || policy.first_port ||
	       (policy.discover != TG_DISCOVER_OFF && shares_port(sk));
}

/* Always lets the bind go on, unless no port is the cgroup's own and the socket's. */
static __always_inline int on_bind(struct bpf_sock_addr *ctx)
{
	struct free_port it = {};
	struct tg_counters *counters;
	__u64 sk;

	if (ctx->protocol != IPPROTO_UDP || ctx->user_port || !ctx->sk || bpf_get_retval())
		return ALLOW;
	sk = as_number(ctx->sk);
	if (!is_to_be_chosen(sk) || binds_without_port(sk) || is_chosen_above())
		return ALLOW;
	counters = find_counters();
	if (!read_ports(sk, &it.range)) {
		if (!policy.first_port)
			return ALLOW;
		if (counters)
			COUNT(counters, refused_exhausted);
		bpf_set_retval(-EADDRINUSE);
		return REJECT;
	}
	if (find_port_table(sk, &it.table))
		bpf_loop(MOST_BIND_PROBES, try_port, &it, 0);
	/* The kernel then says whether it can be had; of ours it would choose none itself. */
	if (!it.port && policy.first_port)
		it.port = draw_port(&it.range);
	if (!it.port)
		return ALLOW;
	ctx->user_port = bpf_htons(it.port);
	if (counters)
		COUNT(counters, bound);
	return ALLOW;
}

#endif
