// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sockets outside of all guarded cgroups, seen by programs at the root: they
 * claim like the others, so that guarded sockets find them at once, however
 * many share a port. Nothing else changes for an outsider, unless a guard wants
 * it refused a tuple that one of its sockets holds.
 *
 * Attached to the root they run after the programs of the guarded cgroups, for
 * every socket of the machine.
 */
#include "connect.bpf.h"
#include "sides.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* An enum tg_outsiders and an errno in one number. */
#define WISH(outsiders, error) ((outsiders) << 16 | (error))

/*
 * What the guard wants whose socket the outsider met; its id comes to be in
 * `word`, which is free by then. With a stack of its own.
 */
__noinline int read_wish(struct claimant *me)
{
	struct tg_side met = {};
	__u32 zero = 0;
	struct tg_side *all;

	if (!me)
		return 0;
	if (me->reason == TG_REASON_HELD || me->reason == TG_REASON_IN_FLIGHT ||
	    me->reason == TG_REASON_REWRITTEN) {
		read_side(me->holder.sock, &met);
	} else {
		/* Which sockets are in the way can't be told: perhaps a guarded one. */
		all = bpf_map_lookup_elem(&strongest, &zero);
		if (all)
			met = *all;
	}
	me->wanted.word = met.guard;
	return WISH(met.outsiders, met.error);
}

/* The tuple is another's. Between outsiders that is no concern of ours. */
static __always_inline int meet(struct claimant *me, struct tg_counters *counters)
{
	__u32 wish = read_wish(me), error = wish & 0xffff;
	bool refused = wish >> 16 == TG_OUTSIDERS_REFUSE;

	if (wish >> 16 < TG_OUTSIDERS_OBSERVE)
		return ALLOW;
	me->reason = TG_REASON_OUTSIDER;
	if (refused)
		COUNT(counters, refused_outsider);
	else
		COUNT(counters, observed);
	report(me, me->wanted.word, !refused, counters);
	if (!refused)
		return ALLOW;
	/* By constants: newer verifiers want to see that it is an errno. EPERM needs none. */
	if (error == EADDRINUSE)
		bpf_set_retval(-EADDRINUSE);
	else if (error == EADDRNOTAVAIL)
		bpf_set_retval(-EADDRNOTAVAIL);
	return REJECT;
}

/* Claims me->tuple for an outsider, and keeps the record. */
static __always_inline int claim_outside(struct claimant *me, struct tg_counters *counters)
{
	__u64 cookie = me->wanted.claim.cookie;
	struct tg_socket_record *home = find_home(cookie), *record;

	if (!home) /* cannot happen: the index is masked */
		return ALLOW;
	me->room = ROOM_OF_OUTSIDERS;
	record = find_record(home, cookie);
	if (record)
		revisit(me, record);
	if (me->verdict != RECLAIMED)
		claim(me);
	switch (me->verdict) {
	case CONFLICT:
		return meet(me, counters);
	case NO_ROOM:
		COUNT(counters, allowed_table_full);
		return ALLOW;
	case EXEMPT:
		COUNT(counters, exempt_broadcast);
		return ALLOW;
	}
	if (!me->is_remembered &&
	    (record ? remember_in(record, me) : remember_first(home, me)) != REMEMBERED) {
		if (me->verdict == GRANTED)
			drop_claim(&me->tuple, cookie, 0);
		COUNT(counters, allowed_table_full);
	} else if (me->verdict == GRANTED) {
		COUNT(counters, claimed);
	} else {
		COUNT(counters, reclaimed);
	}
	return ALLOW;
}

/* What can't be claimed is let through: a socket without a port gets one from the kernel. */
static __always_inline int on_connect(struct bpf_sock_addr *ctx,
				      bool (*read_remote)(struct bpf_sock_addr *,
							  struct tg_tuple *))
{
	struct tg_counters *counters;
	struct bpf_sock *sk = ctx->sk;
	struct claimant me = {};
	__u64 number;
	bool v4;

	if (ctx->protocol != IPPROTO_UDP || !sk || !sk->src_port)
		return ALLOW;
	number = as_number(sk);
	if (!is_outside(number))
		return ALLOW;
	counters = find_counters();
	if (!counters || bpf_get_retval())
		return ALLOW;
	me.tuple.local_port = sk->src_port;
	v4 = read_remote(ctx, &me.tuple);
	if (is_zero(me.tuple.remote)) /* not written back: nothing changes for an outsider */
		resolve_this_host(&me.tuple, v4, number);
	if (complete(ctx, sk, number, &me) != NOT_EXEMPT)
		return ALLOW;
	return claim_outside(&me, counters);
}

SEC("cgroup/connect4")
int outer_connect4(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, read_remote4);
}

SEC("cgroup/connect6")
int outer_connect6(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, read_remote6);
}

/* What a guarded cgroup's own program has given back is not found here again. */
SEC("cgroup/sock_release")
int outer_release(struct bpf_sock *ctx)
{
	return on_release(ctx);
}
