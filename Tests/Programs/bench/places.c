// SPDX-License-Identifier: Apache-2.0
/*
 * Where the benchmark runs: a process, a cgroup and a network namespace of its
 * own, one processor, and nothing left of them afterwards.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Machines with both cgroup versions have the second at another place than usual. */
const char *cgroup2_path(void)
{
	static char path[PATH_MAX / 2];
	FILE *mounts = setmntent("/proc/mounts", "r");
	struct mntent *entry;

	if (!mounts)
		die("cannot read /proc/mounts");
	while ((entry = getmntent(mounts))) {
		if (strcmp(entry->mnt_type, "cgroup2"))
			continue;
		snprintf(path, sizeof(path), "%s", entry->mnt_dir);
		endmntent(mounts);
		return path;
	}
	errno = 0;
	die("no cgroup2 file system is mounted; try: mount -t cgroup2 none /mnt");
}

static void join_cgroup(const char *path)
{
	char file[PATH_MAX];
	int fd;

	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		die("cannot join the cgroup %s", path);
	close(fd);
}

static void enter_network_namespace(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd;

	if (unshare(CLONE_NEWNET))
		die("cannot make a network namespace");
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request))
		die("cannot read the state of the loopback device");
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		die("cannot bring the loopback device up");
	close(fd);
}

/* To the last of the processors allowed: the first has more interrupts to serve. */
static void pin_to_one_processor(void)
{
	cpu_set_t allowed, one;
	int cpu = CPU_SETSIZE - 1;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		die("cannot read the processors allowed");
	while (cpu > 0 && !CPU_ISSET(cpu, &allowed))
		cpu--;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		die("cannot stay on processor %d", cpu);
}

static void allow_many_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("cannot read the limit of descriptors");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("cannot raise the limit of descriptors");
}

static int in_child(const char *path, pid_t parent, int (*body)(int, void *), void *argument)
{
	int cgroup;

	/* A parent that was killed can't remove the cgroup, but the programs must not stay. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return 1;
	join_cgroup(path);
	enter_network_namespace();
	pin_to_one_processor();
	allow_many_descriptors();
	cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		die("cannot open %s", path);
	return body(cgroup, argument);
}

/* Waits for the child; a signal to end ends the child first, which may well ignore that signal. */
static int wait_for(pid_t child, const sigset_t *signals)
{
	int status, signal, reason = 0;

	while (waitpid(child, &status, WNOHANG) == 0) {
		if (sigwait(signals, &signal) || signal == SIGCHLD)
			continue;
		reason = signal;
		kill(child, SIGKILL);
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (!reason)
		reason = WTERMSIG(status);
	fprintf(stderr, "tupleguard-bench: ended by a signal (%s)\n", strsignal(reason));
	return 128 + reason;
}

/* What the child has started and not ended is ended first: it takes a moment. */
static void remove_cgroup(const char *path)
{
	enum { ATTEMPTS = 1000, PAUSE_MICROSECONDS = 10000 };
	char kill[PATH_MAX + 16];
	int file;

	if (rmdir(path) == 0)
		return;
	snprintf(kill, sizeof(kill), "%s/cgroup.kill", path);
	file = open(kill, O_WRONLY | O_CLOEXEC);
	if (file >= 0 && write(file, "1", 1) != 1)
		die("cannot end what is left in %s", path);
	close(file);
	for (int i = 0; i < ATTEMPTS; i++) {
		if (rmdir(path) == 0)
			return;
		usleep(PAUSE_MICROSECONDS);
	}
	die("cannot remove the cgroup %s", path);
}

int run_apart(int (*body)(int cgroup, void *argument), void *argument)
{
	char path[PATH_MAX];
	pid_t parent = getpid(), child;
	sigset_t signals, before;
	int status;

	snprintf(path, sizeof(path), "%s/tupleguard-bench.%d", cgroup2_path(), parent);
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, &before);
	if (mkdir(path, 0755))
		die("cannot make the cgroup %s", path);
	fflush(NULL);
	child = fork();
	if (child == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		status = in_child(path, parent, body, argument);
		fflush(NULL);
		_exit(status);
	}
	status = child < 0 ? 1 : wait_for(child, &signals);
	remove_cgroup(path);
	return status;
}
