// SPDX-License-Identifier: Apache-2.0
/*
 * Results, as lines to read or as one JSON object, and complaints. Names are
 * those of the JSON object; as lines, '_' becomes a space. No value needs
 * escaping.
 */
#include "stress.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	int number;
	const char *name;
} errors[] = {
    {EPERM, "EPERM"},
    {EACCES, "EACCES"},
    {EADDRINUSE, "EADDRINUSE"},
    {EADDRNOTAVAIL, "EADDRNOTAVAIL"},
    {EAGAIN, "EAGAIN"},
    {EBUSY, "EBUSY"},
    {EINVAL, "EINVAL"},
    {ENETUNREACH, "ENETUNREACH"},
    {EHOSTUNREACH, "EHOSTUNREACH"},
    {EAFNOSUPPORT, "EAFNOSUPPORT"},
    {ECONNREFUSED, "ECONNREFUSED"},
    {ENOBUFS, "ENOBUFS"},
    {ENOMEM, "ENOMEM"},
};

const char *errno_name(int error)
{
	static char unknown[32];

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].number == error)
			return errors[i].name;
	snprintf(unknown, sizeof(unknown), "errno %d", error);
	return unknown;
}

int errno_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (!strcmp(errors[i].name, name))
			return errors[i].number;
	return 0;
}

static void print_name(struct report *report, const char *name)
{
	if (report->json) {
		printf("%s\"%s\": ", report->needs_comma ? ", " : "", name);
		report->needs_comma = true;
		return;
	}
	for (; *name; name++)
		putchar(*name == '_' ? ' ' : *name);
	printf(": ");
}

void report_begin(struct report *report, bool json, const char *mode)
{
	*report = (struct report){.json = json};
	if (json)
		putchar('{');
	report_text(report, "mode", mode);
}

void report_number(struct report *report, const char *name, uint64_t value)
{
	print_name(report, name);
	printf("%llu%s", (unsigned long long)value, report->json ? "" : "\n");
}

void report_text(struct report *report, const char *name, const char *value)
{
	print_name(report, name);
	printf(report->json ? "\"%s\"" : "%s\n", value);
}

void report_open(struct report *report, const char *name)
{
	print_name(report, name);
	if (report->json)
		putchar('{');
	else
		putchar('\n');
	report->needs_comma = false;
}

void report_close(struct report *report)
{
	if (report->json)
		putchar('}');
	report->needs_comma = true;
}

void report_end(struct report *report)
{
	if (report->json)
		puts("}");
	fflush(stdout);
}

void fail(enum exit_status status, const char *format, ...)
{
	va_list arguments;

	fflush(stdout);
	fputs("tupleguard-stress: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(status);
}
