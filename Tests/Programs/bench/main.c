// SPDX-License-Identifier: Apache-2.0
/*
 * tupleguard-bench: what the guard and the library cost, as ratios from one
 * paired run, and a flood of refusals to check the guard's counters against.
 */
#define _GNU_SOURCE
#include "ways.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char usage_text[] =
    "Usage: tupleguard-bench guard [--tupleguard PROGRAM] [--empty OBJECT.o]\n"
    "                              [--short] [--repetitions N] [--table N] "
    "[--json]\n"
    "       tupleguard-bench connectx --library FILE [--beside FILE] [--tupleguard PROGRAM]\n"
    "                              [--repetitions N] [--json]\n"
    "       tupleguard-bench discovery [--tupleguard PROGRAM] [--repetitions "
    "N]\n"
    "       tupleguard-bench ports [--tupleguard PROGRAM] [--repetitions N] [--json]\n"
    "       tupleguard-bench scale [--tupleguard PROGRAM] [--sockets N]\n"
    "       tupleguard-bench deferral [--tupleguard PROGRAM] [--repetitions N] [--json]\n"
    "       tupleguard-bench flood --seconds N [--threads N] [--json]\n"
    "\n"
    "guard  Times connects without programs, with empty ones, with the guard "
    "for its cgroup\n"
    "       alone, as it is by default, and choosing ports, in a cgroup and a "
    "network namespace\n"
    "       of its own, against the goals. Needs root. The guard is attached "
    "by PROGRAM\n"
    "       (tupleguard); --empty is the object with empty programs "
    "(empty.bpf.o); --table sets\n"
    "       the guard's table size, a power of two (65536); --short takes less "
    "than two minutes.\n"
    "connectx  Times connections made by libconnectx.so, by the same system "
    "calls from C and\n"
    "       by other means, and what it takes to find a port. Needs root.\n"
    "discovery  Times connects without a port: the kernel's own choice, the "
    "guard's, and\n"
    "       a program's with one look-up for each port, as a destination fills "
    "up.\n"
    "ports  Times TCP and UDP connections whose port the guard chooses from "
    "the cgroup's own,\n"
    "       with none and with nine tenths of them taken for the destination.\n"
    "scale  Connects sockets without a port (1000000), in several processes, "
    "under the\n"
    "       guard; then binds the same sockets to the same ports by hand "
    "without a guard.\n"
    "deferral  Times the calls that `tupleguard exec --defer-bind` holds, and others, with it\n"
    "       and without, by turns.\n"
    "flood  Holds one 4-tuple and asks for it again as fast as it can, where "
    "it was\n"
    "       started, then says how many connects were refused.\n";

