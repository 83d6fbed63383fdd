/**
 * A guest that has been taken over, against a confined gofer that serves it by FUSE: mutated requests, impossible sizes,
 * numbers of nothing, floods, more than it may have, and a host that renames under its hands. Each request is answered, the
 * gofer lives, and nothing outside the mounts is reached.
 *
 * FUSE_FUZZ=N sets how many mutated requests are sent (20,000 otherwise), FUSE_SEED which.
 */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import * as wire from '../../gofer/fuse/wire.ts'
import { EINVAL, EISDIR, ENFILE, ENOTDIR, EPROTO, ESTALE } from '../../sentry/abi/errno.ts'
import {
  cstr,
  type Entry,
  type FuseClient,
  type FuseGofer,
  request,
  startFuse,
  u32,
  u64,
} from '../support/fuse-client.ts'
import { stopsCleanly } from '../support/gofer-child.ts'
import { Chooser, startSwapping } from '../support/hostile-files.ts'
import { random } from '../support/random.ts'

const isRoot = process.getuid?.() === 0
const FUZZ = Number(process.env['FUSE_FUZZ'] ?? 20_000)
const SEED = Number(process.env['FUSE_SEED'] ?? 7)
const ROOT = wire.ROOT_NODE
const SILENT: ReadonlySet<number> = new Set([wire.FORGET, wire.BATCH_FORGET])
/** A mutation may make one of another. */
const UNANSWERED: ReadonlySet<number> = new Set([wire.SETLKW, wire.INTERRUPT])
const OPCODES = Object.entries(wire)
  .filter(([name]) => /^(BATCH_FORGET|COPY_FILE_RANGE|(?!MAJOR|MINOR)[A-Z0-9]+)$/.test(name))
  .map(([, opcode]) => opcode)

/** Requests that are nearly right: each with plausible fields, then some of their bytes changed. */
class Mutator extends Chooser {
  private readonly shared: boolean
  constructor(seed: number, shared: boolean) {
    super(random(seed))
    this.shared = shared
  }
  private node = () => this.pick([0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, this.next(200), 2 ** 40, 2 ** 53])
  private name = () =>
    cstr(this.pick(['a', 'b', 'dir', 'file', 'link', 'up', '..', '.', '', 'a/b', '/etc', 'x'.repeat(255)]))
  private number = () => u32(this.pick([0, 1, 2, 7, 0o777, 0o100644, 0o40755, 0xffffffff, this.next(0x10000)]))
  private long = () => u64(this.pick([0, 0, 1, 100, 4096, 2 ** 31, 2 ** 40, 2 ** 53, -1]))
  private handle = () => u64(this.pick([0, 1, 2, 3, this.next(20), -1]))

