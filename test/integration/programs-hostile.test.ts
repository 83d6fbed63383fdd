/**
 * Guests that attack: they try to reach files outside their root, turn on the code of ours in their address space, and
 * multiply without end. What they must not gain is looked at from the host, not only told by the guest.
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PLATFORMS, run, TSSANDBOX } from '../support/run.ts'
import { sleep, Workspace } from '../support/tssandbox.ts'

const SOURCES = join(process.cwd(), 'test/guest/hostile')
const base = mkdtempSync(join(tmpdir(), 'tssandbox-hostile-'))
const rootfs = join(base, 'rootfs')
const outside = join(base, 'outside')
const secret = join(outside, 'secret')

beforeAll(() => {
  for (const dir of ['tmp', 'bind', 'proc', 'dev']) mkdirSync(join(rootfs, dir), { recursive: true })
  mkdirSync(join(outside, 'bind'), { recursive: true })
  for (const file of readdirSync(SOURCES).filter((f) => f.endsWith('.c'))) {
    const name = file.slice(0, -2)
    execFileSync('cc', [
      '-O1',
      '-w',
      '-static',
      '-fno-stack-protector',
      '-o',
      join(rootfs, name),
      join(SOURCES, file),
      '-pthread',
    ])
  }
  writeFileSync(secret, 'TOP-SECRET: nobody reads this\n', { mode: 0o600 })
  copyFileSync(secret, join(base, 'secret'))
})
afterAll(() => rmSync(base, { recursive: true, force: true }))

interface Holder {
  pid: number
  name: string
  fds: string[]
  status: Map<string, string>
  namespaces: string
}

function holder(pid: number): Holder {
  return {
    pid,
    name: readFileSync(`/proc/${pid}/comm`, 'latin1').trim(),
    fds: readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`)),
    status: new Map(
      readFileSync(`/proc/${pid}/status`, 'latin1')
        .split('\n')
        .map((line) => line.split(':\t') as [string, string]),
    ),
    namespaces: ['user', 'mnt', 'net', 'pid', 'ipc', 'uts'].map((ns) => readlinkSync(`/proc/${pid}/ns/${ns}`)).join(),
  }
}

const hasEnded = (pid: number): boolean =>
  !existsSync(`/proc/${pid}/stat`) || /\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))

/** All processes below one, with what the host says they hold. */
function held(root: number): Holder[] {
  const parents = new Map<number, number>()
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
      parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // It ended meanwhile.
    }
  }
  const pids = [root]
  for (const pid of pids) for (const [child, parent] of parents) if (parent === pid) pids.push(child)
  return pids.slice(1).flatMap((pid) => {
    try {
      return [holder(pid)]
    } catch (error) {
      // The guest's children die while we look.
      if (hasEnded(pid)) return []
      throw error
    }
  })
}

const isRoot = process.getuid?.() === 0

describe.each(PLATFORMS)('hostile guests on %s', (platform) => {
  const cli = (...args: string[]) => [TSSANDBOX, `--platform=${platform}`, ...args]

  it('cannot reach a file outside the root', { timeout: 120_000 }, async (context) => {
    if (!isRoot) context.skip('not root')
    const outcome = await run(cli('do', '--root', rootfs, '--', '/escape', secret), { seconds: 100 })
    expect(outcome).toEqual({ code: 0, stdout: 'contained\n', stderr: '' })
  })

  it('cannot reach a file beside a writable bind mount', { timeout: 120_000 }, async (context) => {
    if (!isRoot) context.skip('not root')
    const volume = `${join(outside, 'bind')}:/bind`
    const outcome = await run(cli('do', '--root', rootfs, '-v', volume, '--', '/escape', secret), { seconds: 100 })
    expect(outcome).toEqual({ code: 0, stdout: 'contained\n', stderr: '' })
  })

  it('cannot use the stub against the host', { timeout: 120_000 }, async (context) => {
    if (!isRoot) context.skip('not root')
    const victim = spawn('sleep', ['1000'], { stdio: 'ignore' })
    const argv = cli('do', '--root', rootfs, '--', '/stub', String(victim.pid), secret)
    const child = spawn(argv[0]!, argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
    let output = ''
    child.stdout!.on('data', (data) => {
      output += data
    })
    try {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      const limit = Date.now() + 90_000
      while (!output.includes('attacked') && child.exitCode === null && Date.now() < limit) await sleep(50)
      expect(output).toContain('attacked\n')
      const stubs = held(child.pid!).filter(({ name }) => !/MainThread|gofer|sentr|node/.test(name))
      expect(stubs.length).toBeGreaterThan(10)
      // One namespace of each kind for all of them, no privileges, no way back out of the filter.
      expect(new Set(stubs.map(({ namespaces }) => namespaces)).size).toBe(1)
      for (const { status, fds } of stubs) {
        // The pipe that wakes the sentry (systrap), for writing.
        expect(fds.filter((fd) => !/^pipe:\[\d+\]$/.test(fd))).toEqual([])
        expect(fds.length).toBeLessThanOrEqual(1)
        for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) expect(status.get(set)).toBe('0000000000000000')
        expect(status.get('NoNewPrivs')).toBe('1')
        expect(status.get('Seccomp')).toBe('2')
        expect(status.get('Uid')).not.toMatch(/\b0\b/)
      }
      expect(readFileSync(`/proc/${victim.pid}/status`, 'utf8')).toMatch(/TracerPid:\t0\n/)
      expect(victim.exitCode ?? victim.signalCode).toBeNull()
      child.stdin!.end()
      expect(await ended).toBe(0)
      expect(output).toBe('attacked\nafterwards 7\nnothing gained\n')
    } finally {
      victim.kill('SIGKILL')
      child.kill('SIGKILL')
    }
  })

  it('a fork bomb stops at the pids limit, and the container lives on', { timeout: 60_000 }, (context) => {
    if (!isRoot) context.skip('not root')
    const w = new Workspace(`--platform=${platform}`)
    const bundle = w.bundle(rootfs, ['/bomb'], (config) => {
      config.linux.resources = { pids: { limit: 40 } }
      config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' })
    })
    expect(w.run(['run', '--bundle', bundle, `bomb-${process.pid}`])).toEqual({
      code: 0,
      out: 'processes bounded, fork gave EAGAIN\nand afterwards 7\n',
      err: '',
    })
    expect(w.clean()).toBe(true)
  })
})
