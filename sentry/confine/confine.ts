/**
 * The second wall: when a guest has taken over the sentry, this is what the host still refuses. After it, in every
 * thread: no name but its own processes' in /proc, the sandbox's own user, (almost) no capabilities, the calls of
 * filter.ts. Checked, not assumed: what cannot be given up ends the sentry before a guest instruction has run.
 *
 * Namespaces (mnt, ipc, uts, usually net) and no_new_privs are new already (native/launch).
 */
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { holdSelfFds, openat } from '../../native/host.ts'
import {
  chdir,
  installFilter,
  keepCapabilities,
  MNT_DETACH,
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REMOUNT,
  mount,
  PR_SET_DUMPABLE,
  PR_SET_NO_NEW_PRIVS,
  pivotRoot,
  prctl,
  umount2,
} from '../../native/host-confine.ts'
import { reopenHostProc } from '../kernel/host-proc.ts'
import { sentryFilter } from './filter.ts'

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
const INERT = MS_NOSUID | MS_NODEV | MS_NOEXEC
/** Folders to mount the new root on; any will do. The first exists wherever the whole of proc is mounted. */
const STAGING_PLACES = ['/proc/fs', '/mnt', '/tmp', '/run']

function must(what: string, result: number): number {
  if (result < 0) throw new Error(`cannot confine the sentry: ${what} (errno ${-result})`)
  return result
}

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

/** An empty, read-only tmpfs, with a /proc that shows the sandbox's own processes and no kernel settings. */
function enterEmptyRoot(): void {
  const staging = STAGING_PLACES.find((p) => statSync(p, { throwIfNoEntry: false })?.isDirectory())
  if (staging === undefined) throw new Error('cannot confine the sentry: no folder to mount its root on')
  must('mount tmpfs', mount('tssandbox-sentry', staging, 'tmpfs', INERT, 'mode=0555,size=4k,nr_inodes=3'))
  mkdirSync(`${staging}/proc`, 0o555)
  // Linux < 5.8 has no such view of its own per mount: there it is the host's, read-only, as the sandbox's user sees it.
  if (mount('proc', `${staging}/proc`, 'proc', INERT | MS_RDONLY, 'subset=pid,hidepid=2') < 0) {
    must('bind /proc', mount('/proc', `${staging}/proc`, '', MS_BIND, ''))
  }
  must('chdir', chdir(staging))
  must('pivot_root', pivotRoot('.', '.'))
  must('unmount the old root', umount2('.', MNT_DETACH))
  must('chdir /', chdir('/'))
  must('read-only /proc', mount('', '/proc', '', MS_REMOUNT | MS_BIND | MS_RDONLY | INERT, ''))
  must('read-only /', mount('', '/', '', MS_REMOUNT | MS_BIND | MS_RDONLY | INERT, ''))
}

export function confine(c: Confinement): void {
  const capabilities = keep(c)
  const filter = sentryFilter(c)
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
