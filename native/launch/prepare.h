#ifndef PREPARE_H
#define PREPARE_H

#include <stdbool.h>

enum { EXIT_USAGE = 125, EXIT_STEP = 126, EXIT_EXEC = 127 };

/*
 * Does what the options of argv (launch.c says which) ask for, in this process, which must have one thread. Returns the
 * index of the first word that is no option, and `--argv0` if it was given. A step that fails ends the process with one
 * line on stderr.
 *
 * `in_place`: no exec follows, so also what exec would have done: capabilities outside the bounding set go, every kept
 * descriptor above 2 is close-on-exec, and the environment that this process was started with is wiped. SIGPIPE is
 * ignored, as Node has it.
 */
int prepare(int argc, char **argv, const char **argv0, bool in_place);

void __attribute__((noreturn, format(printf, 2, 3))) die(int code, const char *format, ...);

#endif
