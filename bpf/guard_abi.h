/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the programs in this folder and the user side: every
 * struct that crosses a map or the ring buffer, and nothing else. A struct
 * that changes layout or meaning needs a new TG_ABI: pinned maps outlive the
 * program that made them, and must never be misread.
 */
#ifndef TUPLEGUARD_GUARD_ABI_H
#define TUPLEGUARD_GUARD_ABI_H

#include <linux/types.h>

enum {
	TG_ABI = 4,
	/* "tupleguard" as a number, first word of the pinned `abi` map. */
	TG_MAGIC = 0x74757067,
	TG_COMM_LEN = 16,
	/* Claims of one socket at one time: see struct tg_socket_record. */
	TG_SOCKET_CLAIMS = 3,
	/* Ports looked at for one connect: 1, 2, up to 4, up to 8, and so on; the last has the
	   rest. */
	TG_PROBE_BUCKETS = 12,
	/* Destinations that can have a bitmap of their taken ports at one time. */
	TG_BUSY = 64,
	TG_PORTS = 65536,
	/* Places for TCP connects under way from ports of a cgroup's own; a power of two. */
	TG_RESERVATIONS = 65536,
	/* Destinations whose routes' local addresses are known; a power of two. */
	TG_SOURCES = 4096,
	/* Guarded cgroups at one time. */
	TG_GUARDED_MAX = 4096,
};

/* What the pinned `abi` map holds: one element, written once. */
struct tg_abi_info {
	__u32 magic;
	__u32 abi;
	__u32 table_size; /* claims, as asked for when the maps were made */
	__u32 reserved;
};

/* What the claims of one group have in common; begins like struct tg_tuple. */
struct tg_group_key {
	__u32 netns;
	__u16 local_port;
	__u16 remote_port;
	__u32 remote[4];
} __attribute__((aligned(8))); /* for comparing it a word at a time */

/*
 * A 4-tuple in canonical form: addresses are 16 bytes in network order with
 * IPv4 as ::ffff:a.b.c.d, ports are in host order. `netns` is the low half of
 * the network namespace's cookie.
 */
struct tg_tuple {
	__u32 netns;
	__u16 local_port;
	__u16 remote_port;
	__u32 remote[4];
	__u32 local[4]; /* all zero: not known yet, or not final */
} __attribute__((aligned(8)));

/* A TCP connect from a port of the cgroup's own, under way or the last that came here. */
struct tg_reservation {
	__u64 id;   /* new with every change; 0: nobody was here, 1: being written */
	__u64 hash; /* of the tuple without the local address */
	__u64 sock; /* as in struct tg_claim */
	__u64 cookie;
};

/* From which local addresses sockets without one connected to a destination. */
struct tg_source {
	__u64 hash; /* of network namespace, bound device and destination; 0: none */
	__u64 sock; /* the last that went there, as in struct tg_claim; 0: none */
	__u64 cookie;
	__u32 address[2][4]; /* the later one last; all zero: none */
	__u64 reserved;
};

/* Ports that guarded cgroups have for their own, a bit for each. */
struct tg_kept_ports {
	__u64 taken[TG_PORTS / 64];
};

/* Who was part of a conflict. */
struct tg_process {
	__u64
	    cgroup; /* id in the v2 hierarchy: the claimant's own, the one of the holder's socket */
	__u32 pid;  /* thread group; 0: not known */
	__u32 uid;
	char comm[TG_COMM_LEN];
};

/*
 * A socket's title to a tuple, and who claimed it. Whatever else is to be known
 * of the owner is read from its socket when it is asked for: every word here is
 * paid for in each connect.
 */
struct tg_claim {
	__u64 cookie;
	__u64 sock;    /* address of its struct sock: read with care, never followed blindly */
	__u64 time_ns; /* CLOCK_MONOTONIC, in steps of a clock tick */
	__u32 pid;     /* thread group that claimed it; 0: not known */
	__u32 reserved;
	char comm[TG_COMM_LEN]; /* of the thread */
};

/*
 * The word of a group: [id:45][SHARED:1][REFRESHED:1][INLINE:1][further:16]. The
 * id is new with every change, so that a compare-and-swap on the word proves
 * that nothing changed since it was read. A word with neither an inline claim
 * nor further ones is a tombstone: whoever wrote it deletes the element.
 *
 * SHARED, also of a further claim: sockets outside were let come beside, the last
 * one at the claim's time. They have no claim, so this one outlives its owner.
 */
