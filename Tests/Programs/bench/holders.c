// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that fill a destination: they connect to it from as many of the
 * local ports as they are told, in an order of chance, and stay.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HOLDERS = 2 }; /* processes: one may not have so many descriptors */

static struct holder {
	pid_t process;
	int orders, answers; /* pipes: how many sockets there are to be; done */
} holders[HOLDERS];
static int order_of_ports[LOCAL_PORTS];

static void shuffle_ports(void)
{
	for (int i = 0; i < LOCAL_PORTS; i++)
		order_of_ports[i] = FIRST_LOCAL_PORT + i;
	for (int i = LOCAL_PORTS - 1; i > 0; i--) {
		int j = random() % (i + 1), other = order_of_ports[i];

		order_of_ports[i] = order_of_ports[j];
		order_of_ports[j] = other;
	}
}

static void hold(int port)
{
	struct address local = loopback(AF_INET, port), remote = loopback(AF_INET, FILLED_PORT);
	int fd = bound_socket(&local);

	if (connect(fd, &remote.any, remote.length))
		die("cannot fill the destination");
}

/* Holder number `index` has every second of the ports that are taken. */
static _Noreturn void run_holder(int index, int orders, int answers)
{
	int wanted, next = index;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(orders, &wanted, sizeof(wanted)) == sizeof(wanted)) {
		for (; next < wanted; next += HOLDERS)
			hold(order_of_ports[next]);
		if (write(answers, &wanted, sizeof(wanted)) != sizeof(wanted))
			break;
	}
	_exit(0);
}

void start_holders(void)
{
	shuffle_ports();
	for (int i = 0; i < HOLDERS; i++) {
		int orders[2], answers[2];

		if (pipe2(orders, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
			die("cannot make a pipe");
		fflush(NULL);
		holders[i] = (struct holder){fork(), orders[1], answers[0]};
		if (holders[i].process < 0)
			die("cannot start a process");
		if (!holders[i].process)
			run_holder(i, orders[0], answers[1]);
		close(orders[0]);
		close(answers[1]);
	}
}

void fill(int sockets, enum variant variant)
{
	attach_variant(variant);
	for (int i = 0; i < HOLDERS; i++)
		if (write(holders[i].orders, &sockets, sizeof(sockets)) != sizeof(sockets))
			die("a process that holds sockets has ended");
	for (int i = 0; i < HOLDERS; i++)
		if (read(holders[i].answers, &sockets, sizeof(sockets)) != sizeof(sockets))
			die("a process that holds sockets has ended");
	detach_variant(variant);
}

void stop_holders(void)
{
	for (int i = 0; i < HOLDERS; i++)
		kill(holders[i].process, SIGKILL);
	for (int i = 0; i < HOLDERS; i++) {
		waitpid(holders[i].process, NULL, 0);
		close(holders[i].orders);
		close(holders[i].answers);
	}
}
