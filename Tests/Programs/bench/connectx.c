// SPDX-License-Identifier: Apache-2.0
/*
 * bench connectx: connections in a second by the library, against the same
 * system calls from C, against what one does without it, and under a guard;
 * and what it costs to find a port where few are left.
 */
#include "ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>

enum { TABLE_SIZE = 65536, FEWEST_BATCHES = 5 };

static void print_head(int repetitions, bool json)
{
	struct utsname system;

	uname(&system);
	if (json)
		printf("{\"kernel\": \"%s\", \"repetitions\": %d, \"results\": [\n  ",
		       system.release, repetitions);
	else
		printf(
		    "Linux %s, medians of %d repetitions; ratios are to the first way in the\n"
		    "same repetition, with a 95%% interval. Each is socket, connection, close\n\n"
		    "  %-28s %11s %11s  %6s  %-16s %6s\n",
		    system.release, repetitions, "", "CPU", "wall", "CPU", "interval", "wall");
}

int bench_connectx(int cgroup, void *argument)
{
	const struct connectx_options *options = argument;
	int batches = options->repetitions / 5;
	struct comparison_result result;
	struct discovery_result discovery;

	srandom(time(NULL));
	load_variants(1u << GUARD, options->tupleguard, NULL, TABLE_SIZE, cgroup);
	open_ways(options->library, options->beside);
	print_head(options->repetitions, options->json);
	for (int i = 0; i < COMPARISONS; i++) {
		if (comparisons[i].is_of_libraries && !options->beside)
			continue;
		if (comparisons[i].is_scarce)
			make_ports_scarce();
		compare_ways(&comparisons[i], options->repetitions, &result);
		if (comparisons[i].is_scarce)
			make_ports_plenty();
		print_comparison(&comparisons[i], &result, options->json);
	}
	measure_discovery(batches < FEWEST_BATCHES ? FEWEST_BATCHES : batches, &discovery);
	print_discovery(&discovery, options->json);
	if (options->json)
		printf("\n]}\n");
	return 0;
}
