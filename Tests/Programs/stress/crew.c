// SPDX-License-Identifier: Apache-2.0
/* Starting a crew, watching over it, and waiting for it. */
#include "crew.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TICK_MS = 20,
	/* Without a single step for so long, something hangs. */
	PATIENCE_MS = 60000,
};

void crew_stop(struct crew *crew)
{
	atomic_store(&crew->state->stop, true);
}

bool crew_is_over(const struct crew *crew)
{
	return atomic_load_explicit(&crew->state->stop, memory_order_relaxed);
}

void crew_step(struct member *member)
{
	_Atomic uint64_t *steps = &member->crew->state->members[member->number].steps;

	/* Nobody else writes it. */
	atomic_store_explicit(steps, atomic_load_explicit(steps, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

uint64_t crew_steps(const struct crew *crew)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < crew->processes * crew->threads; i++)
		sum += atomic_load_explicit(&crew->state->members[i].steps, memory_order_relaxed);
	return sum;
}

void join_cgroup(const char *folder)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		fail(EXIT_CANNOT_RUN, "cannot join the cgroup %s: %s", folder, strerror(errno));
	close(fd);
}

static void *run_member(void *argument)
{
	struct member *member = argument;

	member->crew->run(member);
	return NULL;
}

/* A child: runs its threads, and ends. */
static _Noreturn void run_process(struct crew *crew, unsigned process)
{
	struct member *members = calloc(crew->threads, sizeof(*members));
	pthread_t *ids = calloc(crew->threads, sizeof(*ids));

	/* The parent sees interrupts and tells us. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	if (!members || !ids)
		fail(EXIT_CANNOT_RUN, "out of memory");
	if (crew->prepare)
		crew->prepare(crew, process);
	for (unsigned thread = 0; thread < crew->threads; thread++) {
		struct member *member = &members[thread];

		*member = (struct member){crew, process, thread,
					  .number = process * crew->threads + thread};
		random_init(&member->random, crew->options->seed, member->number + 1);
		if (pthread_create(&ids[thread], NULL, run_member, member))
			fail(EXIT_CANNOT_RUN, "cannot start thread %u of process %u", thread,
			     process);
	}
	for (unsigned thread = 0; thread < crew->threads; thread++)
		pthread_join(ids[thread], NULL);
	_exit(EXIT_HELD); /* with what sockets are still open */
}

static pid_t start_process(struct crew *crew, unsigned process)
{
	pid_t child = fork_for_life();

	if (child)
		return child;
	run_process(crew, process);
}

struct watch {
	uint64_t end_ms; /* 0: never */
	uint64_t steps, progress_ms;
};

static void watch_over(struct crew *crew, struct watch *watch, const pid_t *children)
{
	uint64_t now = now_ms(), steps = crew_steps(crew);

	if (steps != watch->steps) {
		watch->steps = steps;
		watch->progress_ms = now;
	}
	if (atomic_load(&interrupted) || (watch->end_ms && now >= watch->end_ms))
		crew_stop(crew);
	if (now - watch->progress_ms > PATIENCE_MS)
		for (unsigned i = 0; i < crew->processes; i++)
			if (children[i])
				kill(children[i], SIGKILL);
	if (crew->tick)
		crew->tick(crew);
	sleep_ms(TICK_MS);
}

/* Returns whether all children ended well. */
static bool wait_for(struct crew *crew, pid_t *children)
{
	struct watch watch = {.progress_ms = now_ms()};
	unsigned left = crew->processes;
	bool well = true;

	if (!crew->ends_by_itself)
		watch.end_ms = now_ms() + crew->options->seconds * 1000ULL;
	while (left) {
		for (unsigned i = 0; i < crew->processes; i++) {
			int status;

			if (!children[i] || waitpid(children[i], &status, WNOHANG) != children[i])
				continue;
			children[i] = 0;
			left--;
			if (status) {
				well = false;
				crew_stop(crew);
			}
		}
		watch_over(crew, &watch, children);
	}
	return well;
}

void run_crew(struct crew *crew)
{
	size_t members = (size_t)crew->processes * crew->threads;
	pid_t *children = calloc(crew->processes, sizeof(*children));
	bool well;

	crew->state =
	    shared_memory(sizeof(*crew->state) + members * sizeof(crew->state->members[0]));
	if (!children)
		fail(EXIT_CANNOT_RUN, "out of memory");
	for (unsigned process = 0; process < crew->processes; process++)
		children[process] = start_process(crew, process);
	well = wait_for(crew, children);
	free(children);
	if (!well)
		fail(EXIT_CANNOT_RUN,
		     "a child process ended before its time, or none did anything for a minute");
}
