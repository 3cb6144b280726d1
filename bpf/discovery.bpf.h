/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Port discovery: a local port for a socket that connects without one, so that
 * as many sockets can share a port as there are destinations. The kernel would
 * choose one that no other socket has, or, with SO_REUSEADDR, one that may make
 * two sockets hold one tuple.
 *
 * A random port is tried at once; where it has a claim with this destination
 * already, search.bpf.h finds one that has none, in three quarters of the range,
 * then in all of it, or, if all have, one whose claim turns out to be stale, or
 * another local address's. The socket is bound to the port that is claimed, and
 * keeps it.
 *
 * Which ports may be chosen is read from the kernel at each connect, so that a
 * changed sysctl counts at once, and in every network namespace.
 */
#ifndef TUPLEGUARD_DISCOVERY_BPF_H
#define TUPLEGUARD_DISCOVERY_BPF_H

#include "records.bpf.h"
#include "events.bpf.h"
#include "outside.bpf.h"
#include "search.bpf.h"
#include "ports.bpf.h"
#include "sides.bpf.h"

enum {
	/*
	 * A part of the range, one in so many, is left to sockets that need a port which
	 * nobody shares: those outside, and those that bind. It is looked at only when
	 * many of the other ports were taken for the destination, or all.
	 */
	LEFT_TO_OTHERS = 4,
	/*
	 * A socket that did not ask to share is given a port that nobody has, unless so
	 * many were seen to be in use: when it goes on to another destination, as
	 * getaddrinfo's do to compare routes, no other socket is there before it.
	 */
	PASSED_BY = 12,
	/* Ports held by sockets that don't share, which only binding finds out. */
	FAILED_BINDS = 512,
	/* The bound of a loop that the others end. */
	ATTEMPTS = 4096,
};

/*
 * Whether the port that the kernel would choose for this socket may be another's
 * too: with SO_REUSEADDR among all sockets that have it, with SO_REUSEPORT among
 * those of one user that have it (udp_lib_lport_inuse). Read from the socket: the
 * helper costs more than it reads.
 */
static __always_inline bool shares_port(__u64 sk)
{
	struct sock *it = as_sock(sk);

	return READ_BITS(HAS_CASTS, it, __sk_common.skc_reuse) ||
	       READ_BITS(HAS_CASTS, it, __sk_common.skc_reuseport);
}

/* Whether the policy is to choose a port for this socket. */
static __always_inline bool is_to_be_discovered(bool shares)
{
	if (policy.observe) /* nothing is to change for the program */
		return false;
	return policy.strict || policy.first_port || policy.discover == TG_DISCOVER_ALL ||
	       (policy.discover == TG_DISCOVER_REUSEADDR && shares);
}

/*
 * Whether this guard leaves the choice of a port to that of a cgroup above, whose hooks run
 * after these, and which has ports of its own.
 */
static __always_inline bool is_chosen_above(void)
{
	__u64 id = policy.attachment | TG_CHOSEN_ABOVE;

	return !policy.first_port && bpf_map_lookup_elem(&guarded, &id);
}

/* A hook that looks for a port, for the callback. */
struct search {
	struct claimant me;
	struct bpf_sock_addr *ctx;
};

/* Names of sockets, large enough for both families. */
struct socket_name {
	__u16 family;
	__be16 port;
	union {
		__be32 v4;
		struct {
			__be32 flow;
			__u32 v6[4];
			__u32 scope;
		};
	};
};

/* net.ipv4.ip_local_port_range, first port in the lower half; 0 when this kernel hides it. */
static __always_inline __u32 read_namespace_range(struct net *net)
{
	struct net___array *old = (struct net___array *)net;

	if (bpf_core_field_exists(net->ipv4.ip_local_ports.range))
		return READ(HAS_CASTS, net, ipv4.ip_local_ports.range);
	/* Half of a change may be seen: the next connect sees the whole. */
	if (bpf_core_field_exists(old->ipv4.ip_local_ports.range))
		return READ(HAS_CASTS, old, ipv4.ip_local_ports.range[1]) << 16 |
		       READ(HAS_CASTS, old, ipv4.ip_local_ports.range[0]);
	return 0;
}

/* IP_LOCAL_PORT_RANGE in the same form; 0 when it is not set, or this kernel has none. */
static __always_inline __u32 read_socket_range(__u64 sk)
{
	struct inet_sock *inet = AT(HAS_CASTS, struct inet_sock, sk);
	struct inet_sock___pair *old = (struct inet_sock___pair *)inet;

	if (bpf_core_field_exists(old->local_port_range.lo))
		return (__u32)READ(HAS_CASTS, old, local_port_range.hi) << 16 |
		       READ(HAS_CASTS, old, local_port_range.lo);
	if (bpf_core_field_exists(inet->local_port_range))
		return READ(HAS_CASTS, inet, local_port_range);
	return 0;
}

