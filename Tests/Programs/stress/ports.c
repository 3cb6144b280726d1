// SPDX-License-Identifier: Apache-2.0
/*
 * ports: connections of a cgroup that has ports of its own.
 *
 * No socket may have a port outside of these, and none may be refused while one is free. To
 * know when one is, every destination has as many seats as there are ports, one set for each
 * kind of socket: who has a seat connects, and gives it back after closing the socket. As many
 * as that fit, so that each refusal is a false one.
 */
#include "crew.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	DESTINATIONS = 2,
	SOCKETS = 8, /* of a thread */
	LAST_ERRNO = 133,
	MOST_EVENTS = 64,
	SERVER_BACKLOG = 4096,
};

/* IP_BIND_ADDRESS_NO_PORT sockets and those without any name, of both families. */
static const struct kind {
	const char *name;
	int type, family;
	const char *local; /* NULL: unbound */
	const char *remote;
} kinds[] = {
    {"tcp", SOCK_STREAM, AF_INET, NULL, "127.0.0.1"},
    {"tcp bound", SOCK_STREAM, AF_INET, "127.0.0.5", "127.0.0.1"},
    {"tcp v6", SOCK_STREAM, AF_INET6, NULL, "::1"},
    {"tcp mapped", SOCK_STREAM, AF_INET6, "127.0.0.6", "127.0.0.1"},
    {"udp", SOCK_DGRAM, AF_INET, NULL, "127.0.0.2"},
    {"udp bound", SOCK_DGRAM, AF_INET, "127.0.0.7", "127.0.0.3"},
    {"udp v6", SOCK_DGRAM, AF_INET6, NULL, "::1"},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct tally {
	_Alignas(64) uint64_t connected[KINDS], full;
	uint64_t outside; /* ports that are not the cgroup's own */
	uint64_t refused[LAST_ERRNO + 1];
};

struct seats {
	_Alignas(64) atomic_int taken;
};

struct plan {
	const struct options *options;
	uint16_t ports[DESTINATIONS]; /* of the servers */
	struct seats (*seats)[DESTINATIONS];
	struct tally *tallies; /* of each thread of each process */
};

struct connection {
	int fd; /* -1: none */
	unsigned kind, to;
};

/* Takes what connects, and keeps it until the other end is gone. */
static void *serve(void *poll)
{
	struct epoll_event events[MOST_EVENTS], added = {.events = EPOLLIN | EPOLLRDHUP};
	int count, fd;

	for (;;) {
		count = epoll_wait(*(int *)poll, events, MOST_EVENTS, -1);
		for (int i = 0; i < count; i++) {
			if (!(events[i].data.u64 >> 32)) {
				close((int)events[i].data.u64);
				continue;
			}
			fd = accept((int)(uint32_t)events[i].data.u64, NULL, NULL);
			added.data.u64 = (uint32_t)fd;
			if (fd >= 0 && epoll_ctl(*(int *)poll, EPOLL_CTL_ADD, fd, &added))
				close(fd);
		}
	}
	return NULL;
}

/* A server for both families; with port 0 at one that it then has. */
static uint16_t open_server(int poll, uint16_t port)
{
	struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct epoll_event added = {.events = EPOLLIN};
	socklen_t length = sizeof(name);
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	added.data.u64 = 1ULL << 32 | (uint32_t)fd;
	if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) ||
	    listen(fd, SERVER_BACKLOG) || getsockname(fd, (struct sockaddr *)&name, &length) ||
	    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &added))
		fail(EXIT_CANNOT_RUN, "cannot open a server: %s", strerror(errno));
	return ntohs(name.sin6_port);
}

static void start_servers(struct plan *plan)
{
	static int poll;
	pthread_t thread;

	poll = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < DESTINATIONS; i++)
		plan->ports[i] = open_server(poll, 0);
	if (pthread_create(&thread, NULL, serve, &poll))
		fail(EXIT_CANNOT_RUN, "cannot start a server's thread");
}

static int open_kind(const struct kind *kind)
{
	struct shape shape = {.family = kind->family,
			      .type = kind->type,
			      .exclusive = true,
			      .unbound = !kind->local,
			      .port_at_connect = kind->local};

	if (kind->local)
		shape.local = address_of(kind->local);
	return open_shape(&shape);
}

