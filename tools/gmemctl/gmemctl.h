/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEMCTL_H
#define _GMEMCTL_H

#include <json-c/json.h>
#include <libkmod.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "../../gmemfd/uapi/gmemfd.h"

#define DEVICE		"/dev/gmemfd"
#define MODULE		"gmemfd"
#define SHIM_SYMBOL	"gmem_shim_register"
#define SHIM_MODULE	"gmemfd_shim"
#define PAGE		4096ULL

/* Exit status */
#define EXIT_USAGE	2

extern bool as_json;

/* gmemctl.c: text, sizes, JSON */
char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *read_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
long long read_number(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
const char *size_text(uint64_t bytes);
void make_printable(char *text);
const char *kernel_release(void);
bool use_colour(void);
void put_string(struct json_object *object, const char *key, const char *value);
void put_size(struct json_object *object, const char *key, uint64_t value);
void put_bool(struct json_object *object, const char *key, bool value);
void print_json(struct json_object *object);

/* What a command says when it fails: an explanation, and what to do about it. */
struct reason {
	char *why;
	char *advice;
};

int fail(const char *command, struct reason *reason, struct json_object *more);

/* kernel.c: what the running kernel has */
enum answer { NO, YES, UNKNOWN };

struct symbol {
	char *name;
	uint64_t version;		/* CONFIG_MODVERSIONS; 0: none */
	enum answer found;
};

/* The symbols of the running kernel and its modules; UNKNOWN: it does not say. */
void find_symbols(struct symbol *symbols, size_t nr);
enum answer kernel_has_shim(void);
enum answer kernel_function(const char *name);
bool device_info(struct gmemfd_info *info);
int kernel_shim_abi(const char **source);
char *other_kernels(void);
bool signatures_enforced(const char **how);
bool have_capability(int cap);

/* module.c: gmemfd.ko, and gmemfd_shim.ko where the kernel has no shim; by libkmod */
struct module {
	struct kmod_ctx *ctx;
	struct kmod_module *mod;	/* NULL: none for this kernel */
	struct kmod_module *shim;	/* the same */
	bool loaded;
	const char *path;
	char *version, *vermagic, *srcversion, *signer;
	int shim_abi;			/* -1: does not say */
};

void module_find(struct module *module);
void module_drop(struct module *module);
bool module_is_foreign(const struct module *module);
char *how_to_build(void);
bool shim_is_loaded(const struct module *module);
char *shim_refusal(const struct module *module);
const char *refusal_advice(const char *refusal);
void why_no_module(struct reason *reason);
struct symbol *module_needs(struct kmod_module *mod, size_t *nr);
void find_in_module(struct kmod_module *mod, struct symbol *symbols, size_t nr);
int cmd_load(void);
int cmd_unload(void);

/* files.c: gmem files on the machine */
#define NR_ORDERS	32

struct holder {
	pid_t pid;
	uid_t uid;
	char comm[32];
	int fd;				/* -1: a mapping, its fd closed */
};

/* What statfs() says of a gmem file: "gmem". */
#define GMEMFD_MAGIC	0x676d656d

struct gmem_file {
	dev_t dev;
	ino_t ino;
	char *path;			/* NULL if it has no name that is known */
	uint64_t size, block_size, flags, allocated, private, secret, shared;
	bool has_size, has_state, has_ranges;
	uint64_t folios[NR_ORDERS];	/* bytes by order */
	struct holder *holders;
	size_t nr_holders;
};

struct scan {
	struct gmem_file *files;
	size_t nr_files;
	struct holder *openers;		/* of the device */
	size_t nr_openers;
	dev_t *mounts;			/* of type gmemfd */
	size_t nr_mounts;
	unsigned int hidden;		/* processes that may not be looked into */
};

void scan_machine(struct scan *scan);
void scan_free(struct scan *scan);
struct json_object *holder_json(const struct holder *holder);
int borrow_gmem_fd(pid_t pid, int fd);
bool is_gmem_link(pid_t pid, int fd, char *link, size_t size);
/* Calls @each for every range; returns 0 or -errno. */
int for_each_range(int fd, uint64_t from, uint64_t to,
		   void (*each)(const struct gmemfd_range *range, void *arg), void *arg);
int cmd_ls(void);

/* map.c, doctor.c */
int cmd_map(pid_t pid, int fd, const char *path, uint64_t offset, uint64_t size);
int cmd_doctor(void);

#endif /* _GMEMCTL_H */
