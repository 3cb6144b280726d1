// SPDX-License-Identifier: Apache-2.0
/*
 * The attacks of `hostile`. All want to be connected from the victim's port to
 * its server. Some only ask for it in another form; others have an accomplice,
 * a thread that changes the socket while it connects, so that what was allowed
 * is not what happens.
 */
#include "hostile.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct attack {
	const char *name;
	/* Returns a socket that has not connected yet, or -1. */
	int (*open)(uint16_t port);
	/* By the accomplice, during connect(); may be NULL. */
	void (*meddle)(int fd, uint16_t port);
	bool by_alias; /* to 0.0.0.0, which is this host too */
};

/* A thread that meddles with its attacker's socket. */
struct accomplice {
	struct barrier start, finish;
	struct random random;
	const struct attack *attack; /* NULL: it is over */
	int fd;
	uint16_t port;
	pthread_t id;
};

static int open_again(uint16_t port)
{
	struct shape shape = shape_at(AF_INET, "127.0.0.1", port);

	return open_shape(&shape);
}

static int open_wildcard(uint16_t port)
{
	struct shape shape = shape_at(AF_INET, "0.0.0.0", port);

	return open_shape(&shape);
}

static int open_mapped(uint16_t port)
{
	struct shape shape = shape_at(AF_INET6, "127.0.0.1", port);

	return open_shape(&shape);
}

/* To the kernel a socket of a device fits better than one of all devices. */
static int open_on_device(uint16_t port)
{
	struct shape shape = shape_at(AF_INET, "127.0.0.1", port);

	shape.on_device = true;
	return open_shape(&shape);
}

