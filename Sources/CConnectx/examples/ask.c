/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends a datagram and prints the answer. The source port is one that is free for
 * this destination, shared with sockets that go elsewhere.
 *
 *	cc ask.c $(pkg-config --cflags --libs connectx) -o ask
 *	./ask 127.0.0.1 7 hello
 */
#include <connectx.h>

#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET}, from;
	socklen_t length = sizeof(from);
	sa_endpoints_t endpoints = {
	    .sae_dstaddr = (struct sockaddr *)&to,
	    .sae_dstaddrlen = sizeof(to),
	};
	char answer[2048];
	ssize_t size;
	int udp;

	if (argc != 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		errx(2, "usage: ask ADDRESS PORT TEXT");
	to.sin_port = htons((unsigned short)atoi(argv[2]));
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	if (udp < 0)
		err(1, "socket");
	if (connectx(udp, &endpoints, SAE_ASSOCID_ANY, 0, NULL, 0, NULL, NULL) < 0)
		err(1, "connectx");
	if (send(udp, argv[3], strlen(argv[3]), 0) < 0)
		err(1, "send");
	size = recv(udp, answer, sizeof(answer), 0);
	if (size < 0)
		err(1, "recv");
	getsockname(udp, (struct sockaddr *)&from, &length);
	printf("port %d got: %.*s\n", ntohs(from.sin_port), (int)size, answer);
	close(udp);
	return 0;
}
