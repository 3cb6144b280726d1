/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What each socket has claimed, so that all of it is given back at release,
 * also after a connect that the hook allowed and the kernel then failed. A
 * socket's hooks run under its lock, so its record needs no atomics, except to
 * share out the elements of `socket_records`.
 *
 * Nearly every claim is the inline one of a bucket. Its record is the bucket's
 * index and generation: neither a key to hash nor an element to make and to
 * delete. The other claims are remembered by their tuple.
 */
#ifndef TUPLEGUARD_RECORDS_BPF_H
#define TUPLEGUARD_RECORDS_BPF_H

#include "claims.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for its alignment, as `buckets` */
	__uint(max_entries, 1);		   /* a power of two, set by the user side */
	__type(key, __u32);
	__type(value, struct tg_socket_record);
} socket_records SEC(".maps");

/* Records whose element another socket has, and tuples. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct tg_record_key);
	__type(value, struct tg_record_more);
} socket_records_more SEC(".maps");

/* Owner of an element that is being filled in, or given back by a sweep. */
#define COOKIE_RESERVED (~0ULL)

static __always_inline struct tg_socket_record *find_home(__u64 cookie)
{
	__u32 index = cookie & policy.table_mask;

	return bpf_map_lookup_elem(&socket_records, &index);
}

static __always_inline struct tg_record_more *find_more(__u64 cookie, __u64 index)
{
	struct tg_record_key key = {.cookie = cookie, .index = index};

	return bpf_map_lookup_elem(&socket_records_more, &key);
}

static __always_inline bool insert_more(__u64 cookie, __u64 index,
					const struct tg_record_more *more, enum room room)
{
	struct tg_record_key key = {.cookie = cookie, .index = index};

	if (!has_room(TG_USAGE_RECORDS_MORE, room) ||
	    bpf_map_update_elem(&socket_records_more, &key, more, BPF_NOEXIST))
		return false;
	count_elements(TG_USAGE_RECORDS_MORE, 1);
	return true;
}

/* 0, or an error where there is none. With a stack of its own. */
__noinline int delete_more(__u64 cookie, __u64 index)
{
	struct tg_record_key key = {.cookie = cookie, .index = index};
	int error = bpf_map_delete_elem(&socket_records_more, &key);

	if (!error)
		count_elements(TG_USAGE_RECORDS_MORE, -1ULL);
	return error;
}

/* A socket's record, if it has one. */
static __always_inline struct tg_socket_record *find_record(struct tg_socket_record *home,
							    __u64 cookie)
{
	struct tg_record_more *more;

	if (home->cookie == cookie)
		return home;
	if (!home->displaced)
		return NULL;
	more = find_more(cookie, 0);
	return more ? &more->record : NULL;
}

/*
 * The bucket of a claim that is still the socket's, and the word that proves
 * it: an inline claim that was taken off is never replaced in that generation.
 */
static __always_inline struct tg_bucket *find_held(const struct tg_held *held, __u64 cookie,
						   __u64 *word)
{
	struct tg_bucket *bucket = get_bucket(held->bucket);

	if (!bucket)
		return NULL;
	*word = READ_WORD(&bucket->group.word);
	barrier();
	if (generation_of(READ_WORD(&bucket->control)) != held->generation ||
	    !(*word & TG_WORD_INLINE) || bucket->group.claim.cookie != cookie)
		return NULL;
	return bucket;
}

/* The tuple of a claim that is the socket's, and so does not change. */
static __always_inline void copy_tuple(struct tg_tuple *to, const struct tg_bucket *bucket)
{
	*(struct tg_group_key *)to = bucket->key;
	set_address(to->local, bucket->group.source);
}

/*
 * Takes the claim off; false when its word changed meanwhile. Where others came beside it, it
 * stays for them.
 */
