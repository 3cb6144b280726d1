// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sockets outside of all guarded cgroups, seen by programs at the root: they
 * claim like the others, so that guarded sockets find them at once, however
 * many share a port. Nothing else changes for an outsider, unless a guard wants
 * it refused a tuple that one of its sockets holds: who meets a claim that is no
 * reason to refuse it comes beside, and that claim then stays for both.
 *
 * Attached to the root they run after the programs of the guarded cgroups, for
 * every socket of the machine.
 */
#include "connect.bpf.h"
#include "sides.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * What the guard wants whose socket the outsider met; its id comes to be in
 * `wanted.word`, which is free by then. With a stack of its own.
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
		if (!is_socket(me->holder.sock, me->holder.cookie)) /* and holds nothing any more */
			met.outsiders = TG_OUTSIDE;
	} else {
		/*
		 * Which sockets are in the way can't be told: perhaps a guarded one, and of
		 * whose guard nobody knows.
		 */
		all = bpf_map_lookup_elem(&strongest, &zero);
		if (all)
			met = *all;
		met.guard = 0;
		__builtin_memset(&me->holder, 0, sizeof(me->holder));
	}
	me->wish = met.outsiders;
	me->wished_error = met.error;
	me->wanted.word = met.guard;
	return 0;
}

/* Comes beside whoever has the tuple, unless a guard wants it refused. */
static long claim_or_share(__u32 round, struct claimant *me)
{
	try_claim(me);
	if (me->verdict != CONFLICT)
		return me->verdict != UNDECIDED ? 1 : 0;
	read_wish(me);
	if (me->wish == TG_OUTSIDERS_REFUSE || !me->holder.cookie || come_beside(me))
		return 1;
	me->verdict = UNDECIDED; /* the claim is gone */
	return 0;
}

static __always_inline void claim_outside(struct claimant *me)
{
	if (claim_at_once(me))
		return;
	bpf_loop(RETRIES, claim_or_share, me, 0);
	if (me->verdict == UNDECIDED) {
		me->verdict = CONFLICT;
		me->reason = TG_REASON_BUSY;
		read_wish(me);
	}
}

/* The tuple is another's. Between outsiders that is no concern of ours. */
static __always_inline int meet(struct claimant *me, struct tg_counters *counters)
{
	bool refused = me->wish == TG_OUTSIDERS_REFUSE;

	if (me->wish < TG_OUTSIDERS_OBSERVE)
		return ALLOW;
	/* Where it can't be told whose socket is in the way, that is what is said. */
	if (me->holder.cookie)
		me->reason = TG_REASON_OUTSIDER;
	if (refused)
		COUNT(counters, refused_outsider);
	else
		COUNT(counters, observed);
	report(me, me->wanted.word, !refused, counters);
	if (!refused)
		return ALLOW;
	/* By constants: newer verifiers want to see that it is an errno. EPERM needs none. */
	if (me->wished_error == EADDRINUSE)
		bpf_set_retval(-EADDRINUSE);
	else if (me->wished_error == EADDRNOTAVAIL)
		bpf_set_retval(-EADDRNOTAVAIL);
	return REJECT;
}

/* Claims me->tuple for an outsider, and keeps the record. */
static __always_inline int see(struct claimant *me, struct tg_counters *counters)
{
	__u64 cookie = me->wanted.claim.cookie;
	struct tg_socket_record *home = find_home(cookie), *record;

	if (!home) /* cannot happen: the index is masked */
		return ALLOW;
	me->is_outsider = true;
	me->room = ROOM_OF_OUTSIDERS;
	record = find_record(home, cookie);
	if (record)
		revisit(me, record);
	if (me->verdict != RECLAIMED)
		claim_outside(me);
	switch (me->verdict) {
	case CONFLICT:
	case BESIDE:
		return meet(me, counters);
	case NO_ROOM:
		COUNT(counters, allowed_table_full);
		return ALLOW;
	case EXEMPT:
		COUNT(counters, exempt_broadcast);
		return ALLOW;
	}
	if (!me->is_remembered && remember(home, record, me) != REMEMBERED) {
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
	return see(&me, counters);
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
