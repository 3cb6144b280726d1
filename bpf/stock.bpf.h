/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Taking stock: claims for sockets that never passed a hook, because they were
 * connected before the guard was attached or live outside its cgroups, and the
 * end of claims whose socket left without a release hook.
 */
#ifndef TUPLEGUARD_STOCK_BPF_H
#define TUPLEGUARD_STOCK_BPF_H

#include "records.bpf.h"
#include "events.bpf.h"

/*
 * Whether two sockets that claim one tuple really share it, now: a wildcard
 * socket's claim may be in the way of sockets with another local address.
 */
static __noinline int share_tuple(__u64 sk, __u64 other, const struct tg_tuple *tuple)
{
	__u32 local[4], other_local[4];
	bool v4 = is_mapped(tuple->remote);

	read_local(sk, v4, local);
	read_local(other, v4, other_local);
	return is_same(local, other_local) && is_connected_to(sk, key_of(tuple)) &&
	       is_connected_to(other, key_of(tuple));
}

/* The same pair is found each time that stock is taken; once is enough. */
static __noinline int report_existing(struct claimant *me)
{
	struct tg_conflict *known = bpf_map_lookup_elem(&conflicts, &me->tuple);
	struct tg_counters *counters = find_counters();

	if (known && known->last.claimant_cookie == me->wanted.claim.cookie)
		return 0;
	me->reason = TG_REASON_EXISTING;
	report(me, 0, true, counters);
	return 0;
}

static __noinline int read_tuple(__u64 sk, struct tg_tuple *tuple)
{
	struct net *net = SOCK_FIELD(sk, __sk_common.skc_net.net);
	__u64 netns = 0;

	bpf_core_read(&netns, sizeof(netns), &net->net_cookie);
	tuple->netns = netns;
	tuple->local_port = SOCK_FIELD(sk, __sk_common.skc_num);
	tuple->remote_port = bpf_ntohs(SOCK_FIELD(sk, __sk_common.skc_dport));
	if (SOCK_FIELD(sk, __sk_common.skc_family) == AF_INET)
		set_mapped(tuple->remote, SOCK_FIELD(sk, __sk_common.skc_daddr));
	else
		READ_ADDRESS6(HAS_CASTS, as_sock(sk), __sk_common.skc_v6_daddr, tuple->remote);
	read_local_if_final(sk, tuple);
	return 0;
}

/* Fills in for `sk` what the hooks learn from their context. */
static __noinline int describe(__u64 sk, struct claimant *me)
{
	struct tg_claim *mine = &me->wanted.claim;

	read_tuple(sk, &me->tuple);
	mine->sock = sk;
	mine->time_ns = bpf_ktime_get_ns();
	return 0;
}

/* Whether there is anything to claim for `sk`. */
static __noinline int is_guardable(__u64 sk, const struct tg_tuple *tuple)
{
	return SOCK_FIELD(sk, sk_protocol) == IPPROTO_UDP && tuple->local_port &&
	       is_connected_to(sk, key_of(tuple)) && !is_multicast(tuple->remote) &&
	       !is_multicast(tuple->local);
}

/* Claims what socket `sk` holds; me has its cookie, process and command. Returns an enum tg_stock.
 */
static __always_inline __u8 take_stock(__u64 sk, struct claimant *me)
{
	__u64 cookie = me->wanted.claim.cookie;
	struct tg_socket_record *home = find_home(cookie);

	if (!home || find_record(home, cookie))
		return TG_STOCK_KNOWN;
	describe(sk, me);
	if (!is_guardable(sk, &me->tuple))
		return TG_STOCK_NOT_CONNECTED;
	claim(me);
	switch (me->verdict) {
	case GRANTED:
		break;
	case RECLAIMED:
		return TG_STOCK_KNOWN;
	case EXEMPT:
		return TG_STOCK_NOT_CONNECTED;
	case NO_ROOM:
		return TG_STOCK_NO_ROOM;
	default:
		if (me->reason == TG_REASON_HELD && share_tuple(sk, me->holder.sock, &me->tuple))
			report_existing(me);
		return TG_STOCK_CONFLICT;
	}
	/* It may have been released meanwhile, with nothing to give back yet. */
	if (is_socket(sk, cookie) && is_guardable(sk, &me->tuple) &&
	    remember_first(home, me) == REMEMBERED)
		return TG_STOCK_CLAIMED;
	drop_claim(&me->tuple, cookie, 0);
	return TG_STOCK_NO_ROOM;
}

static __always_inline void tell(struct bpf_iter_meta *meta, __u8 result)
{
	if (result != TG_STOCK_NOT_CONNECTED)
		bpf_seq_write(meta->seq, &result, sizeof(result));
}

/* Whether a claim that is seen now has nobody behind it. */
static __always_inline bool is_abandoned(const struct view *seen, const struct tg_tuple *tuple,
					 __u64 now_ns, __u64 grace_ns)
{
	struct local local = {};
	int holding = read_holding(seen->sock, seen->cookie, tuple, &local);

	return holding == GONE ||
	       (holding == NOT_HELD && (__s64)(now_ns - seen->time_ns) > (__s64)grace_ns);
}

static __noinline int sweep_inline(const struct tg_group_key *key, struct tg_sweep *sweep)
{
	struct tg_tuple tuple = {};
	struct tg_group *group;
	struct view seen;

	*(struct tg_group_key *)&tuple = *key;
	group = view_group(&tuple, &seen);
	if (!group || !(seen.word & TG_WORD_INLINE))
		return 0;
	sweep->claims++;
	if (is_abandoned(&seen, &tuple, sweep->now_ns, sweep->grace_ns) &&
	    remove_inline(group, seen.word, &tuple))
		sweep->dropped++;
	return 0;
}

static long sweep_group(void *map, struct tg_group_key *key, struct tg_group *group,
			struct tg_sweep *sweep)
{
	return sweep_inline(key, sweep);
}

static long sweep_bucket(void *map, __u32 *index, struct tg_bucket *bucket, struct tg_sweep *sweep)
{
	if ((READ_WORD(&bucket->control) & TG_BUCKET_STATE) != TG_BUCKET_USED)
		return 0;
	return sweep_inline(&bucket->key, sweep);
}

static long sweep_further(void *map, struct tg_tuple *key, struct tg_further *claim,
			  struct tg_sweep *sweep)
{
	struct tg_tuple tuple = *key;
	struct view seen;

	seen.word = READ_WORD(&claim->word);
	if (!seen.word)
		return 0;
	barrier();
	view_claim(&seen, &claim->claim);
	sweep->claims++;
	if (is_abandoned(&seen, &tuple, sweep->now_ns, sweep->grace_ns) &&
	    remove_further(claim, seen.word, &tuple))
		sweep->dropped++;
	return 0;
}

/* Records of sockets that are gone; those run no hook any more. */
static long sweep_record(void *map, __u32 *index, struct tg_socket_record *record,
			 struct tg_sweep *sweep)
{
	__u64 cookie = READ_WORD(&record->cookie);

	if (!cookie || cookie == COOKIE_RESERVED || is_socket(record->sock, cookie))
		return 0;
	give_back_all(record, cookie);
	sweep->records++;
	return 0;
}

static long sweep_record_more(void *map, struct tg_record_key *key, struct tg_record_more *more,
			      struct tg_sweep *sweep)
{
	__u64 cookie = key->cookie;
	struct tg_socket_record *home;

	if (key->index != 0 || is_socket(more->record.sock, cookie))
		return 0;
	home = find_home(cookie);
	if (home)
		give_back_all(home, cookie);
	sweep->records++;
	return 0;
}

#endif
