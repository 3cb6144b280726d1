/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Busy destinations: where nearly all ports are taken for a destination,
 * looking at one claim after the other for a free port takes long. So each such
 * destination gets a bitmap of the ports that were seen to be taken.
 *
 * A bit is a hint; whether a port is free, the claims alone decide. Whoever
 * sets a bit looks at the claim once more afterwards, and clears the bit where
 * there is none any more; whoever removes a claim clears its bit afterwards. So
 * no bit stays set without a claim. A bit that is missing costs a look.
 */
#ifndef TUPLEGUARD_BUSY_BPF_H
#define TUPLEGUARD_BUSY_BPF_H

#include "groups.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TG_BUSY);
	__type(key, __u32);
	__type(value, struct tg_busy);
} busy SEC(".maps");

/* What is looked at whenever a claim is removed: together, in few cache lines. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_busy_tags);
} busy_tags SEC(".maps");

/* A destination's bitmap is one of so many neighbours: other local addresses have their own. */
#define BUSY_WAYS 4
/* A bitmap may be given to another destination when it was not used for so long. */
#define BUSY_IDLE_NS 1000000000LL
/* Tag of a bitmap that is being made; those of destinations are odd. */
#define BUSY_TAG_RESERVED 2ULL

static __always_inline __u64 busy_tag(__u64 hash)
{
	return hash | 1;
}

static __always_inline __u32 first_slot(__u64 hash)
{
	return hash & (TG_BUSY - BUSY_WAYS);
}

static __always_inline struct tg_busy_tags *find_busy_tags(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&busy_tags, &zero);
}

/* The verifier has to see the bound, which the compiler may know to hold. */
static __always_inline __u64 *tag_of(struct tg_busy_tags *tags, __u32 slot)
{
	asm volatile("" : "+r"(slot));
	return &tags->tag[slot & (TG_BUSY - 1)];
}

static __always_inline struct tg_busy *get_busy(__u32 slot)
{
	return bpf_map_lookup_elem(&busy, &slot);
}

static __always_inline __u64 *find_word(struct tg_busy *it, __u32 port)
{
	__u32 index = (port & (TG_PORTS - 1)) / 64;

	asm volatile("" : "+r"(index)); /* as in tag_of() */
	return &it->taken[index & (TG_PORTS / 64 - 1)];
}

/* Atomic operations whose result is used order memory on every processor. */
static __always_inline void set_bit(__u64 *word, __u64 bit)
{
	__u64 old = __sync_fetch_and_or(word, bit);

	asm volatile("" : : "r"(old));
}

static __always_inline void clear_bit(__u64 *word, __u64 bit)
{
	__u64 old = __sync_fetch_and_and(word, ~bit);

	asm volatile("" : : "r"(old));
}

__noinline int clear_taken(__u32 slot, __u16 port)
{
	struct tg_busy *it = get_busy(slot);

	if (it)
		clear_bit(find_word(it, port), 1ULL << port % 64);
	return 0;
}

/* A claim on this port was removed; `hash` is the destination's. */
static __always_inline void clear_hints(__u64 hash, __u16 port)
{
	struct tg_busy_tags *tags = find_busy_tags();
	__u32 slot = first_slot(hash);
	__u64 tag = busy_tag(hash);

	if (!tags) /* cannot happen: the map has one element */
		return;
	if (READ_WORD(&tags->tag[slot]) == tag)
		clear_taken(slot, port);
	if (READ_WORD(&tags->tag[slot + 1]) == tag)
		clear_taken(slot + 1, port);
	if (READ_WORD(&tags->tag[slot + 2]) == tag)
		clear_taken(slot + 2, port);
	if (READ_WORD(&tags->tag[slot + 3]) == tag)
		clear_taken(slot + 3, port);
}

static __always_inline void clear_hints_of(const struct tg_group_key *key)
{
	clear_hints(hash_destination(key), key->local_port);
}

/* Whether the bitmap is for this destination, and this local address. */
static __always_inline bool is_busy_for(const struct tg_busy *it, const struct tg_tuple *tuple)
{
	return it->destination.netns == tuple->netns &&
	       it->destination.remote_port == tuple->remote_port &&
	       is_same(it->destination.remote, tuple->remote) &&
	       is_same(it->destination.local, tuple->local);
}

/* The slot of the tuple's destination; NO_SLOT when it has none. */
#define NO_SLOT 0xff

/* Nearly always the answer is no, and costs no call. */
static __always_inline bool may_be_busy(const struct tg_group_key *key)
{
	struct tg_busy_tags *tags = find_busy_tags();
	__u64 hash = hash_destination(key), tag = busy_tag(hash);
	__u32 slot = first_slot(hash);

	return tags && (tags->tag[slot] == tag || tags->tag[slot + 1] == tag ||
			tags->tag[slot + 2] == tag || tags->tag[slot + 3] == tag);
}

__noinline int find_slot(const struct tg_tuple *tuple, __u64 now_ns)
{
	struct tg_busy_tags *tags = find_busy_tags();
	struct tg_busy *it;
	__u32 slot;
	__u64 tag;

	if (!tuple || !tags)
		return NO_SLOT;
	tag = busy_tag(hash_destination((const struct tg_group_key *)tuple));
	slot = first_slot(tag);
	for (__u32 i = 0; i < BUSY_WAYS; i++, slot++) {
		if (READ_WORD(tag_of(tags, slot)) != tag)
			continue;
		it = get_busy(slot);
		if (it && is_busy_for(it, tuple)) {
			it->used_ns = now_ns;
			return slot;
		}
	}
	return NO_SLOT;
}

static long clear_word(__u32 index, struct tg_busy **it)
{
	if (index < TG_PORTS / 64)
		(*it)->taken[index] = 0;
	return 0;
}

/* Gives a bitmap to the tuple's destination, if one is free or idle; else NO_SLOT. */
__noinline int make_slot(const struct tg_tuple *tuple, __u64 now_ns)
{
	struct tg_busy_tags *tags = find_busy_tags();
	__u32 first, slot = 0, i;
	struct tg_busy *it = NULL;
	__u64 tag, old = 0;

	if (!tuple || !tags)
		return NO_SLOT;
	tag = busy_tag(hash_destination((const struct tg_group_key *)tuple));
	first = first_slot(tag);
	for (i = 0; i < BUSY_WAYS; i++) {
		slot = first + i;
		old = READ_WORD(tag_of(tags, slot));
		it = get_busy(slot);
		if (it && old != BUSY_TAG_RESERVED &&
		    (!old || (__s64)(now_ns - it->used_ns) > BUSY_IDLE_NS))
			break;
		it = NULL;
	}
	if (!it || !swap_word(tag_of(tags, slot), old, BUSY_TAG_RESERVED))
		return NO_SLOT;
	/* In this order: see mark_taken(). */
	it->destination = *tuple;
	it->destination.local_port = 0;
	add_to_word(&it->cursor, 1);
	bpf_loop(TG_PORTS / 64, clear_word, &it, 0);
	it->used_ns = now_ns;
	swap_word(tag_of(tags, slot), BUSY_TAG_RESERVED, tag);
	return slot;
}

#endif
