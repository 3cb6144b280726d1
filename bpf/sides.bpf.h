/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * On which side of the guard a socket is: in a guarded cgroup, at any depth,
 * or outside of all. A socket's cgroup never changes, but what is guarded does;
 * so an answer is kept for each cgroup, with the generation that it is from.
 */
#ifndef TUPLEGUARD_SIDES_BPF_H
#define TUPLEGUARD_SIDES_BPF_H

#include "tuple.bpf.h"

/* The guarded cgroups by their id, kept by the user side. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TG_GUARDED_MAX);
	__type(key, __u64);
	__type(value, struct tg_side);
} guarded SEC(".maps");

/* What the guards ask for together; its generation is new with each change of `guarded`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_side);
} strongest SEC(".maps");

/* Answers, by the id of a cgroup that has sockets. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct tg_side);
} sides SEC(".maps");

/* How far above a socket's cgroup a guard is looked for. */
#define MAX_LEVELS 128

/* From a cgroup's own level up to the root's, which is 0. */
struct ascent {
	__u64 ancestors; /* address of an array of pointers to struct cgroup */
	__u32 level;
	struct tg_side side;
};

static long ascend_once(__u32 round, struct ascent *ascent)
{
	__u64 ancestor = 0, id;
	struct tg_side *known;

	bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
			      (void *)(ascent->ancestors + 8 * (ascent->level - round)));
	id = BPF_CORE_READ((struct cgroup *)ancestor, kn, id);
	known = bpf_map_lookup_elem(&guarded, &id);
	if (known && known->outsiders > ascent->side.outsiders) {
		ascent->side.guard = known->guard;
		ascent->side.outsiders = known->outsiders;
		ascent->side.error = known->error;
	}
	return 0;
}

/* The strongest of the guards over `cgroup`, or TG_OUTSIDE. */
static __noinline int find_side(__u64 cgroup, __u64 id, __u64 generation, struct tg_side *out)
{
	struct ascent ascent = {};

	ascent.side.generation = generation;
	ascent.ancestors = cgroup + bpf_core_field_offset(((struct cgroup *)0)->ancestors);
	bpf_core_read(&ascent.level, sizeof(ascent.level), &((struct cgroup *)cgroup)->level);
	/* A bound, since the memory may be another's by now. */
	bpf_loop(ascent.level < MAX_LEVELS ? ascent.level + 1 : MAX_LEVELS, ascend_once, &ascent,
		 0);
	*out = ascent.side;
	bpf_map_update_elem(&sides, &id, out, BPF_ANY);
	return 0;
}

/* `is_typed`: the verifier knows what `cgroup` points to, so that plain loads will do. */
static __always_inline void read_cgroup_side(bool is_typed, struct cgroup *cgroup,
					     struct tg_side *out)
{
	struct kernfs_node *node = READ(is_typed, cgroup, kn);
	__u64 id = READ(is_typed, node, id);
	struct tg_side *known = bpf_map_lookup_elem(&sides, &id), *now;
	__u32 zero = 0;

	now = bpf_map_lookup_elem(&strongest, &zero);
	if (!now) /* cannot happen: the map has one element */
		return;
	if (known && known->generation == now->generation)
		*out = *known;
	else
		find_side(as_number(cgroup), id, now->generation, out);
}

/*
 * Where `sk` is. The answer for a socket that may be gone is worth something
 * only when the socket is still the same afterwards.
 */
static __always_inline void read_side(__u64 sk, struct tg_side *out)
{
	read_cgroup_side(HAS_CASTS, SOCK_FIELD(sk, sk_cgrp_data.cgroup), out);
}

/* Whether a cgroup is guarded, or below one that is; also when it was removed. */
static __always_inline bool is_inside(struct cgroup *cgroup)
{
	struct tg_side side = {};

	read_cgroup_side(false, cgroup, &side);
	return side.outsiders != TG_OUTSIDE;
}

/* Whether a hook's own socket is outside of all guarded cgroups. */
__noinline int is_outside(__u64 sk)
{
	struct tg_side side = {};

	read_side(sk, &side);
	return side.outsiders == TG_OUTSIDE;
}

/* The same for a socket elsewhere, which may be gone by now. */
__noinline int is_outsider(__u64 sk, __u64 cookie)
{
	return sk && is_outside(sk) && is_socket(sk, cookie);
}

#endif
