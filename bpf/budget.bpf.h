/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many connections a cgroup may have open at one time: TCP and UDP sockets
 * that connect(), of its own and of the cgroups below. What listening sockets
 * accept is not counted.
 *
 * `budget.used` is what is shared out, by compare-and-swap, so that of two who go
 * for the last one only one gets it. Each that was given out belongs to an element
 * of `connections`, which names the socket that it is for, and goes back when that
 * is released. No hook runs when a connect fails after this one, when a connection
 * ends, or for connect(AF_UNSPEC): such sockets are looked for where the budget
 * would be refused, and nowhere else.
 */
#ifndef TUPLEGUARD_BUDGET_BPF_H
#define TUPLEGUARD_BUDGET_BPF_H

#include "events.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_budget);
} budget SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* a power of two, set by the user side */
	__type(key, __u32);
	__type(value, struct tg_connection);
} connections SEC(".maps");

/*
 * Where in `connections` a socket was last, by its cookie. Only its own hooks write
 * that, until it is gone. Whether it is there still, `connections` tells.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* as many */
	__type(key, __u64);
	__type(value, __u32);
} connection_of SEC(".maps");

enum {
	/* Swaps that another processor may win in a row. */
	BUDGET_SWAPS = 256,
	/* At least half of the elements that are looked at are free: enough in 2^64 runs. */
	FREE_PROBES = 64,
	/* Elements that one connect looks at for a socket that is not connected any more. */
	EXAMINED = 4096,
	/*
	 * Grace periods that a UDP connect has to happen: no second look finds out here that
	 * one took longer, on a machine that has no time for it.
	 */
	GRACE_PERIODS = 10,
};

/* What became of a connect. */
enum counted {
	COUNTED_NOW,
	COUNTED_BEFORE, /* it is the socket's second, or later */
	OVER_BUDGET,
	NOT_COUNTABLE, /* no room to count it */
};

/* A socket that connects. */
struct connecting {
	__u64 cookie;
	__u64 sock;
	__u64 now_ns;
	__u32 thread;
	__u32 protocol;
};

static __always_inline struct tg_budget *find_budget(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&budget, &zero);
}

static __always_inline struct tg_connection *get_connection(__u32 index)
{
	return bpf_map_lookup_elem(&connections, &index);
}

/* Ids are never used again: a swap of the word proves that nothing has changed. */
static __always_inline __u64 new_connection_word(void)
{
	return new_id() | TG_CONNECTION_COUNTED;
}

static __always_inline bool is_counted(__u64 word)
{
	return word & TG_CONNECTION_COUNTED;
}

/* The element of a socket that is counted, and its word as it was then. */
static __always_inline struct tg_connection *find_connection(__u64 cookie, __u64 *word)
{
	__u32 *index = bpf_map_lookup_elem(&connection_of, &cookie);
	struct tg_connection *connection;

	if (!index)
		return NULL;
	connection = get_connection(*index);
	if (!connection)
		return NULL;
	*word = READ_WORD(&connection->word);
	barrier();
	return is_counted(*word) && connection->cookie == cookie ? connection : NULL;
}

/* One of the budget, if there is one. */
static __always_inline bool take_one(struct tg_budget *it)
{
	__u64 used;

	NOT_UNROLLED
	for (int i = 0; i < BUDGET_SWAPS; i++) {
		used = READ_WORD(&it->used);
		if (used >= policy.max_connections)
			return false;
		if (swap_word(&it->used, used, used + 1))
			return true;
	}
	return false;
}

static __always_inline void give_one_back(struct tg_budget *it)
{
	add_to_word(&it->used, -1ULL);
}

/* How a counted socket may be found. */
enum standing {
	STANDS,	  /* connected, or about to be */
	IS_OVER,  /* not connected any more, or never was */
	HAS_GONE, /* released without a hook */
};

/*
 * A TCP connect has the socket's lock from the hook until it has left the state
 * TCP_CLOSE, or failed (inet_stream_connect). A UDP connect lets go of it in between:
 * it is over when its thread is here, or when ten grace periods are and no thread has
 * the lock or waits for it. The lock is looked at before the state: who let go of it
 * in between is seen connected.
 */
static __always_inline enum standing judge_connection(const struct tg_connection *connection,
						      __u64 cookie, const struct connecting *me)
{
	__u64 sk = connection->sock;
	bool locked;
	__u8 state;

	if (!is_socket(sk, cookie))
		return HAS_GONE;
	/* A subflow of MPTCP loses its owner at close(), and for it no hook runs. */
	if (!SOCK_FIELD(sk, sk_socket))
		return HAS_GONE;
	locked = is_locked(sk);
	barrier();
	state = SOCK_FIELD(sk, __sk_common.skc_state);
	if (state != TCP_CLOSE && state != TCP_LISTEN)
		return is_socket(sk, cookie) ? STANDS : HAS_GONE;
	if (locked)
		return STANDS;
	if (connection->protocol == IPPROTO_UDP && connection->thread != me->thread &&
	    (__s64)(me->now_ns - READ_WORD(&connection->time_ns)) <
		(__s64)policy.grace_ns * GRACE_PERIODS)
		return STANDS;
	return is_socket(sk, cookie) ? IS_OVER : HAS_GONE;
}

