// SPDX-License-Identifier: Apache-2.0
/*
 * throng: as many connects for tuples that others want as the machine can do.
 *
 * Each thread has a few sockets on ports that all threads share, and they go for
 * few destinations: so many are refused, and so few calls stand between two
 * connects, that a hole that opens once in 10^8 times is met in minutes. What a
 * socket holds once it is connected is known beforehand; the kernel is asked for
 * some of them, whether that is so.
 */
#include "crew.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FAMILIES = 2, /* of the tuple, whatever the socket's */
	LOCAL_PORTS = 3,
	REMOTE_PORTS = 2,
	FIRST_PORT = 22000,
	SERVER_PORT = 7900,
	SEATS = 4,
	/* A seat in so many is asked what it holds. */
	LOOKS = 64,
	/* A guard waits so long for a connect that it has allowed. */
	STALL_MS = 900,
	LAST_ERRNO = 133,
};

/* Connected sockets of a tuple: as in oracle.h, entered late and struck off early. */
struct place {
	_Alignas(64) atomic_uint holders;
};

struct counts {
	_Alignas(64) uint64_t connected, refused, reconnected, reopened, looked, misread, stalled;
	uint64_t failed[LAST_ERRNO + 1];
};

struct throng {
	const struct options *options;
	struct place (*places)[LOCAL_PORTS][REMOTE_PORTS];
	_Atomic uint64_t *violations;
	struct counts *counts; /* of each thread of each process */
};

struct seat {
	int fd;
	struct shape shape;
	struct destination to;
	struct place *held; /* NULL: not connected */
};

struct guest {
	struct throng *throng;
	struct random *random;
	struct counts *counts;
	struct seat seats[SEATS];
};

/* Sockets of both families, with the address that they will have and with none. */
static struct shape choose_shape(struct random *random)
{
	static const struct {
		int family;
		const char *local;
	} kinds[] = {{AF_INET, "127.0.0.1"},
		     {AF_INET, "0.0.0.0"},
		     {AF_INET6, "127.0.0.1"},
		     {AF_INET6, "::1"},
		     {AF_INET6, "::"}};
	unsigned kind = random_below(random, sizeof(kinds) / sizeof(kinds[0]));

	return shape_at(kinds[kind].family, kinds[kind].local,
			(uint16_t)(FIRST_PORT + random_below(random, LOCAL_PORTS)));
}

static void open_seat(struct guest *guest, struct seat *seat)
{
	*seat = (struct seat){.shape = choose_shape(guest->random)};
	seat->fd = open_shape(&seat->shape);
	if (seat->fd < 0)
		fail(EXIT_CANNOT_RUN, "cannot open a socket on port %u: %s", seat->shape.port,
		     strerror(errno));
}

/* A socket keeps the source that its first connect has given it until it is disconnected. */
static struct destination choose_destination(struct random *random, const struct seat *seat)
{
	const struct shape *shape = &seat->shape;
	bool any = shape->family == AF_INET6 && is_wildcard(&shape->local);
	bool v4 = !any	       ? is_mapped(&shape->local)
		  : seat->held ? is_mapped(&seat->to.address)
			       : random_below(random, 2);

	return (struct destination){
	    .family = shape->family,
	    .address = address_of(v4 ? "127.0.0.1" : "::1"),
	    .port = (uint16_t)(SERVER_PORT + random_below(random, REMOTE_PORTS)),
	};
}

static struct place *place_of(const struct throng *throng, const struct seat *seat)
{
	return &throng->places[is_mapped(&seat->to.address)][seat->shape.port - FIRST_PORT]
			      [seat->to.port - SERVER_PORT];
}

/* Whether the kernel says that the socket holds what was taken for granted. */
static bool holds_its_tuple(const struct seat *seat)
{
	struct tuple expected = {.local = seat->to.address,
				 .remote = seat->to.address,
				 .local_port = seat->shape.port,
				 .remote_port = seat->to.port};
	struct tuple tuple;

	return read_tuple(seat->fd, &tuple) && is_same_tuple(&tuple, &expected);
}

static void enter(struct guest *guest, struct seat *seat)
{
	seat->held = place_of(guest->throng, seat);
	if (atomic_fetch_add(&seat->held->holders, 1))
		atomic_fetch_add(guest->throng->violations, 1);
	if (!random_below(guest->random, LOOKS)) {
		guest->counts->looked++;
		guest->counts->misread += !holds_its_tuple(seat);
	}
}

