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

#include "beside.bpf.h"
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
	BESIDE,	   /* an outsider was let come beside another's claim */
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
	__u8 looked; /* enum looked, for a holder's cookie: see LOOKED() */
	bool is_discovering;
	bool is_discovered; /* claimed, and the socket bound to the port */
	__u8 room;	    /* enum room: how much of the table it may use */
	bool is_remembered; /* the socket's record has the tuple: see records.bpf.h */
	bool is_outsider;   /* of all guarded cgroups */
	__u8 wish;	    /* of the guard that an outsider met: enum tg_outsiders */
	__u8 wished_error;  /* its errno */
};

#define RETRIES 32

static __always_inline __u64 new_id(void)
{
	__u64 cpu = bpf_get_smp_processor_id();
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&ids, &zero);

	if (!last) /* cannot happen: the map has one element */
		return 0;
	return (cpu << 33 | ((__sync_fetch_and_add(last, 1) + 1) & ((1ULL << 33) - 1)))
	       << TG_WORD_ID_SHIFT;
}

/* The same word with a new id. */
static __always_inline __u64 renewed(__u64 word)
{
	return new_id() | (word & ((1ULL << TG_WORD_ID_SHIFT) - 1));
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
	if (!swap_word(&group->word, word, renewed(word) - 1)) /* of the further ones */
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
	REFUSE_AMBIGUOUS,
	DOUBTFUL,
	SHARED,
	TAKE_OVER,
};

static __always_inline bool is_young(const struct claimant *me, __u64 time_ns)
{
	return (__s64)(me->wanted.claim.time_ns - time_ns) < (__s64)policy.grace_ns;
}

/* What came of looking closer. */
enum looked {
	NOT_LOOKED,
	STALE,	    /* at the holder: its claim is one that it does not need */
	REWRITTEN,  /* its destination was rewritten after the guard */
	UNCLEAR,    /* at those beside it: there are too many */
	NEIGHBOURS, /* some have tuples that differ in the local address alone */
	NOBODY,
};

/* With some of the cookie: one connect hardly ever meets two doubtful holders. */
#define LOOKED(what, cookie) ((__u8)((cookie) << 3 | (what)))

static __always_inline enum looked looked_at(const struct claimant *me, __u64 cookie)
{
	__u8 what = me->looked & 7;

	return me->looked == LOOKED(what, cookie) ? what : NOT_LOOKED;
}

/*
 * A claim that sockets outside came beside, and whose owner is not in our way:
 * `otherwise` says what becomes of it if none of those is.
 */
static __always_inline enum judgement
judge_shared(const struct claimant *me, const struct view *seen, enum judgement otherwise)
{
	if (!(seen->word & TG_WORD_SHARED))
		return otherwise;
	if (me->is_outsider) /* which then comes beside as well, or has a claim beside it */
		return otherwise == SHARE ? SHARE : REFUSE_HELD;
	/* Who came beside may be on its way. Ports that are so to be found out about are left. */
	if (is_young(me, seen->time_ns) || me->is_discovering)
		return REFUSE_IN_FLIGHT;
	switch (looked_at(me, seen->cookie)) {
	case UNCLEAR:
		return REFUSE_AMBIGUOUS;
	case NEIGHBOURS:
		/* One claim stands for all who came beside it, whatever address they have. */
		return otherwise == SHARE ? SHARE : REFUSE_AMBIGUOUS;
	case NOBODY:
		return otherwise;
	default:
		return SHARED;
	}
}

/* What the claim of another socket means to us. */
static __always_inline enum judgement judge(const struct claimant *me, const struct tg_tuple *key,
					    const struct view *seen)
{
	bool seen_final = !is_zero(seen->source), my_final = !is_zero(key->local);
	struct local local = {};
	int holding;

	if (seen_final && my_final && !is_same(seen->source, key->local))
		return judge_shared(me, seen, SHARE);
	holding = read_holding(seen->sock, seen->cookie, key, &local);
	if (holding == GONE)
		return judge_shared(me, seen, TAKE_OVER);
	if (holding == WAITING || (holding == NOT_HELD && is_young(me, seen->time_ns)))
		return REFUSE_IN_FLIGHT;
	if (holding == NOT_HELD)
		return looked_at(me, seen->cookie) == NOT_LOOKED ? DOUBTFUL
		       : looked_at(me, seen->cookie) == REWRITTEN
			   ? REFUSE_REWRITTEN
			   : judge_shared(me, seen, TAKE_OVER);
	if (seen_final || !my_final || is_zero(local.address) || is_same(local.address, key->local))
		return REFUSE_HELD;
	/*
	 * It is connected from another address. After a refresh that need not
	 * last: a thread that disconnects the socket lets the kernel choose
	 * anew in a connect that is under way.
	 */
	if ((seen->word & TG_WORD_REFRESHED) && is_young(me, seen->time_ns))
		return REFUSE_IN_FLIGHT;
	return judge_shared(me, seen, SHARE);
}

/* What contend() found; its callers either end or go on from there. */
enum step {
	TRY_AGAIN,
	CLAIM_FURTHER, /* the claims there leave room, and count us in already */
	COUNT_DOWN,    /* a further claim was taken over: count it down, and try again */
	LOOK_CLOSER,   /* at a socket that is not where its claim is, and try again */
	LOOK_BESIDE,   /* at those that came beside it, and try again */
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
	if (!swap_word(&group->word, seen->word, renewed(seen->word) | TG_WORD_REFRESHED))
		return TRY_AGAIN;
	return settle(me, RECLAIMED);
}

