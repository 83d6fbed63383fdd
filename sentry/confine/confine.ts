/**
 * The second wall: when a guest has taken over the sentry, this is what the host still refuses. After it, in every
 * thread: no name but its own processes' in /proc, the sandbox's own user, (almost) no capabilities, the calls of
 * filter.ts. Checked, not assumed: what cannot be given up ends the sentry before a guest instruction has run.
 *
 * Namespaces (mnt, ipc, uts, usually net) and no_new_privs are new already (native/launch).
 */
import { readFileSync } from 'node:fs'
import { holdSelfFds, openat } from '../../native/host.ts'
import {
  installFilter,
  keepCapabilities,
  PR_SET_DUMPABLE,
  PR_SET_NO_NEW_PRIVS,
  prctl,
} from '../../native/host-confine.ts'
import { reopenHostProc } from '../kernel/host-proc.ts'
import { enterEmptyRoot, must } from './empty-root.ts'
import { confinedFilter } from './filter.ts'

export interface Confinement {
  /** User and group to become; see identity.ts. */
  id: number
  /** The platform traces its stubs. */
  ptrace: boolean
  /** The container's sockets are the sentry's. */
  network: boolean
  /** What the container can have at most. */
  capabilities: readonly number[]
}

const CAP_DAC_READ_SEARCH = 2
const CAP_NET_BIND_SERVICE = 10
const CAP_NET_ADMIN = 12
const CAP_NET_RAW = 13
const CAP_SYS_PTRACE = 19

const AT_FDCWD = -100
/** O_RDONLY | O_DIRECTORY | O_CLOEXEC */
const OPEN_DIRECTORY = 0o2200000
/** Of those that the process has, the ones with a use after boot. */
function keep(c: Confinement): number[] {
  const status = readFileSync('/proc/self/status', 'latin1')
  const permitted = BigInt(`0x${/^CapPrm:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`)
  // To open a donated file again for reading (native/host.ts reopen) when only the sandbox's root may read it.
  const wanted = [CAP_DAC_READ_SEARCH]
  if (c.network) {
    for (const cap of [CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW])
      if (c.capabilities.includes(cap)) wanted.push(cap)
  }
  if (yamaRefuses()) wanted.push(CAP_SYS_PTRACE)
  return wanted.filter((cap) => (permitted >> BigInt(cap)) & 1n)
}

/** Whether the host lets only CAP_SYS_PTRACE read another process, even one's own child. */
function yamaRefuses(): boolean {
  try {
    return Number(readFileSync('/proc/sys/kernel/yama/ptrace_scope', 'latin1')) >= 2
  } catch {
    return false
  }
}

export function confine(c: Confinement): void {
  const capabilities = keep(c)
  const filter = confinedFilter({ ...c, stubs: true })
  const tasks = must('open /proc/self/task', openat(AT_FDCWD, '/proc/self/task', OPEN_DIRECTORY, 0))
  enterEmptyRoot()
  // Through the old ones, `..` leads to the host's /proc.
  must('open its /proc', reopenHostProc())
  must('open its /proc/self/fd', holdSelfFds())
  must('drop capabilities', keepCapabilities(tasks, capabilities, c.id))
  must('undumpable', prctl(PR_SET_DUMPABLE, 0))
  must('no_new_privs', prctl(PR_SET_NO_NEW_PRIVS, 1))
  must('seccomp', installFilter(filter))
}
