// SPDX-License-Identifier: Apache-2.0
/*
 * bench deferral: what `tupleguard exec --defer-bind` makes of a bind(), and of what else a program
 * does. A worker of its own runs under each variant; they take turns, a block of calls each.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPERATIONS = 100, FIRST_PORT = 20000, SERVER_PORT = 9200 };

/* ---- The worker ---- */

static int stream_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	/* Ended by a reset, which leaves no port in TIME_WAIT. */
	struct linger linger = {.l_onoff = 1};

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)))
		die("cannot make a TCP socket");
	return fd;
}

static void bind_or_die(int fd, int port)
{
	struct address local = loopback(AF_INET, port);

	if (bind(fd, &local.any, local.length))
		die("cannot bind to port %d", port);
}

/* The calls of bind() alone; nanoseconds of one. To `first` and the ports after it, or to port 0.
 */
static double time_binds(int first)
{
	int sockets[OPERATIONS];
	double begun;

	for (int i = 0; i < OPERATIONS; i++)
		sockets[i] = stream_socket();
	begun = now(CLOCK_MONOTONIC);
	for (int i = 0; i < OPERATIONS; i++)
		bind_or_die(sockets[i], first ? first + i : 0);
	begun = now(CLOCK_MONOTONIC) - begun;
	for (int i = 0; i < OPERATIONS; i++)
		close(sockets[i]);
	return begun / OPERATIONS;
}

static double time_binds_to_zero(int server)
{
	(void)server;
	return time_binds(0);
}

static double time_binds_to_ports(int server)
{
	(void)server;
	return time_binds(FIRST_PORT);
}

static double time_connections(int server)
{
	struct address to = loopback(AF_INET, SERVER_PORT);
	double begun = now(CLOCK_MONOTONIC);

	for (int i = 0; i < OPERATIONS; i++) {
		int fd = stream_socket();

		bind_or_die(fd, 0);
		if (connect(fd, &to.any, to.length))
			die("cannot connect");
		close(accept(server, NULL, NULL));
		close(fd);
	}
	return (now(CLOCK_MONOTONIC) - begun) / OPERATIONS;
}

static double time_names(int server)
{
	double begun = now(CLOCK_MONOTONIC);

	for (int i = 0; i < OPERATIONS; i++) {
		struct address name = {.length = sizeof(name.v6)};

		if (getsockname(server, &name.any, &name.length))
			die("cannot ask for a socket's name");
	}
	return (now(CLOCK_MONOTONIC) - begun) / OPERATIONS;
}

static double time_others(int server)
{
	double begun = now(CLOCK_MONOTONIC);

	(void)server;
	for (int i = 0; i < OPERATIONS; i++)
		syscall(SYS_getppid);
	return (now(CLOCK_MONOTONIC) - begun) / OPERATIONS;
}

static const struct {
	const char *title, *name;
	double (*time)(int server);
} calls[] = {
    {"bind() to port 0", "bind_zero", time_binds_to_zero},
    {"bind() to a port", "bind_port", time_binds_to_ports},
    {"socket, bind to 0, connect", "connection", time_connections},
    {"getsockname()", "getsockname", time_names},
    {"getppid()", "other", time_others},
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

/* Does what it reads of, a byte for each block, until nobody writes any more. */
int deferral_worker(void)
{
	int server = stream_socket(), port = SERVER_PORT;
	unsigned char which;

	/* (The other workers' servers are on the same port, each while it works.) */
	while (read(STDIN_FILENO, &which, 1) == 1 && which < CALLS) {
		double cost;

		bind_or_die(server, port);
		if (listen(server, 1))
			die("cannot listen");
		calls[which].time(server);
		cost = calls[which].time(server);
		close(server);
		server = stream_socket();
		if (write(STDOUT_FILENO, &cost, sizeof(cost)) != sizeof(cost))
			die("nobody reads the result");
	}
	return 0;
}

/* ---- Who has them work ---- */

enum { WITHOUT, HELD, NAMES_LET_GO, WAYS };

struct worker {
	pid_t pid;
	int orders, results;
};

static struct worker start_worker(const char *tupleguard, int way)
{
	char self[PATH_MAX] = "";
	const char *line[12] = {tupleguard, "exec", "--defer-bind", "--no-guard", "--quiet"};
	int count = 5, orders[2], results[2];
	struct worker worker;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || pipe(orders) || pipe(results))
		die("cannot start a worker");
	if (way == NAMES_LET_GO) {
		line[count++] = "--getsockname";
		line[count++] = "zero";
	}
	line[count++] = "--";
	line[count++] = self;
	line[count++] = "deferral-worker";
	worker = (struct worker){fork(), orders[1], results[0]};
	if (worker.pid < 0)
		die("cannot start a worker");
	if (worker.pid == 0) {
		dup2(orders[0], STDIN_FILENO);
		dup2(results[1], STDOUT_FILENO);
		close_range(STDERR_FILENO + 1, ~0U, 0);
		if (way == WITHOUT)
			execl(self, self, "deferral-worker", (char *)NULL);
		else
			execvp(tupleguard, (char *const *)line);
		die("cannot run %s", way == WITHOUT ? self : tupleguard);
	}
	close(orders[0]);
	close(results[1]);
	return worker;
}

