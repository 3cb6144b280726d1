/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the guard tells: counters that are exact, conflicts kept per tuple for
 * whoever looks later, and events for whoever listens. Only events may be
 * lost, when nobody drains the ring buffer, and then the loss is counted.
 */
#ifndef TUPLEGUARD_EVENTS_BPF_H
#define TUPLEGUARD_EVENTS_BPF_H

#include "claims.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tg_tuple);
	__type(value, struct tg_conflict);
} conflicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19); /* some 3,000 events; mapped twice by whoever reads it */
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_abi_info);
} abi SEC(".maps");

/*
 * Tells keys of `conflicts` of TCP from those of UDP, those of one guard from
 * another's, and of connections that were one too many, which are refused for their
 * number, from those for want of a port; the event has the namespace as it is.
 */
#define TCP_CONFLICTS (1U << 31)

static __always_inline __u32 mark_of_conflict(const struct tg_event *event)
{
	__u64 over_budget = event->reason == TG_REASON_BUDGET;
	__u32 guard = (event->attachment + (over_budget << 63)) * 0x9e3779b97f4a7c15 >> 32;

	return event->protocol == IPPROTO_TCP ? guard ^ TCP_CONFLICTS : guard;
}

/* Atomic: a program in task context may be preempted by itself. */
#define COUNT(counters, name) __sync_fetch_and_add(&(counters)->name, 1)
#define COUNT_MORE(counters, name, n) __sync_fetch_and_add(&(counters)->name, n)

static __always_inline struct tg_counters *find_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline void count_refusal(struct tg_counters *counters, __u32 reason)
{
	switch (reason) {
	case TG_REASON_HELD:
		COUNT(counters, refused_held);
		break;
	case TG_REASON_IN_FLIGHT:
		COUNT(counters, refused_in_flight);
		break;
	case TG_REASON_AMBIGUOUS:
		COUNT(counters, refused_ambiguous);
		break;
	case TG_REASON_OUTSIDE:
		COUNT(counters, refused_outside);
		break;
	case TG_REASON_TABLE_FULL:
		COUNT(counters, refused_table_full);
		break;
	case TG_REASON_EXHAUSTED:
		COUNT(counters, refused_exhausted);
		break;
	case TG_REASON_UNLOCKED:
		COUNT(counters, refused_unlocked);
		break;
	case TG_REASON_OUTSIDER:
		COUNT(counters, refused_outsider);
		break;
	case TG_REASON_REWRITTEN:
		COUNT(counters, refused_rewritten);
		break;
	case TG_REASON_BUDGET:
		COUNT(counters, refused_budget);
		break;
	default:
		COUNT(counters, refused_busy);
	}
}

/* Who has claimed; the rest from the socket, while it is still the one that is meant. */
static __noinline int describe_owner(const struct tg_claim *claim, struct tg_process *out)
{
	__u64 sk = claim->sock;

	out->pid = claim->pid;
	__builtin_memcpy(out->comm, claim->comm, TG_COMM_LEN);
	if (!sk || !is_socket(sk, claim->cookie))
		return 0;
	out->uid = SOCK_FIELD(sk, sk_uid.val);
	out->cgroup = BPF_CORE_READ((struct sock *)sk, sk_cgrp_data.cgroup, kn, id);
	return 0;
}

/* The conflict as it is known already; NULL where it is new, and kept. */
static __always_inline struct tg_conflict *keep_conflict(const struct tg_tuple *key,
							 const struct tg_conflict *fresh)
{
	struct tg_conflict *known = bpf_map_lookup_elem(&conflicts, key);

	/* Looked up first: an LRU map gives an element up before it finds that the key exists. */
	if (known)
		return known;
	if (!bpf_map_update_elem(&conflicts, key, fresh, BPF_NOEXIST))
		return NULL;
	return bpf_map_lookup_elem(&conflicts, key);
}

/* Tells of a connect that met a conflict. */
static __noinline int report(struct claimant *me, __u64 attachment, bool allowed,
			     struct tg_counters *counters)
{
	struct tg_conflict fresh = {.count = 1};
	struct tg_event *event = &fresh.last;
	struct tg_conflict *known;
	__u32 mark;

	if (!counters)
		return 0;
	fresh.first_ns = me->wanted.claim.time_ns;
	event->time_ns = me->wanted.claim.time_ns;
	event->attachment = attachment;
	event->reason = me->reason;
	event->allowed = allowed;
	event->protocol = SOCK_FIELD(me->wanted.claim.sock, sk_protocol);
	event->tuple = me->tuple;
	event->claimant_cookie = me->wanted.claim.cookie;
	event->holder_cookie = me->holder.cookie;
	describe_owner(&me->wanted.claim, &event->claimant);
	describe_owner(&me->holder, &event->holder);
	if (bpf_ringbuf_output(&events, event, sizeof(*event), 0))
		COUNT(counters, events_dropped);
	mark = mark_of_conflict(event);
	me->tuple.netns ^= mark;
	known = keep_conflict(&me->tuple, &fresh);
	me->tuple.netns ^= mark;
	if (!known)
		return 0;
	__sync_fetch_and_add(&known->count, 1);
	known->last = *event;
	return 0;
}

#endif
