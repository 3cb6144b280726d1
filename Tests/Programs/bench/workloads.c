// SPDX-License-Identifier: Apache-2.0
/*
 * What is timed: whole life cycles of a socket, reconnects, refusals, and
 * connects among many sockets that share a local address and port. Each
 * variant does the same work; only what is attached differs.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

enum {
	LOCAL_PORT = 20000, /* and those after it */
	REMOTE_PORT = 9000,
	OTHER_REMOTE_PORT = 9001, /* and those after it */
};

struct address loopback(int family, int port)
{
	struct address address = {.length = sizeof(address.v4)};

	if (family == AF_INET) {
		address.v4.sin_family = AF_INET;
		address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	} else {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_addr = in6addr_loopback;
		address.length = sizeof(address.v6);
	}
	set_port(&address, port);
	return address;
}

struct address loopback_number(int network, int number, int port)
{
	struct address address = loopback(AF_INET, port);

	address.v4.sin_addr.s_addr = htonl(127u << 24 | network << 16 | number);
	return address;
}

void set_port(struct address *address, int port)
{
	_Static_assert(offsetof(struct sockaddr_in, sin_port) ==
			   offsetof(struct sockaddr_in6, sin6_port),
		       "the port is at the same place in both families");
	address->v4.sin_port = htons(port);
}

int bound_socket(const struct address *local)
{
	int fd = socket(local->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, &local->any, local->length))
		die("cannot make a socket bound to port %d", ntohs(local->v4.sin_port));
	return fd;
}

static void must_connect(int fd, const struct address *remote)
{
	if (connect(fd, &remote->any, remote->length))
		die("a connect that nothing is in the way of failed");
}

/* ---- the whole cycle: socket, setsockopt, bind, connect, close ---- */

static void prepare_nothing(const struct workload *workload, enum variant variant)
{
	(void)workload;
	(void)variant;
}

static void finish_nothing(const struct workload *workload)
{
	(void)workload;
}

/*
 * On one tuple, again and again, everything that the kernel and the guard look
 * at stays in the processor's caches; over many in turn, less of it does.
 */
static void run_cycles(const struct workload *workload, int first, int end)
{
	static int turn;
	struct address local = loopback(workload->family, 0);
	struct address remote = loopback(workload->family, REMOTE_PORT);

	for (int i = first; i < end; i++) {
		int fd;

		set_port(&local, LOCAL_PORT + turn++ % workload->tuples);
		fd = bound_socket(&local);
		must_connect(fd, &remote);
		close(fd);
	}
}

/* ---- a cycle without bind: the kernel chooses the port, or the guard does ---- */

static void run_unbound_cycles(const struct workload *workload, int first, int end)
{
	struct address remote = loopback(workload->family, REMOTE_PORT);

	for (int i = first; i < end; i++) {
		int fd = socket(workload->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			die("cannot make a socket");
		must_connect(fd, &remote);
		close(fd);
	}
}

/* ---- the same for TCP, on loopback: with the server's part of it ---- */

static int listening = -1;

static void prepare_connections(const struct workload *workload, enum variant variant)
{
	struct address server = loopback(workload->family, REMOTE_PORT);
	int on = 1;

	(void)variant;
	listening = socket(workload->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listening < 0 || setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(listening, &server.any, server.length) || listen(listening, 16))
		die("cannot listen");
}

static void run_connections(const struct workload *workload, int first, int end)
{
	struct address remote = loopback(workload->family, REMOTE_PORT);
	/* Reset at its end: TIME_WAIT would use up the ports. */
	const struct linger at_once = {.l_onoff = 1};

	for (int i = first; i < end; i++) {
		int fd = socket(workload->family, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;

		if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)))
			die("cannot make a socket");
		must_connect(fd, &remote);
		accepted = accept(listening, NULL, NULL);
		close(fd);
		close(accepted);
	}
}

static void finish_connections(const struct workload *workload)
{
	(void)workload;
	close(listening);
}

/* ---- reconnects: one socket, some destinations in turn ---- */

static int reconnecting = -1;

static void prepare_reconnects(const struct workload *workload, enum variant variant)
{
	struct address local = loopback(workload->family, LOCAL_PORT);

	(void)variant;
	reconnecting = bound_socket(&local);
}

static void run_reconnects(const struct workload *workload, int first, int end)
{
	struct address remote = loopback(workload->family, REMOTE_PORT);

	for (int i = first; i < end; i++) {
		set_port(&remote, REMOTE_PORT + i % workload->tuples);
		must_connect(reconnecting, &remote);
	}
}

