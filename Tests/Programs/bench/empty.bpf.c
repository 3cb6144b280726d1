// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Programs that do nothing: what the kernel itself takes for calling any. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

enum { ALLOW = 1 };

SEC("cgroup/connect4")
int empty_connect4(struct bpf_sock_addr *ctx)
{
	(void)ctx;
	return ALLOW;
}

SEC("cgroup/connect6")
int empty_connect6(struct bpf_sock_addr *ctx)
{
	(void)ctx;
	return ALLOW;
}

SEC("cgroup/sock_release")
int empty_release(struct bpf_sock *ctx)
{
	(void)ctx;
	return ALLOW;
}
