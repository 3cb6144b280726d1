// SPDX-License-Identifier: Apache-2.0
/*
 * Threads, time and chance: a barrier that is cheap for rounds of a few
 * microseconds, reproducible random numbers, memory shared with children.
 */
#include "stress.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

atomic_bool interrupted;

static void on_interrupt(int signal)
{
	(void)signal;
	atomic_store(&interrupted, true);
}

void catch_interrupts(void)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	sigset_t interrupts;

	sigemptyset(&interrupts);
	sigaddset(&interrupts, SIGINT);
	sigaddset(&interrupts, SIGTERM);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	/* Whoever started us may have blocked them, and a program inherits that. */
	sigprocmask(SIG_UNBLOCK, &interrupts, NULL);
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

void barrier_init(struct barrier *barrier, unsigned parties)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	atomic_init(&barrier->arrived, 0);
	atomic_init(&barrier->generation, 0);
	atomic_init(&barrier->sleepers, 0);
	barrier->parties = parties;
	/* Spinning only keeps the last ones from arriving when there are too few processors. */
	barrier->spins = (long)parties <= processors ? 4000 : 0;
}

static void barrier_sleep(struct barrier *barrier, unsigned generation)
{
	atomic_fetch_add(&barrier->sleepers, 1);
	while (atomic_load(&barrier->generation) == generation)
		syscall(SYS_futex, &barrier->generation, FUTEX_WAIT_PRIVATE, generation, NULL, NULL,
			0);
	atomic_fetch_sub(&barrier->sleepers, 1);
}

void barrier_wait(struct barrier *barrier)
{
	enum { YIELDS = 16 };
	unsigned generation = atomic_load(&barrier->generation);

	if (atomic_fetch_add(&barrier->arrived, 1) + 1 == barrier->parties) {
		atomic_store(&barrier->arrived, 0);
		atomic_fetch_add(&barrier->generation, 1);
		if (atomic_load(&barrier->sleepers))
			syscall(SYS_futex, &barrier->generation, FUTEX_WAKE_PRIVATE, INT_MAX, NULL,
				NULL, 0);
		return;
	}
	for (unsigned spin = 0; spin < barrier->spins; spin++) {
		if (atomic_load_explicit(&barrier->generation, memory_order_acquire) != generation)
			return;
		relax();
	}
	for (unsigned yield = 0; yield < YIELDS; yield++) {
		if (atomic_load(&barrier->generation) != generation)
			return;
		sched_yield();
	}
	barrier_sleep(barrier, generation);
}

static uint64_t random_next(struct random *random)
{
	/* splitmix64: every seed is as good as any other, also 0 and small ones. */
	uint64_t mixed = random->state += 0x9e3779b97f4a7c15;

	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
	return mixed ^ mixed >> 31;
}

void random_init(struct random *random, uint64_t seed, uint64_t stream)
{
	random->state = seed;
	random->state = random_next(random) ^ stream * 0xd1342543de82ef95;
}

uint32_t random_below(struct random *random, uint32_t limit)
{
	return (uint32_t)((random_next(random) >> 32) * limit >> 32);
}

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void sleep_ms(unsigned milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};

	nanosleep(&time, NULL); /* an interrupt ends it, as it should */
}

void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail(EXIT_CANNOT_RUN, "cannot share %zu bytes with child processes: %s", size,
		     strerror(errno));
	return memory;
}

pid_t fork_for_life(void)
{
	pid_t parent = getpid(), child = fork();

	if (child < 0)
		fail(EXIT_CANNOT_RUN, "cannot fork: %s", strerror(errno));
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* gone before that took effect */
		_exit(EXIT_CANNOT_RUN);
	return 0;
}
