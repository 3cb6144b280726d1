// SPDX-License-Identifier: Apache-2.0
/*
 * One thread of `chaos`: its sockets, and what it does to them. No other
 * thread touches these, so each socket's state is known at every step.
 */
#include "chaos.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* A socket on its way to another thread: this, and the descriptor beside it. */
union control {
	char buffer[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

/* Before a call that may end what the socket holds. */
static void strike_off(struct worker *worker, struct item *item)
{
	if (item->connected)
		remember_attempt(item, &item->tuple);
	if (item->entered)
		oracle_leave(worker->chaos->oracle, &item->tuple, false);
	item->connected = false;
	item->entered = false;
}

/* After a call: whether it worked or not, the kernel knows what the socket holds. */
static void enter(struct worker *worker, struct item *item)
{
	struct party party = {.process = (uint16_t)worker->member->process,
			      .thread = (uint16_t)worker->member->thread,
			      .shape = item->shape};

	item->connected = read_tuple(item->fd, &item->tuple);
	item->entered = item->connected &&
			!is_same_address(&item->tuple.remote, &worker->chaos->space.broadcast);
	if (item->entered)
		oracle_enter(worker->chaos->oracle, &item->tuple, &party);
}

static bool is_alone(const struct worker *worker)
{
	return is_explainable(worker->chaos->options);
}

/* Some sockets stay as they are until their claims are old; few, or nothing else would happen. */
static void maybe_settle(struct worker *worker, struct item *item)
{
	enum { MAX_SETTLED = 4 };

	if (item->entered && item - worker->items < MAX_SETTLED)
		item->settled_until_ms =
		    now_ms() + RECENT_MS + random_below(&worker->member->random, RECENT_MS);
}

void try_connect(struct worker *worker, struct item *item, const struct destination *destination)
{
	struct tuple intended[MAX_INTENDED];
	unsigned count = intended_tuples(item, destination, intended);
	int error;

	strike_off(worker, item);
	error = connect_to(item->fd, destination);
	enter(worker, item);
	if (error == worker->chaos->options->refusal) {
		worker->counts->refused++;
		if (is_alone(worker))
			explain_refusal(worker, item, destination);
		return;
	}
	for (unsigned i = 0; i < count; i++)
		remember_attempt(item, &intended[i]);
	if (!error)
		worker->counts->connected++;
	else
		worker->counts->failed[error < MAX_ERRNO ? error : 0]++;
}

static void open_item(struct worker *worker, struct item *item)
{
	struct chaos *chaos = worker->chaos;

	memset(item, 0, sizeof(*item));
	item->shape = choose_shape(&worker->member->random, &chaos->space, chaos->options);
	item->fd = open_shape(&item->shape);
	if (item->fd >= 0)
		worker->counts->opened++;
	/* Any other process may have the port, and the kernel may find none. */
	else if (errno != EADDRINUSE && errno != EAGAIN)
		fail(EXIT_CANNOT_RUN, "cannot open a socket: %s", strerror(errno));
}

void close_item(struct worker *worker, struct item *item)
{
	strike_off(worker, item);
	close(item->fd);
	item->fd = -1;
	worker->counts->closed++;
}

static void disconnect_item(struct worker *worker, struct item *item)
{
	strike_off(worker, item);
	disconnect(item->fd);
	enter(worker, item);
	worker->counts->disconnected++;
}

/* The socket lives on by another descriptor, and holds what it held. */
static void duplicate_item(struct worker *worker, struct item *item)
{
	int copy = fcntl(item->fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return;
	close(item->fd);
	item->fd = copy;
	worker->counts->duplicated++;
}

static void send_from(struct worker *worker, struct item *item)
{
	char nothing = 0;

	/* Nobody needs to listen; that is answered by an error on the socket. */
	if (send(item->fd, &nothing, sizeof(nothing), MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
		worker->counts->sent++;
}

static struct msghdr message_with(struct item *item, struct iovec *data, union control *control)
{
	*data = (struct iovec){.iov_base = item, .iov_len = sizeof(*item)};
	memset(control, 0, sizeof(*control));
	return (struct msghdr){.msg_iov = data,
			       .msg_iovlen = 1,
			       .msg_control = control,
			       .msg_controllen = sizeof(control->buffer)};
}

/* To any thread of any process. It stays entered: nothing ends what it holds. */
static void hand_over(struct worker *worker, struct item *item)
{
	struct chaos *chaos = worker->chaos;
	unsigned process = random_below(&worker->member->random, chaos->options->processes);
	struct iovec data;
	union control control;
	struct msghdr message = message_with(item, &data, &control);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &item->fd, sizeof(int));
	if (sendmsg(chaos->mailboxes[process][1], &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return; /* the mailbox is full */
	close(item->fd);
	item->fd = -1;
	worker->counts->handed_over++;
}

/* Takes a socket that another thread handed over; false when there is none. */
static bool take_over(struct worker *worker, struct item *item)
{
	struct iovec data;
	union control control;
	struct msghdr message = message_with(item, &data, &control);
	struct cmsghdr *header;

	if (recvmsg(worker->chaos->mailboxes[worker->member->process][0], &message,
		    MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*item)) {
		item->fd = -1;
		return false;
	}
	header = CMSG_FIRSTHDR(&message);
	if (!header)
		fail(EXIT_CANNOT_RUN, "a socket was lost on its way: too many open files?");
	memcpy(&item->fd, CMSG_DATA(header), sizeof(int));
	return true;
}

static void connect_item(struct worker *worker, struct item *item)
{
	struct destination destination =
	    choose_destination(&worker->member->random, &worker->chaos->space, &item->shape);

	try_connect(worker, item, &destination);
	maybe_settle(worker, item);
}

static void connect_in_vain(struct worker *worker, struct item *item)
{
	struct destination destination =
	    choose_unroutable(&worker->member->random, &worker->chaos->space, &item->shape);

	try_connect(worker, item, &destination);
}

static void operate_on(struct worker *worker, struct item *item)
{
	unsigned chance = random_below(&worker->member->random, 100);

	if (item->settled_until_ms) {
		if (now_ms() >= item->settled_until_ms)
			item->settled_until_ms = 0;
		chance = chance % 8 == 0 ? 95 : 45; /* mostly reconnects that fail */
	}
	if (chance < 45)
		connect_item(worker, item);
	else if (chance < 60)
		connect_in_vain(worker, item);
	else if (chance < 70)
		disconnect_item(worker, item);
	else if (chance < 84)
		close_item(worker, item);
	else if (chance < 88)
		hand_over(worker, item);
	else if (chance < 94)
		duplicate_item(worker, item);
	else
		send_from(worker, item);
}

static void operate(struct worker *worker)
{
	struct item *item =
	    &worker->items[random_below(&worker->member->random, SOCKETS_PER_THREAD)];

	if (item->fd >= 0) {
		operate_on(worker, item);
		/* Alone, every socket must be in sight when a refusal is explained. */
		if (item->fd < 0 && is_alone(worker))
			take_over(worker, item);
	} else if (random_below(&worker->member->random, 4) || !take_over(worker, item)) {
		open_item(worker, item);
	}
}

static bool is_over(const struct worker *worker, uint64_t operations)
{
	const struct options *options = worker->chaos->options;
	uint64_t workers = (uint64_t)options->threads * options->processes;

	return crew_is_over(worker->member->crew) ||
	       (options->operations && operations * workers >= options->operations);
}

/* Every other process leaves it to the kernel to close its sockets. */
static void clean_up(struct worker *worker)
{
	for (unsigned i = 0; i < SOCKETS_PER_THREAD; i++) {
		if (worker->items[i].fd < 0)
			continue;
		if (worker->member->process % 2)
			strike_off(worker, &worker->items[i]);
		else
			close_item(worker, &worker->items[i]);
	}
}

void work(struct worker *worker)
{
	enum { MS_BETWEEN_PROBES = 500 };
	uint64_t operations = 0, next_probe_ms = now_ms() + MS_BETWEEN_PROBES;

	for (unsigned i = 0; i < SOCKETS_PER_THREAD; i++)
		worker->items[i].fd = -1;
	while (!is_over(worker, operations)) {
		operate(worker);
		operations++;
		crew_step(worker->member);
		if (is_alone(worker) && now_ms() >= next_probe_ms) {
			probe_everything(worker);
			next_probe_ms = now_ms() + MS_BETWEEN_PROBES;
		}
	}
	clean_up(worker);
}
