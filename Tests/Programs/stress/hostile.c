// SPDX-License-Identifier: Apache-2.0
/*
 * hostile: a victim connects to its server, again and again from another port;
 * attackers without privileges, of another user, want its tuple. What counts is
 * whether the victim receives what its server sends, and whether the kernel
 * says of another socket that it holds the victim's tuple at that time.
 */
#include "hostile.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	NOBODY = 65534,
	ACT_MS = 1000,
	PROBE_MS = 100, /* a datagram on loopback that takes longer does not come */
};

struct destination server_destination(void)
{
	return (struct destination){AF_INET, address_of("127.0.0.1"), SERVER_PORT};
}

bool holds_victims_tuple(int fd, uint16_t port)
{
	struct tuple victims = {address_of("127.0.0.1"), address_of("127.0.0.1"), port,
				SERVER_PORT};
	struct tuple tuple;

	return read_tuple(fd, &tuple) && is_same_tuple(&tuple, &victims);
}

void attack_nap(void)
{
	usleep(200);
}

static uint64_t receive_all(int fd)
{
	char datagram[16];
	uint64_t count = 0;

	while (recv(fd, datagram, sizeof(datagram), MSG_DONTWAIT) >= 0)
		count++;
	return count;
}

void enjoy(struct attacker *attacker, int fd, uint32_t act, struct attack_counts *counts)
{
	enum { PROBES = 3, LONGEST_MS = 500 };
	const struct stage *stage = attacker->hostile->stage;
	uint64_t probes = atomic_load(&stage->probes) + PROBES, end_ms = now_ms() + LONGEST_MS;

	if (atomic_load(&stage->shares_late))
		counts = &attacker->hostile->counts[attacker->member->number][ATTACK_LATE];
	if (atomic_load(&stage->act) != act)
		return;
	counts->took++;
	while (atomic_load(&stage->act) == act && atomic_load(&stage->probes) < probes &&
	       now_ms() < end_ms) {
		counts->stolen += receive_all(fd);
		attack_nap();
	}
	counts->stolen += receive_all(fd);
}

/* --- the victim --- */

/* How the victim comes to its port. */
enum conduct { BOUND, WILDCARD, UNBOUND, LATE, CONDUCTS };

struct victim {
	struct stage *stage;
	struct random *random;
	bool shares_late; /* sometimes: switches sharing on when it is connected */
	int server, fd;
	uint16_t next_port;
	struct tuple tuple;
};

static struct shape victims_shape(enum conduct conduct, uint16_t port)
{
	return (struct shape){
	    .family = AF_INET,
	    .local = address_of(conduct == BOUND ? "127.0.0.1" : "0.0.0.0"),
	    .port = port,
	    .unbound = conduct == UNBOUND || conduct == LATE,
	    .exclusive = conduct == LATE,
	};
}

/* False when it did not get the tuple, which is not what this is about. */
static bool appear(struct victim *victim)
{
	struct destination server = server_destination();
	uint16_t wanted = (uint16_t)atomic_exchange(&victim->stage->wanted, 0);
	enum conduct conduct =
	    wanted ? BOUND : random_below(victim->random, victim->shares_late ? CONDUCTS : LATE);
	struct shape shape = victims_shape(conduct, wanted ? wanted : victim->next_port);

	victim->next_port = (uint16_t)(FIRST_PORT + (victim->next_port + 2 - FIRST_PORT) % 8000);
	victim->fd = open_shape(&shape);
	if (victim->fd < 0 || connect_to(victim->fd, &server) ||
	    !read_tuple(victim->fd, &victim->tuple)) {
		victim->stage->refused++;
		if (victim->fd >= 0)
			close(victim->fd);
		return false;
	}
	if (conduct == LATE)
		set_sharing(victim->fd, 1);
	atomic_store(&victim->stage->shares_late, conduct == LATE);
	victim->stage->acts++;
	atomic_store(&victim->stage->port, victim->tuple.local_port);
	atomic_fetch_add(&victim->stage->act, 1);
	return true;
}

/* Whether the victim gets what the server sends it. */
static bool is_heard(struct victim *victim)
{
	struct pollfd readable = {.fd = victim->fd, .events = POLLIN};
	struct destination to = {AF_INET, victim->tuple.local, victim->tuple.local_port};
	char datagram[16];

	send_to(victim->server, &to);
	atomic_fetch_add(&victim->stage->probes, 1);
	if (poll(&readable, 1, PROBE_MS) != 1)
		return false;
	return recv(victim->fd, datagram, sizeof(datagram), MSG_DONTWAIT) >= 0;
}

