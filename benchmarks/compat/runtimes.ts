/** The ways to run a batch: natively (namespaces, no runtime), or in an OCI runtime whose command line is runc's. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CAPABILITIES as CAPABILITY_NAMES } from '../../runsc-cli/spec/capabilities.ts'

export const CONTAINER_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** No case needs more; one that takes more must not take the machine's. */
const MEMORY = 4 * 1024 ** 3

/**
 * The POSIX tests make queues of 41 messages; only CAP_SYS_RESOURCE may, or a namespace that is set so.
 * native.sh sets the same.
 */
const SYSCTL = { 'fs.mqueue.msg_max': '256' }

/** What Docker gives, and what tests of scheduling, limits and tracing need; nothing that reaches the machine itself. */
const CAPABILITIES = [
  ...['chown', 'dac_override', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'setpcap', 'net_bind_service'],
  ...['net_raw', 'sys_chroot', 'mknod', 'audit_write', 'setfcap'],
  ...['sys_nice', 'sys_resource', 'ipc_lock', 'sys_ptrace'],
].filter(availableHere)

/** On a machine that has itself not got all of them, none of the runs has. */
function availableHere(name: string): boolean {
  const bounding = BigInt(`0x${/^CapBnd:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]}`)
  const number = CAPABILITY_NAMES.indexOf(`CAP_${name.toUpperCase()}`)
  return ((bounding >> BigInt(number)) & 1n) === 1n
}
export interface Runtime {
  name: string
  version: string
  start(rootfs: string, argv: string[], id: string): ChildProcess
  /** Ends what `start` began, however badly it is stuck. */
  stop(id: string, child: ChildProcess): void
}

/** Ends with this process, even when that is killed. */
function spawnBound(program: string, args: string[], env: NodeJS.ProcessEnv): ChildProcess {
  return spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
}

export function nativeRuntime(): Runtime {
  return {
    name: 'native',
    version: execFileSync('uname', ['-sr'], { encoding: 'utf8' }).trim(),
    start(rootfs, argv) {
      const env = {
        PATH: `${process.env['PATH']}:/usr/sbin:/sbin`,
        CONTAINER_PATH,
        CAPABILITIES: CAPABILITIES.map((name) => `+${name}`).join(','),
      }
      return spawnBound(join(import.meta.dirname, 'native.sh'), [rootfs, ...argv], env)
    },
    stop: (_id, child) => child.kill('SIGKILL'),
  }
}

interface Config {
  process: Record<string, unknown>
  root: { path: string; readonly: boolean }
  hostname: string
  linux: Record<string, unknown>
}

/** The config.json is what `spec` of the first runtime writes, so that all get the same one. */
function configure(template: string, rootfs: string, argv: string[]): string {
  const config: Config = JSON.parse(template)
  const names = CAPABILITIES.map((name) => `CAP_${name.toUpperCase()}`)
  config.process = {
    ...config.process,
    args: argv,
    cwd: '/',
    terminal: false,
    noNewPrivileges: false,
    env: [`PATH=${CONTAINER_PATH}`, 'HOME=/root', 'TERM=xterm', 'LANG=C.UTF-8'],
    capabilities: { bounding: names, effective: names, permitted: names, inheritable: [], ambient: [] },
  }
  config.root = { path: rootfs, readonly: false }
  config.hostname = 'compat'
  config.linux['sysctl'] = SYSCTL
  config.linux.resources = { ...(config.linux['resources'] as object), memory: { limit: MEMORY } }
  return JSON.stringify(config)
}

export function bundleRuntime(name: string, commandLine: string, spec: string, work: string): Runtime {
  const [program, ...flags] = commandLine.split(/\s+/)
  const base = [...flags, '--root', join(work, `state-${name}`)]
  const { stdout: version, error } = spawnSync(program!, ['--version'], { encoding: 'utf8' })
  if (error) throw new Error(`runtime ${name}: cannot run ${program}: ${error.message}`)
  return {
    name,
    version: version.split('\n')[0]!.trim(),
    start(rootfs, argv, id) {
      const bundle = join(work, `bundle-${id}`)
      mkdirSync(bundle, { recursive: true })
      writeFileSync(join(bundle, 'config.json'), configure(spec, rootfs, argv))
      return spawnBound(program!, [...base, 'run', '--bundle', bundle, id], process.env)
    },
    stop(id, child) {
      spawnSync(program!, [...base, 'kill', id, 'KILL'], { stdio: 'ignore', timeout: 20_000 })
      spawnSync(program!, [...base, 'delete', '--force', id], { stdio: 'ignore', timeout: 20_000 })
      child.kill('SIGKILL')
    },
  }
}

/** tssandbox on each platform, and what else is installed. */
export function defaultRuntimes(tssandbox: string): [name: string, commandLine: string][] {
  const installed = (program: string) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0
  const found: [string, string][] = ['ptrace', 'systrap'].map((p) => [`tssandbox-${p}`, `${tssandbox} --platform=${p}`])
  if (installed('runc')) found.push(['runc', 'runc'])
  if (installed('runsc')) found.push(['runsc', 'runsc --network=none'])
  return found
}

export function writeSpec(tssandbox: string, work: string): string {
  execFileSync(tssandbox, ['spec', '--bundle', work])
  return readFileSync(join(work, 'config.json'), 'utf8')
}
