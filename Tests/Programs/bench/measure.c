// SPDX-License-Identifier: Apache-2.0
/*
 * How it is timed: in many short blocks, the variants in turn and in a new
 * order each time, so that whatever else the machine does meets all
 * of them alike. What counts is each block against the bare one beside it.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

double now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

/* The processor time includes what the kernel does in this thread's name, its hooks among that. */
static struct sample time_block(const struct workload *workload, enum variant variant)
{
	int end = workload->warm_up + workload->operations;
	double cpu, wall;

	attach_variant(variant);
	workload->prepare(workload, variant);
	workload->run(workload, 0, workload->warm_up);
	wall = now(CLOCK_MONOTONIC);
	cpu = now(CLOCK_THREAD_CPUTIME_ID);
	workload->run(workload, workload->warm_up, end);
	cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
	wall = now(CLOCK_MONOTONIC) - wall;
	workload->finish(workload);
	detach_variant(variant);
	return (struct sample){cpu / workload->operations, wall / workload->operations};
}

static void shuffle(enum variant *order, int count)
{
	for (int i = count - 1; i > 0; i--) {
		int j = random() % (i + 1);
		enum variant other = order[i];

		order[i] = order[j];
		order[j] = other;
	}
}

struct sample *allocate_samples(int count)
{
	struct sample *samples = calloc(count, sizeof(*samples));

	if (!samples)
		die("cannot keep %d samples", count);
	return samples;
}

/* Under each of its variants once, in an order of chance. */
static void measure_once(struct result *result, int repetition)
{
	enum variant order[VARIANTS];
	int count = 0;

	for (int variant = 0; variant < VARIANTS; variant++)
		if (result->workload->variants & 1u << variant)
			order[count++] = variant;
	shuffle(order, count);
	for (int i = 0; i < count; i++)
		result->samples[order[i]][repetition] = time_block(result->workload, order[i]);
}

void measure(const struct workload *workloads, int count, int repetitions, struct result *results)
{
	for (int i = 0; i < count; i++) {
		results[i].workload = &workloads[i];
		results[i].repetitions = repetitions;
		for (int v = 0; v < VARIANTS; v++)
			results[i].samples[v] = allocate_samples(repetitions);
	}
	for (int repetition = 0; repetition < repetitions; repetition++)
		for (int i = 0; i < count; i++)
			measure_once(&results[i], repetition);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct summary summarize(double *values, int count)
{
	int reach = 0, low, high;

	/*
	 * The interval is from the order statistics, so it assumes nothing of how the values lie:
	 * 1.96 standard deviations of the rank, each half the root of the count.
	 */
	while (reach * reach < 0.96 * count)
		reach++;
	low = (count - 1) / 2 - reach;
	high = count / 2 + reach;
	qsort(values, count, sizeof(*values), by_value);
	return (struct summary){
	    .median = (values[(count - 1) / 2] + values[count / 2]) / 2,
	    .low = values[low < 0 ? 0 : low],
	    .high = values[high >= count ? count - 1 : high],
	};
}

enum against { NOTHING, QUOTIENT, DIFFERENCE };

static struct summary compare(const struct result *result, enum variant variant, enum clock clock,
			      enum against against)
{
	double values[result->repetitions];

	for (int i = 0; i < result->repetitions; i++) {
		const struct sample *it = &result->samples[variant][i];
		const struct sample *bare = &result->samples[BARE][i];
		double own = clock == CPU ? it->cpu : it->wall;
		double other = clock == CPU ? bare->cpu : bare->wall;

		values[i] = against == QUOTIENT	    ? own / other
			    : against == DIFFERENCE ? own - other
						    : own;
	}
	return summarize(values, result->repetitions);
}

struct summary cost(const struct result *result, enum variant variant, enum clock clock)
{
	return compare(result, variant, clock, NOTHING);
}

struct summary ratio(const struct result *result, enum variant variant, enum clock clock)
{
	return compare(result, variant, clock, QUOTIENT);
}

struct summary added(const struct result *result, enum variant variant, enum clock clock)
{
	return compare(result, variant, clock, DIFFERENCE);
}
