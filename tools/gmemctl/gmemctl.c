// SPDX-License-Identifier: GPL-2.0
/*
 * gmemctl: can this kernel run gmemfd, load it, and what is in its files.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "gmemctl.h"

bool as_json;

/**
 * format - a text of its own
 * @fmt: as for printf()
 *
 * Return: what the caller may free(); the program ends if there is no memory.
 */
char *format(const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	return text;
}

/**
 * read_text - the contents of a file
 * @fmt: its path, as for printf()
 *
 * Return: what the caller may free(), without trailing newlines, or NULL.
 */
char *read_text(const char *fmt, ...)
{
	size_t len = 0, room = 0;
	char *path, *text = NULL;
	va_list ap;
	ssize_t n;
	int fd;

	va_start(ap, fmt);
	if (vasprintf(&path, fmt, ap) < 0)
		abort();
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	free(path);
	if (fd < 0)
		return NULL;
	do {
		if (room - len < 4096) {
			room += 65536;
			text = realloc(text, room);
			if (!text)
				abort();
		}
		n = read(fd, text + len, room - len - 1);
		if (n > 0)
			len += n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	while (len && text[len - 1] == '\n')
		len--;
	text[len] = '\0';
	return text;
}

/**
 * read_number - the number that a file holds
 * @fmt: its path, as for printf()
 *
 * Return: the number, or -1 if there is none.
 */
long long read_number(const char *fmt, ...)
{
	long long value = -1;
	char *path, *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&path, fmt, ap) < 0)
		abort();
	va_end(ap);
	text = read_text("%s", path);
	if (text && isdigit((unsigned char)*text))
		value = strtoll(text, NULL, 10);
	free(text);
	free(path);
	return value;
}

/**
 * size_text - a size, exactly, in the largest unit that it is a multiple of
 * @bytes: the size
 *
 * Return: one of a few buffers that take turns.
 */
const char *size_text(uint64_t bytes)
{
	static const char * const units[] = { "", " KiB", " MiB", " GiB", " TiB" };
	static char buffers[16][32];
	static unsigned int turn;
	char *buf = buffers[turn++ % 16];
	unsigned int unit = 0;

	while (bytes && !(bytes % 1024) && unit < 4) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, sizeof(buffers[0]), "%llu%s", (unsigned long long)bytes, units[unit]);
	return buf;
}

/**
 * make_printable - what others chose, fit for a terminal and for JSON
 * @text: names of processes and the like
 */
void make_printable(char *text)
{
	bool valid = mbstowcs(NULL, text, 0) != (size_t)-1 &&
		     !strcmp(nl_langinfo(CODESET), "UTF-8");

	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		/* C1 controls are 0xc2 0x80..0x9f. */
		bool c1 = *p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f;

		if (*p < ' ' || *p == 0x7f || (*p >= 0x80 && !valid))
			*p = '?';
		else if (c1)
			p[0] = p[1] = '?';
	}
}

/**
 * kernel_release - uname -r
 */
const char *kernel_release(void)
{
	static struct utsname uts;

	if (!*uts.release)
		uname(&uts);
	return uts.release;
}

/**
 * use_colour - is there somebody who sees and wants it?
 */
bool use_colour(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return !as_json && !(no_color && *no_color) && isatty(STDOUT_FILENO) &&
	       !(term && !strcmp(term, "dumb"));
}

/* JSON: NULL values are null. */

void put_string(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, value ? json_object_new_string(value) : NULL);
}

