/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses and tuples: the canonical form of what a hook's context says, and
 * what a `struct sock` elsewhere in memory holds right now.
 *
 * Functions without `static`, here and in claims.bpf.h, are what the verifier
 * checks once and by themselves: inlined, they would take it past its limit.
 * They must doubt their pointers, and read keys from their own stack (6.1).
 */
#ifndef TUPLEGUARD_TUPLE_BPF_H
#define TUPLEGUARD_TUPLE_BPF_H

#include "guard_abi.h"
#include "loads.bpf.h"

#include <bpf/bpf_endian.h>

#define MAPPED_PREFIX bpf_htonl(0xffff)
#define LOOPBACK4 bpf_htonl(0x7f000001)

static __always_inline bool is_zero(const __u32 a[4])
{
	return !(a[0] | a[1] | a[2] | a[3]);
}

static __always_inline bool is_same(const __u32 a[4], const __u32 b[4])
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline bool is_mapped(const __u32 a[4])
{
	return !(a[0] | a[1]) && a[2] == MAPPED_PREFIX;
}

static __always_inline void set_address(__u32 to[4], const __u32 from[4])
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

/* 0.0.0.0 becomes all zero, like ::, which stands for "not known". */
static __always_inline void set_mapped(__u32 to[4], __be32 from)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = from ? MAPPED_PREFIX : 0;
	to[3] = from;
}

static __always_inline void set_loopback6(__u32 to[4])
{
	to[0] = 0;
	to[1] = 0;
	to[2] = 0;
	to[3] = bpf_htonl(1);
}

