/**
 * Starts the two processes of a sandbox side by side: the gofer, which holds the files, and the sentry, whose pid is the
 * container's. Both through `dist/launch`, which sets up namespaces and cgroups and closes every other descriptor.
 */
import { closeSync, constants, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { takeConnection } from '../../native/ahead.ts'
import { close, socketpair } from '../../native/host.ts'
import { phase } from '../../native/phases.ts'
import { childEnd, type ExitStatus } from '../../native/spawn.ts'
import {
  AF_UNIX,
  bindUnix,
  listen,
  SOCK_CLOEXEC,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  socket,
} from '../../native/unix-socket.ts'
import { firstFd } from '../../native/waiting.ts'
import { type BootConfig, isByGofer, type ReadyMessage } from '../../sentry/control/protocol.ts'
import { CliError } from '../errors.ts'
import { signalName } from '../signals.ts'
import type { GoferMount } from '../spec/mounts.ts'
import { check, document, pipe, readLine } from './descriptors.ts'
import { openPhases } from './phases.ts'
import { type Program, startProcess } from './start-process.ts'

export interface SandboxSpec {
  boot: BootConfig
  gofer: GoferMount[]
  /** Host descriptors of the container's stdin, stdout and stderr; −1: the console. */
  stdio: [number, number, number]
  /** How many of our descriptors from 3 upwards the container's process gets, too. */
  preserveFds: number
  /** Raw host terminal; −1: none. Stays the caller's to close. */
  console: number
  controllingConsole: boolean
  /** Where to listen for the CLI; empty: nowhere. */
  controlSocket: string
  /** Whether the sandbox is to end with this process. */
  owned: boolean
  cgroups: string[]
  /** Cgroups below those, for the guest's processes alone. */
  guestCgroups: string[]
  /** Connection to the monitor whose virtual machine the container joins; −1: none. */
  pod: number
  /** undefined: a new network namespace; empty: the host's; else one by path. */
  netns: string | undefined
}

export interface Sandbox {
  /** Host pids; without a gofer its is 0. */
  sentry: number
  gofer: number
  /** Settles when the sentry has its namespaces, or has ended. */
  prepared(): Promise<void>
  /** Settles when the sentry has booted: undefined, or the reason why it did not. */
  ready: Promise<void>
  /** How the sentry ended. */
  ended: Promise<ExitStatus>
  /** Control connection of an owned sandbox; −1 otherwise. */
  owner: number
}

function pair(type: number): [number, number] {
  const fds = new Int32Array(2)
  check(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 'socketpair')
  return [fds[0]!, fds[1]!]
}

function listenAt(path: string): number {
  const slash = path.lastIndexOf('/')
  const dir = openSync(path.slice(0, slash), constants.O_DIRECTORY | constants.O_RDONLY)
  const fd = check(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | constants.O_NONBLOCK, 0), 'socket')
  // Through a descriptor: a long root and a 64-digit id do not fit into a sockaddr_un.
  check(bindUnix(fd, `/proc/self/fd/${dir}/${path.slice(slash + 1)}`), 'bind control socket')
  check(listen(fd, 128), 'listen')
  closeSync(dir)
  return fd
}

/**
 * What the sentry uses of root while it boots: to set up stub processes of another user (SYS_PTRACE, SETUID, SETGID,
 * SETPCAP, KILL, SYS_ADMIN for their namespaces, SYS_CHROOT, SYS_RESOURCE, SYS_NICE, IPC_LOCK, DAC_OVERRIDE). Before the
 * guest runs it drops all (sentry/confine) but some of: sockets in the container's network namespace (NET_BIND_SERVICE,
 * NET_ADMIN, NET_RAW), and reading a donated descriptor anew whatever the file's mode says (DAC_READ_SEARCH). Not
 * modules, raw I/O, device nodes, clocks, BPF.
 */
