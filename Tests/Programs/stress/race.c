// SPDX-License-Identifier: Apache-2.0
/*
 * race: in every round all threads connect a socket of their own to one tuple
 * at one time. Exactly one must get it.
 */
#include "stress.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	/* A port comes again only after this many rounds, its sockets long closed. */
	FIRST_PORT = 20000,
	PORTS = 12000,
	DESTINATION_PORT = 7001,
};

/* What one thread of a round does. */
struct contender {
	struct shape shape;
	struct destination destination;
};

struct round {
	atomic_uint winners, refused, otherwise, missing;
	atomic_int unexpected; /* errno of one that was not refused as it should */
};

struct race {
	const struct options *options;
	struct barrier start, finish;
	/* Two, so that one is read and cleared while the other may be in use already. */
	struct round rounds[2];
	bool ended;
	/* The leader's. */
	uint64_t played, skipped, none, one, several, refusals, otherwise;
	int unexpected;
};

struct thread {
	struct race *race;
	unsigned number;
	pthread_t id;
};

/* Every contender is after the same tuple, by its own way. */
static struct contender make_contender(const char *family, unsigned number)
{
	struct contender v4 = {
	    .shape = {.family = AF_INET, .local = address_of("127.0.0.1")},
	    .destination = {AF_INET, address_of("127.0.0.1"), DESTINATION_PORT},
	};
	struct contender v6 = {
	    .shape = {.family = AF_INET6, .local = address_of("::1")},
	    .destination = {AF_INET6, address_of("::1"), DESTINATION_PORT},
	};
	struct contender mapped = v4, hybrid = v4, wildcard = v4;

	mapped.shape.family = AF_INET6;
	mapped.destination.family = AF_INET6;
	hybrid.shape.family = AF_INET6; /* an IPv6 socket given an IPv4 sockaddr */
	wildcard.shape.local = address_of("0.0.0.0");
	if (!strcmp(family, "4"))
		return v4;
	if (!strcmp(family, "6"))
		return v6;
	if (!strcmp(family, "mapped"))
		return mapped;
	if (!strcmp(family, "wildcard"))
		return number % 2 ? wildcard : v4;
	return number % 3 == 0 ? v4 : number % 3 == 1 ? mapped : hybrid;
}

static void contend(struct race *race, struct round *round, int fd,
		    const struct contender *contender)
{
	int error;

	if (fd < 0) {
		atomic_fetch_add(&round->missing, 1);
		return;
	}
	error = connect_to(fd, &contender->destination);
	if (!error) {
		atomic_fetch_add(&round->winners, 1);
	} else if (error == race->options->refusal) {
		atomic_fetch_add(&round->refused, 1);
	} else {
		atomic_fetch_add(&round->otherwise, 1);
		atomic_store(&round->unexpected, error);
	}
}

/* The leader counts a finished round, while its sockets are still open. */
static void settle(struct race *race, struct round *round)
{
	unsigned winners = atomic_exchange(&round->winners, 0);
	unsigned refused = atomic_exchange(&round->refused, 0);
	unsigned otherwise = atomic_exchange(&round->otherwise, 0);
	int unexpected = atomic_exchange(&round->unexpected, 0);

	race->played++;
	if (atomic_exchange(&round->missing, 0)) {
		race->skipped++;
	} else {
		race->none += winners == 0;
		race->one += winners == 1;
		race->several += winners > 1;
		race->refusals += refused;
		race->otherwise += otherwise;
		if (unexpected)
			race->unexpected = unexpected;
	}
	race->ended = race->played >= race->options->rounds || atomic_load(&interrupted);
}

static void *run_thread(void *argument)
{
	struct thread *thread = argument;
	struct race *race = thread->race;
	struct contender contender = make_contender(race->options->family, thread->number);

	for (uint64_t number = 0;; number++) {
		struct round *round = &race->rounds[number % 2];
		int fd;

		contender.shape.port = (uint16_t)(FIRST_PORT + number % PORTS);
		fd = open_shape(&contender.shape);
		barrier_wait(&race->start);
		if (race->ended) {
			if (fd >= 0)
				close(fd);
			return NULL;
		}
		contend(race, round, fd, &contender);
		barrier_wait(&race->finish);
		if (thread->number == 0)
			settle(race, round);
		if (fd >= 0)
			close(fd);
	}
}

static void report_race(const struct race *race)
{
	const struct options *options = race->options;
	struct report report;

	report_begin(&report, options->json, "race");
	report_text(&report, "family", options->family);
	report_number(&report, "threads", options->threads);
	report_number(&report, "rounds", race->played);
	report_number(&report, "rounds_with_one_winner", race->one);
	report_number(&report, "rounds_without_winner", race->none);
	report_number(&report, "rounds_with_several_winners", race->several);
	/* A port that another program has, for instance. */
	report_number(&report, "rounds_skipped", race->skipped);
	report_number(&report, "refused", race->refusals);
	report_number(&report, "failed_otherwise", race->otherwise);
	if (race->unexpected)
		report_text(&report, "unexpected_error", errno_name(race->unexpected));
	report_end(&report);
}

static int judge(const struct race *race)
{
	uint64_t counted = race->played - race->skipped;

	if (race->none || race->several || race->otherwise)
		return EXIT_VIOLATED;
	if (race->skipped > race->played / 10 || !counted)
		fail(
		    EXIT_CANNOT_RUN,
		    "%llu of %llu rounds could not bind their sockets (ports %d to %d of loopback)",
		    (unsigned long long)race->skipped, (unsigned long long)race->played, FIRST_PORT,
		    FIRST_PORT + PORTS - 1);
	return EXIT_HELD;
}

int run_race(const struct options *options)
{
	struct race *race = shared_memory(sizeof(*race));
	struct thread *threads = calloc(options->threads, sizeof(*threads));

	race->options = options;
	barrier_init(&race->start, options->threads);
	barrier_init(&race->finish, options->threads);
	if (!threads)
		fail(EXIT_CANNOT_RUN, "out of memory");
	for (unsigned number = 0; number < options->threads; number++) {
		threads[number].race = race;
		threads[number].number = number;
		if (pthread_create(&threads[number].id, NULL, run_thread, &threads[number]))
			fail(EXIT_CANNOT_RUN, "cannot start thread %u", number);
	}
	for (unsigned number = 0; number < options->threads; number++)
		pthread_join(threads[number].id, NULL);
	free(threads);
	report_race(race);
	return judge(race);
}
