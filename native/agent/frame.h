/*
 * Frames between host and agent: a little-endian u32 length and one msgpack array. Only what both ends send is known:
 * integers, str and bin (the same here: bytes), and arrays. Bounded: a length or count is checked against what is there
 * before it is used. An error sticks: after it every read gives 0, and `bad` says so once at the end.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_FRAME = 1 << 20 };

struct reader {
	const unsigned char *at, *end;
	bool bad;
};

/* The number of elements of an array, at most `max`. */
uint32_t read_array(struct reader *r, uint32_t max);
uint64_t read_u64(struct reader *r);
uint32_t read_u32(struct reader *r);
/* An integer from min to max, negative ones included. */
int32_t read_int(struct reader *r, int32_t min, int32_t max);
bool read_bool(struct reader *r);
/* Bytes within the frame, at most `max` of them. */
const unsigned char *read_bytes(struct reader *r, uint32_t max, uint32_t *length);
/* A copy with a NUL behind it, to be freed; bytes that hold a NUL are malformed. NULL when bad. */
char *read_string(struct reader *r, uint32_t max);

/* Room for a frame is asked for once; what does not fit sets `full`, and the frame is not to be sent. */
struct writer {
	unsigned char *buffer;
	uint32_t size, length;
	bool full;
};

void frame_begin(struct writer *w, unsigned char *buffer, uint32_t size);
void write_array(struct writer *w, uint32_t count);
void write_u64(struct writer *w, uint64_t value);
void write_int(struct writer *w, int32_t value);
void write_bytes(struct writer *w, const void *bytes, uint32_t length);
/* Fills the length in. */
void frame_end(struct writer *w);