/* What looking needs to know, in a word that is free until the next try. */
static __always_inline int look(struct claimant *me, const struct view *seen, enum step where)
{
	me->wanted.word = where == LOOK_CLOSER ? seen->sock : seen->cookie;
	return where;
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
	case REFUSE_AMBIGUOUS:
		return refuse(me, &group->claim, TG_REASON_AMBIGUOUS);
	case DOUBTFUL:
		return look(me, seen, LOOK_CLOSER);
	case SHARED:
		return look(me, seen, LOOK_BESIDE);
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
		return swap_word(&claim->word, seen->word, renewed(seen->word))
			   ? settle(me, RECLAIMED)
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
		return look(me, seen, LOOK_CLOSER);
	case SHARED:
		return look(me, seen, LOOK_BESIDE);
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
	if (!swap_word(&group->word, word, renewed(word) + 1))
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
	me->looked = LOOKED(is_rewritten(sk, cookie, &me->tuple) ? REWRITTEN : STALE, cookie);
	return 0;
}

/*
 * Whether any socket has the tuple beside the one that claimed it. Who comes
 * beside meanwhile renews the claim's time first.
 */
__noinline int look_beside(struct claimant *me)
{
	struct walk walk = {};
	enum looked what = UNCLEAR;

	if (!me)
		return 0;
	if (walk_chain(me->wanted.claim.sock, &me->tuple, &walk))
		what = walk.has_neighbour ? NEIGHBOURS : NOBODY;
	me->looked = LOOKED(what, me->wanted.word);
	if (!walk.holder)
		return 0;
	__builtin_memset(&me->holder, 0, sizeof(me->holder)); /* who made it claim is not known */
	me->holder.sock = walk.holder;
	me->holder.cookie = SOCK_FIELD(walk.holder, __sk_common.skc_cookie.counter);
	me->reason = TG_REASON_HELD;
	return settle(me, CONFLICT);
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
	if (step == LOOK_BESIDE)
		look_beside(me);
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

/* Where there is nothing to settle, as is nearly always so. */
static __always_inline bool claim_at_once(struct claimant *me)
{
	me->wanted.word = new_id() | TG_WORD_INLINE;
	if (!insert_into_bucket(&me->key, &me->wanted, &me->held))
		return false;
	me->verdict = GRANTED;
	return true;
}

/* Claims me->tuple for me->wanted.claim; the answer is in me->verdict. */
static __always_inline void claim(struct claimant *me)
{
	if (!claim_at_once(me))
		claim_by_rounds(me);
}

/* What is to become of a claim. */
enum change_to {
	GIVEN_UP,  /* if it was claimed before the time that is given, or that is 0 */
	RENEWED,   /* as claimed at the time */
	IS_SHARED, /* and a socket outside came beside it */
};

struct change {
	struct tg_tuple tuple;
	__u64 cookie;
	__u64 time_ns;
	__u8 to; /* enum change_to */
	bool done;
	bool gone; /* there is no such claim any more, or it is no longer the cookie's to give up */
};

static __always_inline bool is_kept(const struct change *change, const struct tg_claim *claim)
{
	__u64 time_ns = *(volatile __u64 *)&claim->time_ns;

	return change->time_ns && (__s64)(time_ns - change->time_ns) >= 0;
}

/* True when that was settled. */
static __always_inline bool renew(struct change *change, __u64 *word, __u64 seen,
				  struct tg_claim *claim)
{
	*(volatile __u64 *)&claim->time_ns = change->time_ns;
	change->done =
	    swap_word(word, seen, renewed(seen) | (change->to == IS_SHARED ? TG_WORD_SHARED : 0));
	return change->done;
}

static __always_inline bool change_inline(struct change *change, struct tg_group *group, __u64 word)
{
	if (change->to != GIVEN_UP)
		return renew(change, &group->word, word, &group->claim);
	if (is_kept(change, &group->claim))
		return true;
	/* Who came beside needs it still: it goes when somebody finds nobody there. */
	change->gone = word & TG_WORD_SHARED || remove_inline(group, word, &change->tuple);
	return change->gone;
}

static __always_inline bool change_further(struct change *change, struct tg_further *claim,
					   __u64 word)
{
	if (change->to != GIVEN_UP)
		return renew(change, &claim->word, word, &claim->claim);
	if (is_kept(change, &claim->claim))
		return true;
	change->gone = word & TG_WORD_SHARED || remove_further(claim, word, &change->tuple);
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

/* True when the claim is given up, or there is none; and when it was renewed. */
__noinline int change_claim(const struct tg_tuple *tuple, __u64 cookie, __u64 time_ns, __u8 to)
{
	struct change change = {.cookie = cookie, .time_ns = time_ns, .to = to};

	if (!tuple)
		return true;
	change.tuple = *tuple;
	bpf_loop(RETRIES, change_once, &change, 0);
	return to == GIVEN_UP ? change.gone : change.done;
}

/* Gives the claim up, if it is older than asked for; true when it is no longer the cookie's. */
static __always_inline bool drop_claim(const struct tg_tuple *tuple, __u64 cookie, __u64 before_ns)
{
	return change_claim(tuple, cookie, before_ns, GIVEN_UP);
}

static __always_inline void renew_claim(const struct tg_tuple *tuple, __u64 cookie, __u64 now_ns)
{
	change_claim(tuple, cookie, now_ns, RENEWED);
}

/*
 * Lets an outsider have the tuple together with whoever has the claim that it met. That claim
 * then stays for all of them; false when there is none any more.
 */
static __always_inline bool come_beside(struct claimant *me)
{
	if (!change_claim(&me->tuple, me->holder.cookie, me->wanted.claim.time_ns, IS_SHARED))
		return false;
	me->verdict = BESIDE;
	return true;
}

#endif
