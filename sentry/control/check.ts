/**
 * Checks what came over the control socket before the kernel sees it. The CLI is trusted, but a request is data from
 * another process: wrong shapes are answered with an error that names the field, never with an exception in the kernel.
 */
import type { CapabilitySets, ProcessSpec, Request, Rlimit, SignalTarget } from './protocol.ts'

export class RequestError extends Error {}

type Fields = Record<string, unknown>

function fail(field: string, expected: string): never {
  throw new RequestError(`${field}: expected ${expected}`)
}

function fields(value: unknown, at: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(at, 'an object')
  return value as Fields
}

function integer(o: Fields, key: string, min: number, max: number): number {
  const v = o[key]
  if (typeof v !== 'number' || !Number.isInteger(v) || v < min || v > max) fail(key, `an integer from ${min} to ${max}`)
  return v
}

function string(o: Fields, key: string): string {
  const v = o[key]
  if (typeof v !== 'string' || v.includes('\0')) fail(key, 'a string without NUL')
  return v
}

function strings(o: Fields, key: string): string[] {
  const v = o[key]
  if (!Array.isArray(v)) fail(key, 'an array of strings')
  for (const s of v) if (typeof s !== 'string' || s.includes('\0')) fail(key, 'strings without NUL')
  return v as string[]
}

function integers(o: Fields, key: string, max: number): number[] {
  const v = o[key]
  if (!Array.isArray(v)) fail(key, 'an array of integers')
  for (const n of v) if (!Number.isInteger(n) || n < 0 || n > max) fail(key, `integers from 0 to ${max}`)
  return v as number[]
}

function boolean(o: Fields, key: string): boolean {
  const v = o[key]
  if (typeof v !== 'boolean') fail(key, 'true or false')
  return v
}

const U32 = 0xffffffff

function capabilities(value: unknown): CapabilitySets {
  const o = fields(value, 'capabilities')
  return {
    bounding: integers(o, 'bounding', 63),
    effective: integers(o, 'effective', 63),
    inheritable: integers(o, 'inheritable', 63),
    permitted: integers(o, 'permitted', 63),
    ambient: integers(o, 'ambient', 63),
  }
}

function rlimits(value: unknown): Rlimit[] {
  if (!Array.isArray(value)) fail('rlimits', 'an array')
  return value.map((entry) => {
    const o = fields(entry, 'rlimits')
    return {
      resource: integer(o, 'resource', 0, 15),
      soft: integer(o, 'soft', -1, Number.MAX_SAFE_INTEGER),
      hard: integer(o, 'hard', -1, Number.MAX_SAFE_INTEGER),
    }
  })
}

export function checkProcessSpec(value: unknown): ProcessSpec {
  const o = fields(value, 'process')
  const size = fields(o.consoleSize, 'consoleSize')
  const spec: ProcessSpec = {
    args: strings(o, 'args'),
    env: strings(o, 'env'),
    cwd: string(o, 'cwd'),
    uid: integer(o, 'uid', 0, U32),
    gid: integer(o, 'gid', 0, U32),
    additionalGids: integers(o, 'additionalGids', U32),
    umask: integer(o, 'umask', -1, 0o777),
    capabilities: capabilities(o.capabilities),
    rlimits: rlimits(o.rlimits),
    terminal: boolean(o, 'terminal'),
    consoleSize: { rows: integer(size, 'rows', 0, 65535), cols: integer(size, 'cols', 0, 65535) },
    noNewPrivileges: boolean(o, 'noNewPrivileges'),
  }
  if (spec.args.length === 0) fail('args', 'at least one argument')
  if (!spec.cwd.startsWith('/')) fail('cwd', 'an absolute path')
  if (o.oomScoreAdj !== undefined) spec.oomScoreAdj = integer(o, 'oomScoreAdj', -1000, 1000)
  return spec
}

const MAX_PID = 1 << 22
const TARGETS: readonly string[] = ['process', 'group', 'all']

export function checkRequest(value: unknown): Request {
  const o = fields(value, 'request')
  switch (o.op) {
    case 'start':
    case 'ps':
    case 'state':
    case 'pause':
    case 'resume':
    case 'stats':
    case 'shutdown':
    case 'attach':
      return { op: o.op }
    case 'exec':
      return { op: 'exec', process: checkProcessSpec(o.process), killOnDisconnect: boolean(o, 'killOnDisconnect') }
    case 'signal':
      if (typeof o.target !== 'string' || !TARGETS.includes(o.target)) fail('target', 'process, group or all')
      return {
        op: 'signal',
        pid: integer(o, 'pid', 1, MAX_PID),
        signal: integer(o, 'signal', 0, 64),
        target: o.target as SignalTarget,
      }
    case 'wait':
      return { op: 'wait', pid: integer(o, 'pid', 1, MAX_PID) }
    case 'resize':
      return {
        op: 'resize',
        pid: integer(o, 'pid', 1, MAX_PID),
        rows: integer(o, 'rows', 0, 65535),
        cols: integer(o, 'cols', 0, 65535),
      }
    case 'update': {
      const l = fields(o.limits, 'limits')
      const limits: { pids?: number; memory?: number; cpus?: number } = {}
      if (l.pids !== undefined) limits.pids = integer(l, 'pids', 0, MAX_PID)
      if (l.memory !== undefined) limits.memory = integer(l, 'memory', 0, Number.MAX_SAFE_INTEGER)
      if (l.cpus !== undefined) limits.cpus = integer(l, 'cpus', 0, 4096)
      return { op: 'update', limits }
    }
    default:
      throw new RequestError(`unknown request ${String(o.op)}`)
  }
}
