// SPDX-License-Identifier: Apache-2.0
// What the core of connectx needs of C: process-wide places, and the notice to the agent.
//
// For the library itself; programs include <connectx.h>.
#ifndef TUPLEGUARD_C_CONNECTX_H
#define TUPLEGUARD_C_CONNECTX_H

// First, so that the headers of libc, which connectx.h includes too, are of that module.
#include <CTupleguardLinux.h>

#include "connectx.h"

/// A number that this process has and none that it was forked from, nor one that was forked from
/// it; never 0. Read from memory that fork(2) wipes, without a system call.
uint64_t connectx_process(void);

/// Keeps the thread from being cancelled (pthread_cancel(3)): how it was, for
/// connectx_allow_cancel.
///
/// A thread that is cancelled within a call would leave descriptors open and a port locked.
int connectx_defer_cancel(void);
void connectx_allow_cancel(int before);

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
