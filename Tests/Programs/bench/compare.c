// SPDX-License-Identifier: Apache-2.0
/*
 * Times ways to make a connection, in short blocks and in a new order each
 * time, as measure.c does; what counts is each block against the first way's
 * beside it. And tells what came of it.
 */
#define _GNU_SOURCE
#include "ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { OPERATIONS = 200, WARM_UP = 20 };

static void connect_once(const struct way *way)
{
	int fd = socket(AF_INET, way->type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("cannot make a socket");
	way->connect(fd);
	close(fd);
}

/* The processor time includes what the kernel does in this thread's name. */
static struct sample time_way(const struct way *way)
{
	double cpu, wall;

	if (way->is_guarded)
		attach_variant(GUARD);
	for (int i = 0; i < WARM_UP; i++)
		connect_once(way);
	wall = now(CLOCK_MONOTONIC);
	cpu = now(CLOCK_THREAD_CPUTIME_ID);
	for (int i = 0; i < OPERATIONS; i++)
		connect_once(way);
	cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
	wall = now(CLOCK_MONOTONIC) - wall;
	if (way->is_guarded)
		detach_variant(GUARD);
	drain_listener();
	return (struct sample){cpu / OPERATIONS, wall / OPERATIONS};
}

static void shuffle(int *order, int count)
{
	for (int i = count - 1; i > 0; i--) {
		int j = random() % (i + 1), other = order[i];

		order[i] = order[j];
		order[j] = other;
	}
}

void compare_ways(const struct comparison *comparison, int repetitions,
		  struct comparison_result *result)
{
	int order[MOST_WAYS];

	result->repetitions = repetitions;
	for (int i = 0; i < comparison->count; i++) {
		order[i] = i;
		result->samples[i] = allocate_samples(repetitions);
	}
	for (int repetition = 0; repetition < repetitions; repetition++) {
		shuffle(order, comparison->count);
		for (int i = 0; i < comparison->count; i++)
			result->samples[order[i]][repetition] =
			    time_way(&comparison->ways[order[i]]);
	}
}

struct summary sum_up(const struct sample *samples, const struct sample *against, int repetitions,
		      enum clock clock)
{
	double values[repetitions];

	for (int i = 0; i < repetitions; i++) {
		double other = !against ? 1 : clock == CPU ? against[i].cpu : against[i].wall;

		values[i] = (clock == CPU ? samples[i].cpu : samples[i].wall) / other;
	}
	return summarize(values, repetitions);
}

static void print_way(const struct comparison *comparison, const struct comparison_result *result,
		      int number)
{
	const struct way *way = &comparison->ways[number];
	const struct sample *samples = result->samples[number], *base = result->samples[0];
	struct summary wall = sum_up(samples, NULL, result->repetitions, WALL);
	struct summary ratio = sum_up(samples, base, result->repetitions, CPU);

	printf("  %-28s %8.2f us %9.0f/s", way->title,
	       sum_up(samples, NULL, result->repetitions, CPU).median / 1000, 1e9 / wall.median);
	if (number)
		printf("  %6.3f  %6.3f to %-6.3f %6.3f", ratio.median, ratio.low, ratio.high,
		       sum_up(samples, base, result->repetitions, WALL).median);
	if (way->at_most > 0)
		printf("   at most %.2f: %s", way->at_most,
		       ratio.median <= way->at_most ? "reached" : "MISSED");
	printf("\n");
}

static void print_way_json(const struct comparison *comparison,
			   const struct comparison_result *result, int number)
{
	const struct way *way = &comparison->ways[number];
	const struct sample *samples = result->samples[number], *base = result->samples[0];
	struct summary ratio = sum_up(samples, base, result->repetitions, CPU);

	printf("{\"comparison\": \"%s\", \"way\": \"%s\", \"cpu_ns\": %.0f, \"wall_ns\": %.0f, "
	       "\"cpu_ratio\": {\"median\": %.4f, \"low\": %.4f, \"high\": %.4f}, "
	       "\"wall_ratio\": %.4f",
	       comparison->name, way->name, sum_up(samples, NULL, result->repetitions, CPU).median,
	       sum_up(samples, NULL, result->repetitions, WALL).median, ratio.median, ratio.low,
	       ratio.high, sum_up(samples, base, result->repetitions, WALL).median);
	if (way->at_most > 0)
		printf(", \"at_most\": %.3f", way->at_most);
	printf("}");
}

void print_comparison(const struct comparison *comparison, const struct comparison_result *result,
		      bool json)
{
	if (!json)
		printf("\n%s\n", comparison->title);
	for (int i = 0; i < comparison->count; i++) {
		if (!json) {
			print_way(comparison, result, i);
			continue;
		}
		print_way_json(comparison, result, i);
		printf(",\n  ");
	}
}
