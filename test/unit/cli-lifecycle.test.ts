/** The CLI's side of a container's life, against a sentry without a kernel: needs root, for namespaces and cgroups. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { OWN_TASKS } from '../../runsc-cli/cgroup/limits.ts'
import { makeFakeDist } from '../support/fake-dist.ts'

const isRoot = process.getuid?.() === 0
let base: string
let argv: string[]
let root: string

/** Output goes to files: a detached container keeps a pipe open, and the test would wait for its end. */
function cli(...args: string[]) {
  const files = ['out', 'err'].map((name) => join(base, name))
  const [out, err] = files.map((file) => openSync(file, 'w'))
  const all = [...argv.slice(1), '--root', root, ...args]
  const r = spawnSync(argv[0]!, all, { stdio: ['ignore', out, err], timeout: 15_000 })
  closeSync(out!)
  closeSync(err!)
  return { code: r.status, out: readFileSync(files[0]!, 'utf8'), err: readFileSync(files[1]!, 'utf8') }
}

let bundles = 0
function bundle(args: string[], change: (config: Record<string, unknown>) => void = () => {}): string {
  const dir = join(base, `bundle-${bundles++}`)
  mkdirSync(join(dir, 'rootfs'), { recursive: true })
  const config: Record<string, unknown> = {
    ociVersion: '1.0.2',
    process: { args, cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 } },
    root: { path: 'rootfs' },
    mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
    linux: { namespaces: [{ type: 'network' }, { type: 'pid' }, { type: 'mount' }, { type: 'ipc' }, { type: 'uts' }] },
  }
  change(config)
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config))
  return dir
}

const state = (id: string) => JSON.parse(cli('state', id).out) as { status: string; pid: number }
async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await new Promise((r) => setTimeout(r, 25))
  expect(condition()).toBe(true)
}
const alive = (pid: number) => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]![0] !== 'Z'
  } catch {
    return false
  }
}

/** Ids name cgroups, which are the machine's: another run must not meet them. */
const P = `u${process.pid}-`