void die(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	fflush(stdout);
	fputs("tupleguard-bench: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	if (error)
		fprintf(stderr, ": %s", strerror(error));
	fputc('\n', stderr);
	exit(1);
}

struct options {
	const char *tupleguard;
	const char *empty;
	const char *library, *beside;
	int repetitions;
	int table;
	int sockets;
	int seconds;
	int threads;
	bool is_short;
	bool json;
};

static int bench_guard(int cgroup, void *argument)
{
	const struct options *options = argument;
	int repetitions = options->is_short ? 31 : options->repetitions;
	struct report report = {.foreign_before = foreign_programs()};

	srandom(time(NULL));
	load_variants((1u << GUARD_VARIANTS) - 1, options->tupleguard, options->empty,
		      options->table, cgroup);
	measure(plain_workloads, PLAIN_WORKLOADS, repetitions, report.plain);
	gather_crowds();
	for (int variant = 0; variant < GUARD_VARIANTS; variant++) {
		attach_variant(variant);
		claim_crowds();
		detach_variant(variant);
	}
	measure(crowd_workloads, CROWD_WORKLOADS, repetitions, report.crowds);
	scatter_crowds();
	report.scarcity = measure_scarcity(options->is_short);
	report.foreign_after = foreign_programs();
	if (options->json)
		print_json(&report);
	else
		print_tables(&report);
	return 0;
}

static int run_discovery(int cgroup, void *argument)
{
	const struct options *options = argument;

	srandom(time(NULL));
	load_variants(1u << DISCOVERY, options->tupleguard, NULL, options->table, cgroup);
	return bench_choices(options->repetitions);
}

static int run_own_ports(int cgroup, void *argument)
{
	const struct options *options = argument;

	srandom(time(NULL));
	load_variants(1u << OWN | 1u << OWN_COUNTED, options->tupleguard, NULL, options->table,
		      cgroup);
	return bench_own_ports(options->repetitions, options->json);
}

static int run_deferral(int cgroup, void *argument)
{
	const struct options *options = argument;

	(void)cgroup;
	return bench_deferral(options->tupleguard, options->repetitions, options->json);
}

static int run_scale(int cgroup, void *argument)
{
	const struct options *options = argument;
	unsigned table = 1;

	while (table < (unsigned)options->sockets)
		table *= 2;
	load_variants(1u << DISCOVERY, options->tupleguard, NULL, table, cgroup);
	return bench_scale(options->sockets);
}

/* Leaves nothing in the kernel, also when it was interrupted. */
static int run_and_unload(int (*body)(int, void *), void *argument, const char *tupleguard)
{
	int status = run_apart(body, argument);

	unload_variants(tupleguard);
	return status;
}

static int number(const char *text, const char *option, int most)
{
	char *end;
	long value = strtol(text, &end, 10);

	errno = 0;
	if (end == text || *end || value < 1 || value > most)
		die("--%s takes a number from 1 to %d, not \"%s\"", option, most, text);
	return value;
}

static struct options parse(int argc, char **argv)
{
	static const struct option known[] = {
	    {"tupleguard", required_argument, NULL, 'g'},
	    {"empty", required_argument, NULL, 'l'},
	    {"library", required_argument, NULL, 'L'},
	    {"beside", required_argument, NULL, 'B'},
	    {"repetitions", required_argument, NULL, 'r'},
	    {"table", required_argument, NULL, 'b'},
	    {"sockets", required_argument, NULL, 'n'},
	    {"seconds", required_argument, NULL, 's'},
	    {"threads", required_argument, NULL, 't'},
	    {"short", no_argument, NULL, 'S'},
	    {"json", no_argument, NULL, 'j'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	struct options options = {
	    .tupleguard = "tupleguard",
	    .empty = "empty.bpf.o",
	    .repetitions = 121,
	    .table = 65536,
	    .sockets = 1000000,
	    .threads = 1,
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'g':
			options.tupleguard = optarg;
			break;
		case 'l':
			options.empty = optarg;
			break;
		case 'L':
			options.library = optarg;
			break;
		case 'B':
			options.beside = optarg;
			break;
		case 'r':
			options.repetitions = number(optarg, "repetitions", 10000);
			break;
		case 'b':
			options.table = number(optarg, "table", 1 << 24);
			break;
		case 'n':
			options.sockets = number(optarg, "sockets", 1 << 24);
			break;
		case 's':
			options.seconds = number(optarg, "seconds", 3600);
			break;
		case 't':
			options.threads = number(optarg, "threads", 256);
			break;
		case 'S':
			options.is_short = true;
			break;
		case 'j':
			options.json = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			exit(0);
		default:
			fputs(usage_text, stderr);
			exit(2);
		}
	}
	return options;
}

int main(int argc, char **argv)
{
	struct options options = parse(argc, argv);
	const char *command = optind + 1 == argc ? argv[optind] : "";

	if (options.table & (options.table - 1)) {
		errno = 0;
		die("--table takes a power of two, not %d", options.table);
	}
	if (!strcmp(command, "guard"))
		return run_and_unload(bench_guard, &options, options.tupleguard);
	if (!strcmp(command, "connectx") && options.library)
		return run_and_unload(bench_connectx,
				      &(struct connectx_options){
					  .library = options.library,
					  .beside = options.beside,
					  .tupleguard = options.tupleguard,
					  .repetitions = options.repetitions,
					  .json = options.json,
				      },
				      options.tupleguard);
	if (!strcmp(command, "discovery"))
		return run_and_unload(run_discovery, &options, options.tupleguard);
	if (!strcmp(command, "ports"))
		return run_and_unload(run_own_ports, &options, options.tupleguard);
	if (!strcmp(command, "scale"))
		return run_and_unload(run_scale, &options, options.tupleguard);
	if (!strcmp(command, "deferral"))
		return run_apart(run_deferral, &options);
	if (!strcmp(command, "deferral-worker"))
		return deferral_worker();
	if (!strcmp(command, "flood") && options.seconds)
		return flood(options.seconds, options.threads, options.json);
	fputs(usage_text, stderr);
	return 2;
}
