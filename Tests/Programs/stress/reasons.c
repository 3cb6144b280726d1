// SPDX-License-Identifier: Apache-2.0
/*
 * Had a refusal a reason? With one thread all sockets are in sight and nothing
 * happens in between, so that can be answered. These are reasons:
 *  - another socket holds the tuple;
 *  - another socket holds it but for the local address, and one of the two is
 *    not bound to one, so that the addresses may come to be the same;
 *  - the same, of a broadcast destination: that hinders nobody, but need not be
 *    known when the second one comes;
 *  - another socket that still exists held it, or went for it, moments ago;
 *  - the same long ago, if we are not bound to an address: whether that one may
 *    come back can't always be told then. To be rare, so it is counted apart.
 */
#include "chaos.h"

#include <stdio.h>

bool is_explainable(const struct options *options)
{
	return options->threads == 1 && options->processes == 1 && !options->reuseport;
}

/* The one of the same tuple, or else the oldest. */
static struct attempt *find_attempt(struct item *item, const struct tuple *tuple)
{
	struct attempt *oldest = &item->attempts[0];

	for (unsigned i = 0; i < ATTEMPTS; i++) {
		struct attempt *attempt = &item->attempts[i];

		if (is_same_tuple(&attempt->tuple, tuple))
			return attempt;
		if (attempt->time_ms < oldest->time_ms)
			oldest = attempt;
	}
	return oldest;
}

void remember_attempt(struct item *item, const struct tuple *tuple)
{
	struct tuple known = *tuple;
	struct attempt *attempt;

	if (is_wildcard(&item->shape.local))
		known.local = item->shape.local;
	attempt = find_attempt(item, &known);
	attempt->tuple = known;
	attempt->time_ms = now_ms();
}

static struct tuple intended_at(const struct item *item, const struct destination *destination,
				struct address remote)
{
	struct tuple tuple = {
	    .local = item->shape.local,
	    .remote = remote,
	    .local_port = item->connected ? item->tuple.local_port : item->shape.port,
	    .remote_port = destination->port,
	};

	/* As in read_tuple(). */
	if (is_mapped(&remote) && !is_mapped(&tuple.local) && !is_wildcard(&tuple.local))
		tuple.local = address_of("127.0.0.6");
	return tuple;
}

unsigned intended_tuples(const struct item *item, const struct destination *destination,
			 struct tuple tuples[MAX_INTENDED])
{
	struct address own = item->connected ? item->tuple.local : item->shape.local;
	unsigned count = 0;

	if (!is_wildcard(&destination->address)) {
		tuples[count++] = intended_at(item, destination, destination->address);
		return count;
	}
	/* 0.0.0.0 and :: stand for loopback or the socket's own address. */
	tuples[count++] = intended_at(item, destination, address_of("127.0.0.1"));
	if (destination->family == AF_INET6 && !is_mapped(&destination->address))
		tuples[count++] = intended_at(item, destination, address_of("::1"));
	else if (is_mapped(&own) && !is_wildcard(&own))
		tuples[count++] = intended_at(item, destination, own);
	return count;
}

static bool differs_only_in_local(const struct tuple *a, const struct tuple *b)
{
	return a->local_port == b->local_port && a->remote_port == b->remote_port &&
	       is_same_address(&a->remote, &b->remote);
}

static enum reason reason_in(const struct item *other, const struct tuple *wanted)
{
	bool ambiguous = is_wildcard(&wanted->local) || is_wildcard(&other->shape.local);
	uint64_t now = now_ms();
	enum reason best = UNEXPLAINED;

	if (other->connected && is_same_tuple(&other->tuple, wanted))
		return other->entered ? HELD : BROADCAST;
	if (other->connected && ambiguous && differs_only_in_local(&other->tuple, wanted))
		return BESIDE_WILDCARD;
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		const struct attempt *attempt = &other->attempts[i];

		if (!attempt->time_ms || !differs_only_in_local(&attempt->tuple, wanted) ||
		    !(ambiguous || is_same_address(&attempt->tuple.local, &wanted->local)))
			continue;
		if (now - attempt->time_ms < RECENT_MS)
			return RECENT;
		if (is_wildcard(&wanted->local))
			best = OLD_BESIDE_WILDCARD;
	}
	return best;
}

static void complain(const struct worker *worker, const struct tuple *wanted)
{
	enum { MAX_PRINTED = 10 };
	char text[TUPLE_TEXT_LENGTH];

	if (worker->counts->reasons[UNEXPLAINED] > MAX_PRINTED)
		return;
	print_tuple(wanted, text);
	fprintf(stderr, "violation: refused without a reason: %s\n", text);
}

static enum reason find_reason(const struct worker *worker, const struct item *refused,
			       const struct tuple *wanted)
{
	enum reason best = UNEXPLAINED;

	for (unsigned i = 0; i < SOCKETS_PER_THREAD; i++) {
		const struct item *other = &worker->items[i];
		enum reason reason;

		if (other == refused || other->fd < 0)
			continue;
		reason = reason_in(other, wanted);
		if (reason > best)
			best = reason;
	}
	return best;
}

void explain_refusal(struct worker *worker, const struct item *refused,
		     const struct destination *destination)
{
	struct tuple wanted[MAX_INTENDED];
	unsigned count = intended_tuples(refused, destination, wanted);
	enum reason best = UNEXPLAINED;

	for (unsigned i = 0; i < count; i++) {
		enum reason reason = find_reason(worker, refused, &wanted[i]);

		if (reason > best)
			best = reason;
	}
	worker->counts->reasons[best]++;
	if (best == UNEXPLAINED)
		complain(worker, &wanted[0]);
}

static void probe(struct worker *worker, const struct shape *shape, const struct address *remote,
		  uint16_t port)
{
	struct item item = {.fd = open_shape(shape), .shape = *shape};
	struct destination destination = {shape->family, *remote, port};

	if (item.fd < 0)
		return;
	worker->counts->probes++;
	try_connect(worker, &item, &destination);
	close_item(worker, &item);
}

/* From everywhere to where `held` is connected, also by wildcard. */
static void probe_around(struct worker *worker, const struct tuple *held)
{
	struct space *space = &worker->chaos->space;
	bool v4 = is_mapped(&held->remote);
	const struct address_list *sources = v4 ? &space->v4.sources : &space->v6.sources;
	struct shape shape = {.family = v4 ? AF_INET : AF_INET6, .port = held->local_port};

	for (unsigned i = 0; i < sources->count; i++) {
		shape.local = sources->list[i];
		probe(worker, &shape, &held->remote, held->remote_port);
	}
	shape.local = address_of(v4 ? "0.0.0.0" : "::");
	probe(worker, &shape, &held->remote, held->remote_port);
}

void probe_everything(struct worker *worker)
{
	if (crew_is_over(worker->member->crew))
		return;
	sleep_ms(RECENT_MS + 100); /* so that no attempt is recent any more */
	for (unsigned i = 0; i < SOCKETS_PER_THREAD; i++) {
		struct item *item = &worker->items[i];

		if (item->fd < 0)
			continue;
		if (item->connected)
			probe_around(worker, &item->tuple);
		/* Where it was, or failed to get to, others should be let in. */
		for (unsigned j = 0; j < ATTEMPTS; j++)
			if (item->attempts[j].time_ms)
				probe_around(worker, &item->attempts[j].tuple);
	}
}
