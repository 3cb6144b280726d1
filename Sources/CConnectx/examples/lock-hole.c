/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four threads go for one UDP 4-tuple, with SO_REUSEADDR as a lock, while other sockets have the
 * same source port: counts how often two are connected at one time. Needs no privilege.
 *
 *	cc -O2 -pthread lock-hole.c && ./a.out 500 100000 [barrier]	# other sockets, successes
 */
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
static atomic_int wanted, has_barrier, connected, successes, overshadowed;

static void share(int fd, int on)
{
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

static int bind_shared(int fd)
{
	share(fd, 1);
	return bind(fd, (struct sockaddr *)&from, sizeof(from));
}

/* Whether datagrams from `to` to `from` would reach this socket: the kernel compares the cookie. */
static int receives(int fd, int diag)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} ask = {{sizeof(ask), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0},
		 {AF_INET, IPPROTO_UDP, .id = {.idiag_sport = to.sin_port}}};
	socklen_t size = sizeof(ask.body.id.idiag_cookie);

	ask.body.id.idiag_dport = from.sin_port;
	ask.body.id.idiag_src[0] = to.sin_addr.s_addr;
	ask.body.id.idiag_dst[0] = from.sin_addr.s_addr;
	getsockopt(fd, SOL_SOCKET, SO_COOKIE, ask.body.id.idiag_cookie, &size);
	send(diag, &ask, sizeof(ask), 0);
	return recv(diag, &ask.header, sizeof(ask.header), 0) > 0 &&
	       ask.header.nlmsg_type == SOCK_DIAG_BY_FAMILY;
}

static void *contend(void *unused)
{
	int diag = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);

	while (successes < wanted) {
		int fd = socket(AF_INET, SOCK_DGRAM, 0), barrier = socket(AF_INET, SOCK_DGRAM, 0);

		if (bind_shared(fd) == 0) {
			share(fd, 0); /* the lock: nobody else's bind() passes the check any more */
			if (has_barrier)
				bind_shared(barrier); /* fails, behind those that had passed it */
			if (receives(fd, diag) && connect(fd, (void *)&to, sizeof(to)) == 0) {
				successes++;
				overshadowed += connected++ > 0;
				share(fd, 1);
				usleep(1);
				connected--;
			}
		}
		close(fd);
		close(barrier);
	}
	return unused;
}

int main(int argc, char **argv)
{
	int others = argc > 1 ? atoi(argv[1]) : 500;
	pthread_t threads[4];

	wanted = argc > 2 ? atoi(argv[2]) : 100000;
	has_barrier = argc > 3;
	/* An address of our own, so that nobody else has the port. */
	from.sin_addr.s_addr = to.sin_addr.s_addr =
	    htonl(INADDR_LOOPBACK + (getpid() % 65000 << 8));
	from.sin_port = htons(40000);
	for (; others > 0; others--) {
		int fd = socket(AF_INET, SOCK_DGRAM, 0);
		to.sin_port = htons(others);
		if (bind_shared(fd) != 0 || connect(fd, (void *)&to, sizeof(to)) != 0)
			abort();
	}
	to.sin_port = htons(50000);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, contend, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	printf("%d of %d overshadowed\n", overshadowed, successes);
}
