/** The confinement of a running sentry, as the host sees it: root, ids, capabilities, filter, in every thread. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FIRST_SANDBOX_ID } from '../../sentry/confine/identity.ts'
import { PLATFORMS, run, sandboxed } from '../support/run.ts'
import { finished, until } from '../support/tssandbox.ts'

const read = (path: string) => readFileSync(path, 'latin1')
const field = (status: string, name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? ''
const childrenOf = (pid: number): number[] =>
  read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number)

/** DAC_READ_SEARCH, NET_BIND_SERVICE, NET_ADMIN, NET_RAW. */
const MAY_KEEP = (1n << 2n) | (1n << 10n) | (1n << 12n) | (1n << 13n)

describe.each(PLATFORMS)('a confined sentry, on %s', (platform) => {
  let cli: ChildProcess
  let sentry = 0
  const threads = () => readdirSync(`/proc/${sentry}/task`).map((tid) => read(`/proc/${sentry}/task/${tid}/status`))

  beforeAll(async () => {
    const [command, ...args] = sandboxed(platform, ['/bin/sh', '-c', 'echo ready; read x'])
    const env = { ...process.env, HOST_SECRET: 'of the host' }
    cli = spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'], env })
    await new Promise((resolve) => cli.stdout!.once('data', resolve))
    await until(() => childrenOf(cli.pid!).length === 2)
    sentry = childrenOf(cli.pid!).find((pid) => read(`/proc/${pid}/cmdline`).startsWith('tssandbox-sentry'))!
  })
  afterAll(async () => {
    cli.stdin!.end()
    await finished(cli)
  })

  test('has an empty, read-only root, and a /proc of its own processes only', () => {
    expect(readdirSync(`/proc/${sentry}/root/`)).toEqual(['proc'])
    const mounts = read(`/proc/${sentry}/mountinfo`).trim().split('\n')
    expect(mounts.length).toBe(2)
    expect(mounts.every((line) => line.split(' ')[5]!.startsWith('ro,nosuid,nodev,noexec'))).toBe(true)
    expect(mounts[1]).toMatch(/hidepid=(invisible|2)/)
    expect(mounts[1]).toContain('subset=pid')
  })

  test('is a user that no other sandbox and no host process is, in every thread; its stubs are the same', () => {
    const id = String(FIRST_SANDBOX_ID + sentry)
    const ids = [id, id, id, id].join('\t')
    const stubs = childrenOf(sentry).map((pid) => read(`/proc/${pid}/status`))
    expect(stubs.length).toBeGreaterThan(1)
    for (const status of [...threads(), ...stubs]) {
      expect(field(status, 'Uid')).toBe(ids)
      expect(field(status, 'Gid')).toBe(ids)
      expect(field(status, 'Groups')).toBe('')
    }
  })

  test('keeps nothing of the CLI that it is a copy of: environment, rings, event loop', () => {
    expect(read(`/proc/${sentry}/environ`)).not.toContain('host')
    expect(read(`/proc/${sentry}/environ`)).toMatch(/^\0*$/)
    expect(read(`/proc/${sentry}/maps`)).not.toContain('io_uring')
    const open = (pid: number) => readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
    // Standard input and output are the container's, too.
    const standard = [0, 1, 2].map((fd) => readlinkSync(`/proc/${cli.pid}/fd/${fd}`))
    const own = open(cli.pid!).filter((what) => /^(socket|pipe):/.test(what) && !standard.includes(what))
    expect(open(sentry).filter((what) => own.includes(what))).toEqual([])
    expect(open(sentry)).not.toContain('anon_inode:[io_uring]')
  })

  test('has next to no capabilities, no new privileges and a filter, in every thread', () => {
    expect(threads().length).toBeGreaterThan(0)
    for (const status of threads()) {
      for (const set of ['CapPrm', 'CapEff', 'CapBnd']) {
        expect(BigInt(`0x${field(status, set)}`) & ~MAY_KEEP).toBe(0n)
      }
      expect(field(status, 'CapInh')).toBe('0000000000000000')
      expect(field(status, 'CapAmb')).toBe('0000000000000000')
      expect(field(status, 'NoNewPrivs')).toBe('1')
      expect(field(status, 'Seccomp')).toBe('2')
    }
  })
})

test('without a network, the addresses of interfaces are nobody’s business and no crash', async () => {
  const [command, ...args] = sandboxed(PLATFORMS[0]!, ['cat', '/sys/class/net/lo/address'])
  const r = await run([command!, '--network', 'none', ...args])
  expect(r).toEqual({ code: 0, stdout: '00:00:00:00:00:00\n', stderr: '' })
})
