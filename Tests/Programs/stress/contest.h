// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of `connectx` share: the techniques, and the others that a
 * contended source port is full of.
 */
#ifndef STRESS_CONTEST_H
#define STRESS_CONTEST_H

#include "CTupleguardTechniques.h"
#include "stress.h"

/* --- techniques.c --- */

struct technique {
	const char *name;
	bool is_library;  /* needs load_library() */
	bool finds_ports; /* chooses among all; the others name one */
	/* Connects an unbound socket: 0 or the errno. */
	int (*connect)(int fd, int diag, const union name *local, const union name *remote);
};

/* NULL if there is none of this name. */
const struct technique *find_technique(const char *name);
void load_library(const char *path);

/* --- crowd.c --- */

/*
 * Connects `count` sockets from each of the ports to destinations of their own;
 * they stay for as long as the process does.
 */
void gather_crowd(const union name *local, uint16_t first_port, uint16_t last_port, unsigned count);
/* Makes these the only ports that are chosen from in this network namespace. */
void set_port_range(uint16_t first, uint16_t last);

#endif
