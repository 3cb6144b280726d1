// SPDX-License-Identifier: Apache-2.0
/*
 * tupleguard-stress: tries to make two connected UDP sockets hold one 4-tuple.
 * Run where duplicates should be refused it must fail to; run elsewhere it
 * must succeed, or it proves nothing.
 */
#include "stress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char general_help[] =
    "usage: tupleguard-stress race|chaos|shared|connectx [OPTION...]\n"
    "\n"
    "Makes UDP sockets with SO_REUSEADDR in the cgroup and network namespace it is\n"
    "started in, and looks for two that hold one 4-tuple. All traffic stays on loopback.\n"
    "\n"
    "  race      all threads connect to one tuple at once: exactly one must win\n"
    "  chaos     many sockets of all kinds in many threads and processes\n"
    "  shared    several threads connect and disconnect the same sockets\n"
    "  connectx  threads and processes go for few source ports by a technique of userspace\n"
    "\n"
    "Options of every mode (each mode's --help has its own):\n"
    "  --errno NAME   errno of a refused connect (EPERM)\n"
    "  --netns        make a network namespace to run in, with more addresses; needs root\n"
    "  --json         one JSON object instead of lines\n"
    "\n"
    "Exit status: 0 nothing found, 1 violations, 2 bad arguments, 3 cannot run here.\n";

static const char race_help[] =
    "usage: tupleguard-stress race [--threads N] [--rounds N] [--family FAMILY] [OPTION...]\n"
    "\n"
    "Every round, each thread connects a socket of its own, bound to the same address and\n"
    "port as those of all others, to one destination. Exactly one must be connected, the\n"
    "others must be refused. Ends with 0 when every round had exactly one winner.\n"
    "\n"
    "  --threads N      2 to 64 (4)\n"
    "  --rounds N       (100000)\n"
    "  --family FAMILY  4, 6, mapped (IPv4 by IPv6 sockets), mixed (4, mapped, and IPv6\n"
    "                   sockets given IPv4 addresses), wildcard (every other socket is\n"
    "                   bound to 0.0.0.0) (4)\n"
    "  --errno NAME, --netns, --json: as in every mode\n";

static const char chaos_help[] =
    "usage: tupleguard-stress chaos [--seconds S | --operations N] [OPTION...]\n"
    "\n"
    "Threads in several processes open, connect, reconnect, disconnect, hand over and close\n"
    "sockets of all kinds, on few addresses and ports. Every connected socket is entered in a\n"
    "common table under the tuple that the kernel says it holds, and struck off before a call\n"
    "that may end that; entered twice is a violation. With one thread in one process, every\n"
    "refusal must have a reason too: a socket that holds the tuple, or claimed it moments ago.\n"
    "\n"
    "  --seconds S      how long (10)\n"
    "  --operations N   how many, instead\n"
    "  --threads T      in each process, 1 to 64 (4)\n"
    "  --processes P    1 to 64 (2)\n"
    "  --seed X         repeat a run, as far as the scheduler lets it (the time)\n"
    "  --unbound        also sockets that have no port before connect; with --netns there are\n"
    "                   few ports for them\n"
    "  --exclusive      with --unbound: some of these without SO_REUSEADDR\n"
    "  --errno NAME, --netns, --json: as in every mode\n";

static const char shared_help[] =
    "usage: tupleguard-stress shared [--rounds N] [--threads N] [--seed X] [OPTION...]\n"
    "\n"
    "Every round, threads connect and disconnect the same few sockets without waiting for each\n"
    "other. Then all stand still, and every socket is asked what it holds; two that hold one\n"
    "tuple are a violation.\n"
    "\n"
    "  --threads N      2 to 16 (3)\n"
    "  --rounds N       (100000)\n"
    "  --seed X         repeat a run, as far as the scheduler lets it (the time)\n"
    "  --unbound        also sockets that have no port before connect\n"
    "  --errno NAME, --netns, --json: as in every mode\n";

