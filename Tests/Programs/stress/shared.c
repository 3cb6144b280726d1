// SPDX-License-Identifier: Apache-2.0
/*
 * shared: several threads connect and disconnect the same sockets at the same
 * time. The kernel lets a socket go between asking whether a connect() is
 * allowed and doing it, so what was allowed may happen late, in another order,
 * or after the socket gave the tuple up. When all threads stand still, no two
 * sockets may hold one tuple.
 *
 * samesocket: the same, and the threads also bind these sockets, send from them,
 * and change whether and from where they share a port.
 */
#include "contest.h"
#include "crew.h"

#include <errno.h>
#include <stdio.h>
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
	_Alignas(64) uint64_t connected, refused, failed, disconnected, changed;
};

/* One process and its threads; processes do not meet, since they could not stand still together. */
struct sharing {
	const struct options *options;
	struct barrier start, finish;
	struct set set;
	uint16_t port; /* of the set */
	bool ended;
	/* The leader's. */
	struct random random;
	bool has_v6;
	uint64_t rounds, sets, violations;
};

struct plan {
	struct sharing *sharings; /* of each process */
	struct counts *counts;	  /* of each thread of each process */
};

struct thread {
	struct sharing *sharing;
	struct member *member;
	struct counts *counts;
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
	if (sharing->options->restless) {
		shape.exclusive = shape.unbound && random_below(random, 2);
		shape.in_group = random_below(random, 4) == 0;
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

	sharing->port = port;
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

/* Something of what a port depends on. Much of it fails, since another thread was first. */
static void change(struct thread *thread, int fd, const struct destination *destination)
{
	struct random *random = &thread->member->random;
	uint16_t port = thread->sharing->port;
	struct shape shape = {
	    .family = destination->family,
	    .local = address_of(random_below(random, 2) ? "127.0.0.1" : "0.0.0.0"),
	    .port = random_below(random, 4) ? port : 0,
	};

	thread->counts->changed++;
	switch (random_below(random, 6)) {
	case 0:
	case 1:
		set_sharing(fd, random_below(random, 4));
		return;
	case 2:
		set_own_port_range(fd, port, (uint16_t)(port + random_below(random, 2)));
		return;
	case 3:
		send_to(fd, destination); /* which gives a port to a socket that has none */
		return;
	default:
		bind_shape(fd, &shape);
	}
}

static void operate(struct thread *thread)
{
	struct sharing *sharing = thread->sharing;
	struct random *random = &thread->member->random;
	struct counts *counts = thread->counts;
	int index = (int)random_below(random, SOCKETS);
	struct destination destination =
	    sharing->set.destinations[random_below(random, DESTINATIONS)];
	int fd = sharing->set.fds[index], error;

	if (sharing->options->restless && random_below(random, 3) == 0) {
		change(thread, fd, &destination);
		return;
	}
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

static bool is_over(const struct thread *thread)
{
	const struct options *options = thread->sharing->options;

	return crew_is_over(thread->member->crew) ||
	       (!options->restless && thread->sharing->rounds >= options->rounds);
}

/* The leader's part between two rounds. */
static void finish_round(struct thread *thread)
{
	struct sharing *sharing = thread->sharing;

	look_for_duplicates(sharing);
	sharing->rounds++;
	crew_step(thread->member);
	if (is_over(thread)) {
		sharing->ended = true;
		close_set(&sharing->set);
	} else if (sharing->rounds % ROUNDS_PER_SET == 0) {
		close_set(&sharing->set);
		open_set(sharing);
	}
}

static void run_thread(struct member *member)
{
	struct plan *plan = member->crew->plan;
	struct thread thread = {
	    .sharing = &plan->sharings[member->process],
	    .member = member,
	    .counts = &plan->counts[member->number],
	};

	for (;;) {
		barrier_wait(&thread.sharing->start);
		if (thread.sharing->ended)
			return;
		for (int i = 0; i < OPERATIONS_PER_ROUND; i++)
			operate(&thread);
		barrier_wait(&thread.sharing->finish);
		if (member->thread == 0)
			finish_round(&thread);
	}
}

/* Each process in a network namespace of its own, or they would take each other's ports. */
static void prepare_process(struct crew *crew, unsigned process)
{
	const struct address loopback6 = address_of("::1");
	struct plan *plan = crew->plan;
	struct sharing *sharing = &plan->sharings[process];

	if (crew->options->own_netns && process)
		enter_own_netns();
	sharing->options = crew->options;
	random_init(&sharing->random, crew->options->seed, UINT64_MAX - process);
	barrier_init(&sharing->start, crew->threads);
	barrier_init(&sharing->finish, crew->threads);
	sharing->has_v6 = is_local_address(&loopback6);
	open_set(sharing);
}

static uint64_t report_sharing(const struct crew *crew)
{
	const struct options *options = crew->options;
	const struct plan *plan = crew->plan;
	uint64_t rounds = 0, violations = 0;
	struct counts sum = {0};
	struct report report;

	for (unsigned i = 0; i < crew->processes * crew->threads; i++) {
		sum.connected += plan->counts[i].connected;
		sum.refused += plan->counts[i].refused;
		sum.failed += plan->counts[i].failed;
		sum.disconnected += plan->counts[i].disconnected;
		sum.changed += plan->counts[i].changed;
	}
	for (unsigned i = 0; i < crew->processes; i++) {
		rounds += plan->sharings[i].rounds;
		violations += plan->sharings[i].violations;
	}
	report_begin(&report, options->json, options->restless ? "samesocket" : "shared");
	report_number(&report, "seed", options->seed);
	report_number(&report, "processes", crew->processes);
	report_number(&report, "threads", crew->threads);
	report_number(&report, "rounds", rounds);
	report_number(&report, "connected", sum.connected);
	report_number(&report, "refused", sum.refused);
	report_number(&report, "failed_otherwise", sum.failed);
	report_number(&report, "disconnected", sum.disconnected);
	if (options->restless)
		report_number(&report, "changed", sum.changed);
	report_number(&report, "violations", violations);
	report_end(&report);
	return violations;
}

static int share(const struct options *options, unsigned processes)
{
	struct plan plan = {0};
	struct crew crew = {
	    .options = options,
	    .processes = processes,
	    .threads = options->threads,
	    .plan = &plan,
	    .prepare = prepare_process,
	    .run = run_thread,
	    .ends_by_itself = !options->restless,
	};

	plan.sharings = shared_memory(processes * sizeof(*plan.sharings));
	plan.counts = shared_memory((size_t)processes * options->threads * sizeof(*plan.counts));
	run_crew(&crew);
	return report_sharing(&crew) ? EXIT_VIOLATED : EXIT_HELD;
}

int run_shared(const struct options *options)
{
	return share(options, 1);
}

int run_samesocket(const struct options *options)
{
	struct options also = *options;

	if (options->processes > 1 && !options->own_netns)
		fail(EXIT_BAD_USAGE, "samesocket with several processes needs --netns");
	also.restless = true;
	also.unbound = true;
	return share(&also, options->processes);
}
