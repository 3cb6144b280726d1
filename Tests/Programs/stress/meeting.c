// SPDX-License-Identifier: Apache-2.0
/*
 * outsiders and rewriters: sockets of few source ports meet at few
 * destinations. Whoever is connected is entered in the oracle's table, stays for
 * a moment, and goes. In `outsiders` every other process is in another cgroup,
 * where nothing may keep its sockets from each other, only from those inside; in
 * `rewriters` a BPF program sends several service addresses to one place.
 */
#include "contest.h"
#include "crew.h"
#include "oracle.h"
#include "rewriter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FIRST_PORT = 21000,
	LOCAL_PORTS = 4,
	SERVER_PORT = 7800,
	REMOTE_PORTS = 2,
	LAST_ERRNO = 133,
	/* One in so many stays until claims are old. */
	LONG_STAYS = 20000,
	LONG_STAY_MS = 1500,
};

struct counts {
	_Alignas(64) uint64_t connected, refused, reconnected, sent;
	uint64_t failed[LAST_ERRNO + 1];
};

struct meeting {
	const struct options *options;
	const char *name;
	struct oracle *oracle;
	struct counts *counts; /* of each thread of each process */
	bool has_outsiders, has_services;
};

struct guest {
	struct meeting *meeting;
	struct member *member;
	struct counts *counts;
	struct party party;
};

static bool is_outside(const struct meeting *meeting, unsigned process)
{
	return meeting->has_outsiders && process % 2;
}

static struct shape choose_shape(struct guest *guest)
{
	struct random *random = &guest->member->random;
	unsigned kind = random_below(random, 8);
	struct shape shape = {
	    .family = kind < 6 ? AF_INET : AF_INET6,
	    .local = address_of(kind ? "127.0.0.1" : "0.0.0.0"),
	    .port = (uint16_t)(FIRST_PORT + random_below(random, LOCAL_PORTS)),
	};

	return shape;
}

/* The place itself, by its own address or by that of one of its services. */
static struct destination choose_destination(struct guest *guest, const struct shape *shape)
{
	struct random *random = &guest->member->random;
	unsigned services = guest->meeting->has_services ? guest->meeting->options->services : 0;
	unsigned service = random_below(random, services + 1);
	struct destination destination = {
	    .family = shape->family,
	    .address = address_of("127.0.0.1"),
	    .port = (uint16_t)(SERVER_PORT + random_below(random, REMOTE_PORTS)),
	};

	if (service < services) /* the program there is for IPv4 sockets alone */
		destination =
		    (struct destination){AF_INET, service_address(service), destination.port};
	return destination;
}

static void stay(struct guest *guest)
{
	struct random *random = &guest->member->random;

	if (!random_below(random, LONG_STAYS))
		sleep_ms(LONG_STAY_MS);
	for (unsigned spin = random_below(random, guest->meeting->options->hold_us * 100); spin;
	     spin--)
		atomic_signal_fence(memory_order_seq_cst);
}

/* Connects once; whether or not that works, the kernel knows what the socket holds. */
static void visit(struct guest *guest, int fd, const struct shape *shape)
{
	struct destination destination = choose_destination(guest, shape);
	int error = connect_to(fd, &destination);
	struct tuple tuple;

	if (!error)
		guest->counts->connected++;
	else if (error == guest->meeting->options->refusal)
		guest->counts->refused++;
	else
		guest->counts->failed[error <= LAST_ERRNO ? error : 0]++;
	if (!read_tuple(fd, &tuple))
		return;
	guest->party.shape = *shape;
	oracle_enter(guest->meeting->oracle, &tuple, &guest->party);
	stay(guest);
	oracle_leave(guest->meeting->oracle, &tuple, guest->party.outside);
}

static void run_guest(struct member *member)
{
	struct meeting *meeting = member->crew->plan;
	struct guest guest = {
	    .meeting = meeting,
	    .member = member,
	    .counts = &meeting->counts[member->number],
	    .party = {(uint16_t)member->process, (uint16_t)member->thread,
		      .outside = is_outside(meeting, member->process)},
	};

	while (!crew_is_over(member->crew)) {
		struct shape shape = choose_shape(&guest);
		int fd = open_shape(&shape);

		if (fd < 0)
			fail(EXIT_CANNOT_RUN, "cannot open a socket on port %u: %s", shape.port,
			     strerror(errno));
		do
			visit(&guest, fd, &shape);
		while (!random_below(&member->random, 3));
		close(fd);
		crew_step(member);
	}
}

static void prepare_process(struct crew *crew, unsigned process)
{
	const struct meeting *meeting = crew->plan;

	if (is_outside(meeting, process))
		join_cgroup(meeting->options->outside);
}

static void report_side(struct report *report, const struct meeting *meeting, const char *title,
			bool outside)
{
	const struct options *options = meeting->options;
	struct counts sum = {0};

	for (unsigned i = 0; i < options->processes * options->threads; i++) {
		const struct counts *counts = &meeting->counts[i];

		if (is_outside(meeting, i / options->threads) != outside)
			continue;
		sum.connected += counts->connected;
		sum.refused += counts->refused;
		for (int error = 0; error <= LAST_ERRNO; error++)
			sum.failed[error] += counts->failed[error];
	}
	report_open(report, title);
	report_number(report, "connected", sum.connected);
	report_number(report, "refused", sum.refused);
	for (int error = 0; error <= LAST_ERRNO; error++)
		if (sum.failed[error])
			report_number(report, errno_name(error), sum.failed[error]);
	report_close(report);
}

static void report_meeting(const struct meeting *meeting)
{
	const struct options *options = meeting->options;
	struct report report;

	report_begin(&report, options->json, meeting->name);
	report_number(&report, "seed", options->seed);
	report_number(&report, "processes", options->processes);
	report_number(&report, "threads", options->threads);
	report_side(&report, meeting, "inside", false);
	if (meeting->has_outsiders)
		report_side(&report, meeting, "outside", true);
	report_number(&report, "violations", oracle_violations(meeting->oracle));
	report_end(&report);
}

static int meet(struct meeting *meeting)
{
	const struct options *options = meeting->options;
	struct crew crew = {
	    .options = options,
	    .processes = options->processes,
	    .threads = options->threads,
	    .plan = meeting,
	    .prepare = prepare_process,
	    .run = run_guest,
	};

	meeting->oracle = make_oracle();
	meeting->counts =
	    shared_memory(sizeof(*meeting->counts) * options->threads * options->processes);
	run_crew(&crew);
	print_violations(meeting->oracle);
	report_meeting(meeting);
	return oracle_violations(meeting->oracle) ? EXIT_VIOLATED : EXIT_HELD;
}

int run_outsiders(const struct options *options)
{
	struct meeting meeting = {.options = options, .name = "outsiders", .has_outsiders = true};

	if (!options->outside)
		fail(EXIT_BAD_USAGE, "outsiders needs --outside FOLDER, a cgroup");
	if (options->processes < 2)
		fail(EXIT_BAD_USAGE, "outsiders needs two processes at least");
	return meet(&meeting);
}

int run_rewriters(const struct options *options)
{
	struct meeting meeting = {.options = options, .name = "rewriters", .has_services = true};

	if (options->rewriter)
		attach_rewriter(options->rewriter);
	if (options->idle) {
		puts("attached");
		fflush(stdout);
		while (!atomic_load(&interrupted))
			pause();
		return EXIT_HELD;
	}
	return meet(&meeting);
}
