// SPDX-License-Identifier: Apache-2.0
/*
 * The rewriting program, written down instruction by instruction: that needs
 * neither a compiler for BPF nor a library, and it is short.
 */
#include "rewriter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* 198.18.77.0/24, of the network that is set aside for benchmarks of devices. */
#define SERVICES 0xc6124d00u

struct address service_address(unsigned number)
{
	char text[ADDRESS_TEXT_LENGTH];

	snprintf(text, sizeof(text), "198.18.77.%u", number + 1);
	return address_of(text);
}

static long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

/* if ((ctx->user_ip4 & 255.255.255.0) == SERVICES) ctx->user_ip4 = 127.0.0.1; return 1; */
static int load_program(void)
{
	enum { CTX = BPF_REG_1, IP = BPF_REG_2 };
	const short user_ip4 = offsetof(struct bpf_sock_addr, user_ip4);
	const struct bpf_insn program[] = {
	    {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = IP, .src_reg = CTX, .off = user_ip4},
	    {.code = BPF_ALU | BPF_AND | BPF_K, .dst_reg = IP, .imm = (int)htonl(0xffffff00)},
	    {.code = BPF_JMP32 | BPF_JNE | BPF_K,
	     .dst_reg = IP,
	     .off = 2,
	     .imm = (int)htonl(SERVICES)},
	    {.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = IP, .imm = (int)htonl(0x7f000001)},
	    {.code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = CTX, .src_reg = IP, .off = user_ip4},
	    {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
	    {.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attributes = {
	    .prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
	    .expected_attach_type = BPF_CGROUP_INET4_CONNECT,
	    .insn_cnt = sizeof(program) / sizeof(program[0]),
	    .insns = (uintptr_t)program,
	    .license = (uintptr_t) "Apache-2.0",
	    .prog_name = "stress_rewriter",
	};
	long fd = bpf(BPF_PROG_LOAD, &attributes);

	if (fd < 0)
		fail(EXIT_CANNOT_RUN, "cannot load the rewriting program: %s", strerror(errno));
	return (int)fd;
}

void attach_rewriter(const char *folder)
{
	int cgroup = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	union bpf_attr attributes = {0};

	if (cgroup < 0)
		fail(EXIT_CANNOT_RUN, "cannot open the cgroup %s: %s", folder, strerror(errno));
	attributes.link_create.prog_fd = (uint32_t)load_program();
	attributes.link_create.target_fd = (uint32_t)cgroup;
	attributes.link_create.attach_type = BPF_CGROUP_INET4_CONNECT;
	/* The link is this process's: it goes with it. */
	if (bpf(BPF_LINK_CREATE, &attributes) < 0)
		fail(EXIT_CANNOT_RUN, "cannot attach the rewriting program to %s: %s", folder,
		     strerror(errno));
	close(cgroup);
}