/*
 * The cgroup's own ports, as far as IP_LOCAL_PORT_RANGE agrees. That they are reserved in
 * the namespace (ip_local_reserved_ports) keeps others out of them, and not us.
 */
static __always_inline bool read_own_ports(__u64 sk, struct discovery *out)
{
	__u32 asked = read_socket_range(sk), low = asked & 0xffff, high = asked >> 16;

	out->reserved = 0;
	out->low = low > policy.first_port ? low : policy.first_port;
	out->high = high && high < policy.last_port ? high : policy.last_port;
	return out->low <= out->high;
}

/*
 * The ports that the kernel itself would choose from (inet_sk_get_local_port_range):
 * each end that the socket asks for counts if it is inside the namespace's range.
 */
static __noinline int read_ports(__u64 sk, struct discovery *out)
{
	struct sock *it = as_sock(sk);
	struct net *net = READ(HAS_CASTS, it, __sk_common.skc_net.net);
	__u32 range = read_namespace_range(net), own = read_socket_range(sk);
	__u32 low = range & 0xffff, high = range >> 16;

	if (policy.first_port)
		return read_own_ports(sk, out);
	if (!low || low > high)
		return false;
	if (own) {
		if (low <= (own & 0xffff) && (own & 0xffff) <= high)
			low = own & 0xffff;
		if (low <= own >> 16 && own >> 16 <= high)
			high = own >> 16;
	}
	out->reserved = (__u64)READ(HAS_CASTS, net, ipv4.sysctl_local_reserved_ports);
	out->low = low;
	out->high = high;
	return true;
}

/* Binds the socket to its own address and this port; 0 gives it its address back. */
static __noinline int bind_port(struct bpf_sock_addr *ctx, const struct discovery *it, __u16 port)
{
	struct socket_name name = {.port = bpf_htons(port)};
	const __u32 *address = it->address;

	/* Its own family, whichever the destination's is. */
	if (ctx->family == AF_INET) {
		name.family = AF_INET;
		name.v4 = address[0];
	} else {
		name.family = AF_INET6;
		set_address(name.v6, address);
	}
	return bpf_bind(ctx, (struct sockaddr *)&name, sizeof(name));
}

/* Makes the socket share its port, which the program has not done itself. */
static __always_inline int set_sharing(struct bpf_sock_addr *ctx, int shares)
{
	return bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEADDR, &shares, sizeof(shares));
}

/* A claim of which something else than the table says that it can't be kept. */
static __always_inline void withdraw(struct claimant *me)
{
	if (me->verdict == GRANTED)
		drop_claim(&me->tuple, me->wanted.claim.cookie, 0);
	me->verdict = CONFLICT;
}

/* Binds the socket to the tuple's port, which is claimed. */
static __noinline int take_port(struct bpf_sock_addr *ctx, struct claimant *me)
{
	struct discovery *it = &me->discovery;

	if (it->make_share && !it->failed_binds)
		set_sharing(ctx, true);
	return bind_port(ctx, it, me->tuple.local_port);
}

/* The ports are all looked at: which others are there? False when there are none. */
static __always_inline bool look_further(struct discovery *it)
{
	if (!it->courteous && it->in_doubt)
		return false;
	it->in_doubt = !it->courteous;
	it->courteous = false;
	it->low = it->lowest;
	it->steps = 0;
	return true;
}

/* Whether only a port will do that nobody has. */
static __always_inline bool is_to_be_unused(const struct discovery *it)
{
	return it->alone || (it->make_share && it->courteous && it->passed < PASSED_BY);
}

static __always_inline bool is_passed_by(struct claimant *me)
{
	struct discovery *it = &me->discovery;

	if (!is_to_be_unused(it) || !is_used(me->wanted.claim.sock, me->tuple.local_port))
		return false;
	it->passed++;
	return true;
}

/* The claim is made: binds the socket. Returns 1 when the search is over. */
static __noinline int keep_port(struct bpf_sock_addr *ctx, struct claimant *me)
{
	struct discovery *it = &me->discovery;
	int error;

	if (policy.look_up && me->verdict == GRANTED && is_held_outside(ctx, me)) {
		withdraw(me);
		return 0;
	}
	error = take_port(ctx, me);
	if (!error) {
		me->is_discovered = true;
		if (it->slot < TG_BUSY)
			mark_taken(&me->tuple, it->slot);
		return 1;
	}
	it->failed_binds++;
	withdraw(me);
	if (error == -EADDRINUSE || error == -EACCES)
		return it->failed_binds == FAILED_BINDS ? 1 : 0;
	me->verdict = IMPOSSIBLE;
	return 1;
}

static __always_inline bool find_next(struct claimant *me)
{
	if (me->discovery.in_doubt && me->discovery.slot < TG_BUSY)
		return find_doubtful(me);
	return find_port(me);
}

