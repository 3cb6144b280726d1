// SPDX-License-Identifier: Apache-2.0
/* Techniques against overshadowing that need nothing but system calls. */
#define _GNU_SOURCE
#include "CTupleguardTechniques.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <unistd.h>

socklen_t name_length(const union name *name)
{
	return name->any.sa_family == AF_INET ? sizeof(name->v4) : sizeof(name->v6);
}

int set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value));
}

/* ---- SOCK_DIAG ---- */

int diag_open(void)
{
	return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
}

struct diag_request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 body;
};

/* IPv4, or mapped to IPv6, of which only the question for IPv4 finds both kinds of sockets. */
static bool is_v4(const union name *name)
{
	return name->any.sa_family == AF_INET || IN6_IS_ADDR_V4MAPPED(&name->v6.sin6_addr);
}

static void copy_address(__be32 to[4], const union name *name)
{
	if (name->any.sa_family == AF_INET)
		memcpy(to, &name->v4.sin_addr, sizeof(name->v4.sin_addr));
	else if (is_v4(name))
		memcpy(to, &name->v6.sin6_addr.s6_addr[12], sizeof(__be32));
	else
		memcpy(to, &name->v6.sin6_addr, sizeof(name->v6.sin6_addr));
}

/* For UDP the kernel reads the request as the packet's: where it comes from first. */
static struct diag_request make_request(const union name *local, const union name *remote)
{
	struct diag_request request = {
	    .header = {.nlmsg_len = sizeof(request),
		       .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		       .nlmsg_flags = NLM_F_REQUEST},
	    .body = {.sdiag_family = is_v4(remote) ? AF_INET : AF_INET6,
		     .sdiag_protocol = IPPROTO_UDP,
		     .idiag_states = ~0u,
		     .id = {.idiag_sport = remote->v4.sin_port,
			    .idiag_dport = local->v4.sin_port,
			    .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
	};

	copy_address(request.body.id.idiag_src, remote);
	copy_address(request.body.id.idiag_dst, local);
	return request;
}

int diag_receiver(int diag, const union name *local, const union name *remote, uint64_t *cookie)
{
	struct diag_request request = make_request(local, remote);
	struct {
		struct nlmsghdr header;
		union {
			struct nlmsgerr error;
			struct inet_diag_msg found;
		};
		char attributes[512];
	} reply;
	const __u32 *words = reply.found.id.idiag_cookie;

	*cookie = 0;
	if (send(diag, &request, sizeof(request), 0) < 0 ||
	    recv(diag, &reply, sizeof(reply), 0) < (ssize_t)sizeof(reply.header))
		return -1;
	if (reply.header.nlmsg_type != NLMSG_ERROR) {
		*cookie = (uint64_t)words[1] << 32 | words[0];
		return 0;
	}
	errno = -reply.error.error;
	return errno == ENOENT ? 0 : -1;
}

/* ---- ways to connect ---- */

static int try(int result)
{
	return result < 0 ? errno : 0;
}

static int share_and_bind(int fd, const union name *local)
{
	int error = try(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1));

	return error ? error : try(bind(fd, &local->any, name_length(local)));
}

int connect_plainly(int fd, const union name *local, const union name *remote)
{
	int error = share_and_bind(fd, local);

	return error ? error : try(connect(fd, &remote->any, name_length(remote)));
}

/* Returns once every bind() that had passed its check before the lock is in the table. */
static int pass_barrier(const union name *local)
{
	int fd = socket(local->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), error;

	if (fd < 0)
		return errno;
	error = share_and_bind(fd, local);
	close(fd);
	if (!error)
		return EADDRINUSE; /* the lock does not hold */
	return error == EADDRINUSE ? 0 : error;
}

static int connect_locked(int fd, int diag, const union name *local, const union name *remote,
			  bool barrier)
{
	uint64_t own, receiver;
	socklen_t length = sizeof(own);
	int error = barrier ? pass_barrier(local) : 0;

	if (error)
		return error;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &own, &length) ||
	    diag_receiver(diag, local, remote, &receiver))
		return errno;
	if (receiver != own)
		return EADDRINUSE;
	return try(connect(fd, &remote->any, name_length(remote)));
}

int connect_with_lock(int fd, int diag, const union name *local, const union name *remote,
		      bool barrier)
{
	int error = share_and_bind(fd, local);

	if (!error)
		error = try(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 0));
	if (!error)
		error = connect_locked(fd, diag, local, remote, barrier);
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	return error;
}
