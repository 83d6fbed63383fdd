/*
 * ahead RECIPE NODE… CLI.cjs WORDS…: becomes NODE; where WORDS start a usual virtual machine, its QEMU has then been started, as
 * the last one was: it takes 45 ms until it runs anything, which Node's own start hides. C because it is there before Node.
 *
 * RECIPE (native/ahead.ts writes it): strings with a NUL each: a file to open, what to say to descriptor 6, the first user id, then
 * the command, with {ID} for the id of the user that is ours. What the CLI finds: FIRST_FD and on.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MAX_RECIPE = 65536,
	MAX_WORDS = 1024,
	/* A memfd with QEMU's pid and the recipe; our ends of its 3, 4 and 6; its 5, and the other end of that. */
	FIRST_FD = 40,
	OUTCOMES = 6,
};

static char recipe[MAX_RECIPE + 1];

/* `do` without any word about how its virtual machine is to be. The command is the first word that is no option, nor one's value. */
static int is_usual(char **words)
{
	int vm = 0;

	for (const char *before = ""; *words; before = *words++) {
		if (!strncmp(*words, "--microvm-", 10))
			return 0;
		vm |= !strcmp(*words, "--platform=microvm");
		if (!strcmp(*words, "do"))
			return vm;
		if (**words != '-' && (*before != '-' || strchr(before, '=')))
			return 0;
	}
	return 0;
}

/* The command's words, as many as there are; 0: it is none. */
static int read_recipe(const char *path, size_t *length, char **opens, char **says, long *first_id, char *argv[MAX_WORDS])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), count = 0;
	ssize_t n = fd < 0 ? 0 : read(fd, recipe, MAX_RECIPE);

	if (fd >= 0)
		close(fd);
	if (n <= 0 || n == MAX_RECIPE || recipe[n - 1])
		return 0;
	*length = n;
	char *at = recipe;
	for (int i = 0; at < recipe + n && count < MAX_WORDS - 1; i++, at += strlen(at) + 1) {
		if (i == 0)
			*opens = at;
		else if (i == 1)
			*says = at;
		else if (i == 2)
			*first_id = atol(at);
		else
			argv[count++] = at;
	}
	argv[count] = NULL;
	return count;
}

/* In the child: `word` with the id for each {ID}. */
static char *with_id(const char *word, long id)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	for (const char *at; out && (at = strstr(word, "{ID}")); word = at + 4)
		fprintf(out, "%.*s%ld", (int)(at - word), word, id);
	if (!out || fputs(word, out) < 0 || fclose(out))
		_exit(127);
	return text;
}

static void start(const char *path)
{
	static char *argv[MAX_WORDS];
	char *opens = "", *says = "";
	int pairs[4][2]; /* agent, console, files, control */
	struct stat error;
	size_t length;
	long first_id = 0;

	if (!read_recipe(path, &length, &opens, &says, &first_id, argv))
		return;
	int opened = open(opens, O_RDONLY | O_CLOEXEC), nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	int note = memfd_create("tssandbox-ahead", MFD_CLOEXEC);
	for (int i = 0; i < 4; i++)
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]))
			return;
	if (opened < 0 || nothing < 0 || note < 0 || write(pairs[3][0], says, strlen(says)) < 0 || fstat(2, &error))
		return;
	/* A terminal is nothing for it: whoever takes it over could type there. */
	int theirs[] = { nothing, nothing, S_ISCHR(error.st_mode) ? nothing : 2, pairs[0][1], pairs[1][1], pairs[2][1], pairs[3][1], opened };
	enum { THEIRS = sizeof theirs / sizeof *theirs };
	long id = first_id + getpid();
	pid_t pid = fork();
	if (pid == 0) {
		for (int i = 0; i < THEIRS; i++)
			if ((theirs[i] = fcntl(theirs[i], F_DUPFD_CLOEXEC, FIRST_FD)) < 0)
				_exit(127);
		for (int i = 0; i < THEIRS; i++)
			dup2(theirs[i], i);
		for (int i = 0; argv[i]; i++)
			if (strstr(argv[i], "{ID}"))
				argv[i] = with_id(argv[i], id);
		execve(argv[0], argv, &argv[MAX_WORDS - 1]);
		_exit(127);
	}
	char number[16];
	int n = snprintf(number, sizeof number, "%d", pid) + 1;
	if (pid > 0 && write(note, number, n) == n && write(note, recipe, length) == (ssize_t)length) {
		int ours[OUTCOMES] = { note, pairs[0][0], pairs[1][0], pairs[3][0], pairs[2][1], pairs[2][0] };
		for (int i = 0; i < OUTCOMES; i++)
			if (ours[i] >= FIRST_FD || dup2(ours[i], FIRST_FD + i) < 0)
				kill(pid, SIGKILL);
	} else if (pid > 0)
		kill(pid, SIGKILL);
}

int main(int argc, char **argv)
{
	int script = 2;

	if (argc < 3)
		return 128;
	while (script < argc && !strstr(argv[script], ".cjs"))
		script++;
	if (script < argc && is_usual(argv + script + 1))
		start(argv[1]);
	execv(argv[2], argv + 2);
	perror(argv[2]);
	return 128;
}
