// SPDX-License-Identifier: Apache-2.0
/* What --help prints. */
#include "help.h"

const char general_help[] =
    "usage: tupleguard-stress MODE [OPTION...]\n"
    "\n"
    "Makes UDP sockets with SO_REUSEADDR in the cgroup and network namespace it is\n"
    "started in, and looks for two that hold one 4-tuple. All traffic stays on loopback.\n"
    "\n"
    "  race        all threads connect to one tuple at once: exactly one must win\n"
    "  chaos       many sockets of all kinds in many threads and processes\n"
    "  reuseport   the same, and sockets that share their ports by SO_REUSEPORT\n"
    "  throng      as many connects for the same few tuples as the machine can do\n"
    "  shared      several threads connect and disconnect the same sockets\n"
    "  samesocket  the same, and they bind these sockets and change how they share a port\n"
    "  budget      connections, TCP too, in a cgroup that may have so many\n"
    "  hostile     attackers without privileges want the answers of another user's socket\n"
    "  outsiders   sockets inside and outside of the guarded cgroup meet\n"
    "  rewriters   a BPF program sends several destinations to one place\n"
    "  ports       connections of a cgroup with ports of its own, TCP too\n"
    "  connectx    threads and processes go for few source ports by a technique of userspace\n"
    "\n"
    "Options of every mode (each mode's --help has its own):\n"
    "  --errno NAME   errno of a refused connect (EPERM)\n"
    "  --netns        make a network namespace to run in, with more addresses; needs root\n"
    "  --json         one JSON object instead of lines\n"
    "\n"
    "Exit status: 0 nothing found, 1 violations, 2 bad arguments, 3 cannot run here.\n";

const char ports_help[] =
    "usage: tupleguard-stress ports --ports FIRST-LAST [OPTION...]\n"
    "\n"
    "To be run in a cgroup that has these ports for its own, with --discover all. Threads in\n"
    "several processes connect TCP and UDP sockets, unbound or bound to an address, of both\n"
    "families, and close them. There are never more of a kind to a destination than there are\n"
    "ports: none may be refused, and none may have another port.\n"
    "\n"
    "  --ports F-L      the cgroup's own (40000-40000)\n"
    "  --seconds S      how long (10)\n"
    "  --threads T      in each process, 1 to 64 (4)\n"
    "  --processes P    1 to 64 (2)\n"
    "  --seed X         repeat a run, as far as the scheduler lets it (the time)\n"
    "  --netns, --json: as in every mode\n";

const char race_help[] =
    "usage: tupleguard-stress race [--threads N] [--rounds N] [--family FAMILY] [OPTION...]\n"
    "\n"
    "Every round, each thread connects a socket of its own, bound to the same address and\n"
    "port as those of all others, to one destination. Exactly one must be connected, the\n"
    "others must be refused. Ends with 0 when every round had exactly one winner.\n"
    "\n"
    "  --threads N      2 to 64 (4)\n"
    "  --rounds N       (100000)\n"
    "  --family FAMILY  4, 6, mapped (IPv4 by IPv6 sockets), mixed (4, mapped, and IPv6\n"
    "                   sockets given IPv4 addresses), wildcard (every other socket is\n"
    "                   bound to 0.0.0.0) (4)\n"
    "  --errno NAME, --netns, --json: as in every mode\n";

const char chaos_help[] =
    "usage: tupleguard-stress chaos [--seconds S | --operations N] [OPTION...]\n"
    "\n"
    "Threads in several processes open, connect, reconnect, disconnect, hand over and close\n"
    "sockets of all kinds, on few addresses and ports. Every connected socket is entered in a\n"
    "common table under the tuple that the kernel says it holds, and struck off before a call\n"
    "that may end that; entered twice is a violation. With one thread in one process, every\n"
    "refusal must have a reason too: a socket that holds the tuple, or claimed it moments ago.\n"
    "\n"
    "  --seconds S      how long (10)\n"
    "  --operations N   how many, instead\n"
    "  --threads T      in each process, 1 to 64 (4)\n"
    "  --processes P    1 to 64 (2)\n"
    "  --seed X         repeat a run, as far as the scheduler lets it (the time)\n"
    "  --unbound        also sockets that have no port before connect; with --netns there are\n"
    "                   few ports for them\n"
    "  --exclusive      with --unbound: some of these without SO_REUSEADDR\n"
    "  --errno NAME, --netns, --json: as in every mode\n";

const char shared_help[] =
    "usage: tupleguard-stress shared [--rounds N] [--threads N] [--seed X] [OPTION...]\n"
    "\n"
    "Every round, threads connect and disconnect the same few sockets without waiting for each\n"
    "other. Then all stand still, and every socket is asked what it holds; two that hold one\n"
    "tuple are a violation.\n"
    "\n"
    "  --threads N      2 to 16 (3)\n"
    "  --rounds N       (100000)\n"
    "  --seed X         repeat a run, as far as the scheduler lets it (the time)\n"
    "  --unbound        also sockets that have no port before connect\n"
    "  --errno NAME, --netns, --json: as in every mode\n";

#define CREW_HELP                                                                                  \
	"  --seconds S      how long (10)\n"                                                       \
	"  --threads T      in each process, 1 to 64 (4)\n"                                        \
	"  --processes P    1 to 64 (2)\n"                                                         \
	"  --seed X         repeat a run, as far as the scheduler lets it (the time)\n"            \
	"  --errno NAME, --netns, --json: as in every mode\n"

const char throng_help[] =
    "usage: tupleguard-stress throng [--seconds S] [OPTION...]\n"
    "\n"
    "Threads in several processes have a few sockets each, bound to ports that all of them\n"
    "share, and connect, reconnect, disconnect and reopen them as fast as they can, for few\n"
    "destinations. Each tuple has a count of the sockets that are connected with it; more than\n"
    "one is a violation. One in 64 is asked whether it holds what it is counted for. Stalled\n"
    "are connects that took 0.9 s: a guard does not wait longer than 1 s for one it allowed.\n"
    "\n" CREW_HELP;

