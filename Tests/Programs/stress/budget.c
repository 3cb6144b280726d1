// SPDX-License-Identifier: Apache-2.0
/*
 * budget: TCP and UDP sockets open, connect, fail to, disconnect, connect again,
 * are duplicated and closed, in a cgroup that may have so many connections at one
 * time. Two counts bound what is open: `connected` is raised after a connect and
 * lowered before what ends it, and may never pass the limit; `possible` is raised
 * before and lowered after, and whoever is refused while it cannot have passed the
 * limit is refused for nothing. When all is closed, exactly as many as the limit
 * says must get through.
 */
#include "crew.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	SERVER_PORT = 7810,
	CLOSED_PORT = 7811,
	SHARED_PORT = 23000,
	SEATS = 16,
	SERVERS = 200, /* addresses of one server: each has the whole range of local ports */
	LAST_ERRNO = 133,
};

struct counts {
	_Alignas(64) uint64_t connected, refused;
	uint64_t errors[LAST_ERRNO + 1];
};

/* In memory that all processes share. */
struct tally {
	_Alignas(64) _Atomic int64_t connected;
	_Alignas(64) _Atomic int64_t possible;
	/* How often `possible` was raised: shows how high it may have been in between. */
	_Alignas(64) _Atomic uint64_t raised;
	_Alignas(64) _Atomic int64_t most;
	_Atomic uint64_t too_many, for_nothing;
};

struct plan {
	const struct options *options;
	struct tally *tally;
	struct counts *counts; /* of each thread of each process */
};

struct seat {
	int fd; /* -1: none */
	bool tcp, v6;
	bool is_connected;
	/*
	 * In `possible`. A UDP socket is until it is closed: for a moment after a connect
	 * that another thread may still have under way it counts all the same.
	 */
	bool may_count;
};

struct guest {
	struct plan *plan;
	struct random *random;
	struct counts *counts;
	struct seat seats[SEATS];
};

static struct address server_address(struct guest *guest, bool v6)
{
	char text[32];

	if (v6)
		return address_of("::1");
	inet_ntop(AF_INET,
		  &(struct in_addr){htonl(0x7f000001 + random_below(guest->random, SERVERS))}, text,
		  sizeof(text));
	return address_of(text);
}

static void raise_possible(struct guest *guest, struct seat *seat)
{
	struct tally *tally = guest->plan->tally;

	if (seat->may_count)
		return;
	seat->may_count = true;
	atomic_fetch_add(&tally->raised, 1);
	atomic_fetch_add(&tally->possible, 1);
}

static void lower_possible(struct guest *guest, struct seat *seat)
{
	if (seat->may_count)
		atomic_fetch_sub(&guest->plan->tally->possible, 1);
	seat->may_count = false;
}

static void is_connected_now(struct guest *guest, struct seat *seat)
{
	struct tally *tally = guest->plan->tally;
	int64_t now, most = atomic_load(&tally->most);

	guest->counts->connected++;
	if (seat->is_connected)
		return;
	seat->is_connected = true;
	now = atomic_fetch_add(&tally->connected, 1) + 1;
	while (now > most && !atomic_compare_exchange_weak(&tally->most, &most, now))
		;
	if (now > (int64_t)guest->plan->options->limit)
		atomic_fetch_add(&tally->too_many, 1);
}

/* Before what ends a connection. */
static void ends_now(struct guest *guest, struct seat *seat)
{
	if (seat->is_connected)
		atomic_fetch_sub(&guest->plan->tally->connected, 1);
	seat->is_connected = false;
}

