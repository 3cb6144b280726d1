/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where groups are kept: an array of buckets, since a hash map's look-up,
 * insertion and deletion are most of what a guarded connect would cost, and
 * behind it a hash map for the keys whose bucket another key has.
 *
 * A key is in one of the two places at most. Who inserts into the hash map
 * counts itself in the bucket's control word first, by a compare-and-swap that
 * proves that the bucket has not come to hold the key; and a bucket with
 * overflow is given to no one anew. So both places together behave like one
 * map with BPF_NOEXIST. Chosen keys can crowd one bucket, but not the hash
 * map, which is seeded.
 */
#ifndef TUPLEGUARD_GROUPS_BPF_H
#define TUPLEGUARD_GROUPS_BPF_H

#include "room.bpf.h"

/* Set before loading, so the verifier removes the branches of the policies not chosen. */
const volatile struct tg_policy policy;

/* Table sizes are set by the user side before the maps are made. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for its alignment: no element straddles cache lines */
	__uint(max_entries, 1);		   /* a power of two */
	__type(key, __u32);
	__type(value, struct tg_bucket);
} buckets SEC(".maps");

/* Groups whose bucket another key has, or had when they came. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct tg_group_key);
	__type(value, struct tg_group);
} groups SEC(".maps");

/* Claims beyond the first of a group. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct tg_tuple);
	__type(value, struct tg_further);
} claims_more SEC(".maps");

/* Unrolled, a loop's rounds have variables of their own on the stack. */
#define NOT_UNROLLED _Pragma("clang loop unroll(disable)")

#define READ_WORD(p) (*(volatile __u64 *)(p))

static __always_inline bool swap_word(__u64 *word, __u64 from, __u64 to)
{
	return __sync_val_compare_and_swap(word, from, to) == from;
}

/* Using the old value makes it an addition that orders memory on every processor. */
static __always_inline void add_to_word(__u64 *word, __u64 number)
{
	__u64 old = __sync_fetch_and_add(word, number);

	asm volatile("" : : "r"(old));
}

/* The local port, in the first word of a key. */
#define PORT_SHIFT 32
#define PORT_MASK 0xffffULL

/* Of all but the local port. */
static __always_inline __u64 hash_destination(const struct tg_group_key *key)
{
	__u64 words[3], hash;

	__builtin_memcpy(words, key, sizeof(words));
	words[0] &= ~(PORT_MASK << PORT_SHIFT);
	hash = words[0] * 0x9e3779b97f4a7c15 + words[1] * 0xc2b2ae3d27d4eb4f +
	       words[2] * 0x165667b19e3779f9;
	hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93;
	return hash ^ hash >> 32;
}

/*
 * Keys that differ only in the local port get neighbouring buckets: ports are
 * often used in sequence, and a search for a free one stays in few pages.
 */
static __always_inline __u64 hash_key(const struct tg_group_key *key)
{
	return hash_destination(key) + key->local_port;
}

static __always_inline __u32 bucket_of(__u64 hash)
{
	return hash & policy.table_mask;
}

static __always_inline struct tg_bucket *get_bucket(__u32 index)
{
	return bpf_map_lookup_elem(&buckets, &index);
}

static __always_inline __u64 fingerprint_of(__u64 hash)
{
	return hash >> 26 & TG_BUCKET_FINGERPRINT; /* its topmost bits */
}

