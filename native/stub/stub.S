/*
 * The stub: the only code of ours in a guest address space (DESIGN §5). Assembly, because it runs without a stack and
 * its entry points are at fixed offsets that the sentry and the seccomp filter know.
 *
 * Hostile guest code may jump anywhere in here and may overwrite the operation page: all it can reach is what the
 * filter allows for this page, and none of that opens, names or shares anything.
 */
	.text
	/* +0x00: the zygote waits here until the sentry has attached. */
	.globl _start
_start:
	mov	$34, %eax		/* pause */
	syscall
	jmp	_start

	/* +0x10: one host call, arguments in registers; the trap returns to the sentry. */
	.org	0x10
stub_one:
	syscall
	int3

	/* +0x20: r13 operations at r12 (64 bytes each: number, six arguments); ends at the first error. */
	.org	0x20
stub_batch:
	mov	0(%r12), %rax
	mov	8(%r12), %rdi
	mov	16(%r12), %rsi
	mov	24(%r12), %rdx
	mov	32(%r12), %r10
	mov	40(%r12), %r8
	mov	48(%r12), %r9
	syscall
	cmp	$-4096, %rax
	ja	1f
	add	$64, %r12
	dec	%r13
	jnz	stub_batch
1:	int3

	/* The operation page: scratch for the sentry. */
	.data
	.space	4096
