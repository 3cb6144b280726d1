/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets that are not where they said: another program of the cgroup, or of
 * one above it, gave the connect a new destination after the guard had seen
 * it, as load balancers do. Their claims name an address that nobody will ever
 * find them at, and still they must not be taken for stale.
 */
#ifndef TUPLEGUARD_REWRITTEN_BPF_H
#define TUPLEGUARD_REWRITTEN_BPF_H

#include "groups.bpf.h"

/* Whether a further claim of that tuple is the cookie's. */
static __always_inline bool has_further(const struct tg_tuple *tuple, __u64 cookie)
{
	struct tg_further *claim = bpf_map_lookup_elem(&claims_more, tuple);

	return claim && claim->word && claim->claim.cookie == cookie;
}

/*
 * Whether `sk`, which does not hold the tuple that it has claimed, is connected
 * to where it has no claim. A socket whose latest connect failed is still
 * connected to where it was, and keeps the claim of that.
 */
static __always_inline bool is_rewritten(__u64 sk, __u64 cookie, const struct tg_tuple *claimed)
{
	struct tg_tuple held = {};
	struct tg_group *group;

	if (!claimed)
		return false;
	read_tuple(sk, &held);
	if (held.local_port != claimed->local_port || !is_connected_to(sk, key_of(&held)) ||
	    is_multicast(held.remote) || is_broadcast(sk)) /* which are not claimed */
		return false;
	group = find_group(key_of(&held));
	if (group && (READ_WORD(&group->word) & TG_WORD_INLINE) && group->claim.cookie == cookie)
		return false;
	return !has_further(&held, cookie) && is_socket(sk, cookie);
}

#endif
