// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of `bench connectx` share: ways to make a connection, the
 * comparisons that they are held against each other in, and what came of them.
 */
#ifndef TUPLEGUARD_BENCH_WAYS_H
#define TUPLEGUARD_BENCH_WAYS_H

#include "CTupleguardTechniques.h"
#include "bench.h"

/* A way to do something. `socket` is made and closed beside it, and that is timed too. */
struct way {
	const char *title; /* for people */
	const char *name;  /* in --json */
	int type;	   /* SOCK_DGRAM or SOCK_STREAM */
	bool is_guarded;   /* runs with the guard attached */
	void (*connect)(int socket);
	double at_most; /* the goal, against the first way; 0: none */
};

enum { MOST_WAYS = 8 };

/* Ways to the same end. The first is what the others are measured against. */
struct comparison {
	const char *title;
	const char *name;
	struct way ways[MOST_WAYS];
	int count;
	bool is_of_libraries; /* only with --beside */
	bool is_scarce;	      /* beside sockets on most ports: see make_ports_scarce() */
};

/* ---- calls.c: what the library does, as a C program that makes the same calls ---- */

void open_calls(void);
void call_udp_to(int socket, const union name *remote);
void call_udp_from(int socket, const union name *local, const union name *remote);
void call_tcp_from(int socket, const union name *local, const union name *remote);

/* ---- ways.c ---- */

enum { COMPARISONS = 9 };
extern const struct comparison comparisons[COMPARISONS];

/* Opens the library, the one to measure it against or NULL, and what the ways need of sockets. */
void open_ways(const char *library, const char *beside);
/* Leaves 1,024 ports to choose from, and puts a socket on most of them, with another destination.
 */
void make_ports_scarce(void);
void make_ports_plenty(void);
/* To be called after each block: takes what was connected to the TCP listener. */
void drain_listener(void);

/* A UDP connection of the library, to where the caller says. */
void connect_by_library(int socket, const union name *remote);
/* The usual discovery: random ports, one look-up each, until one is free. Then the lock. */
void connect_by_looking_up(int socket, const union name *remote);
union name loopback_name(uint16_t port);

/* ---- compare.c: timing, summing up and telling ---- */

/* One way's samples in nanoseconds for one operation; those of one repetition belong together. */
struct comparison_result {
	int repetitions;
	struct sample *samples[MOST_WAYS];
};

void compare_ways(const struct comparison *comparison, int repetitions,
		  struct comparison_result *result);
/* `against` samples of the same repetitions; NULL: the cost itself. */
struct summary sum_up(const struct sample *samples, const struct sample *against, int repetitions,
		      enum clock clock);
void print_comparison(const struct comparison *comparison, const struct comparison_result *result,
		      bool json);

/* ---- discovery.c ---- */

enum { FILLS = 4, DISCOVERERS = 2 };

/* Samples by how full the port range is, and by who looks for a port. */
struct discovery_result {
	int repetitions;
	struct sample *samples[FILLS][DISCOVERERS];
};

void measure_discovery(int repetitions, struct discovery_result *result);
void print_discovery(const struct discovery_result *result, bool json);

/* ---- connectx.c ---- */

struct connectx_options {
	const char *library, *beside, *tupleguard;
	int repetitions;
	bool json;
};

/* To be run by run_apart(). */
int bench_connectx(int cgroup, void *options);

#endif
