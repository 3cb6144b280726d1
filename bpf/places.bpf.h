/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What each socket has claimed, so that all of it is given back at release,
 * also after a connect that the hook allowed and the kernel then failed. A
 * socket's hooks run under its lock, so its places need no atomics, except to
 * share out the elements of `homes`.
 */
#ifndef TUPLEGUARD_PLACES_BPF_H
#define TUPLEGUARD_PLACES_BPF_H

#include "claims.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for its alignment, as `buckets` */
	__uint(max_entries, 1);		   /* a power of two, set by the user side */
	__type(key, __u32);
	__type(value, struct tg_place);
} homes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct tg_spare_key);
	__type(value, struct tg_place);
} spares SEC(".maps");

/* Owner of a home while stock-taking fills it in. */
#define COOKIE_RESERVED (~0ULL)

static __always_inline struct tg_place *find_home(__u64 cookie, __u32 homes_mask)
{
	__u32 index = cookie & homes_mask;

	return bpf_map_lookup_elem(&homes, &index);
}

static __always_inline struct tg_place *find_spare(__u64 cookie, __u64 index)
{
	struct tg_spare_key key = {.cookie = cookie, .index = index};

	return bpf_map_lookup_elem(&spares, &key);
}

static __always_inline void delete_spare(__u64 cookie, __u64 index)
{
	struct tg_spare_key key = {.cookie = cookie, .index = index};

	bpf_map_delete_elem(&spares, &key);
}

/* A socket's first place, if it has one. */
static __always_inline struct tg_place *find_first(struct tg_place *home, __u64 cookie)
{
	if (home->cookie == cookie)
		return home;
	return home->displaced ? find_spare(cookie, 0) : NULL;
}

static __always_inline struct tg_place *find_first_of(__u64 cookie)
{
	struct tg_place *home = find_home(cookie, policy.homes_mask);

	return home ? find_first(home, cookie) : NULL;
}

static __always_inline bool is_same_group(const struct tg_tuple *a, const struct tg_tuple *b)
{
	return a->netns == b->netns && a->local_port == b->local_port &&
	       a->remote_port == b->remote_port && is_same(a->remote, b->remote);
}

/*
 * Whether the place is for the tuple that is wanted now. One that was claimed
 * with the address unknown stays so: bound to ::ffff:0.0.0.0 a socket's address
 * becomes final only with its first connect.
 */
static __always_inline bool is_place_for(const struct tg_place *place, struct tg_tuple *tuple)
{
	if (place->kind == TG_PLACE_EMPTY || !is_same_group(&place->tuple, tuple))
		return false;
	if (place->kind == TG_PLACE_WILDCARD)
		set_address(tuple->local, place->tuple.local);
	return is_same(place->tuple.local, tuple->local);
}

/*
 * Gives the place's claim up, unless the socket holds it or a connect of
 * another thread may still be on its way to it. A thread's own earlier connect
 * is over, since that thread is here.
 */
static __always_inline bool prune(struct tg_place *place, const struct claimant *me, __u32 thread)
{
	const struct tg_claim *mine = &me->wanted.claim;
	__u64 before_ns = place->thread == thread ? 0 : mine->time_ns - policy.grace_ns;

	if (is_connected_to(mine->sock, &place->tuple)) {
		/*
		 * Held now, but perhaps not for long, while another thread is
		 * still on its way here: its grace begins anew.
		 */
		renew_claim(&place->tuple, mine->cookie, mine->time_ns);
		return false;
	}
	if (!drop_claim(&place->tuple, mine->cookie, before_ns))
		return false;
	place->kind = TG_PLACE_EMPTY;
	return true;
}

/* The socket wants this place's tuple again. What several threads went for, none can call over. */
static __always_inline void revisit_place(struct tg_place *place, __u32 thread)
{
	if (place->thread != thread)
		place->thread = 0;
}

