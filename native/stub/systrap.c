/*
 * The stub's side of systrap (DESIGN §6, protocol.h): signal handler, and the loop in which a trapped thread waits for
 * the sentry's command. Freestanding C: it runs inside guest processes, where there is no library and no JavaScript.
 *
 * No writable globals, no thread-local storage, no SSE: the guest's state is in the signal frame and must survive.
 */
#include "answers.h"

#include <linux/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#define SYS_WRITE 1
#define SYS_SIGALTSTACK 131
#define SYS_FUTEX 202
#define SYS_EXIT 60
#define FUTEX_WAIT 0
#define SYSCALL_INSN 0x050f
#define ERESTARTSYS 512
#define ENOSYS 38
#define EFLAGS_TF 0x100UL

extern long stub_fork(uint64_t flags, struct stub_slot *slot, uint64_t offset);
extern long stub_thread(uint64_t flags, struct stub_slot *slot, uint64_t stack);
extern void slot_return(uint64_t context) __attribute__((noreturn));
extern void site_frame(void) __attribute__((noreturn));
extern void stub_rest(struct stub_slot *slot) __attribute__((noreturn));
extern long store_two(void *to, uint64_t bytes);
/* Places in stub.S, not data. */
extern const char site_leave[], site_leave_end[], site_framed[], copy_start[], copy_end[], copy_failed[];
static void slot_loop(struct stub_slot *slot, uint32_t trap) __attribute__((noreturn));

static inline uint64_t cycles(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (uint64_t)hi << 32;
}

struct published {
	uint64_t at;   /* time-stamp counter */
	uint32_t spin; /* cycles that it is worth while to wait busily for the answer */
};

/*
 * Gives the slot to the sentry. The exchange orders the store before the look at `sleeping`. Returns how long it is worth
 * while to spin for the answer: not at all where the sentry has to get this very CPU first, as one that is woken does.
 *
 * The sentry keeps looking at the line of `state`: all that goes there is stored here, at once.
 */
static struct published publish(struct stub_slot *slot, uint32_t trap, uint64_t nr, uint64_t flags, uint32_t entry)
{
	const volatile struct stub_control *control = (const void *)CONTROL_ADDR;
	uint32_t cpu;
	uint64_t now = cycles_on(&cpu, control->together);

	slot->computed = (uint32_t)now - slot->resumed_at;
	slot->trapped_at = now;
	slot->trap = trap;
	slot->nr = nr;
	slot->flags = flags;
	slot->entry = entry;
	slot->cpu = cpu;
	__atomic_exchange_n(&slot->state, STATE_TRAP, __ATOMIC_SEQ_CST);
	if (control->sleeping) {
		call6(SYS_WRITE, WAKE_FD, (long)&slot->row, sizeof(slot->row), 0, 0, 0);
		return (struct published){ now, control->cpu == cpu ? 0 : control->spin_woken };
	}
	return (struct published){ now, control->cpu == cpu ? 0 : control->spin };
}

/*
 * Waits for the sentry's command: spinning, since a wake-up across CPUs costs 20 µs, then asleep. Returns the time-stamp
 * counter, or what it was a look ago.
 */
