// SPDX-License-Identifier: Apache-2.0
/*
 * What a program can do by itself so that its UDP sockets share source ports
 * and do not overshadow each other, written in C as plainly as possible: what
 * the stress test and the benchmark hold the library against.
 */
#ifndef TUPLEGUARD_CTUPLEGUARD_TECHNIQUES_H
#define TUPLEGUARD_CTUPLEGUARD_TECHNIQUES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* An IPv4 or IPv6 address and port, as the socket calls take it. */
union name {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* How long it is to bind() and connect(). */
socklen_t name_length(const union name *name);

/* Sets a socket option that is an int; -1 with errno. */
int set_option(int fd, int level, int option, int value);

/* A descriptor of NETLINK_SOCK_DIAG in this network namespace, or -1 with errno. */
int diag_open(void);

/*
 * Tells the cookie of the UDP socket that packets from `remote` to `local` would
 * reach; 0 when there is none. Returns 0, or -1 with errno.
 */
int diag_receiver(int diag, const union name *local, const union name *remote, uint64_t *cookie);

/*
 * These connect an unbound UDP socket from `local` to `remote`, and return 0 or
 * the errno; EADDRINUSE when they see that the tuple is taken.
 */

/* SO_REUSEADDR, bind(), connect(): takes what it gets. */
int connect_plainly(int fd, const union name *local, const union name *remote);

/*
 * SO_REUSEADDR as a lock, as it was published: switched off after bind(), nobody else can bind to
 * the address and port; if the kernel then says that we would receive, nobody else is connected.
 *
 * With `barrier`, another socket tries to bind before that question is asked. It
 * is refused, but only after any bind() that was already past its check.
 */
int connect_with_lock(int fd, int diag, const union name *local, const union name *remote,
		      bool barrier);

#endif
