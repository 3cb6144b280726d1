// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Seeding: claims for sockets that never passed a hook, because they were
 * connected before the guard was attached or live outside its cgroups.
 *
 * Sockets of the guarded cgroups come first, wherever they are. Others get a
 * claim in the network namespaces where those can meet them, and only while
 * they have not had their share of the table: anyone may open sockets.
 *
 * The iterators go over all tasks, over the files of all processes, and over
 * the UDP sockets of a network namespace. The latter two write a byte for each
 * connected socket that is due, once.
 */
#include "broadcast.bpf.h"
#include "events.bpf.h"
#include "records.bpf.h"
#include "sides.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Network namespaces where guarded cgroups have processes or sockets, as in struct tg_tuple. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, __u8);
} guarded_namespaces SEC(".maps");

/*
 * Sockets, by their cookie, that a byte was written for: they are met once for
 * each descriptor, and again in their network namespace.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 21);
	__type(key, __u64);
	__type(value, __u8);
} told SEC(".maps");

/* Which sockets are due, set by the user side. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_seeding);
} seeding SEC(".maps");

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

/*
 * Whether the table has a claim of the socket's for the tuple that it holds. One
 * with a record may have come elsewhere since its hook: see the threat model.
 */
static __noinline int has_claim(struct claimant *me)
{
	struct tg_tuple tuple = me->tuple;
	struct tg_group *group = find_group(key_of(&tuple));
	struct tg_further *more;

	if (group && (READ_WORD(&group->word) & TG_WORD_INLINE) &&
	    group->claim.cookie == me->wanted.claim.cookie)
		return true;
	more = bpf_map_lookup_elem(&claims_more, &tuple);
	return more && more->claim.cookie == me->wanted.claim.cookie;
}

/* The same pair is found by every seeding; to report it once is enough. */
static __noinline int report_sharing(struct claimant *me, bool again)
{
	struct tg_conflict *known = bpf_map_lookup_elem(&conflicts, &me->tuple);
	struct tg_counters *counters = find_counters();

	if (known && known->last.claimant_cookie == me->wanted.claim.cookie &&
	    (known->last.reason == TG_REASON_SHADOW || known->last.reason == TG_REASON_EXISTING))
		return 0;
	me->reason = again ? TG_REASON_SHADOW : TG_REASON_EXISTING;
	report(me, 0, true, counters);
	return 0;
}

static __always_inline __u32 read_cookie(struct net *net)
{
	__u64 cookie = 0;

	bpf_core_read(&cookie, sizeof(cookie), &net->net_cookie);
	return cookie;
}

/*
 * Whether the holder is there still, and one of both is guarded: what outsiders share is no
 * concern of ours, and where a socket was there may be another one by now, even this one.
 */
