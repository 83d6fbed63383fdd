/*
 * probe: two facts about the host that decide how a VM is started, printed as `KVM TSC`:
 *
 * KVM  0: fit to boot Linux. 2: it is there, but slow: some back ends emulate ring 0 in software at 10^5 to 10^6 instructions a
 *      second, so a virtual machine of one page counts down in ring 0 for a bounded time. 1: absent, or something failed.
 * TSC  kHz of the time stamp counter, measured: a microvm has no timer that its kernel could calibrate it with.
 *
 * C because of ioctls on mapped structures, and rdtsc.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { LOOPS = 1000000, PATIENCE_US = 200000, TSC_SAMPLE_NS = 30000000 };

static int run_ring0(void)
{
	/* mov $LOOPS, %ecx; 1: dec %ecx; jnz 1b; hlt: in real mode, so with operand size prefixes. */
	static const unsigned char code[] = { 0x66, 0xb9, LOOPS & 0xff, LOOPS >> 8 & 0xff, LOOPS >> 16 & 0xff, 0,
					      0x66, 0x49, 0x75, 0xfc, 0xf4 };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = { .guest_phys_addr = 0x1000, .memory_size = 4096,
						      .userspace_addr = (unsigned long)page };

	if (vm < 0 || page == MAP_FAILED)
		return 1;
	memcpy(page, code, sizeof code);
	if (ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000UL) || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
		return 1;
	int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (cpu < 0 || size < 0)
		return 1;
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };
	if (run == MAP_FAILED || ioctl(cpu, KVM_GET_SREGS, &sregs))
		return 1;
	sregs.cs.base = sregs.cs.selector = 0;
	if (ioctl(cpu, KVM_SET_SREGS, &sregs) || ioctl(cpu, KVM_SET_REGS, &regs))
		return 1;
	return ioctl(cpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_HLT;
}

static void too_long(int signal)
{
	(void)signal;
	_exit(2);
}

/* In a child: a KVM that hangs is left behind with it. */
static int probe_kvm(void)
{
	int status = 1 << 8;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGALRM, too_long);
		setitimer(ITIMER_REAL, &(struct itimerval){ .it_value = { .tv_usec = PATIENCE_US } }, NULL);
		_exit(run_ring0());
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

int main(void)
{
	uint64_t start = now(), tsc = __rdtsc(), end;

	while ((end = now()) - start < TSC_SAMPLE_NS)
		;
	tsc = __rdtsc() - tsc;
	printf("%d %llu\n", probe_kvm(), (unsigned long long)(tsc * 1000000 / (end - start)));
	return 0;
}
