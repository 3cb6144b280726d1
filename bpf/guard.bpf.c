// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The guard: refuses a connect() that would give two UDP sockets one 4-tuple.
 *
 * connect4 and connect6 claim the tuple before the kernel connects the socket,
 * sock_release gives it back. Where the cgroup has a budget of connections they
 * count, TCP too; it is not touched otherwise. bind4 and bind6 choose a port for sockets that
 * would share the one that the kernel chooses. Attached to a cgroup they see the
 * sockets that were created in it; outsiders.bpf.c sees the others. seed.bpf.c
 * claims for the sockets that exist already, and sweep.bpf.c drops claims whose
 * socket left without a release hook.
 */
#include "bind.bpf.h"
#include "budget.bpf.h"
#include "connect.bpf.h"
#include "discovery.bpf.h"
#include "own.bpf.h"
#include "reserve.bpf.h"
#include "sides.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SECOND_NS 1000000000LL

/*
 * What we resolve is written back, or the kernel might decide otherwise: its own
 * address is one that another thread may change meanwhile.
 */
static __always_inline void write_remote4(struct bpf_sock_addr *ctx, const struct tg_tuple *tuple)
{
	ctx->user_ip4 = tuple->remote[3];
}

static __always_inline void write_remote6(struct bpf_sock_addr *ctx, const struct tg_tuple *tuple)
{
	ctx->user_ip6[0] = tuple->remote[0];
	ctx->user_ip6[1] = tuple->remote[1];
	ctx->user_ip6[2] = tuple->remote[2];
	ctx->user_ip6[3] = tuple->remote[3];
}

/*
 * Connected to its own name: connectx takes two such sockets to find out whether
 * a guard is there. The second is refused like any other, but it is no conflict.
 */
static __always_inline bool is_self_test(const struct tg_tuple *tuple)
{
	return tuple->local_port == tuple->remote_port && is_same(tuple->local, tuple->remote);
}

/* A conflict, or a claim that can't be kept: what the policy says. */
static __always_inline int reject(struct claimant *me, struct tg_counters *counters)
{
	if (me->reason == TG_REASON_HELD && is_outsider(me->holder.sock, me->holder.cookie))
		me->reason = TG_REASON_OUTSIDE;
	if (is_self_test(&me->tuple)) {
		COUNT(counters, self_tests);
	} else {
		if (policy.observe)
			COUNT(counters, observed);
		else
			count_refusal(counters, me->reason);
		report(me, policy.attachment, policy.observe, counters);
	}
	if (policy.observe)
		return ALLOW;
	if (me->reason == TG_REASON_EXHAUSTED || me->reason == TG_REASON_BUDGET)
		bpf_set_retval(-(int)policy.exhausted);
	else if (policy.error != EPERM) /* which a bare rejection gives */
		bpf_set_retval(-(int)policy.error);
	return REJECT;
}

/* Once a second: who fills the table goes on filling it. */
static __always_inline bool is_full_table_told(__u64 now_ns)
{
	struct tg_usage *used = find_usage();
	__u64 told_ns;

	if (!used) /* cannot happen: the map has one element */
		return true;
	told_ns = READ_WORD(&used->told_ns);
	return (told_ns && (__s64)(now_ns - told_ns) < SECOND_NS) ||
	       !swap_word(&used->told_ns, told_ns, now_ns);
}

static __always_inline int on_full_table(struct claimant *me, struct tg_counters *counters)
{
	me->reason = TG_REASON_TABLE_FULL;
	if (policy.refuse_when_full)
		return reject(me, counters);
	COUNT(counters, allowed_table_full);
	if (!is_full_table_told(me->wanted.claim.time_ns))
		report(me, policy.attachment, true, counters);
	return ALLOW;
}

/* No room: whether there is for this one, of what is kept. */
static __always_inline bool gets_reserve(struct claimant *me)
{
	if (me->room == ROOM_ALL || !deserves_reserve(me))
		return false;
	me->room = ROOM_ALL;
	return true;
}

/* No room for its record, with a stack of its own. */
static __noinline int remember_in_reserve(struct tg_socket_record *home,
					  struct tg_socket_record *record, struct claimant *me)
{
	return gets_reserve(me) ? remember(home, record, me) : TABLE_IS_FULL;
}

