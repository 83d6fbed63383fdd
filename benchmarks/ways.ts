/**
 * The ways to run a program: natively (namespaces and the same root, no runtime) and in each OCI runtime whose command
 * line is runc's. A new way is one line in `candidates`.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const TSSANDBOX = join(import.meta.dirname, '../bin/tssandbox')
const NATIVE = join(import.meta.dirname, 'compat/native.sh')
const CONTAINER_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const END_SECONDS = 20

/** What Docker gives a container. */
const CAPABILITIES = [
  ...['chown', 'dac_override', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'setpcap', 'net_bind_service'],
  ...['net_raw', 'sys_chroot', 'mknod', 'audit_write', 'setfcap'],
]

export interface Way {
  name: string
  version: string
  /** Runs a program in the root and gives the process to wait for. */
  start(root: string, argv: string[], id: string): ChildProcess
  /** The command that does the same with the least that this way needs, for timing. */
  command(root: string, argv: string[], id: string): string[]
  /** The command that runs a program beside the one that `start` began; null if the way has none. */
  exec(id: string, argv: string[]): string[] | null
  /** Whether the process that `start` gives only waits for the container and is no part of it. */
  startedByClient: boolean
  /** Ends what `start` or `command` began, however badly it is stuck. */
  stop(id: string, child: ChildProcess | null): void
}

export interface Candidate {
  name: string
  /** Command line with flags; null for native. */
  commandLine: string | null
}

/** Userspace kernels answer for the loopback interface, the only one here, themselves: no sockets of the host's below. */
export function candidates(): Candidate[] {
  return [
    { name: 'native', commandLine: null },
    { name: 'runc', commandLine: 'runc' },
    { name: 'crun', commandLine: join(import.meta.dirname, 'crun.sh') },
    ...runscPlatforms().map((p) => ({ name: `runsc-${p}`, commandLine: `runsc --network=none --platform=${p}` })),
    ...tssandboxPlatforms().map((p) => ({
      name: `tssandbox-${p === 'microvm' ? `microvm-${acceleration()}` : p}`,
      commandLine: `${TSSANDBOX} --network=none --platform=${p}`,
    })),
  ]
}

/** Platforms of a runsc from before 2023 have no systrap; one that it does not know must not be reported as broken. */
function runscPlatforms(): string[] {
  const help = spawnSync('runsc', ['flags'], { encoding: 'utf8' })
  if (help.error) return ['ptrace']
  const text = /^\s*-platform[^\n]*\n([^\n]*)/m.exec(help.stdout + help.stderr)?.[1] ?? ''
  return ['ptrace', 'systrap', 'kvm'].filter((platform) => text.includes(platform))
}

/** Of virtual machines here: emulation takes 10 to 25 times as long, so that no figure says anything without it. */
function acceleration(): string {
  const { stdout } = spawnSync(join(import.meta.dirname, '../dist/probe'), { encoding: 'utf8' })
  return /^0 /m.test(stdout ?? '') ? 'kvm' : 'tcg'
}

function tssandboxPlatforms(): string[] {
  const help = execFileSync(TSSANDBOX, ['--help'], { encoding: 'utf8' }).replace(/\s+/g, ' ')
  const choices = /--platform <name> .*?\(choices: ([^)]*?),? default/.exec(help)?.[1] ?? '"systrap", "ptrace"'
  const names = [...choices.matchAll(/"(\w+)"/g)].map((match) => match[1]!).filter((name) => name !== 'auto')
  return names.sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b))
}
const ORDER = ['systrap', 'ptrace', 'microvm']

/** The most that cpu.shares takes; 1024 is usual. */
export const LARGEST_SHARES = 262_144

/**
 * How a way stands to the other work of the machine. `priority`: before it, by niceness and, in a cgroup, the largest
 * weight. `realtime`: under `chrt -f 50`, as if there were none; a cgroup lets no such process in unless it was given
 * real-time, so that runtimes which can do without cgroups do.
 */
export type Scheduling = 'usual' | 'priority' | 'realtime'

const PREFIX: Record<Scheduling, string[]> = {
  usual: [],
  priority: ['nice', '-n', '-20'],
  realtime: ['chrt', '-f', '50'],
}
const CPU: Record<Scheduling, Record<string, number> | null> = {
  usual: null,
  priority: { shares: LARGEST_SHARES },
  realtime: { realtimeRuntime: 900_000, realtimePeriod: 1_000_000 },
}

