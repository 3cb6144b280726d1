// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of `hostile` share: the stage on which a victim appears with
 * one tuple after another, and attackers who want to take its answers away.
 */
#ifndef STRESS_HOSTILE_H
#define STRESS_HOSTILE_H

#include "crew.h"

enum {
	SERVER_PORT = 7200,
	/* Of the victim; in ip_local_port_range, since attackers use that. */
	FIRST_PORT = 40000,
	/* Of attackers that want the victim to come to them: by the attacker's number. */
	FIRST_STALL_PORT = 50000,
	MAX_ATTACKS = 16,
};

enum { ATTACK_LATE, ATTACK_STALL };

/* Memory that the victim and the attackers share. */
struct stage {
	_Alignas(64) _Atomic uint32_t act; /* odd: the victim is connected, by `port` */
	_Atomic uint32_t port;
	atomic_bool shares_late; /* this victim */
	_Atomic uint32_t wanted; /* a port that an attacker would like it to take; 0: none */
	_Alignas(64) _Atomic uint64_t probes; /* datagrams that the server sent to it */
	/* The victim's alone. */
	uint64_t acts, refused, missed;
};

/* Of one attack by one attacker. */
struct attack_counts {
	_Alignas(64) uint64_t attempts;
	uint64_t stalled; /* connects kept waiting behind the hook */
	uint64_t took;	  /* held the victim's tuple while the victim held it */
	uint64_t stolen;  /* datagrams received that were for the victim */
};

struct hostile {
	const struct options *options;
	struct stage *stage;
	struct attack_counts (*counts)[MAX_ATTACKS]; /* of each member */
	struct attacker *attackers;		     /* of this process */
};

struct accomplice;
struct stall;

/* One attacking thread. */
struct attacker {
	struct hostile *hostile;
	struct member *member;
	struct accomplice *accomplice;
	struct stall *stall; /* NULL: this machine has no means for it */
};

struct destination server_destination(void);
/* Whether the socket holds the tuple that the victim has by this port. */
bool holds_victims_tuple(int fd, uint16_t port);
/*
 * The socket holds the tuple of that act. If the act is still on, that is
 * counted; then keeps it until the victim has noticed.
 */
void enjoy(struct attacker *attacker, int fd, uint32_t act, struct attack_counts *counts);
void attack_nap(void);

/* --- attacks.c --- */

/* NULL after the last. */
const char *attack_name(unsigned attack);
/* Attacks until the crew's time is over. */
void run_attacker(struct attacker *attacker);
bool is_attack_wanted(const struct options *options, unsigned attack);

/* --- stall.c --- */

/* Needs privileges, which are to be given up afterwards. NULL when there are no means. */
struct stall *prepare_stall(void);
/* One try to keep a connect waiting behind the hook, and the victim to come meanwhile. */
void try_stall(struct attacker *attacker, struct attack_counts *counts);
void end_stall(struct stall *stall);

#endif
