// SPDX-License-Identifier: Apache-2.0
/*
 * What it is like where ports are scarce: connects to a destination that nearly
 * every local port is connected to already, and to one that all of them are.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <unistd.h>

enum { FREE_PORTS = 10, MOST_CONNECTS = 3300 };

/* One connect that is to find a port, or none. */
static double connect_once(const struct address *remote, int *error)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	double begin = now(CLOCK_THREAD_CPUTIME_ID);

	*error = fd < 0 || connect(fd, &remote->any, remote->length) ? errno : 0;
	begin = now(CLOCK_THREAD_CPUTIME_ID) - begin;
	if (*error && *error != EADDRNOTAVAIL)
		die("a connect to a destination with few free ports failed otherwise");
	close(fd);
	return begin / 1000;
}

static double connect_often(int connects, int *failures)
{
	struct address remote = loopback(AF_INET, FILLED_PORT);
	double costs[MOST_CONNECTS];

	*failures = 0;
	attach_variant(DISCOVERY);
	for (int i = 0; i < connects; i++) {
		int error;

		costs[i] = connect_once(&remote, &error);
		*failures += error != 0;
	}
	detach_variant(DISCOVERY);
	return summarize(costs, connects).median;
}

struct scarcity measure_scarcity(bool is_short)
{
	struct scarcity scarcity = {
	    .ports = LOCAL_PORTS,
	    .free_ports = FREE_PORTS,
	    .connects = is_short ? MOST_CONNECTS / 5 : MOST_CONNECTS,
	};
	int failures;

	start_holders();
	fill(LOCAL_PORTS - FREE_PORTS, DISCOVERY);
	scarcity.scarce_us = connect_often(scarcity.connects, &scarcity.refused_falsely);
	fill(LOCAL_PORTS, DISCOVERY);
	scarcity.exhausted_us = connect_often(scarcity.connects / 10, &failures);
	errno = 0;
	if (failures != scarcity.connects / 10)
		die("a connect found a port where all are taken");
	stop_holders();
	return scarcity;
}
