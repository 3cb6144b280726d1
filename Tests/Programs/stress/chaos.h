// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of `chaos` share: the space that its sockets meet in, a
 * socket with what is known of it, and a thread with its sockets.
 */
#ifndef STRESS_CHAOS_H
#define STRESS_CHAOS_H

#include "crew.h"
#include "oracle.h"

enum {
	SOCKETS_PER_THREAD = 24,
	MAX_ADDRESSES = 8,
	MAX_ERRNO = 134,
	/* How long a claim that may still be on its way can be a reason to refuse. */
	RECENT_MS = 1500,
	/* Of one socket, the latest that are remembered. */
	ATTEMPTS = 16,
	MAX_INTENDED = 2,
};

/* Few of everything, so that sockets meet. */
struct address_list {
	struct address list[MAX_ADDRESSES];
	unsigned count;
};

struct family_space {
	struct address_list sources, destinations;
	struct address_list unroutable; /* to which connect() fails, here */
};

struct space {
	struct family_space v4, v6;
	struct address broadcast; /* many may hold a tuple with this destination */
};

/* A tuple that a socket had, or was allowed to go for. */
struct attempt {
	struct tuple tuple; /* `local` is the wildcard when it was not bound to one */
	uint64_t time_ms;
};

/* A socket and what is known of it. */
struct item {
	int fd; /* -1: none */
	struct shape shape;
	bool connected; /* with `tuple` */
	bool entered;	/* in the oracle */
	struct tuple tuple;
	uint64_t settled_until_ms;	   /* until then it keeps what it has */
	struct attempt attempts[ATTEMPTS]; /* time 0: none */
};

/* Why a connect was refused; later ones are better reasons. */
enum reason {
	UNEXPLAINED,
	OLD_BESIDE_WILDCARD, /* went for it long ago, and still exists */
	RECENT,
	BROADCAST, /* held, but not by one alone in any case */
	BESIDE_WILDCARD,
	HELD,
	REASONS
};

struct counts {
	_Alignas(64) uint64_t connected, refused, failed[MAX_ERRNO];
	uint64_t opened, disconnected, duplicated, sent, handed_over, closed;
	/* Of single-threaded runs. */
	uint64_t probes, reasons[REASONS];
};

struct chaos {
	const struct options *options;
	struct crew *crew;
	struct oracle *oracle;
	struct space space;
	struct counts *counts; /* of each thread of each process */
	int (*mailboxes)[2];   /* of each process: where to take from, where to put in */
	unsigned tick;
};

struct worker {
	struct chaos *chaos;
	struct member *member;
	struct counts *counts;
	struct item items[SOCKETS_PER_THREAD];
};

/* --- space.c --- */

void make_space(struct space *space, bool own_netns);
struct shape choose_shape(struct random *random, const struct space *space,
			  const struct options *options);
struct destination choose_destination(struct random *random, const struct space *space,
				      const struct shape *shape);
struct destination choose_unroutable(struct random *random, const struct space *space,
				     const struct shape *shape);

/* --- worker.c --- */

/* What a thread does: everything, until the run is over. */
void work(struct worker *worker);
/* Connects, keeps the oracle informed, and counts. */
void try_connect(struct worker *worker, struct item *item, const struct destination *destination);
void close_item(struct worker *worker, struct item *item);

/* --- reasons.c: single-threaded runs --- */

/*
 * Whether all sockets are in the sight of one thread. Sockets that share their
 * port by SO_REUSEPORT are left out of account.
 */
bool is_explainable(const struct options *options);

void remember_attempt(struct item *item, const struct tuple *tuple);
/*
 * The tuple that the connect goes for, or both that it may go for. A local
 * address that is not bound is the wildcard.
 */
unsigned intended_tuples(const struct item *item, const struct destination *destination,
			 struct tuple tuples[MAX_INTENDED]);
/* Looks for a reason among the worker's other sockets, and counts it. */
void explain_refusal(struct worker *worker, const struct item *refused,
		     const struct destination *destination);
/* Lets all claims grow old, then tries every tuple: only a holder is a reason now. */
void probe_everything(struct worker *worker);

#endif
