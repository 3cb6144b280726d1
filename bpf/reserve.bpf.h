/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When the table runs short, who gets what is left.
 *
 * While less than three quarters of each map are used nobody is limited, and
 * nobody is counted. Beyond that a look at some random sockets with claims
 * tells who has most of them: a user who has more than half of all within one
 * cgroup gets no more; in the last eighth neither does a user nor a cgroup that
 * has more than half. So whoever hoards cannot keep others out, and is named
 * in the report. No account is kept, so no connect pays for one.
 */
#ifndef TUPLEGUARD_RESERVE_BPF_H
#define TUPLEGUARD_RESERVE_BPF_H

#include "records.bpf.h"

enum {
	/* Sockets to look for; a majority of three quarters is missed in one of 10^8 samples. */
	SAMPLE = 128,
	/* Of fewer claims nothing can be said. */
	SMALLEST_SAMPLE = 8,
};

struct owner {
	__u64 cgroup;
	__u32 uid;
	__u32 claims; /* seen */
};

/* What the look tells. */
struct sample {
	struct owner claimant; /* with claims of its user in its cgroup */
	struct owner leader;   /* with its lead over all others (Boyer and Moore's majority vote) */
	__u64 leader_cookie;   /* of one of its sockets */
	__u32 leader_bucket;   /* with a claim of that socket */
	__u32 claims;	       /* seen */
	__u32 of_user, of_cgroup; /* the claimant's */
};

static __always_inline void describe_socket(__u64 sk, struct owner *owner)
{
	owner->uid = SOCK_FIELD(sk, sk_uid.val);
	owner->cgroup = BPF_CORE_READ((struct sock *)sk, sk_cgrp_data.cgroup, kn, id);
}

static __always_inline bool is_same_owner(const struct owner *a, const struct owner *b)
{
	return a->uid == b->uid && a->cgroup == b->cgroup;
}

static __always_inline void vote(struct sample *it, const struct owner *owner,
				 const struct tg_socket_record *record)
{
	if (is_same_owner(&it->leader, owner)) {
		it->leader.claims += owner->claims;
	} else if (it->leader.claims > owner->claims) {
		it->leader.claims -= owner->claims;
		return;
	} else {
		it->leader = *owner;
		it->leader_cookie = 0;
	}
	if (record->held[0].kind == TG_HELD_IN_BUCKET) {
		it->leader_cookie = record->cookie;
		it->leader_bucket = record->held[0].bucket;
	}
}

/* Looks at one of the records' places, which may be empty. */
__noinline int look_at_one(struct sample *it)
{
	__u32 index = bpf_get_prandom_u32() & policy.table_mask;
	struct tg_socket_record *record = bpf_map_lookup_elem(&socket_records, &index);
	struct owner owner = {};
	__u64 cookie;

	if (!it || !record) /* cannot happen: the index is masked */
		return 0;
	cookie = READ_WORD(&record->cookie);
	if (!cookie || cookie == COOKIE_RESERVED)
		return 0;
	if (!is_socket(READ_WORD(&record->sock), cookie))
		return 0;
	describe_socket(READ_WORD(&record->sock), &owner);
	owner.claims = !!record->held[0].kind + !!record->held[1].kind + !!record->held[2].kind;
	it->claims += owner.claims;
	if (owner.uid == it->claimant.uid)
		it->of_user += owner.claims;
	if (owner.cgroup == it->claimant.cgroup)
		it->of_cgroup += owner.claims;
	if (is_same_owner(&owner, &it->claimant))
		it->claimant.claims += owner.claims;
	vote(it, &owner, record);
	return 0;
}

static long sample_once(__u32 round, struct sample *it)
{
	look_at_one(it);
	return 0;
}

/* Whether no more than an eighth of one of the maps is left. */
static __always_inline bool is_nearly_full(void)
{
	struct tg_usage *used = find_usage();

	if (!used)
		return false;
	for (int map = 0; map < TG_USAGES; map++)
		if (used->elements[map] >= used->size[map] - used->size[map] / 8)
			return true;
	return false;
}

/* The claim of whoever has most, as the holder that a report names. */
static __always_inline void name_leader(struct claimant *me, const struct sample *it)
{
	struct tg_bucket *bucket = get_bucket(it->leader_bucket);

	if (bucket && it->leader_cookie && bucket->group.claim.cookie == it->leader_cookie)
		me->holder = bucket->group.claim;
}

/* Whether `me`, for whom there was no room, may have of what is kept. */
__noinline int deserves_reserve(struct claimant *me)
{
	struct sample it = {};

	if (!me)
		return false;
	describe_socket(me->wanted.claim.sock, &it.claimant);
	bpf_loop(SAMPLE, sample_once, &it, 0);
	name_leader(me, &it);
	if (it.claims < SMALLEST_SAMPLE)
		return true;
	if (it.claimant.claims * 2 > it.claims)
		return false;
	return !is_nearly_full() || (it.of_user * 2 <= it.claims && it.of_cgroup * 2 <= it.claims);
}

#endif