static const char connectx_help[] =
    "usage: tupleguard-stress connectx --technique NAME [--library PATH] [OPTION...]\n"
    "\n"
    "Threads of several processes connect sockets from few source ports to one destination,\n"
    "hold what they got for a moment, and close. Two that hold one tuple at once: one of them\n"
    "is overshadowed. Ends with 0 when none ever was.\n"
    "\n"
    "  --technique NAME  lock (SO_REUSEADDR as a lock, as published), barrier (with the bind\n"
    "                    barrier), plain (bind and connect), connectx (the library, told the\n"
    "                    port), discovery (the library, which chooses; needs --netns) (lock)\n"
    "  --mix NAME        the technique of every other process\n"
    "  --library PATH    of libconnectx.so\n"
    "  --outside FOLDER  the cgroup to which the processes that don't mix move first\n"
    "  --ports A-B       the source ports (40000-40000)\n"
    "  --others N        sockets on each of them, connected to other destinations (0)\n"
    "  --hold US         at most so many microseconds (50)\n"
    "  --seconds S       how long (10)\n"
    "  --successes N     until so many, instead\n"
    "  --processes N, --threads N of each (2, 2)\n"
    "  --family FAMILY   4, 6, mapped, mixed (4 and mapped by turns) (4)\n"
    "  --seed X          repeat a run, as far as the scheduler lets it (the time)\n"
    "  --netns, --json: as in every mode\n";

static const struct mode {
	const char *name, *help;
	const char *options; /* that it has beside the common ones */
	unsigned min_threads, max_threads, default_threads;
	int (*run)(const struct options *options);
} modes[] = {
    {"race", race_help, " --threads --rounds --family ", 2, 64, 4, run_race},
    {"chaos", chaos_help,
     " --seconds --operations --threads --processes --seed --unbound --exclusive ", 1, 64, 4,
     run_chaos},
    {"shared", shared_help, " --threads --rounds --seed --unbound ", 2, 16, 3, run_shared},
    {"connectx", connectx_help,
     " --technique --mix --library --outside --ports --others --hold --seconds --successes"
     " --processes --threads --family --seed ",
     1, 64, 2, run_connectx},
};

static const struct mode *find_mode(const char *name)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(modes[i].name, name))
			return &modes[i];
	fail(EXIT_BAD_USAGE, "unknown mode '%s': race, chaos, shared or connectx (see --help)",
	     name);
}

static bool has_option(const struct mode *mode, const char *option)
{
	char padded[64];

	snprintf(padded, sizeof(padded), " %s ", option);
	return strstr(mode->options, padded) || strstr(" --errno --netns --json ", padded);
}

static uint64_t parse_number(const char *option, const char *text, uint64_t min, uint64_t max)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || number < min || number > max)
		fail(EXIT_BAD_USAGE, "%s: '%s' is not a number from %llu to %llu", option, text,
		     (unsigned long long)min, (unsigned long long)max);
	return number;
}

static const char *parse_family(const char *text)
{
	static const char *const families[] = {"4", "6", "mapped", "mixed", "wildcard"};

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (!strcmp(families[i], text))
			return text;
	fail(EXIT_BAD_USAGE, "--family: '%s' is not 4, 6, mapped, mixed or wildcard", text);
}

static int parse_errno(const char *text)
{
	int error = errno_by_name(text);

	if (!error)
		fail(EXIT_BAD_USAGE, "--errno: '%s' is not a name like EPERM or EADDRINUSE", text);
	return error;
}

static void parse_ports(struct options *options, const char *text)
{
	unsigned first, last;
	int length = 0;

	if (sscanf(text, "%5u-%5u%n", &first, &last, &length) != 2 || text[length] || !first ||
	    last > UINT16_MAX || first > last)
		fail(EXIT_BAD_USAGE, "--ports: '%s' is not like 40000-40007", text);
	options->first_port = (uint16_t)first;
	options->last_port = (uint16_t)last;
}

