// SPDX-License-Identifier: Apache-2.0
/*
 * A million sockets over the default range of ports. The kernel's own bind gets
 * slower on the way, since its table of UDP ports has a fixed number of slots;
 * so the guard is compared, slice by slice, with the same sockets bound to the
 * same ports by hand, with no guard.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	REMOTE_PORT = 9000,
	DESTINATIONS = 100,
	PER_PROCESS = 18000, /* descriptors */
	SLICES = 10,
};

static const double ratio_target = 1.2;

/* What the processes leave in common memory. */
struct record {
	uint16_t port;
	float microseconds; /* of socket, connect, and what binds in between */
};

static struct address destination_of(int number)
{
	return loopback_number(1, number % DESTINATIONS, REMOTE_PORT);
}

static int connect_unbound(int number)
{
	struct address remote = destination_of(number);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, &remote.any, remote.length))
		die("socket %d cannot be connected", number);
	return fd;
}

static int connect_bound(int number, int port)
{
	struct address remote = destination_of(number), local = loopback_number(0, 0, port);
	int fd;

	local.v4.sin_addr.s_addr = htonl(INADDR_ANY);
	fd = bound_socket(&local);
	if (connect(fd, &remote.any, remote.length))
		die("socket %d cannot be connected", number);
	return fd;
}

static uint16_t port_of(int fd)
{
	struct address local;

	if (getsockname(fd, &local.any, &(socklen_t){sizeof(local.v6)}))
		die("getsockname");
	return ntohs(local.v4.sin_port);
}

/* Connects sockets number `first` to `end`, says so, and holds them until it is killed. */
static _Noreturn void run_dialer(struct record *records, int first, int end, bool by_hand, int done)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = first; i < end; i++) {
		double begin = now(CLOCK_THREAD_CPUTIME_ID);
		int fd = by_hand ? connect_bound(i, records[i].port) : connect_unbound(i);

		records[i].microseconds = (float)((now(CLOCK_THREAD_CPUTIME_ID) - begin) / 1000);
		if (!by_hand)
			records[i].port = port_of(fd);
	}
	if (write(done, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

/* One process after the other, and all alive until the last is done. */
static void dial_all(struct record *records, int sockets, bool by_hand)
{
	int processes = (sockets + PER_PROCESS - 1) / PER_PROCESS, done[2];
	pid_t *children = calloc(processes, sizeof(*children));
	char byte;

	if (!children || pipe2(done, O_CLOEXEC))
		die("cannot make a pipe");
	for (int i = 0; i < processes; i++) {
		int first = i * PER_PROCESS,
		    end = first + PER_PROCESS < sockets ? first + PER_PROCESS : sockets;

		fflush(NULL);
		children[i] = fork();
		if (children[i] < 0)
			die("cannot start a process");
		if (!children[i])
			run_dialer(records, first, end, by_hand, done[1]);
		if (i == processes - 1)
			close(done[1]);
		if (read(done[0], &byte, 1) != 1)
			die("a process ended before its time");
	}
	if (!by_hand)
		printf("\nMemory of the guard's maps: %.0f MB, %lu bytes for each claim\n\n",
		       discovery_memory() / 1e6, discovery_memory() / sockets);
	close(done[0]);
	for (int i = 0; i < processes; i++)
		kill(children[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	free(children);
}

static double mean(const struct record *records, int first, int end)
{
	double sum = 0;

	for (int i = first; i < end; i++)
		sum += records[i].microseconds;
	return sum / (end - first);
}

static struct record *allocate(int sockets)
{
	struct record *records = mmap(NULL, sizeof(*records) * sockets, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (records == MAP_FAILED)
		die("cannot share memory");
	return records;
}

int bench_scale(int sockets)
{
	struct record *guarded = allocate(sockets), *by_hand = allocate(sockets);
	double last = 0;

	attach_variant(DISCOVERY);
	dial_all(guarded, sockets, false);
	detach_variant(DISCOVERY);
	for (int i = 0; i < sockets; i++)
		by_hand[i].port = guarded[i].port;
	dial_all(by_hand, sockets, true);
	printf("CPU time of a socket and its connect, %d destinations\n"
	       "  %19s %12s %12s %7s\n",
	       DESTINATIONS, "sockets", "guard", "by hand", "ratio");
	for (int slice = 0; slice < SLICES; slice++) {
		int first = (int)((long)sockets * slice / SLICES);
		int end = (int)((long)sockets * (slice + 1) / SLICES);
		double guard = mean(guarded, first, end), hand = mean(by_hand, first, end);

		last = guard / hand;
		printf("  %8d - %8d %9.2f us %9.2f us %7.3f\n", first, end, guard, hand, last);
	}
	printf("  the last slice: at most %.2f: %s\n", ratio_target,
	       last <= ratio_target ? "reached" : "MISSED");
	return 0;
}
