// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What a service load balancer does to connect(): 10.96.0.0/16 and fd96::/16
 * are services, and every one of them is served at loopback, port 7800. The
 * tests put it before and after the guard.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { ALLOW = 1 };

#define BACKEND_PORT bpf_htons(7800)

SEC("cgroup/connect4")
int rewrite4(struct bpf_sock_addr *ctx)
{
	if ((ctx->user_ip4 & bpf_htonl(0xffff0000)) != bpf_htonl(0x0a600000))
		return ALLOW;
	ctx->user_ip4 = bpf_htonl(0x7f000001);
	ctx->user_port = BACKEND_PORT;
	return ALLOW;
}

SEC("cgroup/connect6")
int rewrite6(struct bpf_sock_addr *ctx)
{
	if ((ctx->user_ip6[0] & bpf_htonl(0xffff0000)) != bpf_htonl(0xfd960000))
		return ALLOW;
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = 0;
	ctx->user_ip6[3] = bpf_htonl(1);
	ctx->user_port = BACKEND_PORT;
	return ALLOW;
}
