/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The search for a local port that has no claim with a destination, in an order
 * that seems random and visits each port once. Sixteen ports are looked at one
 * by one; a destination that has all of those is busy, and gets a bitmap.
 */
#ifndef TUPLEGUARD_SEARCH_BPF_H
#define TUPLEGUARD_SEARCH_BPF_H

#include "claims.bpf.h"

enum {
	/* After so many looks a bitmap is worth its making. */
	BUSY_PROBES = 16,
	/* So few ports are looked at one by one. */
	SMALL_RANGE = 256,
	/* Without a bitmap: with 99% of the ports taken, so many in a row are in one of 10^7. */
	PROBES = 3072,
	/* But in the part of the range that is not left to others, so many. */
	COURTEOUS_PROBES = 64,
	/* Of so many neighbours the buckets are neighbours too: one miss in the TLB for all. */
	BLOCK = 8,
	/* Then: ports to look at for a claim that can be taken over, and such claims to judge. */
	PROBES_IN_DOUBT = 256,
	DOUBTS = 128,
	/* With a bitmap a connect goes on where the one before stopped. */
	BUSY_DOUBTS = 32,
};

/* No bitmap, and none to be asked for. */
#define DENIED (NO_SLOT - 1)

/* Ports that guarded cgroups have for their own; written by the user side. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_kept_ports);
} kept_ports SEC(".maps");

/* 64 bits of them. */
static __always_inline __u64 read_kept(__u32 index)
{
	struct tg_kept_ports *kept;
	__u32 zero = 0;

	kept = bpf_map_lookup_elem(&kept_ports, &zero);
	asm volatile("" : "+r"(index)); /* as in tag_of() */
	return kept ? READ_WORD(&kept->taken[index & (TG_PORTS / 64 - 1)]) : 0;
}

/* None where the ports to choose from are the cgroup's own. */
static __always_inline __u64 kept_word(__u32 index)
{
	return policy.first_port ? 0 : read_kept(index);
}

/*
 * The same of net.ipv4.ip_local_reserved_ports. By loads they are read as the smallest
 * struct there is, one counter.
 */
static __always_inline __u64 reserved_word(const struct discovery *it, __u32 index)
{
	__u64 address = it->reserved + index * 8, bits = kept_word(index), more = 0;
	struct refcount_struct *low, *high;

	if (!it->reserved)
		return bits;
	if (!HAS_CASTS) {
		bpf_probe_read_kernel(&more, sizeof(more), (void *)address);
		return bits | more;
	}
	low = AT(true, struct refcount_struct, address);
	bits |= (__u32)low->refs.counter;
	high = AT(true, struct refcount_struct, address + 4);
	return bits | (__u64)(__u32)high->refs.counter << 32;
}

static __always_inline bool is_reserved(const struct discovery *it, __u16 port)
{
	return reserved_word(it, port / 64) >> port % 64 & 1;
}

/* What a look tells: a claim that may be stale, or leave room beside it, counts as well. */
static __always_inline bool seems_taken(const struct tg_tuple *tuple)
{
	struct tg_group *group = find_group(key_of(tuple));
	__u64 word;

	if (!group)
		return false;
	word = READ_WORD(&group->word);
	if (is_zero(tuple->local))
		return word & (TG_WORD_INLINE | TG_WORD_FURTHER);
	if ((word & TG_WORD_INLINE) &&
	    (is_zero(group->source) || is_same(group->source, tuple->local)))
		return true;
	return (word & TG_WORD_FURTHER) && bpf_map_lookup_elem(&claims_more, tuple);
}

/*
 * Sets the port's bit. Unless the claim is there still, whoever removed it may
 * have cleared the bit before it was set. And the bitmap may have changed hands:
 * its destination is changed before its bits are cleared.
 */
static __noinline int mark_taken(const struct tg_tuple *tuple, __u32 slot)
{
	struct tg_busy *it = get_busy(slot);
	__u64 bit = 1ULL << tuple->local_port % 64;
	__u64 *word;

	if (!it)
		return 0;
	word = find_word(it, tuple->local_port);
	set_bit(word, bit);
	if (!seems_taken(tuple) || !is_busy_for(it, tuple))
		clear_bit(word, bit);
	return 0;
}

/* The smallest 2^n - 1 that is no less. */
static __always_inline __u32 mask_over(__u32 number)
{
	number |= number >> 1;
	number |= number >> 2;
	number |= number >> 4;
	return number | number >> 8;
}

/* Looks from one port to the next, for those worth an attempt. */
struct look {
	struct tg_tuple tuple; /* a key has to be on the stack */
	struct discovery *at;
};

static __always_inline __u32 count_ports(const struct discovery *it)
{
	return it->high - it->low + 1;
}

/* Less one: how many steps lead through all blocks, as many as the next power of two. */
static __always_inline __u32 last_step(const struct discovery *it)
{
	return mask_over(it->high - it->low / BLOCK * BLOCK) | (BLOCK - 1);
}

static __always_inline __u32 first_offset(const struct discovery *it)
{
	return (__u64)it->random * count_ports(it) >> 32;
}

/* Any of the ports, as likely as each other. */
static __always_inline __u16 first_port(const struct discovery *it)
{
	return it->low + first_offset(it);
}

/*
 * The port of a step. From a random one through its block, and on from block
 * to block by an odd stride, which leads through every one of a power of two.
 */
static __always_inline __u32 port_of_step(const struct discovery *it, __u32 step)
{
	__u32 stride = it->random >> 16 | 1;
	__u32 block = it->random / BLOCK + step / BLOCK * stride;
	__u32 place = block * BLOCK + (it->random + step) % BLOCK;

	return it->low / BLOCK * BLOCK + (place & last_step(it));
}

