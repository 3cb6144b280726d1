// SPDX-License-Identifier: Apache-2.0
/*
 * The oracle's table: buckets of a fixed size with a lock each. A bucket never
 * fills up, since there are many more buckets than tuples that a run can make.
 */
#include "oracle.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

enum {
	BUCKETS = 1 << 14,
	ENTRIES_PER_BUCKET = 8,
	MAX_REMEMBERED = 10,
};

struct entry {
	struct tuple tuple;
	uint32_t sockets; /* entered under it; 0: the entry is free */
	uint32_t outside; /* of these */
	struct party last;
};

struct bucket {
	atomic_flag lock;
	struct entry entries[ENTRIES_PER_BUCKET];
};

struct violation {
	struct tuple tuple;
	struct party parties[2];
};

struct oracle {
	_Atomic uint64_t violations;
	struct violation remembered[MAX_REMEMBERED];
	struct bucket buckets[BUCKETS];
};

struct oracle *make_oracle(void)
{
	return shared_memory(sizeof(struct oracle)); /* zeroes are what it begins with */
}

static struct bucket *lock_bucket(struct oracle *oracle, const struct tuple *tuple)
{
	uint32_t hash = 2166136261; /* FNV-1a */
	struct bucket *bucket;

	for (size_t i = 0; i < sizeof(*tuple); i++)
		hash = (hash ^ ((const uint8_t *)tuple)[i]) * 16777619;
	bucket = &oracle->buckets[(hash ^ hash >> 16) % BUCKETS];
	while (atomic_flag_test_and_set_explicit(&bucket->lock, memory_order_acquire))
		sched_yield();
	return bucket;
}

static void unlock_bucket(struct bucket *bucket)
{
	atomic_flag_clear_explicit(&bucket->lock, memory_order_release);
}

/* The tuple's entry; without one a free entry, or NULL. */
static struct entry *find_entry(struct bucket *bucket, const struct tuple *tuple)
{
	struct entry *unused = NULL;

	for (int i = 0; i < ENTRIES_PER_BUCKET; i++) {
		struct entry *entry = &bucket->entries[i];

		if (!entry->sockets)
			unused = entry;
		else if (is_same_tuple(&entry->tuple, tuple))
			return entry;
	}
	return unused;
}

static void remember(struct oracle *oracle, const struct entry *entry, const struct party *second)
{
	uint64_t number = atomic_fetch_add(&oracle->violations, 1);

	if (number < MAX_REMEMBERED)
		oracle->remembered[number] =
		    (struct violation){entry->tuple, {entry->last, *second}};
}

bool oracle_enter(struct oracle *oracle, const struct tuple *tuple, const struct party *party)
{
	struct bucket *bucket = lock_bucket(oracle, tuple);
	struct entry *entry = find_entry(bucket, tuple);
	bool alone;

	if (!entry)
		fail(EXIT_CANNOT_RUN, "the table of held tuples is too small");
	alone = entry->sockets == (party->outside ? entry->outside : 0);
	if (!entry->sockets)
		entry->tuple = *tuple;
	if (!alone)
		remember(oracle, entry, party);
	entry->sockets++;
	entry->outside += party->outside;
	if (!party->outside || entry->sockets == entry->outside)
		entry->last = *party; /* one inside, if there is one */
	unlock_bucket(bucket);
	return alone;
}

void oracle_leave(struct oracle *oracle, const struct tuple *tuple, bool outside)
{
	struct bucket *bucket = lock_bucket(oracle, tuple);
	struct entry *entry = find_entry(bucket, tuple);

	if (!entry || !entry->sockets)
		fail(EXIT_CANNOT_RUN, "a socket to be struck off was never entered");
	entry->sockets--;
	entry->outside -= outside;
	unlock_bucket(bucket);
}

uint64_t oracle_violations(const struct oracle *oracle)
{
	return atomic_load(&oracle->violations);
}

static void print_party(const struct party *party)
{
	const struct shape *shape = &party->shape;
	struct tuple bound = {.local = shape->local, .local_port = shape->port};
	char text[TUPLE_TEXT_LENGTH];

	print_tuple(&bound, text);
	*strchr(text, ' ') = '\0'; /* the local half */
	fprintf(stderr, "  process %u, thread %u: %s socket bound to %s%s%s%s%s%s%s%s\n",
		party->process, party->thread, shape->family == AF_INET ? "IPv4" : "IPv6",
		shape->unbound ? "nothing, not " : "", text, shape->on_device ? ", on lo" : "",
		party->outside ? ", outside" : "",
		shape->port_at_connect ? ", port at connect" : "",
		shape->exclusive ? ", no SO_REUSEADDR" : "",
		shape->in_group ? ", SO_REUSEPORT" : "", shape->may_broadcast ? ", broadcast" : "");
}

void print_violations(const struct oracle *oracle)
{
	uint64_t count = oracle_violations(oracle);

	for (uint64_t i = 0; i < count && i < MAX_REMEMBERED; i++) {
		const struct violation *violation = &oracle->remembered[i];
		char text[TUPLE_TEXT_LENGTH];

		print_tuple(&violation->tuple, text);
		fprintf(stderr, "violation: two sockets hold %s\n", text);
		print_party(&violation->parties[0]);
		print_party(&violation->parties[1]);
	}
}
