/**
 * Entry of the monitor: the process that stands where a sentry stands, with a VM for its kernel. Its pid is the
 * container's, it serves the control socket and ends with init's exit code. QEMU is its child and dies with it.
 *
 * `--boot-fd N`: a BootConfig, as for the sentry. The ready pipe gets one line.
 */
import { closeSync, readFileSync, writeSync } from 'node:fs'
import { dropAhead } from '../native/ahead.ts'
import { close, getrandom, pidfdOpen } from '../native/host.ts'
import { exitGroup } from '../native/host-confine.ts'
import { distDir } from '../native/library.ts'
import { phase, recordPhases } from '../native/phases.ts'
import { sandboxId } from '../sentry/confine/identity.ts'
import { followConsoleSize } from '../sentry/control/console-size.ts'
import type { BootConfig } from '../sentry/control/protocol.ts'
import { ControlServer } from '../sentry/control/server.ts'
import { chooseAccel } from './accel.ts'
import { AgentClient, type AgentListener } from './agent.ts'
import { confineMonitor } from './confine.ts'
import { ConsoleLog } from './console-log.ts'
import { EPOLLIN, EPOLLRDHUP, Loop } from './loop.ts'
import { join } from './member.ts'
import { MSG } from './messages.ts'
import { joinInterfaces, openTaps } from './network.ts'
import { Pod } from './pod.ts'
import { Qemu } from './qemu.ts'
import { VmContainer } from './sandbox.ts'
import { socketPair } from './sockets.ts'
import { Store } from './store.ts'
import { template } from './template.ts'
import { startVirtiofsd } from './virtiofsd.ts'
import { NINEP_PORTS, POD_PORTS, type SharedFiles, type VmConnections, type VmShape } from './vmm.ts'
import type { Encodable } from './wire.ts'

const INTERNAL_FAILURE = 128
const HELLO_MS = 60_000
const WAKE_MS = 15_000
const GOFER_GRACE_MS = 300
const MIB = 1 << 20
/** Without a limit. Pages that the guest does not touch cost nothing. */
const DEFAULT_MEMORY = 1024
/** Of the guest's kernel, beside the container's own limit. */
const KERNEL_MEMORY = 128
const MEMORY_STEP = 128
const MAX_CPUS = 8

const NOBODY: AgentListener = { output() {}, consumed() {}, exited() {}, gone() {} }

function vmShape(boot: BootConfig, store: Store): VmShape {
  const facts = store.hostFacts()
  const { accel } = chooseAccel(boot.microvm!.accel, facts)
  const limit = Math.max(boot.limits.memory, boot.pod?.memory ?? 0)
  const wanted = limit && !(boot.pod && !boot.pod.memory) ? limit / MIB + KERNEL_MEMORY : DEFAULT_MEMORY
  const growing = boot.pod !== undefined
  const mounts = boot.fds.ninep?.length ?? 0
  if (mounts > NINEP_PORTS) throw new Error(`${mounts} mounts are more than a virtual machine has room for`)
  return {
    image: store.image(),
    accel,
    // In steps, so that containers of about the same size share a template.
    memory: Math.max(256, Math.ceil(wanted / MEMORY_STEP) * MEMORY_STEP),
    // Emulated CPUs take turns badly; and each costs boot time.
    cpus: accel === 'tcg' ? 1 : Math.min(MAX_CPUS, boot.limits.cpus || MAX_CPUS),
    tscKhz: facts.tscKhz,
    networked: boot.network === 'host',
    // A template's are for many containers; each takes a booting VM 17 ms to find.
    ports: growing && mounts <= POD_PORTS ? POD_PORTS : boot.microvm!.template ? NINEP_PORTS : Math.max(1, mounts),
    growing,
  }
}

function greet(agent: number): void {
  const loop = new Loop()
  const client = new AgentClient(agent, loop, NOBODY)
  const greeted = client.waitForHello(HELLO_MS)
  loop.unwatch(agent)
  loop.dispose()
  if (!greeted) throw new Error('the virtual machine does not boot')
}