static double have_work(const struct worker *worker, unsigned char which)
{
	double cost;

	if (write(worker->orders, &which, 1) != 1 ||
	    read(worker->results, &cost, sizeof(cost)) != sizeof(cost))
		die("a worker has ended before its time");
	return cost;
}

static void end_worker(const struct worker *worker)
{
	int status;

	close(worker->orders);
	close(worker->results);
	if (waitpid(worker->pid, &status, 0) < 0 || status)
		die("a worker did not end as it should");
}

struct costs {
	double *nanoseconds[WAYS], *ratios[WAYS];
};

static double *allocate(int count)
{
	double *values = calloc(count, sizeof(*values));

	if (!values)
		die("cannot keep %d results", count);
	return values;
}

static void print_costs(int which, struct costs *costs, int repetitions, bool json)
{
	struct summary costs_of[WAYS], ratios[WAYS];

	for (int way = 0; way < WAYS; way++) {
		costs_of[way] = summarize(costs->nanoseconds[way], repetitions);
		ratios[way] = summarize(costs->ratios[way], repetitions);
	}
	if (json) {
		printf("%s{\"call\": \"%s\", \"without_ns\": %.0f, \"held_ns\": %.0f, "
		       "\"held_ratio\": %.3f, \"names_let_go_ns\": %.0f, "
		       "\"names_let_go_ratio\": %.3f}",
		       which ? ",\n  " : "", calls[which].name, costs_of[WITHOUT].median,
		       costs_of[HELD].median, ratios[HELD].median, costs_of[NAMES_LET_GO].median,
		       ratios[NAMES_LET_GO].median);
		return;
	}
	printf("  %-28s %8.2f us %8.2f us %7.2f (%.2f-%.2f) %8.2f us %7.2f\n", calls[which].title,
	       costs_of[WITHOUT].median / 1e3, costs_of[HELD].median / 1e3, ratios[HELD].median,
	       ratios[HELD].low, ratios[HELD].high, costs_of[NAMES_LET_GO].median / 1e3,
	       ratios[NAMES_LET_GO].median);
}

static void print_head(int repetitions, bool json)
{
	struct utsname system;

	uname(&system);
	if (json) {
		printf("{\"kernel\": \"%s\", \"repetitions\": %d, \"results\": [\n  ",
		       system.release, repetitions);
		return;
	}
	printf(
	    "Linux %s, medians of %d repetitions, time on the wall; ratios are to the same calls\n"
	    "without it, in the same repetition, with a 95%% interval\n\n"
	    "  %-28s %11s %11s %7s %-12s %11s %7s\n",
	    system.release, repetitions, "", "without", "--defer-bind", "ratio", "interval",
	    "names: zero", "ratio");
}

int bench_deferral(const char *tupleguard, int repetitions, bool json)
{
	struct worker workers[WAYS];
	struct costs costs;

	for (int way = 0; way < WAYS; way++) {
		workers[way] = start_worker(tupleguard, way);
		costs.nanoseconds[way] = allocate(repetitions);
		costs.ratios[way] = allocate(repetitions);
	}
	print_head(repetitions, json);
	for (int which = 0; which < CALLS; which++) {
		for (int i = 0; i < repetitions; i++) {
			for (int turn = 0; turn < WAYS; turn++) {
				int way = (turn + i) % WAYS;

				costs.nanoseconds[way][i] = have_work(&workers[way], which);
			}
			for (int way = 0; way < WAYS; way++)
				costs.ratios[way][i] =
				    costs.nanoseconds[way][i] / costs.nanoseconds[WITHOUT][i];
		}
		print_costs(which, &costs, repetitions, json);
	}
	if (json)
		printf("\n]}\n");
	for (int way = 0; way < WAYS; way++) {
		end_worker(&workers[way]);
		free(costs.nanoseconds[way]);
		free(costs.ratios[way]);
	}
	return 0;
}
