#include "frame.h"

#include <stdlib.h>
#include <string.h>

static unsigned take(struct reader *r)
{
	if (r->bad || r->at == r->end) {
		r->bad = true;
		return 0;
	}
	return *r->at++;
}

static uint64_t big_endian(struct reader *r, int bytes)
{
	uint64_t value = 0;

	while (bytes-- > 0)
		value = value << 8 | take(r);
	return value;
}

uint32_t read_array(struct reader *r, uint32_t max)
{
	unsigned tag = take(r);
	uint64_t count = 0;

	if ((tag & 0xf0) == 0x90) count = tag & 15;
	else if (tag == 0xdc) count = big_endian(r, 2);
	else if (tag == 0xdd) count = big_endian(r, 4);
	else r->bad = true;
	/* Each element takes a byte at least. */
	if (count > max || count > (uint64_t)(r->end - r->at))
		r->bad = true;
	return r->bad ? 0 : count;
}

/* Sets `negative` for a value below zero, which is then returned as two's complement. */
static uint64_t integer(struct reader *r, bool *negative)
{
	unsigned tag = take(r);
	uint64_t value = 0;

	*negative = false;
	if (tag < 0x80) return tag;
	if (tag >= 0xe0) value = (uint64_t)(int8_t)tag, *negative = true;
	else if (tag >= 0xcc && tag <= 0xcf) value = big_endian(r, 1 << (tag - 0xcc));
	else if (tag >= 0xd0 && tag <= 0xd3) {
		int bits = 8 << (tag - 0xd0);
		value = (uint64_t)((int64_t)(big_endian(r, bits / 8) << (64 - bits)) >> (64 - bits));
		*negative = (int64_t)value < 0;
	} else
		r->bad = true;
	return r->bad ? 0 : value;
}

uint64_t read_u64(struct reader *r)
{
	bool negative;
	uint64_t value = integer(r, &negative);

	if (negative)
		r->bad = true;
	return r->bad ? 0 : value;
}

uint32_t read_u32(struct reader *r)
{
	uint64_t value = read_u64(r);

	if (value > UINT32_MAX)
		r->bad = true;
	return r->bad ? 0 : value;
}

int32_t read_int(struct reader *r, int32_t min, int32_t max)
{
	bool negative;
	int64_t value = (int64_t)integer(r, &negative);

	if ((!negative && value < 0) || value < min || value > max)
		r->bad = true;
	return r->bad ? min : value;
}

bool read_bool(struct reader *r)
{
	unsigned tag = take(r);

	if (tag != 0xc2 && tag != 0xc3)
		r->bad = true;
	return tag == 0xc3;
}

const unsigned char *read_bytes(struct reader *r, uint32_t max, uint32_t *length)
{
	unsigned tag = take(r);
	uint64_t n = 0;

	*length = 0;
	if ((tag & 0xe0) == 0xa0) n = tag & 31;
	else if (tag == 0xc4 || tag == 0xd9) n = big_endian(r, 1);
	else if (tag == 0xc5 || tag == 0xda) n = big_endian(r, 2);
	else if (tag == 0xc6 || tag == 0xdb) n = big_endian(r, 4);
	else r->bad = true;
	if (n > max || n > (uint64_t)(r->end - r->at))
		r->bad = true;
	if (r->bad)
		return NULL;
	const unsigned char *bytes = r->at;
	r->at += n;
	*length = n;
	return bytes;
}

char *read_string(struct reader *r, uint32_t max)
{
	uint32_t length;
	const unsigned char *bytes = read_bytes(r, max, &length);

	if (!bytes)
		return NULL;
	char *copy = memchr(bytes, 0, length) ? NULL : malloc((size_t)length + 1);
	if (!copy) {
		r->bad = true;
		return NULL;
	}
	memcpy(copy, bytes, length);
	copy[length] = 0;
	return copy;
}

static void put(struct writer *w, const void *bytes, uint32_t length)
{
	if (w->full || length > w->size - w->length) {
		w->full = true;
		return;
	}
	memcpy(w->buffer + w->length, bytes, length);
	w->length += length;
}

static void put_big_endian(struct writer *w, unsigned char tag, uint64_t value, int bytes)
{
	unsigned char out[9] = { tag };

	for (int i = 0; i < bytes; i++)
		out[1 + i] = value >> (8 * (bytes - 1 - i));
	put(w, out, 1 + bytes);
}

void frame_begin(struct writer *w, unsigned char *buffer, uint32_t size)
{
	*w = (struct writer){ .buffer = buffer, .size = size, .length = 4 };
}

void write_array(struct writer *w, uint32_t count)
{
	put_big_endian(w, 0xdd, count, 4);
}

void write_u64(struct writer *w, uint64_t value)
{
	if (value < 0x80) put_big_endian(w, value, 0, 0);
	else if (value <= UINT32_MAX) put_big_endian(w, 0xce, value, 4);
	else put_big_endian(w, 0xcf, value, 8);
}

void write_int(struct writer *w, int32_t value)
{
	if (value >= 0) write_u64(w, value);
	else put_big_endian(w, 0xd2, (uint32_t)value, 4);
}

void write_bytes(struct writer *w, const void *bytes, uint32_t length)
{
	put_big_endian(w, 0xc6, length, 4);
	put(w, bytes, length);
}

void frame_end(struct writer *w)
{
	uint32_t n = w->length - 4;

	for (int i = 0; i < 4; i++)
		w->buffer[i] = n >> (8 * i);
}
