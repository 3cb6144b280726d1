// SPDX-License-Identifier: Apache-2.0
/*
 * What a connect costs that has no port, as its destination fills up: with the
 * kernel choosing a port that nobody has, with the guard choosing one that is
 * free for the destination, and with a program that chooses at random, asks
 * the kernel about each (SOCK_DIAG), and binds.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	CYCLES = 200,
	WARM_UP = 50,
	/* By look-ups a cycle takes a millisecond and more when the destination is nearly full. */
	LOOK_UP_CYCLES = 20,
};

static const double cycle_target = 1.15, cycle_excellent = 1.10;

enum way { KERNEL, GUARDED, LOOKING_UP, WAYS };
static const char *const way_names[WAYS] = {"kernel", "guard", "look-ups by the program"};

/* ---- the program that chooses a port itself ---- */

struct look_up {
	struct nlmsghdr header;
	struct inet_diag_req_v2 request;
};

/* Whether a connected socket has this port and the destination. */
static bool is_taken(int diag, int port)
{
	struct look_up look_up = {
	    .header = {.nlmsg_len = sizeof(look_up),
		       .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		       .nlmsg_flags = NLM_F_REQUEST},
	    .request = {.sdiag_family = AF_INET,
			.sdiag_protocol = IPPROTO_UDP,
			.idiag_states = ~0U,
			/* Of UDP the kernel takes the source for the other side. */
			.id = {.idiag_sport = htons(FILLED_PORT),
			       .idiag_dport = htons(port),
			       .idiag_src = {htonl(INADDR_LOOPBACK)},
			       .idiag_dst = {htonl(INADDR_LOOPBACK)},
			       .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
	};
	union {
		struct nlmsghdr header;
		char space[1024];
	} answer;
	const struct inet_diag_msg *found = NLMSG_DATA(&answer.header);

	if (send(diag, &look_up, sizeof(look_up), 0) < 0 ||
	    recv(diag, &answer, sizeof(answer), 0) < 0)
		die("cannot ask the kernel about a port");
	return answer.header.nlmsg_type == SOCK_DIAG_BY_FAMILY && found->idiag_state == 1;
}

static void connect_by_look_ups(int diag, const struct address *remote)
{
	struct address local = loopback(AF_INET, 0);
	int fd, port;

	do
		port = FIRST_LOCAL_PORT + random() % LOCAL_PORTS;
	while (is_taken(diag, port));
	set_port(&local, port);
	fd = bound_socket(&local);
	if (connect(fd, &remote->any, remote->length))
		die("cannot connect from a port that is free");
	close(fd);
}

/* ---- timing ---- */

static void connect_without_port(const struct address *remote)
{
	int fd = socket(remote->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, &remote->any, remote->length))
		die("a connect without a port failed");
	close(fd);
}

/* Microseconds of a cycle: socket, what finds the port, connect, close. */
static double time_cycles(enum way way, int family, int cycles)
{
	struct address remote = loopback(family, FILLED_PORT);
	int diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	double begin = 0;

	if (diag < 0)
		die("cannot open a SOCK_DIAG socket");
	if (way == GUARDED)
		attach_variant(DISCOVERY);
	for (int i = -WARM_UP; i < cycles; i++) {
		if (i == 0)
			begin = now(CLOCK_THREAD_CPUTIME_ID);
		if (way == LOOKING_UP && i >= -1)
			connect_by_look_ups(diag, &remote);
		else if (way != LOOKING_UP)
			connect_without_port(&remote);
	}
	begin = now(CLOCK_THREAD_CPUTIME_ID) - begin;
	if (way == GUARDED)
		detach_variant(DISCOVERY);
	close(diag);
	return begin / cycles / 1000;
}

static void print_cycle(const char *title, int family, int repetitions)
{
	double ratios[repetitions], costs[repetitions];
	struct summary ratio, cost;

	for (int i = 0; i < repetitions; i++) {
		bool guard_first = random() & 1;
		double guard = guard_first ? time_cycles(GUARDED, family, CYCLES) : 0;
		double kernel = time_cycles(KERNEL, family, CYCLES);

		if (!guard_first)
			guard = time_cycles(GUARDED, family, CYCLES);
		ratios[i] = guard / kernel;
		costs[i] = kernel;
	}
	ratio = summarize(ratios, repetitions);
	cost = summarize(costs, repetitions);
	printf("  %-5s %7.2f us   %5.3f  %5.3f to %-5.3f   at most %.2f, excellent "
	       "%.2f: %s\n",
	       title, cost.median, ratio.median, ratio.low, ratio.high, cycle_target,
	       cycle_excellent,
	       ratio.median <= cycle_excellent ? "excellent"
	       : ratio.median <= cycle_target  ? "reached"
					       : "MISSED");
}

static void print_fill(double percent, int repetitions)
{
	double costs[WAYS][repetitions];

	fill((int)(LOCAL_PORTS * percent / 100), DISCOVERY);
	for (int i = 0; i < repetitions; i++)
		for (int way = 0; way < WAYS; way++)
			costs[way][i] =
			    time_cycles(way, AF_INET, way == LOOKING_UP ? LOOK_UP_CYCLES : CYCLES);
	printf("  %5.1f%%", percent);
	for (int way = 0; way < WAYS; way++)
		printf(" %10.2f us", summarize(costs[way], repetitions).median);
	printf("\n");
}

int bench_choices(int repetitions)
{
	static const double levels[] = {0, 50, 90, 99};

	printf("A whole cycle (socket, connect without a port, close): the kernel's "
	       "CPU time, and\n"
	       "the guard's choice of a port against the kernel's\n");
	print_cycle("IPv4", AF_INET, repetitions);
	print_cycle("IPv6", AF_INET6, repetitions);
	printf("\nThe same, with so many of the %d ports taken for the destination\n "
	       " %6s",
	       LOCAL_PORTS, "");
	for (int way = 0; way < WAYS; way++)
		printf(" %13.13s", way_names[way]);
	printf("\n");
	start_holders();
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		print_fill(levels[i], repetitions < 21 ? repetitions : 21);
	stop_holders();
	return 0;
}