#define TG_WORD_FURTHER 0xffffULL
#define TG_WORD_INLINE (1ULL << 16)
#define TG_WORD_REFRESHED (1ULL << 17)
#define TG_WORD_SHARED (1ULL << 18)
#define TG_WORD_ID_SHIFT 19

/* All claims that differ in nothing but the local address. */
struct tg_group {
	__u32 source[4]; /* local address of the inline claim; all zero: unknown */
	__u64 word;
	struct tg_claim claim; /* valid while the word has TG_WORD_INLINE */
};

/*
 * The control word of a bucket: [generation:26][fingerprint:10][overflow:26][state:2].
 * The generation is new with each key; the fingerprint is some of the key's
 * hash; `overflow` counts the keys of this bucket that are in the hash map.
 */
#define TG_BUCKET_FREE 0ULL
#define TG_BUCKET_BUSY 1ULL /* key and group are being written */
#define TG_BUCKET_USED 2ULL
#define TG_BUCKET_STATE 3ULL
#define TG_BUCKET_OVERFLOW_ONE (1ULL << 2)
#define TG_BUCKET_OVERFLOW (((1ULL << 26) - 1) << 2)
#define TG_BUCKET_FINGERPRINT (((1ULL << 10) - 1) << 28)
#define TG_BUCKET_GENERATION_SHIFT 38
#define TG_BUCKET_GENERATION_ONE (1ULL << TG_BUCKET_GENERATION_SHIFT)

/*
 * A place for one group in the array `buckets`. What a release reads fills the
 * first of its two cache lines.
 */
struct tg_bucket {
	__u64 control;
	struct tg_group_key key;
	struct tg_group group;
	__u64 reserved[3];
};

/* A further claim of a group, in `claims_more` by its whole tuple; word 0 is a tombstone. */
struct tg_further {
	__u64 word;
	struct tg_claim claim;
};

/* Which ports were seen to be taken for one destination, and one local address (or none). */
struct tg_busy {
	struct tg_tuple destination; /* local port 0 */
	__u64 used_ns;		     /* when a port was last looked for, as in struct tg_claim */
	__u64 cursor;		     /* how many taken ports were looked at for stale claims */
	__u64 reserved;
	__u64 taken[TG_PORTS / 64];
};

/* Whose bitmaps they are: a hash of the destination; 0: nobody's. */
struct tg_busy_tags {
	__u64 tag[TG_BUSY];
};

enum tg_held_kind {
	TG_HELD_NOTHING = 0,
	TG_HELD_IN_BUCKET = 1, /* the inline claim of a bucket, as long as its generation is this */
	TG_HELD_BY_TUPLE = 2,  /* wherever it is: its tuple is in `socket_records_more` */
};

/* Where one of a socket's claims is. */
struct tg_held {
	__u32 bucket;
	__u32 generation : 26;
	__u32 kind : 6; /* enum tg_held_kind */
	__u32 thread;	/* id of the thread that claimed; 0: several, or not known */
};

/*
 * What one socket has claimed, so that it can be given back. It is an element
 * of the array `socket_records`, at the socket's cookie modulo the array's
 * size, or, when another socket's is there, of the hash `socket_records_more`.
 */
struct tg_socket_record {
	__u64 cookie;	 /* owner; 0: free */
	__u64 sock;	 /* as in struct tg_claim */
	__u32 displaced; /* in the array only: sockets that had to go to the hash instead */
	struct tg_held held[TG_SOCKET_CLAIMS];
	__u64 reserved;
};

/* Key and value of `socket_records_more`. */
struct tg_record_key {
	__u64 cookie;
	__u64 index; /* 0: a record; i + 1: the tuple of its held[i] */
};

struct tg_record_more {
	union {
		struct tg_socket_record record;
		struct tg_tuple tuple;
	};
};

/* Why a connect was a conflict. */
enum tg_reason {
	TG_REASON_HELD = 1, /* another socket is connected with this tuple */
	TG_REASON_IN_FLIGHT =
	    2, /* another socket claimed it moments ago, its connect not yet seen */
	TG_REASON_AMBIGUOUS = 3,  /* local address unknown beside sockets that share the port */
	TG_REASON_OUTSIDE = 4,	  /* a socket without a claim, found by the look-up, holds it */
	TG_REASON_TABLE_FULL = 5, /* no room to claim it, and the policy is to refuse then */
	TG_REASON_BUSY = 6, /* too many claims in flight on this socket, or too much contention */
	TG_REASON_EXISTING = 7,	 /* found while seeding: both sockets hold it already */
	TG_REASON_EXHAUSTED = 8, /* every local port is taken for this destination */
	TG_REASON_UNLOCKED = 9,	 /* strict: the port could still change meanwhile */
	TG_REASON_SHADOW = 10, /* found while seeding: both hold it, one of them without a claim */
	TG_REASON_OUTSIDER = 11,  /* the claimant is outside, and the holder in a guarded cgroup */
	TG_REASON_REWRITTEN = 12, /* the holder went elsewhere: its destination was rewritten */
	TG_REASON_BUDGET = 13,	  /* the cgroup has as many connections open as it may */
};