static bool parse_flag(struct options *options, const char *option)
{
	bool *flag = !strcmp(option, "--netns")	      ? &options->own_netns
		     : !strcmp(option, "--json")      ? &options->json
		     : !strcmp(option, "--unbound")   ? &options->unbound
		     : !strcmp(option, "--exclusive") ? &options->exclusive
						      : NULL;

	if (flag)
		*flag = true;
	return flag;
}

/* Options of `connectx` alone. */
static bool parse_contest(struct options *options, const char *option, const char *text)
{
	if (!strcmp(option, "--technique"))
		options->technique = text;
	else if (!strcmp(option, "--mix"))
		options->mix = text;
	else if (!strcmp(option, "--library"))
		options->library = text;
	else if (!strcmp(option, "--outside"))
		options->outside = text;
	else if (!strcmp(option, "--ports"))
		parse_ports(options, text);
	else if (!strcmp(option, "--others"))
		options->others = (unsigned)parse_number(option, text, 0, 50000);
	else if (!strcmp(option, "--hold"))
		options->hold_us = (unsigned)parse_number(option, text, 0, 1000000);
	else if (!strcmp(option, "--successes"))
		options->successes = parse_number(option, text, 1, UINT64_MAX);
	else
		return false;
	return true;
}

static void parse_value(const struct mode *mode, struct options *options, const char *option,
			const char *text)
{
	if (parse_contest(options, option, text))
		return;
	if (!strcmp(option, "--threads"))
		options->threads =
		    (unsigned)parse_number(option, text, mode->min_threads, mode->max_threads);
	else if (!strcmp(option, "--processes"))
		options->processes = (unsigned)parse_number(option, text, 1, 64);
	else if (!strcmp(option, "--rounds"))
		options->rounds = parse_number(option, text, 1, UINT64_MAX);
	else if (!strcmp(option, "--operations"))
		options->operations = parse_number(option, text, 1, UINT64_MAX);
	else if (!strcmp(option, "--seconds"))
		options->seconds = (unsigned)parse_number(option, text, 1, 1000000);
	else if (!strcmp(option, "--seed"))
		options->seed = parse_number(option, text, 0, UINT64_MAX);
	else if (!strcmp(option, "--family"))
		options->family = parse_family(text);
	else
		options->refusal = parse_errno(text);
}

static void parse_options(const struct mode *mode, struct options *options, char **arguments)
{
	for (; *arguments; arguments++) {
		const char *option = *arguments;

		if (!strcmp(option, "--help") || !strcmp(option, "-h")) {
			fputs(mode->help, stdout);
			exit(EXIT_HELD);
		}
		if (!has_option(mode, option))
			fail(EXIT_BAD_USAGE, "%s has no option '%s' (see %s --help)", mode->name,
			     option, mode->name);
		if (parse_flag(options, option))
			continue;
		if (!arguments[1])
			fail(EXIT_BAD_USAGE, "%s needs a value", option);
		parse_value(mode, options, option, *++arguments);
	}
}

int main(int count, char **arguments)
{
	struct options options = {.processes = 2,
				  .rounds = 100000,
				  .seconds = 10,
				  .seed = (uint64_t)time(NULL),
				  .refusal = EPERM,
				  .family = "4",
				  .technique = "lock",
				  .hold_us = 50,
				  .first_port = 40000,
				  .last_port = 40000};
	const struct mode *mode;

	if (count < 2)
		fail(EXIT_BAD_USAGE, "which mode? race, chaos, shared or connectx (see --help)");
	if (!strcmp(arguments[1], "--help") || !strcmp(arguments[1], "-h")) {
		fputs(general_help, stdout);
		return EXIT_HELD;
	}
	mode = find_mode(arguments[1]);
	options.threads = mode->default_threads;
	parse_options(mode, &options, arguments + 2);
	catch_interrupts();
	if (options.own_netns)
		enter_own_netns();
	return mode->run(&options);
}