const SENTRY_CAPS = [1, 2, 5, 6, 7, 8, 10, 12, 13, 14, 18, 19, 21, 23, 24]
/** Where QEMU or virtiofsd serves files, they get these of the monitor, too: CHOWN, FOWNER, FSETID. */
const SHARING_CAPS = [0, 3, 4]
const hex = (caps: readonly number[]) => caps.reduce((mask, cap) => mask | (1n << BigInt(cap)), 0n).toString(16)

/** Descriptors of a child: 0–2 first, the rest in the order they are added, from `first` on. */
class ChildFds {
  readonly all: number[]
  private readonly first: number
  constructor(stdio: [number, number, number], program: Program) {
    this.all = [...stdio]
    this.first = firstFd(program)
  }
  /** The number that `fd` will have in the child; −1 stays −1. */
  add(fd: number): number {
    return fd < 0 ? -1 : this.first + this.all.push(fd) - 4
  }
}

export function spawnSandbox(spec: SandboxSpec): Sandbox {
  const phases = openPhases(spec.boot.debugLog, spec.boot.id)
  const devNull = openSync('/dev/null', constants.O_RDWR)
  const vm = spec.boot.platform === 'microvm'
  // Files that a virtual machine gets without a gofer.
  const fs = vm ? spec.boot.microvm!.fs : undefined
  const shared = fs !== undefined && !isByGofer(fs)
  // A VM asks by FUSE or 9P, over a connection for each mount; this one then only tells it of the gofer's end.
  const [goferForSentry, goferForGofer] = pair(SOCK_SEQPACKET)
  // A QEMU that was started ahead has the first already.
  const ninep = vm && !shared ? spec.gofer.map(() => takeConnection() ?? pair(SOCK_STREAM)) : []
  const [ownerHere, ownerThere] = spec.owned ? pair(SOCK_STREAM) : [-1, -1]
  const [readyHere, readyThere] = pipe()
  const listener = spec.controlSocket ? listenAt(spec.controlSocket) : -1
  const mayLower = mayLowerOomScore()
  const protection = mayLower ? ['--oom-score-adj', String(-OOM_DISTANCE)] : []
  const cgroups = spec.cgroups.flatMap((dir) => ['--cgroup', dir])

  const startGofer = (): number => {
    const goferConfig = document(
      'gofer-config',
      JSON.stringify({
        mounts: spec.gofer.map((m, id) => ({
          id,
          source: m.source,
          kind: m.isFile ? 'file' : 'dir',
          readonly: m.readonly,
          recursive: m.recursive,
          shared: m.shared,
          allowDevices: false,
        })),
      }),
    )
    const goferLog = openGoferLog(spec, devNull)
    const goferFds = new ChildFds([devNull, devNull, goferLog], 'gofer')
    const goferArgs: (string | number)[] = ['--config-fd', goferFds.add(goferConfig)]
    const lifeline = goferFds.add(goferForGofer)
    const sessions = ninep.map(([, there]) => goferFds.add(there))
    const option = fs === 'fuse' ? '--fuse-fds' : '--ninep-fds'
    goferArgs.push(...(vm ? [option, `${sessions[0]}-${sessions.at(-1)}`] : ['--socket-fd', lifeline]))
    if (phases >= 0) goferArgs.push('--phases-fd', goferFds.add(phases))
    const { pid } = startProcess({
      program: 'gofer',
      launch: [
        ...['--ns', 'mnt,ipc,uts,net', '--setsid', '--default-signals', '--clear-env', '--no-core'],
        ...['--no-io-uring', ...protection, ...cgroups],
      ],
      args: goferArgs.map(String),
      fds: goferFds.all,
    })
    close(goferConfig)
    phase('gofer started')
    return pid
  }
  // A virtual machine takes its time before it asks for files: its monitor is the one to begin.
  let gofer = vm ? 0 : startGofer()

  const guestCgroups = spec.guestCgroups.map((dir) => openSync(join(dir, 'cgroup.procs'), 'w'))
  const program = vm ? 'microvm' : 'sentry'
  const fds = new ChildFds(spec.stdio.map((fd) => (fd < 0 ? devNull : fd)) as [number, number, number], program)
  const boot: BootConfig = {
    ...spec.boot,
    ...(shared && { shares: spec.gofer.map(({ source, readonly }) => ({ source, readonly })) }),
    stubOomScoreAdj: Math.min(1000, spec.boot.stubOomScoreAdj + (mayLower ? 0 : OOM_DISTANCE)),
    fds: {
      stdio: spec.stdio.map((fd, i) => (fd < 0 ? -1 : i)) as [number, number, number],
      preserved: Array.from({ length: spec.preserveFds }, (_, i) => fds.add(3 + i)),
      guestCgroups: guestCgroups.map((fd) => fds.add(fd)),
      gofer: shared ? -1 : fds.add(goferForSentry),
      ninep: ninep.map(([here]) => fds.add(here)),
      pod: fds.add(spec.pod),
      control: fds.add(listener),
      owner: fds.add(ownerThere),
      phases: fds.add(phases),
      ready: fds.add(readyThere),
      console: fds.add(spec.console),
      controllingConsole: spec.controllingConsole,
    },
  }
  const bootFd = document('boot-config', JSON.stringify(boot))
  const bootNumber = fds.add(bootFd)
  const namespaces = spec.netns === undefined ? 'mnt,ipc,uts,net' : 'mnt,ipc,uts'
  const sentry = startProcess({
    program,
    launch: [
      ...['--ns', namespaces, '--setsid', '--default-signals', '--block-sigchld', '--clear-env', '--no-core'],
      ...(spec.netns === undefined ? ['--loopback'] : spec.netns ? ['--netns', spec.netns] : []),
      ...protection,
      ...['--bounding-caps', hex(shared ? [...SENTRY_CAPS, ...SHARING_CAPS] : SENTRY_CAPS), '--no-new-privs'],
      ...cgroups,
      ...['--chdir', '/', '--nofile', '1048576'],
    ],
    args: ['--boot-fd', String(bootNumber)],
    fds: fds.all,
  })

  phase('sentry started')
  if (vm && !shared) gofer = startGofer()

  for (const fd of [
    ...ninep.flat(),
    devNull,
    goferForSentry,
    goferForGofer,
    ownerThere,
    readyThere,
    listener,
    bootFd,
    phases,
    spec.pod,
  ])
    if (fd >= 0) close(fd)
  for (const fd of guestCgroups) closeSync(fd)
  const ended = childEnd(sentry.pid)
  const ready = booted(readLine(readyHere), ended)
  return { sentry: sentry.pid, gofer, owner: ownerHere, prepared: sentry.prepared, ready, ended }
}

