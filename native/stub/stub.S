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

	/* +0x90: from the entry of every patched site (protocol.h). */
	.org	0x90
stub_site:
	jmp	site_enter

	.text
	/* struct stub_slot; registers in the order of struct user_regs_struct. */
	.set	TRAP, 8
	.set	RESULT, 16
	.set	STACK, 160
	.set	INTERRUPTED, 128
	.set	REGS, 192
	.set	R10, REGS + 56
	.set	R9, REGS + 64
	.set	R8, REGS + 72
	.set	RDX, REGS + 96
	.set	RSI, REGS + 104
	.set	RDI, REGS + 112
	.set	RIP, REGS + 128
	.set	RSP, REGS + 152
	.set	SITE_STACK_TOP, 0x3000
	.set	SITE_RSP, SITE_STACK_TOP - 16
	.set	SITE_FLAGS, SITE_STACK_TOP - 24
	.set	SITE_RBX, SITE_STACK_TOP - 32
	.set	TRAP_INTERRUPT, 3

	/* Into the slot. A store that changes nothing would take the cache line from the CPU of the sentry, which reads it. */
	.macro	keep register, at
	cmp	\register, \at(%r11)
	je	.Lkept\@
	mov	\register, \at(%r11)
.Lkept\@:
	.endm

	/*
	 * A call from a patched site: GS is the slot, RCX the site's entry, everything else is as at the guest's syscall
	 * instruction, which destroys RCX and R11 too. The guest's stack and its red zone are not touched.
	 */
site_enter:
	rdgsbase %r11
	mov	%rsp, SITE_RSP(%r11)
	lea	SITE_RSP(%r11), %rsp
	pushfq
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	keep	%rdi, RDI
	keep	%rsi, RSI
	keep	%rdx, RDX
	mov	%rcx, %rdx
	keep	%r10, R10
	keep	%r8, R8
	keep	%r9, R9
	mov	SITE_RSP(%r11), %rcx
	keep	%rcx, RSP
	mov	SITE_FLAGS(%r11), %rcx
	cld
	mov	%r11, %rbx
	mov	%r11, %rdi
	mov	%rax, %rsi
	call	slot_site
	/*
	 * The way out. An interrupt that comes before this line sets INTERRUPTED; one that comes between here and the jump
	 * finds the guest's registers in the slot, RAX as `result`, and on this stack (slot_trap): none is lost.
	 */
	.globl site_leave
site_leave:
	cmpl	$0, INTERRUPTED(%rbx)
	jne	1f
	mov	RESULT(%rbx), %rax
	mov	RDI(%rbx), %rdi
	mov	RSI(%rbx), %rsi
	mov	RDX(%rbx), %rdx
	mov	R10(%rbx), %r10
	mov	R8(%rbx), %r8
	mov	R9(%rbx), %r9
	mov	RIP(%rbx), %rcx
	pushq	SITE_FLAGS(%rbx)
	popfq
	mov	SITE_FLAGS(%rbx), %r11
	mov	SITE_RSP(%rbx), %rsp
	mov	SITE_RBX(%rbx), %rbx
	jmp	*%rcx
	.globl site_leave_end
site_leave_end:
1:	movl	$TRAP_INTERRUPT, TRAP(%rbx)
	/* void site_frame(void): a trap for the signal frame's sake; the registers are in the slot. */
	.globl site_frame
site_frame:
	mov	$39, %eax		/* getpid */
	syscall
	.globl site_framed
site_framed:
	int3

	/*
	 * long copy_bytes(to rdi, from rsi, count rdx): 0, or −1 when memory is not there. slot_trap continues a fault
	 * between the labels at copy_failed.
	 */
	.globl copy_bytes
copy_bytes:
	mov	%rdx, %rcx
	.globl copy_start
copy_start:
	rep movsb
	xor	%eax, %eax
	ret
	/* long copy_string(to rdi, from rsi, size rdx): bytes with the NUL; 0 when it does not fit; −1 on a fault. */
	.globl copy_string
copy_string:
	xor	%ecx, %ecx
1:	cmp	%rdx, %rcx
	je	2f
	movzbl	(%rsi,%rcx), %eax
	mov	%al, (%rdi,%rcx)
	inc	%rcx
	test	%al, %al
	jnz	1b
	mov	%rcx, %rax
	ret
2:	xor	%eax, %eax
	ret
	/* long store_two(to rdi, bytes rsi): both bytes at once. */
	.globl store_two
store_two:
	mov	%si, (%rdi)
	xor	%eax, %eax
	ret
	.globl copy_end
copy_end:
	.globl copy_failed
copy_failed:
	cld
	mov	$-1, %rax
	ret

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
	mov	$0x11, %r10d		/* MAP_SHARED | MAP_FIXED */
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
	mov	STACK(%rbx), %rsp
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

	/*
	 * void stub_rest(slot rdi): leaves all that is on the stacks. Goes on at the end of the stack of patched sites, for a
	 * new signal frame is put where the old one is.
	 */
	.globl stub_rest
stub_rest:
	lea	SITE_STACK_TOP(%rdi), %rsp
	call	slot_rest

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
