/**
 * Runs one command to its end, natively or in a sandbox, with a time limit: what it printed and how it ended. The
 * environment is small and fixed, so that outputs can be compared. A command that hangs is killed with its whole group.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

export const TSSANDBOX = join(process.cwd(), 'bin/tssandbox')

/** Every test of guest behaviour runs on each of these. */
export const PLATFORMS = (process.env['TSSANDBOX_PLATFORMS'] ?? 'systrap,ptrace').split(',')

/** All time limits are so many times as long: for virtual machines that are emulated. */
export const PATIENCE = Number(process.env['TSSANDBOX_TEST_PATIENCE'] ?? '1')

export const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
  LC_ALL: 'C.UTF-8',
  TERM: 'dumb',
  TZ: 'UTC',
}

export interface Outcome {
  /** Exit code, or 128 + the number of the signal, or -1 after the time limit. */
  code: number
  stdout: string
  stderr: string
}

export interface RunOptions {
  seconds?: number
  input?: string
  cwd?: string
  env?: Record<string, string>
}

const SIGNAL_NUMBERS: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
}

export function run(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const { seconds = 60, input, cwd = '/tmp', env = {} } = options
  return new Promise((resolve) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd,
      env: { ...ENVIRONMENT, ...env },
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      detached: true,
    })
    const out: Buffer[] = []
    const err: Buffer[] = []
    let late = false
    const timer = setTimeout(
      () => {
        late = true
        if (child.pid) endGroup(child.pid)
      },
      seconds * PATIENCE * 1000,
    )
    child.stdout!.on('data', (data: Buffer) => out.push(data))
    child.stderr!.on('data', (data: Buffer) => err.push(data))
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
    child.on('error', (error) => err.push(Buffer.from(String(error))))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({
        code: late ? -1 : (code ?? 128 + (SIGNAL_NUMBERS[signal ?? ''] ?? 0)),
        stdout: Buffer.concat(out).toString('latin1'),
        stderr: Buffer.concat(err).toString('latin1'),
      })
    })
  })
}

function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It ended by itself meanwhile.
  }
}

/**
 * The command line that runs `argv` in a sandbox over the host's root. The platform `native` is for checking the tests
 * themselves: it compares two native runs.
 */
export function sandboxed(platform: string, argv: readonly string[], flags: readonly string[] = []): readonly string[] {
  if (platform === 'native') return argv
  return [TSSANDBOX, `--platform=${platform}`, ...flags, 'do', '--', ...argv]
}

/** Where a program is, or undefined: tests that need one that is missing skip themselves by name. */
export function which(program: string): string | undefined {
  for (const dir of ENVIRONMENT.PATH.split(':')) {
    if (existsSync(join(dir, program))) return join(dir, program)
  }
  return undefined
}