  private fields(opcode: number): Buffer[] {
    const { name, number, long } = this
    switch (opcode) {
      case wire.INIT:
        return [u32(7), u32(this.pick([30, 37])), u32(0), u32(this.pick([0x7fffffff, 1])), Buffer.alloc(48)]
      case wire.LOOKUP:
      case wire.UNLINK:
      case wire.RMDIR:
      case wire.REMOVEXATTR:
        return [name()]
      case wire.FORGET:
        return [u64(this.pick([0, 1, 1, 5, -1]))]
      case wire.BATCH_FORGET: {
        const count = this.next(6)
        return [u32(count), u32(0), ...Array.from({ length: count }, () => [u64(this.next(300)), u64(1)]).flat()]
      }
      case wire.SETATTR:
        return [
          ...[
            u32(this.next(0x1000)),
            u32(0),
            u64(0),
            this.pick([u64(0), u64(100), long()]),
            u64(0),
            long(),
            long(),
            long(),
          ],
          ...[number(), number(), number(), number(), u32(0), number(), number(), u32(0)],
        ]
      case wire.SYMLINK:
        return [name(), cstr(this.pick(['/etc/passwd', '../..', 'a', '']))]
      case wire.MKNOD:
      case wire.CREATE:
      case wire.TMPFILE:
        return [number(), number(), number(), number(), name()]
      case wire.MKDIR:
        return [number(), number(), name()]
      case wire.RENAME:
        return [u64(this.node()), name(), name()]
      case wire.RENAME2:
        return [u64(this.node()), u32(this.next(5)), u32(0), name(), name()]
      case wire.LINK:
        return [u64(this.node()), name()]
      case wire.READ:
      case wire.READDIR:
      case wire.READDIRPLUS:
        return [this.handle(), long(), number(), u32(0), u64(0), u32(0), u32(0)]
      case wire.WRITE: {
        const data = this.data()
        return [
          ...[this.handle(), u64(this.pick([0, 1, 4096])), u32(data.length), number(), u64(0), number(), u32(0)],
          data,
        ]
      }
      case wire.SETXATTR: {
        const data = this.data()
        return [u32(data.length), u32(this.next(4)), cstr('user.a'), data]
      }
      case wire.GETXATTR:
        return [number(), u32(0), cstr(this.pick(['user.a', 'system.posix_acl_access', 'trusted.x', '']))]
      case wire.LISTXATTR:
        return [number(), u32(0)]
      case wire.OPEN:
      case wire.OPENDIR:
        return [u32(this.pick([0, 1, 2, 0o1002, 0o2001])), u32(this.next(2))]
      case wire.RELEASE:
      case wire.FLUSH:
        return [this.handle(), number(), number(), u64(this.next(4))]
      // None that waits for good: it would have no answer.
      case wire.GETLK:
      case wire.SETLK:
        return [
          this.handle(),
          u64(this.next(4)),
          long(),
          long(),
          u32(this.next(4)),
          number(),
          u32(this.next(2)),
          u32(0),
        ]
      case wire.INTERRUPT:
        return [u64(this.next(1000))]
      case wire.FALLOCATE:
        return [u64(0), this.pick([u64(0), u64(4096)]), u64(this.next(10_000)), u32(this.next(0x100)), u32(0)]
      case wire.LSEEK:
        return [u64(0), long(), u32(this.next(6)), u32(0)]
      case wire.COPY_FILE_RANGE:
        return [u64(0), long(), u64(this.node()), u64(0), this.pick([u64(0), u64(100)]), u64(this.next(1000)), u64(0)]
      case wire.STATFS:
      case wire.READLINK:
      case wire.DESTROY:
        return []
      default:
        return [number(), number(), long()]
    }
  }

  /** A request whose length is right, whatever else is not. */
  make(unique: number): Buffer {
    const opcode = this.pick(OPCODES)
    const whole = request(opcode, unique, this.node(), this.fields(opcode), this.next(3), this.next(3))
    let bytes = this.mutate(whole, 16, 64)
    if (bytes.length < wire.REQUEST_HEADER) bytes = Buffer.concat([bytes, Buffer.alloc(wire.REQUEST_HEADER)])
    bytes = bytes.subarray(0, 4000)
    bytes.writeUInt32LE(bytes.length, 0)
    if (UNANSWERED.has(bytes.readUInt32LE(4)) && this.shared) bytes.writeUInt32LE(wire.STATFS, 4)
    return bytes
  }
}