static __always_inline bool remove_held(struct tg_bucket *bucket, __u64 word)
{
	__u64 left = word & TG_WORD_FURTHER ? new_id() | (word & TG_WORD_FURTHER) : 0;
	__u64 hash = hash_destination(&bucket->key);
	__u16 port = bucket->key.local_port;

	if (word & TG_WORD_SHARED)
		return true;
	if (!swap_word(&bucket->group.word, word, left))
		return false;
	if (!left)
		free_bucket(bucket);
	clear_hints(hash, port);
	return true;
}

/* The same, where other sockets' claims came to the group or left it meanwhile. */
__noinline int drop_held(struct tg_bucket *bucket, __u64 cookie)
{
	struct tg_tuple tuple;

	if (!bucket)
		return true;
	copy_tuple(&tuple, bucket);
	return drop_claim(&tuple, cookie, 0);
}

__noinline int renew_held(struct tg_bucket *bucket, __u64 cookie, __u64 now_ns)
{
	struct tg_tuple tuple;

	if (!bucket)
		return 0;
	copy_tuple(&tuple, bucket);
	renew_claim(&tuple, cookie, now_ns);
	return 0;
}

static __always_inline bool is_same_group(const struct tg_tuple *a, const struct tg_tuple *b)
{
	return a->netns == b->netns && a->local_port == b->local_port &&
	       a->remote_port == b->remote_port && is_same(a->remote, b->remote);
}

/* The socket wants this tuple again. What several threads went for, none can call over. */
static __always_inline void mark_remembered(struct claimant *me, struct tg_held *held)
{
	me->is_remembered = true;
	if (held->thread != me->held.thread)
		held->thread = 0;
}

/* Whether no connect of another thread can still be on its way to what `held` is for. */
static __always_inline bool is_over(const struct claimant *me, const struct tg_held *held,
				    __u64 time_ns)
{
	/* A thread's own earlier connect is over, since that thread is here. */
	if (held->thread == me->held.thread)
		return true;
	/* We have the lock now, so whoever waits for it may be that connect. */
	return !is_young(me, time_ns) && !has_waiters(me->wanted.claim.sock);
}

/*
 * Whether the claim is for the tuple that is wanted now. One that was claimed
 * with the address unknown stays so: bound to ::ffff:0.0.0.0 a socket's address
 * becomes final only with its first connect.
 */
static __always_inline bool is_wanted(const struct claimant *me, const struct tg_bucket *bucket)
{
	const __u32 *source = bucket->group.source;

	return has_key(bucket, &me->key) &&
	       ((is_zero(source) && !me->is_discovered) || is_same(source, me->tuple.local));
}

/*
 * Claims the tuple anew where the socket has it already, so that it stays the
 * socket's for this connect too; gives up another one, unless the socket holds
 * it or may yet. True when there is no claim left.
 */
static __always_inline bool revisit_bucket(struct claimant *me, struct tg_held *held)
{
	struct tg_claim *mine = &me->wanted.claim;
	struct tg_bucket *bucket;
	__u64 word, now_ns = mine->time_ns;

	bucket = find_held(held, mine->cookie, &word);
	if (!bucket)
		return true;
	if (is_wanted(me, bucket)) {
		set_address(me->tuple.local, bucket->group.source);
		mark_remembered(me, held);
		/* Others were let in beside the address that it had: contend() refuses. */
		if (is_zero(me->tuple.local) && (word & TG_WORD_FURTHER))
			return false;
		*(volatile __u64 *)&bucket->group.claim.time_ns = now_ns;
		if (swap_word(&bucket->group.word, word, renewed(word) | TG_WORD_REFRESHED))
			me->verdict = RECLAIMED;
		return false;
	}
	if (is_connected_to(mine->sock, &bucket->key)) {
		/*
		 * Held now, but perhaps not for long, while another thread is
		 * still on its way here: its grace begins anew.
		 */
		*(volatile __u64 *)&bucket->group.claim.time_ns = now_ns;
		if (!swap_word(&bucket->group.word, word, renewed(word)))
			renew_held(bucket, mine->cookie, now_ns);
		return false;
	}
	if (!is_over(me, held, *(volatile __u64 *)&bucket->group.claim.time_ns))
		return false;
	return remove_held(bucket, word) || drop_held(bucket, mine->cookie);
}

