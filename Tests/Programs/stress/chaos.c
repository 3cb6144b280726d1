// SPDX-License-Identifier: Apache-2.0
/*
 * chaos: processes full of threads full of sockets; the parent changes routes
 * under them, and adds up what they counted.
 */
#include "chaos.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void run_worker(struct member *member)
{
	struct chaos *chaos = member->crew->plan;
	struct worker *worker = calloc(1, sizeof(*worker));

	if (!worker)
		fail(EXIT_CANNOT_RUN, "out of memory");
	worker->chaos = chaos;
	worker->member = member;
	worker->counts = &chaos->counts[member->number];
	work(worker);
	free(worker);
}

/* Lets the kernel choose another source for sockets that leave that to it. */
static void shift_routes(const struct chaos *chaos, unsigned tick)
{
	const struct address_list *v4 = &chaos->space.v4.sources, *v6 = &chaos->space.v6.sources;

	shift_route(AF_INET, &v4->list[tick % v4->count]);
	if (v6->count)
		shift_route(AF_INET6, &v6->list[tick % v6->count]);
}

static void tick(struct crew *crew)
{
	struct chaos *chaos = crew->plan;

	if (crew->options->own_netns)
		shift_routes(chaos, chaos->tick++);
}

static void add_up(const struct chaos *chaos, struct counts *sum)
{
	for (unsigned i = 0; i < chaos->options->threads * chaos->options->processes; i++) {
		const struct counts *counts = &chaos->counts[i];

		sum->connected += counts->connected;
		sum->refused += counts->refused;
		for (int error = 0; error < MAX_ERRNO; error++)
			sum->failed[error] += counts->failed[error];
		sum->opened += counts->opened;
		sum->disconnected += counts->disconnected;
		sum->duplicated += counts->duplicated;
		sum->sent += counts->sent;
		sum->handed_over += counts->handed_over;
		sum->closed += counts->closed;
		sum->probes += counts->probes;
		for (int reason = 0; reason < REASONS; reason++)
			sum->reasons[reason] += counts->reasons[reason];
	}
}

static void report_reasons(struct report *report, const struct counts *sum)
{
	static const char *const names[REASONS] = {
	    [UNEXPLAINED] = "none",
	    [OLD_BESIDE_WILDCARD] = "old_beside_wildcard",
	    [RECENT] = "recent",
	    [BROADCAST] = "broadcast",
	    [BESIDE_WILDCARD] = "beside_wildcard",
	    [HELD] = "held",
	};

	report_number(report, "probes", sum->probes);
	report_open(report, "reasons_of_refusals");
	for (int reason = REASONS - 1; reason >= 0; reason--)
		report_number(report, names[reason], sum->reasons[reason]);
	report_close(report);
}

static void report_chaos(const struct chaos *chaos, const struct counts *sum)
{
	const struct options *options = chaos->options;
	struct report report;

	report_begin(&report, options->json, options->reuseport ? "reuseport" : "chaos");
	report_number(&report, "seed", options->seed);
	report_number(&report, "processes", options->processes);
	report_number(&report, "threads", options->threads);
	report_number(&report, "operations", crew_steps(chaos->crew));
	report_number(&report, "opened", sum->opened);
	report_number(&report, "connected", sum->connected);
	report_number(&report, "refused", sum->refused);
	report_open(&report, "failed_otherwise");
	for (int error = 0; error < MAX_ERRNO; error++)
		if (sum->failed[error])
			report_number(&report, errno_name(error), sum->failed[error]);
	report_close(&report);
	report_number(&report, "disconnected", sum->disconnected);
	report_number(&report, "handed_over", sum->handed_over);
	report_number(&report, "duplicated", sum->duplicated);
	report_number(&report, "sent", sum->sent);
	report_number(&report, "closed", sum->closed);
	if (is_explainable(options))
		report_reasons(&report, sum);
	report_number(&report, "violations", oracle_violations(chaos->oracle));
	report_end(&report);
}

static void make_mailboxes(struct chaos *chaos)
{
	unsigned processes = chaos->options->processes;

	chaos->mailboxes = calloc(processes, sizeof(*chaos->mailboxes));
	if (!chaos->mailboxes)
		fail(EXIT_CANNOT_RUN, "out of memory");
	for (unsigned i = 0; i < processes; i++)
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, chaos->mailboxes[i]))
			fail(EXIT_CANNOT_RUN, "cannot make a socket pair: %s", strerror(errno));
}

/* With the sockets that nobody took. */
static void close_mailboxes(struct chaos *chaos)
{
	for (unsigned i = 0; i < chaos->options->processes; i++) {
		close(chaos->mailboxes[i][0]);
		close(chaos->mailboxes[i][1]);
	}
	free(chaos->mailboxes);
}

int run_chaos(const struct options *options)
{
	struct crew crew = {
	    .options = options,
	    .processes = options->processes,
	    .threads = options->threads,
	    .run = run_worker,
	    .tick = tick,
	    .ends_by_itself = options->operations,
	};
	struct chaos chaos = {.options = options, .crew = &crew, .oracle = make_oracle()};
	struct counts sum = {0};

	crew.plan = &chaos;
	chaos.counts = shared_memory(sizeof(*chaos.counts) * options->threads * options->processes);
	make_space(&chaos.space, options->own_netns);
	make_mailboxes(&chaos);
	if (options->own_netns)
		shift_routes(&chaos, 0);
	run_crew(&crew);
	close_mailboxes(&chaos);
	add_up(&chaos, &sum);
	print_violations(chaos.oracle);
	report_chaos(&chaos, &sum);
	return oracle_violations(chaos.oracle) || sum.reasons[UNEXPLAINED] ? EXIT_VIOLATED
									   : EXIT_HELD;
}

int run_reuseport(const struct options *options)
{
	struct options also = *options;

	also.reuseport = true;
	also.unbound = true;
	return run_chaos(&also);
}
