/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading a `struct sock` anywhere in memory: by plain loads since Linux 6.2,
 * a few nanoseconds for several fields, and by bpf_probe_read_kernel before,
 * which costs a call for each. Which of the two is settled when the programs
 * are loaded, and the verifier removes the other. Either answers zero where
 * there is no memory any more.
 */
#ifndef TUPLEGUARD_LOADS_BPF_H
#define TUPLEGUARD_LOADS_BPF_H

#include "kernel.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* Gives a number a type, and costs nothing. Weak: a call that is not reached may lack it. */
extern void *bpf_rdonly_cast(const void *address, __u32 type) __ksym __weak;

/* A helper that came with bpf_rdonly_cast, and of which the kernel's BTF tells. */
enum bpf_func_id___since_6_2 {
	BPF_FUNC_cgrp_storage_get___since_6_2 = 1,
};

#define HAS_CASTS                                                                                  \
	bpf_core_enum_value_exists(enum bpf_func_id___since_6_2,                                   \
				   BPF_FUNC_cgrp_storage_get___since_6_2)

/* The address of `sk` as a plain number, which may be kept and read through. */
static __always_inline __u64 as_number(void *sk)
{
	__u64 number = (__u64)sk;

	/* To the verifier the negative of a pointer is a number. */
	asm volatile("%0 = -%0; %0 = -%0" : "+r"(number));
	return number;
}

/* Something of the kernel's, to be read with READ(); `casts` is HAS_CASTS, or false. */
#define AT(casts, type, number)                                                                    \
	((casts) ? (type *)bpf_rdonly_cast((void *)(number), bpf_core_type_id_kernel(type))        \
		 : (type *)(number))

#define READ(casts, pointer, field)                                                                \
	({                                                                                         \
		typeof((pointer)->field) value_;                                                   \
		if (casts)                                                                         \
			value_ = (pointer)->field;                                                 \
		else                                                                               \
			bpf_core_read(&value_, sizeof(value_), &(pointer)->field);                 \
		value_;                                                                            \
	})

#define READ_PLACE(casts, pointer)                                                                 \
	({                                                                                         \
		typeof(*(pointer) + 0) value_;                                                     \
		if (casts)                                                                         \
			value_ = *(pointer);                                                       \
		else                                                                               \
			bpf_probe_read_kernel(&value_, sizeof(value_), pointer);                   \
		value_;                                                                            \
	})

#define READ_BITS(casts, pointer, field)                                                           \
	((casts) ? BPF_CORE_READ_BITFIELD(pointer, field)                                          \
		 : BPF_CORE_READ_BITFIELD_PROBED(pointer, field))

#define READ_ADDRESS6(casts, pointer, field, to)                                                   \
	do {                                                                                       \
		const __u32 *words_ = (const __u32 *)&(pointer)->field;                            \
		if (casts)                                                                         \
			set_address(to, words_);                                                   \
		else                                                                               \
			bpf_probe_read_kernel(to, 16, words_);                                     \
	} while (0)

static __always_inline struct sock *as_sock(__u64 number)
{
	return AT(HAS_CASTS, struct sock, number);
}

#define SOCK_FIELD(sk, field)                                                                      \
	({                                                                                         \
		__u64 address_ = (sk); /* outside of what is relocated */                          \
		READ(HAS_CASTS, as_sock(address_), field);                                         \
	})

#endif
