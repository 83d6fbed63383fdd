/** Runs the built `bin/tssandbox` in integration tests, with a state root of their own, and makes bundles for it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { closeSync, cpSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defaultConfig } from '../../runsc-cli/spec/default-config.ts'

/** Another runtime can be named, to check the tests themselves: TSSANDBOX_TEST_RUNTIME=runc. */
export const BIN = process.env['TSSANDBOX_TEST_RUNTIME'] ?? join(process.cwd(), 'bin/tssandbox')

export interface Result {
  code: number | null
  out: string
  err: string
}

/** The parts of config.json that tests change. */
export interface Config {
  process: {
    terminal: boolean
    args: string[]
    env: string[]
    cwd: string
    user: { uid: number; gid: number; additionalGids?: number[]; umask?: number }
    capabilities: Record<string, string[]>
    rlimits: { type: string; soft: number; hard: number }[]
    [field: string]: unknown
  }
  root: { path: string; readonly: boolean }
  hostname: string
  mounts: { destination: string; type?: string; source?: string; options?: string[] }[]
  hooks?: Record<string, unknown[]>
  annotations?: Record<string, string>
  linux: {
    namespaces: { type: string; path?: string }[]
    resources: Record<string, unknown>
    cgroupsPath?: string
    maskedPaths: string[]
    readonlyPaths: string[]
    [field: string]: unknown
  }
  [field: string]: unknown
}

export class Workspace {
  readonly base = mkdtempSync(join(tmpdir(), 'tssandbox-it-'))
  readonly root = join(this.base, 'state')
  private readonly globals: string[]
  private bundles = 0

  constructor(...globals: string[]) {
    // TSSANDBOX_TEST_PLATFORM=systrap runs every test on that platform.
    const platform = process.env['TSSANDBOX_TEST_PLATFORM']
    this.globals = platform ? ['--platform', platform, ...globals] : globals
  }

  argv(...args: string[]): string[] {
    return ['--root', this.root, ...this.globals, ...args]
  }

  /** Output goes to files: a detached container keeps a pipe open, and the caller would wait for its end. */
  run(args: string[], input?: string): Result {
    const n = this.bundles++
    const files = ['out', 'err', 'in'].map((name) => join(this.base, `${name}-${n}`))
    writeFileSync(files[2]!, input ?? '')
    const fds = [openSync(files[2]!, 'r'), openSync(files[0]!, 'w'), openSync(files[1]!, 'w')]
    const r = spawnSync(BIN, this.argv(...args), { stdio: [fds[0]!, fds[1]!, fds[2]!], timeout: 60_000 })
    for (const fd of fds) closeSync(fd)
    return { code: r.status, out: readFileSync(files[0]!, 'latin1'), err: readFileSync(files[1]!, 'latin1') }
  }

  cli(...args: string[]): Result {
    return this.run(args)
  }

  spawn(...args: string[]): ChildProcess {
    return spawn(BIN, this.argv(...args), { stdio: ['pipe', 'pipe', 'pipe'] })
  }

  /** A bundle on `rootfs` itself (read-only by default), or on a copy of it when it is to be written to. */
  bundle(rootfs: string, args: string[], change: (config: Config) => void = () => {}, copy = false): string {
    const dir = join(this.base, `bundle-${this.bundles++}`)
    mkdirSync(dir)
    if (copy) cpSync(rootfs, join(dir, 'rootfs'), { recursive: true, verbatimSymlinks: true })
    const config = defaultConfig(args, '/', '') as unknown as Config
    config.process.terminal = false
    config.root = { path: copy ? 'rootfs' : rootfs, readonly: !copy }
    change(config)
    writeFileSync(join(dir, 'config.json'), JSON.stringify(config))
    return dir
  }

  status(id: string): string {
    const r = this.cli('state', id)
    return r.code === 0 ? (JSON.parse(r.out) as { status: string }).status : 'none'
  }

  /** Removes what tests have left; true when there was nothing. */
  clean(): boolean {
    const ids = this.cli('list', '-q').out.split('\n').filter(Boolean)
    if (ids.length) this.cli('delete', '--force', ...ids)
    rmSync(this.base, { recursive: true, force: true })
    return ids.length === 0
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((r) => setTimeout(r, ms))

export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('the condition did not come true in time')
    await sleep(20)
  }
}

/** Everything a child says, and how it ended. */
export function finished(child: ChildProcess, timeoutMs = 30_000): Promise<Result> {
  return new Promise((resolve) => {
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout?.on('data', (d: Buffer) => out.push(d))
    child.stderr?.on('data', (d: Buffer) => err.push(d))
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code, out: Buffer.concat(out).toString('latin1'), err: Buffer.concat(err).toString('latin1') })
    })
  })
}