static __always_inline __u32 most_probes(const struct discovery *it)
{
	if (it->courteous)
		return COURTEOUS_PROBES;
	return COURTEOUS_PROBES + PROBES + (it->in_doubt ? PROBES_IN_DOUBT : 0);
}

static long step_once(__u32 round, struct look *look)
{
	struct discovery *it = look->at;
	__u32 port;

	if (it->slot == NO_SLOT && it->probes >= BUSY_PROBES)
		return 1;
	port = port_of_step(it, it->steps++);
	if (port < it->low || port > it->high)
		return 0;
	if (it->probes >= most_probes(it))
		return 1;
	it->probes++;
	look->tuple.local_port = port;
	if (seems_taken(&look->tuple) != it->in_doubt || is_reserved(it, port))
		return 0;
	it->found = true;
	return 1;
}

/* How many of the lowest bits are 0, in a number that is not. */
static __always_inline __u32 count_zeros(__u64 bits)
{
	__u32 zeros = 0;

	for (__u32 half = 32; half; half /= 2) {
		if (bits & ((1ULL << half) - 1))
			continue;
		bits >>= half;
		zeros += half;
	}
	return zeros;
}

/* Whether all of this port's eight words, a cache line, are full. */
#define LINE_PORTS (8 * 64)

static __always_inline bool is_line_full(struct tg_busy *it, __u32 port)
{
	__u64 *line = find_word(it, port & ~(LINE_PORTS - 1U));

	return (line[0] & line[1] & line[2] & line[3] & line[4] & line[5] & line[6] & line[7]) ==
	       ~0ULL;
}

/* Goes on to the next bit that is 0, or past what has none. */
static long step_word(__u32 round, struct look *look)
{
	struct discovery *it = look->at;
	__u32 count = count_ports(it), offset = first_offset(it) + it->steps, port, width;
	struct tg_busy *busy_ports = get_busy(it->slot);
	__u64 free;

	if (it->steps >= count || !busy_ports)
		return 1;
	port = it->low + (offset < count ? offset : offset - count);
	if (port % LINE_PORTS == 0 && port + LINE_PORTS <= it->high + 1U &&
	    is_line_full(busy_ports, port)) {
		it->steps += LINE_PORTS;
		return 0;
	}
	free = ~(READ_WORD(find_word(busy_ports, port)) | reserved_word(it, port / 64));
	free >>= port % 64;
	width = 64 - port % 64;
	if (port + width > it->high + 1U)
		width = it->high + 1 - port;
	if (width < 64)
		free &= (1ULL << width) - 1;
	if (!free) {
		it->steps += width;
		return 0;
	}
	port += count_zeros(free);
	it->steps += count_zeros(free) + 1;
	if (it->probes < 0xffff)
		it->probes++;
	look->tuple.local_port = port;
	if (seems_taken(&look->tuple)) {
		mark_taken(&look->tuple, it->slot);
		return 0;
	}
	it->found = true;
	return 1;
}

static __always_inline void search(struct look *look, __u64 now_ns)
{
	struct discovery *it = look->at;

	if (it->slot >= TG_BUSY) {
		bpf_loop(last_step(it) + 1 - it->steps, step_once, look, 0);
		if (it->found || it->slot == DENIED || it->in_doubt)
			return;
		it->slot = make_slot(&look->tuple, now_ns);
		if (it->slot == NO_SLOT) {
			it->slot = DENIED;
			bpf_loop(last_step(it) + 1 - it->steps, step_once, look, 0);
			return;
		}
		it->steps = 0;
	}
	bpf_loop(TG_PORTS, step_word, look, 0);
}

/* Goes on to the next port that is worth an attempt; false when there is none. */
__noinline int find_port(struct claimant *me)
{
	struct look look;

	if (!me)
		return false;
	look.tuple = me->tuple;
	look.at = &me->discovery;
	look.at->found = false;
	search(&look, me->wanted.claim.time_ns);
	me->tuple.local_port = look.tuple.local_port;
	return look.at->found;
}

/* Goes on to the next port; true when no socket stands behind its claim. */
__noinline int is_next_doubtful(struct claimant *me)
{
	struct tg_busy *it;
	struct tg_tuple tuple;
	struct view seen;

	if (!me)
		return false;
	it = get_busy(me->discovery.slot);
	if (!it)
		return false;
	me->discovery.doubts++;
	tuple = me->tuple;
	tuple.local_port =
	    me->discovery.low + __sync_fetch_and_add(&it->cursor, 1) % count_ports(&me->discovery);
	if (is_reserved(&me->discovery, tuple.local_port))
		return false;
	me->tuple.local_port = tuple.local_port;
	if (!view_group(&tuple, &seen)) {
		clear_bit(find_word(it, tuple.local_port), 1ULL << tuple.local_port % 64);
		return true;
	}
	return !(seen.word & TG_WORD_INLINE) || judge(me, &tuple, &seen) != REFUSE_HELD;
}

/*
 * Where all ports of a busy destination are taken: goes on to the next whose
 * claim no socket stands behind. All who find none free go on from where the
 * one before stopped, so that each port has its turn.
 */
static __always_inline bool find_doubtful(struct claimant *me)
{
	if (me->discovery.doubts >= BUSY_DOUBTS)
		return false;
	NOT_UNROLLED
	for (__u32 i = 0; i < BUSY_DOUBTS; i++)
		if (is_next_doubtful(me))
			return true;
	return false;
}

#endif
