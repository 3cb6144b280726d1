// SPDX-License-Identifier: Apache-2.0
// libbpf's public headers, as one Swift module.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
