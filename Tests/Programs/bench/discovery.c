// SPDX-License-Identifier: Apache-2.0
/*
 * What it costs to find a source port when many of them are busy, that is,
 * connected to the same destination. Batches of connections that stay open,
 * each batch by a process of its own: it knows nothing of those before.
 */
#define _GNU_SOURCE
#include "ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	OTHER_PORT = 9101,
	FIRST_PORT = 32768, /* ip_local_port_range, unless it was changed */
	PORTS = 28232,
	BATCH = 200,
	HOLDERS = 2, /* as many as it takes, with the descriptors that a process may have */
};

static const int percent_busy[FILLS] = {0, 50, 90, 99};
static const double most_growth = 6;

static const struct discoverer {
	const char *title, *name;
	void (*connect)(int fd, const union name *remote);
} discoverers[DISCOVERERS] = {
    {"connectx()", "connectx", connect_by_library},
    {"a look-up for each random port", "look_up_each", connect_by_looking_up},
};

/* ---- batches ---- */

static void connect_one(const struct discoverer *discoverer, const union name *remote)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("cannot make a socket");
	discoverer->connect(fd, remote);
}

static struct sample run_batch(const struct discoverer *discoverer)
{
	union name remote = loopback_name(FILLED_PORT);
	union name other = loopback_name(OTHER_PORT);
	double cpu, wall;

	/* What is made once in a process is not the port's price. */
	connect_one(discoverer, &other);
	wall = now(CLOCK_MONOTONIC);
	cpu = now(CLOCK_THREAD_CPUTIME_ID);
	for (int i = 0; i < BATCH; i++)
		connect_one(discoverer, &remote);
	cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
	wall = now(CLOCK_MONOTONIC) - wall;
	return (struct sample){cpu / BATCH, wall / BATCH};
}

static void time_batch(const struct discoverer *discoverer, struct sample *shared)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		die("cannot fork");
	if (!child) {
		srandom(getpid());
		*shared = run_batch(discoverer);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		die("a batch of connections failed");
}

void measure_discovery(int repetitions, struct discovery_result *result)
{
	struct sample *shared =
	    mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		die("cannot share memory");
	result->repetitions = repetitions;
	for (int fill = 0; fill < FILLS; fill++)
		for (int i = 0; i < DISCOVERERS; i++)
			result->samples[fill][i] = allocate_samples(repetitions);
	for (int repetition = 0; repetition < repetitions; repetition++) {
		start_holders();
		for (int i = 0; i < FILLS; i++) {
			fill(LOCAL_PORTS / 100 * percent_busy[i], BARE);
			for (int j = 0; j < DISCOVERERS; j++) {
				time_batch(&discoverers[j], shared);
				result->samples[i][j][repetition] = *shared;
			}
		}
		stop_holders();
	}
	munmap(shared, sizeof(*shared));
}

/* ---- results ---- */

static struct summary growth(const struct discovery_result *result, int fill, int discoverer)
{
	return sum_up(result->samples[fill][discoverer], result->samples[0][discoverer],
		      result->repetitions, CPU);
}

static void print_row(const struct discovery_result *result, int discoverer)
{
	double last = growth(result, FILLS - 1, discoverer).median;

	printf("  %-32s", discoverers[discoverer].title);
	for (int fill = 0; fill < FILLS; fill++)
		printf(" %8.2f us %6.2f",
		       sum_up(result->samples[fill][discoverer], NULL, result->repetitions, CPU)
			       .median /
			   1000,
		       growth(result, fill, discoverer).median);
	if (!discoverer)
		printf("   at most %.0f: %s", most_growth,
		       last <= most_growth ? "reached" : "MISSED");
	printf("\n");
}

static void print_table(const struct discovery_result *result)
{
	printf("\nUDP, finding a port among %d, so many of them busy; for one of %d "
	       "connections\n"
	       "that stay open (CPU, and against none busy)\n  %-32s",
	       LOCAL_PORTS, BATCH, "");
	for (int fill = 0; fill < FILLS; fill++)
		printf(" %15d%% ", percent_busy[fill]);
	printf("\n");
	for (int i = 0; i < DISCOVERERS; i++)
		print_row(result, i);
}

void print_discovery(const struct discovery_result *result, bool json)
{
	const char *between = "";

	if (!json) {
		print_table(result);
		return;
	}
	for (int i = 0; i < DISCOVERERS; i++)
		for (int fill = 0; fill < FILLS; fill++) {
			struct summary ratio = growth(result, fill, i);

			printf(
			    "%s{\"comparison\": \"discovery\", \"way\": \"%s\", "
			    "\"percent_busy\": %d, \"cpu_ns\": %.0f, \"cpu_ratio\": "
			    "{\"median\": %.4f, \"low\": %.4f, \"high\": %.4f}}",
			    between, discoverers[i].name, percent_busy[fill],
			    sum_up(result->samples[fill][i], NULL, result->repetitions, CPU).median,
			    ratio.median, ratio.low, ratio.high);
			between = ",\n  ";
		}
}
