// SPDX-License-Identifier: Apache-2.0
/*
 * connectx: threads of several processes go for few source ports to one
 * destination, by the technique that is put to the test. Whoever succeeds
 * enters the tuple that the kernel tells into the oracle's table, holds it for a
 * moment and closes. Two that are entered under one tuple at once: one of them
 * was overshadowed.
 */
#include "contest.h"
#include "crew.h"
#include "oracle.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	DESTINATION_PORT = 7001,
	LAST_ERRNO = 133,
	TEAMS = 2,
};

/* What one thread did. */
struct tally {
	_Alignas(64) uint64_t successes;
	uint64_t elsewhere; /* connected, but not with what was asked for */
	uint64_t failures[LAST_ERRNO + 1];
};

/* Processes take turns in which team they belong to; without --mix both use one technique. */
struct contest {
	const struct options *options;
	const struct technique *teams[TEAMS];
	struct oracle *oracle;
	struct tally *tallies; /* of each thread of each process */
	_Atomic uint64_t *successes;
};

struct contender {
	struct contest *contest;
	struct member *member;
	const struct technique *technique;
	struct party party;
	struct tally *tally;
	int diag;
};

static union name loopback(int family, bool mapped, uint16_t port)
{
	union name name = {.any.sa_family = (sa_family_t)family};

	if (family == AF_INET) {
		name.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	} else if (mapped) {
		struct address address = address_of("127.0.0.1");

		memcpy(&name.v6.sin6_addr, &address, sizeof(address));
	} else {
		name.v6.sin6_addr = in6addr_loopback;
	}
	name.v4.sin_port = htons(port); /* at the same place in both families */
	return name;
}

/* By --family: of one kind, or every other thread's socket is IPv6 with mapped addresses. */
static union name own_name(const struct contender *contender, uint16_t port)
{
	const char *family = contender->contest->options->family;

	if (!strcmp(family, "6"))
		return loopback(AF_INET6, false, port);
	if (!strcmp(family, "mapped") || (!strcmp(family, "mixed") && contender->party.thread % 2))
		return loopback(AF_INET6, true, port);
	return loopback(AF_INET, false, port);
}

/* --- a contender --- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* For a moment. */
static void hold(struct contender *contender)
{
	uint64_t longest_ns = contender->contest->options->hold_us * 1000ULL;
	uint64_t end =
	    now_ns() + random_below(&contender->member->random, (uint32_t)longest_ns + 1);

	while (now_ns() < end)
		;
}

static void count_success(struct contender *contender)
{
	struct contest *contest = contender->contest;
	uint64_t successes = atomic_fetch_add(contest->successes, 1) + 1;

	contender->tally->successes++;
	if (contest->options->successes && successes >= contest->options->successes)
		crew_stop(contender->member->crew);
	crew_step(contender->member);
}

/* The socket is connected, says the technique; the kernel says with what. */
static void live(struct contender *contender, int fd, uint16_t wanted_port)
{
	const struct options *options = contender->contest->options;
	struct tuple tuple;
	bool is_as_asked = read_tuple(fd, &tuple) && tuple.remote_port == DESTINATION_PORT;

	if (contender->technique->finds_ports)
		is_as_asked = is_as_asked && tuple.local_port >= options->first_port &&
			      tuple.local_port <= options->last_port;
	else
		is_as_asked = is_as_asked && tuple.local_port == wanted_port;
	if (!is_as_asked) {
		contender->tally->elsewhere++;
		return;
	}
	contender->party.shape.port = tuple.local_port;
	contender->party.shape.local = tuple.local;
	oracle_enter(contender->contest->oracle, &tuple, &contender->party);
	count_success(contender);
	hold(contender);
	oracle_leave(contender->contest->oracle, &tuple, false);
}