const char reuseport_help[] =
    "usage: tupleguard-stress reuseport [--seconds S | --operations N] [OPTION...]\n"
    "\n"
    "chaos --unbound, with sockets that share their port by SO_REUSEPORT, by SO_REUSEADDR or by\n"
    "both. With --netns there are few ports for those that have none before connect.\n"
    "\n"
    "  --operations N   how many, instead of --seconds\n" CREW_HELP;

const char samesocket_help[] =
    "usage: tupleguard-stress samesocket [--seconds S] [OPTION...]\n"
    "\n"
    "shared --unbound, and threads also bind these sockets, send from them, and change their\n"
    "SO_REUSEADDR, SO_REUSEPORT and IP_LOCAL_PORT_RANGE while others connect them. Processes\n"
    "have a network namespace and sockets each.\n"
    "\n"
    "Only a guard that is attached with --strict promises that nothing is found.\n"
    "\n" CREW_HELP;

const char budget_help[] =
    "usage: tupleguard-stress budget --limit N [--seconds S] [OPTION...]\n"
    "\n"
    "TCP and UDP sockets connect, fail to, disconnect and close, in a cgroup that may have N\n"
    "connections at one time. Violations are connections beyond N, refusals while there cannot\n"
    "have been N, and another number than N that gets through when all is closed.\n"
    "\n"
    "  --limit N        that of the cgroup (attach --max-connections), 1 to 4096. Its errno\n"
    "                   should be one that nothing else gives: --when-exhausted EAGAIN\n"
    "                   there, and --errno EAGAIN here\n" CREW_HELP;

const char hostile_help[] =
    "usage: tupleguard-stress hostile [--seconds S] [--attacks LIST] [OPTION...]\n"
    "\n"
    "A victim of root connects to its server, from a new port every second. Threads of nobody\n"
    "want its tuple. Violations are datagrams that the victim misses, and other sockets that\n"
    "hold its tuple at the same time. Needs root.\n"
    "\n"
    "  --attacks LIST   some of these, with commas between them (all)\n"
    "    again, wildcard, mapped, device, alias, range, group: the tuple is asked for in various\n"
    "                     forms\n"
    "    stall            a connect is kept waiting between the hook and the kernel's own for\n"
    "                     longer than claims wait for it\n"
    "    bind, share, lose: another thread gives the socket a port, or another one, between the\n"
    "                     hook and the connect\n"
    "    late             the victim itself begins to share its port when it is connected\n"
    "Only a guard that is attached with --strict promises to keep its tuple from the last four.\n"
    "\n" CREW_HELP;

const char outsiders_help[] =
    "usage: tupleguard-stress outsiders --outside FOLDER [--seconds S] [OPTION...]\n"
    "\n"
    "Every other process moves to another cgroup, which is not guarded. Sockets of all of them\n"
    "meet on few tuples. Violations are tuples that a socket inside holds together with another\n"
    "one, inside or outside.\n"
    "\n"
    "A guard promises nothing here: its look-up (--look-up on) finds sockets outside whose\n"
    "connect is over, so that few violations are left, and not none.\n"
    "\n"
    "  --outside FOLDER  the cgroup outside\n"
    "  --hold US         holds a tuple for at most about so many microseconds (50)\n" CREW_HELP;

const char rewriters_help[] =
    "usage: tupleguard-stress rewriters [--rewriter FOLDER] [--seconds S] [OPTION...]\n"
    "\n"
    "Attaches a BPF program to a cgroup that sends services, as a load balancer does, from\n"
    "their own addresses to one place. Sockets of few ports connect to the services and to the\n"
    "place itself.\n"
    "\n"
    "A guard promises that nothing is found where it sees the rewritten address: the program\n"
    "is attached to a cgroup below the guard's, or to the same one before it.\n"
    "\n"
    "  --rewriter FOLDER  the cgroup (none: such a program is attached already)\n"
    "  --idle             attach it, say so and wait for a signal\n"
    "  --services N       so many addresses, 0 to 64 (2)\n"
    "  --hold US          holds a tuple for at most about so many microseconds (50)\n" CREW_HELP;

const char connectx_help[] =
    "usage: tupleguard-stress connectx --technique NAME [--library PATH] [OPTION...]\n"
    "\n"
    "Threads of several processes connect sockets from few source ports to one destination,\n"
    "hold what they got for a moment, and close. Two that hold one tuple at once: one of them\n"
    "is overshadowed. Ends with 0 when none ever was.\n"
    "\n"
    "  --technique NAME  lock (SO_REUSEADDR as a lock, as published), barrier (with the bind\n"
    "                    barrier), plain (bind and connect), connectx (the library, told the\n"
    "                    port), discovery (the library, which chooses; needs --netns) (lock)\n"
    "  --mix NAME        the technique of every other process\n"
    "  --library PATH    of libconnectx.so\n"
    "  --outside FOLDER  the cgroup to which the processes that don't mix move first\n"
    "  --ports A-B       the source ports (40000-40000)\n"
    "  --others N        sockets on each of them, connected to other destinations (0)\n"
    "  --hold US         at most so many microseconds (50)\n"
    "  --seconds S       how long (10)\n"
    "  --successes N     until so many, instead\n"
    "  --processes N, --threads N of each (2, 2)\n"
    "  --family FAMILY   4, 6, mapped, mixed (4 and mapped by turns) (4)\n"
    "  --seed X          repeat a run, as far as the scheduler lets it (the time)\n"
    "  --netns, --json: as in every mode\n";
