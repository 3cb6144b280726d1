// SPDX-License-Identifier: Apache-2.0
/*
 * Who holds which tuple: a table that all processes of a run share.
 *
 * A socket is entered after the kernel has connected it and struck off before
 * the call that may end that. So the time in which it is entered lies within
 * the time in which it holds the tuple, and two sockets entered under one
 * tuple did hold it at one moment.
 */
#ifndef STRESS_ORACLE_H
#define STRESS_ORACLE_H

#include "stress.h"

/* A socket and its thread, for whoever reads about a violation. */
struct party {
	uint16_t process, thread;
	struct shape shape;
	bool outside; /* where nothing keeps sockets apart */
};

struct oracle;

/* To be called before fork(). */
struct oracle *make_oracle(void);
/*
 * Returns false, and remembers it, when another socket is entered already, unless
 * all of them are outside.
 */
bool oracle_enter(struct oracle *oracle, const struct tuple *tuple, const struct party *party);
void oracle_leave(struct oracle *oracle, const struct tuple *tuple, bool outside);
uint64_t oracle_violations(const struct oracle *oracle);
/* Describes the first violations on stderr. */
void print_violations(const struct oracle *oracle);

#endif