static void contend(struct contender *contender)
{
	const struct options *options = contender->contest->options;
	uint32_t ports = (uint32_t)options->last_port - options->first_port + 1;
	uint16_t port =
	    (uint16_t)(options->first_port + random_below(&contender->member->random, ports));
	union name local = own_name(contender, port);
	union name remote = own_name(contender, DESTINATION_PORT);
	int fd = socket(local.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		fail(EXIT_CANNOT_RUN, "cannot make a socket: %s", strerror(errno));
	contender->party.shape.family = local.any.sa_family;
	error = contender->technique->connect(fd, contender->diag, &local, &remote);
	if (!error)
		live(contender, fd, port);
	close(fd);
	if (error) {
		contender->tally->failures[error <= LAST_ERRNO ? error : 0]++;
		sched_yield(); /* to the one that holds it, perhaps */
	}
}

static void run_contender(struct member *member)
{
	struct contest *contest = member->crew->plan;
	struct contender contender = {
	    .contest = contest,
	    .member = member,
	    .technique = contest->teams[member->process % TEAMS],
	    .party = {(uint16_t)member->process, (uint16_t)member->thread, {0}},
	    .tally = &contest->tallies[member->number],
	    .diag = diag_open(),
	};

	if (contender.diag < 0)
		fail(EXIT_CANNOT_RUN, "cannot open SOCK_DIAG: %s", strerror(errno));
	while (!crew_is_over(member->crew))
		contend(&contender);
	close(contender.diag);
}

static void prepare_process(struct crew *crew, unsigned process)
{
	if (crew->options->outside && process % TEAMS == 0)
		join_cgroup(crew->options->outside);
}

/* --- results --- */

static void report_team(struct report *report, const struct contest *contest, unsigned team,
			const char *title)
{
	const struct options *options = contest->options;
	struct tally sum = {0};

	for (unsigned i = 0; i < options->processes * options->threads; i++) {
		const struct tally *tally = &contest->tallies[i];

		if (options->mix && i / options->threads % TEAMS != team)
			continue;
		sum.successes += tally->successes;
		sum.elsewhere += tally->elsewhere;
		for (int error = 0; error <= LAST_ERRNO; error++)
			sum.failures[error] += tally->failures[error];
	}
	report_open(report, title);
	report_number(report, "successes", sum.successes);
	report_number(report, "connected_elsewhere", sum.elsewhere);
	for (int error = 0; error <= LAST_ERRNO; error++)
		if (sum.failures[error])
			report_number(report, errno_name(error), sum.failures[error]);
	report_close(report);
}

static uint64_t count_elsewhere(const struct contest *contest)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < contest->options->processes * contest->options->threads; i++)
		sum += contest->tallies[i].elsewhere;
	return sum;
}

static void report_contest(const struct contest *contest, uint64_t duration_ms)
{
	const struct options *options = contest->options;
	uint64_t successes = atomic_load(contest->successes);
	uint64_t overshadowed = oracle_violations(contest->oracle);
	struct report report;

	report_begin(&report, options->json, "connectx");
	report_text(&report, "family", options->family);
	report_number(&report, "processes", options->processes);
	report_number(&report, "threads", options->threads);
	report_number(&report, "ports", options->last_port - options->first_port + 1u);
	report_number(&report, "others_on_each", options->others);
	report_number(&report, "milliseconds", duration_ms);
	report_team(&report, contest, 0, contest->teams[0]->name);
	if (options->mix)
		report_team(&report, contest, 1, contest->teams[1]->name);
	report_number(&report, "successes", successes);
	report_number(&report, "overshadowed", overshadowed);
	report_number(&report, "overshadowed_per_million",
		      successes ? overshadowed * 1000000 / successes : 0);
	report_end(&report);
}

/* --- the contest --- */

static const struct technique *choose_technique(const struct options *options, const char *name)
{
	const struct technique *technique = find_technique(name);

	if (!technique)
		fail(EXIT_BAD_USAGE, "there is no technique '%s' (see connectx --help)", name);
	if (technique->is_library && !options->library)
		fail(EXIT_BAD_USAGE, "the technique '%s' needs --library", name);
	return technique;
}

static void prepare_ports(const struct contest *contest)
{
	const struct options *options = contest->options;
	struct contender anyone = {.contest = (struct contest *)contest};
	union name local = own_name(&anyone, 0);

	for (int team = 0; team < TEAMS; team++)
		if (contest->teams[team]->finds_ports) {
			if (!options->own_netns)
				fail(EXIT_BAD_USAGE, "the technique '%s' needs --netns",
				     contest->teams[team]->name);
			set_port_range(options->first_port, options->last_port);
		}
	gather_crowd(&local, options->first_port, options->last_port, options->others);
}

int run_connectx(const struct options *options)
{
	struct crew crew = {
	    .options = options,
	    .processes = options->processes,
	    .threads = options->threads,
	    .prepare = prepare_process,
	    .run = run_contender,
	    .ends_by_itself = options->successes,
	};
	struct contest contest = {.options = options, .oracle = make_oracle()};
	uint64_t start_ms;

	crew.plan = &contest;
	if (!strcmp(options->family, "wildcard"))
		fail(EXIT_BAD_USAGE, "--family: connectx has 4, 6, mapped and mixed");
	if ((options->mix || options->outside) && options->processes < TEAMS)
		fail(EXIT_BAD_USAGE, "--mix and --outside need two processes at least");
	contest.teams[0] = choose_technique(options, options->technique);
	contest.teams[1] =
	    options->mix ? choose_technique(options, options->mix) : contest.teams[0];
	if (options->library)
		load_library(options->library);
	contest.successes = shared_memory(sizeof(*contest.successes));
	contest.tallies =
	    shared_memory(sizeof(*contest.tallies) * options->processes * options->threads);
	prepare_ports(&contest);
	start_ms = now_ms();
	run_crew(&crew);
	print_violations(contest.oracle);
	report_contest(&contest, now_ms() - start_ms);
	return oracle_violations(contest.oracle) || count_elsewhere(&contest) ? EXIT_VIOLATED
									      : EXIT_HELD;
}