static void leave(struct victim *victim)
{
	atomic_fetch_add(&victim->stage->act, 1);
	close(victim->fd);
}

static void run_victim(struct hostile *hostile, struct member *member)
{
	struct shape place = {.family = AF_INET,
			      .local = address_of("127.0.0.1"),
			      .port = SERVER_PORT,
			      .exclusive = true};
	struct victim victim = {.stage = hostile->stage,
				.random = &member->random,
				.shares_late = is_attack_wanted(hostile->options, ATTACK_LATE),
				.server = open_shape(&place),
				.next_port = FIRST_PORT};

	if (victim.server < 0)
		fail(EXIT_CANNOT_RUN, "cannot bind to 127.0.0.1:%d: %s", SERVER_PORT,
		     strerror(errno));
	while (!crew_is_over(member->crew)) {
		uint64_t end_ms = now_ms() + ACT_MS;

		crew_step(member);
		if (!appear(&victim))
			continue;
		while (now_ms() < end_ms && !crew_is_over(member->crew) &&
		       !atomic_load(&victim.stage->wanted)) {
			/* One may be lost to whatever else; two in a row are not. */
			if (!is_heard(&victim) && !is_heard(&victim)) {
				victim.stage->missed++;
				break;
			}
			attack_nap();
		}
		leave(&victim);
	}
	close(victim.server);
}

/* --- who is who --- */

/* The first process is the victim, with one thread that does anything. */
static void run_member(struct member *member)
{
	struct hostile *hostile = member->crew->plan;

	if (member->process) {
		struct attacker *attacker = &hostile->attackers[member->thread];

		attacker->hostile = hostile;
		attacker->member = member;
		run_attacker(attacker);
	} else if (!member->thread) {
		run_victim(hostile, member);
	}
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		fail(EXIT_CANNOT_RUN, "cannot become nobody: %s", strerror(errno));
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* which changing the user has undone */
}

static void prepare_process(struct crew *crew, unsigned process)
{
	struct hostile *hostile = crew->plan;

	if (!process)
		return;
	hostile->attackers = calloc(crew->threads, sizeof(*hostile->attackers));
	if (!hostile->attackers)
		fail(EXIT_CANNOT_RUN, "out of memory");
	for (unsigned thread = 0; thread < crew->threads; thread++)
		hostile->attackers[thread].stall = prepare_stall();
	become_nobody();
}

/* --- results --- */

static uint64_t report_attacks(struct report *report, const struct hostile *hostile,
			       unsigned members)
{
	uint64_t all = 0;

	report_open(report, "attacks");
	for (unsigned attack = 0; attack_name(attack); attack++) {
		struct attack_counts sum = {0};

		for (unsigned i = 0; i < members; i++) {
			sum.attempts += hostile->counts[i][attack].attempts;
			sum.stalled += hostile->counts[i][attack].stalled;
			sum.took += hostile->counts[i][attack].took;
			sum.stolen += hostile->counts[i][attack].stolen;
		}
		if (!is_attack_wanted(hostile->options, attack))
			continue;
		report_open(report, attack_name(attack));
		report_number(report, "attempts", sum.attempts);
		if (sum.stalled)
			report_number(report, "stalled", sum.stalled);
		report_number(report, "took", sum.took);
		report_number(report, "stolen", sum.stolen);
		report_close(report);
		all += sum.took;
	}
	report_close(report);
	return all;
}

int run_hostile(const struct options *options)
{
	struct hostile hostile = {.options = options, .stage = shared_memory(sizeof(struct stage))};
	struct crew crew = {
	    .options = options,
	    .processes = options->processes + 1,
	    .threads = options->threads,
	    .plan = &hostile,
	    .prepare = prepare_process,
	    .run = run_member,
	};
	struct report report;
	uint64_t took;

	if (geteuid())
		fail(EXIT_CANNOT_RUN, "hostile needs root, to be the victim and nobody");
	hostile.counts =
	    shared_memory((size_t)crew.processes * crew.threads * sizeof(*hostile.counts));
	run_crew(&crew);
	report_begin(&report, options->json, "hostile");
	report_number(&report, "seed", options->seed);
	report_number(&report, "attackers", options->processes * options->threads);
	report_number(&report, "connected", hostile.stage->acts);
	report_number(&report, "refused", hostile.stage->refused);
	report_number(&report, "probes", atomic_load(&hostile.stage->probes));
	took = report_attacks(&report, &hostile, crew.processes * crew.threads);
	report_number(&report, "missed", hostile.stage->missed);
	report_number(&report, "violations", took + hostile.stage->missed);
	report_end(&report);
	return took || hostile.stage->missed ? EXIT_VIOLATED : EXIT_HELD;
}