/* Claims me->tuple, unless discovery has, and keeps the record; the tuple is complete. */
static __always_inline int guard(struct bpf_sock_addr *ctx, struct claimant *me,
				 struct tg_counters *counters)
{
	struct tg_socket_record *home = find_home(me->wanted.claim.cookie), *record;

	if (!home) /* cannot happen: the index is masked */
		return ALLOW;
	record = find_record(home, me->wanted.claim.cookie);
	if (record)
		revisit(me, record);
	if (!me->is_discovered && me->verdict != RECLAIMED)
		claim(me);
	if (me->verdict == NO_ROOM && gets_reserve(me))
		claim_by_rounds(me);
	switch (me->verdict) {
	case CONFLICT:
		return reject(me, counters);
	case NO_ROOM:
		return on_full_table(me, counters);
	case EXEMPT:
		COUNT(counters, exempt_broadcast);
		return ALLOW;
	}
	if (!me->is_remembered) {
		int remembered = remember(home, record, me);

		if (remembered == TABLE_IS_FULL)
			remembered = remember_in_reserve(home, record, me);
		if (remembered != REMEMBERED && me->verdict == GRANTED)
			drop_claim(&me->tuple, me->wanted.claim.cookie, 0);
		if (remembered == TABLE_IS_FULL)
			return on_full_table(me, counters);
		if (remembered == SOCKET_HAS_TOO_MANY) {
			me->reason = TG_REASON_BUSY;
			return reject(me, counters);
		}
	}
	if (policy.look_up && !me->is_discovered && me->verdict == GRANTED &&
	    is_held_outside(ctx, me)) {
		me->reason = is_insider(me->holder.sock) ? TG_REASON_HELD : TG_REASON_OUTSIDE;
		return reject(me, counters);
	}
	if (me->verdict == GRANTED)
		COUNT(counters, claimed);
	else
		COUNT(counters, reclaimed);
	return ALLOW;
}

/*
 * A socket without a port: chooses one and claims it, or leaves that to the
 * kernel, which takes one that no other socket has, unless the socket is ready
 * to share.
 */
static __always_inline int without_port(struct search *search, struct tg_counters *counters)
{
	struct claimant *me = &search->me;
	bool shares = shares_port(me->wanted.claim.sock);

	if (!is_to_be_discovered(shares)) {
		if (shares)
			COUNT(counters, unresolved);
		else
			COUNT(counters, exclusive_port);
		return ALLOW;
	}
	if (is_chosen_above())
		return ALLOW;
	discover(search, shares);
	if (me->verdict == NO_ROOM && gets_reserve(me))
		discover(search, shares_port(me->wanted.claim.sock));
	switch (me->verdict) {
	case CONFLICT:
		me->reason = TG_REASON_EXHAUSTED;
		return reject(me, counters);
	case NO_ROOM:
		return on_full_table(me, counters);
	case IMPOSSIBLE:
		me->reason = policy.first_port ? TG_REASON_EXHAUSTED : TG_REASON_UNLOCKED;
		if (policy.first_port)
			return reject(me, counters);
		COUNT(counters, undiscoverable);
		return policy.strict ? reject(me, counters) : ALLOW;
	}
	count_probes(counters, me->probes);
	return UNANSWERED;
}

/* Claims the tuple that a UDP socket asks for. */
static __always_inline int claim_for(struct search *search, struct tg_counters *counters,
				     bool (*read_remote)(struct bpf_sock_addr *, struct tg_tuple *),
				     void (*write_remote)(struct bpf_sock_addr *,
							  const struct tg_tuple *))
{
	struct bpf_sock_addr *ctx = search->ctx;
	struct claimant *me = &search->me;
	struct bpf_sock *sk = ctx->sk;
	int answer = UNANSWERED;
	__u64 number;
	bool v4;

	if (!sk)
		return ALLOW;
	me->tuple.local_port = sk->src_port;
	number = as_number(sk);
	v4 = read_remote(ctx, &me->tuple);
	if (is_zero(me->tuple.remote)) {
		resolve_this_host(&me->tuple, v4, number);
		write_remote(ctx, &me->tuple);
	}
	switch (complete(ctx, sk, number, me)) {
	case TO_MULTICAST:
		COUNT(counters, exempt_multicast);
		return ALLOW;
	case TO_BROADCAST:
		COUNT(counters, exempt_broadcast);
		return ALLOW;
	case NOT_EXEMPT:
		break;
	}
	if (!me->tuple.local_port) {
		answer = without_port(search, counters);
	} else if (policy.strict && !is_port_locked(number)) {
		me->reason = TG_REASON_UNLOCKED;
		answer = reject(me, counters);
	}
	if (answer == UNANSWERED)
		answer = guard(ctx, me, counters);
	if (me->pruned)
		COUNT_MORE(counters, pruned, me->pruned);
	if (me->taken_over)
		COUNT_MORE(counters, taken_over, me->taken_over);
	return answer;
}