/* The same for a claim that is remembered by its tuple. */
__noinline int revisit_tuple(struct claimant *me, struct tg_held *held, __u64 index)
{
	struct tg_record_more *more;
	struct tg_tuple tuple;
	struct tg_claim *mine;

	if (!me || !held)
		return false;
	mine = &me->wanted.claim;
	more = find_more(mine->cookie, index + 1);
	if (!more)
		return true;
	tuple = more->tuple;
	if (is_same_group(&tuple, &me->tuple) && ((is_zero(tuple.local) && !me->is_discovered) ||
						  is_same(tuple.local, me->tuple.local))) {
		set_address(me->tuple.local, tuple.local);
		mark_remembered(me, held);
		return false;
	}
	if (is_connected_to(mine->sock, key_of(&tuple))) {
		renew_claim(&tuple, mine->cookie, mine->time_ns);
		return false;
	}
	if (held->thread != me->held.thread && has_waiters(mine->sock))
		return false;
	if (!drop_claim(&tuple, mine->cookie,
			held->thread == me->held.thread ? 0 : mine->time_ns - policy.grace_ns))
		return false;
	delete_more(mine->cookie, index + 1);
	return true;
}

/* Before a socket claims again: what has it still, and what of that can go? */
static __always_inline void revisit(struct claimant *me, struct tg_socket_record *record)
{
	struct tg_held *held;
	bool gone;

	NOT_UNROLLED
	for (__u32 i = 0; i < TG_SOCKET_CLAIMS; i++) {
		held = &record->held[i];
		if (held->kind == TG_HELD_NOTHING)
			continue;
		if (held->kind == TG_HELD_IN_BUCKET)
			gone = revisit_bucket(me, held);
		else
			gone = revisit_tuple(me, held, i);
		if (!gone)
			continue;
		held->kind = TG_HELD_NOTHING;
		me->pruned++;
	}
}

enum remembered {
	REMEMBERED,
	TABLE_IS_FULL,
	SOCKET_HAS_TOO_MANY,
};

__noinline int remember_tuple(const struct claimant *me, __u64 index)
{
	struct tg_record_more more = {};

	if (!me)
		return false;
	more.tuple = me->tuple;
	return insert_more(me->wanted.claim.cookie, index + 1, &more, me->room);
}

/* Notes down a granted claim in the socket's record. */
static __always_inline int remember_in(struct tg_socket_record *record, const struct claimant *me)
{
	NOT_UNROLLED
	for (__u32 i = 0; i < TG_SOCKET_CLAIMS; i++) {
		if (record->held[i].kind != TG_HELD_NOTHING)
			continue;
		if (me->held.kind == TG_HELD_BY_TUPLE && !remember_tuple(me, i))
			return TABLE_IS_FULL;
		record->held[i] = me->held;
		return REMEMBERED;
	}
	return SOCKET_HAS_TOO_MANY;
}

/* A record in the hash, for a socket whose element in the array is another's. */
__noinline int remember_displaced(struct tg_socket_record *home, const struct claimant *me)
{
	struct tg_record_more more = {};
	__u64 cookie;

	if (!home || !me)
		return TABLE_IS_FULL;
	cookie = me->wanted.claim.cookie;
	more.record.cookie = cookie;
	more.record.sock = me->wanted.claim.sock;
	more.record.held[0] = me->held;
	if (me->held.kind == TG_HELD_BY_TUPLE && !remember_tuple(me, 0))
		return TABLE_IS_FULL;
	__sync_fetch_and_add(&home->displaced, 1);
	if (insert_more(cookie, 0, &more, me->room))
		return REMEMBERED;
	__sync_fetch_and_add(&home->displaced, -1);
	if (me->held.kind == TG_HELD_BY_TUPLE)
		delete_more(cookie, 1);
	return TABLE_IS_FULL;
}

