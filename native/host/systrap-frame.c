/*
 * The FPU state of a stopped thread: the XSAVE area of its signal frame, in the form of ptrace's NT_X86_XSTATE.
 *
 * In C because it is read out of a slot that guest code can write at any time: every offset is copied and checked here.
 */
#include <errno.h>
#include <string.h>

#include "systrap.h"

static uint8_t *fpu_area(int i, uint32_t *size)
{
	struct stub_slot *slot = slot_of(i);
	uint64_t base = threads[i].guest_slot, end = base + SIGNAL_STACK_OFFSET + SIGNAL_STACK_SIZE, context, area;
	uint8_t *p;

	if (need_frame(i) < 0)
		return NULL;
	context = slot->context;
	if (context < base + SIGNAL_STACK_OFFSET || context > end - 0x200)
		return NULL;
	area = *(volatile uint64_t *)((uint8_t *)slot + (context - base) + 40 + 184);
	if (area < base + SIGNAL_STACK_OFFSET || area > end - 576 || (area & 63) != 0)
		return NULL;
	p = (uint8_t *)slot + (area - base);
	*size = *(volatile uint32_t *)(p + 464 + 16);
	if (*(volatile uint32_t *)(p + 464) != 0x46505853 || *size < 576 || *size > end - area - 4)
		return NULL;
	return p;
}

long st_get_fpu(int i, uint8_t *buf, unsigned long len)
{
	uint32_t size;
	uint8_t *p = fpu_area(i, &size);
	uint64_t features;

	if (p == NULL || size > len)
		return -EFAULT;
	memcpy(buf, p, size);
	memcpy(&features, buf + 464 + 8, 8);
	memset(buf + 464, 0, 48);
	memcpy(buf + 464, &features, 8);
	return size;
}

long st_set_fpu(int i, const uint8_t *buf, unsigned long len)
{
	uint32_t size;
	uint8_t *p = fpu_area(i, &size);

	if (p == NULL || len < 576)
		return -EFAULT;
	if (len > size)
		len = size;
	memcpy(p, buf, 464);
	memcpy(p + 512, buf + 512, len - 512);
	/* Features the kernel did not put into the frame cannot be restored from it. */
	*(uint64_t *)(p + 512) &= *(uint64_t *)(p + 464 + 8);
	memset(p + 520, 0, 56);
	return 0;
}