/* Before a socket claims again: what has it still, and what of that can go? */
__noinline int revisit(struct claimant *me)
{
	struct tg_place *first, *place;
	__u32 thread = bpf_get_current_pid_tgid();
	__u64 index;

	if (!me)
		return 0;
	first = find_first_of(me->wanted.claim.cookie);
	if (!first)
		return 0;
	if (is_place_for(first, &me->tuple)) {
		me->has_place = true;
		revisit_place(first, thread);
	} else if (first->kind != TG_PLACE_EMPTY && prune(first, me, thread)) {
		me->pruned++;
	}
	for (index = 1; index < TG_PLACES; index++) {
		if (!(first->more & 1 << (index - 1)))
			continue;
		place = find_spare(me->wanted.claim.cookie, index);
		if (place && is_place_for(place, &me->tuple)) {
			me->has_place = true;
			revisit_place(place, thread);
		} else if (!place || prune(place, me, thread)) {
			delete_spare(me->wanted.claim.cookie, index);
			first->more &= ~(1 << (index - 1));
			me->pruned++;
		}
	}
	return 0;
}

static __always_inline void fill(struct tg_place *place, const struct claimant *me, __u32 thread)
{
	place->sock = me->wanted.claim.sock;
	place->tuple = me->tuple;
	place->thread = thread;
	place->kind = is_zero(me->tuple.local) ? TG_PLACE_WILDCARD : TG_PLACE_EXACT;
}

static __always_inline bool insert_spare(const struct claimant *me, __u64 index, __u32 thread)
{
	struct tg_spare_key key = {.cookie = me->wanted.claim.cookie, .index = index};
	struct tg_place place = {.cookie = key.cookie};

	fill(&place, me, thread);
	return !bpf_map_update_elem(&spares, &key, &place, BPF_NOEXIST);
}

enum remembered {
	REMEMBERED,
	TABLE_IS_FULL,
	SOCKET_HAS_TOO_MANY,
};

/* Remembers a granted claim. Returns an enum remembered. */
__noinline int remember(struct claimant *me)
{
	__u32 thread = bpf_get_current_pid_tgid();
	struct tg_place *home, *first;
	__u64 cookie, index;

	if (!me)
		return TABLE_IS_FULL;
	cookie = me->wanted.claim.cookie;
	home = find_home(cookie, policy.homes_mask);
	if (!home) /* cannot happen: the index is masked */
		return TABLE_IS_FULL;
	first = find_first(home, cookie);
	if (first && first->kind == TG_PLACE_EMPTY) {
		fill(first, me, thread);
		return REMEMBERED;
	}
	if (first) {
		for (index = 1; index < TG_PLACES; index++) {
			if (first->more & 1 << (index - 1))
				continue;
			if (!insert_spare(me, index, thread))
				return TABLE_IS_FULL;
			first->more |= 1 << (index - 1);
			return REMEMBERED;
		}
		return SOCKET_HAS_TOO_MANY;
	}
	if (swap_word(&home->cookie, 0, cookie)) {
		home->more = 0;
		fill(home, me, thread);
		return REMEMBERED;
	}
	__sync_fetch_and_add(&home->displaced, 1);
	if (insert_spare(me, 0, thread))
		return REMEMBERED;
	__sync_fetch_and_add(&home->displaced, -1);
	return TABLE_IS_FULL;
}

/* Gives up all that hangs on a first place; returns how many claims that was. */
static __always_inline int give_back(struct tg_place *first, __u64 cookie)
{
	struct tg_place *place;
	__u64 index;
	int claims = 0;

	if (first->kind != TG_PLACE_EMPTY) {
		drop_claim(&first->tuple, cookie, 0);
		first->kind = TG_PLACE_EMPTY;
		claims++;
	}
	if (!first->more)
		return claims;
	for (index = 1; index < TG_PLACES; index++) {
		if (!(first->more & 1 << (index - 1)))
			continue;
		place = find_spare(cookie, index);
		if (!place)
			continue;
		drop_claim(&place->tuple, cookie, 0);
		delete_spare(cookie, index);
		claims++;
	}
	first->more = 0;
	return claims;
}

/* All of a socket that is being released, or is gone. */
static __always_inline int give_back_all(struct tg_place *home, __u64 cookie)
{
	struct tg_place *spare;
	int claims = 0;

	if (home->cookie == cookie) {
		claims = give_back(home, cookie);
		swap_word(&home->cookie, cookie, 0);
	}
	if (home->displaced) {
		spare = find_spare(cookie, 0);
		if (spare) {
			claims += give_back(spare, cookie);
			delete_spare(cookie, 0);
			__sync_fetch_and_add(&home->displaced, -1);
		}
	}
	return claims;
}

#endif