static void close_seat(struct guest *guest, struct seat *seat)
{
	struct linger at_once = {.l_onoff = 1};

	if (seat->fd < 0)
		return;
	if (seat->tcp) /* leaves no TIME_WAIT, of which there would be millions */
		setsockopt(seat->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	ends_now(guest, seat);
	close(seat->fd);
	lower_possible(guest, seat);
	seat->fd = -1;
}

static void open_seat(struct guest *guest, struct seat *seat)
{
	bool tcp = random_below(guest->random, 2), v6 = random_below(guest->random, 3) == 0;
	struct shape shape = shape_at(v6 ? AF_INET6 : AF_INET, v6 ? "::1" : "0.0.0.0", SHARED_PORT);

	*seat = (struct seat){.tcp = tcp, .v6 = v6};
	/* Some UDP sockets share a port, so that some are refused for their tuple. */
	if (!tcp && random_below(guest->random, 4) == 0)
		seat->fd = open_shape(&shape);
	else
		seat->fd = socket(shape.family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	if (seat->fd < 0)
		fail(EXIT_CANNOT_RUN, "cannot make a socket: %s", strerror(errno));
	if (tcp && random_below(guest->random, 4) == 0)
		fcntl(seat->fd, F_SETFL, O_NONBLOCK);
}

/* The outcome of a non-blocking connect. */
static int wait_for(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLOUT};
	int error = 0;
	socklen_t length = sizeof(error);

	poll(&ready, 1, -1);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error;
}

/* A destination where a server is, and now and then one where none is. */
static struct destination choose_destination(struct guest *guest, const struct seat *seat)
{
	struct destination to = {.family = seat->v6 ? AF_INET6 : AF_INET,
				 .address = server_address(guest, seat->v6),
				 .port = SERVER_PORT};

	switch (random_below(guest->random, 10)) {
	case 0:
		to.port = CLOSED_PORT; /* ECONNREFUSED, for TCP */
		break;
	case 1:
		to.address = address_of(seat->v6 ? "2001:db8::1" : "203.0.113.1");
		break;
	}
	return to;
}

static void connect_seat(struct guest *guest, struct seat *seat)
{
	struct tally *tally = guest->plan->tally;
	struct destination to = choose_destination(guest, seat);
	uint64_t raised = atomic_load(&tally->raised);
	int64_t possible;
	int error;

	if (seat->tcp && seat->is_connected)
		return;
	raise_possible(guest, seat);
	possible = atomic_load(&tally->possible);
	error = connect_to(seat->fd, &to);
	if (error == EINPROGRESS)
		error = wait_for(seat->fd);
	if (!error) {
		is_connected_now(guest, seat);
		return;
	}
	if (error == guest->plan->options->refusal) {
		guest->counts->refused++;
		/* No higher than that was it since. */
		possible += (int64_t)(atomic_load(&tally->raised) - raised);
		if (!seat->is_connected && possible <= (int64_t)guest->plan->options->limit)
			atomic_fetch_add(&tally->for_nothing, 1);
	} else {
		guest->counts->errors[error <= LAST_ERRNO ? error : 0]++;
	}
	if (seat->tcp || (error == guest->plan->options->refusal && !seat->is_connected))
		lower_possible(guest, seat);
}

static void disconnect_seat(struct guest *guest, struct seat *seat)
{
	ends_now(guest, seat);
	disconnect(seat->fd);
	if (seat->tcp)
		lower_possible(guest, seat);
}

/* A descriptor more: the first one's end ends nothing. */
static void duplicate_seat(struct seat *seat)
{
	int copy = dup(seat->fd);

	if (copy < 0)
		fail(EXIT_CANNOT_RUN, "cannot duplicate a descriptor: %s", strerror(errno));
	close(seat->fd);
	seat->fd = copy;
}

static void act(struct guest *guest)
{
	struct seat *seat = &guest->seats[random_below(guest->random, SEATS)];

	if (seat->fd < 0) {
		open_seat(guest, seat);
		connect_seat(guest, seat);
		return;
	}
	switch (random_below(guest->random, 8)) {
	case 0:
		disconnect_seat(guest, seat);
		break;
	case 1:
		duplicate_seat(seat);
		break;
	case 2:
	case 3:
		connect_seat(guest, seat);
		break;
	default:
		close_seat(guest, seat);
	}
}

static void run_guest(struct member *member)
{
	struct plan *plan = member->crew->plan;
	struct guest guest = {
	    .plan = plan, .random = &member->random, .counts = &plan->counts[member->number]};

	for (unsigned i = 0; i < SEATS; i++)
		guest.seats[i].fd = -1;
	while (!crew_is_over(member->crew)) {
		act(&guest);
		/* Now and then few are open, so that nobody may be refused. */
		if (random_below(guest.random, 200) == 0)
			for (unsigned i = 0; i < SEATS; i++)
				close_seat(&guest, &guest.seats[i]);
		crew_step(member);
	}
	for (unsigned i = 0; i < SEATS; i++)
		close_seat(&guest, &guest.seats[i]);
}

/* What a client closes is closed here too: a connection that the server ended would not count. */
static _Noreturn void serve(int listener)
{
	int events = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};

	if (events < 0 || epoll_ctl(events, EPOLL_CTL_ADD, listener, &event))
		fail(EXIT_CANNOT_RUN, "cannot wait for events: %s", strerror(errno));
	for (;;) {
		if (epoll_wait(events, &event, 1, -1) != 1)
			continue;
		if (event.data.fd != listener) {
			close(event.data.fd);
			continue;
		}
		event.data.fd = accept(listener, NULL, NULL);
		event.events = EPOLLIN | EPOLLRDHUP;
		if (event.data.fd >= 0 && epoll_ctl(events, EPOLL_CTL_ADD, event.data.fd, &event))
			fail(EXIT_CANNOT_RUN, "cannot wait for a client: %s", strerror(errno));
	}
}

