// SPDX-License-Identifier: Apache-2.0
/*
 * The space of `chaos`: which addresses and ports there are, and which socket
 * and destination come next.
 */
#include "chaos.h"
#include "contest.h"

#include <string.h>

enum {
	FIRST_PORT = 7001,
	LOCAL_PORTS = 4,
	REMOTE_PORTS = 2,
	/* More, or sockets that share none would soon leave no port to the others. */
	PORTS_TO_CHOOSE_FROM = 8,
};

static void add(struct address_list *addresses, const char *text)
{
	addresses->list[addresses->count++] = address_of(text);
}

/* Only those that this machine has: IPv6 may be missing, and --netns brings more. */
static void add_local(struct address_list *addresses, const char *const texts[])
{
	for (; *texts && addresses->count < MAX_ADDRESSES; texts++) {
		struct address address = address_of(*texts);

		if (is_local_address(&address))
			addresses->list[addresses->count++] = address;
	}
}

void make_space(struct space *space, bool own_netns)
{
	static const char *const sources4[] = {"127.0.0.1", "127.0.0.2", "127.0.0.6",
					       "127.0.0.3", "10.77.0.1", "10.77.0.2",
					       "10.77.0.3", "127.0.0.4", NULL};
	static const char *const sources6[] = {"::1",	     "fd00:77::1", "fd00:77::2",
					       "fd00:77::3", "fd00:77::4", NULL};
	static const char *const here4[] = {"127.0.0.1", "127.0.0.9", "10.77.0.1", NULL};
	static const char *const here6[] = {"::1", "fd00:77::1", NULL};

	space->broadcast = address_of("127.255.255.255");
	add_local(&space->v4.sources, sources4);
	add_local(&space->v6.sources, sources6);
	add_local(&space->v4.destinations, here4);
	add(&space->v4.destinations, "0.0.0.0");
	add(&space->v4.destinations, "127.255.255.255"); /* fails without SO_BROADCAST */
	add_local(&space->v6.destinations, here6);
	add(&space->v6.destinations, "::");
	add(&space->v4.unroutable, "127.255.255.255");
	add(&space->v6.unroutable, "fe80::1"); /* without a scope */
	if (!own_netns)
		return;
	set_port_range(FIRST_PORT, FIRST_PORT + PORTS_TO_CHOOSE_FROM - 1);
	/* Outside an own namespace these might lead somewhere. */
	add(&space->v4.unroutable, "203.0.113.1");
	add(&space->v6.unroutable, "2001:db8::1");
	space->v4.destinations.list[space->v4.destinations.count++] = shifting_address(AF_INET);
	if (space->v6.sources.count)
		space->v6.destinations.list[space->v6.destinations.count++] =
		    shifting_address(AF_INET6);
}

static struct address choose(struct random *random, const struct address_list *addresses)
{
	return addresses->list[random_below(random, addresses->count)];
}

static bool is_chance(struct random *random, unsigned one_in)
{
	return random_below(random, one_in) == 0;
}

/*
 * Ways to share a port: SO_REUSEADDR, SO_REUSEPORT, which only sockets that all
 * have it do, or both. A socket of one kind alone keeps the other kind away.
 */
static void choose_sharing(struct random *random, struct shape *shape)
{
	shape->in_group = !is_chance(random, 4);
	shape->exclusive = shape->in_group && is_chance(random, 2);
}

struct shape choose_shape(struct random *random, const struct space *space,
			  const struct options *options)
{
	struct address odd = address_of("127.0.0.6");
	bool has_v6 = space->v6.sources.count > 0;
	struct shape shape = {.port = (uint16_t)(FIRST_PORT + random_below(random, LOCAL_PORTS))};

	shape.family = has_v6 && is_chance(random, 2) ? AF_INET6 : AF_INET;
	if (is_chance(random, 6)) {
		/* ::ffff:0.0.0.0 is a wildcard too, and unlike :: for IPv4 only. */
		shape.local = address_of(
		    shape.family == AF_INET6 && !is_chance(random, 4) ? "::" : "0.0.0.0");
	} else if (shape.family == AF_INET6 && is_chance(random, 2)) {
		shape.local = choose(random, &space->v6.sources);
	} else {
		shape.local = choose(random, &space->v4.sources);
	}
	shape.on_device = is_chance(random, 8);
	shape.may_broadcast = is_chance(random, 8);
	if (options->unbound && is_chance(random, 2)) {
		/* The rest leave it to the kernel when they bind. */
		shape.port_at_connect = is_chance(random, 2);
		shape.unbound = !shape.port_at_connect && !is_chance(random, 4);
		/*
		 * A socket with an IPv6 address that goes to IPv4 does so from
		 * 127.0.0.6 (see read_tuple()), but not to the kernel when it looks
		 * for a port that nobody has: it would give that port away.
		 */
		shape.exclusive = options->exclusive && is_chance(random, 4) &&
				  !is_same_address(&shape.local, &odd);
		shape.port = 0;
	}
	if (options->reuseport)
		choose_sharing(random, &shape);
	return shape;
}

static struct destination choose_of(struct random *random, const struct shape *shape, bool v6,
				    const struct address_list *addresses)
{
	struct destination destination = {
	    .address = choose(random, addresses),
	    .port = (uint16_t)(FIRST_PORT + random_below(random, REMOTE_PORTS)),
	};

	/* IPv6 sockets take IPv4 addresses in either form. */
	if (v6 || (shape->family == AF_INET6 && !is_chance(random, 3)))
		destination.family = AF_INET6;
	else
		destination.family = AF_INET;
	return destination;
}

struct destination choose_destination(struct random *random, const struct space *space,
				      const struct shape *shape)
{
	/* Mostly of the family that the socket's own address has; else it may fail. */
	bool likely_v6 = shape->family == AF_INET6 && !is_mapped(&shape->local);
	bool v6 =
	    likely_v6 ? !is_chance(random, 4) : shape->family == AF_INET6 && is_chance(random, 16);

	return choose_of(random, shape, v6, v6 ? &space->v6.destinations : &space->v4.destinations);
}

struct destination choose_unroutable(struct random *random, const struct space *space,
				     const struct shape *shape)
{
	bool v6 = shape->family == AF_INET6 && !is_chance(random, 4);

	/* A socket that has an IPv4 address can't go to an IPv6 one: that fails late too. */
	if (v6 && is_mapped(&shape->local) && is_chance(random, 2))
		return choose_of(random, shape, true, &space->v6.sources);
	return choose_of(random, shape, v6, v6 ? &space->v6.unroutable : &space->v4.unroutable);
}
