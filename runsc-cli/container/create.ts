/**
 * create: from a bundle to a sandbox whose init process waits for `start`. Whatever goes wrong, nothing is left behind;
 * whenever this process is killed, what is on disk suffices for `delete --force` to clean up.
 */
import { mkdirSync } from 'node:fs'
import { userInfo } from 'node:os'
import { phase } from '../../native/phases.ts'
import { checkUnused, createCgroups, guestMemoryCgroups, limitCgroups, planCgroups } from '../cgroup/cgroup.ts'
import { OWN_MEMORY, VM_MEMORY } from '../cgroup/limits.ts'
import { CliError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { GlobalOptions } from '../options.ts'
import { planBoot } from '../spec/boot.ts'
import { type LoadedSpec, loadBundle } from '../spec/load.ts'
import type { Hooks } from '../spec/oci.ts'
import { type BorrowedTerminal, consoleForSocket } from './console.ts'
import { destroy } from './destroy.ts'
import { ContainerDirectory, type ContainerState, type Lock, writePidFile } from './directory.ts'
import { OCI_VERSION, runHooks } from './hooks.ts'
import { isAlive, processRef } from './liveness.ts'
import { ensureMountPoints } from './mount-points.ts'
import { isOwnNetwork } from './network-namespace.ts'
import { hostnameOfPod, joinPod } from './pod.ts'
import { type Sandbox, spawnSandbox } from './spawn.ts'
import { ociState } from './status.ts'

export interface CreateRequest {
  id: string
  bundle: string
  configName?: string
  pidFile: string
  consoleSocket: string
  preserveFds: number
  /** Foreground `run`: the user's terminal, and the sandbox ends with this process. */
  terminal: BorrowedTerminal | null
  owned: boolean
  /** `run`: init need not wait for `start`, unless a hook has to run before it. */
  startAtOnce: boolean
  /** Its processes are there; init may run before `create` returns. */
  onSpawn?: (sandbox: Sandbox) => void
}

export interface Created {
  directory: ContainerDirectory
  state: ContainerState
  sandbox: Sandbox
  spec: LoadedSpec
  /** Still held. */
  lock: Lock
}

export async function create(request: CreateRequest, options: GlobalOptions, log: Log): Promise<Created> {
  phase('code loaded')
  const spec = loadBundle(request.bundle, request.configName)
  const directory = new ContainerDirectory(options.root, request.id)
  const { boot, gofer, namedBy } = planBoot(request.id, spec, options)
  if (namedBy !== undefined) boot.hostname = hostnameOfPod(options.root, namedBy) ?? boot.hostname
  for (const warning of spec.warnings) log.warn(warning)
  boot.autoStart = request.startAtOnce && !hasHooksBeforeStart(spec.config.hooks)
  checkConsole(request, boot.process.terminal)
  if (boot.platform === 'microvm') {
    if (request.preserveFds)
      throw new CliError("--preserve-fds: the host's descriptors cannot go into a virtual machine")
    if (boot.strace) log.warn('--strace: the system calls of a virtual machine are answered by its own kernel')
  }

  phase('spec loaded')
  directory.create()
  const lock = await directory.lock()
  const linux = spec.config.linux
  const vm = boot.platform === 'microvm'
  const useCgroups = !options.ignoreCgroups && !options.rootless && process.getuid?.() === 0
  const cgroups = useCgroups ? planCgroups(request.id, linux?.cgroupsPath, options.systemdCgroup) : { dirs: [] }
  const guestCgroups = !vm && linux?.resources?.memory?.limit ? guestMemoryCgroups(cgroups) : []
  const state: ContainerState = {
    version: 1,
    ociVersion: spec.config.ociVersion,
    id: request.id,
    bundle: spec.bundle,
    rootfs: spec.rootfs,
    created: new Date().toISOString(),
    owner: process.getuid?.() === 0 ? 'root' : userInfo().username,
    annotations: spec.config.annotations,
    phase: 'creating',
    sentry: null,
    gofer: null,
    cgroups: [],
    hooks: spec.config.hooks,
    process: boot.process,
    platform: boot.platform,
  }
  let sandbox: Sandbox | undefined
  try {
    checkUnused(cgroups)
    // On disk before they exist, so that none is forgotten.
    state.cgroups = [...cgroups.dirs.map((d) => d.path), ...guestCgroups]
    directory.write(state)
    createCgroups(cgroups)
    for (const dir of guestCgroups) mkdirSync(dir, { recursive: true })
    if (linux?.resources)
      for (const warning of limitCgroups(cgroups, linux.resources, vm ? VM_MEMORY : OWN_MEMORY)) log.warn(warning)
    phase('state and cgroups made')
    ensureMountPoints(spec.rootfs, boot.mounts)

    const network = linux?.namespaces.find((n) => n.type === 'network')
    const hosts = network === undefined || (network.path !== undefined && isOwnNetwork(network.path))
    // The network is the sandbox's.
    if (boot.pod?.role === 'member') boot.network = 'none'
    if (vm && hosts && boot.network === 'host') {
      // The host's own interfaces cannot be taken from it.
      log.warn("linux.namespaces: the host's network: a virtual machine has loopback only, then")
      boot.network = 'none'
    }
    // Nobody has put an interface into a namespace that is only made now, and init runs before anyone could.
    if (vm && network && !network.path && boot.autoStart && !boot.pod) boot.network = 'none'
    const terminal = boot.process.terminal
    const slave = request.consoleSocket ? consoleForSocket(request.consoleSocket, boot.process.consoleSize) : -1
    if (request.terminal && !boot.process.consoleSize.rows) boot.process.consoleSize = request.terminal.size
    const { pod } = boot
    const joined = pod?.role === 'member' ? await joinPod(options.root, pod) : -1
    sandbox = spawnSandbox({
      boot,
      gofer,
      stdio: terminal ? [-1, -1, -1] : [0, 1, 2],
      preserveFds: request.preserveFds,
      console: slave >= 0 ? slave : (request.terminal?.fd ?? -1),
      controllingConsole: slave >= 0,
      controlSocket: directory.controlSocket,
      owned: request.owned,
      cgroups: cgroups.dirs.map((d) => d.path),
      guestCgroups,
      pod: joined,
      netns: network ? network.path || undefined : '',
    })
    request.onSpawn?.(sandbox)
    state.sentry = processRef(sandbox.sentry)
    state.gofer = sandbox.gofer ? processRef(sandbox.gofer) : null
    directory.write(state)
    if (slave >= 0) (await import('../../native/host.ts')).close(slave)

    const { hooks } = spec.config
    const early = [...hooks.prestart, ...hooks.createRuntime, ...hooks.createContainer]
    if (early.length) {
      // Hooks may run as soon as the namespaces are there; the sentry boots meanwhile.
      await Promise.race([sandbox.ready, sandbox.prepared()])
      try {
        for (const kind of ['prestart', 'createRuntime', 'createContainer'] as const)
          await runHooks(kind, hooks[kind], { ...ociState(state, 'creating'), ociVersion: OCI_VERSION })
      } catch (error) {
        // A sentry that could not start takes its namespaces away from under the hooks: then its reason is the reason.
        if (!isAlive(state.sentry)) await sandbox.ready
        throw error
      }
    }
    await sandbox.ready
    state.phase = boot.autoStart ? 'running' : 'created'
    directory.write(state)
    if (request.pidFile) writePidFile(request.pidFile, sandbox.sentry)
  } catch (error) {
    sandbox?.ready.catch(() => {})
    await destroy(directory, state).catch(() => {})
    lock.release()
    throw error
  }
  return { directory, state, sandbox, spec, lock }
}

const hasHooksBeforeStart = (hooks: Hooks): boolean =>
  [hooks.prestart, hooks.createRuntime, hooks.createContainer, hooks.startContainer].some((list) => list.length > 0)

function checkConsole(request: CreateRequest, terminal: boolean): void {
  if (terminal && !request.consoleSocket && !request.terminal)
    throw new CliError(
      request.owned
        ? 'process.terminal is true, but stdin is not a terminal'
        : 'cannot allocate tty if tssandbox will detach without setting console socket',
    )
  if (!terminal && request.consoleSocket)
    throw new CliError('cannot use console socket if tssandbox will not detach or allocate tty')
}