static void start_server(void)
{
	struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons(SERVER_PORT)};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) || listen(fd, 4096))
		fail(EXIT_CANNOT_RUN, "cannot listen on port %d: %s", SERVER_PORT, strerror(errno));
	if (fork_for_life() == 0)
		serve(fd);
	close(fd);
}

/* How many of a few more than the limit get through, when nothing is open. */
static unsigned count_to_the_limit(unsigned limit)
{
	struct destination to = {AF_INET, address_of("127.0.0.1"), SERVER_PORT};
	unsigned connected = 0;
	int *fds = calloc(limit + 8, sizeof(*fds));

	if (!fds)
		fail(EXIT_CANNOT_RUN, "out of memory");
	for (unsigned i = 0; i < limit + 8; i++) {
		fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		connected += fds[i] >= 0 && !connect_to(fds[i], &to);
	}
	for (unsigned i = 0; i < limit + 8; i++)
		close(fds[i]);
	free(fds);
	return connected;
}

static int report_budget(const struct plan *plan, unsigned at_the_end)
{
	const struct options *options = plan->options;
	const struct tally *tally = plan->tally;
	struct counts sum = {0};
	uint64_t violations = tally->too_many + tally->for_nothing + (at_the_end != options->limit);
	struct report report;

	for (unsigned i = 0; i < options->processes * options->threads; i++) {
		sum.connected += plan->counts[i].connected;
		sum.refused += plan->counts[i].refused;
		for (int error = 0; error <= LAST_ERRNO; error++)
			sum.errors[error] += plan->counts[i].errors[error];
	}
	report_begin(&report, options->json, "budget");
	report_number(&report, "seed", options->seed);
	report_number(&report, "limit", options->limit);
	report_number(&report, "connected", sum.connected);
	report_number(&report, "refused", sum.refused);
	for (int error = 0; error <= LAST_ERRNO; error++)
		if (sum.errors[error])
			report_number(&report, errno_name(error), sum.errors[error]);
	report_number(&report, "most_at_once", (uint64_t)tally->most);
	report_number(&report, "too_many", tally->too_many);
	report_number(&report, "refused_for_nothing", tally->for_nothing);
	report_number(&report, "at_the_end", at_the_end);
	report_number(&report, "violations", violations);
	report_end(&report);
	return violations ? EXIT_VIOLATED : EXIT_HELD;
}

int run_budget(const struct options *options)
{
	struct plan plan = {.options = options, .tally = shared_memory(sizeof(*plan.tally))};
	struct crew crew = {
	    .options = options,
	    .processes = options->processes,
	    .threads = options->threads,
	    .plan = &plan,
	    .run = run_guest,
	};

	if (!options->limit)
		fail(EXIT_BAD_USAGE, "budget needs --limit NUMBER, that of the cgroup");
	plan.counts = shared_memory(sizeof(*plan.counts) * options->threads * options->processes);
	start_server();
	run_crew(&crew);
	return report_budget(&plan, count_to_the_limit(options->limit));
}
