// SPDX-License-Identifier: Apache-2.0
/*
 * A flood of refusals, counted exactly, to compare a guard's counters with. It
 * stays in the cgroup and the network namespace where it was started.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LAST_ERRNO = 4095 }; /* MAX_ERRNO of the kernel */

struct flooder {
	pthread_t thread;
	struct address local;
	struct address remote;
	time_t end;
	/* How many connects ended with each errno; 0 is those that succeeded. */
	uint64_t outcomes[LAST_ERRNO + 1];
};

static time_t seconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

static void *run_flooder(void *argument)
{
	struct flooder *it = argument;
	int fd = bound_socket(&it->local);

	while (seconds_now() < it->end) {
		for (int i = 0; i < 100; i++) {
			int failed = connect(fd, &it->remote.any, it->remote.length);

			it->outcomes[failed ? errno : 0]++;
		}
	}
	close(fd);
	return NULL;
}

static const char *outcome_name(int error)
{
	const char *name = error ? strerrorname_np(error) : "connected";

	return name ? name : "unknown";
}

static void print_outcomes(const uint64_t *outcomes, bool json)
{
	uint64_t refused = 0;
	const char *between = "";

	for (int error = 1; error <= LAST_ERRNO; error++)
		refused += outcomes[error];
	printf(json ? "{\"connected\": %lu, \"refused\": %lu, \"errors\": {"
		    : "connected %lu\nrefused %lu\n",
	       outcomes[0], refused);
	for (int error = 1; error <= LAST_ERRNO; error++) {
		if (!outcomes[error])
			continue;
		printf(json ? "%s\"%s\": %lu" : "%s  %s %lu\n", between, outcome_name(error),
		       outcomes[error]);
		between = json ? ", " : "";
	}
	if (json)
		printf("}}\n");
}

int flood(int seconds, int threads, bool json)
{
	struct flooder *flooders = calloc(threads, sizeof(*flooders));
	uint64_t outcomes[LAST_ERRNO + 1] = {};
	struct address local = loopback(AF_INET, 0), remote = loopback(AF_INET, 9);
	int holder = bound_socket(&local);

	/* Any free port will do, now that it is ours. */
	if (getsockname(holder, &local.any, &(socklen_t){sizeof(local.v6)}) ||
	    connect(holder, &remote.any, remote.length))
		die("cannot connect the socket that is to hold the tuple");
	for (int i = 0; i < threads; i++) {
		flooders[i].local = local;
		flooders[i].remote = remote;
		flooders[i].end = seconds_now() + seconds;
		errno = pthread_create(&flooders[i].thread, NULL, run_flooder, &flooders[i]);
		if (errno)
			die("cannot start a thread");
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(flooders[i].thread, NULL);
		for (int error = 0; error <= LAST_ERRNO; error++)
			outcomes[error] += flooders[i].outcomes[error];
	}
	close(holder);
	print_outcomes(outcomes, json);
	free(flooders);
	return 0;
}
