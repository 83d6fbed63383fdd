/*
 * The agent's parser against mutated frames: a valid `create`, `exec` and `network`, then bits, lengths and pieces changed by a seeded
 * generator. Usage: agent-frames SEED COUNT. Built with the address and undefined-behaviour sanitizers; prints how many
 * were taken for valid. What it must not do is crash, leak without bound, or hang.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../native/agent/agent.h"

static uint64_t state;

static uint32_t rnd(uint32_t below)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (state >> 11) % below;
}

static void strings(struct writer *w, int count)
{
	write_array(w, count);
	for (int i = 0; i < count; i++)
		write_bytes(w, "PATH=/bin", 9);
}

static void process(struct writer *w)
{
	write_array(w, 17);
	strings(w, 3), strings(w, 5);
	write_bytes(w, "/", 1);
	write_u64(w, 0), write_u64(w, 70000);
	write_array(w, 2), write_u64(w, 1), write_u64(w, 2);
	write_int(w, -1);
	write_array(w, 5);
	for (int i = 0; i < 5; i++)
		write_u64(w, 0x1ffffffffffULL);
	write_array(w, 1), write_array(w, 3), write_u64(w, 7), write_u64(w, 1024), write_u64(w, ~0ULL);
	w->buffer[w->length++] = 0xc2;
	write_u64(w, 24), write_u64(w, 80);
	w->buffer[w->length++] = 0xc3;
	write_int(w, -500);
	write_array(w, 3), write_u64(w, 0), write_u64(w, 1), write_u64(w, 1);
	/* The architecture, then: allow. */
	write_bytes(w, "\x20\0\0\0\4\0\0\0\6\0\0\0\0\0\xff\x7f", 16), write_u64(w, 4);
}

static void container(struct writer *w)
{
	write_u64(w, 2), write_u64(w, 1), write_u64(w, 0);
	write_array(w, 3), write_u64(w, 0), w->buffer[w->length++] = 0xc2, w->buffer[w->length++] = 0xc3;
	write_array(w, 2);
	for (int i = 0; i < 2; i++) {
		write_array(w, 7), write_bytes(w, "/proc", 5), write_u64(w, 2), write_bytes(w, "proc", 4), write_int(w, -1);
		w->buffer[w->length++] = 0xc2, write_u64(w, 14), write_bytes(w, "", 0);
	}
	strings(w, 2), strings(w, 2);
	write_bytes(w, "host", 4), write_bytes(w, "domain", 6);
	strings(w, 1);
	write_u64(w, 100), write_u64(w, 65536);
	process(w);
}

static void network(struct writer *w)
{
	write_array(w, 2);
	for (int i = 0; i < 2; i++) {
		write_array(w, 6), write_u64(w, i), write_bytes(w, "eth0", 4), write_bytes(w, "\2\0\0\0\0\1", 6), write_u64(w, 1500);
		write_array(w, 2);
		write_array(w, 2), write_bytes(w, "\12\0\0\1", 4), write_u64(w, 24);
		write_array(w, 2), write_bytes(w, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16), write_u64(w, 64);
		write_array(w, 2);
		for (int n = 0; n < 2; n++) {
			write_array(w, 6), write_bytes(w, "\0\0\0\0", 4), write_u64(w, 0), write_bytes(w, "\12\0\0\2", n ? 4 : 0);
			write_bytes(w, "", 0), write_u64(w, 100), w->buffer[w->length++] = 0xc2 + n;
		}
	}
}

int main(int argc, char **argv)
{
	static unsigned char valid[3][8192], frame[16384];
	static struct container_order c;
	static struct process_order p;
	static struct network_order o;
	uint32_t lengths[3], accepted = 0;
	long count = argc > 2 ? atol(argv[2]) : 1000;

	state = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1) * 0x9e3779b97f4a7c15ULL | 1;
	for (int i = 0; i < 3; i++) {
		struct writer w = { valid[i], sizeof valid[i], 0, false };
		i == 2 ? network(&w) : i ? container(&w) : process(&w);
		lengths[i] = w.length;
	}
	for (long n = 0; n < count; n++) {
		int which = rnd(3);
		uint32_t length = lengths[which];
		memcpy(frame, valid[which], length);
		for (uint32_t m = n ? rnd(6) : 0; m > 0; m--)
			switch (rnd(5)) {
			case 0: frame[rnd(length)] ^= 1 << rnd(8); break;
			case 1: frame[rnd(length)] = rnd(256); break;
			case 2: length = 1 + rnd(length); break;
			case 3: frame[rnd(length)] = 0xc4 + rnd(27); break;
			case 4: memmove(frame + rnd(length), frame + rnd(length), rnd(64)); break;
			}
		/* Exactly as long as it says, so that the sanitizer sees a read beyond it. */
		unsigned char *exact = malloc(length);
		memcpy(exact, frame, length);
		struct reader r = { exact, exact + length, false };
		if (which == 2)
			accepted += read_network(&r, &o);
		else if (which ? read_container(&r, &c) : read_process(&r, &p)) {
			accepted++;
			which ? container_order_free(&c) : process_order_free(&p);
		}
		free(exact);
	}
	printf("%u\n", accepted);
	return 0;
}
