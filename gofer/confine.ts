/**
 * Gives up everything that serving does not need: after this, the process can name nothing but its mounts, has the file
 * capabilities only, in every thread, and can make the calls of filter.ts. Checked, not assumed: what cannot be given
 * up ends the gofer. Namespaces are new already (native/launch).
 */
import { readFileSync } from 'node:fs'
import { openat } from '../native/host.ts'
import { installFilter, keepCapabilities, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, prctl } from '../native/host-confine.ts'
import { AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../native/host-files.ts'
import type { GoferConfig } from './config.ts'
import { goferFilter } from './filter.ts'
import { enterNewRoot } from './mounts.ts'
import { must } from './must.ts'

const CAP_CHOWN = 0
const CAP_DAC_OVERRIDE = 1
const CAP_DAC_READ_SEARCH = 2
const CAP_FOWNER = 3
const CAP_FSETID = 4
const CAP_MKNOD = 27

/** Capabilities that this process may keep, of those that serving can use. */
function keep(config: GoferConfig): number[] {
  const status = readFileSync('/proc/self/status', 'latin1')
  const permitted = BigInt(`0x${/^CapPrm:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`)
  const wanted = [CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID]
  if (config.mounts.some((m) => m.allowDevices && !m.readonly)) wanted.push(CAP_MKNOD)
  return wanted.filter((c) => (permitted >> BigInt(c)) & 1n)
}

/** `socketFd` −1: for a virtual machine, which has no sentry; `byNinep`: whose single files are to be served in folders. */
export function confine(config: GoferConfig, socketFd: number, byNinep: boolean): void {
  const capabilities = keep(config)
  const filter = goferFilter(process.pid, socketFd)
  // Out of reach in the new root, whose making needs what is being dropped.
  const tasks = must('open /proc/self/task', openat(AT_FDCWD, '/proc/self/task', O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
  enterNewRoot(config.mounts, socketFd < 0, byNinep)
  must('drop capabilities', keepCapabilities(tasks, capabilities))
  must('undumpable', prctl(PR_SET_DUMPABLE, 0))
  must('no_new_privs', prctl(PR_SET_NO_NEW_PRIVS, 1))
  must('seccomp', installFilter(filter))
}