/*
 * A record for a socket that has none. It becomes visible only when complete:
 * to a sweep, which takes an owner that it cannot find to be gone, and to the
 * socket's own hooks, where it is seeded.
 */
static __always_inline int remember_first(struct tg_socket_record *home, const struct claimant *me)
{
	if (!swap_word(&home->cookie, 0, COOKIE_RESERVED))
		return remember_displaced(home, me);
	if (me->held.kind == TG_HELD_BY_TUPLE && !remember_tuple(me, 0)) {
		swap_word(&home->cookie, COOKIE_RESERVED, 0);
		return TABLE_IS_FULL;
	}
	home->sock = me->wanted.claim.sock;
	home->held[0] = me->held;
	home->held[1].kind = TG_HELD_NOTHING;
	home->held[2].kind = TG_HELD_NOTHING;
	swap_word(&home->cookie, COOKIE_RESERVED, me->wanted.claim.cookie);
	return REMEMBERED;
}

/* The same, whether or not the socket has a record, which is `record` then. */
static __always_inline int remember(struct tg_socket_record *home, struct tg_socket_record *record,
				    const struct claimant *me)
{
	return record ? remember_in(record, me) : remember_first(home, me);
}

__noinline int give_back_tuple(__u64 cookie, __u64 index)
{
	struct tg_record_more *more = find_more(cookie, index + 1);
	struct tg_tuple tuple;

	if (!more)
		return 0;
	tuple = more->tuple;
	drop_claim(&tuple, cookie, 0);
	delete_more(cookie, index + 1);
	return 0;
}

static __always_inline void give_back_bucket(const struct tg_held *held, __u64 cookie)
{
	struct tg_bucket *bucket;
	__u64 word;

	bucket = find_held(held, cookie, &word);
	if (bucket && !remove_held(bucket, word))
		drop_held(bucket, cookie);
}

/* Gives up all that is in a record; returns how many claims that was. */
static __always_inline int give_back(struct tg_socket_record *record, __u64 cookie)
{
	struct tg_held *held;
	int claims = 0;

	NOT_UNROLLED
	for (__u32 i = 0; i < TG_SOCKET_CLAIMS; i++) {
		held = &record->held[i];
		if (held->kind == TG_HELD_NOTHING)
			continue;
		if (held->kind == TG_HELD_IN_BUCKET)
			give_back_bucket(held, cookie);
		else
			give_back_tuple(cookie, i);
		held->kind = TG_HELD_NOTHING;
		claims++;
	}
	return claims;
}

__noinline int give_back_displaced(struct tg_socket_record *home, __u64 cookie)
{
	struct tg_record_more *more = find_more(cookie, 0);
	int claims;

	if (!home || !more)
		return 0;
	claims = give_back(&more->record, cookie);
	if (!delete_more(cookie, 0)) /* else another sweep has */
		__sync_fetch_and_add(&home->displaced, -1);
	return claims;
}

/* All of a socket that is being released. */
static __always_inline int give_back_all(struct tg_socket_record *home, __u64 cookie)
{
	int claims = 0;

	if (home->cookie == cookie) {
		claims = give_back(home, cookie);
		swap_word(&home->cookie, cookie, 0);
	}
	if (home->displaced)
		claims += give_back_displaced(home, cookie);
	return claims;
}

/*
 * All of a socket that is gone, and runs no hook any more. Its element is
 * reserved first: another processor may be at it too, and then it be another
 * socket's.
 */
static __always_inline void give_back_gone(struct tg_socket_record *home, __u64 cookie)
{
	if (swap_word(&home->cookie, cookie, COOKIE_RESERVED)) {
		give_back(home, cookie);
		swap_word(&home->cookie, COOKIE_RESERVED, 0);
	}
	if (home->displaced)
		give_back_displaced(home, cookie);
}

#endif