/* Tries the next port, or the same again after a lost race; returns 1 when the search is over. */
static long attempt_once(__u32 round, struct search *search)
{
	struct claimant *me = &search->me;
	struct discovery *it = &me->discovery;

	if (me->verdict != UNDECIDED && !find_next(me))
		return look_further(it) ? 0 : 1;
	if (is_passed_by(me)) {
		me->verdict = CONFLICT;
		return 0;
	}
	/* Not claim(): on 6.1 one more function deep is too deep for the stack. */
	try_claim(me);
	switch (me->verdict) {
	case UNDECIDED:
		return 0;
	case NO_ROOM:
		return 1;
	case CONFLICT:
		if (it->in_doubt && ++it->doubts >= DOUBTS)
			return 1;
		return 0;
	}
	return keep_port(search->ctx, me) ? 1 : 0;
}

/* Gives a socket that stays without a port what it had. */
static __noinline int restore(struct bpf_sock_addr *ctx, const struct discovery *it)
{
	if (!it->failed_binds)
		return 0;
	if (it->make_share)
		set_sharing(ctx, false);
	/* A bind that fails takes the address away. */
	if (!is_zero(it->address))
		bind_port(ctx, it, 0);
	return 0;
}

/*
 * A random number of which others tell nothing: programs lean on the kernel's
 * choice of a port to be hard to guess, but the helper's generator is a linear
 * one, whose next numbers follow from some that were seen.
 */
static __always_inline __u32 draw(void)
{
	__u64 number = policy.secret ^ bpf_get_prandom_u32();

	number = (number ^ number >> 32) * 0xd6e8feb86659fd93;
	number = (number ^ number >> 32) * (policy.secret | 1);
	return number >> 32;
}

/* A random port of a destination that is not known to be busy, if nobody is there. */
static __always_inline bool claim_first_port(struct claimant *me)
{
	struct discovery *it = &me->discovery;

	me->tuple.local_port = first_port(it);
	it->slot =
	    may_be_busy(&me->key) ? find_slot(&me->tuple, me->wanted.claim.time_ns) : NO_SLOT;
	if (it->slot == NO_SLOT && it->high - it->lowest < SMALL_RANGE)
		it->slot = DENIED;
	if (it->slot < TG_BUSY || is_reserved(it, me->tuple.local_port))
		return false;
	it->probes = 1;
	if (is_passed_by(me))
		return false;
	return claim_at_once(me);
}

/* The address that the socket is bound to. */
static __always_inline void read_own_address(struct bpf_sock_addr *ctx, __u64 sk,
					     struct discovery *out)
{
	if (ctx->family == AF_INET)
		out->address[0] = ctx->sk->src_ip4;
	else
		read_local(sk, false, out->address);
}

/*
 * Looks for a port, claims it, and binds the socket to it. Without success the
 * verdict is CONFLICT where all ports are taken, NO_ROOM where the claim table
 * is full, and IMPOSSIBLE where ports can't be chosen for this socket at all.
 */
static __always_inline int discover(struct search *search, bool shares)
{
	struct bpf_sock_addr *ctx = search->ctx;
	struct claimant *me = &search->me;
	__u64 sk = me->wanted.claim.sock;

	me->verdict = IMPOSSIBLE;
	me->is_discovering = true;
	if (!read_ports(sk, &me->discovery))
		return 0;
	read_own_address(ctx, sk, &me->discovery);
	me->discovery.make_share = !shares && policy.discover == TG_DISCOVER_ALL;
	me->discovery.alone = !shares && policy.discover != TG_DISCOVER_ALL;
	me->discovery.random = draw();
	me->discovery.lowest = me->discovery.low;
	if (!me->discovery.alone) {
		me->discovery.courteous = true;
		me->discovery.low += (me->discovery.high - me->discovery.low + 1) / LEFT_TO_OTHERS;
	}
	me->verdict = CONFLICT;
	if (!claim_first_port(me) || !keep_port(ctx, me))
		bpf_loop(ATTEMPTS, attempt_once, search, 0);
	if (me->verdict == UNDECIDED)
		me->verdict = CONFLICT;
	if (!me->is_discovered) {
		me->tuple.local_port = 0;
		restore(ctx, &me->discovery);
	}
	me->probes = me->discovery.probes;
	__builtin_memset(&me->holder, 0, sizeof(me->holder)); /* it shares memory with the search */
	me->is_discovering = false;
	return 0;
}

static __always_inline void count_probes(struct tg_counters *counters, __u32 probes)
{
	__u32 bucket = 0;

	while (bucket < TG_PROBE_BUCKETS - 1 && probes > 1U << bucket)
		bucket++;
	COUNT(counters, discovered);
	COUNT(counters, discovery_probes[bucket]);
}

#endif