/* One conflict, as sent through the ring buffer. */
struct tg_event {
	__u64 time_ns;	       /* CLOCK_MONOTONIC */
	__u64 attachment;      /* id of the cgroup whose guard decided; 0: seeding, or not known */
	__u32 reason;	       /* enum tg_reason */
	__u16 allowed;	       /* 1: counted and let through */
	__u16 protocol;	       /* IPPROTO_UDP or IPPROTO_TCP */
	struct tg_tuple tuple; /* exhausted: its local port is 0 */
	struct tg_process claimant;
	__u64 claimant_cookie;
	struct tg_process holder; /* pid 0 where not known */
	__u64 holder_cookie;	  /* 0 where not known */
};

/* One refused tuple, in the pinned LRU map `conflicts`, by struct tg_tuple and guard. */
struct tg_conflict {
	__u64 count;
	__u64 first_ns;
	struct tg_event last;
};

/* Per-CPU counters of one attachment; each is added to atomically. */
struct tg_counters {
	__u64 claimed;
	__u64 reclaimed;
	__u64 released;
	__u64 pruned;
	__u64 taken_over;
	__u64 refused_held;
	__u64 refused_in_flight;
	__u64 refused_ambiguous;
	__u64 refused_outside;
	__u64 refused_table_full;
	__u64 refused_busy;
	__u64 refused_exhausted;
	__u64 refused_unlocked;
	__u64 refused_outsider;
	__u64 refused_rewritten;
	__u64 refused_exhausted_tcp;
	__u64 refused_budget;
	__u64 self_tests; /* of connectx; not counted as refused or observed */
	__u64 observed;
	__u64 allowed_table_full;
	__u64 exempt_multicast;
	__u64 exempt_broadcast;
	__u64 bound;	      /* binds without a port that were given a free one */
	__u64 discovered;     /* of the claimed and reclaimed */
	__u64 given_tcp;      /* TCP connects that were given a port of the attachment's own */
	__u64 ports_bypassed; /* connects from another port than those, which the program chose */
	__u64 discovery_probes[TG_PROBE_BUCKETS];
	__u64 unresolved;
	__u64 exclusive_port;
	__u64 undiscoverable;
	__u64 already_rejected;
	__u64 counted;	 /* sockets that came to count as connections */
	__u64 uncounted; /* those found not to be connected, when another wanted to be */
	__u64 events_dropped;
};

/* For which sockets that connect without a port the guard chooses one. */
enum tg_discover {
	TG_DISCOVER_OFF = 0,
	TG_DISCOVER_REUSEADDR = 1, /* those that have set SO_REUSEADDR or SO_REUSEPORT */
	TG_DISCOVER_ALL = 2,
};

/* What a guard wants of sockets outside of all guarded cgroups. */
enum tg_outsiders {
	TG_OUTSIDE = 0, /* no guard: this is an outsider itself */
	TG_OUTSIDERS_IGNORE = 1,
	TG_OUTSIDERS_OBSERVE = 2, /* claim for them, report those that overshadow */
	TG_OUTSIDERS_REFUSE = 3,  /* and refuse them a tuple that is held inside */
};

/*
 * With this bit an id is in `guarded` once more where the guard of that cgroup has no
 * ports of its own, but that of one above has. No id has it: they are counted.
 */
#define TG_CHOSEN_ABOVE (1ULL << 63)

/* Which guard a cgroup is under, and what that wants: see sides.bpf.h. */
struct tg_side {
	__u64 generation;
	__u64 guard;	 /* id of the guarded cgroup; 0: none */
	__u32 outsiders; /* enum tg_outsiders */
	__u32 error;	 /* errno of an outsider's refusal */
};

