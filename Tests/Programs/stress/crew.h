// SPDX-License-Identifier: Apache-2.0
/*
 * A crew: processes full of threads that all do the same, until their time is
 * over. The parent starts them, watches over them and waits for them.
 */
#ifndef STRESS_CREW_H
#define STRESS_CREW_H

#include "stress.h"

struct crew;

/* One thread of one process. */
struct member {
	struct crew *crew;
	unsigned process, thread;
	unsigned number; /* among all of the crew */
	struct random random;
};

/* Memory that all processes of a crew share. */
struct crew_state {
	_Alignas(64) atomic_bool stop;
	/* Of each member, so that the parent sees who hangs. */
	struct {
		_Alignas(64) _Atomic uint64_t steps;
	} members[];
};

struct crew {
	const struct options *options;
	unsigned processes, threads;
	void *plan; /* what the mode makes of it */
	/* Before a process starts its threads; may be NULL. */
	void (*prepare)(struct crew *crew, unsigned process);
	/* A whole thread: to return soon after crew_is_over(). */
	void (*run)(struct member *member);
	/* In the parent, every few milliseconds; may be NULL. */
	void (*tick)(struct crew *crew);
	bool ends_by_itself; /* not when the seconds are over */
	struct crew_state *state;
};

/* Runs all of it; to be called once. Ends the test when a process did not end well. */
void run_crew(struct crew *crew);
/* Ends it before its time; any process may. */
void crew_stop(struct crew *crew);
bool crew_is_over(const struct crew *crew);
/* A member has done something: who does nothing for a minute is taken to hang. */
void crew_step(struct member *member);
uint64_t crew_steps(const struct crew *crew);

/* Moves the process to a cgroup, given by its folder. */
void join_cgroup(const char *folder);

#endif
