/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The claim table: one claim per socket and tuple.
 *
 * Claims that differ only in the local address form a group. The first sits in
 * the group's own element; further ones, always with a final local address,
 * are in a map of their own, and the group's word counts them. A claim whose
 * local address is unknown (wildcard) must be alone, or stand beside sockets
 * that are seen to use another address. What arbitrates between processors:
 * insertion with BPF_NOEXIST, and compare-and-swap of a word that never
 * repeats. Nothing here waits.
 */
#ifndef TUPLEGUARD_CLAIMS_BPF_H
#define TUPLEGUARD_CLAIMS_BPF_H

#include "busy.bpf.h"
#include "rewritten.bpf.h"

/* Unique ids for words, a series for each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ids SEC(".maps");

enum verdict {
	UNDECIDED,
	GRANTED,
	RECLAIMED, /* the socket had this claim already */
	CONFLICT,
	EXEMPT,
	NO_ROOM,
	IMPOSSIBLE, /* no port can be chosen for this socket */
};

/* How far the search for a port has come: see discovery.bpf.h. */
struct discovery {
	__u32 address[4]; /* as the socket is bound now; IPv4 in the first word */
	__u64 reserved;	  /* address of the bitmap of reserved ports; 0: there is none */
	__u32 random;	  /* where to begin, and how far to go each time */
	__u32 steps;	  /* gone; some lead to no port that may be chosen */
	__u16 low, high;  /* the first and the last port to look at */
	__u16 lowest;	  /* the first that may be chosen */
	__u16 probes;
	__u16 doubts;
	__u16 failed_binds;
	__u8 passed;	     /* ports that others have, and that were passed by for that */
	bool courteous : 1;  /* leaves a part of the range to those who need a port alone */
	bool in_doubt : 1;   /* no port seems free: look at those that seem taken */
	bool found : 1;	     /* the next port to try is in the tuple */
	bool make_share : 1; /* the program has not set SO_REUSEADDR */
	bool alone : 1;	     /* nor is it set for it: the port must be nobody else's */
	__u8 slot;	     /* of the destination's bitmap (busy.bpf.h); or NO_SLOT, or DENIED */
};

/* A connect that wants a tuple, and what became of it. */
struct claimant {
	/* The 4-tuple, and the element to insert, overlap in the local address: stack is scarce. */
	union {
		struct tg_tuple tuple;
		struct {
			struct tg_group_key key;
			struct tg_group wanted; /* its claim is ours */
		};
	};
	union {
		struct tg_claim holder;	    /* of the tuple, when refused */
		struct discovery discovery; /* while a port is looked for, and no refusal matters */
	};
	struct tg_held held; /* where the claim came to be, and by which thread */
	__u16 taken_over;
	__u16 pruned;
	__u16 probes; /* ports that discovery looked at */
	__u8 verdict;
	__u8 reason;
	__u8 looked; /* what came of looking closer at a holder: STALE() or REWRITTEN() */
	bool is_discovering;
	bool is_discovered; /* claimed, and the socket bound to the port */
	__u8 room;	    /* enum room: how much of the table it may use */
	bool is_remembered; /* the socket's record has the tuple: see records.bpf.h */
};

#define RETRIES 32

static __always_inline __u64 new_id(void)
{
	__u64 cpu = bpf_get_smp_processor_id();
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&ids, &zero);

	if (!last) /* cannot happen: the map has one element */
		return 0;
	return (cpu << 34 | ((__sync_fetch_and_add(last, 1) + 1) & ((1ULL << 34) - 1)))
	       << TG_WORD_ID_SHIFT;
}

/* What there is to judge about a claim, without its owner. */
struct view {
	__u64 word;
	__u64 cookie;
	__u64 sock;
	__u64 time_ns;
	__u32 source[4];
};

static __always_inline void view_claim(struct view *seen, const struct tg_claim *claim)
{
	seen->cookie = claim->cookie;
	seen->sock = claim->sock;
	seen->time_ns = *(volatile __u64 *)&claim->time_ns;
}

/*
 * A view of the element that is consistent as of some moment: an element may
 * be deleted and used for another claim while it is read. Only one that can be
 * found is written completely, so it must still be found under its key after
 * its word was read, and the word be unchanged when all is read.
 */
