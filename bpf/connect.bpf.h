/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the hooks of a socket tell: on connect() the tuple that it asks for and
 * who asks, and at its release that all is to be given back.
 */
#ifndef TUPLEGUARD_CONNECT_BPF_H
#define TUPLEGUARD_CONNECT_BPF_H

#include "broadcast.bpf.h"
#include "events.bpf.h"
#include "records.bpf.h"

/* Where a connect goes; true for IPv4, which the address decides, not the socket's family. */
static __always_inline bool read_remote4(struct bpf_sock_addr *ctx, struct tg_tuple *tuple)
{
	set_mapped(tuple->remote, ctx->user_ip4);
	return true;
}

static __always_inline bool read_remote6(struct bpf_sock_addr *ctx, struct tg_tuple *tuple)
{
	tuple->remote[0] = ctx->user_ip6[0];
	tuple->remote[1] = ctx->user_ip6[1];
	tuple->remote[2] = ctx->user_ip6[2];
	tuple->remote[3] = ctx->user_ip6[3];
	if (!is_mapped(tuple->remote))
		return false;
	set_mapped(tuple->remote, tuple->remote[3]); /* ::ffff:0.0.0.0 is as good as 0.0.0.0 */
	return true;
}

/*
 * 0.0.0.0 and :: stand for this host: the kernel goes to the socket's own
 * address, or to loopback (ip_route_output_key_hash_rcu, __ip6_datagram_connect).
 */
static __always_inline void resolve_this_host(struct tg_tuple *tuple, bool v4, __u64 sk)
{
	__u32 *to = tuple->remote;

	read_local(sk, v4, to);
	if (v4 && is_zero(to))
		set_mapped(to, LOOPBACK4);
	if (v4)
		return;
	if (is_mapped(to))
		set_mapped(to, LOOPBACK4);
	else
		set_loopback6(to);
}

/* read_local_if_final() for the hook's own socket, by plain loads: a probe read costs a call. */
static __always_inline void read_own_if_final(struct bpf_sock *sk, __u64 number,
					      struct tg_tuple *tuple)
{
	if (is_mapped(tuple->remote)) {
		set_mapped(tuple->local, sk->src_ip4);
	} else {
		tuple->local[0] = sk->src_ip6[0];
		tuple->local[1] = sk->src_ip6[1];
		tuple->local[2] = sk->src_ip6[2];
		tuple->local[3] = sk->src_ip6[3];
	}
	if (!is_zero(tuple->local) && !is_address_locked(number))
		set_mapped(tuple->local, 0);
}

/* Who connects, read from where the helpers would: a call costs more than what they do. */
static __always_inline void introduce(struct bpf_sock_addr *ctx, struct claimant *me, __u64 number)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct tg_claim *claim = &me->wanted.claim;
	struct sock *sk = as_sock(number);

	if (HAS_CASTS) {
		me->tuple.netns = sk->__sk_common.skc_net.net->net_cookie;
		claim->cookie = sk->__sk_common.skc_cookie.counter;
	} else {
		me->tuple.netns = bpf_get_netns_cookie(ctx);
	}
	if (!claim->cookie) /* given out when it is first asked for */
		claim->cookie = bpf_get_socket_cookie(ctx);
	claim->sock = number;
	claim->time_ns = bpf_ktime_get_coarse_ns();
	claim->pid = task->tgid;
	me->held.thread = task->pid;
	((__u64 *)claim->comm)[0] = ((const __u64 *)task->comm)[0];
	((__u64 *)claim->comm)[1] = ((const __u64 *)task->comm)[1];
}

/* Where sharing is how it is meant. */
enum exemption {
	NOT_EXEMPT,
	TO_MULTICAST,
	TO_BROADCAST,
};

/* All but the port and the destination. */
static __always_inline enum exemption complete(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					       __u64 number, struct claimant *me)
{
	read_own_if_final(sk, number, &me->tuple);
	if (is_multicast(me->tuple.remote) || is_multicast(me->tuple.local))
		return TO_MULTICAST;
	if (is_mapped(me->tuple.remote) && may_broadcast(number) &&
	    is_subnet_broadcast(number, me->tuple.remote[3]))
		return TO_BROADCAST;
	me->tuple.remote_port = bpf_ntohs(ctx->user_port);
	introduce(ctx, me, number);
	return NOT_EXEMPT;
}

/* The cookie of a socket that is being released; 0: nobody ever asked for it. */
static __always_inline __u64 released_cookie(struct bpf_sock *ctx)
{
	return HAS_CASTS ? as_sock(as_number(ctx))->__sk_common.skc_cookie.counter
			 : bpf_get_socket_cookie(ctx);
}

/* Gives back whatever the socket has claimed. */
static __always_inline int on_release(struct bpf_sock *ctx)
{
	struct tg_socket_record *home;
	struct tg_counters *counters;
	__u64 cookie;
	int claims;

	if (ctx->protocol != IPPROTO_UDP)
		return ALLOW;
	cookie = released_cookie(ctx);
	if (!cookie)
		return ALLOW;
	home = find_home(cookie);
	if (!home)
		return ALLOW;
	claims = give_back_all(home, cookie);
	if (!claims)
		return ALLOW;
	counters = find_counters();
	if (counters)
		COUNT_MORE(counters, released, claims);
	return ALLOW;
}

#endif
