import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
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
import * as wire from '../../gofer/ninep/wire.ts'
import { EBADF, EINVAL, ENFILE, ENOENT, ENOMEM, ENOTDIR, ENXIO, EPROTO } from '../../sentry/abi/errno.ts'
import { Chooser, startSwapping } from '../support/hostile-files.ts'
import {
  frame,
  type NinepClient,
  type NinepGofer,
  startNinep,
  str,
  u8,
  u16,
  u32,
  u64,
} from '../support/ninep-client.ts'
import { random } from '../support/random.ts'

const isRoot = process.getuid?.() === 0
const FUZZ = Number(process.env['NINEP_FUZZ'] ?? 20_000)
const SEED = Number(process.env['NINEP_SEED'] ?? 9)

/** Frames that are nearly right: each type with plausible fields, then some of their bytes changed. */
class Mutator extends Chooser {
  constructor(seed: number) {
    super(random(seed))
  }
  private fid = () => u32(this.pick([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, wire.NO_FID]))
  private name = () =>
    str(this.pick(['a', 'b', 'dir', 'file', 'link', 'up', '..', '.', '', 'a/b', '/etc', 'x'.repeat(255)]))
  private number = () => u32(this.pick([0, 1, 2, 7, 0o777, 0o100644, 0o40755, 0xffffffff, this.next(0x10000)]))
  private long = () => u64(this.pick([0, 1, 100, 4096, 2 ** 31, 2 ** 40, 2 ** 53, -1]))

  private fields(type: number): Buffer[] {
    const { fid, name, number, long } = this
    switch (type) {
      case wire.TVERSION:
        return [u32(this.pick([4096, 8192, 65536])), str(wire.VERSION)]
      case wire.TATTACH:
        return [fid(), u32(wire.NO_FID), str('root'), str(this.pick(['0', '0', '1', ''])), number()]
      case wire.TWALK: {
        const count = this.pick([0, 1, 1, 1, 2, 4])
        return [fid(), u32(this.next(40)), u16(count), ...Array.from({ length: count }, name)]
      }
      case wire.TLOPEN:
        return [fid(), u32(this.pick([0, 1, 2, 0o1000, 0o2001, 0o200000]))]
      case wire.TLCREATE:
        return [fid(), name(), u32(this.pick([0o100, 0o102, 0o301])), number(), number()]
      case wire.TSYMLINK:
        return [fid(), name(), str(this.pick(['/etc/passwd', '../..', 'a'])), number()]
      case wire.TMKNOD:
        return [fid(), name(), number(), number(), number(), number()]
      case wire.TRENAME:
      case wire.TLINK:
        return [fid(), fid(), name()]
      case wire.TGETATTR:
        return [fid(), long()]
      case wire.TSETATTR:
        return [fid(), u32(this.next(0x200)), number(), number(), number(), long(), long(), long(), long(), long()]
      case wire.TXATTRWALK:
        return [fid(), fid(), str(this.pick(['', 'user.a', 'system.posix_acl_access', 'trusted.x']))]
      case wire.TXATTRCREATE:
        return [fid(), str('user.a'), u64(this.next(300)), u32(this.next(4))]
      case wire.TREADDIR:
      case wire.TREAD:
        return [fid(), long(), number()]
      case wire.TWRITE: {
        const data = this.data()
        return [fid(), u64(this.pick([0, 1, 4096])), u32(data.length), data]
      }
      case wire.TLOCK:
        return [fid(), u8(this.next(4)), number(), long(), long(), number(), str('vm')]
      case wire.TGETLOCK:
        return [fid(), u8(this.next(4)), long(), long(), number(), str('vm')]
      case wire.TMKDIR:
        return [fid(), name(), number(), number()]
      case wire.TRENAMEAT:
        return [fid(), name(), fid(), name()]
      case wire.TUNLINKAT:
        return [fid(), name(), u32(this.pick([0, 0x200]))]
      case wire.TFLUSH:
        return [u16(this.next(0x10000))]
      case wire.TFSYNC:
        return [fid(), number()]
      // Rarely the root: without it nothing else would be served.
      case wire.TCLUNK:
      case wire.TREMOVE:
        return [u32(this.next(20) === 0 ? 0 : 1 + this.next(40))]
      default:
        return [fid()]
    }
  }

