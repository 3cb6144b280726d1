// SPDX-License-Identifier: Apache-2.0
/*
 * tupleguard-stress: tries to make two connected UDP sockets hold one 4-tuple.
 * Run where duplicates should be refused it must fail to; run elsewhere it
 * must succeed, or it proves nothing.
 */
#include "help.h"
#include "rewriter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
    {"reuseport", reuseport_help, " --seconds --operations --threads --processes --seed ", 1, 64, 4,
     run_reuseport},
    {"throng", throng_help, " --seconds --threads --processes --seed ", 1, 64, 4, run_throng},
    {"shared", shared_help, " --threads --rounds --seed --unbound ", 2, 16, 3, run_shared},
    {"samesocket", samesocket_help, " --seconds --threads --processes --seed ", 2, 16, 4,
     run_samesocket},
    {"budget", budget_help, " --limit --seconds --threads --processes --seed ", 1, 64, 4,
     run_budget},
    {"hostile", hostile_help, " --seconds --threads --processes --seed --attacks ", 1, 64, 2,
     run_hostile},
    {"outsiders", outsiders_help, " --seconds --threads --processes --seed --outside --hold ", 1,
     64, 2, run_outsiders},
    {"rewriters", rewriters_help,
     " --seconds --threads --processes --seed --rewriter --services --hold --idle ", 1, 64, 2,
     run_rewriters},
    {"ports", ports_help, " --ports --seconds --threads --processes --seed ", 1, 64, 4, run_ports},
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
	fail(EXIT_BAD_USAGE, "unknown mode '%s' (see --help)", name);
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
		     : !strcmp(option, "--idle")      ? &options->idle
						      : NULL;

	if (flag)
		*flag = true;
	return flag;
}

/* Options of few modes. */
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
	else if (!strcmp(option, "--rewriter"))
		options->rewriter = text;
	else if (!strcmp(option, "--services"))
		options->services = (unsigned)parse_number(option, text, 0, MAX_SERVICES);
	else if (!strcmp(option, "--attacks"))
		options->attacks = text;
	else if (!strcmp(option, "--ports"))
		parse_ports(options, text);
	else if (!strcmp(option, "--others"))
		options->others = (unsigned)parse_number(option, text, 0, 50000);
	else if (!strcmp(option, "--hold"))
		options->hold_us = (unsigned)parse_number(option, text, 0, 1000000);
	else if (!strcmp(option, "--limit"))
		options->limit = (unsigned)parse_number(option, text, 1, 4096);
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
				  .services = 2,
				  .first_port = 40000,
				  .last_port = 40000};
	const struct mode *mode;

	if (count < 2)
		fail(EXIT_BAD_USAGE, "which mode? (see --help)");
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
