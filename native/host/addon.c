/*
 * How JavaScript calls the functions of this library: a Node-API module with two functions about functions and two about
 * memory. C because a foreign call cannot be made from JavaScript; not koffi, which does the same for any library,
 * because it takes 10 ms to load, three times for each container (native/README.md).
 *
 *   func(name, result, [argument, ...])  a function of this library. Arguments are "void *" (an ArrayBuffer, a view of
 *                                        one, or null; pinned for the call) or any integer type (a number up to 2^53 or
 *                                        a BigInt, cut off to the type by the callee); the result is "void", "int", "long" or
 *                                        "void *", as a number
 *   view(address, length)                an ArrayBuffer over memory that nobody ever frees
 *   address(view)                        where its bytes are. Only for views whose buffer is off the JavaScript heap
 *
 * Wrong arguments are our own bugs and throw.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGS = 8 };

struct function {
	long (*code)(long, long, long, long, long, long, long, long);
	size_t count;
	bool pointer[MAX_ARGS];
	enum { VOID, INT, LONG } result;
};

static bool bytes_of(napi_env env, napi_value value, long *address)
{
	void *data;
	napi_valuetype type;

	if (napi_get_typedarray_info(env, value, NULL, NULL, &data, NULL, NULL) == napi_ok ||
	    napi_get_dataview_info(env, value, NULL, &data, NULL, NULL) == napi_ok ||
	    napi_get_arraybuffer_info(env, value, &data, NULL) == napi_ok) {
		*address = (long)data;
		return true;
	}
	*address = 0;
	return napi_typeof(env, value, &type) == napi_ok && type == napi_null;
}

static bool integer_of(napi_env env, napi_value value, long *number)
{
	bool lossless;

	return napi_get_value_int64(env, value, number) == napi_ok ||
	       napi_get_value_bigint_int64(env, value, number, &lossless) == napi_ok;
}

static napi_value call(napi_env env, napi_callback_info info)
{
	struct function *f;
	napi_value values[MAX_ARGS], result = NULL;
	size_t given = MAX_ARGS;
	long a[MAX_ARGS] = { 0 };

	napi_get_cb_info(env, info, &given, values, NULL, (void **)&f);
	for (size_t i = 0; i < f->count; i++) {
		bool good = f->pointer[i] ? bytes_of(env, values[i], &a[i])
					  : integer_of(env, values[i], &a[i]);
		if (!good) {
			napi_throw_type_error(env, NULL, "host call: an argument is of the wrong type");
			return NULL;
		}
	}
	long r = f->code(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
	if (f->result == INT)
		napi_create_int32(env, (int32_t)r, &result);
	else if (f->result == LONG)
		napi_create_int64(env, r, &result);
	return result;
}

static bool text(napi_env env, napi_value value, char *out, size_t size)
{
	return napi_get_value_string_latin1(env, value, out, size, NULL) == napi_ok;
}

static napi_value func(napi_env env, napi_callback_info info)
{
	static const struct {
		const char *name;
		int result;
	} results[] = { { "void", VOID }, { "int", INT }, { "long", LONG }, { "void *", LONG } };
	napi_value args[3], function = NULL;
	size_t given = 3;
	char name[64], type[16];
	uint32_t count = 0, r = 0;
	Dl_info self;

	napi_get_cb_info(env, info, &given, args, NULL, NULL);
	if (!text(env, args[0], name, sizeof name) || !text(env, args[1], type, sizeof type) ||
	    napi_get_array_length(env, args[2], &count) != napi_ok || count > MAX_ARGS)
		goto wrong;
	while (r < 4 && strcmp(type, results[r].name))
		r++;
	/* Node opens modules RTLD_LOCAL: the default search does not find what is in them. */
	if (r == 4 || !dladdr(&bytes_of, &self))
		goto wrong;
	void *library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	void *code = library ? dlsym(library, name) : NULL;
	struct function *f = code ? calloc(1, sizeof *f) : NULL;
	if (!f)
		goto wrong;
	memcpy(&f->code, &code, sizeof code);
	f->result = results[r].result;
	f->count = count;
	for (uint32_t i = 0; i < count; i++) {
		napi_value element;
		if (napi_get_element(env, args[2], i, &element) != napi_ok || !text(env, element, type, sizeof type))
			goto wrong;
		f->pointer[i] = !strcmp(type, "void *");
	}
	napi_create_function(env, name, NAPI_AUTO_LENGTH, call, f, &function);
	return function;
wrong:
	napi_throw_type_error(env, NULL, "no such host function");
	return NULL;
}

static napi_value view(napi_env env, napi_callback_info info)
{
	napi_value args[2], buffer = NULL;
	size_t given = 2;
	int64_t address, length;

	napi_get_cb_info(env, info, &given, args, NULL, NULL);
	if (napi_get_value_int64(env, args[0], &address) != napi_ok ||
	    napi_get_value_int64(env, args[1], &length) != napi_ok ||
	    napi_create_external_arraybuffer(env, (void *)address, length, NULL, NULL, &buffer) != napi_ok)
		napi_throw_type_error(env, NULL, "view: no such memory");
	return buffer;
}

static napi_value address(napi_env env, napi_callback_info info)
{
	napi_value arg, result = NULL;
	size_t given = 1;
	long where = 0;

	napi_get_cb_info(env, info, &given, &arg, NULL, NULL);
	if (!bytes_of(env, arg, &where) || !where)
		napi_throw_type_error(env, NULL, "address: not a view of memory");
	else
		napi_create_int64(env, where, &result);
	return result;
}

NAPI_MODULE_INIT()
{
	static const struct {
		const char *name;
		napi_callback code;
	} exported[] = { { "func", func }, { "view", view }, { "address", address } };

	for (int i = 0; i < 3; i++) {
		napi_value function;
		napi_create_function(env, exported[i].name, NAPI_AUTO_LENGTH, exported[i].code, NULL, &function);
		napi_set_named_property(env, exports, exported[i].name, function);
	}
	return exports;
}