static __always_inline struct tg_group *view_group(const struct tg_tuple *key, struct view *seen)
{
	struct tg_group *group = find_group(key_of(key));

	if (!group)
		return NULL;
	seen->word = READ_WORD(&group->word);
	barrier();
	if (find_group(key_of(key)) != group)
		return NULL;
	barrier();
	view_claim(seen, &group->claim);
	set_address(seen->source, group->source);
	barrier();
	return READ_WORD(&group->word) == seen->word ? group : NULL;
}

static __always_inline struct tg_further *view_further(const struct tg_tuple *key,
						       struct view *seen)
{
	struct tg_further *claim = bpf_map_lookup_elem(&claims_more, key);

	if (!claim)
		return NULL;
	seen->word = READ_WORD(&claim->word);
	barrier();
	if (bpf_map_lookup_elem(&claims_more, key) != claim)
		return NULL;
	barrier();
	view_claim(seen, &claim->claim);
	set_address(seen->source, key->local);
	barrier();
	return READ_WORD(&claim->word) == seen->word ? claim : NULL;
}

/* Takes the inline claim off; false when the word changed meanwhile. */
static __always_inline bool remove_inline(struct tg_group *group, __u64 word,
					  const struct tg_tuple *key)
{
	__u64 left = word & TG_WORD_FURTHER ? new_id() | (word & TG_WORD_FURTHER) : 0;

	if (!swap_word(&group->word, word, left))
		return false;
	if (!left)
		remove_group(key_of(key));
	clear_hints_of(key_of(key));
	return true;
}

static long count_down_once(__u32 round, const struct tg_group_key *key)
{
	struct tg_group *group = find_group(key);
	__u64 word;

	if (!group)
		return 1;
	word = READ_WORD(&group->word);
	if (!(word & TG_WORD_FURTHER))
		return 1;
	if (!swap_word(&group->word, word,
		       new_id() | (word & (TG_WORD_INLINE | TG_WORD_REFRESHED)) |
			   ((word & TG_WORD_FURTHER) - 1)))
		return 0;
	if (!(word & TG_WORD_INLINE) && (word & TG_WORD_FURTHER) == 1)
		remove_group(key);
	return 1;
}

/* One further claim less; an empty group goes. */
__noinline int count_down(const struct tg_tuple *tuple)
{
	struct tg_group_key key;

	if (!tuple)
		return 0;
	key = *key_of(tuple);
	/* Nobody else would ever do it: so many lost swaps in a row do not happen. */
	bpf_loop(1 << 16, count_down_once, &key, 0);
	clear_hints_of(&key);
	return 0;
}

/* Whoever took a further claim off has to count it down. */
static __always_inline bool take_off_further(struct tg_further *claim, __u64 word,
					     const struct tg_tuple *key)
{
	if (!swap_word(&claim->word, word, 0))
		return false;
	if (!bpf_map_delete_elem(&claims_more, key))
		count_elements(TG_USAGE_CLAIMS_MORE, -1ULL);
	return true;
}

static __always_inline bool remove_further(struct tg_further *claim, __u64 word,
					   const struct tg_tuple *key)
{
	if (!take_off_further(claim, word, key))
		return false;
	count_down(key);
	return true;
}

enum judgement {
	SHARE,
	REFUSE_HELD,
	REFUSE_IN_FLIGHT,
	REFUSE_REWRITTEN,
	DOUBTFUL,
	TAKE_OVER,
};

static __always_inline bool is_young(const struct claimant *me, __u64 time_ns)
{
	return (__s64)(me->wanted.claim.time_ns - time_ns) < (__s64)policy.grace_ns;
}

/* Two bits, and some of the cookie: one connect hardly ever meets two doubtful holders. */
#define STALE(cookie) ((__u8)((cookie) << 2 | 2))
#define REWRITTEN(cookie) ((__u8)((cookie) << 2 | 3))

