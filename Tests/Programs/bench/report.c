// SPDX-License-Identifier: Apache-2.0
/* What came of it, as tables for people and as JSON for programs. */
#include "bench.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const double cycle_target = 1.13, cycle_excellent = 1.08;
static const double flat_target = 1.25; /* growth from the smallest crowd to the largest */

static double microseconds(double nanoseconds)
{
	return nanoseconds / 1000;
}

static const char *verdict(double value)
{
	if (value <= cycle_excellent)
		return "excellent";
	return value <= cycle_target ? "reached" : "MISSED";
}

static bool is_cycle(const struct result *result)
{
	return result->workload->tuples > 0;
}

static bool is_named(const struct result *result, const char *name)
{
	return !strcmp(result->workload->name, name);
}

static void print_row(const struct result *result, enum variant variant)
{
	struct summary cpu = ratio(result, variant, CPU);

	printf("  %-16s %8.2f us", variant_names[variant].title,
	       microseconds(cost(result, variant, CPU).median));
	if (variant == BARE) {
		printf("     1\n");
		return;
	}
	printf("     %5.3f  %5.3f to %-5.3f  %8.3f", cpu.median, cpu.low, cpu.high,
	       ratio(result, variant, WALL).median);
	if (is_cycle(result) && variant == GUARD)
		printf("   at most %.2f, excellent %.2f: %s", cycle_target, cycle_excellent,
		       verdict(cpu.median));
	if (is_named(result, "refusal") && is_guard(variant))
		printf("   %.0f refusals/s", 1e9 / cost(result, variant, WALL).median);
	printf("\n");
}

static void print_plain(const struct result *result)
{
	printf("\n%s\n", result->workload->title);
	for (int variant = 0; variant < VARIANTS; variant++)
		print_row(result, variant);
}

/* How a variant's own cost has grown since the smallest crowd. */
static double growth(const struct result *crowds, int crowd, enum variant variant)
{
	return added(&crowds[crowd], variant, CPU).median / added(&crowds[0], variant, CPU).median;
}

static void print_crowd_row(const struct result *crowds, enum variant variant)
{
	printf("  %-16s", variant_names[variant].title);
	for (int crowd = 0; crowd < CROWD_WORKLOADS; crowd++) {
		char relative[32] = "";

		if (variant == BARE) {
			printf(" %9.2f us           ",
			       microseconds(cost(&crowds[crowd], BARE, CPU).median));
			continue;
		}
		if (crowd > 0)
			snprintf(relative, sizeof(relative), "(%.2fx)",
				 growth(crowds, crowd, variant));
		printf("%+10.2f us %-10s", microseconds(added(&crowds[crowd], variant, CPU).median),
		       relative);
	}
	if (variant == GUARD)
		printf("  at most %.2fx: %s", flat_target,
		       growth(crowds, CROWD_WORKLOADS - 1, GUARD) <= flat_target ? "reached"
										 : "MISSED");
	printf("\n");
}

static void print_crowds(const struct result *crowds)
{
	printf("\nConnect of one socket among many on its address and port, IPv4 (connect, then\n"
	       "AF_UNSPEC): CPU with no program; what each variant adds, and relative to the\n"
	       "smallest crowd\n  %-16s",
	       "sockets");
	for (int crowd = 0; crowd < CROWD_WORKLOADS; crowd++)
		printf(" %9d              ", crowds[crowd].workload->neighbours);
	printf("  target\n");
	for (int variant = 0; variant < VARIANTS; variant++)
		print_crowd_row(crowds, variant);
}

void print_tables(const struct result *plain, const struct result *crowds)
{
	struct utsname system;

	uname(&system);
	printf("Linux %s, medians of %d repetitions; ratios are to the block with no program of\n"
	       "the same repetition, with a 95%% interval\n\n",
	       system.release, plain->repetitions);
	printf("  %-16s %11s %9s  %-14s %8s   %s\n", "", "CPU", "CPU ratio", "interval", "wall",
	       "target");
	for (int i = 0; i < PLAIN_WORKLOADS; i++)
		print_plain(&plain[i]);
	print_crowds(crowds);
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
	print_json_summary("cpu_ns", cost(result, variant, CPU));
	print_json_summary("wall_ns", cost(result, variant, WALL));
	print_json_summary("cpu_ratio", ratio(result, variant, CPU));
	print_json_summary("wall_ratio", ratio(result, variant, WALL));
	print_json_summary("cpu_added_ns", added(result, variant, CPU));
	if (is_named(result, "refusal") && is_guard(variant))
		printf(", \"refusals_per_second\": %.0f", 1e9 / cost(result, variant, WALL).median);
	printf("}");
}

static void print_json_results(const struct result *results, int count, bool comma)
{
	for (int i = 0; i < count; i++) {
		for (int variant = 0; variant < VARIANTS; variant++) {
			printf("%s\n  ", comma ? "," : "");
			print_json_result(&results[i], variant);
			comma = true;
		}
	}
}

void print_json(const struct result *plain, const struct result *crowds)
{
	struct utsname system;

	uname(&system);
	printf("{\"kernel\": \"%s\", \"repetitions\": %d, \"targets\": {\"cycle_cpu_ratio\": %.2f, "
	       "\"cycle_cpu_ratio_excellent\": %.2f, \"crowd_growth\": %.2f}, \"results\": [",
	       system.release, plain->repetitions, cycle_target, cycle_excellent, flat_target);
	print_json_results(plain, PLAIN_WORKLOADS, false);
	print_json_results(crowds, CROWD_WORKLOADS, true);
	printf("\n]}\n");
}
