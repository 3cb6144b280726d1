// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The look-up-only design, as others have published it, for `tupleguard lab`
 * and the benchmark to measure; the guard does not use it. It asks the
 * kernel's socket table at connect whether another socket holds the 4-tuple,
 * and keeps no state of its own. It leaves a race (two connects can both look
 * before either is in the table), and a look-up that finds nothing walks every
 * socket on the local address.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { REJECT = 0, ALLOW = 1 };

#define IPPROTO_UDP 17
#define TCP_ESTABLISHED 1 /* include/net/tcp_states.h: also a connected UDP socket */

static __always_inline bool is_held4(struct bpf_sock_addr *ctx, const struct bpf_sock *found,
				     const struct bpf_sock_tuple *tuple)
{
	/* Without an exact match the look-up answers with an unconnected socket, such as ours. */
	return found != ctx->sk && found->state == TCP_ESTABLISHED &&
	       found->dst_ip4 == tuple->ipv4.saddr && found->dst_port == tuple->ipv4.sport &&
	       found->src_ip4 == tuple->ipv4.daddr;
}

static __always_inline bool is_held6(struct bpf_sock_addr *ctx, const struct bpf_sock *found,
				     const struct bpf_sock_tuple *tuple)
{
	return found != ctx->sk && found->state == TCP_ESTABLISHED &&
	       found->dst_port == tuple->ipv6.sport && found->dst_ip6[0] == tuple->ipv6.saddr[0] &&
	       found->dst_ip6[1] == tuple->ipv6.saddr[1] &&
	       found->dst_ip6[2] == tuple->ipv6.saddr[2] &&
	       found->dst_ip6[3] == tuple->ipv6.saddr[3];
}

/* The tuple is a packet's: from the remote (s…) to us (d…). */
SEC("cgroup/connect4")
int look_up_connect4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = ctx->sk, *found;
	bool held;

	if (ctx->protocol != IPPROTO_UDP || !sk || !sk->src_port)
		return ALLOW;
	tuple.ipv4.saddr = ctx->user_ip4;
	tuple.ipv4.sport = ctx->user_port;
	tuple.ipv4.daddr = sk->src_ip4;
	tuple.ipv4.dport = bpf_htons(sk->src_port);
	found = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return ALLOW;
	held = is_held4(ctx, found, &tuple);
	bpf_sk_release(found);
	return held ? REJECT : ALLOW;
}

SEC("cgroup/connect6")
int look_up_connect6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = ctx->sk, *found;
	bool held;

	if (ctx->protocol != IPPROTO_UDP || !sk || !sk->src_port)
		return ALLOW;
	tuple.ipv6.saddr[0] = ctx->user_ip6[0];
	tuple.ipv6.saddr[1] = ctx->user_ip6[1];
	tuple.ipv6.saddr[2] = ctx->user_ip6[2];
	tuple.ipv6.saddr[3] = ctx->user_ip6[3];
	tuple.ipv6.sport = ctx->user_port;
	tuple.ipv6.daddr[0] = sk->src_ip6[0];
	tuple.ipv6.daddr[1] = sk->src_ip6[1];
	tuple.ipv6.daddr[2] = sk->src_ip6[2];
	tuple.ipv6.daddr[3] = sk->src_ip6[3];
	tuple.ipv6.dport = bpf_htons(sk->src_port);
	found = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return ALLOW;
	held = is_held6(ctx, found, &tuple);
	bpf_sk_release(found);
	return held ? REJECT : ALLOW;
}
