// SPDX-License-Identifier: Apache-2.0
/*
 * chaos: processes full of threads full of sockets, and the parent that starts
 * them, changes routes under them, ends them and adds up what they counted.
 */
#include "chaos.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TICK_MS = 20,
	/* Without a single operation for so long, something hangs. */
	PATIENCE_MS = 60000,
};

/* A child: runs its threads, and ends. */
static _Noreturn void run_process(struct chaos *chaos, unsigned process)
{
	unsigned threads = chaos->options->threads;
	struct worker *workers = calloc(threads, sizeof(*workers));
	pthread_t *ids = calloc(threads, sizeof(*ids));

	/* The parent sees interrupts and tells us. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	if (!workers || !ids)
		fail(EXIT_CANNOT_RUN, "out of memory");
	for (unsigned thread = 0; thread < threads; thread++) {
		unsigned number = process * threads + thread;
		struct worker *worker = &workers[thread];

		worker->chaos = chaos;
		worker->process = process;
		worker->thread = thread;
		worker->counts = &chaos->counts[number];
		random_init(&worker->random, chaos->options->seed, number + 1);
		if (pthread_create(&ids[thread], NULL, work, worker))
			fail(EXIT_CANNOT_RUN, "cannot start thread %u of process %u", thread,
			     process);
	}
	for (unsigned thread = 0; thread < threads; thread++)
		pthread_join(ids[thread], NULL);
	_exit(EXIT_HELD); /* with sockets still open, in some processes */
}

static pid_t start_process(struct chaos *chaos, unsigned process)
{
	pid_t child = fork_for_life();

	if (child)
		return child;
	run_process(chaos, process);
}

static uint64_t count_operations(const struct chaos *chaos)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < chaos->options->threads * chaos->options->processes; i++)
		sum += atomic_load_explicit(&chaos->counts[i].operations, memory_order_relaxed);
	return sum;
}

/* Lets the kernel choose another source for sockets that leave that to it. */
static void shift_routes(const struct chaos *chaos, unsigned tick)
{
	const struct address_list *v4 = &chaos->space.v4.sources, *v6 = &chaos->space.v6.sources;

	shift_route(AF_INET, &v4->list[tick % v4->count]);
	if (v6->count)
		shift_route(AF_INET6, &v6->list[tick % v6->count]);
}

struct supervision {
	uint64_t end_ms; /* 0: when the operations are done */
	uint64_t operations, progress_ms;
	unsigned tick;
};

static void supervise(struct chaos *chaos, struct supervision *supervision)
{
	uint64_t now = now_ms(), operations = count_operations(chaos);

	if (operations != supervision->operations) {
		supervision->operations = operations;
		supervision->progress_ms = now;
	}
	if (atomic_load(&interrupted) || (supervision->end_ms && now >= supervision->end_ms))
		atomic_store(chaos->stop, true);
	if (chaos->options->own_netns)
		shift_routes(chaos, supervision->tick++);
	sleep_ms(TICK_MS);
}

/* Returns whether all children ended well. */
static bool wait_for(struct chaos *chaos, pid_t *children)
{
	unsigned left = chaos->options->processes;
	struct supervision supervision = {.progress_ms = now_ms()};
	bool well = true;

	if (!chaos->options->operations)
		supervision.end_ms = now_ms() + chaos->options->seconds * 1000ULL;
	while (left) {
		for (unsigned i = 0; i < chaos->options->processes; i++) {
			int status;

			if (!children[i] || waitpid(children[i], &status, WNOHANG) != children[i])
				continue;
			children[i] = 0;
			left--;
			if (status) {
				well = false;
				atomic_store(chaos->stop, true);
			}
		}
		if (now_ms() - supervision.progress_ms > PATIENCE_MS)
			for (unsigned i = 0; i < chaos->options->processes; i++)
				if (children[i])
					kill(children[i], SIGKILL);
		supervise(chaos, &supervision);
	}
	return well;
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

	report_begin(&report, options->json, "chaos");
	report_number(&report, "seed", options->seed);
	report_number(&report, "processes", options->processes);
	report_number(&report, "threads", options->threads);
	report_number(&report, "operations", count_operations(chaos));
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
	if (options->threads == 1 && options->processes == 1)
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
	struct chaos chaos = {.options = options, .oracle = make_oracle()};
	pid_t *children = calloc(options->processes, sizeof(*children));
	struct counts sum = {0};
	bool well;

	chaos.counts = shared_memory(sizeof(*chaos.counts) * options->threads * options->processes);
	chaos.stop = shared_memory(sizeof(*chaos.stop));
	make_space(&chaos.space, options->own_netns);
	make_mailboxes(&chaos);
	if (options->own_netns)
		shift_routes(&chaos, 0);
	if (!children)
		fail(EXIT_CANNOT_RUN, "out of memory");
	for (unsigned process = 0; process < options->processes; process++)
		children[process] = start_process(&chaos, process);
	well = wait_for(&chaos, children);
	free(children);
	close_mailboxes(&chaos);
	add_up(&chaos, &sum);
	print_violations(chaos.oracle);
	report_chaos(&chaos, &sum);
	if (!well)
		fail(EXIT_CANNOT_RUN, "a child process ended before its time");
	return oracle_violations(chaos.oracle) || sum.reasons[UNEXPLAINED] ? EXIT_VIOLATED
									   : EXIT_HELD;
}