/**
 * Out of memory, the host is to kill guests, not their kernel: so much lies between their scores. Lowering one's own needs
 * CAP_SYS_RESOURCE; without it the guests' are raised.
 */
const OOM_DISTANCE = 500

function mayLowerOomScore(): boolean {
  const caps = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'latin1'))
  return ((BigInt(`0x${caps?.[1] ?? '0'}`) >> 24n) & 1n) === 1n
}

/** Where the gofer's rare complaints go: a file of --debug-log, or the container's stderr. */
function openGoferLog({ boot, stdio }: SandboxSpec, devNull: number): number {
  if (boot.debugLog) {
    mkdirSync(boot.debugLog, { recursive: true })
    return openSync(join(boot.debugLog, `${boot.id}.gofer.log`), 'a', 0o600)
  }
  return stdio[2] < 0 ? devNull : stdio[2]
}

async function booted(line: Promise<string>, ended: Promise<ExitStatus>): Promise<void> {
  const text = await line
  phase('sentry is ready')
  if (text === '') {
    const { code, signal } = await ended
    throw new CliError(`the sentry did not start: ${signal ? `signal ${signalName(signal)}` : `exit status ${code}`}`)
  }
  const message = JSON.parse(text) as ReadyMessage
  if (!message.ok) throw new CliError(message.error)
}
