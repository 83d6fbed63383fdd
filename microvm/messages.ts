/**
 * What host and agent say to each other; the kinds are those of native/agent/agent.h (a test compares them). Each is an
 * array: kind, then for requests a sequence number, then what is listed. The agent answers a request once, by REPLY.
 * `handle` names a process that the host started, `container` a container of the VM; both are the host's numbers.
 */
import type { BootConfig, MicrovmFs, MountSpec, ProcessSpec } from '../sentry/control/protocol.ts'
import type { GuestFilter } from './seccomp.ts'
import type { Encodable } from './wire.ts'

export const AGENT_VERSION = 1
/** Bytes of one stream on their way at most, in each direction. */
export const WINDOW = 65536

export const MSG = {
  /** seconds, nanoseconds, entropy (32–256 bytes) */
  WAKE: 1,
  /** handle of init, then a container: see {@link containerOrder} */
  CREATE: 2,
  /** container. Answered when init's exec(2) has worked. */
  START: 3,
  /** container, handle, process. Answered likewise, with its pid. */
  EXEC: 4,
  /** handle, bytes; none: end of file. Not a request. */
  INPUT: 5,
  /** handle, stream (1 output, 2 error, 3 terminal), bytes that were taken. Not a request. */
  CREDIT: 6,
  /** container, pid, signal, target (0 process, 1 group, 2 all) */
  SIGNAL: 7,
  /** handle, rows, columns. Not a request. */
  RESIZE: 8,
  /** container */
  PROCESSES: 9,
  /** container: tasks, user µs, system µs */
  STATS: 10,
  /** container, on */
  FREEZE: 11,
  /** container, memory? (else tasks), value (KiB; 0: no limit) */
  UPDATE: 12,
  /** handle, stream: nobody reads it any more. Not a request. */
  CLOSE: 13,
  /** interfaces: see network.ts and orders.c */
  NETWORK: 14,

  /** version. Once, when the agent is ready. */
  HELLO: 64,
  /** sequence number, errno or 0, text, values */
  REPLY: 65,
  /** handle, stream, bytes; none: its end */
  OUTPUT: 66,
  /** handle, bytes of INPUT that the process has taken */
  CONSUMED: 67,
  /** handle, status as a shell shows it */
  EXIT: 68,
} as const

/** Between monitors: how many descriptors of 9P connections come along. */
export const JOIN = 32

/** Containers of a VM are numbered from here; so are the handles of their processes, within each. */
export const FIRST_CONTAINER = 1
export const LAST_CONTAINER = 4095
const HANDLES = 1 << 20
export const containerOf = (handle: number): number => Math.floor(handle / HANDLES)
export const handleOf = (container: number, n: number): number => container * HANDLES + (n % HANDLES)

export type StdioKind = 0 | 1 | 2
export const STDIO = { NULL: 0, PIPE: 1, TTY: 2 } as const

export const TARGETS = { process: 0, group: 1, all: 2 } as const

const INFINITY = 0xffffffffffffffffn
const AS_IT_IS = 1001

const bits = (caps: readonly number[]) => caps.reduce((mask, cap) => mask | (1n << BigInt(cap)), 0n)

/** `filter`: null for none. */
export function processOrder(p: ProcessSpec, stdio: readonly StdioKind[], filter: GuestFilter | null): Encodable {
  const c = p.capabilities
  const limit = (value: number) => (value < 0 ? INFINITY : BigInt(value))
  return [
    p.args,
    p.env,
    p.cwd,
    p.uid,
    p.gid,
    p.additionalGids,
    p.umask,
    [bits(c.bounding), bits(c.effective), bits(c.inheritable), bits(c.permitted), bits(c.ambient)],
    p.rlimits.map((r) => [r.resource, limit(r.soft), limit(r.hard)]),
    p.terminal,
    p.consoleSize.rows,
    p.consoleSize.cols,
    p.noNewPrivileges,
    p.oomScoreAdj ?? AS_IT_IS,
    [...stdio],
    filter?.program ?? '',
    filter?.flags ?? 0,
  ]
}

/** Where mounts come from: from a gofer, or without one, when their ports are their numbers. */
const SHARED_BY: Readonly<Record<MicrovmFs, number>> = { '9p': 0, 'virtio-9p': 1, virtiofsd: 2, fuse: 3 }

const TYPES = ['gofer', 'tmpfs', 'proc', 'sysfs', 'devpts', 'mqueue', 'cgroup', 'cgroup2', 'dev'] as const

/** MS_* of mount(2). */
function mountFlags(m: MountSpec): number {
  const f = m.flags
  return (f.readonly ? 1 : 0) | (f.nosuid ? 2 : 0) | (f.nodev ? 4 : 0) | (f.noexec ? 8 : 0) | (f.noatime ? 1024 : 0)
}

/** How a container comes into its VM. */
export interface Placing {
  /** Which 9P port serves the gofer's mount n. */
  port(mount: number): number
  /** Whose ipc and uts namespaces it shares; 0: nobody's. */
  sandbox: number
  /** Init need not wait for START, and the answer to CREATE is the one to both. */
  atOnce: boolean
}

export function containerOrder(
  boot: BootConfig,
  container: number,
  { port, sandbox, atOnce }: Placing,
  stdio: readonly StdioKind[],
  filter: GuestFilter | null,
): Encodable[] {
  return [
    container,
    sandbox,
    SHARED_BY[boot.microvm?.fs ?? 'fuse'],
    [port(boot.root.goferMount), boot.root.readonly, boot.root.overlay],
    boot.mounts.map((m) => [
      m.destination,
      TYPES.indexOf(m.type),
      m.source,
      m.type === 'gofer' ? port(m.goferMount) : -1,
      m.isFile,
      mountFlags(m),
      m.type === 'gofer' ? String(m.goferMount) : m.options.join(','),
    ]),
    boot.maskedPaths,
    boot.readonlyPaths,
    boot.hostname,
    boot.domainname,
    boot.sysctl.map(([name, value]) => `${name}=${value}`),
    boot.limits.pids,
    Math.ceil(boot.limits.memory / 1024),
    atOnce,
    processOrder(boot.process, stdio, filter),
  ]
}
