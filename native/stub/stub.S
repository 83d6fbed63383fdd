/*
 * The stub: the only code of ours in a guest address space (DESIGN §5). Entry points are at fixed offsets that the
 * sentry and the seccomp filter know (protocol.h). Assembly where code runs without a stack.
 *
 * Hostile guest code may jump anywhere in here and may overwrite every writable page of ours: all it can reach is what
 * the filter allows for this page, and none of that opens, names or shares anything.
 */
	.section .text.entry, "ax"
	/* +0x00: the zygote waits here until the sentry has attached. */
	.globl _start
_start:
	mov	$34, %eax		/* pause */
	syscall
	jmp	_start

	/* +0x10: one host call, arguments in registers; the trap returns to the tracer. */
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

	/* +0x60: return address of signal handlers (the kernel insists on one; slot_resume does the work). */
	.org	0x60
stub_restorer:
	mov	$15, %eax		/* rt_sigreturn */
	syscall
	int3

	/* +0x70: the signal handler of all traps. */
	.org	0x70
stub_handler:
	jmp	slot_trap

	/* +0x80: where the zygote enters the protocol: any trapped call will do. */
	.org	0x80
stub_enter:
	mov	$39, %eax		/* getpid */
	syscall
	jmp	stub_enter

	.text
	/*
	 * long stub_fork(flags rdi, slot rsi, offset rdx): clones a process. The child must not touch its slot before it
	 * is its own: until then the page is the parent's, and the parent is using it as a stack.
	 */
	.globl stub_fork
stub_fork:
	push	%rbx
	push	%r12
	mov	%rsi, %rbx
	mov	%rdx, %r12
	xor	%esi, %esi
	xor	%edx, %edx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	mov	$56, %eax		/* clone */
	syscall
	test	%rax, %rax
	jz	1f
	pop	%r12
	pop	%rbx
	ret
1:	mov	$0x7fff80000000, %rdi	/* ARENA_BASE */
	mov	$0x40000000, %rsi	/* ARENA_SIZE */
	mov	$11, %eax		/* munmap: the slots of the parent's threads */
	syscall
	mov	%rbx, %rdi
	mov	$0x10000, %rsi		/* SLOT_SIZE */
	mov	$3, %edx		/* PROT_READ | PROT_WRITE */
	mov	$0x8011, %r10d		/* MAP_SHARED | MAP_FIXED | MAP_POPULATE */
	mov	$5, %r8d		/* DONATED_FD */
	mov	%r12, %r9
	mov	$9, %eax		/* mmap: our own slot, handed over by the sentry */
	syscall
	cmp	%rbx, %rax
	jne	2f
	mov	$5, %edi
	mov	$3, %eax		/* close */
	syscall
	mov	$1, %edi		/* PR_SET_PDEATHSIG: no stub outlives the sentry */
	mov	$9, %esi
	mov	$157, %eax		/* prctl */
	syscall
	mov	48(%rbx), %rsp		/* slot->stack */
	mov	%rbx, %rdi
	jmp	slot_child
2:	mov	$60, %eax		/* exit: the sentry gave up */
	mov	$1, %edi
	syscall
	int3

	/* long stub_thread(flags rdi, slot rsi, stack rdx): clones a thread that starts in its own slot. */
	.globl stub_thread
stub_thread:
	push	%rbx
	mov	%rsi, %rbx
	mov	%rdx, %rsi
	xor	%edx, %edx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	mov	$56, %eax		/* clone */
	syscall
	test	%rax, %rax
	jz	1f
	pop	%rbx
	ret
1:	mov	%rbx, %rdi
	jmp	slot_thread

	/* void slot_return(context rdi): back to guest code through the signal frame. */
	.globl slot_return
slot_return:
	mov	%rdi, %rsp
	mov	$15, %eax		/* rt_sigreturn */
	syscall
	int3

	/* The operation page: scratch for the sentry. */
	.data
	.space	4096

	.section .note.GNU-stack,"",@progbits