describe.skipIf(!isRoot)('container life cycle', () => {
  beforeAll(async () => {
    base = mkdtempSync(join(tmpdir(), 'tssandbox-cli-'))
    root = join(base, 'a-root-with-a-name-so-long-that-no-socket-address-holds-it'.repeat(2))
    argv = await makeFakeDist(base)
  })
  afterAll(() => {
    const ids = cli('list', '-q').out.split('\n').filter(Boolean)
    if (ids.length) cli('delete', '--force', ...ids)
    rmSync(base, { recursive: true, force: true })
  })

  test('create, state, start, kill, delete', async () => {
    const pidFile = join(base, 'pid')
    expect(cli('create', '--bundle', bundle(['sleep']), '--pid-file', pidFile, `${P}c1`)).toMatchObject({
      code: 0,
      err: '',
    })
    const pid = Number(readFileSync(pidFile, 'utf8'))
    expect(state(`${P}c1`)).toMatchObject({ status: 'created', pid })
    expect(cli('start', `${P}c1`)).toMatchObject({ code: 0 })
    expect(state(`${P}c1`)).toMatchObject({ status: 'running' })
    expect(cli('start', `${P}c1`)).toMatchObject({ code: 128, err: expect.stringContaining('already running') })
    expect(cli('delete', `${P}c1`)).toMatchObject({ code: 128, err: expect.stringContaining('not stopped') })
    expect(JSON.parse(cli('ps', '--format', 'json', `${P}c1`).out)).toEqual([pid])
    expect(cli('pause', `${P}c1`).code).toBe(0)
    expect(state(`${P}c1`)).toMatchObject({ status: 'paused' })
    expect(cli('resume', `${P}c1`).code).toBe(0)
    expect(cli('list', '-q').out).toBe(`${P}c1\n`)
    expect(cli('kill', `${P}c1`, 'KILL').code).toBe(0)
    await until(() => state(`${P}c1`).status === 'stopped')
    expect(cli('kill', `${P}c1`, '9')).toMatchObject({ code: 128, err: expect.stringContaining('not running') })
    expect(cli('kill', '--all', `${P}c1`, '9')).toMatchObject({ code: 0 })
    expect(cli('delete', `${P}c1`)).toMatchObject({ code: 0, err: '' })
    expect(cli('state', `${P}c1`)).toMatchObject({ code: 128, err: expect.stringContaining('does not exist') })
    expect(cli('delete', `${P}c1`).code).toBe(128)
    expect(cli('delete', '--force', `${P}c1`).code).toBe(0)
  })

  test('run ends with the exit code and leaves nothing', () => {
    expect(cli('run', '-b', bundle(['exit', '7']), `${P}r1`)).toMatchObject({ code: 7, err: '' })
    expect(cli('run', '-b', bundle(['echo', 'hello']), `${P}r2`)).toMatchObject({ code: 0, out: 'hello\n' })
    expect(cli('list', '-q').out).toBe('')
  })

  test('a program that is not there fails create, with the reason in the log', () => {
    const log = join(base, 'log.json')
    const r = cli('--log', log, '--log-format', 'json', 'create', '-b', bundle(['missing']), `${P}m1`)
    expect(r).toMatchObject({ code: 128, err: expect.stringContaining('executable file not found') })
    const line = JSON.parse(readFileSync(log, 'utf8').trim().split('\n').at(-1)!)
    expect(line).toMatchObject({ level: 'error', msg: expect.stringContaining('executable file not found') })
    expect(existsSync(join(root, `${P}m1`))).toBe(false)
  })

  test('exec: foreground, detached, missing', async () => {
    cli('run', '-d', '-b', bundle(['sleep']), `${P}e1`)
    expect(cli('exec', `${P}e1`, 'exit', '5')).toMatchObject({ code: 5 })
    expect(cli('exec', `${P}e1`, 'echo', 'hi')).toMatchObject({ code: 0, out: 'hi\n' })
    expect(cli('exec', `${P}e1`, 'missing')).toMatchObject({ code: 128, err: expect.stringContaining('not found') })
    const pidFile = join(base, 'exec-pid')
    const processFile = join(base, 'process.json')
    writeFileSync(processFile, JSON.stringify({ args: ['sleep'], cwd: '/', user: { uid: 0, gid: 0 } }))
    const r = cli('exec', '--process', processFile, '--detach', '--pid-file', pidFile, `${P}e1`)
    expect(r).toMatchObject({ code: 0, err: '' })
    const standIn = Number(readFileSync(pidFile, 'utf8'))
    expect(alive(standIn)).toBe(true)
    expect(JSON.parse(cli('ps', '-f', 'json', `${P}e1`).out)).toHaveLength(2)
    process.kill(standIn, 'SIGKILL')
    await until(() => (JSON.parse(cli('ps', '-f', 'json', `${P}e1`).out) as number[]).length === 1)
    expect(cli('delete', '-f', `${P}e1`).code).toBe(0)
  })

  test('hooks run in order with the state on stdin; a failing one undoes everything', () => {
    const out = join(base, 'hooks')
    const hook = (name: string) => [{ path: '/bin/sh', args: ['sh', '-c', `cat >> ${out}; echo " ${name}" >> ${out}`] }]
    const kinds = ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop']
    const dir = bundle(['exit', '0'], (c) => {
      c.hooks = Object.fromEntries(kinds.map((k) => [k, hook(k)]))
    })
    expect(cli('run', '-b', dir, `${P}h1`)).toMatchObject({ code: 0, err: '' })
    const lines = readFileSync(out, 'utf8').trim().split('\n')
    expect(lines.map((l) => l.split(' ').at(-1))).toEqual(kinds)
    const first = JSON.parse(lines[0]!.slice(0, lines[0]!.lastIndexOf(' ')))
    expect(first).toMatchObject({ id: `${P}h1`, status: 'creating', bundle: dir })
    expect(first.pid).toBeGreaterThan(0)

    const failing = bundle(['sleep'], (c) => {
      c.hooks = { prestart: [{ path: '/bin/sh', args: ['sh', '-c', 'echo no luck >&2; exit 3'] }] }
    })
    const r = cli('create', '-b', failing, `${P}h2`)
    expect(r).toMatchObject({ code: 128, err: expect.stringMatching(/prestart hook #0.*exit status 3: no luck/) })
    expect(existsSync(join(root, `${P}h2`))).toBe(false)
  })

  test('two creates with one id: one wins, the other says so', async () => {
    const dir = bundle(['sleep'])
    const run = (): Promise<number | null> =>
      new Promise((resolve) => {
        const child: ChildProcess = spawn(argv[0]!, [...argv.slice(1), '--root', root, 'create', '-b', dir, `${P}race`])
        child.on('exit', resolve)
      })
    expect((await Promise.all([run(), run(), run()])).sort()).toEqual([0, 128, 128])
    expect(cli('delete', '-f', `${P}race`).code).toBe(0)
  })

  test('kill -9 of create at any moment: delete --force cleans up', async () => {
    const dir = bundle(['sleep'], (c) => {
      ;(c.linux as Record<string, unknown>).cgroupsPath = `/tssandbox-unit-${process.pid}/killed`
    })
    for (const delay of [30, 45, 60, 70, 80, 90, 100, 115, 130, 170]) {
      const child = spawn(argv[0]!, [...argv.slice(1), '--root', root, 'create', '-b', dir, `${P}killed`])
      const exited = new Promise((r) => child.once('exit', r))
      await new Promise((r) => setTimeout(r, delay))
      child.kill('SIGKILL')
      await exited
      expect(cli('delete', '--force', `${P}killed`)).toMatchObject({ code: 0, err: '' })
      expect(existsSync(join(root, `${P}killed`))).toBe(false)
      const left = spawnSync('sh', ['-c', `find /sys/fs/cgroup -type d -path "*tssandbox-unit-${process.pid}/killed"`])
      expect(left.stdout.toString()).toBe('')
    }
    spawnSync('sh', ['-c', `find /sys/fs/cgroup -depth -type d -name tssandbox-unit-${process.pid} -exec rmdir {} +`])
  })

  test('limits are written to the cgroups with room for the runtime', () => {
    const dir = bundle(['sleep'], (c) => {
      Object.assign(c.linux as object, {
        cgroupsPath: `/tssandbox-unit-${process.pid}/limits`,
        resources: { pids: { limit: 10 }, memory: { limit: 64 << 20 } },
      })
    })
    expect(cli('run', '-d', '-b', dir, `${P}l1`)).toMatchObject({ code: 0, err: '' })
    const r = spawnSync('sh', [
      '-c',
      `cat $(find /sys/fs/cgroup -path "*tssandbox-unit-${process.pid}/limits/pids.max")`,
    ])
    expect(r.stdout.toString().trim()).toBe(String(10 + OWN_TASKS))
    expect(cli('update', '--pids-limit', '20', `${P}l1`)).toMatchObject({ code: 0, err: '' })
    const after = spawnSync('sh', [
      '-c',
      `cat $(find /sys/fs/cgroup -path "*tssandbox-unit-${process.pid}/limits/pids.max")`,
    ])
    expect(after.stdout.toString().trim()).toBe(String(20 + OWN_TASKS))
    expect(JSON.parse(cli('events', '--stats', `${P}l1`).out)).toMatchObject({ type: 'stats', id: `${P}l1` })
    expect(cli('delete', '-f', `${P}l1`).code).toBe(0)
    spawnSync('sh', ['-c', `find /sys/fs/cgroup -depth -type d -name tssandbox-unit-${process.pid} -exec rmdir {} +`])
  })

  test('--console-socket gets a pty master', async () => {
    const dir = bundle(['sleep'], (c) => {
      ;(c.process as Record<string, unknown>).terminal = true
    })
    expect(cli('create', '-b', dir, `${P}t1`)).toMatchObject({
      code: 128,
      err: expect.stringContaining('console socket'),
    })
    const socket = join(base, 'console.sock')
    let name = ''
    const server = createServer((s) => s.on('data', (d) => (name += d))).listen(socket)
    await new Promise((r) => server.once('listening', r))
    const child = spawn(argv[0]!, [
      ...argv.slice(1),
      '--root',
      root,
      'create',
      '-b',
      dir,
      '--console-socket',
      socket,
      `${P}t1`,
    ])
    expect(await new Promise((r) => child.once('exit', r))).toBe(0)
    await until(() => name.startsWith('/dev/pts/'))
    server.close()
    expect(cli('delete', '-f', `${P}t1`).code).toBe(0)
  })
})
