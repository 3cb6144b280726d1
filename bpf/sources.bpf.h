/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From which local address a socket that has none yet will connect. The
 * kernel's routing decides that after the hook, and no helper tells; but
 * sockets that went to the same destination before show it. These are hints: a
 * wrong one costs a connect that meets a port which another has
 * (EADDRNOTAVAIL).
 */
#ifndef TUPLEGUARD_SOURCES_BPF_H
#define TUPLEGUARD_SOURCES_BPF_H

#include "groups.bpf.h"

/* By a hash of network namespace, bound device and destination. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TG_SOURCES);
	__type(key, __u32);
	__type(value, struct tg_source);
} sources SEC(".maps");

/* Of a destination without its port; with an address of all zero: of any destination. */
static __always_inline __u64 hash_route(const struct tg_tuple *tuple, const __u32 remote[4],
					__u32 device)
{
	__u64 words[3] = {(__u64)tuple->netns << 32 | device, (__u64)remote[0] << 32 | remote[1],
			  (__u64)remote[2] << 32 | remote[3]};
	__u64 hash = words[0] * 0x9e3779b97f4a7c15 + words[1] * 0xc2b2ae3d27d4eb4f +
		     words[2] * 0x165667b19e3779f9 + is_mapped(tuple->remote);

	hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93;
	return (hash ^ hash >> 32) | 1; /* 0 is nobody's */
}

static __always_inline struct tg_source *get_source(__u64 hash)
{
	__u32 index = hash >> 32 & (TG_SOURCES - 1);

	return bpf_map_lookup_elem(&sources, &index);
}

/* Two that write at once may leave half of each address: a hint that leads nowhere. */
static __always_inline void note_address(__u64 hash, const __u32 address[4])
{
	struct tg_source *it = get_source(hash);

	if (!it)
		return;
	if (READ_WORD(&it->hash) != hash) {
		it->sock = 0;
		set_mapped(it->address[0], 0);
		set_address(it->address[1], address);
		READ_WORD(&it->hash) = hash;
	} else if (!is_same(it->address[1], address)) {
		set_address(it->address[0], it->address[1]);
		set_address(it->address[1], address);
	}
}

/* What a socket that is connected, or was, tells of its route. */
__noinline int note_route(__u64 sk)
{
	struct net *net = SOCK_FIELD(sk, __sk_common.skc_net.net);
	__u32 device = SOCK_FIELD(sk, __sk_common.skc_bound_dev_if);
	struct tg_tuple tuple = {};
	__u32 any[4] = {};
	__u64 netns = 0;

	bpf_core_read(&netns, sizeof(netns), &net->net_cookie);
	tuple.netns = netns;
	if (SOCK_FIELD(sk, __sk_common.skc_family) == AF_INET)
		set_mapped(tuple.remote, SOCK_FIELD(sk, __sk_common.skc_daddr));
	else
		READ_ADDRESS6(HAS_CASTS, as_sock(sk), __sk_common.skc_v6_daddr, tuple.remote);
	read_local(sk, is_mapped(tuple.remote), tuple.local);
	if (is_zero(tuple.local) || is_zero(tuple.remote))
		return 0;
	note_address(hash_route(&tuple, tuple.remote, device), tuple.local);
	note_address(hash_route(&tuple, any, 0), tuple.local);
	return 0;
}

/* Where the socket that went there last is still connected. */
static __always_inline void note_latest(const struct tg_source *it, const struct tg_tuple *tuple)
{
	__u64 sk = it->sock, cookie = it->cookie;

	if (sk && is_socket(sk, cookie) && is_remote(HAS_CASTS, as_sock(sk), tuple->remote))
		note_route(sk);
}

/* A destination that nobody went to: this host itself, or what routes elsewhere lead to. */
static __always_inline void guess_addresses(const struct tg_tuple *tuple, __u32 out[2][4])
{
	__u32 any[4] = {};
	__u64 hash = hash_route(tuple, any, 0);
	struct tg_source *latest = get_source(hash);

	set_address(out[0], tuple->remote);
	if (is_loopback(tuple->remote) && is_mapped(tuple->remote))
		set_mapped(out[0], LOOPBACK4);
	if (latest && READ_WORD(&latest->hash) == hash)
		set_address(out[1], latest->address[1]);
	else
		set_mapped(out[1], 0);
}

/*
 * The addresses that the socket may come to have, all zero where there are
 * fewer; and that it is the latest to go there.
 */
static __noinline int find_addresses(const struct tg_tuple *tuple, __u32 device, __u64 sk,
				     __u64 cookie, __u32 out[2][4])
{
	__u64 hash = hash_route(tuple, tuple->remote, device);
	struct tg_source *it = get_source(hash);

	if (!it)
		return 0;
	if (READ_WORD(&it->hash) == hash) {
		note_latest(it, tuple);
		set_address(out[0], it->address[0]);
		set_address(out[1], it->address[1]);
	} else {
		it->sock = 0;
		set_mapped(it->address[0], 0);
		set_mapped(it->address[1], 0);
		READ_WORD(&it->hash) = hash;
	}
	if (is_zero(out[0]) && is_zero(out[1]))
		guess_addresses(tuple, out);
	it->cookie = cookie;
	it->sock = sk;
	return 0;
}

#endif