struct examination {
	struct connecting *me;
	struct tg_budget *budget;
	__u32 first;
	__u32 given_up;
	bool has_one;
};

/* Ends the counting of a socket that is not connected, until there is one for us. */
static long examine_once(__u32 round, struct examination *it)
{
	struct tg_connection *connection =
	    get_connection((it->first + round) & policy.connections_mask);
	enum standing standing;
	__u64 word, cookie;

	if (!connection)
		return 1;
	word = READ_WORD(&connection->word);
	if (!is_counted(word))
		return 0;
	barrier();
	cookie = connection->cookie;
	standing = judge_connection(connection, cookie, it->me);
	/* The swap proves that all that was read is of one socket, which has not connected since.
	 */
	if (standing == STANDS || !swap_word(&connection->word, word, 0))
		return 0;
	if (standing == HAS_GONE)
		bpf_map_delete_elem(&connection_of, &cookie);
	it->given_up++;
	/* More than may be open now may have been once: then that was one of those. */
	give_one_back(it->budget);
	it->has_one = take_one(it->budget);
	return it->has_one ? 1 : 0;
}

/* One of the budget that a socket has which is not connected, if there is one. */
static __noinline bool examine(struct connecting *me, struct tg_budget *it,
			       struct tg_counters *counters)
{
	__u32 elements = policy.connections_mask + 1;
	struct examination examination = {.me = me, .budget = it, .first = READ_WORD(&it->cursor)};
	long rounds;

	rounds = bpf_loop(elements < EXAMINED ? elements : EXAMINED, examine_once, &examination, 0);
	/* Others may have gone on elsewhere: a hint. */
	*(volatile __u64 *)&it->cursor = examination.first + rounds;
	COUNT_MORE(counters, uncounted, examination.given_up);
	return examination.has_one;
}

static __always_inline bool occupy(struct tg_connection *connection, __u32 index,
				   const struct connecting *me)
{
	connection->cookie = me->cookie;
	connection->sock = me->sock;
	connection->time_ns = me->now_ns;
	connection->thread = me->thread;
	connection->protocol = me->protocol;
	if (bpf_map_update_elem(&connection_of, &me->cookie, &index, BPF_ANY)) {
		swap_word(&connection->word, TG_CONNECTION_BUSY, 0);
		return false;
	}
	swap_word(&connection->word, TG_CONNECTION_BUSY, new_connection_word());
	return true;
}

/* Notes down for whom the one is that was taken. */
static __noinline bool enter(const struct connecting *me)
{
	struct tg_connection *connection;
	__u32 index;

	NOT_UNROLLED
	for (int i = 0; i < FREE_PROBES; i++) {
		index = bpf_get_prandom_u32() & policy.connections_mask;
		connection = get_connection(index);
		if (!connection)
			return false;
		if (READ_WORD(&connection->word) == 0 &&
		    swap_word(&connection->word, 0, TG_CONNECTION_BUSY))
			return occupy(connection, index, me);
	}
	return false;
}

/* The socket connects again: for this connect too it is counted. */
static __always_inline bool is_counted_again(struct connecting *me)
{
	struct tg_connection *connection;
	__u64 word;

	connection = find_connection(me->cookie, &word);
	if (!connection)
		return false;
	*(volatile __u64 *)&connection->time_ns = me->now_ns;
	/* What several threads are at, none can call over. */
	if (connection->thread != me->thread)
		*(volatile __u32 *)&connection->thread = 0;
	return swap_word(&connection->word, word, new_connection_word());
}

static __always_inline void introduce_connecting(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
						 struct connecting *me)
{
	me->sock = as_number(sk);
	if (HAS_CASTS)
		me->cookie = as_sock(me->sock)->__sk_common.skc_cookie.counter;
	if (!me->cookie) /* given out when it is first asked for */
		me->cookie = bpf_get_socket_cookie(ctx);
	me->now_ns = bpf_ktime_get_coarse_ns();
	me->thread = bpf_get_current_task_btf()->pid;
	me->protocol = ctx->protocol;
}

/* Counts a connect(), if the budget allows it. Returns an enum counted. */
__noinline int count_connection(struct bpf_sock_addr *ctx, struct tg_counters *counters)
{
	struct tg_budget *it = find_budget();
	struct connecting me = {};

	if (!it || !ctx->sk || !counters) /* cannot happen: the maps have one element each */
		return NOT_COUNTABLE;
	introduce_connecting(ctx, ctx->sk, &me);
	if (is_counted_again(&me))
		return COUNTED_BEFORE;
	if (!take_one(it) && !examine(&me, it, counters))
		return OVER_BUDGET;
	if (!enter(&me)) {
		give_one_back(it);
		return NOT_COUNTABLE;
	}
	COUNT(counters, counted);
	return COUNTED_NOW;
}

/* The socket's connect was refused, or it is being released. */
__noinline int end_counting(__u64 cookie)
{
	struct tg_budget *it = find_budget();
	struct tg_connection *connection;
	__u64 word;

	if (!it || !bpf_map_lookup_elem(&connection_of, &cookie))
		return 0;
	connection = find_connection(cookie, &word);
	if (connection && swap_word(&connection->word, word, 0))
		give_one_back(it);
	bpf_map_delete_elem(&connection_of, &cookie);
	return 0;
}

#endif