/* How one attachment behaves: the programs' read-only data. */
struct tg_policy {
	__u64 attachment;  /* id of the cgroup that it is attached to */
	__u64 attached_ns; /* CLOCK_REALTIME */
	__u64 grace_ns;	   /* how long a claim may wait for its connect */
	__u64 secret;	   /* a random number, so that ports cannot be foretold */
	__u32 observe;	   /* 1: count and report, allow */
	__u32 error;	   /* errno of a refusal */
	__u32 refuse_when_full;
	__u32 look_up;	    /* 1: look for sockets outside the cgroup too */
	__u32 look_up_auto; /* 1: look_up was derived, not asked for */
	__u32 table_mask; /* elements of `buckets` and `socket_records`, a power of two, less one */
	__u32 discover;	  /* enum tg_discover */
	__u32 exhausted;  /* errno where no port is free for a destination */
	__u32 strict;	  /* 1: no connect goes unclaimed, no port may still change */
	__u32 outsiders;  /* enum tg_outsiders */
	__u16 first_port; /* of the ports of its own that TCP and UDP sockets get; 0: none */
	__u16 last_port;
	__u32 max_connections;	/* open at one time; 0: any number, and none is counted */
	__u32 connections_mask; /* elements of `connections`, a power of two, less one */
	__u32 reserved;
};

/* The same in ABI 3, for taking over its guards. */
struct tg_policy_abi3 {
	__u64 attachment;
	__u64 attached_ns;
	__u64 grace_ns;
	__u64 secret;
	__u32 observe;
	__u32 error;
	__u32 refuse_when_full;
	__u32 look_up;
	__u32 look_up_auto;
	__u32 table_mask;
	__u32 discover;
	__u32 exhausted;
	__u32 strict;
	__u32 outsiders;
};

/* How many of the connections that a cgroup may have it has. */
struct tg_budget {
	__u64 used;
	__u64 cursor; /* where in `connections` the next look for one that is over begins */
};

/*
 * One of those that are used, in the array `connections`. Its word is
 * [id:45][unused:17][BUSY:1][COUNTED:1], the id new whenever the socket connects; 0: free.
 */
#define TG_CONNECTION_COUNTED 1ULL
#define TG_CONNECTION_BUSY 2ULL /* it is being written */

struct tg_connection {
	__u64 word;
	__u64 cookie;
	__u64 sock;    /* as in struct tg_claim */
	__u64 time_ns; /* when it connected, as in struct tg_claim */
	__u32 thread;  /* id of the thread that did; 0: several have */
	__u32 protocol;
};

/* The maps of limited size. */
enum tg_usage_of {
	TG_USAGE_GROUPS = 0,
	TG_USAGE_CLAIMS_MORE = 1,
	TG_USAGE_RECORDS_MORE = 2, /* twice the size: a record and a tuple for a claim */
	TG_USAGES = 3,
};

/* How full they are, in the map `usage`, which has one element. */
struct tg_usage {
	__u64 size[TG_USAGES];	   /* elements that there is room for; written once */
	__u64 elements[TG_USAGES]; /* that there are */
	__u64 told_ns;		   /* when a full table was last reported */
	__u64 reserved;
};

/* What seeding is to do, and how much of it. */
struct tg_seeding {
	__u64 outsiders; /* 0: claim for sockets of guarded cgroups; 1: for others */
	__u64 again;	 /* 1: it was done before, and whatever shares a tuple since is new */
	__u64 room;	 /* for outsiders: claims that they may still have */
};

/* What seeding writes, a byte for each connected UDP socket that is due. */
enum tg_seeded {
	TG_SEEDED_NOT_DUE = 0, /* not written */
	TG_SEEDED_CLAIMED = 1,
	TG_SEEDED_KNOWN = 2,	  /* of outsiders: or another's claim stands for it */
	TG_SEEDED_CONFLICT = 3,	  /* it shares the tuple with another, and that was reported */
	TG_SEEDED_NO_ROOM = 4,	  /* or another's claim is in its way */
	TG_SEEDED_OVER_SHARE = 5, /* outsiders have their share of the table already */
};

/* What the sweep writes, a byte for each element of a map. */
enum tg_swept {
	TG_SWEPT_NOTHING = 0,	/* no claim, or the record of a guarded socket that is there */
	TG_SWEPT_CLAIM = 1,	/* a claim that stays */
	TG_SWEPT_DROPPED = 2,	/* one whose socket does not hold it */
	TG_SWEPT_RECORD = 3,	/* of a socket that is gone; freed, with its claims */
	TG_SWEPT_OUTSIDER = 4,	/* the record of a socket outside the guarded cgroups */
	TG_SWEPT_REWRITTEN = 5, /* a claim that stays: its socket was sent elsewhere after it */
};

#endif