/* What the claim of another socket means to us. */
static __always_inline enum judgement judge(const struct claimant *me, const struct tg_tuple *key,
					    const struct view *seen)
{
	bool seen_final = !is_zero(seen->source), my_final = !is_zero(key->local);
	struct local local = {};
	int holding;

	if (seen_final && my_final && !is_same(seen->source, key->local))
		return SHARE;
	holding = read_holding(seen->sock, seen->cookie, key, &local);
	if (holding == GONE)
		return TAKE_OVER;
	if (holding == WAITING || (holding == NOT_HELD && is_young(me, seen->time_ns)))
		return REFUSE_IN_FLIGHT;
	if (holding == NOT_HELD)
		return me->looked == REWRITTEN(seen->cookie) ? REFUSE_REWRITTEN
		       : me->looked == STALE(seen->cookie)   ? TAKE_OVER
							     : DOUBTFUL;
	if (seen_final || !my_final || is_zero(local.address) || is_same(local.address, key->local))
		return REFUSE_HELD;
	/*
	 * It is connected from another address. After a refresh that need not
	 * last: a thread that disconnects the socket lets the kernel choose
	 * anew in a connect that is under way.
	 */
	if ((seen->word & TG_WORD_REFRESHED) && is_young(me, seen->time_ns))
		return REFUSE_IN_FLIGHT;
	return SHARE;
}

/* What contend() found; its callers either end or go on from there. */
enum step {
	TRY_AGAIN,
	CLAIM_FURTHER, /* the claims there leave room, and count us in already */
	COUNT_DOWN,    /* a further claim was taken over: count it down, and try again */
	LOOK_CLOSER,   /* at a socket that is not where its claim is, and try again */
	SETTLED,       /* not 1: a returned 1 must be a constant that the verifier can see */
};

static __always_inline int settle(struct claimant *me, __u32 verdict)
{
	me->verdict = verdict;
	return SETTLED;
}

static __always_inline int refuse(struct claimant *me, const struct tg_claim *holder, __u32 reason)
{
	if (!me->is_discovering)
		me->holder = *holder;
	me->reason = reason;
	return settle(me, CONFLICT);
}

/* The inline claim is ours already: renew it, so that it stays ours for this connect too. */
static __always_inline int reclaim(struct claimant *me, const struct tg_tuple *key,
				   struct tg_group *group, const struct view *seen)
{
	bool seen_final = !is_zero(seen->source), my_final = !is_zero(key->local);

	/* Others were let in beside the address that we had. */
	if (seen_final != my_final || (!my_final && (seen->word & TG_WORD_FURTHER)))
		return refuse(me, &group->claim, TG_REASON_AMBIGUOUS);
	*(volatile __u64 *)&group->claim.time_ns = me->wanted.claim.time_ns;
	if (!swap_word(&group->word, seen->word,
		       new_id() | TG_WORD_INLINE | TG_WORD_REFRESHED |
			   (seen->word & TG_WORD_FURTHER)))
		return TRY_AGAIN;
	return settle(me, RECLAIMED);
}

/* The inline claim is another socket's. */
static __always_inline int contend_inline(struct claimant *me, const struct tg_tuple *key,
					  struct tg_group *group, const struct view *seen)
{
	switch (judge(me, key, seen)) {
	case REFUSE_HELD:
		/* Still connected afterwards, or the route may have been another's. */
		if (is_broadcast(seen->sock) && is_connected_to(seen->sock, key_of(key)))
			return settle(me, EXEMPT);
		return refuse(me, &group->claim, TG_REASON_HELD);
	case REFUSE_IN_FLIGHT:
		return refuse(me, &group->claim, TG_REASON_IN_FLIGHT);
	case REFUSE_REWRITTEN:
		return refuse(me, &group->claim, TG_REASON_REWRITTEN);
	case DOUBTFUL:
		me->wanted.word = seen->sock; /* free until the next try */
		return LOOK_CLOSER;
	case TAKE_OVER:
		if (remove_inline(group, seen->word, key))
			me->taken_over++;
		return TRY_AGAIN;
	default:
		return CLAIM_FURTHER;
	}
}

/* A further claim of our whole tuple exists. */
static __always_inline int contend_further(struct claimant *me, const struct tg_tuple *key,
					   struct view *seen)
{
	struct tg_further *claim = view_further(key, seen);

