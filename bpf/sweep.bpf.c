// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The sweep: the end of claims and records whose socket left without a release
 * hook, because it was outside the guarded cgroups or the kernel missed it.
 *
 * An iterator for each map. Each writes one byte for each element, so that no
 * read() of it goes over more elements than the reader has room for bytes, and
 * no processor is held for longer than that takes. Iterators may delete: a
 * hash map's is in an RCU section only while it runs, and holds no lock.
 */
#include "records.bpf.h"
#include "sides.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int tell(struct bpf_iter_meta *meta, __u8 swept)
{
	bpf_seq_write(meta->seq, &swept, sizeof(swept));
	return 0;
}

/* What stands behind a claim that is seen now: TG_SWEPT_DROPPED if nobody does. */
static __always_inline enum tg_swept judge_claim(const struct view *seen,
						 const struct tg_tuple *tuple)
{
	struct local local = {};
	int holding = read_holding(seen->sock, seen->cookie, tuple, &local);

	/* Seeding lets those who are there come beside it again, and so renews it. */
	if ((seen->word & TG_WORD_SHARED) &&
	    (__s64)(last_seeding() - seen->time_ns) <= (__s64)policy.grace_ns)
		return TG_SWEPT_CLAIM;
	if (holding == GONE)
		return TG_SWEPT_DROPPED;
	if (holding != NOT_HELD ||
	    (__s64)(bpf_ktime_get_ns() - seen->time_ns) <= (__s64)policy.grace_ns)
		return TG_SWEPT_CLAIM;
	return is_rewritten(seen->sock, seen->cookie, tuple) ? TG_SWEPT_REWRITTEN
							     : TG_SWEPT_DROPPED;
}

/* Returns an enum tg_swept. */
static __noinline int sweep_inline(const struct tg_group_key *key)
{
	struct tg_tuple tuple = {};
	struct tg_group *group;
	enum tg_swept swept;
	struct view seen;

	*(struct tg_group_key *)&tuple = *key;
	group = view_group(&tuple, &seen);
	if (!group || !(seen.word & TG_WORD_INLINE))
		return TG_SWEPT_NOTHING;
	swept = judge_claim(&seen, &tuple);
	if (swept == TG_SWEPT_DROPPED && !remove_inline(group, seen.word, &tuple))
		return TG_SWEPT_CLAIM;
	return swept;
}

SEC("iter/bpf_map_elem")
int sweep_buckets(struct bpf_iter__bpf_map_elem *ctx)
{
	struct tg_bucket *bucket = ctx->value;
	struct tg_group_key key;

	if (!bucket)
		return 0;
	if ((READ_WORD(&bucket->control) & TG_BUCKET_STATE) != TG_BUCKET_USED)
		return tell(ctx->meta, TG_SWEPT_NOTHING);
	key = bucket->key;
	return tell(ctx->meta, sweep_inline(&key));
}

SEC("iter/bpf_map_elem")
int sweep_groups(struct bpf_iter__bpf_map_elem *ctx)
{
	struct tg_group_key *current = ctx->key, key;

	if (!current)
		return 0;
	key = *current;
	return tell(ctx->meta, sweep_inline(&key));
}

SEC("iter/bpf_map_elem")
int sweep_claims_more(struct bpf_iter__bpf_map_elem *ctx)
{
	struct tg_tuple *current = ctx->key, tuple;
	struct tg_further *claim;
	enum tg_swept swept;
	struct view seen;

	if (!current)
		return 0;
	tuple = *current;
	claim = view_further(&tuple, &seen);
	barrier_var(claim); /* or the verifier loses sight of what is known of it */
	if (!claim || !seen.word)
		return tell(ctx->meta, TG_SWEPT_NOTHING);
	swept = judge_claim(&seen, &tuple);
	if (swept == TG_SWEPT_DROPPED && !remove_further(claim, seen.word, &tuple))
		swept = TG_SWEPT_CLAIM;
	return tell(ctx->meta, swept);
}

/* Gives back all of a socket that is gone. Returns an enum tg_swept. */
static __noinline int sweep_record(__u64 cookie, __u64 sk)
{
	struct tg_socket_record *home = find_home(cookie);

	if (is_socket(sk, cookie))
		return is_outside(sk) ? TG_SWEPT_OUTSIDER : TG_SWEPT_NOTHING;
	if (!home) /* cannot happen: the index is masked */
		return TG_SWEPT_NOTHING;
	give_back_gone(home, cookie);
	return TG_SWEPT_RECORD;
}

SEC("iter/bpf_map_elem")
int sweep_socket_records(struct bpf_iter__bpf_map_elem *ctx)
{
	struct tg_socket_record *record = ctx->value;
	__u64 cookie;

	if (!record)
		return 0;
	/* Before its socket: whoever takes an element writes the cookie last (remember_first). */
	cookie = READ_WORD(&record->cookie);
	barrier();
	if (!cookie || cookie == COOKIE_RESERVED)
		return tell(ctx->meta, TG_SWEPT_NOTHING);
	return tell(ctx->meta, sweep_record(cookie, READ_WORD(&record->sock)));
}

SEC("iter/bpf_map_elem")
int sweep_socket_records_more(struct bpf_iter__bpf_map_elem *ctx)
{
	struct tg_record_key *key = ctx->key;
	struct tg_record_more *more = ctx->value;

	if (!key || !more)
		return 0;
	/* Tuples go with the record that they belong to. */
	if (key->index != 0)
		return tell(ctx->meta, TG_SWEPT_NOTHING);
	return tell(ctx->meta, sweep_record(key->cookie, more->record.sock));
}
