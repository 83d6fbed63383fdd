/*
 * The stub's side of systrap (DESIGN §6, protocol.h): signal handler, and the loop in which a trapped thread waits for
 * the sentry's command. Freestanding C: it runs inside guest processes, where there is no library and no JavaScript.
 *
 * No writable globals, no thread-local storage, no SSE: the guest's state is in the signal frame and must survive.
 */
#include "protocol.h"

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

/* Order of struct user_regs_struct. */
enum { R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI, ORIG_RAX, RIP, CS, EFLAGS, RSP, SS,
       FS_BASE, GS_BASE, DS, ES, FS, GS };

extern long stub_fork(uint64_t flags, struct stub_slot *slot, uint64_t offset);
extern long stub_thread(uint64_t flags, struct stub_slot *slot, uint64_t stack);
extern void slot_return(uint64_t context) __attribute__((noreturn));
static void slot_loop(struct stub_slot *slot) __attribute__((noreturn));

static const uint64_t one = 1;

static inline long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline uint64_t cycles(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (uint64_t)hi << 32;
}

/* Gives the slot to the sentry. The exchange orders the store before the look at `sleeping`. */
static void publish(struct stub_slot *slot)
{
	const volatile struct stub_control *control = (const void *)CONTROL_ADDR;

	__atomic_exchange_n(&slot->state, STATE_TRAP, __ATOMIC_SEQ_CST);
	if (control->sleeping)
		call6(SYS_WRITE, WAKE_FD, (long)&one, sizeof(one), 0, 0, 0);
}

/* Waits for the sentry's command: spinning, since a wake-up across CPUs costs 20 µs, then asleep. */
static void wait_command(struct stub_slot *slot)
{
	const volatile struct stub_control *control = (const void *)CONTROL_ADDR;
	uint64_t start = cycles();

	for (;;) {
		uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

		if (state == STATE_COMMAND)
			return;
		if (state == STATE_ASLEEP) {
			call6(SYS_FUTEX, (long)&slot->state, FUTEX_WAIT, STATE_ASLEEP, 0, 0, 0);
			continue;
		}
		if (cycles() - start < control->spin) {
			__builtin_ia32_pause();
			continue;
		}
		__atomic_compare_exchange_n(&slot->state, &state, STATE_ASLEEP, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
}

static void run_ops(struct stub_slot *slot)
{
	uint32_t count = slot->op_count;
	long ret = 0;

	for (uint32_t i = 0; i < count && i < MAX_STUB_OPS + 2; i++) {
		struct stub_op *op = &slot->ops[i];

		ret = call6(op->nr, op->args[0], op->args[1], op->args[2], op->args[3], op->args[4], op->args[5]);
		if ((unsigned long)ret > -4096UL)
			break;
	}
	slot->result = ret;
}

/* Guest registers between the kernel's frame and the slot. */
static void save_regs(struct stub_slot *slot, const struct sigcontext *sc)
{
	uint64_t *r = slot->regs;
	uint64_t base;

	r[R8] = sc->r8;
	r[R9] = sc->r9;
	r[R10] = sc->r10;
	r[R11] = sc->r11;
	r[R12] = sc->r12;
	r[R13] = sc->r13;
	r[R14] = sc->r14;
	r[R15] = sc->r15;
	r[RDI] = sc->rdi;
	r[RSI] = sc->rsi;
	r[RBP] = sc->rbp;
	r[RBX] = sc->rbx;
	r[RDX] = sc->rdx;
	r[RAX] = sc->rax;
	r[RCX] = sc->rcx;
	r[RSP] = sc->rsp;
	r[RIP] = sc->rip;
	r[EFLAGS] = sc->eflags;
	r[CS] = sc->cs;
	r[SS] = sc->ss;
	r[DS] = r[ES] = r[FS] = r[GS] = 0;
	__asm__ volatile("rdfsbase %0" : "=r"(base));
	r[FS_BASE] = base;
	__asm__ volatile("rdgsbase %0" : "=r"(base));
	r[GS_BASE] = base;
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
	__asm__ volatile("wrgsbase %0" : : "r"(r[GS_BASE]));
}

/*
 * Runs commands until the sentry lets guest code go on. Entered afresh for each trap, fork child and new thread: nothing
 * on the stack outlives it.
 */
static void slot_loop(struct stub_slot *slot)
{
	for (;;) {
		publish(slot);
		wait_command(slot);
		switch (slot->command) {
		case COMMAND_RESUME: {
			struct ucontext *uc = (struct ucontext *)slot->context;

			load_regs(slot, &uc->uc_mcontext);
			__atomic_store_n(&slot->state, STATE_GUEST, __ATOMIC_RELEASE);
			slot_return((uint64_t)uc);
		}
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
		case COMMAND_EXIT:
			call6(SYS_EXIT, 0, 0, 0, 0, 0, 0);
		}
	}
}

/* First code of a fork's child, on its own slot's stack. */
void __attribute__((noreturn, used)) slot_child(struct stub_slot *slot)
{
	slot_loop(slot);
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
	slot_loop(slot);
}

/* Every trap: a call that the filter caught, an exception, or the sentry's interrupt. All signals are blocked. */
void __attribute__((used)) slot_trap(int sig, const siginfo_t *info, struct ucontext *uc)
{
	struct stub_slot *slot = (struct stub_slot *)((uint64_t)uc & ~(SLOT_SIZE - 1));
	const struct sigcontext *sc = &uc->uc_mcontext;
	uint64_t *r = slot->regs;

	save_regs(slot, sc);
	slot->context = (uint64_t)uc;
	slot->stack = (((uint64_t)uc - 0x200) & ~15UL) - 8;
	r[ORIG_RAX] = -1;
	if (sig == SIGSYS) {
		slot->trap = TRAP_SYSCALL;
		r[ORIG_RAX] = r[RAX];
		r[RAX] = -ENOSYS;
	} else if (sig == INTERRUPT_SIGNAL) {
		slot->trap = TRAP_INTERRUPT;
		/* In (or just before) a native futex wait: shown as the kernel shows an interrupted call to a tracer. */
		if ((uint32_t)r[RAX] == SYS_FUTEX && *(const uint16_t *)r[RIP] == SYSCALL_INSN) {
			r[ORIG_RAX] = r[RAX];
			r[RAX] = -ERESTARTSYS;
			r[RIP] += 2;
		}
	} else {
		slot->trap = TRAP_FAULT;
		slot->signo = sig;
		slot->code = info->si_code;
		slot->fault_addr = (uint64_t)info->si_addr;
		slot->trapno = sc->trapno;
		slot->error_code = sc->err;
	}
	slot_loop(slot);
}
