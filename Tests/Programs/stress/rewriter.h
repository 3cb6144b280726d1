// SPDX-License-Identifier: Apache-2.0
/*
 * A service load balancer in small: a BPF program on connect4 that sends all
 * service addresses to 127.0.0.1, to the port that was asked for.
 */
#ifndef STRESS_REWRITER_H
#define STRESS_REWRITER_H

#include "stress.h"

enum { MAX_SERVICES = 64 };

/* One of the addresses that are rewritten; nothing has them. */
struct address service_address(unsigned number);
/* Attaches the program to a cgroup, given by its folder, for as long as this process lives. */
void attach_rewriter(const char *folder);

#endif
