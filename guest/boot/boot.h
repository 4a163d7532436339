/*
 * Init. In the initramfs it mounts what programs need, loads the modules, and moves to the
 * read-only root; there, started anew so that the initramfs can be freed, it starts the agent and
 * keeps a shell on the console. It never ends: it reaps, restarts the shell, and powers off.
 *
 * This is C because a fork and exec of a shell tool costs some ten milliseconds of emulated time,
 * and a boot would need forty of them.
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Where our programs lie in the initramfs, and after the move to the root. */
#define BOOT_PROGRAMS	"/mmscope"
#define ROOTED_PROGRAMS "/run/mmscope/bin"

/* Process 1; rooted once the move is done. Returns only when it is not process 1. */
int boot_main(bool rooted);

/* console.c: what people and the host see. */

/* Makes /dev/console the standard input, output and error. */
void console_open(void);

/* One whole line on the console. */
__attribute__((format(printf, 1, 2))) void console_say(const char *format, ...);

/* "mmscope: failed: what: reason of errno", which the host recognises. */
__attribute__((format(printf, 1, 2))) void console_failed(const char *format, ...);

/* Starts the shell on the terminal behind the console; its pid, or -1. */
pid_t console_shell(const char *busybox);

/* cmdline.c: value of "key=value" on the kernel's command line; false when it is not there. */
bool cmdline_value(const char *key, char *value, size_t size);

/* modules.c: loads the modules that a file lists by name, in that order. */
void modules_load(const char *directory, const char *order_name);

/* root.c: fills a mounted root with what changes, and makes it the root of everything. */

/* Mounts what the running system needs over the read-only root. False: it said why. */
bool root_populate(const char *root);

/* Frees the initramfs and moves to the root. False: it said why. */
bool root_switch(const char *root);

/* mounts.c */

/* Mounts a file system, making its mount point if need be. False: it said why. */
bool mount_at(const char *type, const char *source, const char *target, unsigned long flags,
	      const char *options);

/* network.c: brings up the loopback. False: it said why. */
bool network_loopback(void);

#endif
