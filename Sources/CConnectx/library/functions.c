// SPDX-License-Identifier: Apache-2.0
// The functions of libconnectx, as C compilers define them: Swift's own would be protected symbols,
// whose address a program that is not position-independent cannot take.
//
// Compiled by scripts/connectx-library only; in a Swift program they would be in the way.
#include "connectx.h"

int connectx_call(int socket, const sa_endpoints_t *endpoints, sae_associd_t associd,
		  unsigned int flags, const struct iovec *iov, unsigned int iovcnt, size_t *len,
		  sae_connid_t *connid);
int disconnectx_call(int socket, sae_associd_t associd, sae_connid_t connid);

int connectx(int socket, const sa_endpoints_t *endpoints, sae_associd_t associd, unsigned int flags,
	     const struct iovec *iov, unsigned int iovcnt, size_t *len, sae_connid_t *connid)
{
	return connectx_call(socket, endpoints, associd, flags, iov, iovcnt, len, connid);
}

int disconnectx(int socket, sae_associd_t associd, sae_connid_t connid)
{
	return disconnectx_call(socket, associd, connid);
}