static void finish_reconnects(const struct workload *workload)
{
	(void)workload;
	close(reconnecting);
}

/* ---- refusals ---- */

/*
 * Pairs of sockets on one local address and port each, so that no list in the
 * kernel grows. The first is connected; the second asks for the same
 * destination where something refuses that, and else for another one, which
 * succeeds: so the ratio is of a refusal to a success.
 */
enum { PAIRS = 300 };

static struct {
	int holder;
	int claimant;
} pairs[PAIRS];
static bool is_refused;

static void prepare_refusals(const struct workload *workload, enum variant variant)
{
	struct address local = loopback(workload->family, 0);
	struct address remote = loopback(workload->family, REMOTE_PORT);

	is_refused = is_guard(variant);
	for (int i = 0; i < PAIRS; i++) {
		set_port(&local, LOCAL_PORT + i);
		pairs[i].holder = bound_socket(&local);
		must_connect(pairs[i].holder, &remote);
		pairs[i].claimant = bound_socket(&local);
	}
}

static void run_refusals(const struct workload *workload, int first, int end)
{
	struct address remote =
	    loopback(workload->family, is_refused ? REMOTE_PORT : OTHER_REMOTE_PORT);

	for (int i = first; i < end; i++) {
		int error = connect(pairs[i].claimant, &remote.any, remote.length) ? errno : 0;

		if (error != (is_refused ? EPERM : 0))
			die("a connect that should %s did not",
			    is_refused ? "be refused" : "succeed");
	}
}

static void finish_refusals(const struct workload *workload)
{
	(void)workload;
	for (int i = 0; i < PAIRS; i++) {
		close(pairs[i].holder);
		close(pairs[i].claimant);
	}
}

/* ---- connects among many sockets on one local address and port ---- */

/*
 * The crowds stand on a port each, and all of them exist throughout, so that
 * the sizes are timed side by side. What is timed is one further socket
 * that connects to a new destination and is disconnected again (AF_UNSPEC, for
 * which no hook runs). Fresh sockets would be the other way, but each has to
 * be bound first, which the kernel itself makes slower with the size of the
 * crowd, and a hundred of them beside ten neighbours are no crowd of ten any
 * more. For the guard a step is thus one claim made and the one before it
 * given back.
 */
enum { LARGEST_CROWD = 10000, DESTINATIONS = 64 };

static int crowds[CROWD_WORKLOADS][LARGEST_CROWD];
static int probes[CROWD_WORKLOADS];

static int crowd_port(int crowd)
{
	return LOCAL_PORT + 10000 + crowd;
}

/* A destination for each: 127.1.0.0 and on for the crowds, 127.2.0.0 and on for what is timed. */
static struct address destination(int network, int number)
{
	return loopback_number(network, number, REMOTE_PORT);
}

void gather_crowds(void)
{
	for (int crowd = 0; crowd < CROWD_WORKLOADS; crowd++) {
		struct address local = loopback(AF_INET, crowd_port(crowd));

		for (int i = 0; i < crowd_workloads[crowd].neighbours; i++)
			crowds[crowd][i] = bound_socket(&local);
		probes[crowd] = bound_socket(&local);
	}
}

void scatter_crowds(void)
{
	for (int crowd = 0; crowd < CROWD_WORKLOADS; crowd++) {
		for (int i = 0; i < crowd_workloads[crowd].neighbours; i++)
			close(crowds[crowd][i]);
		close(probes[crowd]);
	}
}

/* Connected once more under a guard, the sockets have a claim each, and keep it between blocks. */
void claim_crowds(void)
{
	for (int crowd = 0; crowd < CROWD_WORKLOADS; crowd++) {
		for (int i = 0; i < crowd_workloads[crowd].neighbours; i++) {
			struct address remote = destination(1, i);

			must_connect(crowds[crowd][i], &remote);
		}
	}
}

static void run_in_crowd(const struct workload *workload, int first, int end)
{
	const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	int probe = probes[workload - crowd_workloads];

	for (int i = first; i < end; i++) {
		struct address remote = destination(2, i % DESTINATIONS);

		must_connect(probe, &remote);
		if (connect(probe, &nowhere, sizeof(nowhere)))
			die("cannot disconnect a socket");
	}
}

#define BIT(variant) (1u << (variant))
#define BOUND (BIT(BARE) | BIT(EMPTY) | BIT(GUARD) | BIT(BY_DEFAULT))
#define UNBOUND (BIT(BARE) | BIT(EMPTY) | BIT(DISCOVERY))