static __always_inline bool has_key(const struct tg_bucket *bucket, const struct tg_group_key *key)
{
	__u64 a[3], b[3];

	__builtin_memcpy(a, &bucket->key, sizeof(a));
	__builtin_memcpy(b, key, sizeof(b));
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

/* The group may be removed, and its memory used for another key, at any time. */
static __always_inline struct tg_group *find_group(const struct tg_group_key *key)
{
	__u64 hash = hash_key(key), control, fingerprint = fingerprint_of(hash);
	struct tg_bucket *bucket = get_bucket(bucket_of(hash));

	if (!bucket) /* cannot happen: the index is masked */
		return NULL;
	control = READ_WORD(&bucket->control);
	barrier();
	if ((control & (TG_BUCKET_FINGERPRINT | TG_BUCKET_STATE)) ==
		(fingerprint | TG_BUCKET_USED) &&
	    has_key(bucket, key)) {
		/* Else it was removed while we compared. */
		barrier();
		return (READ_WORD(&bucket->control) ^ control) & ~TG_BUCKET_OVERFLOW
			   ? NULL
			   : &bucket->group;
	}
	return control & TG_BUCKET_OVERFLOW ? bpf_map_lookup_elem(&groups, key) : NULL;
}

static __always_inline __u32 generation_of(__u64 control)
{
	return control >> TG_BUCKET_GENERATION_SHIFT;
}

/*
 * Inserts into the key's bucket if that is free and there is no overflow, as
 * is nearly always so, and then says in `held` where that is.
 */
static __always_inline bool insert_into_bucket(const struct tg_group_key *key,
					       const struct tg_group *group, struct tg_held *held)
{
	__u64 hash = hash_key(key), control;
	struct tg_bucket *bucket = get_bucket(bucket_of(hash));

	if (!bucket) /* cannot happen: the index is masked */
		return false;
	control = READ_WORD(&bucket->control);
	if (control & (TG_BUCKET_STATE | TG_BUCKET_OVERFLOW))
		return false;
	if (!swap_word(&bucket->control, control,
		       ((control & ~TG_BUCKET_FINGERPRINT) + TG_BUCKET_GENERATION_ONE) |
			   fingerprint_of(hash) | TG_BUCKET_BUSY))
		return false;
	bucket->key = *key;
	bucket->group = *group;
	add_to_word(&bucket->control, TG_BUCKET_USED - TG_BUCKET_BUSY);
	held->kind = TG_HELD_IN_BUCKET;
	held->bucket = bucket_of(hash);
	held->generation = generation_of(control) + 1;
	return true;
}

/*
 * 0, -EEXIST, or -E2BIG or -ENOMEM where there is no room. -EEXIST can also
 * mean that another key came or went meanwhile: the answer to it is to look
 * for the group, and to insert again when there is none.
 */
static __always_inline int insert_group(const struct tg_group_key *key,
					const struct tg_group *group, struct tg_held *held,
					enum room room)
{
	__u64 hash = hash_key(key), control;
	struct tg_bucket *bucket = get_bucket(bucket_of(hash));
	int error;

	held->kind = TG_HELD_BY_TUPLE;
	if (!bucket)
		return -ENOMEM;
	if (insert_into_bucket(key, group, held))
		return 0;
	control = READ_WORD(&bucket->control);
	barrier();
	if (!(control & (TG_BUCKET_STATE | TG_BUCKET_OVERFLOW)))
		return -EEXIST;
	/* While it is written its key can't be seen, but another fingerprint is another key. */
	if ((control & TG_BUCKET_STATE) != TG_BUCKET_FREE &&
	    (control & TG_BUCKET_FINGERPRINT) == fingerprint_of(hash) &&
	    ((control & TG_BUCKET_STATE) == TG_BUCKET_BUSY || has_key(bucket, key)))
		return -EEXIST;
	/* A claim that is in the way counts also where there is no room for another. */
	if (!has_room(TG_USAGE_GROUPS, room) && !bpf_map_lookup_elem(&groups, key))
		return -ENOMEM;
	if (!swap_word(&bucket->control, control, control + TG_BUCKET_OVERFLOW_ONE))
		return -EEXIST;
	error = bpf_map_update_elem(&groups, key, group, BPF_NOEXIST);
	if (error)
		add_to_word(&bucket->control, -TG_BUCKET_OVERFLOW_ONE);
	else
		count_elements(TG_USAGE_GROUPS, 1);
	return error;
}

/* Only for whoever made its group a tombstone. */
static __always_inline void free_bucket(struct tg_bucket *bucket)
{
	add_to_word(&bucket->control, TG_BUCKET_FREE - TG_BUCKET_USED);
}

/*
 * Only for whoever made the group a tombstone: until now it can't have gone,
 * nor come to be in the other place.
 */
static __always_inline void remove_group(const struct tg_group_key *key)
{
	struct tg_bucket *bucket = get_bucket(bucket_of(hash_key(key)));

	if (!bucket)
		return;
	if ((READ_WORD(&bucket->control) & TG_BUCKET_STATE) == TG_BUCKET_USED &&
	    has_key(bucket, key)) {
		free_bucket(bucket);
	} else if (!bpf_map_delete_elem(&groups, key)) {
		add_to_word(&bucket->control, -TG_BUCKET_OVERFLOW_ONE);
		count_elements(TG_USAGE_GROUPS, -1ULL);
	}
}

#endif
