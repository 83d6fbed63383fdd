/*
 * Preloaded into QEMU before 8.2: its memory-backend-file opens the file for writing even when it is to be mapped privately
 * (share=off), and keeps the descriptor. The file is the template of many VMs, and a QEMU that its guest has taken over
 * could then change them all. So the template, named by TSSANDBOX_TEMPLATE, is opened for reading; a private mapping needs
 * no more. QEMU 8.2 has readonly=on,rom=off for this. C because it has to be in QEMU's own address space.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int open64(const char *path, int flags, ...)
{
	const char *template = getenv("TSSANDBOX_TEMPLATE");
	mode_t mode = 0;

	if (flags & (O_CREAT | __O_TMPFILE)) {
		va_list ap;
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	if (template && !strcmp(path, template))
		flags = (flags & ~(O_ACCMODE | O_CREAT)) | O_RDONLY;
	return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* What fortified programs call. */
int __open64_2(const char *path, int flags)
{
	return open64(path, flags);
}

int open(const char *path, int flags, ...) __attribute__((alias("open64")));