describe.skipIf(!isRoot)('a guest that was taken over (as root)', () => {
  let dir: string
  let gofer: FuseGofer
  let c: FuseClient
  let free = 0
  const inside = (p: string) => join(dir, 'root', p)
  const secret = () => join(dir, 'secrets/file')
  const CONNECTIONS = 12

  beforeAll(() => {
    dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'fuse-hostile-'))
    for (const d of ['root', 'secrets']) mkdirSync(join(dir, d))
    writeFileSync(secret(), 'secret')
    const mounts = Array.from({ length: CONNECTIONS }, (_, id) => ({
      ...{ id, source: join(dir, 'root'), shared: id === CONNECTIONS - 1, allowDevices: true },
    }))
    gofer = startFuse(mounts, true)
    c = connect()
  })
  afterAll(async () => {
    await stopsCleanly(gofer)
    rmSync(dir, { recursive: true })
  })

  /** A connection that no test has used. */
  function connect(): FuseClient {
    const client = gofer.clients[free++]!
    expect(client.init()).toBeGreaterThan(0)
    return client
  }
  const descriptors = () => readdirSync(`/proc/${gofer.child.pid}/fd`).length

  it.each([false, true])(
    `is sent ${FUZZ} mutated requests (shared: %s)`,
    (shared) => {
      const client = shared ? gofer.clients.at(-1)! : connect()
      const mutator = new Mutator(SEED, shared)
      const BATCH = 64
      let unique = 0
      let served = 0
      let answered = 0
      const before = descriptors()
      for (let sent = 0; sent < FUZZ; sent += BATCH) {
        if (sent % (BATCH * 4) === 0) {
          if (client.init() < 0) throw new Error('no session')
          // What is in it may be anything by now.
          if (shared) client.create(ROOT, `file${sent}`, 0o666)
          client.mkdir(ROOT, 'dir', 0o777)
          const d = client.find(ROOT, 'dir')
          if (d > 0) client.create(d, 'file', 0o666)
          client.create(ROOT, 'file', 0o666)
          client.list(ROOT)
        }
        const requests = Array.from({ length: BATCH }, () => mutator.make(++unique))
        client.send(Buffer.concat(requests))
        for (const asked of requests) {
          if (SILENT.has(asked.readUInt32LE(4))) continue
          const m = client.receive()
          if (m === null) throw new Error(`seed ${SEED}: the connection ended at ${asked.toString('hex')}`)
          const error = m.readInt32LE(4)
          answered++
          if (error === 0) served++
          const fine = m.readBigUInt64LE(8) === asked.readBigUInt64LE(8) && error <= 0 && error > -512
          if (!fine) throw new Error(`seed ${SEED}: ${asked.toString('hex')} got ${m.subarray(0, 20).toString('hex')}`)
        }
      }
      // They are not all refused at the door.
      expect(served / answered).toBeGreaterThan(0.05)
      expect(client.init()).toBeGreaterThan(0)
      expect(gofer.stderr()).toBe('')
      expect(readFileSync(secret(), 'latin1')).toBe('secret')
      expect(readdirSync(dir).sort()).toEqual(['root', 'secrets'])
      // Nothing that a session opened outlives it.
      expect(descriptors()).toBeLessThanOrEqual(before + 2)
      for (const name of readdirSync(inside(''), 'buffer'))
        rmSync(Buffer.concat([Buffer.from(`${inside('')}/`), name]), { recursive: true })
    },
    1_200_000,
  )

  it('ends a connection whose sizes are impossible, and no other', () => {
    const one = request(wire.STATFS, 1, ROOT, [])
    const bad = [
      u32(0),
      u32(39),
      u32(0xffffffff),
      u32(wire.MAX_DATA + wire.MAX_FIELDS + 1),
      Buffer.concat([one, u32(3)]),
    ]
    for (const bytes of bad) {
      const client = connect()
      client.send(bytes)
      const last = bytes.length > 4 ? client.receive() : null
      if (last !== null) {
        expect(last.length).toBe(16 + 80)
        expect(client.receive()).toBe(null)
      }
    }
    // Before it is set up, only small requests, and none but that; in pieces.
    const client = gofer.clients[free++]!
    expect(client.lookup(ROOT, 'a')).toBe(-EPROTO)
    for (const byte of request(wire.STATFS, 9, ROOT, [])) client.send(Buffer.from([byte]))
    expect(client.receive()!.readInt32LE(4)).toBe(-EPROTO)
    client.send(u32(4097))
    expect(client.receive()).toBe(null)
    expect(c.getattr(ROOT)).toMatchObject({ nlink: 2 })
  })

  it('does not wait for a guest that does not read', () => {
    const client = connect()
    writeFileSync(inside('big'), Buffer.alloc(1 << 20, 'b'))
    const node = client.find(ROOT, 'big')
    const fields = (i: number) => [u64(0), u64(i), u32(60_000), u32(0), u64(0), u32(0), u32(0)]
    client.send(Buffer.concat(Array.from({ length: 100 }, (_, i) => request(wire.READ, i, node, fields(i)))))
    for (let i = 0; i < 20; i++) expect(c.getattr(ROOT)).toMatchObject({ nlink: 2 })
    for (let i = 0; i < 100; i++) {
      const m = client.receive()!
      expect([m.length, Number(m.readBigUInt64LE(8))]).toEqual([60_016, i])
    }
  })

  it('goes up no way', () => {
    symlinkSync(join(dir, 'secrets'), inside('absolute'))
    symlinkSync('../secrets', inside('relative'))
    symlinkSync('/proc/self/root', inside('magic'))
    mkdirSync(inside('sub'))
    for (const link of ['absolute', 'relative', 'magic']) {
      const node = c.find(ROOT, link)
      expect(node).toBeGreaterThan(0)
      expect(c.lookup(node, 'file')).toBe(-ENOTDIR)
      expect(c.mkdir(node, 'x', 0o700)).toBe(-ENOTDIR)
      expect(c.create(node, 'x', 0o700)).toBe(-ENOTDIR)
      expect(c.list(node)).toBe(-ENOTDIR)
      expect(c.rename(node, 'file', ROOT, 'stolen')).toBe(-ENOTDIR)
      expect(c.rename(ROOT, 'sub', node, 'given')).toBe(-ENOTDIR)
      expect(c.unlink(node, 'file')).toBe(-ENOTDIR)
      expect(c.read(node, 0, 10)).toBe(-EINVAL)
      expect(c.write(node, 0, 'x')).toBe(-EINVAL)
    }
    const sub = c.find(ROOT, 'sub')
    for (const name of ['..', '../secrets', '/', '/etc/passwd', 'sub/..', '.', '']) {
      expect(c.lookup(sub, name)).toBe(-EINVAL)
      expect(c.mkdir(sub, name, 0o700)).toBe(-EINVAL)
      expect(c.create(sub, name, 0o700)).toBe(-EINVAL)
      expect(c.symlink(sub, name, 'x')).toBe(-EINVAL)
      expect(c.mknod(sub, name, 0o100600)).toBe(-EINVAL)
      expect(c.link(sub, sub, name)).toBe(-EINVAL)
      expect(c.unlink(sub, name)).toBe(-EINVAL)
      expect(c.rmdir(sub, name)).toBe(-EINVAL)
      expect(c.rename(ROOT, 'sub', sub, name)).toBe(-EINVAL)
      expect(c.rename(sub, name, ROOT, 'sub')).toBe(-EINVAL)
    }
    // A NUL ends a name; what is behind it is too much, and no name without one.
    expect(c.lookup(sub, 'a\0b')).toBe(-EPROTO)
    expect(c.call(wire.LOOKUP, sub, Buffer.from('abc'))).toBe(-EPROTO)
    expect(c.call(wire.RENAME, sub, u64(ROOT), cstr('a'))).toBe(-EPROTO)
    // The fd folder holds descriptors by number; a guest cannot name it.
    expect(c.find(ROOT, '0')).toBe(-2)
  })

  it('leaks nothing in a race of renames', async () => {
    mkdirSync(inside('swap'))
    writeFileSync(inside('swap/file'), 'public')
    symlinkSync(join(dir, 'secrets'), inside('swap-link'))
    symlinkSync('../secrets', inside('swap-relative'))
    const racer = startSwapping(inside('.'))
    const seen = new Set<string>()
    while (racer.exitCode === null && racer.signalCode === null) {
      for (let i = 0; i < 100; i++) {
        const d = c.find(ROOT, 'swap')
        if (d < 0) {
          seen.add(String(d))
          continue
        }
        const f = c.find(d, 'file')
        seen.add(f < 0 ? String(f) : c.read(f, 0, 10).toString())
        const made = c.create(d, `made${i}`, 0o600)
        if (typeof made !== 'number') {
          seen.add(String(c.unlink(d, `made${i}`)))
          c.forget(made.node)
        }
        if (f > 0) c.forget(f)
        c.forget(d)
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(racer.exitCode).toBe(0)
    expect(seen).toContain('public')
    expect(seen.size).toBeGreaterThan(1)
    expect(seen).not.toContain('secret')
    expect(readdirSync(join(dir, 'secrets'))).toEqual(['file'])
  }, 15_000)

  it('keeps the file that it had when another takes its name', () => {
    writeFileSync(inside('mine'), 'mine')
    const node = c.find(ROOT, 'mine')
    renameSync(inside('mine'), inside('kept'))
    symlinkSync(secret(), inside('mine'))
    for (const result of [c.getattr(node), c.read(node, 0, 9), c.write(node, 0, 'x'), c.getxattr(node, 'user.a')]) {
      expect(result).toBe(-ESTALE)
    }
    expect(c.setattr(node, wire.FATTR_MODE, { mode: 0o777 })).toBe(-ESTALE)
    expect(statSync(secret()).mode & 0o777).not.toBe(0o777)
    // Already open, it is read on.
    rmSync(inside('mine'))
    renameSync(inside('kept'), inside('mine'))
    expect(c.read(node, 0, 9).toString()).toBe('mine')
    rmSync(inside('mine'))
    symlinkSync(secret(), inside('mine'))
    expect(c.read(node, 0, 9).toString()).toBe('mine')
    expect(c.find(ROOT, 'mine')).not.toBe(node)
    rmSync(inside('mine'))
    // A directory that the host moves out takes nothing new along.
    mkdirSync(inside('out'))
    writeFileSync(inside('out/f'), 'f')
    const out = c.find(ROOT, 'out')
    const f = c.find(out, 'f')
    renameSync(inside('out'), join(dir, 'secrets/out'))
    expect(c.lookup(out, '..')).toBe(-EINVAL)
    expect(c.read(f, 0, 9).toString()).toBe('f')
    rmSync(join(dir, 'secrets/out'), { recursive: true })
  })

  it('opens no device, socket or FIFO', async () => {
    expect(c.mknod(ROOT, 'null', 0o020666, 0x103)).toMatchObject({ attributes: { rdev: 0x103 } })
    expect(c.mknod(ROOT, 'disk', 0o060666, 0x700)).toMatchObject({ attributes: { rdev: 0x700 } })
    expect(c.mknod(ROOT, 'fifo', 0o010666)).toMatchObject({ attributes: { mode: 0o010666 } })
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(inside('sock'), resolve))
    for (const name of ['null', 'disk', 'fifo', 'sock']) {
      const node = c.find(ROOT, name)
      expect(node).toBeGreaterThan(0)
      expect([c.read(node, 0, 1), c.write(node, 0, 'x'), c.fsync(node)]).toEqual([-EINVAL, -EINVAL, -EINVAL])
      expect(c.setattr(node, wire.FATTR_SIZE, { size: 0 })).toBe(-EINVAL)
      expect(c.fallocate(node, 0, 0, 1)).toBe(-EINVAL)
      expect(c.list(node)).toBe(-ENOTDIR)
    }
    expect(c.write(ROOT, 0, 'x')).toBe(-EISDIR)
    server.close()
  })

  it('is flooded with what needs no answer', () => {
    const flood = Buffer.concat(Array.from({ length: 20_000 }, (_, i) => request(wire.FORGET, i, i % 50, [u64(-1)])))
    c.send(flood)
    c.tell(wire.BATCH_FORGET, 0, u32(0xffffffff), u32(0), ...Array.from({ length: 200 }, (_, i) => u64(i)))
    c.tell(wire.BATCH_FORGET, 0)
    c.tell(wire.FORGET, ROOT)
    expect(c.getattr(ROOT)).toMatchObject({ mode: statSync(inside('')).mode })
    // More than anybody looked up: gone once, and no other with it.
    writeFileSync(inside('one'), 'x')
    writeFileSync(inside('two'), 'y')
    const [one, two] = [c.find(ROOT, 'one'), c.find(ROOT, 'two')]
    c.forget(one, 1000)
    c.forget(one, 1000)
    expect(c.getattr(one)).toBe(-ESTALE)
    expect(c.read(two, 0, 9).toString()).toBe('y')
  })

  it('runs out of descriptors and gets them back', async () => {
    const other = startFuse([{ id: 0, source: join(dir, 'root'), shared: false }], true, 2000)
    const client = other.clients[0]!
    expect(client.init()).toBeGreaterThan(0)
    // A directory within the other: each is held, for what is in it.
    let node = ROOT
    let made: Entry | number = -1
    const nodes: number[] = []
    for (let i = 0; i < 2500; i++) {
      made = client.mkdir(node, 'd', 0o700)
      if (typeof made === 'number') break
      node = made.node
      nodes.push(node)
    }
    expect(made).toBe(-ENFILE)
    expect(nodes.length).toBeGreaterThan(1900)
    expect(client.create(ROOT, 'more', 0o600)).toBe(-ENFILE)
    client.forgetAll(nodes.slice(1000))
    const again = client.create(ROOT, 'more', 0o600) as Entry
    expect(client.read(again.node, 0, 1)).toHaveLength(0)
    expect(client.unlink(ROOT, 'more')).toBe(0)
    expect(client.init()).toBeGreaterThan(0)
    expect(readdirSync(`/proc/${other.child.pid}/fd`).length).toBeLessThan(40)
    await other.stop()
    expect(other.stderr()).toBe('')
  })

  it('has directories within each other forgotten from above', () => {
    const client = connect()
    const before = descriptors()
    const nodes = [ROOT]
    for (let i = 0; i < 12_000; i++) nodes.push((client.mkdir(nodes.at(-1)!, 'deep', 0o700) as Entry).node)
    client.forgetAll(nodes.slice(0, -1))
    expect(client.getattr(nodes[1]!)).toBe(-ESTALE)
    expect(descriptors() - before).toBeGreaterThan(11_000)
    client.forget(nodes.at(-1)!)
    expect(client.getattr(nodes.at(-1)!)).toBe(-ESTALE)
    expect(descriptors() - before).toBeLessThan(3)
    spawnSync('rm', ['-rf', inside('deep')])
  }, 20_000)

  it('keeps few files open', () => {
    const client = connect()
    const before = descriptors()
    mkdirSync(inside('many'))
    for (let i = 0; i < 1500; i++) writeFileSync(inside(`many/${i}`), String(i))
    const many = client.find(ROOT, 'many')
    const nodes = Array.from({ length: 1500 }, (_, i) => client.find(many, String(i)))
    for (const [i, node] of nodes.entries()) expect(client.read(node, 0, 9).toString()).toBe(String(i))
    expect(descriptors() - before).toBeLessThan(600)
    expect(client.read(nodes[0]!, 0, 9).toString()).toBe('0')
    client.forgetAll(nodes)
    client.forget(many)
    expect(client.getattr(ROOT)).toMatchObject({ mode: statSync(inside('')).mode })
    expect(descriptors() - before).toBeLessThan(3)
  })

  it('ends when the guest does', async () => {
    const other = startFuse([{ id: 0, source: join(dir, 'root'), shared: false }], true)
    expect(other.clients[0]!.init()).toBeGreaterThan(0)
    await other.stop()
    expect(await other.exited).toBe(0)
  })
})
