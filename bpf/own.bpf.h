/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A port of the cgroup's own for a TCP socket that connects without one.
 *
 * The kernel itself keeps two connections off one tuple, but where the port is
 * given it cannot go on to another and answers EADDRNOTAVAIL
 * (__inet_hash_connect). So a port is found here that has no connection with
 * the destination: by the kernel's own table, and, for those on their way
 * there, by a reservation. The hook, the binding and the connect happen under
 * the socket's lock, in one piece (__inet_stream_connect), so that who no
 * longer has its lock has either got into the table or failed: a reservation
 * needs neither clock nor release, and its place is anybody's then.
 *
 * A place keeps its last socket. While that is connected with the tuple no
 * look-up is needed, and sockets bound to a device, which the look-up does not
 * see, are seen so.
 */
#ifndef TUPLEGUARD_OWN_BPF_H
#define TUPLEGUARD_OWN_BPF_H

#include "connect.bpf.h"
#include "discovery.bpf.h"
#include "sources.bpf.h"

/* By a hash of all of the tuple but the source address. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TG_RESERVATIONS);
	__type(key, __u32);
	__type(value, struct tg_reservation);
} reservations SEC(".maps");

/* A place that is being written; ids are greater. */
#define BEING_WRITTEN 1ULL

/*
 * How often all ports are looked at, where others take and leave them
 * meanwhile: one may be free all the time, and never be the same.
 */
#define LOOKS 8

/*
 * So many that only a TIME_WAIT has, and that may be had again, are passed by: one
 * without may be near. Where a program closes first, soon all are like that.
 */
#define TIME_WAITS_PASSED_BY 32

/* A TCP socket that looks for a port. */
struct seeker {
	struct tg_tuple tuple; /* all but the local port; the local address if it is final */
	struct discovery search;
	__u32 address[2][4]; /* that it may come to have, where none is final */
	__u64 sock;
	__u64 cookie;
	__u64 destination; /* hash */
	__u32 device;
	bool found;
	bool in_doubt; /* no port is free for certain: take one that may be */
	__u32 time_waits;
	__u32 again; /* another look may find one: some may be free, or others look too */
};

/* And its hook, for the callbacks. */
struct pursuit {
	struct seeker me;
	struct bpf_sock_addr *ctx;
};

/* What there is to know of a port. */
enum finding {
	FREE,
	REUSABLE, /* a TIME_WAIT has it, which the kernel takes as well */
	DOUBTED,  /* perhaps not ours to take, but the kernel would let us */
	TAKEN,
};

/* As hash_key(): neighbouring ports have neighbouring places. */
static __always_inline __u64 hash_port(const struct seeker *it)
{
	return it->destination + it->tuple.local_port;
}

/* The kernel's INET_MATCH: a socket bound to a device meets those of its device, and of none. */
static __always_inline bool is_met(const struct seeker *it, __u64 sk)
{
	__u32 device = SOCK_FIELD(sk, __sk_common.skc_bound_dev_if);

	return !device || device == it->device;
}

/* The last socket of our tuple's place is connected with all of it but, perhaps, the source. */
static __always_inline enum finding meet_connected(const struct seeker *it, __u64 sk)
{
	struct local source = {};

	read_local(sk, is_mapped(it->tuple.remote), source.address);
	if (!is_met(it, sk))
		return FREE;
	if (!is_zero(it->tuple.local))
		return is_same(it->tuple.local, source.address) ? TAKEN : FREE;
	return is_zero(source.address) || is_same(it->address[0], source.address) ||
		       is_same(it->address[1], source.address)
		   ? TAKEN
		   : DOUBTED;
}