#define CYCLE(title_, name_, family_, tuples_)                                                     \
	{                                                                                          \
		.title = title_, .name = name_, .family = family_, .tuples = tuples_,              \
		.variants = BOUND, .judged = GUARD, .goal = 1.08, .operations = 300,               \
		.warm_up = 50, .prepare = prepare_nothing, .run = run_cycles,                      \
		.finish = finish_nothing                                                           \
	}
#define UNBOUND_CYCLE(title_, family_)                                                             \
	{                                                                                          \
		.title = title_, .name = "discovery", .family = family_, .variants = UNBOUND,      \
		.judged = DISCOVERY, .goal = 1.10, .operations = 300, .warm_up = 50,               \
		.prepare = prepare_nothing, .run = run_unbound_cycles, .finish = finish_nothing    \
	}
#define BUDGETED (BIT(BARE) | BIT(EMPTY) | BIT(GUARD) | BIT(BUDGET))
#define CONNECTION(title_, family_)                                                                \
	{                                                                                          \
		.title = title_, .name = "tcp", .family = family_, .variants = BUDGETED,           \
		.judged = BUDGET, .goal = 1.08, .operations = 200, .warm_up = 50,                  \
		.prepare = prepare_connections, .run = run_connections,                            \
		.finish = finish_connections                                                       \
	}
#define BUDGETED_CYCLE(title_, family_)                                                            \
	{                                                                                          \
		.title = title_, .name = "budget", .family = family_, .tuples = 1,                 \
		.variants = BUDGETED, .judged = BUDGET, .goal = 1.20, .operations = 300,           \
		.warm_up = 50, .prepare = prepare_nothing, .run = run_cycles,                      \
		.finish = finish_nothing                                                           \
	}
#define RECONNECT(title_, family_, tuples_, goal_)                                                 \
	{                                                                                          \
		.title = title_, .name = "reconnect", .family = family_, .tuples = tuples_,        \
		.variants = BOUND, .judged = GUARD, .goal = goal_, .operations = 300,              \
		.warm_up = 50, .prepare = prepare_reconnects, .run = run_reconnects,               \
		.finish = finish_reconnects                                                        \
	}
#define REFUSAL(title_, family_)                                                                   \
	{                                                                                          \
		.title = title_, .name = "refusal", .family = family_, .variants = BOUND,          \
		.judged = GUARD, .goal = 1.40, .operations = PAIRS - 50, .warm_up = 50,            \
		.prepare = prepare_refusals, .run = run_refusals, .finish = finish_refusals        \
	}
#define CROWD(title_, neighbours_, goal_)                                                          \
	{                                                                                          \
		.title = title_, .name = "crowd", .family = AF_INET, .variants = BOUND,            \
		.judged = BY_DEFAULT, .goal = goal_, .neighbours = neighbours_, .operations = 100, \
		.warm_up = 20, .prepare = prepare_nothing, .run = run_in_crowd,                    \
		.finish = finish_nothing                                                           \
	}

const struct workload plain_workloads[PLAIN_WORKLOADS] = {
    CYCLE("cycle, one tuple, IPv4", "cycle", AF_INET, 1),
    CYCLE("cycle, one tuple, IPv6", "cycle", AF_INET6, 1),
    CYCLE("cycle, 1,024 tuples, IPv4", "cycle", AF_INET, 1024),
    CYCLE("cycle, 1,024 tuples, IPv6", "cycle", AF_INET6, 1024),
    RECONNECT("reconnect, 2 destinations", AF_INET, 2, 1.45),
    RECONNECT("reconnect, 64 destinations", AF_INET, 64, 1.55),
    RECONNECT("reconnect, the same", AF_INET, 1, 1.45),
    RECONNECT("reconnect, 2, IPv6", AF_INET6, 2, 1.45),
    REFUSAL("refused, IPv4", AF_INET),
    REFUSAL("refused, IPv6", AF_INET6),
    UNBOUND_CYCLE("without a port, IPv4", AF_INET),
    UNBOUND_CYCLE("without a port, IPv6", AF_INET6),
    BUDGETED_CYCLE("cycle, counted, IPv4", AF_INET),
    CONNECTION("TCP connection, IPv4", AF_INET),
    CONNECTION("TCP connection, IPv6", AF_INET6),
};

const struct workload crowd_workloads[CROWD_WORKLOADS] = {
    CROWD("connect beside 10", 10, 0),
    CROWD("connect beside 10,000", LARGEST_CROWD, 0.5),
};
