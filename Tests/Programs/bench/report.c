// SPDX-License-Identifier: Apache-2.0
/* What came of it, as a table for people and as JSON for programs. */
#include "bench.h"

#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

static const double exhausted_goal = 17; /* microseconds */

static bool is_timed(const struct result *result, enum variant variant)
{
	return result->workload->variants & 1u << variant;
}

static const char *verdict(double value, double goal)
{
	return value <= goal ? "reached" : "MISSED";
}

void warn_of_foreign_programs(int before, int after)
{
	if (before || after)
		printf("WARNING: programs of others are attached to connect() on this "
		       "machine (%d\n"
		       "before, %d after): \"no program\" is too dear, and every ratio "
		       "looks better\n"
		       "than it is\n",
		       before, after);
}

static void print_head(const struct report *report)
{
	struct utsname system;

	uname(&system);
	printf("Linux %s, %ld processors; CPU time, medians of %d blocks; ratios are "
	       "to the block\n"
	       "with no program of the same repetition, in brackets half the width "
	       "of the 95%%\n"
	       "interval\n",
	       system.release, sysconf(_SC_NPROCESSORS_ONLN), report->plain->repetitions);
	warn_of_foreign_programs(report->foreign_before, report->foreign_after);
	printf("\n%-28s", "");
	for (int variant = 0; variant < GUARD_VARIANTS; variant++)
		printf(" %*s", variant == BARE ? 11 : 15, variant_names[variant].title);
	printf("   goal\n");
}

static void print_ratio(struct summary ratio)
{
	printf("   %5.3f (%.3f)", ratio.median, (ratio.high - ratio.low) / 2);
}

static void print_plain(const struct result *result)
{
	const struct workload *workload = result->workload;
	double judged = ratio(result, workload->judged, CPU).median;

	printf("%-28s %8.2f us", workload->title, cost(result, BARE, CPU).median / 1000);
	for (int variant = EMPTY; variant < GUARD_VARIANTS; variant++)
		if (is_timed(result, variant))
			print_ratio(ratio(result, variant, CPU));
		else
			printf(" %15s", "");
	printf("   %.2f %s\n", workload->goal, verdict(judged, workload->goal));
}

static void print_crowd(const struct result *result)
{
	const struct workload *workload = result->workload;
	double judged = added(result, workload->judged, CPU).median / 1000;

	printf("%-28s %8.2f us", workload->title, cost(result, BARE, CPU).median / 1000);
	for (int variant = EMPTY; variant < GUARD_VARIANTS; variant++)
		if (is_timed(result, variant))
			printf(" %+12.3f us", added(result, variant, CPU).median / 1000);
		else
			printf(" %15s", "");
	if (workload->goal > 0)
		printf("   %+.2f us %s", workload->goal, verdict(judged, workload->goal));
	printf("\n");
}

static void print_scarcity(const struct scarcity *scarcity)
{
	printf("%-28s %58s %12.2f us   %.0f us %s\n", "connect, no port free", "",
	       scarcity->exhausted_us, exhausted_goal,
	       verdict(scarcity->exhausted_us, exhausted_goal));
	printf("%-28s %58s %12.2f us\n", "connect, 10 ports free", "", scarcity->scarce_us);
	printf("\n%d of %d ports free: %d of %d connects refused falsely   0 %s\n",
	       scarcity->free_ports, scarcity->ports, scarcity->refused_falsely, scarcity->connects,
	       verdict(scarcity->refused_falsely, 0));
}

void print_tables(const struct report *report)
{
	print_head(report);
	for (int i = 0; i < PLAIN_WORKLOADS; i++)
		print_plain(&report->plain[i]);
	for (int i = 0; i < CROWD_WORKLOADS; i++)
		print_crowd(&report->crowds[i]);
	print_scarcity(&report->scarcity);
}

static void print_json_summary(const char *name, struct summary summary)
{
	printf(", \"%s\": {\"median\": %.4f, \"low\": %.4f, \"high\": %.4f}", name, summary.median,
	       summary.low, summary.high);
}

static void print_json_result(const struct result *result, enum variant variant)
{
	const struct workload *workload = result->workload;

	printf("{\"workload\": \"%s\", \"family\": \"%s\"", workload->name,
	       workload->family == AF_INET ? "ipv4" : "ipv6");
	if (workload->tuples)
		printf(", \"tuples\": %d", workload->tuples);
	if (workload->neighbours)
		printf(", \"sockets\": %d", workload->neighbours);
	printf(", \"variant\": \"%s\"", variant_names[variant].name);
	if (variant == workload->judged && workload->goal > 0)
		printf(", \"%s\": %.3f", workload->neighbours ? "goal_added_us" : "goal_ratio",
		       workload->goal);
	print_json_summary("cpu_ns", cost(result, variant, CPU));
	print_json_summary("wall_ns", cost(result, variant, WALL));
	print_json_summary("cpu_ratio", ratio(result, variant, CPU));
	print_json_summary("wall_ratio", ratio(result, variant, WALL));
	print_json_summary("cpu_added_ns", added(result, variant, CPU));
	printf("}");
}

static void print_json_results(const struct result *results, int count, bool comma)
{
	for (int i = 0; i < count; i++) {
		for (int variant = 0; variant < GUARD_VARIANTS; variant++) {
			if (!is_timed(&results[i], variant))
				continue;
			printf("%s\n  ", comma ? "," : "");
			print_json_result(&results[i], variant);
			comma = true;
		}
	}
}

void print_json(const struct report *report)
{
	const struct scarcity *scarcity = &report->scarcity;
	struct utsname system;

	uname(&system);
	printf("{\"kernel\": \"%s\", \"repetitions\": %d, \"foreign_programs\": [%d, "
	       "%d], "
	       "\"scarcity\": {\"ports\": %d, \"free\": %d, \"connects\": %d, "
	       "\"refused_falsely\": %d, \"scarce_us\": %.2f, \"exhausted_us\": %.2f, "
	       "\"goal_exhausted_us\": %.0f}, \"results\": [",
	       system.release, report->plain->repetitions, report->foreign_before,
	       report->foreign_after, scarcity->ports, scarcity->free_ports, scarcity->connects,
	       scarcity->refused_falsely, scarcity->scarce_us, scarcity->exhausted_us,
	       exhausted_goal);
	print_json_results(report->plain, PLAIN_WORKLOADS, false);
	print_json_results(report->crowds, CROWD_WORKLOADS, true);
	printf("\n]}\n");
}
