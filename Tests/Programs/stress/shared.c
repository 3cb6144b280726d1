// SPDX-License-Identifier: Apache-2.0
/*
 * shared: several threads connect and disconnect the same sockets at the same
 * time. The kernel lets a socket go between asking whether a connect() is
 * allowed and doing it, so what was allowed may happen late, in another order,
 * or after the socket gave the tuple up. When all threads stand still, no two
 * sockets may hold one tuple.
 */
#include "stress.h"
#include "contest.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SOCKETS = 5,
	DESTINATIONS = 3,
	OPERATIONS_PER_ROUND = 6, /* of each thread */
	ROUNDS_PER_SET = 4,	  /* then new sockets, on another port */
	FIRST_PORT = 20000,
	PORTS = 12000,
	MAX_PRINTED = 10,
};

/* The sockets that the threads share, and where they connect. */
struct set {
	int fds[SOCKETS];
	struct shape shapes[SOCKETS];
	struct destination destinations[DESTINATIONS];
};

struct counts {
	_Alignas(64) uint64_t connected, refused, failed, disconnected;
};

struct sharing {
	const struct options *options;
	struct barrier start, finish;
	struct set set;
	struct counts *counts; /* of each thread */
	bool ended;
	/* The leader's. */
	struct random random;
	bool has_v6;
	uint64_t rounds, sets, violations;
};

struct thread {
	struct sharing *sharing;
	unsigned number;
	pthread_t id;
};

/*
 * Few addresses, so that the sockets meet; some destinations are other names
 * of the same place, and to the last one connect() fails, which leaves a
 * socket with what it had.
 */