void put_size(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

void put_bool(struct json_object *object, const char *key, bool value)
{
	json_object_object_add(object, key, json_object_new_boolean(value));
}

/**
 * print_json - what --json prints; drops the object
 * @object: the object
 */
void print_json(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

/**
 * fail - say why something did not work
 * @command: the command
 * @reason: why, and what to do; freed
 * @more: for JSON, or NULL; dropped
 *
 * Return: the program's exit status.
 */
int fail(const char *command, struct reason *reason, struct json_object *more)
{
	if (as_json) {
		struct json_object *object = more ?: json_object_new_object();

		put_bool(object, "ok", false);
		put_string(object, "reason", reason->why);
		put_string(object, "advice", reason->advice);
		print_json(object);
	} else {
		json_object_put(more);
		fprintf(stderr, "gmemctl %s: %s\n", command, reason->why);
		if (reason->advice)
			fprintf(stderr, "  -> %s\n", reason->advice);
	}
	free(reason->why);
	free(reason->advice);
	return EXIT_FAILURE;
}

static const char help[] =
"Usage: gmemctl [--json] COMMAND\n"
"\n"
"  doctor       say whether this kernel can run gmemfd, and what is missing\n"
"  load         load the module gmemfd, or say why that does not work\n"
"  unload       unload it, or say who uses it\n"
"  ls           list the gmem files on this machine\n"
"  map PID FD   draw what is private, secret, shared and a hole in fd FD of PID\n"
"  map PATH     the same of a file that has a name\n"
"    --offset BYTES, --size BYTES   only this part of it (suffixes K, M, G, T)\n"
"\n"
"  --json       print JSON\n"
"  --help       print this\n"
"  --version    print the version\n"
"\n"
"Exit status: 0 all is well, 1 it is not, 2 wrong usage.  See gmemctl(8).\n";

__attribute__((format(printf, 1, 2)))
static int usage(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("gmemctl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputs("; see gmemctl --help\n", stderr);
	va_end(ap);
	return EXIT_USAGE;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	return isdigit((unsigned char)*text) && !errno && !*end && *value <= max;
}

/* Bytes, in whole pages. */
static bool parse_size(const char *text, uint64_t *value)
{
	static const char units[] = "KMGT";
	char *digits = strdup(text), *unit = NULL;
	unsigned int shift = 0;
	size_t len = strlen(text);
	bool ok;

	if (!digits)
		abort();
	if (len > 1)
		unit = strchr(units, toupper((unsigned char)digits[len - 1]));
	if (unit && *unit) {
		shift = 10 * (unit - units + 1);
		digits[len - 1] = '\0';
	}
	ok = parse_number(digits, INT64_MAX >> shift, value);
	free(digits);
	*value <<= shift;
	return ok && !(*value % PAGE);
}

enum { OPT_JSON = 256, OPT_HELP, OPT_VERSION, OPT_OFFSET, OPT_SIZE };

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json",	no_argument,		NULL, OPT_JSON },
		{ "help",	no_argument,		NULL, OPT_HELP },
		{ "version",	no_argument,		NULL, OPT_VERSION },
		{ "offset",	required_argument,	NULL, OPT_OFFSET },
		{ "size",	required_argument,	NULL, OPT_SIZE },
		{ }
	};
	static const struct {
		const char *name;
		int (*run)(void);
		int nr_args;
	} commands[] = {
		{ "doctor", cmd_doctor, 0 },
		{ "load", cmd_load, 0 },
		{ "unload", cmd_unload, 0 },
		{ "ls", cmd_ls, 0 },
		{ "map", NULL, 2 },
	};
	uint64_t offset = 0, size = UINT64_MAX, pid, fd;
	bool part = false;
	int opt;

	setlocale(LC_CTYPE, "");
	while ((opt = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
		switch (opt) {
		case OPT_JSON:
			as_json = true;
			break;
		case 'h':
		case OPT_HELP:
			fputs(help, stdout);
			return EXIT_SUCCESS;
		case 'V':
		case OPT_VERSION:
			puts("gmemctl " GMEMCTL_VERSION);
			return EXIT_SUCCESS;
		case OPT_OFFSET:
			part = true;
			if (!parse_size(optarg, &offset))
				return usage("--offset wants bytes, in pages of 4096");
			break;
		case OPT_SIZE:
			part = true;
			if (!parse_size(optarg, &size) || !size)
				return usage("--size wants bytes, in pages of 4096");
			break;
		default:
			return EXIT_USAGE;
		}
	}
	argv += optind;
	argc -= optind;
	if (!argc)
		return usage("what shall I do?");
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(argv[0], commands[i].name))
			continue;
		if (!commands[i].run && argc == 2 && strchr(argv[1], '/'))
			return cmd_map(0, -1, argv[1], offset, size);
		if (argc - 1 != commands[i].nr_args)
			return usage("%s takes %s", argv[0],
				     commands[i].nr_args ? "PID and FD, or a path" : "no arguments");
		if (commands[i].run)
			return part ? usage("--offset and --size are for map") :
			       commands[i].run();
		if (!parse_number(argv[1], INT32_MAX, &pid) || !pid ||
		    !parse_number(argv[2], INT32_MAX, &fd))
			return usage("map takes PID and FD, which are numbers");
		return cmd_map(pid, fd, NULL, offset, size);
	}
	return usage("%s: no such command", argv[0]);
}
