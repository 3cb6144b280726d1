// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Seeding: claims for sockets that never passed a hook, because they were
 * connected before the guard was attached or live outside its cgroups.
 *
 * Two iterators, over the files of all processes and over all UDP sockets of a
 * network namespace. Each writes a byte for each connected socket that it meets.
 */
#include "records.bpf.h"
#include "events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

/* The same pair is found by every seeding; once is enough. */
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

/* Claims what socket `sk` holds; me has its cookie, process and command. Returns an enum tg_seeded.
 */
static __always_inline __u8 seed(__u64 sk, struct claimant *me)
{
	__u64 cookie = me->wanted.claim.cookie;
	struct tg_socket_record *home = find_home(cookie);

	if (!home || find_record(home, cookie))
		return TG_SEEDED_KNOWN;
	describe(sk, me);
	if (!is_guardable(sk, &me->tuple))
		return TG_SEEDED_NOT_CONNECTED;
	claim(me);
	switch (me->verdict) {
	case GRANTED:
		break;
	case RECLAIMED:
		return TG_SEEDED_KNOWN;
	case EXEMPT:
		return TG_SEEDED_NOT_CONNECTED;
	case NO_ROOM:
		return TG_SEEDED_NO_ROOM;
	default:
		if (me->reason == TG_REASON_HELD && share_tuple(sk, me->holder.sock, &me->tuple))
			report_existing(me);
		return TG_SEEDED_CONFLICT;
	}
	/* It may have been released meanwhile, with nothing to give back yet. */
	if (is_socket(sk, cookie) && is_guardable(sk, &me->tuple) &&
	    remember_first(home, me) == REMEMBERED)
		return TG_SEEDED_CLAIMED;
	drop_claim(&me->tuple, cookie, 0);
	return TG_SEEDED_NO_ROOM;
}

static __always_inline void tell(struct bpf_iter_meta *meta, __u8 result)
{
	if (result != TG_SEEDED_NOT_CONNECTED)
		bpf_seq_write(meta->seq, &result, sizeof(result));
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
	tell(ctx->meta, seed(as_number(sk), &me));
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
	tell(ctx->meta, seed(as_number(sk), &me));
	return 0;
}
