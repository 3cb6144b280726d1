/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much of the hash maps behind the arrays is used. Those are what runs out:
 * an array's element is taken or it is not, and what finds it taken overflows
 * into a map of limited size. Counted there and nowhere else, so that a connect
 * pays for it only when it overflows.
 */
#ifndef TUPLEGUARD_ROOM_BPF_H
#define TUPLEGUARD_ROOM_BPF_H

#include "tuple.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_usage);
} usage SEC(".maps");

static __always_inline struct tg_usage *find_usage(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&usage, &zero);
}

/* How much of each map a claimant may see used, and still insert into it. */
enum room {
	ROOM_BELOW_RESERVE, /* all but the last quarter: see reserve.bpf.h */
	ROOM_ALL,
	ROOM_OF_OUTSIDERS, /* a quarter: anyone may open sockets */
};

/* Whether one more may be inserted. */
static __always_inline bool has_room(enum tg_usage_of map, enum room room)
{
	struct tg_usage *used = find_usage();
	__u64 size;

	if (!used || room == ROOM_ALL) /* not the former: the map has one element */
		return true;
	size = used->size[map];
	return *(volatile __u64 *)&used->elements[map] <
	       (room == ROOM_OF_OUTSIDERS ? size / 4 : size - size / 4);
}

static __always_inline void count_elements(enum tg_usage_of map, __u64 number)
{
	struct tg_usage *used = find_usage();

	if (used)
		__sync_fetch_and_add(&used->elements[map], number);
}

#endif
