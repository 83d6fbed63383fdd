/**
 * do -- COMMAND: one command on the host's root file system, read-only, under an in-memory overlay. No state on disk, no
 * cgroup; the sandbox belongs to this process and ends with it. The shortest way from argv to a running guest.
 */
import { fstatSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import { phase } from '../../native/phases.ts'
import type { BootConfig, CapabilitySets, MountSpec, ProcessSpec, Rlimit } from '../../sentry/control/protocol.ts'
import { toBytes } from '../bytes.ts'
import type { Invocation } from '../command.ts'
import { borrowTerminal } from '../container/console.ts'
import { follow } from '../container/follow.ts'
import { printPhases } from '../container/phases.ts'
import { spawnSandbox } from '../container/spawn.ts'
import { CliError, RUNTIME_FAILURE } from '../errors.ts'
import { exitStatus, signalName } from '../signals.ts'
import { NO_BOOT_FDS, ownOomScoreAdj } from '../spec/boot.ts'
import { CAPABILITIES } from '../spec/capabilities.ts'
import { type GoferMount, NO_FLAGS } from '../spec/mounts.ts'
import { rlimitValue } from '../spec/rlimits.ts'

export interface DoOptions {
  root: string
  cwd: string
  env: string[]
  volume: string[]
  hostname: string
  /** These override the global flags. */
  network?: 'none' | 'host'
  platform?: BootConfig['platform']
  strace?: true
  debugLog?: string
}

/** process.getgroups() would add the effective group. */
function supplementaryGroups(): number[] {
  const groups = /^Groups:(.*)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? ''
  return groups.split(/\s+/).filter(Boolean).map(Number)
}

/** No cgroup stands behind `do`, so a fork bomb has to end here. */
const TASK_LIMIT = 8192

export async function body({ args, options, globals }: Invocation<DoOptions>): Promise<number> {
  if (args.length === 0) throw new CliError('do: a command is required: tssandbox do -- COMMAND [ARG...]')
  const platform = options.platform ?? globals.platform
  // The host's interfaces are the host's: a virtual machine has loopback here.
  const network = platform === 'microvm' ? 'none' : (options.network ?? globals.network)
  const terminal = borrowTerminal(0)
  const root: GoferMount = directory(options.root || '/', '--root', true)
  const gofer = [root]
  const mounts = [...OWN_MOUNTS]
  for (const volume of options.volume) mounts.push(bind(volume, gofer))
  const process_: ProcessSpec = {
    args: rawArguments(args),
    env: environment(options.env),
    cwd: toBytes(resolve(options.cwd || (options.root ? '/' : process.cwd()))),
    uid: process.getuid!(),
    gid: process.getgid!(),
    additionalGids: supplementaryGroups(),
    umask: process.umask(),
    capabilities: process.getuid!() === 0 ? ALL_CAPABILITIES : NO_CAPABILITIES,
    rlimits: inheritedLimits(),
    terminal: terminal !== null,
    consoleSize: terminal?.size ?? { rows: 0, cols: 0 },
    noNewPrivileges: false,
  }
  const boot: BootConfig = {
    version: 1,
    id: `do-${process.pid}`,
    process: process_,
    root: { goferMount: 0, readonly: false, overlay: true },
    hostname: toBytes(options.hostname || hostname()),
    domainname: '(none)',
    mounts,
    maskedPaths: [],
    readonlyPaths: [],
    network,
    limits: { pids: TASK_LIMIT, memory: 0, cpus: 0 },
    cgroupPath: '/',
    sysctl: [],
    stubOomScoreAdj: ownOomScoreAdj(),
    platform,
    microvm: globals.microvm,
    autoStart: true,
    strace: options.strace ?? globals.strace,
    debugLog: options.debugLog ? resolve(options.debugLog) : globals.debugLog,
    fds: NO_BOOT_FDS,
  }
  const sandbox = spawnSandbox({
    boot,
    gofer,
    stdio: terminal ? [-1, sameTerminal(1) ? -1 : 1, sameTerminal(2) ? -1 : 2] : [0, 1, 2],
    preserveFds: 0,
    console: terminal?.fd ?? -1,
    controllingConsole: false,
    controlSocket: '',
    owned: true,
    cgroups: [],
    guestCgroups: [],
    pod: -1,
    netns: network === 'none' ? undefined : '',
  })
  follow(sandbox, terminal)
  try {
    await sandbox.ready
  } catch (error) {
    terminal?.restore()
    const message = (error as Error).message
    process.stderr.write(`tssandbox: ${message}\n`)
    return shellStatus(message)
  }
  const ended = await sandbox.ended
  phase('sentry has ended')
  printPhases(boot.debugLog, boot.id)
  terminal?.restore()
  if (ended.signal !== null) {
    process.stderr.write(`tssandbox: the sentry was killed by ${signalName(ended.signal)}\n`)
    return RUNTIME_FAILURE
  }
  return exitStatus(ended)
}

/** A command that is not there or cannot be run ends as in a shell. */
function shellStatus(message: string): number {
  if (/^exec[: ].*(not found|no such file)/i.test(message)) return 127
  return /^exec[: ]/.test(message) ? 126 : RUNTIME_FAILURE
}

function sameTerminal(fd: number): boolean {
  return fstatSync(fd).rdev === fstatSync(0).rdev
}

/** argv as bytes: Node's own copy has gone through UTF-8. */
function rawArguments(args: string[]): string[] {
  const all = readFileSync('/proc/self/cmdline', 'latin1').split('\0').slice(0, -1)
  return all.slice(all.length - args.length)
}

function environment(extra: string[]): string[] {
  const names = new Set(extra.map((e) => toBytes(e.split('=', 1)[0]!)))
  // bin/tssandbox has set aside what is not for our own Node.
  const own = readFileSync('/proc/self/environ', 'latin1')
    .split('\0')
    .filter((e) => e !== '')
    .map((e) => e.replace(/^TSSANDBOX_SAVED_/, ''))
  const added = extra.map((e) => (e.includes('=') ? e : `${e}=${process.env[e] ?? ''}`))
  return [...own.filter((e) => !names.has(e.split('=', 1)[0]!)), ...added.map(toBytes)]
}

/**
 * What a command started by hand would inherit: our parent's, because Node raises its own limit of open files. The rows
 * of /proc/PID/limits are in the order of the resources' numbers.
 */
function inheritedLimits(): Rlimit[] {
  const value = (text: string) => (text === 'unlimited' ? -1 : rlimitValue(Number(text)))
  let text: string
  try {
    text = readFileSync(`/proc/${process.ppid}/limits`, 'utf8')
  } catch {
    text = readFileSync('/proc/self/limits', 'utf8')
  }
  return text
    .split('\n')
    .slice(1, 17)
    .map((line, resource) => {
      const [soft, hard] = line.slice(26).trim().split(/\s+/)
      return { resource, soft: value(soft!), hard: value(hard!) }
    })
}

function directory(path: string, flag: string, readonly: boolean): GoferMount {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (!stat) throw new CliError(`${flag} ${path}: no such file or directory`)
  return { source: realpathSync(path), readonly, isFile: !stat.isDirectory(), recursive: true, shared: !readonly }
}

/** SOURCE[:DESTINATION[:ro]] */
function bind(volume: string, gofer: GoferMount[]): MountSpec {
  const [source, destination, mode] = volume.split(':') as [string, string?, string?]
  if (!source || (mode !== undefined && mode !== 'ro' && mode !== 'rw'))
    throw new CliError(`--volume "${volume}": expected SOURCE[:DESTINATION[:ro]]`)
  const mount = directory(resolve(source), '--volume', mode === 'ro')
  gofer.push({ ...mount, shared: true })
  return {
    ...mounted(resolve('/', destination ?? source), 'gofer', source),
    goferMount: gofer.length - 1,
    isFile: mount.isFile,
    flags: { ...NO_FLAGS, readonly: mode === 'ro' },
  }
}

function mounted(destination: string, type: MountSpec['type'], source: string, ...options: string[]): MountSpec {
  return {
    destination: toBytes(destination),
    type,
    source: toBytes(source),
    goferMount: -1,
    isFile: false,
    flags: { ...NO_FLAGS, nosuid: true, noexec: true, nodev: type !== 'dev' && type !== 'devpts' },
    options,
  }
}

const OWN_MOUNTS: readonly MountSpec[] = [
  mounted('/proc', 'proc', 'proc'),
  mounted('/sys', 'sysfs', 'sysfs'),
  { ...mounted('/dev', 'dev', 'devtmpfs', 'mode=755'), flags: { ...NO_FLAGS, nosuid: true } },
  mounted('/dev/pts', 'devpts', 'devpts', 'gid=5', 'mode=620', 'ptmxmode=666'),
  mounted('/dev/shm', 'tmpfs', 'tmpfs', 'mode=1777'),
  mounted('/dev/mqueue', 'mqueue', 'mqueue'),
]

const ALL = CAPABILITIES.map((_, i) => i)
const ALL_CAPABILITIES: CapabilitySets = { bounding: ALL, effective: ALL, inheritable: [], permitted: ALL, ambient: [] }
const NO_CAPABILITIES: CapabilitySets = { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] }