/* What the last socket of a place means to us; `ours`: it came for our tuple. */
static __noinline int meet_last(struct seeker *it, __u64 sk, __u64 cookie, bool ours)
{
	__u8 state;

	if (cookie == it->cookie || !is_socket(sk, cookie))
		return FREE;
	state = SOCK_FIELD(sk, __sk_common.skc_state);
	/* On its way into the kernel's table, where a look-up would miss it. */
	if ((state == TCP_CLOSE || state == TCP_SYN_SENT) && SOCK_FIELD(sk, sk_lock.owned)) {
		it->again = true;
		return ours ? TAKEN : DOUBTED;
	}
	if (!ours)
		return FREE;
	/* It failed, and may try again from the port that it cannot get rid of. */
	if (state == TCP_CLOSE)
		return SOCK_FIELD(sk, __sk_common.skc_num) == it->tuple.local_port ? DOUBTED : FREE;
	return has_names(HAS_CASTS, as_sock(sk), key_of(&it->tuple)) ? meet_connected(it, sk)
								     : FREE;
}

static __always_inline struct tg_reservation *get_place(__u64 hash)
{
	__u32 index = hash & (TG_RESERVATIONS - 1);

	return bpf_map_lookup_elem(&reservations, &index);
}

/* FREE: the place is ours now. DOUBTED: we may go without, and the kernel decides. */
__noinline int reserve(struct seeker *it)
{
	__u64 hash, seen, sk, cookie;
	struct tg_reservation *place;
	enum finding last = FREE;
	bool ours;

	if (!it)
		return TAKEN;
	hash = hash_port(it);
	place = get_place(hash);
	if (!place) /* cannot happen: the index is masked */
		return FREE;
	seen = READ_WORD(&place->id);
	if (seen == BEING_WRITTEN)
		goto contended;
	if (seen) {
		sk = READ_WORD(&place->sock);
		cookie = READ_WORD(&place->cookie);
		ours = READ_WORD(&place->hash) == hash;
		barrier();
		if (READ_WORD(&place->id) != seen)
			goto contended;
		last = meet_last(it, sk, cookie, ours);
		if (last != FREE)
			return last;
	}
	if (!swap_word(&place->id, seen, BEING_WRITTEN))
		goto contended;
	READ_WORD(&place->sock) = it->sock;
	READ_WORD(&place->cookie) = it->cookie;
	READ_WORD(&place->hash) = hash;
	swap_word(&place->id, BEING_WRITTEN, new_id());
	return FREE;
contended:
	it->again = true;
	return TAKEN;
}

/* The port is not for us, but it may be for others before we are done. */
__noinline int give_place_back(const struct seeker *it)
{
	struct tg_reservation *place;

	if (!it)
		return 0;
	place = get_place(hash_port(it));

	/* While we are on our way nobody else writes what is ours. */
	if (place && READ_WORD(&place->id) != BEING_WRITTEN &&
	    READ_WORD(&place->cookie) == it->cookie)
		READ_WORD(&place->id) = 0;
	return 0;
}

/* Whether the kernel's own choice of a port would take that of this TIME_WAIT (tcp_twsk_unique). */
static __always_inline bool is_reusable(__u64 sk, __u64 timewait, const struct tg_tuple *tuple)
{
	struct net *net = SOCK_FIELD(sk, __sk_common.skc_net.net);
	struct tcp_timewait_sock *it = AT(HAS_CASTS, struct tcp_timewait_sock, timewait);
	__u8 reuse = READ(HAS_CASTS, net, ipv4.sysctl_tcp_tw_reuse);
	__u64 now_ns = bpf_ktime_get_ns();

	if (!READ(HAS_CASTS, it, tw_ts_recent_stamp) || !reuse)
		return false;
	if (reuse == 2 && !is_loopback(tuple->remote) && !is_loopback(tuple->local))
		return false;
	if (READ(HAS_CASTS, it, tw_sk.tw_substate) == TCP_FIN_WAIT2)
		return false;
	if (bpf_core_field_exists(net->ipv4.sysctl_tcp_tw_reuse_delay))
		return (__s32)((__u32)(now_ns / 1000000) -
			       READ(HAS_CASTS, it, tw_sk.tw_entry_stamp) -
			       READ(HAS_CASTS, net, ipv4.sysctl_tcp_tw_reuse_delay)) > 0;
	return (__s32)((__u32)(now_ns / 1000000000) - READ(HAS_CASTS, it, tw_ts_recent_stamp)) > 0;
}