  /** A frame whose size field is right, whatever else is not. */
  make(tag: number): Buffer {
    const type = this.pick(TYPES)
    let bytes = this.mutate(frame(type, tag, ...this.fields(type)), 7, 256)
    if (bytes[4] === wire.TVERSION && this.next(100) > 0) bytes[4] = wire.TGETATTR
    bytes = bytes.subarray(0, 4000)
    bytes.writeUInt32LE(bytes.length, 0)
    return bytes
  }
}
const TYPES = Object.entries(wire)
  .filter(([name]) => /^T[A-Z]+$/.test(name))
  .map(([, type]) => type as number)

describe.skipIf(!isRoot)('a guest that was taken over (as root)', () => {
  let dir: string
  let gofer: NinepGofer
  let c: NinepClient
  let free = 0
  const inside = (p: string) => join(dir, 'root', p)
  const secret = () => join(dir, 'secrets/file')
  const CONNECTIONS = 12

  beforeAll(() => {
    dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ninep-hostile-'))
    for (const d of ['root', 'other', 'secrets']) mkdirSync(join(dir, d))
    writeFileSync(secret(), 'secret')
    gofer = startNinep(
      [
        { id: 0, source: join(dir, 'root'), shared: true, allowDevices: true },
        { id: 1, source: join(dir, 'other'), readonly: true },
      ],
      true,
      CONNECTIONS,
    )
    c = connect()
  })
  afterAll(async () => {
    await gofer.stop()
    expect(await gofer.exited).toBe(0)
    rmSync(dir, { recursive: true })
  })

  /** A connection that no test has used, attached to the mount. */
  function connect(): NinepClient {
    const client = gofer.clients[free++]!
    expect(client.version(65536)).toBe(65536)
    expect(client.attach(0, '0')).toBe(0)
    return client
  }
  const descriptors = () =>
    readdirSync(`/proc/${gofer.child.pid}/fd`).map((fd) => readlinkSync(`/proc/${gofer.child.pid}/fd/${fd}`))

  it('faces a process that has given up what it does not need', () => {
    const status = readFileSync(`/proc/${gofer.child.pid}/status`, 'latin1')
    expect(status).toMatch(/^NoNewPrivs:\t1$/m)
    expect(status).toMatch(/^Seccomp:\t2$/m)
    expect(status).toMatch(/^CapEff:\t000000000800001f$/m)
    const mounts = readFileSync(`/proc/${gofer.child.pid}/mountinfo`, 'latin1').trim().split('\n')
    expect(mounts.map((line) => line.split(' ')[4]).sort()).toEqual(['/', '/fd', '/m0', '/m1'])
    expect(mounts.every((line) => line.includes('nosuid') && line.includes('nodev'))).toBe(true)
    // From the descriptors' folder no '..' leads into the rest of proc.
    expect(readdirSync(`/proc/${gofer.child.pid}/root`).sort()).toEqual(['fd', 'm0', 'm1'])
    expect(readdirSync(`/proc/${gofer.child.pid}/cwd/`).length).toBeGreaterThan(5)
  })

  it(`is sent ${FUZZ} mutated frames`, () => {
    const client = connect()
    const mutator = new Mutator(SEED)
    const BATCH = 64
    let tag = 0
    let served = 0
    for (let sent = 0; sent < FUZZ; sent += BATCH) {
      // From time to time it is set up again: a mutated Tversion or Tclunk leaves nothing to talk about.
      if (client.attach(9, '0') === -EPROTO || sent % (BATCH * 8) === 0) {
        if (client.version(65536) !== 65536) throw new Error('no session')
      } else client.clunk(9)
      client.attach(0, '0')
      if (sent % (BATCH * 2) === 0) {
        for (const fid of [1, 2, 3]) client.clunk(fid)
        client.mkdir(0, 'dir', 0o777)
        client.walk(0, 1)
        client.walk(0, 2)
        client.lcreate(2, 'file', 0o102, 0o666)
        client.walk(0, 3, 'file')
      }
      const frames = Array.from({ length: BATCH }, () => mutator.make((tag = (tag + 1) & 0x7fff)))
      client.send(Buffer.concat(frames))
      for (const request of frames) {
        const m = client.receive()
        if (m === null) throw new Error(`seed ${SEED}: the connection ended at ${request.toString('hex')}`)
        const asked = request[4]!
        if (m[4] !== wire.RLERROR) served++
        const fine = m.readUInt16LE(5) === request.readUInt16LE(5) && (m[4] === asked + 1 || m[4] === wire.RLERROR)
        if (!fine) throw new Error(`seed ${SEED}: ${request.toString('hex')} got ${m.subarray(0, 20).toString('hex')}`)
      }
    }
    // They are not all refused at the door.
    expect(served / FUZZ).toBeGreaterThan(0.05)
    expect(client.version(65536)).toBe(65536)
    expect(gofer.stderr()).toBe('')
    expect(readFileSync(secret(), 'latin1')).toBe('secret')
    expect(readdirSync(dir).sort()).toEqual(['other', 'root', 'secrets'])
    expect(readdirSync(join(dir, 'other'))).toEqual([])
    // Nothing that a session opened outlives it.
    expect(descriptors().length).toBeLessThan(40 + CONNECTIONS)
    for (const name of readdirSync(inside(''), 'buffer'))
      rmSync(Buffer.concat([Buffer.from(`${inside('')}/`), name]), { recursive: true })
  }, 1_200_000)

  it('ends a connection whose sizes are impossible, and no other', () => {
    const bad = [u32(0), u32(6), u32(0xffffffff), u32(65537), Buffer.concat([frame(wire.TCLUNK, 1, u32(0)), u32(3)])]
    for (const bytes of bad) {
      const client = connect()
      client.send(bytes)
      const last = bytes.length > 4 ? client.receive() : null
      if (last !== null) expect(last[4]).toBe(wire.TCLUNK + 1)
      expect(client.receive()).toBe(null)
    }
    // Before a size is agreed on, only small messages; and one that comes in pieces.
    const client = gofer.clients[free++]!
    const hello = frame(wire.TVERSION, wire.NO_TAG, u32(8192), str(wire.VERSION))
    for (const byte of hello) client.send(Buffer.from([byte]))
    expect(client.receive()?.[4]).toBe(wire.TVERSION + 1)
    client.send(u32(8193))
    expect(client.receive()).toBe(null)
    expect(c.walk(0, 1)).toBe(0)
    expect(c.clunk(1)).toBe(0)
  })

  it('does not wait for a guest that does not read', () => {
    const client = connect()
    writeFileSync(inside('big'), Buffer.alloc(1 << 20, 'b'))
    expect(client.walk(0, 1, 'big')).toBe(1)
    expect(client.lopen(1, 0)).toBe(0)
    // Answers of 6 MB, unread: only this connection stops.
    const requests = Array.from({ length: 100 }, (_, i) => frame(wire.TREAD, i, u32(1), u64(i), u32(60_000)))
    client.send(Buffer.concat(requests))
    for (let i = 0; i < 20; i++) expect(c.walk(0, 1) || c.clunk(1)).toBe(0)
    for (let i = 0; i < 100; i++) {
      const m = client.receive()!
      expect([m.length, m.readUInt16LE(5)]).toEqual([60_011, i])
    }
  })

  it('goes up no way', () => {
    symlinkSync(join(dir, 'secrets'), inside('absolute'))
    symlinkSync('../secrets', inside('relative'))
    symlinkSync('/proc/self/root', inside('magic'))
    mkdirSync(inside('sub'))
    for (const link of ['absolute', 'relative', 'magic']) {
      expect(c.walk(0, 1, link, 'file')).toBe(1)
      expect(c.clunk(1)).toBe(-EBADF)
      expect(c.walk(0, 1, link)).toBe(1)
      expect(c.walk(1, 2, 'file')).toBe(-ENOTDIR)
      expect(c.mkdir(1, 'x', 0o700)).toBe(-ENOTDIR)
      expect(c.renameat(1, 'file', 0, 'stolen')).toBe(-ENOTDIR)
      expect(c.unlinkat(1, 'file')).toBe(-ENOTDIR)
      expect(c.lopen(1, 0)).toBeLessThan(0)
      expect(c.lcreate(1, 'file', 0o100, 0o600)).toBe(-ENOTDIR)
      expect(c.clunk(1)).toBe(0)
    }
    for (const name of ['..', '../secrets', '/', '/etc/passwd', 'sub/..', '.', '', 'a\0b']) {
      expect(c.walk(0, 1, name)).toBe(-EINVAL)
      expect(c.mkdir(0, name, 0o700)).toBe(-EINVAL)
      expect(c.symlink(0, name, 'x')).toBe(-EINVAL)
      expect(c.mknod(0, name, 0o100600)).toBe(-EINVAL)
      expect(c.link(0, 0, name)).toBe(-EINVAL)
      expect(c.unlinkat(0, name, 0x200)).toBe(-EINVAL)
      expect(c.renameat(0, 'sub', 0, name)).toBe(-EINVAL)
      expect(c.renameat(0, name, 0, 'sub')).toBe(-EINVAL)
    }
    expect(c.walk(0, 1, 'sub', '..', '..', 'secrets')).toBe(1)
    expect(c.clunk(1)).toBe(-EBADF)
    // The fd folder holds descriptors by number; a guest cannot name it.
    expect(c.walk(0, 1, '0')).toBe(-ENOENT)
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
        const names = c.walk(0, 1, 'swap', 'file')
        if (names === 2) {
          const opened = c.lopen(1, 0)
          seen.add(opened === 0 ? c.read(1, 0, 10).toString() : String(opened))
          c.clunk(1)
        } else seen.add(String(names))
        // Tlcreate and Tremove through the name that changes.
        if (c.walk(0, 1, 'swap') === 1) {
          if (c.lcreate(1, 'made', 0o101, 0o600) === 0) seen.add(String(c.remove(1)))
          else c.clunk(1)
        }
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
    expect(c.walk(0, 1, 'mine')).toBe(1)
    // The host moves something of its own there, and a link, and removes it.
    writeFileSync(join(dir, 'secrets/moved'), 'moved')
    linkSync(join(dir, 'secrets/moved'), inside('replacement'))
    renameSync(inside('replacement'), inside('mine'))
    expect(c.remove(1)).toBe(-ENOENT)
    expect(statSync(inside('mine')).isFile()).toBe(true)
    writeFileSync(inside('second'), 'second')
    expect(c.walk(0, 1, 'second')).toBe(1)
    rmSync(inside('second'))
    symlinkSync(secret(), inside('second'))
    expect(c.lopen(1, 0)).toBe(0)
    expect(c.read(1, 0, 9).toString()).toBe('second')
    expect(c.walk(0, 2, 'second')).toBe(1)
    expect(c.lopen(2, 0)).toBeLessThan(0)
    // Moved out of the mount: Tremove does not follow it there.
    writeFileSync(inside('third'), 'third')
    expect(c.walk(0, 3, 'third')).toBe(1)
    renameSync(inside('third'), join(dir, 'secrets/third'))
    expect(c.rename(3, 0, 'back')).toBe(-ENOENT)
    expect(c.remove(3)).toBe(-ENOENT)
    expect(existsSync(join(dir, 'secrets/third'))).toBe(true)
    rmSync(join(dir, 'secrets/third'))
    rmSync(join(dir, 'secrets/moved'))
    expect([c.clunk(1), c.clunk(2)]).toEqual([0, 0])
  })

  it('opens no device, socket or FIFO', async () => {
    expect(c.mknod(0, 'null', 0o020666, 1, 3)).toBe(0)
    expect(c.mknod(0, 'disk', 0o060666, 7, 0)).toBe(0)
    expect(c.mknod(0, 'fifo', 0o010666)).toBe(0)
    expect(c.mknod(0, 'big', 0o020666, 0x1000, 3)).toBe(-EINVAL)
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(inside('sock'), resolve))
    for (const name of ['null', 'disk', 'fifo', 'sock']) {
      expect(c.walk(0, 1, name)).toBe(1)
      for (const flags of [0, 1, 2, 0o1000]) expect(c.lopen(1, flags)).toBe(-ENXIO)
      expect(c.lcreate(1, 'x', 0o100, 0o600)).toBe(-ENOTDIR)
      expect(c.setattr(1, wire.SETATTR_SIZE, { size: 0 })).toBe(-EINVAL)
      expect(c.clunk(1)).toBe(0)
      expect(c.walk(0, 1)).toBe(0)
      expect(c.lcreate(1, name, 0o102, 0o600)).toBe(-ENXIO)
      expect(c.clunk(1)).toBe(0)
    }
    server.close()
  })

  it('gets no further by wrong sequences', () => {
    writeFileSync(inside('seq'), 'x')
    expect(c.walk(0, 1, 'seq')).toBe(1)
    expect(c.xattrwalk(1, 1, '')).toBe(-EINVAL)
    expect(c.xattrwalk(1, 2, '')).toBeGreaterThanOrEqual(0)
    for (const type of [wire.TGETATTR, wire.TLOPEN, wire.TREADLINK, wire.TSTATFS, wire.TFSYNC]) {
      expect(
        c.call(
          type,
          u32(2),
          ...(type === wire.TGETATTR ? [u64(0)] : type === wire.TLOPEN || type === wire.TFSYNC ? [u32(0)] : []),
        ),
      ).toBe(-EBADF)
    }
    expect(c.walk(2, 3)).toBe(-EBADF)
    expect(c.write(2, 0, 'x')).toBe(-EBADF)
    expect(c.xattrwalk(2, 3, '')).toBe(-EBADF)
    expect(c.clunk(2)).toBe(0)
    expect(c.lopen(1, 0)).toBe(0)
    expect(c.xattrcreate(1, 'user.a', 1)).toBe(-EBADF)
    expect(c.write(1, 0, 'x')).toBe(-EBADF)
    expect(c.walk(1, 1, 'x')).toBe(-EINVAL)
    expect(c.clunk(1)).toBe(0)
    // Too short, too long.
    expect(c.call(wire.TCLUNK)).toBe(-EPROTO)
    expect(c.call(wire.TCLUNK, u32(0), u8(0))).toBe(-EPROTO)
    expect(c.call(wire.TWRITE, u32(0), u64(0), u32(100), Buffer.alloc(99))).toBe(-EPROTO)
    expect(c.call(wire.TWALK, u32(0), u32(1), u16(2), str('seq'))).toBe(-EPROTO)
    expect(c.call(wire.TWALK, u32(0), u32(1), u16(1), u16(9999))).toBe(-EPROTO)
    expect(c.clunk(1)).toBe(-EBADF)
  })

  it('gets no more than it may have', () => {
    const client = connect()
    writeFileSync(inside('one'), 'x')
    // Values of attributes in transfer.
    let made = 0
    let error = 0
    for (; made < 100 && error === 0; made++) {
      expect(client.walk(0, 1000 + made, 'one')).toBe(1)
      error = client.xattrcreate(1000 + made, 'user.a', 65536)
    }
    expect([made, error]).toEqual([17, -ENOMEM])
    expect(client.version(65536)).toBe(65536)
    expect(client.attach(0, '0')).toBe(0)
  })

  it('runs out of descriptors and gets them back', async () => {
    const other = startNinep([{ id: 0, source: join(dir, 'root') }], true, 1, 2000)
    const client = other.clients[0]!
    expect(client.version(65536)).toBe(65536)
    expect(client.attach(0, '0')).toBe(0)
    writeFileSync(inside('one'), 'x')
    let made = 0
    let result = 1
    for (; made < 5000 && result === 1; made++) result = client.walk(0, 1 + made, 'one')
    expect(result).toBe(-ENFILE)
    expect(made).toBeGreaterThan(1900)
    expect(made).toBeLessThanOrEqual(2001)
    expect(client.lopen(1, 0)).toBe(-ENFILE)
    expect(client.walk(0, 9999)).toBe(0)
    expect(client.lcreate(9999, 'two', 0o101, 0o600)).toBe(-ENFILE)
    // Clones cost no descriptor.
    for (let i = 0; i < 5000; i++) expect(client.walk(1, 20_000 + i)).toBe(0)
    expect(client.clunk(2)).toBe(0)
    expect(client.lopen(1, 0)).toBe(0)
    expect(client.version(65536)).toBe(65536)
    expect(readdirSync(`/proc/${other.child.pid}/fd`).length).toBeLessThan(40)
    await other.stop()
    expect(other.stderr()).toBe('')
  })

  it('ends when the guest does', async () => {
    const other = startNinep([{ id: 0, source: join(dir, 'root') }], true, 2)
    expect(other.clients[0]!.version(8192)).toBe(8192)
    await other.stop()
    expect(await other.exited).toBe(0)
  })
})