	if (!claim || !seen->word)
		return TRY_AGAIN;
	if (seen->cookie == me->wanted.claim.cookie) {
		*(volatile __u64 *)&claim->claim.time_ns = me->wanted.claim.time_ns;
		return swap_word(&claim->word, seen->word, new_id()) ? settle(me, RECLAIMED)
								     : TRY_AGAIN;
	}
	switch (judge(me, key, seen)) {
	case REFUSE_HELD:
		return refuse(me, &claim->claim, TG_REASON_HELD);
	case REFUSE_IN_FLIGHT:
		return refuse(me, &claim->claim, TG_REASON_IN_FLIGHT);
	case REFUSE_REWRITTEN:
		return refuse(me, &claim->claim, TG_REASON_REWRITTEN);
	case DOUBTFUL:
		me->wanted.word = seen->sock; /* free until the next try */
		return LOOK_CLOSER;
	default:
		if (!take_off_further(claim, seen->word, key))
			return TRY_AGAIN;
		me->taken_over++;
		return COUNT_DOWN;
	}
}

/* The group exists: are its claims ours, in our way, stale, or compatible? */
__noinline int contend(struct claimant *me)
{
	struct tg_tuple key;
	struct tg_group *group;
	struct view seen;
	__u64 word;
	int step;

	if (!me)
		return TRY_AGAIN;
	key = me->tuple;
	group = view_group(&key, &seen);
	if (!group || !(seen.word & (TG_WORD_INLINE | TG_WORD_FURTHER)))
		return TRY_AGAIN;
	word = seen.word;
	if (word & TG_WORD_INLINE) {
		if (seen.cookie == me->wanted.claim.cookie)
			return reclaim(me, &key, group, &seen);
		step = contend_inline(me, &key, group, &seen);
		if (step != CLAIM_FURTHER)
			return step;
	}
	/* Only further claims are left, and which addresses they name can't be listed. */
	if (is_zero(key.local)) {
		me->reason = TG_REASON_AMBIGUOUS;
		return settle(me, CONFLICT);
	}
	if (bpf_map_lookup_elem(&claims_more, &key))
		return contend_further(me, &key, &seen);
	if ((word & TG_WORD_FURTHER) == TG_WORD_FURTHER)
		return settle(me, NO_ROOM);
	/* The swap proves that the inline claim that we judged is still the one. */
	if (!swap_word(&group->word, word, new_id() | ((word & ~(~0ULL << TG_WORD_ID_SHIFT)) + 1)))
		return TRY_AGAIN;
	return CLAIM_FURTHER;
}

/*
 * Whether the socket has no claim of where it is, or its claim here is a stale
 * one. Not in contend(): together they would take more stack than there is.
 */
__noinline int look_closer(struct claimant *me)
{
	__u64 sk, cookie;

	if (!me)
		return 0;
	sk = me->wanted.word;
	cookie = SOCK_FIELD(sk, __sk_common.skc_cookie.counter);
	me->looked = is_rewritten(sk, cookie, &me->tuple) ? REWRITTEN(cookie) : STALE(cookie);
	return 0;
}

/* An int: before 6.4 maps answered one, and the helper's upper half was left to chance. */
static __always_inline bool is_no_room(int error)
{
	return error == -E2BIG || error == -ENOMEM;
}

/* As insert_group(), with a stack of its own. */
static __noinline int insert(struct claimant *me)
{
	me->wanted.word = new_id() | TG_WORD_INLINE;
	return insert_group(&me->key, &me->wanted, &me->held, me->room);
}

/* Settled unless another processor came in between: then it is to be tried again. */
static __always_inline void try_claim(struct claimant *me)
{
	int error, step;

	me->verdict = UNDECIDED;
	error = insert(me);
	if (!error) {
		me->verdict = GRANTED;
		return;
	}
	if (is_no_room(error)) {
		me->verdict = NO_ROOM;
		return;
	}
	step = contend(me);
	if (step == COUNT_DOWN)
		count_down(&me->tuple);
	if (step == LOOK_CLOSER)
		look_closer(me);
	if (step != CLAIM_FURTHER)
		return;
	/* struct tg_further is what struct tg_group ends with. */
	if (has_room(TG_USAGE_CLAIMS_MORE, me->room))
		error =
		    bpf_map_update_elem(&claims_more, &me->tuple, &me->wanted.word, BPF_NOEXIST);
	else
		error = -ENOMEM;
	if (!error) {
		count_elements(TG_USAGE_CLAIMS_MORE, 1);
		me->verdict = GRANTED;
		return;
	}
	count_down(&me->tuple);
	if (is_no_room(error))
		me->verdict = NO_ROOM;
}

