// SPDX-License-Identifier: Apache-2.0
/*
 * What ports of a cgroup's own cost: connections whose port the guard chooses
 * from a thousand, against the kernel's own choice from a thousand others, with
 * none of them taken for the destination, and with nine hundred.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	/* The kernel's are in open_ranges(), the guard's among the options of the variants. */
	PORTS = 1000,
	TAKEN = 900,
	FREE_PORT = 9000,   /* of the destination that nobody else is connected to */
	TAKEN_PORT,	    /* and of the one that others are */
	FREE_WORKLOADS = 4, /* that come first */
	OWN_WORKLOADS = 6,
};

/* ---- the others ---- */

/* TCP servers, one for each family and destination. */
static int servers[2][2];

static int *server_of(int family, int port)
{
	return &servers[family == AF_INET6][port == TAKEN_PORT];
}

static void start_server(int family, int port)
{
	struct address address = loopback(family, port);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on))) ||
	    bind(fd, &address.any, address.length) || listen(fd, 4 * PORTS))
		die("cannot listen on port %d", port);
	*server_of(family, port) = fd;
}

static int connected(int type, const struct address *remote)
{
	/* A reset at its end: TIME_WAIT would use up the ports. */
	const struct linger at_once = {.l_onoff = 1};
	int fd = socket(remote->any.sa_family, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || (type == SOCK_STREAM &&
		       setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once))))
		die("cannot make a socket");
	if (connect(fd, &remote->any, remote->length))
		die("a connect that has a port failed");
	return fd;
}

/* Takes ports for one of the destinations, as a variant is given them; they stay taken. */
static void take(int type, enum variant variant)
{
	struct address remote = loopback(AF_INET, TAKEN_PORT);

	attach_variant(variant);
	for (int i = 0; i < TAKEN; i++)
		connected(type, &remote);
	detach_variant(variant);
}

static void open_ranges(void)
{
	static const char range[] = "40000 40999";
	int file = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, range, sizeof(range) - 1) != sizeof(range) - 1)
		die("cannot set ip_local_port_range");
	close(file);
}

/* ---- what is timed: a whole connection, with the server's part of it ---- */

static void prepare(const struct workload *workload, enum variant variant)
{
	(void)workload;
	(void)variant;
}

static void finish(const struct workload *workload)
{
	(void)workload;
}

static void run_tcp(const struct workload *workload, int first, int end)
{
	int port = workload->taken ? TAKEN_PORT : FREE_PORT;
	struct address remote = loopback(workload->family, port);

	for (int i = first; i < end; i++) {
		int fd = connected(SOCK_STREAM, &remote), accepted;

		accepted = accept(*server_of(workload->family, port), NULL, NULL);
		close(fd);
		close(accepted);
	}
}

static void run_udp(const struct workload *workload, int first, int end)
{
	int port = workload->taken ? TAKEN_PORT : FREE_PORT;
	struct address remote = loopback(workload->family, port);

	for (int i = first; i < end; i++)
		close(connected(SOCK_DGRAM, &remote));
}

#define BIT(variant) (1u << (variant))
#define TCP (BIT(BARE) | BIT(OWN) | BIT(OWN_COUNTED))
#define UDP (BIT(BARE) | BIT(OWN))
#define CONNECTION(title_, name_, family_, variants_, taken_, goal_, run_)                         \
	{                                                                                          \
		.title = title_, .name = name_, .family = family_, .variants = variants_,          \
		.judged = OWN, .goal = goal_, .taken = taken_, .operations = 200, .warm_up = 50,   \
		.prepare = prepare, .run = run_, .finish = finish                                  \
	}

static const struct workload workloads[OWN_WORKLOADS] = {
    CONNECTION("TCP, all free, IPv4", "tcp", AF_INET, TCP, 0, 1.05, run_tcp),
    CONNECTION("TCP, all free, IPv6", "tcp", AF_INET6, TCP, 0, 1.05, run_tcp),
    CONNECTION("UDP, all free, IPv4", "udp", AF_INET, UDP, 0, 1.20, run_udp),
    CONNECTION("UDP, all free, IPv6", "udp", AF_INET6, UDP, 0, 1.20, run_udp),
    CONNECTION("TCP, 900 taken, IPv4", "tcp", AF_INET, TCP, TAKEN, 1.30, run_tcp),
    CONNECTION("UDP, 900 taken, IPv4", "udp", AF_INET, UDP, TAKEN, 1.30, run_udp),
};