/* What has the tuple in the kernel's table; `sk` is the socket that wants it. */
__noinline int look_up(struct bpf_sock_addr *ctx, const struct tg_tuple *tuple, __u64 sk)
{
	struct bpf_sock_tuple key = {};
	__u32 size = sizeof(key.ipv6);
	enum finding finding = TAKEN;
	struct bpf_sock *found;

	if (!tuple)
		return TAKEN;
	/* As a packet has it that arrives: from the remote to us. */
	if (is_mapped(tuple->remote)) {
		key.ipv4.saddr = tuple->remote[3];
		key.ipv4.daddr = tuple->local[3];
		key.ipv4.sport = bpf_htons(tuple->remote_port);
		key.ipv4.dport = bpf_htons(tuple->local_port);
		size = sizeof(key.ipv4);
	} else {
		set_address(key.ipv6.saddr, tuple->remote);
		set_address(key.ipv6.daddr, tuple->local);
		key.ipv6.sport = bpf_htons(tuple->remote_port);
		key.ipv6.dport = bpf_htons(tuple->local_port);
	}
	found = bpf_skc_lookup_tcp(ctx, &key, size, BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return FREE;
	/* Of anything else, also of a server's socket, the port is not for us. */
	if (found->state == TCP_TIME_WAIT && is_reusable(sk, as_number(found), tuple))
		finding = REUSABLE;
	bpf_sk_release(found);
	return finding;
}

/* The same for an address that the socket may come to have. */
static __noinline int look_up_from(struct bpf_sock_addr *ctx, const struct seeker *it,
				   const __u32 *address)
{
	struct tg_tuple tuple = it->tuple;

	if (is_zero(address))
		return FREE;
	set_address(tuple.local, address);
	return look_up(ctx, &tuple, it->sock);
}

static __always_inline int look_up_all(struct bpf_sock_addr *ctx, const struct seeker *it)
{
	int first, second;

	if (!is_zero(it->tuple.local))
		return look_up(ctx, &it->tuple, it->sock);
	first = look_up_from(ctx, it, it->address[1]);
	if (first == TAKEN || is_same(it->address[0], it->address[1]))
		return first;
	second = look_up_from(ctx, it, it->address[0]);
	return second > first ? second : first;
}

/* Whether to bind to the port. It may have been reserved then. */
static __always_inline bool is_for_us(struct bpf_sock_addr *ctx, struct seeker *it)
{
	int reserved = reserve(it), finding = reserved;

	if (reserved != TAKEN)
		finding = look_up_all(ctx, it);
	if (finding < reserved)
		finding = reserved;
	if (finding == FREE)
		return true;
	if (finding == REUSABLE && it->time_waits++ >= TIME_WAITS_PASSED_BY)
		return true;
	if (finding != TAKEN) {
		it->again = true;
		if (it->in_doubt)
			return true;
	}
	if (reserved == FREE)
		give_place_back(it);
	return false;
}

/* Tries the next port; returns 1 when the search is over. */
static long try_own_port(__u32 round, struct pursuit *pursuit)
{
	struct seeker *it = &pursuit->me;
	struct discovery *search = &it->search;
	__u32 port = port_of_step(search, search->steps++);
	int error;

	if (port < search->low || port > search->high)
		return 0;
	it->tuple.local_port = port;
	if (!is_for_us(pursuit->ctx, it))
		return 0;
	if (search->make_share && !search->failed_binds)
		set_sharing(pursuit->ctx, true);
	error = bind_port(pursuit->ctx, search, port);
	if (!error) {
		it->found = true;
		return 1;
	}
	search->failed_binds = 1;
	give_place_back(it);
	return error == -EADDRINUSE || error == -EACCES ? 0 : 1;
}

/* Looks at all ports once; returns 1 when the search is over. */
static long look_once(__u32 round, struct pursuit *pursuit)
{
	struct seeker *it = &pursuit->me;

	it->again = false;
	it->search.steps = 0;
	bpf_loop(last_step(&it->search) + 1, try_own_port, pursuit, 0);
	it->in_doubt = true;
	if (it->found)
		return 1;
	return it->again ? 0 : 1;
}

/* SO_REUSEADDR */
static __always_inline bool shares_address(__u64 sk)
{
	struct sock *it = as_sock(sk);

	return READ_BITS(HAS_CASTS, it, __sk_common.skc_reuse);
}

/* Binds the socket to a port of the cgroup's own; false where none can be had. */
static __noinline int find_own_port(struct bpf_sock_addr *ctx, const struct tg_tuple *wanted)
{
	struct pursuit pursuit = {.ctx = ctx};
	struct seeker *it = &pursuit.me;

	it->tuple = *wanted;
	it->sock = as_number(ctx->sk);
	it->cookie = bpf_get_socket_cookie(ctx);
	it->device = SOCK_FIELD(it->sock, __sk_common.skc_bound_dev_if);
	if (!read_ports(it->sock, &it->search))
		return false;
	read_own_address(ctx, it->sock, &it->search);
	if (is_zero(it->tuple.local))
		find_addresses(&it->tuple, it->device, it->sock, it->cookie, it->address);
	it->destination = hash_destination(key_of(&it->tuple));
	it->search.make_share = !shares_address(it->sock);
	it->search.random = draw();
	bpf_loop(LOOKS, look_once, &pursuit, 0);
	if (!it->found)
		restore(ctx, &it->search);
	return it->found;
}

/* No port is left: what the policy says. With a stack of its own. */
static __noinline int refuse_own(struct bpf_sock_addr *ctx, const struct tg_tuple *wanted,
				 struct tg_counters *counters)
{
	struct claimant me = {};

	if (!counters)
		return REJECT;
	me.tuple = *wanted;
	introduce(ctx, &me, as_number(ctx->sk));
	me.reason = TG_REASON_EXHAUSTED;
	COUNT(counters, refused_exhausted_tcp);
	report(&me, policy.attachment, false, counters);
	bpf_set_retval(-(int)policy.exhausted);
	return REJECT;
}

static __always_inline bool is_own(__u16 port)
{
	return policy.first_port <= port && port <= policy.last_port;
}

/* The guard of a cgroup below has chosen it, from that cgroup's own. */
static __always_inline bool is_chosen_below(__u16 port)
{
	return read_kept(port / 64) >> port % 64 & 1;
}

static __always_inline int on_own_connect(struct bpf_sock_addr *ctx,
					  bool (*read_remote)(struct bpf_sock_addr *,
							      struct tg_tuple *))
{
	struct tg_counters *counters;
	struct bpf_sock *sk = ctx->sk;
	struct tg_tuple tuple = {};
	__u64 number;
	bool v4;

	if (ctx->protocol != IPPROTO_TCP || !sk || bpf_get_retval())
		return ALLOW;
	counters = find_counters();
	if (!counters) /* cannot happen: the map has one element */
		return ALLOW;
	if (sk->src_port) {
		/* The program's own business; or ours, and its connect failed before. */
		if (!is_own(sk->src_port) && !is_chosen_below(sk->src_port))
			COUNT(counters, ports_bypassed);
		return ALLOW;
	}
	number = as_number(sk);
	v4 = read_remote(ctx, &tuple);
	if (is_zero(tuple.remote))
		resolve_this_host(&tuple, v4, number);
	tuple.netns = bpf_get_netns_cookie(ctx);
	tuple.remote_port = bpf_ntohs(ctx->user_port);
	read_own_if_final(sk, number, &tuple);
	if (!find_own_port(ctx, &tuple))
		return refuse_own(ctx, &tuple, counters);
	COUNT(counters, given_tcp);
	return ALLOW;
}

/* What is learnt of routes from sockets that the kernel chose the address of. */
static __always_inline int on_own_release(struct bpf_sock *ctx)
{
	__u64 sk;

	if (ctx->protocol != IPPROTO_TCP)
		return ALLOW;
	sk = as_number(ctx);
	if (is_own(SOCK_FIELD(sk, __sk_common.skc_num)) && !is_address_locked(sk))
		note_route(sk);
	return ALLOW;
}

#endif