static const struct pool {
	const char *sources[4], *wildcards[2];
	const char *destinations[3], *netns_destinations[3];
} pools[] = {
    {{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"},
     {"0.0.0.0", "::"},
     {"127.0.0.1", "127.0.0.9", "0.0.0.0"},
     {"10.77.0.1", "10.77.0.2", "203.0.113.1"}},
    {{"::1", "::1", "::1", "::1"},
     {"::", "::"},
     {"::1", "::1", "::"},
     {"fd00:77::1", "fd00:77::2", "2001:db8::1"}},
};

/*
 * All on one port. Mostly of one address, so that they meet; in some sets with
 * the address left to the kernel.
 */
static struct shape choose_shape(struct sharing *sharing, const struct pool *pool, bool wildcards,
				 uint16_t port)
{
	struct random *random = &sharing->random;
	struct shape shape = {.port = port,
			      .local = address_of(pool->sources[random_below(random, 4)])};
	bool v4 = is_mapped(&shape.local) && random_below(random, 2);

	shape.family = v4 ? AF_INET : AF_INET6;
	if (wildcards && random_below(random, 2))
		shape.local = address_of(pool->wildcards[v4 ? 0 : random_below(random, 2)]);
	if (sharing->options->unbound && random_below(random, 2)) {
		shape.port = 0;
		shape.unbound = random_below(random, 2);
		shape.port_at_connect = !shape.unbound;
	}
	return shape;
}

static struct destination choose_destination(struct sharing *sharing, const struct pool *pool)
{
	struct random *random = &sharing->random;
	bool far = sharing->options->own_netns && random_below(random, 3) == 0;
	const char *const *names = far ? pool->netns_destinations : pool->destinations;
	struct destination destination = {.address = address_of(names[random_below(random, 3)])};

	destination.family = pool == pools ? AF_INET : AF_INET6;
	destination.port = (uint16_t)(7001 + random_below(random, 4) / 3);
	return destination;
}

static void open_set(struct sharing *sharing)
{
	struct random *random = &sharing->random;
	uint16_t port = (uint16_t)(FIRST_PORT + sharing->sets++ % PORTS);
	const struct pool *pool = &pools[sharing->has_v6 && random_below(random, 3) == 0];
	bool wildcards = random_below(random, 3) == 0;
	struct set *set = &sharing->set;

	if (sharing->options->unbound && sharing->options->own_netns)
		set_port_range(port, port + 1); /* or they would not meet */
	for (int i = 0; i < DESTINATIONS; i++)
		set->destinations[i] = choose_destination(sharing, pool);
	for (int i = 0; i < SOCKETS; i++) {
		set->shapes[i] = choose_shape(sharing, pool, wildcards, port);
		set->fds[i] = open_shape(&set->shapes[i]);
		if (set->fds[i] < 0 && errno != EADDRINUSE)
			fail(EXIT_CANNOT_RUN, "cannot open a socket: %s", strerror(errno));
	}
}

static void close_set(struct set *set)
{
	for (int i = 0; i < SOCKETS; i++)
		if (set->fds[i] >= 0)
			close(set->fds[i]);
}

static void print_violation(const struct sharing *sharing, const struct tuple *tuple, int first,
			    int second)
{
	char text[TUPLE_TEXT_LENGTH];

	print_tuple(tuple, text);
	fprintf(stderr, "violation in round %llu: sockets %d and %d both hold %s\n",
		(unsigned long long)sharing->rounds, first, second, text);
}

/* All threads stand still: who holds what? */
static void look_for_duplicates(struct sharing *sharing)
{
	struct tuple tuples[SOCKETS];
	bool holds[SOCKETS];

	for (int i = 0; i < SOCKETS; i++) {
		holds[i] = read_tuple(sharing->set.fds[i], &tuples[i]);
		for (int j = 0; holds[i] && j < i; j++) {
			if (!holds[j] || !is_same_tuple(&tuples[i], &tuples[j]))
				continue;
			if (sharing->violations++ < MAX_PRINTED)
				print_violation(sharing, &tuples[i], j, i);
			break;
		}
	}
}

static void operate(struct thread *thread, struct random *random)
{
	struct sharing *sharing = thread->sharing;
	struct counts *counts = &sharing->counts[thread->number];
	int index = (int)random_below(random, SOCKETS);
	struct destination destination =
	    sharing->set.destinations[random_below(random, DESTINATIONS)];
	int fd = sharing->set.fds[index], error;

	if (random_below(random, 4) == 0) {
		disconnect(fd);
		counts->disconnected++;
		return;
	}
	if (sharing->set.shapes[index].family == AF_INET6 && random_below(random, 2)) {
		destination.family = AF_INET6; /* to an IPv4 address also in its mapped form */
		if (is_wildcard(&destination.address) && random_below(random, 2))
			destination.address = address_of("::");
	}
	error = connect_to(fd, &destination);
	counts->connected += !error;
	counts->refused += error == sharing->options->refusal;
	counts->failed += error && error != sharing->options->refusal;
}

/* The leader's part between two rounds. */
static void finish_round(struct sharing *sharing)
{
	look_for_duplicates(sharing);
	sharing->rounds++;
	if (sharing->rounds >= sharing->options->rounds || atomic_load(&interrupted)) {
		sharing->ended = true;
		close_set(&sharing->set);
	} else if (sharing->rounds % ROUNDS_PER_SET == 0) {
		close_set(&sharing->set);
		open_set(sharing);
	}
}

static void *run_thread(void *argument)
{
	struct thread *thread = argument;
	struct sharing *sharing = thread->sharing;
	struct random random;

	random_init(&random, sharing->options->seed, thread->number + 1);
	for (;;) {
		barrier_wait(&sharing->start);
		if (sharing->ended)
			return NULL;
		for (int i = 0; i < OPERATIONS_PER_ROUND; i++)
			operate(thread, &random);
		barrier_wait(&sharing->finish);
		if (thread->number == 0)
			finish_round(sharing);
	}
}

static void report_sharing(const struct sharing *sharing)
{
	const struct options *options = sharing->options;
	struct counts sum = {0};
	struct report report;

	for (unsigned i = 0; i < options->threads; i++) {
		sum.connected += sharing->counts[i].connected;
		sum.refused += sharing->counts[i].refused;
		sum.failed += sharing->counts[i].failed;
		sum.disconnected += sharing->counts[i].disconnected;
	}
	report_begin(&report, options->json, "shared");
	report_number(&report, "seed", options->seed);
	report_number(&report, "threads", options->threads);
	report_number(&report, "rounds", sharing->rounds);
	report_number(&report, "connected", sum.connected);
	report_number(&report, "refused", sum.refused);
	report_number(&report, "failed_otherwise", sum.failed);
	report_number(&report, "disconnected", sum.disconnected);
	report_number(&report, "violations", sharing->violations);
	report_end(&report);
}

int run_shared(const struct options *options)
{
	const struct address loopback6 = address_of("::1");
	struct sharing *sharing = shared_memory(sizeof(*sharing));
	struct thread *threads = calloc(options->threads, sizeof(*threads));

	sharing->options = options;
	sharing->counts = shared_memory(options->threads * sizeof(*sharing->counts));
	random_init(&sharing->random, options->seed, 0);
	barrier_init(&sharing->start, options->threads);
	barrier_init(&sharing->finish, options->threads);
	if (!threads)
		fail(EXIT_CANNOT_RUN, "out of memory");
	sharing->has_v6 = is_local_address(&loopback6);
	open_set(sharing);
	for (unsigned number = 0; number < options->threads; number++) {
		threads[number].sharing = sharing;
		threads[number].number = number;
		if (pthread_create(&threads[number].id, NULL, run_thread, &threads[number]))
			fail(EXIT_CANNOT_RUN, "cannot start thread %u", number);
	}
	for (unsigned number = 0; number < options->threads; number++)
		pthread_join(threads[number].id, NULL);
	free(threads);
	report_sharing(sharing);
	return sharing->violations ? EXIT_VIOLATED : EXIT_HELD;
}