export function makeWay({ name, commandLine }: Candidate, work: string, scheduling: Scheduling): Way {
  if (commandLine === null) return nativeWay(PREFIX[scheduling])
  const words = commandLine.split(/\s+/)
  if (scheduling === 'realtime' && /runsc|tssandbox/.test(name)) words.push('--ignore-cgroups')
  return bundleWay(name, words, work, scheduling)
}

/** What runs now, so that a run that is interrupted leaves nothing behind. */
const running = new Map<string, () => void>()

export function stopAll(): void {
  for (const stop of [...running.values()]) stop()
}

function launch(way: Way, id: string, argv: string[]): ChildProcess {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env: environment() })
  running.set(id, () => way.stop(id, child))
  return child
}

function environment(): NodeJS.ProcessEnv {
  return {
    PATH: `${process.env['PATH']}:/usr/sbin:/sbin`,
    CONTAINER_PATH,
    CAPABILITIES: CAPABILITIES.map((name) => `+${name}`).join(','),
  }
}

function nativeWay(prefix: string[]): Way {
  const way: Way = {
    name: 'native',
    version: execFileSync('uname', ['-sr'], { encoding: 'utf8' }).trim(),
    startedByClient: false,
    start: (root, argv, id) => launch(way, id, [...prefix, NATIVE, root, ...argv]),
    command: (root, argv) => [...prefix, '/usr/sbin/chroot', root, ...argv],
    exec: () => null,
    stop(id, child) {
      running.delete(id)
      child?.kill('SIGKILL')
    },
  }
  return way
}

interface Config {
  process: Record<string, unknown>
  root: { path: string; readonly: boolean }
  linux: { resources: Record<string, unknown> }
  [field: string]: unknown
}

let template = ''

/** One config.json for all runtimes: what tssandbox's `spec` writes, which is runc's. */
function configuration(work: string, root: string, argv: string[], scheduling: Scheduling): string {
  if (!template) {
    execFileSync(TSSANDBOX, ['spec', '--bundle', work])
    template = readFileSync(join(work, 'config.json'), 'utf8')
  }
  const config: Config = JSON.parse(template)
  const names = CAPABILITIES.map((name) => `CAP_${name.toUpperCase()}`)
  config.process = {
    ...config.process,
    args: argv,
    cwd: '/',
    terminal: false,
    env: [`PATH=${CONTAINER_PATH}`, 'HOME=/root', 'TERM=xterm', 'LANG=C.UTF-8'],
    capabilities: { bounding: names, effective: names, permitted: names, inheritable: [], ambient: [] },
  }
  config.root = { path: root, readonly: false }
  if (CPU[scheduling]) config.linux.resources['cpu'] = CPU[scheduling]
  return JSON.stringify(config)
}

function bundleWay(name: string, commandLine: string[], work: string, scheduling: Scheduling): Way {
  const runtime = [...commandLine, '--root', join(work, `state-${name}`)]
  const base = [...PREFIX[scheduling], ...runtime]
  const version = spawnSync(commandLine[0]!, ['--version'], { encoding: 'utf8' }).stdout
  const command = (root: string, argv: string[], id: string) => {
    const bundle = join(work, `bundle-${id}`)
    mkdirSync(bundle, { recursive: true })
    writeFileSync(join(bundle, 'config.json'), configuration(work, root, argv, scheduling))
    return [...base, 'run', '--bundle', bundle, id]
  }
  const way: Way = {
    name,
    version: version?.split('\n')[0]?.trim() ?? '',
    startedByClient: true,
    start: (root, argv, id) => launch(way, id, command(root, argv, id)),
    command,
    exec: (id, argv) => [...base, 'exec', id, ...argv],
    stop(id, child) {
      running.delete(id)
      const options = {
        stdio: 'ignore',
        timeout: END_SECONDS * 1000,
        killSignal: 'SIGKILL',
        env: environment(),
      } as const
      spawnSync(runtime[0]!, [...runtime.slice(1), 'kill', id, 'KILL'], options)
      spawnSync(runtime[0]!, [...runtime.slice(1), 'delete', '--force', id], options)
      child?.kill('SIGKILL')
    },
  }
  return way
}