static long claim_once(__u32 round, struct claimant *me)
{
	try_claim(me);
	return me->verdict != UNDECIDED ? 1 : 0;
}

/* Where there is something to settle with others. */
static __always_inline void claim_by_rounds(struct claimant *me)
{
	bpf_loop(RETRIES, claim_once, me, 0);
	if (me->verdict == UNDECIDED) {
		me->verdict = CONFLICT;
		me->reason = TG_REASON_BUSY;
	}
}

/* Claims me->tuple for me->wanted.claim; the answer is in me->verdict. */
static __always_inline void claim(struct claimant *me)
{
	me->wanted.word = new_id() | TG_WORD_INLINE;
	if (insert_into_bucket(&me->key, &me->wanted, &me->held))
		me->verdict = GRANTED;
	else
		claim_by_rounds(me);
}

/* A claim of one's own to give up, or to claim anew. */
struct change {
	struct tg_tuple tuple;
	__u64 cookie;
	__u64 before_ns; /* give it up only if claimed before this; 0: in any case */
	__u64 renew_ns;	 /* not 0: keep it, as claimed at this time */
	bool gone;
};

static __always_inline bool is_kept(const struct change *change, const struct tg_claim *claim)
{
	__u64 time_ns = *(volatile __u64 *)&claim->time_ns;

	return change->before_ns && (__s64)(time_ns - change->before_ns) >= 0;
}

static __always_inline bool change_inline(struct change *change, struct tg_group *group, __u64 word)
{
	if (change->renew_ns) {
		*(volatile __u64 *)&group->claim.time_ns = change->renew_ns;
		return swap_word(&group->word, word,
				 new_id() | (word & ~(~0ULL << TG_WORD_ID_SHIFT)));
	}
	if (is_kept(change, &group->claim))
		return true;
	change->gone = remove_inline(group, word, &change->tuple);
	return change->gone;
}

static __always_inline bool change_further(struct change *change, struct tg_further *claim,
					   __u64 word)
{
	if (change->renew_ns) {
		*(volatile __u64 *)&claim->claim.time_ns = change->renew_ns;
		return swap_word(&claim->word, word, new_id());
	}
	if (is_kept(change, &claim->claim))
		return true;
	change->gone = remove_further(claim, word, &change->tuple);
	return change->gone;
}

/* Swapping the word makes sure that it is still the cookie's claim which changes. */
static long change_once(__u32 round, struct change *change)
{
	struct tg_group *group = find_group(key_of(&change->tuple));
	struct tg_further *claim;
	__u64 word;

	if (!group)
		goto gone;
	word = READ_WORD(&group->word);
	barrier();
	if ((word & TG_WORD_INLINE) && group->claim.cookie == change->cookie)
		return change_inline(change, group, word);
	claim = bpf_map_lookup_elem(&claims_more, &change->tuple);
	if (!claim)
		goto gone;
	word = READ_WORD(&claim->word);
	barrier();
	if (word && claim->claim.cookie == change->cookie)
		return change_further(change, claim, word);
gone:
	change->gone = true;
	return 1;
}

__noinline int change_claim(const struct tg_tuple *tuple, __u64 cookie, __u64 before_ns,
			    __u64 renew_ns)
{
	struct change change = {.cookie = cookie, .before_ns = before_ns, .renew_ns = renew_ns};

	if (!tuple)
		return true;
	change.tuple = *tuple;
	bpf_loop(RETRIES, change_once, &change, 0);
	return change.gone;
}

/* Gives the claim up, if it is older than asked for; true when there is none any more. */
static __always_inline bool drop_claim(const struct tg_tuple *tuple, __u64 cookie, __u64 before_ns)
{
	return change_claim(tuple, cookie, before_ns, 0);
}

static __always_inline void renew_claim(const struct tg_tuple *tuple, __u64 cookie, __u64 now_ns)
{
	change_claim(tuple, cookie, 0, now_ns);
}

#endif
