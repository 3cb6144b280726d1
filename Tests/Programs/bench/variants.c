// SPDX-License-Identifier: Apache-2.0
/*
 * What is compared. The guard is loaded by tupleguard itself, by the options
 * that its users give it, into a state folder of the benchmark's own; then it
 * is taken off again, and its programs are attached only while their block is
 * timed: where nothing is attached, the kernel patches the hooks out of its
 * code, and that is what "no program" has to mean.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const struct variant_name variant_names[VARIANTS] = {
    [BARE] = {"no program", "bare"},
    [EMPTY] = {"empty", "empty"},
    [GUARD] = {"guard", "guard"},
    [BY_DEFAULT] = {"default", "default"},
    [DISCOVERY] = {"discovery", "discovery"},
    [BUDGET] = {"budget", "budget"},
    [OWN] = {"own ports", "own_ports"},
    [OWN_COUNTED] = {"and counted", "own_ports_counted"},
};

/* How the guards are attached. */
static const char *const attach_options[VARIANTS][11] = {
    [GUARD] = {"--outsiders", "ignore", "--look-up", "off", "--discover", "off"},
    [BY_DEFAULT] = {NULL},
    [DISCOVERY] = {"--outsiders", "ignore", "--look-up", "off", "--discover", "all"},
    [BUDGET] = {"--outsiders", "ignore", "--look-up", "off", "--discover", "off",
		"--max-connections", "100000"},
    [OWN] = {"--outsiders", "ignore", "--look-up", "off", "--discover", "all", "--ports",
	     "20000-20999"},
    [OWN_COUNTED] = {"--outsiders", "ignore", "--look-up", "off", "--discover", "all", "--ports",
		     "20000-20999", "--max-connections", "100000"},
};

enum { MOST_PROGRAMS = 16 };

static struct loaded {
	struct {
		int program;
		enum bpf_attach_type hook;
		int target; /* a cgroup */
		int link;
	} hooks[MOST_PROGRAMS];
	int count;
} loaded[VARIANTS];

static int own_cgroup, root_cgroup;

bool is_guard(enum variant variant)
{
	return variant != BARE && variant != EMPTY;
}

static void keep(enum variant variant, int program, enum bpf_attach_type hook, int target)
{
	struct loaded *into = &loaded[variant];

	errno = 0;
	if (into->count == MOST_PROGRAMS)
		die("more programs than expected");
	into->hooks[into->count].program = program;
	into->hooks[into->count].hook = hook;
	into->hooks[into->count++].target = target;
}

/* ---- programs that do nothing ---- */

static void load_empty(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;
	int error;

	if (!object)
		die("cannot open %s", path);
	error = bpf_object__load(object);
	errno = -error;
	if (error)
		die("cannot load %s", path);
	bpf_object__for_each_program(program, object)
	    keep(EMPTY, bpf_program__fd(program), bpf_program__expected_attach_type(program),
		 own_cgroup);
}

/* ---- the guard, by tupleguard ---- */

static const char *state_folder(enum variant variant, int benchmark)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/fs/bpf/tupleguard-bench-%d-%d", benchmark, variant);
	return path;
}

/* tupleguard COMMAND… with the state of this variant; its output is not of interest. */
static void run_tupleguard(const char *program, const char *state, const char *const arguments[])
{
	int status;
	pid_t child = fork();

	if (child < 0)
		die("cannot start a process");
	if (!child) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDOUT_FILENO);
		setenv("TUPLEGUARD_STATE", state, 1);
		execv(program, (char *const *)arguments);
		die("cannot run %s", program);
	}
	if (waitpid(child, &status, 0) != child || status) {
		errno = 0;
		die("%s %s failed", program, arguments[1]);
	}
}

static enum variant adopting;

/* Takes over the program of a pinned link, and takes the link off. */
static int adopt(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	char proc[64], target[64] = "";
	struct bpf_link_info info = {0};
	__u32 length = sizeof(info);
	struct stat own;
	int fd;

	(void)status;
	(void)place;
	fd = kind == FTW_F ? bpf_obj_get(path) : -1;
	if (fd < 0)
		return 0;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (readlink(proc, target, sizeof(target) - 1) < 0 || !strstr(target, "link")) {
		close(fd);
		return 0;
	}
	if (bpf_obj_get_info_by_fd(fd, &info, &length) || fstat(own_cgroup, &own))
		die("cannot ask the kernel about %s", path);
	keep(adopting, bpf_prog_get_fd_by_id(info.prog_id), info.cgroup.attach_type,
	     info.cgroup.cgroup_id == own.st_ino ? own_cgroup : root_cgroup);
	if (bpf_link_detach(fd))
		die("cannot take %s off", path);
	close(fd);
	return 0;
}

