// SPDX-License-Identifier: Apache-2.0
// What the core of connectx needs of C: process-wide places, and the notice to the agent.
//
// For the library itself; programs include <connectx.h>.
#ifndef TUPLEGUARD_CONNECTX_RUNTIME_H
#define TUPLEGUARD_CONNECTX_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>

/// How many things the pool has room for.
#define CONNECTX_POOL_SIZE 8

/// Puts `thing` (or null) into a place of the pool, and takes out what was there.
///
/// Places belong to the process; each is one atomic exchange, so that no fork
/// can find a lock held. A thing may come out in a child of the process that
/// put it in: whoever takes it must look.
void *connectx_pool_exchange(unsigned place, void *thing);

/// Sends a notice to the agent's socket, if there is one, without waiting: report.sock in the
/// folder that TUPLEGUARD_RUN names (which a set-user-ID program does not heed), else in
/// /run/tupleguard. errno stays as it is. False when an agent was there, and had no room for it.
bool connectx_send_notice(const void *notice, size_t size);

#endif