static void leave(struct seat *seat)
{
	atomic_fetch_sub(&seat->held->holders, 1);
	seat->held = NULL;
}

static void go(struct guest *guest, struct seat *seat)
{
	struct destination before = seat->to, to = choose_destination(guest->random, seat);
	bool was_connected = seat->held;
	uint64_t begin_ms;
	int error;

	if (was_connected)
		leave(seat);
	seat->to = to;
	begin_ms = now_ms();
	error = connect_to(seat->fd, &seat->to);
	guest->counts->stalled += now_ms() - begin_ms >= STALL_MS;
	if (!error) {
		guest->counts->connected++;
		guest->counts->reconnected += was_connected;
		enter(guest, seat);
		return;
	}
	if (error == guest->throng->options->refusal)
		guest->counts->refused++;
	else
		guest->counts->failed[error <= LAST_ERRNO ? error : 0]++;
	/* One that may not go elsewhere stays where it is. */
	seat->to = before;
	if (was_connected)
		enter(guest, seat);
}

static void step(struct guest *guest)
{
	struct seat *seat = &guest->seats[random_below(guest->random, SEATS)];
	unsigned chance = random_below(guest->random, 16);

	if (!seat->held || chance < 4) {
		go(guest, seat);
		return;
	}
	leave(seat);
	if (chance == 4) {
		close(seat->fd);
		guest->counts->reopened++;
		open_seat(guest, seat);
	} else if (disconnect(seat->fd)) {
		fail(EXIT_CANNOT_RUN, "cannot disconnect a socket: %s", strerror(errno));
	}
}

static void run_guest(struct member *member)
{
	struct throng *throng = member->crew->plan;
	struct guest guest = {
	    .throng = throng,
	    .random = &member->random,
	    .counts = &throng->counts[member->number],
	};

	for (unsigned i = 0; i < SEATS; i++)
		open_seat(&guest, &guest.seats[i]);
	while (!crew_is_over(member->crew)) {
		step(&guest);
		crew_step(member);
	}
	/* Others may not have heard yet that it is over, and take what is let go of here. */
	for (unsigned i = 0; i < SEATS; i++) {
		if (guest.seats[i].held)
			leave(&guest.seats[i]);
		close(guest.seats[i].fd);
	}
}

static uint64_t report_throng(const struct throng *throng)
{
	const struct options *options = throng->options;
	uint64_t violations = atomic_load(throng->violations);
	struct counts sum = {0};
	struct report report;

	for (unsigned i = 0; i < options->processes * options->threads; i++) {
		const struct counts *counts = &throng->counts[i];

		sum.connected += counts->connected;
		sum.refused += counts->refused;
		sum.reconnected += counts->reconnected;
		sum.reopened += counts->reopened;
		sum.looked += counts->looked;
		sum.misread += counts->misread;
		sum.stalled += counts->stalled;
		for (int error = 0; error <= LAST_ERRNO; error++)
			sum.failed[error] += counts->failed[error];
	}
	report_begin(&report, options->json, "throng");
	report_number(&report, "seed", options->seed);
	report_number(&report, "processes", options->processes);
	report_number(&report, "threads", options->threads);
	report_number(&report, "connected", sum.connected);
	report_number(&report, "refused", sum.refused);
	report_open(&report, "failed_otherwise");
	for (int error = 0; error <= LAST_ERRNO; error++)
		if (sum.failed[error])
			report_number(&report, errno_name(error), sum.failed[error]);
	report_close(&report);
	report_number(&report, "reconnected", sum.reconnected);
	report_number(&report, "reopened", sum.reopened);
	report_number(&report, "looked", sum.looked);
	report_number(&report, "stalled", sum.stalled);
	report_number(&report, "violations", violations);
	report_end(&report);
	if (sum.misread)
		fail(EXIT_CANNOT_RUN, "%llu of %llu sockets hold another tuple than they should",
		     (unsigned long long)sum.misread, (unsigned long long)sum.looked);
	return violations;
}

int run_throng(const struct options *options)
{
	struct throng throng = {.options = options};
	struct crew crew = {
	    .options = options,
	    .processes = options->processes,
	    .threads = options->threads,
	    .plan = &throng,
	    .run = run_guest,
	};

	throng.places = shared_memory(sizeof(*throng.places) * FAMILIES);
	throng.violations = shared_memory(sizeof(*throng.violations));
	throng.counts =
	    shared_memory(sizeof(*throng.counts) * options->threads * options->processes);
	run_crew(&crew);
	return report_throng(&throng) ? EXIT_VIOLATED : EXIT_HELD;
}