static void load_guard(enum variant variant, const char *program, unsigned table_size)
{
	const char *state = state_folder(variant, getppid());
	char cgroup[PATH_MAX] = "", proc[64], size[16];
	const char *arguments[16] = {program, "attach", cgroup, "--table-size", size};
	int count = 5;

	snprintf(size, sizeof(size), "%u", table_size);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", own_cgroup);
	if (readlink(proc, cgroup, sizeof(cgroup) - 1) < 0)
		die("cannot tell the path of the cgroup");
	for (int i = 0; attach_options[variant][i]; i++)
		arguments[count++] = attach_options[variant][i];
	run_tupleguard(program, state, arguments);
	adopting = variant;
	if (nftw(state, adopt, 8, FTW_PHYS) || !loaded[variant].count) {
		errno = 0;
		die("there are no links in %s", state);
	}
}

void load_variants(unsigned wanted, const char *program, const char *empty_path,
		   unsigned table_size, int cgroup)
{
	own_cgroup = cgroup;
	root_cgroup = open(cgroup2_path(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_cgroup < 0)
		die("cannot open %s", cgroup2_path());
	if (wanted & 1u << EMPTY)
		load_empty(empty_path);
	for (int variant = 0; variant < VARIANTS; variant++)
		if (is_guard(variant) && wanted & 1u << variant)
			load_guard(variant, program, table_size);
}

void unload_variants(const char *program)
{
	for (int variant = 0; variant < VARIANTS; variant++) {
		const char *state = state_folder(variant, getpid());
		const char *arguments[] = {program, "detach", "--all", NULL};

		if (!access(state, F_OK))
			run_tupleguard(program, state, arguments);
	}
}

/* ---- memory ---- */

/* proc_pid_fdinfo(5) of a map has a line "memlock: BYTES". */
static unsigned long map_memory(int map)
{
	char path[64], line[128];
	unsigned long bytes = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", map);
	file = fopen(path, "r");
	if (!file)
		die("cannot read %s", path);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "memlock: %lu", &bytes) == 1)
			break;
	fclose(file);
	return bytes;
}

unsigned long discovery_memory(void)
{
	enum { MOST_MAPS = 64 };
	__u32 seen[MOST_MAPS], ids[MOST_MAPS], count = 0;
	unsigned long bytes = 0;

	for (int i = 0; i < loaded[DISCOVERY].count; i++) {
		struct bpf_prog_info info = {.nr_map_ids = MOST_MAPS, .map_ids = (uintptr_t)ids};
		__u32 length = sizeof(info), known;

		if (bpf_obj_get_info_by_fd(loaded[DISCOVERY].hooks[i].program, &info, &length))
			die("cannot ask the kernel about a program");
		for (__u32 j = 0; j < info.nr_map_ids && count < MOST_MAPS; j++) {
			int map;

			for (known = 0; known < count && seen[known] != ids[j]; known++)
				;
			if (known < count)
				continue;
			seen[count++] = ids[j];
			map = bpf_map_get_fd_by_id(ids[j]);
			if (map < 0)
				die("cannot open a map");
			bytes += map_memory(map);
			close(map);
		}
	}
	return bytes;
}

/* ---- attaching ---- */

void attach_variant(enum variant variant)
{
	struct loaded *it = &loaded[variant];

	for (int i = 0; i < it->count; i++) {
		it->hooks[i].link = bpf_link_create(it->hooks[i].program, it->hooks[i].target,
						    it->hooks[i].hook, NULL);
		if (it->hooks[i].link < 0)
			die("cannot attach the variant \"%s\"", variant_names[variant].title);
	}
}

void detach_variant(enum variant variant)
{
	struct loaded *it = &loaded[variant];

	for (int i = 0; i < it->count; i++) {
		/* At once, and not when the kernel gets round to it after the last close. */
		if (bpf_link_detach(it->hooks[i].link))
			die("cannot detach the variant \"%s\"", variant_names[variant].title);
		close(it->hooks[i].link);
	}
}

/* ---- programs of others ---- */

static int foreign;

static int count_programs(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	static const enum bpf_attach_type hooks[] = {BPF_CGROUP_INET4_CONNECT,
						     BPF_CGROUP_INET6_CONNECT};
	int cgroup = kind == FTW_D ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	(void)status;
	(void)place;
	if (cgroup < 0)
		return 0;
	for (size_t i = 0; i < sizeof(hooks) / sizeof(*hooks); i++) {
		__u32 flags = 0, count = 0;

		if (!bpf_prog_query(cgroup, hooks[i], 0, &flags, NULL, &count))
			foreign += (int)count;
	}
	close(cgroup);
	return 0;
}

int foreign_programs(void)
{
	foreign = 0;
	nftw(cgroup2_path(), count_programs, 16, FTW_PHYS | FTW_MOUNT);
	return foreign;
}
