// SPDX-License-Identifier: Apache-2.0
/* The ways of connecting that `connectx` puts to the test. */
#include "contest.h"

#include "../../../Sources/CConnectx/include/connectx.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

static int try_plain(int fd, int diag, const union name *local, const union name *remote)
{
	(void)diag;
	return connect_plainly(fd, local, remote);
}

static int try_lock(int fd, int diag, const union name *local, const union name *remote)
{
	return connect_with_lock(fd, diag, local, remote, false);
}

static int try_barrier(int fd, int diag, const union name *local, const union name *remote)
{
	return connect_with_lock(fd, diag, local, remote, true);
}

static __typeof__(connectx) *library_connectx;

static int try_connectx(int fd, int diag, const union name *local, const union name *remote)
{
	sa_endpoints_t endpoints = {
	    .sae_srcaddr = &local->any,
	    .sae_srcaddrlen = name_length(local),
	    .sae_dstaddr = &remote->any,
	    .sae_dstaddrlen = name_length(remote),
	};

	(void)diag;
	return library_connectx(fd, &endpoints, SAE_ASSOCID_ANY, 0, NULL, 0, NULL, NULL) ? errno
											 : 0;
}

static int try_discovery(int fd, int diag, const union name *local, const union name *remote)
{
	union name anywhere = *local;

	anywhere.v4.sin_port = 0; /* of the same place in both families */
	return try_connectx(fd, diag, &anywhere, remote);
}

static const struct technique techniques[] = {
    {.name = "plain", .connect = try_plain},
    {.name = "lock", .connect = try_lock},
    {.name = "barrier", .connect = try_barrier},
    {.name = "connectx", .is_library = true, .connect = try_connectx},
    {.name = "discovery", .is_library = true, .finds_ports = true, .connect = try_discovery},
};

const struct technique *find_technique(const char *name)
{
	for (size_t i = 0; i < sizeof(techniques) / sizeof(techniques[0]); i++)
		if (!strcmp(techniques[i].name, name))
			return &techniques[i];
	return NULL;
}

void load_library(const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		fail(EXIT_CANNOT_RUN, "%s", dlerror());
	library_connectx = (__typeof__(library_connectx))dlsym(library, "connectx");
	if (!library_connectx)
		fail(EXIT_CANNOT_RUN, "%s", dlerror());
}