/* Multicast of either family, and the limited broadcast address. */
static __always_inline bool is_multicast(const __u32 a[4])
{
	if (is_mapped(a))
		return (a[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || a[3] == ~0U;
	return (a[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* 127.0.0.0/8 or ::1 */
static __always_inline bool is_loopback(const __u32 a[4])
{
	if (is_mapped(a))
		return (a[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !(a[0] | a[1] | a[2]) && a[3] == bpf_htonl(1);
}

/* The local address of `sk`; `v4` where its traffic is IPv4. */
static __always_inline void read_local(__u64 sk, bool v4, __u32 local[4])
{
	struct sock *it = as_sock(sk);

	if (v4)
		set_mapped(local, READ(HAS_CASTS, it, __sk_common.skc_rcv_saddr));
	else
		READ_ADDRESS6(HAS_CASTS, it, __sk_common.skc_v6_rcv_saddr, local);
}

/*
 * Whether the local address that `sk` shows is final: given to bind(). One
 * that a connect chose is lost again with connect(AF_UNSPEC).
 */
static __always_inline bool is_address_locked(__u64 sk)
{
	struct sock *it = as_sock(sk);

	return READ_BITS(HAS_CASTS, it, sk_userlocks) & SOCK_BINDADDR_LOCK;
}

/*
 * Whether the port is the socket's for good. One that the kernel chose is lost with
 * connect(AF_UNSPEC), and the next connect has another chosen (__udp_disconnect).
 */
static __always_inline bool is_port_locked(__u64 sk)
{
	struct sock *it = as_sock(sk);

	return READ_BITS(HAS_CASTS, it, sk_userlocks) & SOCK_BINDPORT_LOCK;
}

static __always_inline void read_local_if_final(__u64 sk, struct tg_tuple *tuple)
{
	if (is_address_locked(sk))
		read_local(sk, is_mapped(tuple->remote), tuple->local);
	else
		set_mapped(tuple->local, 0);
}

/* A local address, as an argument of a function that the verifier checks by itself. */
struct local {
	__u32 address[4];
};

/* How a tuple begins. */
static __always_inline const struct tg_group_key *key_of(const struct tg_tuple *tuple)
{
	return (const struct tg_group_key *)tuple;
}

/* Compared by halves, so that a probe read needs little of the stack. */
static __always_inline bool is_remote6(bool casts, struct sock *it, const __u32 remote[4])
{
	const __u64 *halves = (const __u64 *)&it->__sk_common.skc_v6_daddr;

	return READ_PLACE(casts, halves) == ((const __u64 *)remote)[0] &&
	       READ_PLACE(casts, halves + 1) == ((const __u64 *)remote)[1];
}

/* Whether `remote` is the destination of `it`. */
static __always_inline bool is_remote(bool casts, struct sock *it, const __u32 remote[4])
{
	if (READ(casts, it, __sk_common.skc_family) == AF_INET)
		return is_mapped(remote) && READ(casts, it, __sk_common.skc_daddr) == remote[3];
	/* The kernel keeps the mapped form here for IPv4 traffic. */
	return is_remote6(casts, it, remote);
}

/* Whether `it` has the ports and the destination of `key`, connected or not. */
static __always_inline bool has_names(bool casts, struct sock *it, const struct tg_group_key *key)
{
	return READ(casts, it, __sk_common.skc_num) == key->local_port &&
	       READ(casts, it, __sk_common.skc_dport) == bpf_htons(key->remote_port) &&
	       is_remote(casts, it, key->remote);
}

static __always_inline bool is_connected(bool casts, __u64 sk, const struct tg_group_key *key)
{
	struct sock *it = AT(casts, struct sock, sk);

	return READ(casts, it, __sk_common.skc_state) == TCP_ESTABLISHED &&
	       has_names(casts, it, key);
}

/* With a stack of its own, which probe reads need. */
__noinline int is_connected_by_probes(__u64 sk, const struct tg_group_key *key)
{
	return key && is_connected(false, sk, key);
}

/* Whether `sk` is connected with the ports and the destination of `key`. */
static __always_inline bool is_connected_to(__u64 sk, const struct tg_group_key *key)
{
	return HAS_CASTS ? is_connected(true, sk, key) : is_connected_by_probes(sk, key);
}

/* The tuple that `sk` holds, if it is connected. */
static __always_inline void read_tuple(__u64 sk, struct tg_tuple *tuple)
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
}

/*
 * The memory at `sk` may long be another socket's: UDP sockets are recycled
 * (SLAB_TYPESAFE_BY_RCU), but a cookie never is, so it is read first and last.
 */
static __always_inline bool is_socket(__u64 sk, __u64 cookie)
{
	struct sock *it = as_sock(sk);

	return READ(HAS_CASTS, it, __sk_common.skc_cookie.counter) == (__s64)cookie &&
	       READ(HAS_CASTS, it, __sk_common.skc_refcnt.refs.counter) != 0;
}

/* Whether a socket elsewhere holds a tuple. */
enum holding {
	GONE,	  /* the socket that was meant no longer exists */
	NOT_HELD, /* it is not connected, or with another tuple */
	WAITING,  /* nor is this one, but a connect may be on its way, however long that takes */
	HELD_NOW,
};

/* Whether threads wait for the lock of `sk` (__lock_sock). */
static __always_inline bool has_waiters(__u64 sk)
{
	__u64 head = sk + bpf_core_field_offset(struct sock, sk_lock.wq.head);

	return as_number(SOCK_FIELD(sk, sk_lock.wq.head.next)) != head;
}

/*
 * Whether a thread has the lock of `sk`, or waits for it. A connect that was allowed
 * takes it once more to happen (inet_autobind, ip4_datagram_connect); who has it in
 * sendto(MSG_MORE), from a page that comes late, keeps the connect waiting at will.
 */
static __always_inline bool is_locked(__u64 sk)
{
	return SOCK_FIELD(sk, sk_lock.owned) || has_waiters(sk);
}

/* Returns an enum holding; where it is held, also from which local address. */
__noinline int read_holding(__u64 sk, __u64 cookie, const struct tg_tuple *tuple, struct local *out)
{
	if (!tuple || !out || !is_socket(sk, cookie))
		return GONE;
	if (!is_connected(HAS_CASTS, sk, key_of(tuple)))
		return !is_socket(sk, cookie) ? GONE : is_locked(sk) ? WAITING : NOT_HELD;
	read_local(sk, is_mapped(tuple->remote), out->address);
	return is_socket(sk, cookie) ? HELD_NOW : GONE;
}

/*
 * Whether the route that connected socket `sk` uses leads to a broadcast
 * address. Only the kernel's routing knows a subnet's broadcast address.
 */
static __always_inline bool is_broadcast(__u64 sk)
{
	struct sock *it = as_sock(sk);
	__u64 route = (__u64)READ(HAS_CASTS, it, sk_dst_cache);

	if (READ(HAS_CASTS, it, __sk_common.skc_family) != AF_INET || !route)
		return false;
	return READ(HAS_CASTS, AT(HAS_CASTS, struct rtable, route), rt_flags) & RTCF_BROADCAST;
}

#endif
