/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few kernel types that the guard looks into, with only the members that
 * it reads. Offsets are resolved against the running kernel's BTF when the
 * programs are loaded, so the order here means nothing.
 */
#ifndef TUPLEGUARD_KERNEL_BPF_H
#define TUPLEGUARD_KERNEL_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

/* What a program of a cgroup says to a connect. */
enum answer {
	REJECT = 0,
	ALLOW = 1,
	UNANSWERED,
};

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define SOCK_BINDADDR_LOCK 4
#define SOCK_BINDPORT_LOCK 8
#define TCP_ESTABLISHED 1 /* include/net/tcp_states.h: also a connected UDP socket */
#define TCP_SYN_SENT 2
#define TCP_FIN_WAIT2 5
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7 /* also a UDP socket that is not connected */
#define TCP_LISTEN 10
#define IFF_UP 1
#define RTCF_BROADCAST 0x10000000
#define INET_FLAGS_BIND_ADDRESS_NO_PORT 18 /* include/net/inet_sock.h, an enum without a name */
#define EPERM 1
#define E2BIG 7
#define ENOMEM 12
#define EACCES 13
#define EEXIST 17
#define EADDRINUSE 98
#define EADDRNOTAVAIL 99
#define SOL_SOCKET 1
#define SO_REUSEADDR 2

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct refcount_struct {
	struct {
		int counter;
	} refs;
};

struct local_ports {
	__u32 range; /* since 6.8: the last port in the upper half, the first in the lower */
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct udp_hslot {
	struct hlist_head head;
};

/* UDP sockets by local port, those of all ports that are equal in the lower bits together. */
struct udp_table {
	struct udp_hslot *hash;
	unsigned int mask;
};

struct list_head {
	struct list_head *next;
};

struct in_ifaddr {
	struct in_ifaddr *ifa_next;
	__be32 ifa_address, ifa_mask, ifa_broadcast;
};

struct in_device {
	struct in_ifaddr *ifa_list;
};

struct net_device {
	struct list_head dev_list; /* of the namespace's devices */
	unsigned int flags;
	struct in_device *ip_ptr;
};

enum sock_flags {
	SOCK_BROADCAST,
};

struct netns_ipv4 {
	struct local_ports ip_local_ports;
	struct udp_table *udp_table;		    /* since 6.2 */
	unsigned long *sysctl_local_reserved_ports; /* a bit for each port */
	__u8 sysctl_tcp_tw_reuse;
	unsigned int sysctl_tcp_tw_reuse_delay; /* since 6.14, in milliseconds */
};

struct net {
	__u64 net_cookie;
	__u32 hash_mix;
	struct list_head dev_base_head;
	struct netns_ipv4 ipv4;
};

/* Before 6.8 */
struct net___array {
	struct {
		struct {
			int range[2];
		} ip_local_ports;
	} ipv4;
};

typedef struct {
	__s64 counter;
} atomic64_t;

typedef struct {
	struct net *net;
} possible_net_t;

struct proto {
	struct {
		struct udp_table *udp_table;
	} h; /* a union */
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	unsigned char skc_reuse : 4;
	unsigned char skc_reuseport : 1;
	int skc_bound_dev_if;
	struct hlist_node skc_node; /* among those of the port */
	struct proto *skc_prot;
	unsigned long skc_flags;
	possible_net_t skc_net;
	struct {
		__u32 in6_u[4];
	} skc_v6_daddr, skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	struct refcount_struct skc_refcnt;
};

struct dst_entry;

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[1]; /* as many as `level`, and itself */
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct wait_queue_head {
	struct list_head head;
};

struct sock {
	struct sock_common __sk_common;
	struct {
		int owned;
		struct wait_queue_head wq;
	} sk_lock;
	struct dst_entry *sk_dst_cache;
	struct socket *sk_socket;
	__u16 sk_protocol;
	__u8 sk_userlocks : 4;
	struct {
		__u32 val;
	} sk_uid;
	struct sock_cgroup_data sk_cgrp_data;
};

struct inet_sock {
	unsigned long inet_flags;
	__u32 local_port_range; /* IP_LOCAL_PORT_RANGE, as struct local_ports has it */
};

/* Before 6.6 */
struct inet_sock___bits {
	__u8 bind_address_no_port : 1;
};

/* Before 6.8, where there is one */
struct inet_sock___pair {
	struct {
		__u16 lo, hi;
	} local_port_range;
};

struct inet_timewait_sock {
	unsigned char tw_substate;
	__u32 tw_entry_stamp; /* in milliseconds since 6.14 */
};

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
	int tw_ts_recent_stamp; /* in seconds; 0: without timestamps */
};

struct rtable {
	unsigned int rt_flags;
};

struct socket {
	struct sock *sk;
};

struct file;

struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	struct css_set *cgroups;
	struct nsproxy *nsproxy;
};

struct udp_sock;
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
	unsigned int uid;
	int bucket;
};

struct bpf_map;

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#endif
