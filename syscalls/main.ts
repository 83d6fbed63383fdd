/**
 * Entry of the sentry process: reads the boot configuration, joins platform, kernel and system call table, mounts the
 * container's tree, and runs the loop. From here on Node's event loop never runs.
 *
 * The ready pipe gets one line: the container can be started, or why not.
 */
import { closeSync, readFileSync, writeSync } from 'node:fs'
import { holdSelfFds } from '../native/host.ts'
import { exitGroup } from '../native/host-confine.ts'
import { hostShutdown } from '../native/host-socket.ts'
import { phase, recordPhases } from '../native/phases.ts'
import { confine } from '../sentry/confine/confine.ts'
import { sandboxId } from '../sentry/confine/identity.ts'
import { Container } from '../sentry/container/container.ts'
import { describe } from '../sentry/container/process-start.ts'
import { followConsoleSize } from '../sentry/control/console-size.ts'
import type { BootConfig } from '../sentry/control/protocol.ts'
import { ControlServer } from '../sentry/control/server.ts'
import { GoferClient } from '../sentry/fs/gofer/client.ts'
import { connectGofer } from '../sentry/fs/gofer/file-system.ts'
import { setSysctl } from '../sentry/fs/proc/sysctl.ts'
import { registerFileSystems } from '../sentry/fs/register.ts'
import { systemConsole } from '../sentry/fs/tty/console.ts'
import { EPOLLET } from '../sentry/kernel/host-poll.ts'
import { limitCpus, openHostProc } from '../sentry/kernel/host-proc.ts'
import { Kernel } from '../sentry/kernel/kernel.ts'
import { configureNetwork } from '../sentry/net/configure.ts'
import type { Platform } from '../sentry/platform/platform.ts'
import { PtracePlatform } from '../sentry/platform/ptrace/ptrace-platform.ts'
import { SystrapPlatform, systrapAvailable } from '../sentry/platform/systrap/systrap-platform.ts'
import { placeStubs } from '../sentry/platform/zygote.ts'
import { buildRootNamespace } from '../sentry/vfs/boot-mounts.ts'
import { Dentry } from '../sentry/vfs/dentry.ts'
import { EPOLLRDHUP } from '../sentry/vfs/file-description.ts'
import { shareNames } from '../sentry/vfs/known-names.ts'
import { callKinds, callPolicy } from './call-policy.ts'
import { startDebugLog } from './debug-log.ts'
import { SYSCALL_BY_NR, SYSCALLS } from './table.ts'

const SHUT_RDWR = 2
const INTERNAL_FAILURE = 128
/** How long a terminal may take for the last output. */
const DRAIN_MS = 1000

function bootFd(): number {
  const at = process.argv.indexOf('--boot-fd')
  const fd = Number(process.argv[at + 1])
  if (at < 0 || !Number.isInteger(fd)) throw new Error('the sentry is started by tssandbox, not by hand')
  return fd
}

/** A failure that is the user's to read, as opposed to a bug's stack. */
function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function choosePlatform(wanted: BootConfig['platform']): Platform {
  const available = systrapAvailable()
  if (wanted === 'microvm') throw new Error('--platform=microvm: that is not a sentry')
  if (wanted === 'systrap' && !available)
    throw new Error('--platform=systrap: this CPU or kernel lacks FSGSBASE; use --platform=ptrace')
  return wanted !== 'ptrace' && available ? new SystrapPlatform() : new PtracePlatform()
}

function start(config: BootConfig): { kernel: Kernel; end: () => void } {
  const id = sandboxId()
  placeStubs(config.stubOomScoreAdj, config.fds.guestCgroups, id)
  holdSelfFds()
  const platform = choosePlatform(config.platform)
  phase('zygote ready')
  platform.names[0] = Dentry.generation
  Dentry.names = platform.names
  shareNames(platform.known)
  const kernel = new Kernel(
    platform,
    SYSCALL_BY_NR.map((call) => call?.handler ?? null),
    Uint8Array.from(SYSCALL_BY_NR, (call) => (call === undefined ? 0 : callKinds(call))),
  )
  for (const call of SYSCALLS) platform.setCallPolicy(call.nr, callPolicy(call))
  kernel.pidsLimit = config.limits.pids
  kernel.memoryLimit = config.limits.memory
  if (config.cgroupPath !== '') kernel.cgroupPath = config.cgroupPath
  openHostProc()
  limitCpus(config.limits.cpus)
  kernel.cpuLimit = config.limits.cpus
  for (const [name, value] of config.sysctl) setSysctl(kernel, name, value)
  kernel.uts.nodename = config.hostname
  if (config.domainname !== '') kernel.uts.domainname = config.domainname
  configureNetwork(config.network)
  const gofer = new GoferClient(config.fds.gofer)
  const endDebugLog = startDebugLog(kernel, config, gofer)
  gofer.onDeath = (reason) => {
    process.stderr.write(`tssandbox: the gofer of container ${config.id} is gone: ${reason}\n`)
    kernel.exitCode = INTERNAL_FAILURE
  }
  // Also noticed while nobody asks it for anything.
  kernel.hostPoll.watch(config.fds.gofer, EPOLLRDHUP | EPOLLET, gofer)
  phase('kernel made')
  const mounts = connectGofer(gofer)
  phase('gofer answered')
  if (typeof mounts === 'number') throw new Error(`the gofer does not answer: ${describe(mounts)}`)
  registerFileSystems(kernel, config)
  const root = buildRootNamespace(kernel, config, (id) => {
    const sb = mounts.get(id)
    if (sb === undefined) throw new Error(`the gofer has no mount ${id}`)
    return sb
  })
  phase('mounted')
  const container = new Container(kernel, root, config)
  const error = container.boot()
  if (error !== null) throw new Error(error.error)
  phase('program loaded')
  new ControlServer(config.fds.control, config.fds.owner, container, kernel.hostPoll)
  if (config.fds.controllingConsole) followConsoleSize(config.fds.console, container, kernel.hostPoll)
  confine({
    id,
    ptrace: platform.name === 'ptrace',
    network: config.network === 'host',
    capabilities: config.process.capabilities.bounding,
  })
  phase('confined')
  if (config.autoStart) container.start()
  return { kernel, end: endDebugLog }
}

export function main(): void {
  const fd = bootFd()
  const config = JSON.parse(readFileSync(fd, 'utf8')) as BootConfig
  closeSync(fd)
  recordPhases(config.fds.phases, 'sentry')
  let started: ReturnType<typeof start>
  try {
    started = start(config)
  } catch (error) {
    writeSync(config.fds.ready, `${JSON.stringify({ ok: false, error: message(error) })}\n`)
    if (process.env.TSSANDBOX_DEBUG) console.error(error)
    exitGroup(INTERNAL_FAILURE)
    throw error
  }
  try {
    writeSync(config.fds.ready, '{"ok":true}\n')
  } catch {
    // Who wanted the container is gone.
    exitGroup(INTERNAL_FAILURE)
  }
  closeSync(config.fds.ready)
  const { kernel, end } = started
  const code = kernel.run()
  phase('init has ended')
  end()
  // It goes while this process does, which takes either some milliseconds.
  hostShutdown(config.fds.gofer, SHUT_RDWR)
  systemConsole()?.drain(DRAIN_MS)
  kernel.platform.shutdown()
  phase('exits')
  exitGroup(code)
}