/** A VM with the container in it, created. */
function startVm(boot: BootConfig, loop: Loop): VmContainer {
  const { fds } = boot
  const container = new VmContainer(boot, loop)
  const dist = distDir()
  const store = new Store(boot.microvm!.store, dist)
  const vmm = new Qemu(dist)
  const shape = vmShape(boot, store)
  const ninep = fds.ninep ?? []
  const [agentHere, agentThere] = socketPair()
  const [consoleHere, consoleThere] = socketPair()
  const { networked } = shape
  const taps = networked ? openTaps() : []
  const { fs } = boot.microvm!
  let shares: SharedFiles | null = null
  if (fs === 'virtio-9p') shares = { by: fs, mounts: boot.shares! }
  if (fs === 'virtiofsd') shares = { by: fs, socket: startVirtiofsd(dist, boot.shares!) }
  const to: VmConnections = { shares, agent: agentThere, ninep, taps, console: consoleThere }
  const confinement = { id: sandboxId(), cgroups: [] }
  // The devices of shared files cannot be saved.
  const saved = boot.microvm!.template && !shares ? template(store, vmm, shape, greet) : null
  if (!saved) dropAhead()
  const vm = saved ? vmm.restore(shape, saved, to, confinement) : vmm.boot(shape, to, confinement)
  phase('QEMU spawned')
  for (const fd of [agentThere, consoleThere, ...ninep, ...taps, shares?.by === 'virtiofsd' ? shares.socket : -1])
    if (fd >= 0) close(fd)
  const agentFd = vm.ends?.agent ?? agentHere
  const console = new ConsoleLog(vm.ends?.console ?? consoleHere, loop)
  const pod = boot.pod ? new Pod(container, vm, loop) : null
  const agent = new AgentClient(agentFd, loop, pod ?? container)
  container.agent = agent
  container.pod = pod
  if (pod) pod.agent = agent
  const pidfd = pidfdOpen(vm.pid, 0)
  loop.watch(pidfd, EPOLLIN, {
    onHostEvents() {
      loop.unwatch(pidfd)
      console.collect()
      agent.fail('it has ended')
    },
  })
  if (!saved && !agent.waitForHello(HELLO_MS)) throw new Error(`the virtual machine does not boot${console.tail()}`)
  const seed = Buffer.alloc(64)
  getrandom(seed, seed.length, 0)
  const now = Date.now()
  const wake = agent.ask(MSG.WAKE, Math.floor(now / 1000), (now % 1000) * 1_000_000, seed)
  // Both at a time: the agent takes no order before it is awake.
  const asked = () => {
    const woken = agent.answer(wake, WAKE_MS)
    if (woken.errno) throw new Error(`the virtual machine does not wake up: ${woken.text}${console.tail()}`)
    phase('agent awake')
  }
  // What has to come between creation and start is the network.
  const error = container.create({ port: (mount) => mount, sandbox: 0, atOnce: boot.autoStart && !networked }, asked)
  phase('container created')
  if (error) throw new Error(error + (container.failure ? console.tail() : ''))
  container.beforeStart = () => {
    // By now the hooks have been here.
    if (!networked) return ''
    let network: Encodable
    try {
      network = joinInterfaces()
    } catch (error) {
      return (error as Error).message
    }
    const { errno, text } = agent.request(WAKE_MS, MSG.NETWORK, network)
    return errno ? `the network inside: ${text}, errno ${errno}` : ''
  }
  container.describeEnd = () => console.tail()
  return container
}

function start(boot: BootConfig): { container: VmContainer; loop: Loop } {
  const { fds } = boot
  const loop = new Loop()
  const container = boot.pod?.role === 'member' ? join(boot, loop) : startVm(boot, loop)
  if (fds.gofer >= 0)
    loop.watch(fds.gofer, EPOLLIN | EPOLLRDHUP, {
      onHostEvents() {
        loop.unwatch(fds.gofer)
        // The end of the virtual machine is its gofers' end, too: then that is the reason.
        loop.after(GOFER_GRACE_MS, () => {
          if (container.exitCode >= 0) return
          container.failure = `the gofer of container ${boot.id} is gone`
          container.exitCode = INTERNAL_FAILURE
        })
      },
    })
  container.afterStart = confineMonitor
  new ControlServer(fds.control, fds.owner, container, loop)
  if (fds.controllingConsole) followConsoleSize(fds.console, container, loop)
  if (boot.autoStart) {
    const refused = container.start()
    if (refused) throw new Error(refused.error)
    phase('init runs')
  }
  return { container, loop }
}

function bootConfig(): BootConfig {
  const at = process.argv.indexOf('--boot-fd')
  const fd = Number(process.argv[at + 1])
  if (at < 0 || !Number.isInteger(fd)) throw new Error('the monitor is started by tssandbox, not by hand')
  const boot = JSON.parse(readFileSync(fd, 'utf8')) as BootConfig
  closeSync(fd)
  return boot
}

export function main(): void {
  const boot = bootConfig()
  recordPhases(boot.fds.phases, 'monitor')
  phase('configuration read')
  let started: ReturnType<typeof start>
  try {
    started = start(boot)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    writeSync(boot.fds.ready, `${JSON.stringify({ ok: false, error: message })}\n`)
    if (process.env.TSSANDBOX_DEBUG) console.error(error)
    exitGroup(INTERNAL_FAILURE)
    throw error
  }
  try {
    writeSync(boot.fds.ready, '{"ok":true}\n')
  } catch {
    // Who wanted the container is gone.
    exitGroup(INTERNAL_FAILURE)
  }
  closeSync(boot.fds.ready)
  const { container, loop } = started
  loop.run(() => container.exitCode >= 0)
  phase('init has ended')
  if (container.failure)
    writeSync(
      2,
      `tssandbox: the virtual machine of container ${boot.id}: ${container.failure}${container.describeEnd()}\n`,
    )
  exitGroup(container.exitCode)
}