static __noinline int is_of_concern(struct claimant *me, const struct tg_seeding *now)
{
	bool outside;

	if (!me || !now || !me->holder.sock)
		return 0;
	outside = now->outsiders && is_outside(me->holder.sock);
	return !outside && is_socket(me->holder.sock, me->holder.cookie);
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

static __always_inline void mark_guarded(__u32 netns)
{
	__u8 yes = 1;

	if (!bpf_map_lookup_elem(&guarded_namespaces, &netns))
		bpf_map_update_elem(&guarded_namespaces, &netns, &yes, BPF_ANY);
}

/* Whether a claim of the tuple stays for those beside it: see beside.bpf.h. */
static __noinline int is_awaited(struct claimant *me)
{
	struct tg_tuple tuple = me->tuple;
	struct tg_group *group = find_group(key_of(&tuple));
	struct tg_further *more;

	if (group && (READ_WORD(&group->word) & TG_WORD_SHARED))
		return true;
	more = bpf_map_lookup_elem(&claims_more, &tuple);
	return more && (READ_WORD(&more->word) & TG_WORD_SHARED);
}

/* Whether `sk` is one of those that are to have claims now. */
static __noinline int is_due(__u64 sk, const struct tg_seeding *now)
{
	__u32 netns = read_cookie(SOCK_FIELD(sk, __sk_common.skc_net.net));

	if (is_outside(sk))
		return now->outsiders && bpf_map_lookup_elem(&guarded_namespaces, &netns);
	mark_guarded(netns);
	return !now->outsiders;
}

/* Claims what `sk` holds; me has its cookie, process and command. Returns an enum tg_seeded. */
static __always_inline __u8 seed(__u64 sk, struct claimant *me)
{
	__u64 cookie = me->wanted.claim.cookie;
	struct tg_socket_record *home = find_home(cookie);
	struct tg_seeding *now;
	__u32 zero = 0;
	bool is_recorded, awaited, is_shared;

	now = bpf_map_lookup_elem(&seeding, &zero);
	if (!home || !now)
		return TG_SEEDED_NOT_DUE;
	describe(sk, me);
	awaited = now->outsiders && is_awaited(me);
	if (!awaited && !is_due(sk, now))
		return TG_SEEDED_NOT_DUE;
	is_recorded = find_record(home, cookie) != NULL;
	if (!is_guardable(sk, &me->tuple))
		return is_recorded ? TG_SEEDED_KNOWN : TG_SEEDED_NOT_DUE;
	if (is_recorded && has_claim(me))
		return TG_SEEDED_KNOWN;
	if (now->outsiders && !awaited && READ_WORD(&now->room) == 0)
		return TG_SEEDED_OVER_SHARE;
	me->is_outsider = now->outsiders;
	me->room = now->outsiders ? ROOM_BELOW_RESERVE : ROOM_ALL;
	claim(me);
	switch (me->verdict) {
	case GRANTED:
		break;
	case RECLAIMED:
		return TG_SEEDED_KNOWN;
	case EXEMPT:
		return TG_SEEDED_NOT_DUE;
	case NO_ROOM:
		return TG_SEEDED_NO_ROOM;
	default:
		/* Meant to be shared, and too dear to ask about each socket. */
		if (is_mapped(me->tuple.remote) && is_subnet_broadcast(sk, me->tuple.remote[3]))
			return TG_SEEDED_NOT_DUE;
		is_shared = me->reason == TG_REASON_HELD && is_of_concern(me, now) &&
			    share_tuple(sk, me->holder.sock, &me->tuple);
		if (is_shared)
			report_sharing(me, now->again);
		/* It holds what another has claimed, perhaps for longer than that one does. */
		if (now->outsiders && me->holder.cookie && !come_beside(me))
			return TG_SEEDED_NO_ROOM;
		if (is_shared)
			return TG_SEEDED_CONFLICT;
		return now->outsiders ? TG_SEEDED_KNOWN : TG_SEEDED_NO_ROOM;
	}
	/* The record is its hooks' to write, so this claim goes with a sweep or a takeover. */
	if (is_recorded)
		return TG_SEEDED_CLAIMED;
	/* It may have been released meanwhile, with nothing to give back yet. */
	if (is_socket(sk, cookie) && is_guardable(sk, &me->tuple) &&
	    remember_first(home, me) == REMEMBERED) {
		/* Nobody else is at it: the map is this seeding's own. */
		if (now->outsiders && READ_WORD(&now->room))
			now->room--;
		return TG_SEEDED_CLAIMED;
	}
	drop_claim(&me->tuple, cookie, 0);
	return TG_SEEDED_NO_ROOM;
}

/* Writes what came of a socket, once. (Where the map is full, more than once.) */
static __always_inline void tell(struct bpf_iter_meta *meta, __u64 cookie, __u8 result)
{
	__u8 yes = 1;
	/* No more than an int comes back before Linux 6.4: the other half is no sign. */
	int error;

	if (result == TG_SEEDED_NOT_DUE)
		return;
	error = bpf_map_update_elem(&told, &cookie, &yes, BPF_NOEXIST);
	if (error != -EEXIST)
		bpf_seq_write(meta->seq, &result, sizeof(result));
}

/* Every thread, for the network namespaces that guarded processes are in. */
SEC("iter/task")
int seed_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task && is_inside(BPF_CORE_READ(task, cgroups, dfl_cgrp)))
		mark_guarded(read_cookie(BPF_CORE_READ(task, nsproxy, net_ns)));
	return 0;
}

/* Every open file of every process, for the sockets' owners. */
SEC("iter/task_file")
int seed_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct claimant me = {};
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || SOCK_FIELD(as_number(sk), sk_protocol) != IPPROTO_UDP)
		return 0;
	me.wanted.claim.cookie = bpf_get_socket_cookie(sk);
	me.wanted.claim.pid = task->tgid;
	bpf_core_read(me.wanted.claim.comm, TG_COMM_LEN, &task->comm);
	tell(ctx->meta, me.wanted.claim.cookie, seed(as_number(sk), &me));
	return 0;
}

/* Every UDP socket of the network namespace of whoever opened the iterator. */
SEC("iter/udp")
int seed_sockets(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;
	struct claimant me = {};

	if (!sk)
		return 0;
	me.wanted.claim.cookie = bpf_get_socket_cookie(sk);
	tell(ctx->meta, me.wanted.claim.cookie, seed(as_number(sk), &me));
	return 0;
}