/* A seat for the connection, if there is one; false where all are taken. */
static bool take_seat(struct seats *seats, int most)
{
	if (atomic_fetch_add(&seats->taken, 1) < most)
		return true;
	atomic_fetch_sub(&seats->taken, 1);
	return false;
}

static void open_connection(struct plan *plan, struct random *random, struct tally *tally,
			    struct connection *it)
{
	const struct options *options = plan->options;
	const struct kind *kind;
	struct destination to;
	struct tuple tuple;
	int error;

	it->kind = random_below(random, KINDS);
	it->to = random_below(random, DESTINATIONS);
	kind = &kinds[it->kind];
	if (!take_seat(&plan->seats[it->kind][it->to],
		       options->last_port - options->first_port + 1)) {
		tally->full++;
		return;
	}
	it->fd = open_kind(kind);
	if (it->fd < 0)
		fail(EXIT_CANNOT_RUN, "cannot open a socket: %s", strerror(errno));
	to = (struct destination){.family = kind->family,
				  .address = address_of(kind->remote),
				  .port = plan->ports[it->to]};
	error = connect_to(it->fd, &to);
	if (error) {
		tally->refused[error <= LAST_ERRNO ? error : 0]++;
		return;
	}
	tally->connected[it->kind]++;
	if (!read_tuple(it->fd, &tuple) || tuple.local_port < options->first_port ||
	    tuple.local_port > options->last_port)
		tally->outside++;
}

/* Without a TIME_WAIT: the port is free again at once. */
static void close_connection(struct plan *plan, struct connection *it)
{
	struct linger none = {.l_onoff = 1};

	setsockopt(it->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(it->fd);
	it->fd = -1;
	atomic_fetch_sub(&plan->seats[it->kind][it->to].taken, 1);
}

static void run_member(struct member *member)
{
	struct plan *plan = member->crew->plan;
	struct tally *tally = &plan->tallies[member->number];
	struct connection connections[SOCKETS];

	for (unsigned i = 0; i < SOCKETS; i++)
		connections[i].fd = -1;
	while (!crew_is_over(member->crew)) {
		struct connection *it = &connections[random_below(&member->random, SOCKETS)];

		if (it->fd >= 0)
			close_connection(plan, it);
		else
			open_connection(plan, &member->random, tally, it);
		crew_step(member);
	}
	for (unsigned i = 0; i < SOCKETS; i++)
		if (connections[i].fd >= 0)
			close_connection(plan, &connections[i]);
}

static uint64_t report_ports(const struct plan *plan)
{
	const struct options *options = plan->options;
	uint64_t refused = 0, connected = 0, full = 0, outside = 0;
	struct tally sum = {0};
	struct report report;

	for (unsigned i = 0; i < options->processes * options->threads; i++) {
		const struct tally *tally = &plan->tallies[i];

		for (unsigned kind = 0; kind < KINDS; kind++)
			sum.connected[kind] += tally->connected[kind];
		for (int error = 0; error <= LAST_ERRNO; error++)
			sum.refused[error] += tally->refused[error];
		full += tally->full;
		outside += tally->outside;
	}
	report_begin(&report, options->json, "ports");
	report_number(&report, "seed", options->seed);
	report_open(&report, "connected");
	for (unsigned kind = 0; kind < KINDS; kind++) {
		report_number(&report, kinds[kind].name, sum.connected[kind]);
		connected += sum.connected[kind];
	}
	report_close(&report);
	report_open(&report, "refused");
	for (int error = 0; error <= LAST_ERRNO; error++) {
		if (sum.refused[error])
			report_number(&report, errno_name(error), sum.refused[error]);
		refused += sum.refused[error];
	}
	report_close(&report);
	report_number(&report, "all_ports_taken", full);
	report_number(&report, "outside_the_range", outside);
	report_number(&report, "violations", outside + refused);
	report_end(&report);
	if (!connected)
		fail(EXIT_CANNOT_RUN, "nothing could be connected");
	return outside + refused;
}

int run_ports(const struct options *options)
{
	struct plan plan = {.options = options};
	struct crew crew = {
	    .options = options,
	    .processes = options->processes,
	    .threads = options->threads,
	    .plan = &plan,
	    .run = run_member,
	};

	start_servers(&plan);
	plan.seats = shared_memory(sizeof(*plan.seats) * KINDS);
	plan.tallies = shared_memory(sizeof(*plan.tallies) * options->threads * options->processes);
	run_crew(&crew);
	return report_ports(&plan) ? EXIT_VIOLATED : EXIT_HELD;
}