/* Refuses one connection more than the cgroup may have; of its tuple the destination is known. */
static __always_inline int
reject_over_budget(struct search *search, int counted, struct tg_counters *counters,
		   bool (*read_remote)(struct bpf_sock_addr *, struct tg_tuple *))
{
	struct bpf_sock_addr *ctx = search->ctx;
	struct claimant *me = &search->me;

	if (!ctx->sk)
		return ALLOW;
	read_remote(ctx, &me->tuple);
	me->tuple.remote_port = bpf_ntohs(ctx->user_port);
	introduce(ctx, me, as_number(ctx->sk));
	me->reason = counted == OVER_BUDGET ? TG_REASON_BUDGET : TG_REASON_TABLE_FULL;
	return reject(me, counters);
}

/* Whether the policy has anything to say of such sockets. */
static __always_inline bool has_to_be_seen(__u32 protocol)
{
	return protocol == IPPROTO_UDP || (policy.max_connections && protocol == IPPROTO_TCP);
}

static __always_inline int
on_connect(struct bpf_sock_addr *ctx,
	   bool (*read_remote)(struct bpf_sock_addr *, struct tg_tuple *),
	   void (*write_remote)(struct bpf_sock_addr *, const struct tg_tuple *))
{
	int counted = COUNTED_BEFORE, answer = ALLOW;
	struct tg_counters *counters;
	struct search search = {.ctx = ctx};

	if (!has_to_be_seen(ctx->protocol) || !ctx->sk)
		return ALLOW;
	counters = find_counters();
	if (!counters) /* cannot happen: the map has one element */
		return ALLOW;
	if (bpf_get_retval()) {
		COUNT(counters, already_rejected);
		return ALLOW; /* which leaves the rejection as it is */
	}
	if (policy.max_connections) {
		counted = count_connection(ctx, counters);
		if ((counted == OVER_BUDGET || counted == NOT_COUNTABLE) &&
		    reject_over_budget(&search, counted, counters, read_remote) == REJECT)
			return REJECT;
	}
	if (ctx->protocol == IPPROTO_UDP)
		answer = claim_for(&search, counters, read_remote, write_remote);
	if (answer == REJECT && counted == COUNTED_NOW && ctx->sk)
		end_counting(bpf_get_socket_cookie(ctx));
	return answer;
}

SEC("cgroup/connect4")
int guard_connect4(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, read_remote4, write_remote4);
}

SEC("cgroup/connect6")
int guard_connect6(struct bpf_sock_addr *ctx)
{
	return on_connect(ctx, read_remote6, write_remote6);
}

SEC("cgroup/bind4")
int guard_bind4(struct bpf_sock_addr *ctx)
{
	return on_bind(ctx);
}

SEC("cgroup/bind6")
int guard_bind6(struct bpf_sock_addr *ctx)
{
	return on_bind(ctx);
}

SEC("cgroup/sock_release")
int guard_release(struct bpf_sock *ctx)
{
	if (policy.max_connections &&
	    (ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_UDP))
		end_counting(released_cookie(ctx));
	return on_release(ctx);
}

/* Loaded and attached where the cgroup has ports of its own. */
SEC("cgroup/connect4")
int own_connect4(struct bpf_sock_addr *ctx)
{
	return on_own_connect(ctx, read_remote4);
}

SEC("cgroup/connect6")
int own_connect6(struct bpf_sock_addr *ctx)
{
	return on_own_connect(ctx, read_remote6);
}

SEC("cgroup/sock_release")
int own_release(struct bpf_sock *ctx)
{
	return on_own_release(ctx);
}