static uint32_t wait_command(struct stub_slot *slot, const struct published *published)
{
	const struct stub_control *control = (const void *)CONTROL_ADDR;
	uint64_t start = published->at, now = start;
	uint32_t first = slot->waited - slot->waited / 8;

	if (first > control->first_look)
		first = control->first_look;
	if (published->spin != 0)
		while ((now = cycles()) - start < first)
			__builtin_ia32_pause();
	for (;;) {
		uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

		if (state == STATE_COMMAND) {
			/* What comes after the answer, if there is more of it. */
			__builtin_prefetch(&slot->out_count);
			__builtin_prefetch((const uint8_t *)slot + WINDOW_OUT_OFFSET);
			slot->obeyed = slot->order;
			slot->waited = now - start;
			return now;
		}
		if (state == STATE_ASLEEP) {
			call6(SYS_FUTEX, (long)&slot->state, FUTEX_WAIT, STATE_ASLEEP, 0, 0, 0);
			now = cycles();
			continue;
		}
		now = cycles();
		if (now - start < published->spin) {
			__builtin_ia32_pause();
			continue;
		}
		__atomic_compare_exchange_n(&slot->state, &state, STATE_ASLEEP, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
}

/* OP_STORE: how call sites are patched. */
static long store(const struct stub_op *op)
{
	void *to = (void *)op->args[0];
	uint64_t len = op->args[1];

	if (len > 32)
		return -EFAULT;
	return (len == 2 ? store_two(to, op->args[2]) : copy_bytes(to, &op->args[2], len)) < 0 ? -EFAULT : 0;
}

static long run_ops(struct stub_slot *slot)
{
	uint32_t count = slot->op_count;
	long ret = 0;

	for (uint32_t i = 0; i < count && i < MAX_STUB_OPS + 2; i++) {
		struct stub_op *op = &slot->ops[i];

		if (op->nr == OP_STORE)
			ret = store(op);
		else
			ret = call6(op->nr, op->args[0], op->args[1], op->args[2], op->args[3], op->args[4],
				    op->args[5]);
		if ((unsigned long)ret > -4096UL)
			break;
	}
	slot->result = ret;
	return (unsigned long)ret > -4096UL ? ret : 0;
}

/* The operations that came with the answer to the trap. 0, or -1: the guest cannot go on before the sentry knows. */
static int run_last_ops(struct stub_slot *slot)
{
	return slot->op_count == 0 || run_ops(slot) == 0 ? 0 : -1;
}

/* Whether the answer to the call, whose name is in the window, is known; it is in `result` then. */
static int recall(struct stub_slot *slot, uint64_t nr, uint32_t how)
{
	const struct stub_control *control = (const void *)CONTROL_ADDR;
	long result;

	if (!slot->answered)
		return 0;
	if (opened_answer(slot, nr) || action_answer(slot, nr) || clock_answer(slot, nr))
		return 1;
	if (nr < CALLS && control->checks[nr] != 0 && (result = known_answer(slot, control->checks[nr])) != 0) {
		slot->result = result;
		return 1;
	}
	return (how & CALL_MEMO) && memo_answer(slot, nr);
}

/* What no signal frame holds, and what is the same in every guest. */
static void save_bases(struct stub_slot *slot)
{
	uint64_t *r = slot->regs;
	uint64_t base;

	__asm__ volatile("rdfsbase %0" : "=r"(base));
	keep(r[FS_BASE], base);
	/* GS is ours: what the guest sees is 0, until it sets it. */
	__asm__ volatile("rdgsbase %0" : "=r"(base));
	keep(r[GS_BASE], base == slot->self ? 0 : base);
	keep(r[CS], 0x33);
	keep(r[SS], 0x2b);
	keep(r[DS], 0);
	keep(r[ES], 0);
	keep(r[FS], 0);
	keep(r[GS], 0);
}

/* Guest registers between the kernel's frame and the slot. */
static void save_regs(struct stub_slot *slot, const struct sigcontext *sc)
{
	uint64_t *r = slot->regs;

	keep(r[R8], sc->r8);
	keep(r[R9], sc->r9);
	keep(r[R10], sc->r10);
	keep(r[R11], sc->r11);
	keep(r[R12], sc->r12);
	keep(r[R13], sc->r13);
	keep(r[R14], sc->r14);
	keep(r[R15], sc->r15);
	keep(r[RDI], sc->rdi);
	keep(r[RSI], sc->rsi);
	keep(r[RBP], sc->rbp);
	keep(r[RBX], sc->rbx);
	keep(r[RDX], sc->rdx);
	keep(r[RAX], sc->rax);
	keep(r[RCX], sc->rcx);
	keep(r[RSP], sc->rsp);
	keep(r[RIP], sc->rip);
	keep(r[EFLAGS], sc->eflags);
	save_bases(slot);
}

static void load_regs(const struct stub_slot *slot, struct sigcontext *sc)
{
	const uint64_t *r = slot->regs;

	sc->r8 = r[R8];
	sc->r9 = r[R9];
	sc->r10 = r[R10];
	sc->r11 = r[R11];
	sc->r12 = r[R12];
	sc->r13 = r[R13];
	sc->r14 = r[R14];
	sc->r15 = r[R15];
	sc->rdi = r[RDI];
	sc->rsi = r[RSI];
	sc->rbp = r[RBP];
	sc->rbx = r[RBX];
	sc->rdx = r[RDX];
	sc->rax = r[RAX];
	sc->rcx = r[RCX];
	sc->rsp = r[RSP];
	sc->rip = r[RIP];
	sc->eflags = r[EFLAGS];
	__asm__ volatile("wrfsbase %0" : : "r"(r[FS_BASE]));
	__asm__ volatile("wrgsbase %0" : : "r"(r[GS_BASE] == 0 ? slot->self : r[GS_BASE]));
}

/* A command that is the same in every state. */
static void obey(struct stub_slot *slot)
{
	switch (slot->command) {
	case COMMAND_OPS:
		run_ops(slot);
		break;
	case COMMAND_FORK:
		slot->result = stub_fork(slot->args[0], slot, slot->args[1]);
		break;
	case COMMAND_THREAD: {
		struct stub_slot *child = (struct stub_slot *)slot->args[1];

		slot->result = stub_thread(slot->args[0], child, child->stack);
		break;
	}
	case COMMAND_REST:
		stub_rest(slot);
	case COMMAND_EXIT:
		call6(SYS_EXIT, 0, 0, 0, 0, 0, 0);
	}
}

/* The sentry has no turn, and is told nothing: it looks for this when it wants another thread. */
static struct published rest(struct stub_slot *slot)
{
	slot->used = used_cpu();
	__atomic_exchange_n(&slot->state, STATE_ASLEEP, __ATOMIC_SEQ_CST);
	return (struct published){ cycles(), 0 };
}

/*
 * Runs commands until the sentry lets guest code go on. Entered afresh for each trap, fork child and new thread: nothing
 * on the stack outlives it. TRAP_NONE: it rests.
 */
static void slot_loop(struct stub_slot *slot, uint32_t trap)
{
	for (;;) {
		struct published published = trap == TRAP_NONE ? rest(slot) : publish(slot, trap, 0, 0, 0);
		uint32_t now = wait_command(slot, &published);

		if (slot->command == COMMAND_RESUME) {
			struct ucontext *uc = (struct ucontext *)slot->context;

			if (run_last_ops(slot) < 0) {
				trap = TRAP_FAILED;
				continue;
			}
			load_regs(slot, &uc->uc_mcontext);
			if (slot->out_count != 0 && copy_out(slot) < 0)
				uc->uc_mcontext.rax = -EFAULT;
			slot->resumed_at = now;
			slot_return((uint64_t)uc);
		}
		obey(slot);
		if (trap == TRAP_NONE)
			trap = TRAP_INTERRUPT;
	}
}

/*
 * A call from a patched site (stub.S): no signal, no frame. Returns when the guest goes on, with its registers in the
 * slot. A hostile guest can come here with any registers: it is its own slot that it upsets.
 */
void __attribute__((used)) slot_site(struct stub_slot *slot, uint64_t nr, uint64_t entry, uint64_t flags)
{
	const struct stub_control *control = (const void *)CONTROL_ADDR;
	uint64_t *r = slot->regs, next = *(const uint64_t *)(entry + PATCH_RETURN);
	uint32_t how = nr < CALLS ? control->calls[nr] : 0;
	uint32_t answer = (how & CALL_ANSWER) >> 8, trap = TRAP_SYSCALL;

	keep(r[RCX], next);
	keep(r[RIP], next);
	if (how & CALL_DIRECT) {
		slot->result = nr;
		r[RIP] = entry + PATCH_CALL;
		return;
	}
	if (answer != 0 && slot->answered) {
		slot->result = slot->answers[(answer - 1) % 6];
		return;
	}
	copy_in(slot, how);
	if (recall(slot, nr, how))
		return;
	save_bases(slot);
	keep(slot->out_count, 0);
	keep(slot->memo, 0);
	keep(slot->interrupted, 0);
	for (;;) {
		struct published published = publish(slot, trap, nr, flags, entry);
		uint32_t now = wait_command(slot, &published);

		if (slot->command == COMMAND_RETURN) {
			uint64_t result = slot->result;

			if (run_last_ops(slot) < 0) {
				trap = TRAP_FAILED;
				continue;
			}
			keep(slot->result, result);
			if (slot->memo != 0)
				memo_keep(slot, nr);
			if (slot->out_count != 0 && copy_out(slot) < 0)
				slot->result = -EFAULT;
			slot->resumed_at = now;
			return;
		}
		if (slot->command == COMMAND_FRAME)
			site_frame();
		/* With all signals blocked: an interrupt for the next thread waits until it has begun. */
		if (slot->command == COMMAND_REST) {
			slot->trap = TRAP_NONE;
			site_frame();
		}
		obey(slot);
	}
}

/* First code of a fork's child, on its own slot's stack. */
void __attribute__((noreturn, used)) slot_child(struct stub_slot *slot)
{
	slot_loop(slot, TRAP_INTERRUPT);
}

void __attribute__((noreturn, used)) slot_rest(struct stub_slot *slot)
{
	slot_loop(slot, TRAP_NONE);
}

/* First code of a new thread. Signals are blocked until it resumes. */
void __attribute__((noreturn, used)) slot_thread(struct stub_slot *slot)
{
	struct {
		uint64_t sp;
		int32_t flags;
		uint64_t size;
	} alt = { (uint64_t)slot + SIGNAL_STACK_OFFSET, 0, SIGNAL_STACK_SIZE };

	call6(SYS_SIGALTSTACK, (long)&alt, 0, 0, 0, 0, 0);
	slot_loop(slot, TRAP_INTERRUPT);
}

/*
 * A thread inside the entry of a patched site shows itself as standing at the site: before its call, or after it. Bytes
 * of the entry say which number a site of "mov $number, %eax; syscall" had in hand.
 */
static void leave_entry(uint64_t *r)
{
	uint64_t entry = r[RIP] & ~(PATCH_ENTRY_SIZE - 1), at = r[RIP] - entry;
	const uint8_t *load = (const uint8_t *)entry + 16;

	r[RIP] = *(const uint64_t *)(entry + PATCH_RETURN);
	if (at == PATCH_CALL + 2)
		return;
	r[RIP] -= 2;
	if (at != PATCH_CALL && load[0] == 0xb8)
		r[RAX] = *(const uint32_t *)(load + 1);
}

static int in_entry(uint64_t rip)
{
	return rip >= PATCH_BASE && rip < PATCH_BASE + PATCH_SIZE;
}

/* A fault of the stub's own copying, or of the look at a GS that the guest has changed: not for the sentry. */
static int mend_fault(int sig, struct sigcontext *sc)
{
	if (sig != SIGSEGV && sig != SIGBUS)
		return 0;
	if (sc->rip >= (uint64_t)copy_start && sc->rip < (uint64_t)copy_end) {
		sc->rip = (uint64_t)copy_failed;
		return 1;
	}
	if (in_entry(sc->rip) && sc->rip % PATCH_ENTRY_SIZE == PATCH_GS_LOAD) {
		sc->rip += PATCH_CALL - PATCH_GS_LOAD;
		return 1;
	}
	return 0;
}

/* The call of a patched site is over: the registers become whole. */
static void returned(struct stub_slot *slot)
{
	save_bases(slot);
	copy_bytes(slot->regs, (uint8_t *)slot + SITE_KEPT_OFFSET, SITE_KEPT * sizeof(slot->regs[0]));
	slot->regs[R11] = slot->regs[EFLAGS] = *(const uint64_t *)((uint8_t *)slot + SITE_FLAGS_OFFSET);
	slot->regs[RAX] = slot->result;
	slot->regs[ORIG_RAX] = -1;
	slot->in_len[0] = slot->in_len[1] = 0;
}

/*
 * Every trap: a call that the filter caught, an exception, or the sentry's interrupt. All signals but SIGSEGV and SIGBUS
 * are blocked: those may come from our own copies.
 */
void __attribute__((used)) slot_trap(int sig, const siginfo_t *info, struct ucontext *uc)
{
	struct stub_slot *slot = (struct stub_slot *)((uint64_t)uc & ~(SLOT_SIZE - 1));
	const struct stub_control *control = (const void *)CONTROL_ADDR;
	struct sigcontext *sc = &uc->uc_mcontext;
	uint64_t *r = slot->regs;
	uint32_t how = 0, trap;

	/* A step of a debugger's into a patched site: all of the call is one step, whose end the sentry reports. */
	if (sig == SIGTRAP && in_entry(sc->rip)) {
		sc->eflags &= ~EFLAGS_TF;
		slot_return((uint64_t)uc);
	}
	if (sig == INTERRUPT_SIGNAL && sc->rip >= STUB_TEXT && sc->rip < STUB_TEXT + STUB_TEXT_SIZE) {
		if (sc->rip < (uint64_t)site_leave || sc->rip >= (uint64_t)site_leave_end) {
			slot->interrupted = 1;
			slot_return((uint64_t)uc);
		}
		returned(slot);
		trap = TRAP_INTERRUPT;
	} else if (sig == SIGSYS && sc->rip == (uint64_t)site_framed) {
		/* slot->trap says why; the window of a call in progress stays. */
		trap = slot->trap;
		if (trap == TRAP_NONE)
			stub_rest(slot);
		if (trap == TRAP_SYSCALL)
			save_bases(slot);
		else
			returned(slot);
	} else if (mend_fault(sig, sc)) {
		slot_return((uint64_t)uc);
	} else {
		save_regs(slot, sc);
		keep(r[ORIG_RAX], -1UL);
		keep(slot->in_len[0], 0);
		keep(slot->in_len[1], 0);
		if (sig == SIGSYS) {
			if (in_entry(r[RIP])) {
				leave_entry(r);
				r[RCX] = r[RIP];
			}
			if (r[RAX] < CALLS)
				how = control->calls[r[RAX]];
			copy_in(slot, how);
			if (!in_entry(sc->rip) && recall(slot, r[RAX], how)) {
				sc->rax = slot->result;
				slot_return((uint64_t)uc);
			}
			trap = TRAP_SYSCALL;
			r[ORIG_RAX] = r[RAX];
			r[RAX] = -ENOSYS;
		} else if (sig == INTERRUPT_SIGNAL) {
			trap = TRAP_INTERRUPT;
			/* In (or just before) a native futex wait: shown as the kernel shows an interrupted call to a tracer. */
			if ((uint32_t)r[RAX] == SYS_FUTEX && *(const uint16_t *)r[RIP] == SYSCALL_INSN) {
				r[ORIG_RAX] = r[RAX];
				r[RAX] = -ERESTARTSYS;
				r[RIP] += 2;
			}
			if (in_entry(r[RIP]))
				leave_entry(r);
		} else {
			trap = TRAP_FAULT;
			slot->signo = sig;
			slot->code = info->si_code;
			slot->fault_addr = (uint64_t)info->si_addr;
			slot->trapno = sc->trapno;
			slot->error_code = sc->err;
		}
	}
	keep(slot->interrupted, 0);
	keep(slot->out_count, 0);
	keep(slot->context, (uint64_t)uc);
	keep(slot->stack, (((uint64_t)uc - 0x200) & ~15UL) - 8);
	slot_loop(slot, trap);
}
