// SPDX-License-Identifier: Apache-2.0
/*
 * What is compared. All programs are loaded once, and attached only while
 * their block is timed: where nothing is attached, the kernel patches the
 * hooks out of its code, and that is what "no program" has to mean.
 */
#define _GNU_SOURCE
#include "bench.h"

#include "../../../bpf/guard_abi.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct variant_name variant_names[ALL_VARIANTS] = {
    [BARE] = {"no program", "bare"},
    [EMPTY] = {"empty programs", "empty"},
    [LOOK_UP_ONLY] = {"look-up only", "look_up_only"},
    [GUARD] = {"guard", "guard"},
    [GUARD_LOOKING_UP] = {"guard --look-up", "guard_look_up"},
    [DISCOVERY] = {"guard --discover", "discovery"},
};

enum { HOOKS = 5 };

struct loaded {
	struct bpf_program *programs[HOOKS];
	struct bpf_link *links[HOOKS];
	int count;
};

static struct loaded loaded[ALL_VARIANTS];
static struct bpf_object *discovering;
static int target;

bool is_guard(enum variant variant)
{
	return variant == GUARD || variant == GUARD_LOOKING_UP;
}

static bool is_hook(const struct bpf_program *program)
{
	enum bpf_prog_type type = bpf_program__type(program);

	return type == BPF_PROG_TYPE_CGROUP_SOCK_ADDR || type == BPF_PROG_TYPE_CGROUP_SOCK;
}

/* Opens an object, of whose programs only the hooks named `prefix`… are wanted. */
static struct bpf_object *open_object(const char *path, const char *prefix, struct loaded *into)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;

	if (!object)
		die("cannot open %s", path);
	bpf_object__for_each_program(program, object)
	{
		const char *name = bpf_program__name(program);

		if (!is_hook(program) || strncmp(name, prefix, strlen(prefix)) ||
		    into->count == HOOKS)
			bpf_program__set_autoload(program, false);
		else
			into->programs[into->count++] = program;
	}
	if (!into->count) {
		errno = 0;
		die("%s has no programs named %s…", path, prefix);
	}
	return object;
}

static void load_object(struct bpf_object *object, const char *path)
{
	int error = bpf_object__load(object);

	errno = -error;
	if (error)
		die("cannot load %s", path);
}

/* Where in the read-only data `policy` is: constants of other kinds may stand before it. */
static __u32 policy_offset(const struct bpf_object *object)
{
	const struct btf *btf = bpf_object__btf(object);
	int id = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
	const struct btf_type *section = id < 0 ? NULL : btf__type_by_id(btf, id);
	const struct btf_var_secinfo *variable = section ? btf_var_secinfos(section) : NULL;

	for (int i = 0; section && i < btf_vlen(section); i++, variable++) {
		const struct btf_type *type = btf__type_by_id(btf, variable->type);

		if (!strcmp(btf__name_by_offset(btf, type->name_off), "policy") &&
		    variable->size == sizeof(struct tg_policy))
			return variable->offset;
	}
	errno = 0;
	die("the guard has no policy of the size expected; was it built from the same sources?");
}

static void set_policy(struct bpf_object *object, const struct tg_policy *policy)
{
	__u32 offset = policy_offset(object);
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		size_t size = 0;
		char *data = (char *)bpf_map__initial_value(map, &size);

		/* Its full name begins with as much of the object's as there is room for. */
		if (!strstr(bpf_map__name(map), ".rodata") || offset + sizeof(*policy) > size)
			continue;
		memcpy(data + offset, policy, sizeof(*policy));
		return;
	}
}

static void set_table_size(struct bpf_object *object, unsigned size)
{
	const char *const tables[] = {"buckets", "groups", "claims_more", "socket_records",
				      "socket_records_more"};

	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, tables[i]);

		if (map && bpf_map__set_max_entries(map, size))
			die("cannot set the size of the map %s", tables[i]);
	}
}

static struct bpf_object *load_guard(enum variant variant, const char *path, unsigned table_size,
				     bool look_up, enum tg_discover discover)
{
	struct bpf_object *object = open_object(path, "guard_", &loaded[variant]);
	struct tg_policy policy = {
	    .attachment = 1,
	    .grace_ns = 1000000000,
	    .secret = random(),
	    .error = EPERM,
	    .look_up = look_up,
	    .table_mask = table_size - 1,
	    .discover = discover,
	    .exhausted = EADDRNOTAVAIL,
	};

	set_table_size(object, table_size);
	set_policy(object, &policy);
	load_object(object, path);
	return object;
}

void load_variants(const char *guard_path, const char *look_up_path, unsigned table_size,
		   int cgroup)
{
	target = cgroup;
	load_object(open_object(look_up_path, "empty_", &loaded[EMPTY]), look_up_path);
	load_object(open_object(look_up_path, "look_up_", &loaded[LOOK_UP_ONLY]), look_up_path);
	load_guard(GUARD, guard_path, table_size, false, TG_DISCOVER_OFF);
	load_guard(GUARD_LOOKING_UP, guard_path, table_size, true, TG_DISCOVER_OFF);
}

void load_discovery(const char *guard_path, unsigned table_size, int cgroup)
{
	target = cgroup;
	discovering = load_guard(DISCOVERY, guard_path, table_size, false, TG_DISCOVER_ALL);
}

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
	unsigned long bytes = 0;
	struct bpf_map *map;

	bpf_object__for_each_map(map, discovering) bytes += map_memory(bpf_map__fd(map));
	return bytes;
}

void attach_variant(enum variant variant)
{
	struct loaded *it = &loaded[variant];

	for (int i = 0; i < it->count; i++) {
		it->links[i] = bpf_program__attach_cgroup(it->programs[i], target);
		if (!it->links[i])
			die("cannot attach %s", bpf_program__name(it->programs[i]));
	}
}

void detach_variant(enum variant variant)
{
	struct loaded *it = &loaded[variant];

	for (int i = 0; i < it->count; i++) {
		/* At once, and not when the kernel gets round to it after the last close. */
		if (bpf_link__detach(it->links[i]))
			die("cannot detach %s", bpf_program__name(it->programs[i]));
		bpf_link__destroy(it->links[i]);
		it->links[i] = NULL;
	}
}
