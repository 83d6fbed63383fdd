/*
 * How JavaScript calls the functions of this library: a Node-API module with two functions about functions and two about
 * memory. C because a foreign call cannot be made from JavaScript; not koffi, which does the same for any library,
 * because it takes 10 ms to load, three times for each container (native/README.md).
 *
 *   func(name, result, [argument, ...])  a function of this library. Arguments are "void *" (an ArrayBuffer, a view of
 *                                        one, or null; pinned for the call), any integer type (a number up to 2^53 or
 *                                        a BigInt, cut off to the type by the callee) or "double"; the result is "void",
 *                                        "int", "long" or "void *", as a number
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

enum { MAX_ARGS = 8, MAX_DOUBLES = 2 };

struct function {
	/* In the System V ABI integers and doubles are counted apart, so that one call suits every mixture of them. */
	long (*code)(long, long, long, long, long, long, long, long, double, double);
	size_t count;
	enum { INTEGER, POINTER, DOUBLE } kinds[MAX_ARGS];
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
	double d[MAX_DOUBLES] = { 0 };
	int integers = 0, doubles = 0;

	napi_get_cb_info(env, info, &given, values, NULL, (void **)&f);
	for (size_t i = 0; i < f->count; i++) {
		bool good = f->kinds[i] == INTEGER   ? integer_of(env, values[i], &a[integers++])
			    : f->kinds[i] == POINTER ? bytes_of(env, values[i], &a[integers++])
						     : napi_get_value_double(env, values[i], &d[doubles++]) == napi_ok;
		if (!good) {
			napi_throw_type_error(env, NULL, "host call: an argument is of the wrong type");
			return NULL;
		}
	}
	long r = f->code(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], d[0], d[1]);
	if (f->result == INT)
		napi_create_int32(env, (int32_t)r, &result);
	else if (f->result == LONG)
		napi_create_int64(env, r, &result);
	return result;
}

/* A function without arguments and result: looking for them would be a fifth of what JavaScript needs for a guest's call. */
static napi_value call_plain(napi_env env, napi_callback_info info)
{
	struct function *f;

	napi_get_cb_info(env, info, NULL, NULL, NULL, (void **)&f);
	((void (*)(void))f->code)();
	return NULL;
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
	static const struct {
		const char *name;
		int kind;
	} argument_types[] = { { "int", INTEGER },   { "uint", INTEGER },   { "uint32", INTEGER }, { "long", INTEGER },
			       { "ulong", INTEGER }, { "void *", POINTER }, { "double", DOUBLE } };
	int doubles = 0;
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
		int kind = 0;
		if (napi_get_element(env, args[2], i, &element) != napi_ok || !text(env, element, type, sizeof type))
			goto wrong;
		while (kind < 7 && strcmp(type, argument_types[kind].name))
			kind++;
		if (kind == 7 || (argument_types[kind].kind == DOUBLE && doubles++ == MAX_DOUBLES))
			goto wrong;
		f->kinds[i] = argument_types[kind].kind;
	}
	napi_create_function(env, name, NAPI_AUTO_LENGTH, count == 0 && f->result == VOID ? call_plain : call, f,
			     &function);
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
