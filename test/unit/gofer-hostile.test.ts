import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ATTR_MODE, FrameReader, HEADER_SIZE, MAX_FRAME } from '../../gofer/protocol.ts'
import { FrameSocket } from '../../native/frame-socket.ts'
import { close, pread } from '../../native/host.ts'
import { EINVAL, EMSGSIZE, ENOSYS, EPROTO, EXDEV } from '../../sentry/abi/errno.ts'
import { type GoferProcess, startGofer } from '../support/gofer-process.ts'
import { startSwapping } from '../support/hostile-files.ts'

const isRoot = process.getuid?.() === 0
const NO_CHANGE = {
  valid: 0,
  mode: 0o777,
  uid: 0,
  gid: 0,
  size: 0,
  atimeSec: 0,
  atimeNsec: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
}

describe.skipIf(!isRoot)('a confined gofer (as root)', () => {
  let dir: string
  let gofer: GoferProcess
  let raw: FrameSocket
  let r: FrameReader
  const inside = (p: string) => join(dir, 'root', p)

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'gofer-hostile-'))
    mkdirSync(inside('a/b'), { recursive: true })
    mkdirSync(inside('swap/x'), { recursive: true })
    mkdirSync(join(dir, 'secrets'))
    writeFileSync(join(dir, 'secrets/file'), 'secret')
    writeFileSync(inside('a/b/file'), 'public')
    writeFileSync(inside('swap/file'), 'public')
    gofer = startGofer([{ id: 0, source: join(dir, 'root'), shared: true }], true)
    expect(Array.isArray(gofer.client.hello())).toBe(true)
    raw = new FrameSocket(gofer.socketFd, MAX_FRAME)
    r = new FrameReader(raw.in.bytes)
  })
  afterAll(async () => {
    await gofer.stop()
    rmSync(dir, { recursive: true })
  })

  /** What the gofer has open. */
  const descriptors = () =>
    readdirSync(`/proc/${gofer.child.pid}/fd`).map((fd) => readlinkSync(`/proc/${gofer.child.pid}/fd/${fd}`))

  /** An answer is sent before what it needed is closed: ask until it settles. */
  const descriptorCount = () => readdirSync(`/proc/${gofer.child.pid}/fd`).length

  /** Sends raw bytes; the answer's [id, result]. */
  function exchange(bytes: Uint8Array, fd = -1): [number, number] {
    raw.out.bytes.set(bytes)
    expect(raw.send(bytes.length, fd)).toBe(bytes.length)
    const n = raw.receive(false)
    expect(n).toBeGreaterThanOrEqual(HEADER_SIZE)
    r.start(n)
    return [r.u32(), r.i32()]
  }

  it('has given up what it does not need', () => {
    const status = readFileSync(`/proc/${gofer.child.pid}/status`, 'latin1')
    expect(status).toMatch(/^NoNewPrivs:\t1$/m)
    for (const tid of readdirSync(`/proc/${gofer.child.pid}/task`)) {
      const s = readFileSync(`/proc/${gofer.child.pid}/task/${tid}/status`, 'latin1')
      expect(s).toMatch(/^CapEff:\t000000000000001f$/m)
      expect(s).toMatch(/^CapPrm:\t000000000000001f$/m)
      expect(s).toMatch(/^Seccomp:\t2$/m)
    }
    const root = `/proc/${gofer.child.pid}/root`
    expect(readdirSync(root)).toEqual(['m0'])
    const mounts = readFileSync(`/proc/${gofer.child.pid}/mountinfo`, 'latin1').trim().split('\n')
    expect(mounts.map((line) => line.split(' ')[4]).sort()).toEqual(['/', '/m0'])
    expect(mounts.every((line) => line.includes('nosuid') && line.includes('nodev'))).toBe(true)
    const fds = descriptors()
    expect(fds.filter((f) => f.startsWith('/')).sort()).toEqual(['/', '/dev/null', '/dev/null', '/m0'])
    expect(fds.filter((f) => f.includes('io_uring'))).toEqual([])
  })

  it('answers malformed frames and lives', () => {
    expect(exchange(new Uint8Array(0))).toEqual([0, -EPROTO])
    expect(exchange(new Uint8Array([1, 2, 3]))[1]).toBe(-EPROTO)
    expect(exchange(new Uint8Array([7, 0, 0, 0, 99, 0, 0, 0]))).toEqual([7, -ENOSYS])
    expect(exchange(new Uint8Array([7, 0, 0, 0, 3, 0, 9, 0, 0, 0, 0]))).toEqual([7, -EINVAL])
    expect(exchange(new Uint8Array([7, 0, 0, 0, 3, 0, 0, 0, 255, 255, 0]))).toEqual([7, -EPROTO])
    // A path without its NUL, and one byte too many.
    expect(exchange(new Uint8Array([7, 0, 0, 0, 3, 0, 0, 0, 1, 0, 97, 98]))).toEqual([7, -EPROTO])
    expect(exchange(new Uint8Array([7, 0, 0, 0, 3, 0, 0, 0, 1, 0, 97, 0, 0]))).toEqual([7, -EPROTO])
    raw.out.bytes.fill(0)
    expect(raw.send(MAX_FRAME, -1)).toBe(MAX_FRAME)
    expect(raw.receive(false)).toBe(HEADER_SIZE)
    const big = new FrameSocket(gofer.socketFd, 2 * MAX_FRAME)
    expect(big.send(2 * MAX_FRAME, -1)).toBe(2 * MAX_FRAME)
    const n = raw.receive(false)
    r.start(n)
    expect([r.u32(), r.i32()]).toEqual([0, -EMSGSIZE])
    expect(gofer.client.stat(0, 'a/b/file')).toBe(0)
  })

  it('answers any bytes', async () => {
    const before = descriptorCount()
    const path = fc
      .constantFrom('', 'a', 'a/b/file', '../x', 'a//b', '/etc/passwd', 'swap', 'x'.repeat(300), 'a/b/new')
      .map((p) => [p.length & 255, p.length >> 8, ...Buffer.from(p), 0])
    const junk = fc.uint8Array({ maxLength: 40 }).map((a) => [...a])
    const body = fc
      .array(fc.oneof(path, junk, fc.constant([0, 0, 0, 0])), { maxLength: 6 })
      .map((parts) => parts.flat())
    // No request that removes or moves: the tree must stay for the other tests.
    const type = fc.oneof(fc.nat(30), fc.nat(255)).filter((n) => ![11, 12, 13].includes(n))
    fc.assert(
      fc.property(type, body, (t, bytes) => {
        const [id] = exchange(new Uint8Array([42, 0, 0, 0, t, 0, 0, 0, ...bytes]))
        expect(id).toBe(42)
        const fd = raw.takeFd()
        if (fd >= 0) close(fd)
      }),
      { numRuns: 1500 },
    )
    expect(gofer.client.stat(0, 'a/b/file')).toBe(0)
    await expect.poll(() => descriptorCount()).toBeLessThanOrEqual(before)
  })

  it('does not act on descriptors from elsewhere', async () => {
    const fd = openSync(join(dir, 'secrets/file'), 'r')
    const before = statSync(join(dir, 'secrets/file')).mode
    const open = descriptorCount()
    expect(gofer.client.setattr(0, '', NO_CHANGE, ATTR_MODE, fd)).toBe(-EXDEV)
    expect(gofer.client.link(0, '', 'stolen', fd)).toBe(-EXDEV)
    expect(statSync(join(dir, 'secrets/file')).mode).toBe(before)
    expect(existsSync(inside('stolen'))).toBe(false)
    // Descriptors with requests that want none are closed.
    for (let i = 0; i < 50; i++) exchange(new Uint8Array([7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]), fd)
    await expect.poll(() => descriptorCount()).toBeLessThanOrEqual(open)
    closeSync(fd)
  })

  it('leaks nothing in a race of renames', async () => {
    // Another process exchanges a directory and a link to the outside as fast as it can.
    symlinkSync(join(dir, 'secrets'), inside('swap-link'))
    symlinkSync('../../secrets', inside('swap-relative'))
    const racer = startSwapping(inside('.'))
    const seen = new Set<string>()
    const c = gofer.client
    const buf = Buffer.alloc(10)
    while (racer.exitCode === null && racer.signalCode === null) {
      for (let i = 0; i < 200; i++) {
        const result = i % 2 === 0 ? c.open(0, 'swap/file', 0) : c.walk(0, '', 'swap/file', 0)
        const fd = c.takeFd()
        if (fd >= 0) {
          seen.add(buf.toString('latin1', 0, pread(fd, buf, 10, 0)))
          close(fd)
        } else seen.add(String(result))
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(racer.exitCode).toBe(0)
    expect(seen).toContain('public')
    // It was a race: some tries met the link, or nothing.
    expect(seen.size).toBeGreaterThan(1)
    expect(seen).not.toContain('secret')
  }, 10_000)

  it('ends when the sentry does', async () => {
    const other = startGofer([{ id: 0, source: join(dir, 'root') }], true)
    expect(Array.isArray(other.client.hello())).toBe(true)
    await other.stop()
    expect(await other.exited).toBe(0)
  })

  it('says what is wrong with its configuration', async () => {
    const cases: [object[], string][] = [
      [[{ id: 0, source: join(dir, 'nowhere') }], 'nowhere'],
      [[{ id: 0, source: 'relative' }], 'mounts[0].source: expected an absolute path'],
      [[{ id: 0, source: join(dir, 'secrets/file') }], 'is not a directory'],
      [[{ id: -1, source: dir }], 'mounts[0].id'],
    ]
    for (const [mounts, message] of cases) {
      const bad = startGofer(mounts, true)
      expect(await bad.exited).toBe(1)
      expect(bad.stderr()).toContain('gofer: ')
      expect(bad.stderr()).toContain(message)
      expect(bad.client.stat(0, '')).toBe(-5)
    }
  })
})
