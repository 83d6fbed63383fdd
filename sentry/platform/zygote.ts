/**
 * The zygote (DESIGN §5): the pristine stub process that every new address space is forked from. Both platforms set it
 * up through ptrace, before any guest code exists.
 */
import { readFileSync, writeFileSync, writeSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { join } from 'node:path'
import * as host from '../../native/host.ts'
import { distDir } from '../../native/library.ts'
import { ptCall, ptSetStubId, ptVmWrite, ptZygote } from '../../native/ptrace.ts'
import { SYS_close, SYS_munmap, SYS_prctl, SYS_seccomp } from '../abi/syscall-numbers.ts'
import { LISTENER_FD, STUB_BASE, STUB_OPS } from './stub.ts'

export interface Range {
  start: number
  size: number
}

export interface ZygoteFds {
  wake: number
  control: number
  arena: number
}
export const NO_FDS: ZygoteFds = { wake: -1, control: -1, arena: -1 }

/** Steps of nice that the sentry is better than its guests: each of their calls waits for it, however busy they are. */
const SENTRY_AHEAD = 10

/** Puts the sentry ahead of its guests where the host allows it; returns the guests' nice value. */
function raisePriority(): number {
  const nice = getPriority()
  try {
    setPriority(Math.max(nice - SENTRY_AHEAD, -20))
  } catch {
    // Without CAP_SYS_NICE all are equal.
  }
  return nice
}

/** Starts the zygote in ptrace slot `slot`, stopped. Throws where the host does not let us. */
export function startZygote(slot: number, fds: ZygoteFds): void {
  const stub = host.openat(-100, join(distDir(), 'stub'), 0x80000, 0)
  if (stub < 0) throw new Error(`platform: cannot open the stub (errno ${-stub})`)
  const ret = ptZygote(slot, stub, fds.wake, fds.control, fds.arena, raisePriority())
  host.close(stub)
  if (ret < 0) throw new Error(`platform: the host refuses ptrace of the stub (errno ${-ret})`)
}

const PR_SET_DUMPABLE = 4

let oomScoreAdj = 0
let cgroups: readonly number[] = []

/**
 * Where every stub process to come stands with the host: its oom_score_adj, `cgroup.procs` files to be entered in (closed
 * then), and its user and group id.
 */
export function placeStubs(score: number, cgroupFds: readonly number[], id: number): void {
  oomScoreAdj = score
  cgroups = cgroupFds
  ptSetStubId(id)
}

/** Leaves only what is ours and the vDSO, and says where that is. */
export function emptyAddressSpace(slot: number, pid: number, vdso: Range, vvar: Range): void {
  // The sentry's own, which the zygote inherited, protects the sentry; a host that forbids the change protects both.
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(oomScoreAdj))
  } catch {}
  for (const fd of cgroups) {
    writeSync(fd, String(pid))
    host.close(fd)
  }
  cgroups = []
  // Within reach of its own user: the sentry becomes that (sentry/confine) and reads and writes its memory.
  ptCall(slot, SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0, 0)
  const maps = readFileSync(`/proc/${pid}/maps`, 'latin1')
  for (const line of maps.split('\n')) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)$/.exec(line)
    if (match === null) continue
    const start = Number.parseInt(match[1]!, 16)
    const end = Number.parseInt(match[2]!, 16)
    const name = match[3]!
    if (name === '[vdso]') Object.assign(vdso, { start, size: end - start })
    else if (name.startsWith('[vvar')) {
      if (vvar.start === 0) vvar.start = start
      vvar.size = end - vvar.start
    } else if (start < STUB_BASE || name === '[stack]') {
      ptCall(slot, SYS_munmap, start, end - start, 0, 0, 0, 0)
    }
  }
}

/** Copies bytes into the stub's operation page. */
export function writeScratch(pid: number, bytes: Uint8Array): void {
  if (ptVmWrite(pid, STUB_OPS, bytes, 0, bytes.length) !== bytes.length)
    throw new Error('platform: cannot write to the stub')
}

/** Installs the filter; returns the listener of its notifications. */
export function installFilter(slot: number, pid: number, filter: Uint8Array): number {
  // struct sock_fprog, then the program, in the operation page.
  const program = new Uint8Array(16 + filter.length)
  const view = new DataView(program.buffer)
  view.setUint16(0, filter.length / 8, true)
  view.setUint32(8, (STUB_OPS + 16) % 2 ** 32, true)
  view.setUint32(12, Math.floor((STUB_OPS + 16) / 2 ** 32), true)
  program.set(filter, 16)
  writeScratch(pid, program)
  const SECCOMP_SET_MODE_FILTER = 1
  const NEW_LISTENER = 8
  const remote = ptCall(slot, SYS_seccomp, SECCOMP_SET_MODE_FILTER, NEW_LISTENER, STUB_OPS, 0, 0, 0)
  if (remote !== LISTENER_FD) throw new Error(`platform: seccomp with a listener failed (${remote})`)
  const pidfd = host.pidfdOpen(pid, 0)
  const listener = host.pidfdGetfd(pidfd, remote)
  host.close(pidfd)
  if (listener < 0) throw new Error(`platform: cannot get the seccomp listener (errno ${-listener})`)
  const closed = ptCall(slot, SYS_close, remote, 0, 0, 0, 0, 0)
  if (closed !== 0) throw new Error(`platform: the stub keeps its listener (errno ${-closed})`)
  return listener
}
