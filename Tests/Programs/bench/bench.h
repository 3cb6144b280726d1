// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of the benchmark share: what is compared (variants), what is
 * timed (workloads), and what came of it (results).
 */
#ifndef TUPLEGUARD_BENCH_H
#define TUPLEGUARD_BENCH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <time.h>

/* Says what went wrong, and with which errno if there is one, and ends the process. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

/* ---- places.c: where the benchmark runs ---- */

/*
 * Runs `body` in a child process, in a cgroup and a network namespace made for
 * it, pinned to one processor, and returns its exit status. The cgroup is gone
 * afterwards, also when the child fails or either of them is interrupted.
 */
int run_apart(int (*body)(int cgroup, void *argument), void *argument);

/* Where the version 2 hierarchy of cgroups is mounted. */
const char *cgroup2_path(void);

/* ---- variants.c: what is compared ---- */

enum variant {
	BARE,
	EMPTY,
	GUARD,	    /* for its cgroup alone: outsiders are ignored, no port is chosen */
	BY_DEFAULT, /* as it is attached without any option */
	DISCOVERY,  /* as GUARD, and chooses ports for all sockets */
	BUDGET,	    /* as GUARD, and counts connections, TCP too */
	GUARD_VARIANTS,
	OWN = GUARD_VARIANTS, /* as DISCOVERY, from ports of the cgroup's own, TCP too */
	OWN_COUNTED,	      /* as OWN, and counts connections */
	VARIANTS,
};

struct variant_name {
	const char *title; /* for people */
	const char *name;  /* in --json */
};
extern const struct variant_name variant_names[VARIANTS];

/*
 * Loads the programs of the variants in `wanted`, a bit for each; they are
 * attached to `cgroup` later. Guards are loaded by `program`, the tupleguard
 * command, and empty programs from the object at `empty_path`.
 */
void load_variants(unsigned wanted, const char *program, const char *empty_path,
		   unsigned table_size, int cgroup);
/* Removes what that left in the kernel; by the parent of the process that loaded. */
void unload_variants(const char *program);
/* Bytes of kernel memory that the maps of DISCOVERY take now. */
unsigned long discovery_memory(void);
void attach_variant(enum variant variant);
void detach_variant(enum variant variant);
/* Whether the variant is one of the guard itself. */
bool is_guard(enum variant variant);
/*
 * Programs that are attached to connect4 and connect6 of any cgroup now. While
 * there are any, "no program" is too dear: every connect() asks for programs.
 */
int foreign_programs(void);

/* ---- workloads.c: what is timed ---- */

struct workload {
	const char *title; /* for people */
	const char *name;  /* in --json */
	int family;
	unsigned variants;   /* under which it is timed, a bit for each */
	enum variant judged; /* the one that has a goal, */
	double goal;	     /* a ratio; for crowds microseconds added; 0: none */
	int tuples;	     /* that whole cycles go through, or destinations of reconnects, in
				turn */
	int neighbours;	     /* other sockets on the local address and port */
	int taken;	     /* ports that others have to the destination */
	int operations;	     /* timed at a time */
	int warm_up;	     /* and not timed before them */
	void (*prepare)(const struct workload *workload, enum variant variant);
	/* Does operations number `first` up to, not including, `end`. */
	void (*run)(const struct workload *workload, int first, int end);
	void (*finish)(const struct workload *workload);
};

enum { PLAIN_WORKLOADS = 15, CROWD_WORKLOADS = 2 };
extern const struct workload plain_workloads[PLAIN_WORKLOADS];
/* Need gather_crowds() first, and their sockets claimed under each variant. */
extern const struct workload crowd_workloads[CROWD_WORKLOADS];
void gather_crowds(void);
void claim_crowds(void);
void scatter_crowds(void);

/* ---- addresses, for workloads and the flood ---- */

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t length;
};

struct address loopback(int family, int port);
/* 127.`network`.0.0 plus `number`. */
struct address loopback_number(int network, int number, int port);
void set_port(struct address *address, int port);
/* A UDP socket with SO_REUSEADDR, bound to `local`. */
int bound_socket(const struct address *local);

/* ---- measure.c: how it is timed ---- */

/* The cost of one operation, in nanoseconds. */
struct sample {
	double cpu;
	double wall;
};

/* One workload under every variant; samples of one repetition belong together. */
struct result {
	const struct workload *workload;
	int repetitions;
	struct sample *samples[VARIANTS];
};

void measure(const struct workload *workloads, int count, int repetitions, struct result *results);

/* The median, and the interval that holds the true one with 95% confidence. */
struct summary {
	double median;
	double low;
	double high;
};

/* Sorts the values. */
struct summary summarize(double *values, int count);
struct sample *allocate_samples(int count);
/* A clock's time in nanoseconds. */
double now(clockid_t clock);

enum clock { CPU, WALL };
struct summary cost(const struct result *result, enum variant variant, enum clock clock);
/* Against the block without programs of the same repetition: quotient and difference. */
struct summary ratio(const struct result *result, enum variant variant, enum clock clock);
struct summary added(const struct result *result, enum variant variant, enum clock clock);

/* ---- holders.c: what fills a destination ---- */

enum {
	FIRST_LOCAL_PORT = 32768,
	LAST_LOCAL_PORT = 60999, /* the default range */
	LOCAL_PORTS = LAST_LOCAL_PORT - FIRST_LOCAL_PORT + 1,
	FILLED_PORT = 9100, /* of the destination, on loopback */
};

void start_holders(void);
/* Fills the destination up to so many ports, with the variant attached, so that all have claims. */
void fill(int ports, enum variant variant);
void stop_holders(void);

/* ---- scarce.c ---- */

struct scarcity {
	int ports, free_ports, connects, refused_falsely;
	double scarce_us, exhausted_us; /* of one connect that finds a port, or none */
};

struct scarcity measure_scarcity(bool is_short);

/* ---- report.c ---- */

/* All that `guard` measures. */
struct report {
	struct result plain[PLAIN_WORKLOADS], crowds[CROWD_WORKLOADS];
	struct scarcity scarcity;
	int foreign_before, foreign_after;
};

void print_tables(const struct report *report);
void warn_of_foreign_programs(int before, int after);
void print_json(const struct report *report);

/* ---- choices.c ---- */

/*
 * What a connect costs that has no port: by the kernel's choice, by the guard's, by the
 * program's.
 */
int bench_choices(int repetitions);

/* ---- own.c ---- */

/* What a connection costs that gets a port of the cgroup's own. */
int bench_own_ports(int repetitions, bool json);

/* ---- scale.c ---- */

/* So many sockets without a port, under the guard, and the same again bound by hand without. */
int bench_scale(int sockets);

/* ---- deferral.c ---- */

/* What `exec --defer-bind` costs the calls that it holds, and others. */
int bench_deferral(const char *tupleguard, int repetitions, bool json);
/* What it runs under each variant. */
int deferral_worker(void);

/* ---- flood.c ---- */

/* Makes connects that a guard, attached already, is to refuse, and counts. */
int flood(int seconds, int threads, bool json);

#endif
