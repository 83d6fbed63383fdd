/**
 * A small checker of JSON documents. Each checker returns the value with its type or throws a ShapeError that names the
 * field: `process.args: expected an array of strings`. Fields that no checker knows are reported through `unknown`.
 *
 * Not ajv: the compiled OCI schema is 238 KB and 5 ms at every start, and its messages name the schema, not the mistake.
 */

export class ShapeError extends Error {}

export interface Context {
  /** Called with the path of each field that was not looked at. */
  unknown(at: string): void
}

export type Checker<T> = (value: unknown, at: string, context: Context) => T
export type Checked<C> = C extends Checker<infer T> ? T : never

function fail(at: string, expected: string): never {
  throw new ShapeError(`${at || 'document'}: expected ${expected}`)
}

export const string: Checker<string> = (value, at) => {
  if (typeof value !== 'string') fail(at, 'a string')
  if (value.includes('\0')) fail(at, 'a string without NUL')
  return value
}

export const boolean: Checker<boolean> = (value, at) => (typeof value === 'boolean' ? value : fail(at, 'true or false'))

export const anything: Checker<unknown> = (value) => value

export function integer(min = Number.MIN_SAFE_INTEGER, max = Number.MAX_VALUE): Checker<number> {
  return (value, at) => {
    if (typeof value !== 'number' || !Number.isInteger(value)) fail(at, 'an integer')
    if (value < min || value > max) fail(at, max === Number.MAX_VALUE ? `at least ${min}` : `${min} to ${max}`)
    return value
  }
}

export const u32 = integer(0, 0xffffffff)

export function oneOf<const T extends string>(...values: T[]): Checker<T> {
  return (value, at) => ((values as unknown[]).includes(value) ? (value as T) : fail(at, values.join(' or ')))
}

/** A missing or null array is empty: Go programs write both. */
export function list<T>(item: Checker<T>): Checker<T[]> {
  return (value, at, context) => {
    if (value === undefined || value === null) return []
    if (!Array.isArray(value)) fail(at, 'an array')
    return value.map((v, i) => item(v, `${at}[${i}]`, context))
  }
}

export function map<T>(item: Checker<T>): Checker<Record<string, T>> {
  return (value, at, context) => {
    if (value === undefined || value === null) return {}
    if (typeof value !== 'object' || Array.isArray(value)) fail(at, 'an object')
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, item(v, `${at}.${k}`, context)]))
  }
}

export function optional<T>(checker: Checker<T>): Checker<T | undefined> {
  return (value, at, context) => (value === undefined || value === null ? undefined : checker(value, at, context))
}

export function withDefault<T>(checker: Checker<T>, otherwise: T): Checker<T> {
  return (value, at, context) => (value === undefined || value === null ? otherwise : checker(value, at, context))
}

export function object<S extends Record<string, Checker<unknown>>>(
  shape: S,
): Checker<{ [K in keyof S]: Checked<S[K]> }> {
  return (value, at, context) => {
    if (value === undefined || value === null) fail(at, 'an object, it is missing')
    if (typeof value !== 'object' || Array.isArray(value)) fail(at, 'an object')
    const from = value as Record<string, unknown>
    const under = at ? `${at}.` : ''
    const out: Record<string, unknown> = {}
    for (const key in shape) out[key] = shape[key]!(from[key], under + key, context)
    for (const key in from) if (!(key in shape)) context.unknown(under + key)
    return out as { [K in keyof S]: Checked<S[K]> }
  }
}
