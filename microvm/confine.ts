/**
 * The monitor's second wall: once init runs, this process has no name but its own in /proc, no capabilities and the calls of
 * sentry/confine/filter.ts. What a guest sends through its ports meets this, should our parsers fail. Before that it needs
 * root: to start QEMU and to join the network's interfaces.
 *
 * Its user is QEMU's: PR_SET_PDEATHSIG is no more allowed to than the parent that has ended.
 */
import { openat } from '../native/host.ts'
import { installFilter, keepCapabilities, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, prctl } from '../native/host-confine.ts'
import { enterEmptyRoot, must } from '../sentry/confine/empty-root.ts'
import { confinedFilter } from '../sentry/confine/filter.ts'
import { sandboxId } from '../sentry/confine/identity.ts'

const AT_FDCWD = -100
/** O_RDONLY | O_DIRECTORY | O_CLOEXEC */
const OPEN_DIRECTORY = 0o2200000

/** Throws an Error that says what could not be given up. */
export function confineMonitor(): void {
  const id = sandboxId()
  const filter = confinedFilter({ stubs: false, ptrace: false, network: false })
  const tasks = must('open /proc/self/task', openat(AT_FDCWD, '/proc/self/task', OPEN_DIRECTORY, 0))
  enterEmptyRoot()
  must('drop capabilities', keepCapabilities(tasks, [], id))
  must('undumpable', prctl(PR_SET_DUMPABLE, 0))
  must('no_new_privs', prctl(PR_SET_NO_NEW_PRIVS, 1))
  must('seccomp', installFilter(filter))
}
