/**
 * QEMU's `microvm` machine as the {@link Vmm}. The kernel is an ELF file started by its PVH note; memory is a file, shared
 * while a template is made and private when it is restored, so that restored VMs share what they don't change.
 *
 * The process is confined: a user of its own, an empty root with QEMU's own files in it, no network, QEMU's seccomp filter.
 * The guest's devices are serial ports and a network card; files come through serial ports from the gofer.
 */
import { closeSync, existsSync, lstatSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { dropAhead, ID, takeAhead } from '../native/ahead.ts'
import { close } from '../native/host.ts'
import { spawnProcess } from '../native/spawn.ts'
import { FIRST_SANDBOX_ID } from '../sentry/confine/identity.ts'
import type { Share } from '../sentry/control/protocol.ts'
import { orders, QmpClient } from './qmp.ts'
import { socketPair } from './sockets.ts'
import { shareArguments } from './virtiofsd.ts'
import {
  CARDS,
  type Confinement,
  type RunningVm,
  type Template,
  type VmConnections,
  type Vmm,
  type VmShape,
} from './vmm.ts'

const PLACES = ['/usr/bin/qemu-system-x86_64', '/usr/local/bin/qemu-system-x86_64']

export function findQemu(): string {
  const found = PLACES.find((path) => existsSync(path))
  if (!found) throw new Error('QEMU is not installed (Debian: apt-get install qemu-system-x86)')
  return found
}

/**
 * Emulated, `rep movsb` copies a byte at a time, and kernel and C library prefer it where the CPU says that it is fast:
 * without, 64 MB through 9P take half the time. With SMAP, memory of processes is looked at through a table of its own, which
 * has to be filled anew after each change of task, too; what it hardens is the guest's kernel, as below.
 */
const CPU = { kvm: 'host', tcg: 'max,-erms,-fsrm,-smap' }

const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'

/** What QEMU reads: its libraries, firmware and device modules. Not below: any configuration or user's file. */
const QEMU_FILES = ['/usr', '/lib', '/lib64', '/bin', '/etc/ld.so.cache', '/dev/null', '/dev/urandom']

/** Of one virtio-serial device, counting number 0, which is a console's. */
const MAX_SERIAL_PORTS = 31
/** What the guest mounts (native/agent/container.c). */
const SHARE = 'share'
/** CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID: as a gofer has. */
const FILE_CAPABILITIES = '1f'

/** Steps of the boot that take 10 to 150 ms each when emulated and serve nothing here. A kernel without one ignores it. */
const NOT_NEEDED = [
  ...['init_kprobe_trace', 'init_trace_printk_function_export', 'slab_sysfs_init', 'init_zswap'],
  ...['crypto_kdf108_init', 'blake2s_mod_init', 'load_system_certificate_list'],
  // Of 41,000 functions those that are overridden, for tracefs, and its files.
  ...['ftrace_check_for_weak_functions', 'trace_eval_init', 'tracer_init_tracefs'],
]
/**
 * Each of these has the kernel's type information read and checked, 0.1 s: functions for BPF programs, and the congestion
 * control `cubic`, which a VM without a network can do without (`reno` is there).
 */
const NOT_NEEDED_ALONE = [
  ...['bpf_rstat_kfunc_init', 'bpf_key_sig_kfuncs_init', 'kfunc_init', 'bpf_prog_test_run_init'],
  ...['bpf_tcp_ca_kfunc_init', 'cubictcp_register'],
]

/**
 * What a kernel that is emulated does better without: accounting at each change of task, memory zeroed and checked twice,
 * background work. Hardening of the guest against its own container, which no emulator should be trusted with anyway.
 */
const EMULATED =
  'psi=0 transparent_hugepage=never init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off cpuidle.off=1 ' +
  'noautogroup rodata=off'

const emulated = (networked: boolean) =>
  `${EMULATED} initcall_blacklist=${networked ? NOT_NEEDED : [...NOT_NEEDED, ...NOT_NEEDED_ALONE]}`

/**
 * `console=` and timing as research/microvm.md found them; `panic=-1` makes a panic end QEMU. `share_modules` is for the agent.
 */
function commandLine(shape: VmShape, share: string): string {
  const common =
    'console=ttyS0 quiet reboot=t panic=-1 no_timer_check mitigations=off nokaslr tsc=reliable random.trust_cpu=on ' +
    'i8042.noaux=1 cryptomgr.notests net.ifnames=0 rcupdate.rcu_expedited=1 lsm=landlock,yama audit=0 nowatchdog'
  const timed = shape.accel === 'tcg' ? `${common} ${emulated(shape.networked)} tsc_early_khz=${shape.tscKhz}` : common
  return share ? `${timed} share_modules=${share}` : timed
}

/** Descriptors of a child by number, from 3 upwards. */
class ChildFds {
  readonly list: number[] = []
  add(fd: number): number {
    this.list.push(fd)
    return 2 + this.list.length
  }
}

interface MachineFds {
  agent: number
  console: number
  ninep: number[]
  taps: number[]
  /** Sockets that nobody reads, in the place of taps. */
  noCables: number[]
  /** Of virtiofsd; −1: none. */
  shares: number
}

/** The machine. `memory`: the backend's own options; the devices' order and number are part of a template. */
function machineArguments(shape: VmShape, memory: string, fds: MachineFds, boots: boolean, share: string): string[] {
  const { accel, image } = shape
  const args = [
    ...['-nodefaults', '-no-user-config', '-nographic', '-no-reboot'],
    ...['-sandbox', SANDBOX],
    ...['-global', 'virtio-mmio.force-legacy=false'],
    ...['-object', `${memory},id=mem,size=${shape.memory}M`],
    ...['-M', `microvm,memory-backend=mem${image.acpi ? '' : ',acpi=off'}`],
    ...['-accel', accel, '-cpu', CPU[accel]],
    ...['-m', `${shape.memory}M`, '-smp', String(shape.cpus)],
    ...['-chardev', `socket,id=console,fd=${fds.console}`, '-serial', 'chardev:console'],
    ...['-device', `virtio-serial-device,id=serial0,max_ports=${shape.growing ? MAX_SERIAL_PORTS : shape.ports + 2}`],
    ...(shape.growing ? ['-device', `virtio-serial-device,id=serial1,max_ports=${MAX_SERIAL_PORTS}`] : []),
  ]
  // A restored VM has them in its memory, and QEMU would only read 70 MB for nothing.
  if (boots) args.push('-kernel', image.vmlinux, '-initrd', image.initramfs, '-append', commandLine(shape, share))
  for (let port = 0; port < shape.ports; port++) {
    const fd = fds.ninep[port] ?? -1
    args.push('-chardev', fd < 0 ? `null,id=np${port}` : `socket,id=np${port},fd=${fd}`)
    args.push('-device', `virtserialport,bus=serial0.0,chardev=np${port},name=9p.${port}`)
  }
  // The last port: when the guest sees it, the others are there.
  args.push(
    ...['-chardev', `socket,id=agent,fd=${fds.agent}`],
    ...['-device', 'virtserialport,bus=serial0.0,chardev=agent,name=agent'],
  )
  // No offloads: the tap has them or not by its host, and a template must fit both.
  const plain = [
    'csum',
    'gso',
    'guest_csum',
    'guest_tso4',
    'guest_tso6',
    'guest_ecn',
    'guest_ufo',
    'host_tso4',
    'host_tso6',
    'host_ecn',
    'host_ufo',
  ]
  const offloads = plain.map((f) => `${f}=off`).join(',')
  for (let card = 0; shape.networked && card < CARDS; card++) {
    const netdev = fds.taps.length
      ? `tap,fd=${fds.taps[card]},vhost=off`
      : `stream,server=off,addr.type=fd,addr.str=${fds.noCables[card]}`
    args.push('-netdev', `${netdev},id=n${card}`)
    // The agent knows a card by its number in the address; what the container sees is another.
    args.push('-device', `virtio-net-device,netdev=n${card},mac=52:54:00:00:00:0${card},${offloads}`)
  }
  if (fds.shares >= 0) {
    args.push('-chardev', `socket,id=${SHARE}0,fd=${fds.shares}`)
    args.push('-device', `vhost-user-fs-device,chardev=${SHARE}0,tag=${SHARE}`)
  }
  return args
}

const VIRTIO_9P = [
  ...['-fsdev', `local,id=${SHARE}0,path=/share,security_model=passthrough,multidevs=remap`],
  ...['-device', `virtio-9p-device,fsdev=${SHARE}0,mount_tag=${SHARE}`],
]

/** One heap that grows by large steps: the translator's otherwise asks the kernel for more a thousand times. */
const MALLOC = `GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.top_pad=${8 << 20}:glibc.malloc.trim_threshold=${64 << 20}`

/** A child with nothing for standard input and output. Not by Node's child_process, which takes 10 ms to load. */
function run(command: string[], fds: ChildFds): number {
  const nothing = openSync('/dev/null', 'r+')
  const pid = spawnProcess(command, [nothing, nothing, 2, ...fds.list])
  closeSync(nothing)
  if (pid < 0) throw new Error(`cannot run ${command[0]}: errno ${-pid}`)
  return pid
}

/** Agent, console, files, control, state. */
const AHEAD_FDS = 5

/** Memory stays in its file: neither saved nor restored. */
const IGNORE_SHARED = { capabilities: [{ capability: 'x-ignore-shared', state: true }] }

const qmpArguments = (fd: number) => ['-chardev', `socket,id=qmp,fd=${fd}`, '-mon', 'chardev=qmp,mode=control']

const FIXED: Omit<RunningVm, 'pid' | 'fixedPorts'> = {
  ends: null,
  connect() {
    throw new Error('this virtual machine takes no more mounts')
  },
  disconnect() {},
  tidy: () => true,
  events: -1,
  hear() {},
}

/** Ports that come and go while it runs: each is a virtserialport with a chardev, whose names are never used again. */
class GrowingVm implements RunningVm {
  readonly pid: number
  readonly ends = null
  readonly fixedPorts: number
  private readonly qmp: QmpClient
  private serial = 0
  /** By port: the name of what is behind it. */
  private readonly names = new Map<number, string>()
  /** Chardevs whose ports are gone. */
  private doomed: string[] = []

  constructor(pid: number, fixedPorts: number, qmp: QmpClient) {
    this.pid = pid
    this.fixedPorts = fixedPorts
    this.qmp = qmp
  }

  connect(port: number, fd: number): void {
    const { qmp } = this
    const name = `late${this.serial++}`
    // The first bus has room for what the others leave.
    const bus = port < MAX_SERIAL_PORTS - 2 ? 'serial0.0' : 'serial1.0'
    qmp.giveFd(name, fd)
    const backend = { type: 'socket', data: { addr: { type: 'fd', data: { str: name } }, server: false } }
    qmp.run('chardev-add', { id: name, backend })
    try {
      qmp.run('device_add', { driver: 'virtserialport', id: `port-${name}`, bus, chardev: name, name: `9p.${port}` })
    } catch (error) {
      this.doomed.push(name)
      throw error
    }
    this.names.set(port, name)
  }

  get events(): number {
    return this.qmp.fd
  }

  hear(): void {
    this.qmp.hear()
  }

  disconnect(port: number): void {
    const name = this.names.get(port)
    if (!name) return
    this.names.delete(port)
    this.qmp.attempt('device_del', { id: `port-${name}` })
    this.doomed.push(name)
  }

  tidy(): boolean {
    this.doomed = this.doomed.filter((id) => !this.qmp.attempt('chardev-remove', { id }))
    return this.doomed.length === 0
  }
}

export class Qemu implements Vmm {
  private readonly path = findQemu()
  private readonly dist: string

  constructor(dist: string) {
    this.dist = dist
  }

  /** Told at every start, so by the file and not by running it. */
  version(): string {
    const { size, mtimeMs } = statSync(this.path)
    return `qemu-${size}-${Math.floor(mtimeMs)}`
  }

  boot(shape: VmShape, to: VmConnections, confinement: Confinement): RunningVm {
    const fds = new ChildFds()
    const { shares } = to
    // The daemon reads and writes the guest's memory itself.
    const memory = shares?.by === 'virtiofsd' ? 'memory-backend-memfd,share=on' : 'memory-backend-ram'
    const args = this.machine(shape, memory, to, fds, true)
    if (shares?.by === 'virtio-9p') args.push(...VIRTIO_9P)
    if (!shape.growing) {
      const mounts = shares?.by === 'virtio-9p' ? shares.mounts : []
      const command = this.command(args, fds, confinement, [], shape, [], mounts)
      return { ...FIXED, fixedPorts: shape.ports, pid: this.spawn(command, fds) }
    }
    const [control, controlThere] = socketPair()
    args.push(...qmpArguments(fds.add(controlThere)))
    const pid = this.spawn(this.command(args, fds, confinement, [], shape), fds)
    close(controlThere)
    const qmp = new QmpClient(control)
    qmp.run('qmp_capabilities')
    return new GrowingVm(pid, shape.ports, qmp)
  }

  restore(shape: VmShape, template: Template, to: VmConnections, confinement: Confinement): RunningVm {
    const fds = new ChildFds()
    const state = openSync(template.state, 'r')
    const memory = `memory-backend-file,mem-path=${template.memory},share=off`
    const [control, controlThere] = socketPair()
    const args = [
      ...this.machine(shape, memory, to, fds, false),
      '-incoming',
      'defer',
      ...qmpArguments(fds.add(controlThere)),
    ]
    // In one go: QEMU takes them when it has set the machine up, and runs it when it is restored.
    const says = orders(
      ['qmp_capabilities', {}],
      ['migrate-set-capabilities', IGNORE_SHARED],
      ['migrate-incoming', { uri: `fd:${fds.add(state)}` }],
    )
    const env = [MALLOC, `LD_PRELOAD=${join(this.dist, 'private-memory.so')}`, `TSSANDBOX_TEMPLATE=${template.memory}`]
    const files = [template.memory, join(this.dist, 'private-memory.so')]
    const command = this.command(args, fds, confinement, env, shape, files)
    const usual = fds.list.length === AHEAD_FDS && !shape.growing
    if (!usual) dropAhead()
    const ahead = usual ? this.ahead(command, says, template, shape, confinement) : null
    if (ahead) {
      for (const fd of [control, controlThere]) close(fd)
      closeSync(state)
      return ahead
    }
    const qmp = new QmpClient(control)
    qmp.send(says)
    const pid = this.spawn(command, fds)
    closeSync(state)
    close(controlThere)
    if (!shape.growing) return { ...FIXED, fixedPorts: shape.ports, pid }
    qmp.pass(3)
    return new GrowingVm(pid, shape.ports, qmp)
  }

  /** Started before the order came (native/ahead.ts), as this one would be. */
  private ahead(args: string[], says: string, template: Template, shape: VmShape, c: Confinement): RunningVm | null {
    const user = `${c.id}:`
    const named = args.map((arg) => (arg.startsWith(user) ? arg.replaceAll(String(c.id), ID) : arg))
    const started = takeAhead({ args: named, opens: template.state, says, firstId: FIRST_SANDBOX_ID }, !template.isNew)
    if (!started) return null
    const [agent, console] = started.ends as [number, number]
    try {
      // What it would have had of us.
      writeFileSync(`/proc/${started.pid}/oom_score_adj`, readFileSync('/proc/self/oom_score_adj'))
    } catch {
      // It has ended since: that is found out as of any.
    }
    return { ...FIXED, fixedPorts: shape.ports, pid: started.pid, ends: { agent, console } }
  }

  private machine(shape: VmShape, memory: string, to: VmConnections, fds: ChildFds, boots: boolean): string[] {
    const numbers = {
      agent: fds.add(to.agent),
      console: fds.add(to.console),
      ninep: to.ninep.map((fd) => (fd < 0 ? -1 : fds.add(fd))),
      taps: to.taps.map((fd) => fds.add(fd)),
      shares: to.shares?.by === 'virtiofsd' ? fds.add(to.shares.socket) : -1,
      noCables: to.taps.length || !shape.networked ? [] : Array.from({ length: CARDS }, () => fds.add(this.noCable())),
    }
    return machineArguments(shape, memory, numbers, boots, to.shares?.by ?? '')
  }

  /** One end of a pair: the other stays open as long as this process lives. */
  private noCable(): number {
    const [there] = socketPair()
    this.spare.push(there)
    return there
  }
  private spare: number[] = []

  /** `files`: what it has to see beside its own. */
  private command(
    args: string[],
    fds: ChildFds,
    c: Confinement,
    env: string[],
    shape: VmShape,
    files: string[] = [],
    shares: readonly Share[] = [],
  ): string[] {
    const views = [...QEMU_FILES, shape.image.vmlinux, shape.image.initramfs, ...files]
    if (shape.accel === 'kvm') views.push('/dev/kvm')
    // By it QEMU names files that it has open.
    if (shares.length) views.push('/proc')
    const group = shape.accel === 'kvm' ? statSync('/dev/kvm').gid : c.id
    const launch = [
      ...['--ns', 'mnt,ipc,uts,net', '--default-signals', '--setsid', '--no-core', '--no-io-uring', '--clear-env'],
      ...c.cgroups.flatMap((dir) => ['--cgroup', dir]),
      ...(fds.list.length ? ['--keep-fd', `3-${2 + fds.list.length}`] : []),
      ...views.filter(exists).flatMap((path) => ['--view', path]),
      ...shareArguments(shares),
      ...['--user', `${c.id}:${group}`, '--no-new-privs'],
      ...(shares.length
        ? ['--bounding-caps', FILE_CAPABILITIES, '--ambient-caps', FILE_CAPABILITIES]
        : ['--bounding-caps', '0']),
      ...env.flatMap((e) => ['--env', e]),
      // After the change of user, which would undo it.
      ...['--pdeathsig', '9', '--argv0', 'tssandbox-qemu', '--', this.path, ...args],
    ]
    return [join(this.dist, 'launch'), ...launch]
  }

  private spawn(command: string[], fds: ChildFds): number {
    const pid = run(command, fds)
    for (const fd of this.spare.splice(0)) close(fd)
    return pid
  }

  save(shape: VmShape, dir: string, ready: (agent: number) => void): void {
    const [agent, agentThere] = socketPair()
    const [control, controlThere] = socketPair()
    const [console, consoleThere] = socketPair()
    const fds = new ChildFds()
    const memoryFile = join(dir, 'memory')
    const stateFile = join(dir, 'state')
    writeFileSync(stateFile, '')
    const state = openSync(stateFile, 'w')
    const memory = `memory-backend-file,mem-path=${memoryFile},share=on`
    const args = this.machine(
      shape,
      memory,
      { agent: agentThere, ninep: [], taps: [], shares: null, console: consoleThere },
      fds,
      true,
    )
    args.push(...qmpArguments(fds.add(controlThere)))
    // Nothing of a guest's is in it yet, so it may run as we do: it has to write its files.
    const keep = ['--keep-fd', `3-${2 + fds.list.length}`]
    const pid = run([join(this.dist, 'launch'), ...keep, '--pdeathsig', '9', '--', this.path, ...args], fds)
    for (const fd of [agentThere, controlThere, consoleThere, ...this.spare.splice(0)]) close(fd)
    try {
      ready(agent)
      const qmp = new QmpClient(control)
      qmp.run('qmp_capabilities')
      qmp.run('migrate-set-capabilities', IGNORE_SHARED)
      // Not stopped before: the run state is saved, too, and it is to run when it is restored. Saving ends with a stop.
      qmp.giveFd('state', state)
      qmp.run('migrate', { uri: 'fd:state' })
      qmp.waitFor(() => {
        const { status } = qmp.run('query-migrate') as { status?: string }
        if (status === 'failed') throw new Error('QEMU could not save the virtual machine')
        return status === 'completed'
      })
    } finally {
      process.kill(pid, 'SIGKILL')
      closeSync(state)
      for (const fd of [agent, control, console]) close(fd)
    }
  }
}

const exists = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined
