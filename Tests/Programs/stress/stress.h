// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of the stress test share.
 *
 * The test is an oracle: it makes sockets, connects them in every order it can
 * think of, and asks the kernel what they hold. It knows nothing of how
 * duplicates are refused, only that a refused connect() gives a certain errno.
 */
#ifndef STRESS_H
#define STRESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/socket.h>

enum exit_status {
	EXIT_HELD = 0,	     /* nothing was found */
	EXIT_VIOLATED = 1,   /* two sockets held one tuple, or a refusal had no reason */
	EXIT_BAD_USAGE = 2,  /* the arguments make no sense */
	EXIT_CANNOT_RUN = 3, /* the surroundings don't allow the test */
};

struct options {
	unsigned threads;
	unsigned processes;
	uint64_t rounds;
	uint64_t operations; /* 0: until `seconds` are over */
	unsigned seconds;
	uint64_t seed;
	int refusal; /* errno of a refused connect() */
	const char *family;
	bool own_netns;
	bool unbound;
	bool exclusive; /* also sockets that don't share their port */
	bool reuseport; /* also by SO_REUSEPORT */
	bool restless;	/* threads change the sockets that they share */
	bool idle;	/* does nothing but rewrite */
	const char *rewriter, *attacks;
	unsigned services;
	unsigned limit; /* connections that the cgroup may have open */
	/* Of `connectx`, some of others too. */
	const char *technique, *mix, *library, *outside;
	uint64_t successes; /* 0: until `seconds` are over */
	unsigned others, hold_us;
	uint16_t first_port, last_port;
	bool json;
};

int run_race(const struct options *options);
int run_chaos(const struct options *options);
int run_reuseport(const struct options *options);
int run_throng(const struct options *options);
int run_shared(const struct options *options);
int run_samesocket(const struct options *options);
int run_outsiders(const struct options *options);
int run_rewriters(const struct options *options);
int run_budget(const struct options *options);
int run_hostile(const struct options *options);
int run_ports(const struct options *options);
int run_connectx(const struct options *options);

/* --- sockets.c: addresses, tuples and the sockets that have them --- */

/* IPv4 is kept as ::ffff:a.b.c.d, so one tuple has one form whatever the socket's family. */
struct address {
	uint8_t bytes[16];
};

struct tuple {
	struct address local, remote;
	uint16_t local_port, remote_port; /* host order */
};

/* How a socket is made and bound. */
struct shape {
	int family;
	int type;	      /* 0: SOCK_DGRAM */
	struct address local; /* may be the wildcard of either family */
	uint16_t port;	      /* 0: the kernel chooses */
	bool unbound;	      /* no bind() at all */
	bool port_at_connect; /* IP_BIND_ADDRESS_NO_PORT */
	bool exclusive;	      /* no SO_REUSEADDR */
	bool in_group;	      /* SO_REUSEPORT */
	bool on_device;	      /* SO_BINDTODEVICE lo */
	bool may_broadcast;   /* SO_BROADCAST */
};

/* Where a connect() goes. `family` is that of the sockaddr: it may differ from the socket's. */
struct destination {
	int family;
	struct address address;
	uint16_t port;
};

#define ADDRESS_TEXT_LENGTH 48
#define TUPLE_TEXT_LENGTH 128

struct address address_of(const char *text);
/* A socket that is bound there, and shares its port by SO_REUSEADDR. */
struct shape shape_at(int family, const char *local, uint16_t port);
bool is_same_address(const struct address *a, const struct address *b);
bool is_mapped(const struct address *address);
bool is_wildcard(const struct address *address);
bool is_same_tuple(const struct tuple *a, const struct tuple *b);
void print_tuple(const struct tuple *tuple, char text[TUPLE_TEXT_LENGTH]);

/* Returns a descriptor, or -1 with errno. */
int open_shape(const struct shape *shape);
/* Binds to the address and port of the shape alone. Returns -1 with errno. */
int bind_shape(int fd, const struct shape *shape);
/* 1: SO_REUSEADDR; 2: SO_REUSEPORT; 3: both; 0: neither. */
void set_sharing(int fd, unsigned sharing);
/* The ports that the kernel chooses from, for this socket. Returns -1 with errno: before 6.3. */
int set_own_port_range(int fd, uint16_t first, uint16_t last);
/* An empty datagram, whether or not anybody takes it. */
void send_to(int fd, const struct destination *destination);
/* Returns 0 or the errno. */
int connect_to(int fd, const struct destination *destination);
int disconnect(int fd);
/* What the kernel says that the socket holds; false when it is not connected. */
bool read_tuple(int fd, struct tuple *tuple);
/* Whether a socket can be bound to the address here. */
bool is_local_address(const struct address *address);

/* --- network.c: a network namespace of our own --- */

void enter_own_netns(void);
/* Makes the kernel prefer `source` for the destinations of shifting_network(). */
void shift_route(int family, const struct address *source);
/* An address whose route shift_route() changes. */
struct address shifting_address(int family);

/* --- sync.c: threads, time, chance --- */

/* Spins first, then yields, then sleeps: threads may outnumber processors. */
struct barrier {
	_Alignas(64) atomic_uint arrived;
	_Alignas(64) atomic_uint generation;
	atomic_uint sleepers;
	unsigned parties, spins;
};

struct random {
	uint64_t state;
};

void barrier_init(struct barrier *barrier, unsigned parties);
void barrier_wait(struct barrier *barrier);
void random_init(struct random *random, uint64_t seed, uint64_t stream);
uint32_t random_below(struct random *random, uint32_t limit);
uint64_t now_ms(void);
void sleep_ms(unsigned milliseconds);
/* Memory that children made by fork() share, zeroed. */
void *shared_memory(size_t size);

/* fork(), of a child that does not outlive its parent; 0 in the child. */
pid_t fork_for_life(void);

/* Set by SIGINT and SIGTERM. */
extern atomic_bool interrupted;
void catch_interrupts(void);

/* --- report.c: results and complaints --- */

struct report {
	bool json;
	bool needs_comma;
};

void report_begin(struct report *report, bool json, const char *mode);
void report_number(struct report *report, const char *name, uint64_t value);
void report_text(struct report *report, const char *name, const char *value);
/* Numbers between these two belong together. */
void report_open(struct report *report, const char *name);
void report_close(struct report *report);
void report_end(struct report *report);

/* "EPERM"; unknown numbers as "errno 4711". Not for several threads. */
const char *errno_name(int error);
/* 0 if unknown. */
int errno_by_name(const char *name);

/* One line, then the end. */
_Noreturn void fail(enum exit_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