/* ---- results ---- */

static void print_table(const struct result *results, int foreign_before)
{
	warn_of_foreign_programs(foreign_before, foreign_programs());
	printf("CPU time of a connection on loopback, TCP with the server's part; medians of %d "
	       "blocks,\n"
	       "ratios to the kernel's own choice of a port in the same repetition, with their "
	       "95%%\n"
	       "intervals; of %d ports so many are taken for the destination\n\n%-22s %11s",
	       results->repetitions, PORTS, "", variant_names[BARE].title);
	for (int variant = OWN; variant < VARIANTS; variant++)
		printf(" %24s", variant_names[variant].title);
	printf("   goal\n");
	for (int i = 0; i < OWN_WORKLOADS; i++) {
		const struct workload *workload = results[i].workload;
		struct summary judged = ratio(&results[i], OWN, CPU);

		printf("%-22s %8.2f us", workload->title,
		       cost(&results[i], BARE, CPU).median / 1000);
		for (int variant = OWN; variant < VARIANTS; variant++) {
			struct summary it;

			if (!(workload->variants & BIT(variant))) {
				printf(" %24s", "");
				continue;
			}
			it = ratio(&results[i], variant, CPU);
			printf("   %5.3f (%5.3f to %5.3f)", it.median, it.low, it.high);
		}
		printf("   %.2f %s\n", workload->goal,
		       judged.median <= workload->goal ? "reached" : "MISSED");
	}
}

static void print_json_summary(const char *name, struct summary summary)
{
	printf(", \"%s\": {\"median\": %.4f, \"low\": %.4f, \"high\": %.4f}", name, summary.median,
	       summary.low, summary.high);
}

static void print_json_rows(const struct result *results)
{
	const char *between = "";

	printf("{\"repetitions\": %d, \"results\": [", results->repetitions);
	for (int i = 0; i < OWN_WORKLOADS; i++) {
		const struct workload *workload = results[i].workload;

		for (int variant = 0; variant < VARIANTS; variant++) {
			if (!(workload->variants & BIT(variant)))
				continue;
			printf("%s\n  {\"workload\": \"%s\", \"family\": \"%s\", \"ports\": %d, "
			       "\"taken\": %d, \"variant\": \"%s\"",
			       between, workload->name,
			       workload->family == AF_INET ? "ipv4" : "ipv6", PORTS,
			       workload->taken, variant_names[variant].name);
			if (variant == OWN)
				printf(", \"goal_ratio\": %.2f", workload->goal);
			print_json_summary("cpu_ns", cost(&results[i], variant, CPU));
			print_json_summary("cpu_ratio", ratio(&results[i], variant, CPU));
			printf("}");
			between = ",";
		}
	}
	printf("\n]}\n");
}

int bench_own_ports(int repetitions, bool json)
{
	struct result results[OWN_WORKLOADS];
	int foreign_before = foreign_programs();

	open_ranges();
	for (int port = FREE_PORT; port <= TAKEN_PORT; port++) {
		start_server(AF_INET, port);
		start_server(AF_INET6, port);
	}
	measure(workloads, FREE_WORKLOADS, repetitions, results);
	take(SOCK_STREAM, BARE);
	take(SOCK_STREAM, OWN);
	take(SOCK_DGRAM, BARE);
	take(SOCK_DGRAM, OWN);
	/* The connections that were just made are not to be those that are accepted later. */
	for (int i = 0; i < 2 * TAKEN; i++)
		accept(*server_of(AF_INET, TAKEN_PORT), NULL, NULL);
	measure(workloads + FREE_WORKLOADS, OWN_WORKLOADS - FREE_WORKLOADS, repetitions,
		results + FREE_WORKLOADS);
	if (json)
		print_json_rows(results);
	else
		print_table(results, foreign_before);
	return 0;
}
