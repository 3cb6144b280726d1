/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connectx: connect a TCP or UDP socket, sharing source ports safely.
 *
 * The signature is that of macOS, so that code written for it compiles here.
 * See connectx(3).
 */
#ifndef TUPLEGUARD_CONNECTX_H
#define TUPLEGUARD_CONNECTX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint32_t sae_associd_t;
#define SAE_ASSOCID_ANY 0
#define SAE_ASSOCID_ALL ((sae_associd_t)-1)

typedef uint32_t sae_connid_t;
#define SAE_CONNID_ANY 0
#define SAE_CONNID_ALL ((sae_connid_t)-1)

/* Where from and where to. What is 0 or null is chosen: see connectx(3). */
typedef struct sa_endpoints {
	unsigned int sae_srcif;		    /* index of the interface to bind to, or 0 */
	const struct sockaddr *sae_srcaddr; /* source, or null; port 0: chosen */
	socklen_t sae_srcaddrlen;
	const struct sockaddr *sae_dstaddr; /* destination */
	socklen_t sae_dstaddrlen;
} sa_endpoints_t;

#define CONNECT_RESUME_ON_READ_WRITE 0x1 /* TCP: the SYN goes with the first write */
#define CONNECT_DATA_IDEMPOTENT 0x2	 /* TCP: the data may go with the SYN (Fast Open) */
#define CONNECT_DATA_AUTHENTICATED 0x4	 /* not on Linux: EINVAL */
/* Only here: fail at once where others wait on the named port, or are just connecting from it. */
#define CONNECT_NO_WAIT 0x10000

/*
 * Connects `socket`. With `iov`, sends that data as the first; `len`, if not
 * null, tells how many bytes were taken. `associd` is SAE_ASSOCID_ANY; `connid`,
 * if not null, gets SAE_CONNID_ANY. 0, or -1 with errno.
 */
int connectx(int socket, const sa_endpoints_t *endpoints, sae_associd_t associd, unsigned int flags,
	     const struct iovec *iov, unsigned int iovcnt, size_t *len, sae_connid_t *connid);

/*
 * Ends a UDP socket's association with its peer, or a TCP connection. `associd`
 * and `connid` are the ANY or ALL constants. 0, or -1 with errno.
 */
int disconnectx(int socket, sae_associd_t associd, sae_connid_t connid);

#ifdef __cplusplus
}
#endif
#endif