/* Without a port, but with the victim's as the only one to choose from. */
static int open_with_range(uint16_t port, bool exclusive, bool in_group)
{
	struct shape shape = {AF_INET, .unbound = true, .exclusive = exclusive,
			      .in_group = in_group};
	int fd = open_shape(&shape);

	if (fd >= 0 && set_own_port_range(fd, port, port)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int open_sharing(uint16_t port)
{
	return open_with_range(port, false, false);
}

static int open_in_group(uint16_t port)
{
	return open_with_range(port, true, true);
}

static int open_exclusive(uint16_t port)
{
	return open_with_range(port, true, false);
}

static int open_unbound(uint16_t port)
{
	struct shape shape = {AF_INET, .unbound = true, .exclusive = true};

	(void)port;
	return open_shape(&shape);
}

/* Has a port that sendto() took, which the socket loses when it is disconnected. */
static int open_lent(uint16_t port)
{
	struct destination elsewhere = {AF_INET, address_of("127.0.0.1"), SERVER_PORT + 1};
	int fd = open_with_range((uint16_t)(port + 1), false, false);

	if (fd < 0)
		return fd;
	send_to(fd, &elsewhere);
	set_own_port_range(fd, port, port);
	return fd;
}

static void begin_to_share(int fd, uint16_t port)
{
	(void)port;
	set_sharing(fd, 1);
}

static void bind_to_port(int fd, uint16_t port)
{
	struct shape shape = shape_at(AF_INET, "127.0.0.1", port);

	set_sharing(fd, 1);
	bind_shape(fd, &shape);
}

static void lose_port(int fd, uint16_t port)
{
	(void)port;
	disconnect(fd);
}

static const struct attack attacks[] = {
    /* On a victim that begins to share its port when it is connected. */
    [ATTACK_LATE] = {"late", open_again},
    [ATTACK_STALL] = {"stall"}, /* in stall.c */
    {"again", open_again},
    {"wildcard", open_wildcard},
    {"mapped", open_mapped},
    {"device", open_on_device},
    {"alias", open_again, .by_alias = true},
    {"range", open_sharing},
    {"group", open_in_group},
    {"bind", open_unbound, bind_to_port},
    {"share", open_exclusive, begin_to_share},
    {"lose", open_lent, lose_port},
};

#define ATTACKS (sizeof(attacks) / sizeof(attacks[0]))
_Static_assert(ATTACKS <= MAX_ATTACKS, "each attack is counted");

const char *attack_name(unsigned attack)
{
	return attack < ATTACKS ? attacks[attack].name : NULL;
}

bool is_attack_wanted(const struct options *options, unsigned attack)
{
	char list[256], name[32];

	if (!options->attacks)
		return true;
	snprintf(list, sizeof(list), ",%s,", options->attacks);
	snprintf(name, sizeof(name), ",%s,", attacks[attack].name);
	return strstr(list, name);
}

static void *run_accomplice(void *argument)
{
	enum { LONGEST_DELAY = 1500 };
	struct accomplice *accomplice = argument;

	for (;;) {
		barrier_wait(&accomplice->start);
		if (!accomplice->attack)
			return NULL;
		for (unsigned i = random_below(&accomplice->random, LONGEST_DELAY); i; i--)
			atomic_signal_fence(memory_order_seq_cst);
		accomplice->attack->meddle(accomplice->fd, accomplice->port);
		barrier_wait(&accomplice->finish);
	}
}

static void attack_once(struct attacker *attacker, const struct attack *attack,
			struct attack_counts *counts)
{
	struct stage *stage = attacker->hostile->stage;
	struct accomplice *accomplice = attacker->accomplice;
	uint32_t act = atomic_load(&stage->act);
	uint16_t port = (uint16_t)atomic_load(&stage->port);
	struct destination server = server_destination();
	int fd = act % 2 ? attack->open(port) : -1;

	if (fd < 0) {
		attack_nap();
		return;
	}
	counts->attempts++;
	if (attack->by_alias)
		server.address = address_of("0.0.0.0");
	accomplice->attack = attack;
	accomplice->fd = fd;
	accomplice->port = port;
	if (attack->meddle)
		barrier_wait(&accomplice->start);
	connect_to(fd, &server);
	if (attack->meddle)
		barrier_wait(&accomplice->finish);
	if (holds_victims_tuple(fd, port))
		enjoy(attacker, fd, act, counts);
	close(fd);
}

static void start_accomplice(struct attacker *attacker)
{
	struct accomplice *accomplice = calloc(1, sizeof(*accomplice));

	if (!accomplice)
		fail(EXIT_CANNOT_RUN, "out of memory");
	attacker->accomplice = accomplice;
	barrier_init(&accomplice->start, 2);
	barrier_init(&accomplice->finish, 2);
	random_init(&accomplice->random, attacker->hostile->options->seed,
		    UINT32_MAX - attacker->member->number);
	if (pthread_create(&accomplice->id, NULL, run_accomplice, accomplice))
		fail(EXIT_CANNOT_RUN, "cannot start an accomplice");
}

static void end_accomplice(struct attacker *attacker)
{
	attacker->accomplice->attack = NULL;
	barrier_wait(&attacker->accomplice->start);
	pthread_join(attacker->accomplice->id, NULL);
	free(attacker->accomplice);
}

void run_attacker(struct attacker *attacker)
{
	enum { TIMES = 50 };
	const struct options *options = attacker->hostile->options;
	struct member *member = attacker->member;
	struct attack_counts *counts = attacker->hostile->counts[member->number];

	start_accomplice(attacker);
	while (!crew_is_over(member->crew)) {
		unsigned kind = random_below(&member->random, ATTACKS);

		crew_step(member);
		if (!is_attack_wanted(options, kind))
			continue;
		for (int i = 0; i < TIMES && !crew_is_over(member->crew); i++) {
			if (kind != ATTACK_STALL)
				attack_once(attacker, &attacks[kind], &counts[kind]);
			else if (attacker->stall)
				try_stall(attacker, &counts[kind]);
		}
	}
	end_accomplice(attacker);
	if (attacker->stall)
		end_stall(attacker->stall);
}
