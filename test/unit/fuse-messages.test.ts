/**
 * Every request of the FUSE front end against a real directory, through a real process: unconfined as anybody, confined
 * as root. What it answers is compared with what the host says.
 */
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import * as wire from '../../gofer/fuse/wire.ts'
import {
  EEXIST,
  EFBIG,
  EINVAL,
  EISDIR,
  ENAMETOOLONG,
  ENODATA,
  ENOENT,
  ENOSYS,
  ENOTDIR,
  ENOTEMPTY,
  ENXIO,
  EOPNOTSUPP,
  EPERM,
  EPROTO,
  ERANGE,
  EROFS,
  ESTALE,
} from '../../sentry/abi/errno.ts'
import {
  type Attributes,
  cstr,
  type DirectoryEntry,
  type Entry,
  type FuseClient,
  type FuseGofer,
  startFuse,
  u32,
  u64,
} from '../support/fuse-client.ts'
import { stopsCleanly } from '../support/gofer-child.ts'

const isRoot = process.getuid?.() === 0
const ROOT = wire.ROOT_NODE
const uid = process.getuid!()
const gid = process.getgid!()
const FOREVER = 1e6

for (const confined of [false, true]) {
  describe.skipIf(confined && !isRoot)(confined ? 'confined (as root)' : 'unconfined', () => {
    let dir: string
    let gofer: FuseGofer
    let c: FuseClient
    let ro: FuseClient
    const at = (p: string) => join(dir, 'root', p)
    /** A file of the host, looked up. */
    const file = (name: string, text: string) => {
      writeFileSync(at(name), text)
      return c.find(ROOT, name)
    }

    beforeAll(() => {
      dir = mkdtempSync(join(tmpdir(), 'fuse-'))
      for (const d of ['root', 'readonly']) mkdirSync(join(dir, d))
      writeFileSync(join(dir, 'readonly/file'), 'fixed')
      const mounts = [
        { id: 0, source: join(dir, 'root'), shared: false },
        { id: 1, source: join(dir, 'readonly'), readonly: true, shared: false },
      ]
      gofer = startFuse(mounts, confined)
      c = gofer.clients[0]!
      ro = gofer.clients[1]!
      c.uid = ro.uid = uid
      c.gid = ro.gid = gid
    })
    afterAll(async () => {
      await stopsCleanly(gofer)
      rmSync(dir, { recursive: true })
    })
    beforeEach(() => {
      for (const name of readdirSync(at(''))) rmSync(at(name), { recursive: true })
      expect(c.init()).toBeGreaterThan(0)
    })

    it('agrees on version and abilities', () => {
      const flags = c.init()
      expect(flags & wire.INIT_WRITEBACK_CACHE).not.toBe(0)
      expect(flags & wire.INIT_DO_READDIRPLUS).not.toBe(0)
      expect(ro.init() & wire.INIT_WRITEBACK_CACHE).toBe(0)
      expect(c.init(31) & wire.INIT_MAX_PAGES).not.toBe(0)
      expect(c.init(40)).toBeGreaterThan(0)
      // Only what is offered.
      const few = wire.INIT_NO_OPEN_SUPPORT | wire.INIT_NO_OPENDIR_SUPPORT | wire.INIT_MAX_PAGES
      expect(c.init(37, few)).toBe(few)
      expect(c.init(37, 1)).toBe(-EPROTO)
      expect(c.init(30)).toBe(-EPROTO)
      expect(c.init(0, 0, 6)).toBe(-EPROTO)
      // A newer one is to ask again.
      expect(c.init(0, 0, 8)).toBe(0)
    })

    it('looks up, remembering what is not there', () => {
      const node = file('a', 'text')
      const e = c.lookup(ROOT, 'a') as Entry
      const st = statSync(at('a'))
      expect(e.node).toBe(node)
      expect(e.valid).toBeGreaterThan(FOREVER)
      const { attributes: a } = e
      expect([a.ino, a.size, a.mode, a.nlink, a.uid, a.gid]).toEqual([st.ino, 4, st.mode, 1, uid, gid])
      expect(a.mtime).toBe(Math.floor(st.mtimeMs / 1000))
      expect(c.complete).toBe(true)
      const none = c.lookup(ROOT, 'b') as Entry
      expect([none.node, none.valid > FOREVER]).toEqual([0, true])
      expect(c.lookup(node, 'x')).toBe(-ENOTDIR)
      expect(c.lookup(77, 'x')).toBe(-ESTALE)
      expect(c.lookup(ROOT, 'x'.repeat(256))).toBe(-ENAMETOOLONG)
      for (const bad of ['', '.', '..', 'a/b', '/a']) expect(c.lookup(ROOT, bad)).toBe(-EINVAL)
    })

    it('has one node for all names of a file', () => {
      const node = file('a', 'x')
      linkSync(at('a'), at('b'))
      expect(c.find(ROOT, 'b')).toBe(node)
      expect((c.getattr(node) as Attributes).nlink).toBe(2)
      const made = c.link(node, ROOT, 'c') as Entry
      expect([made.node, made.attributes.nlink]).toEqual([node, 3])
      expect(c.link(node, ROOT, 'c')).toBe(-EEXIST)
      for (const name of ['a', 'c', 'b']) expect(c.unlink(ROOT, name)).toBe(0)
      // Open files need no name.
      expect((c.getattr(node) as Attributes).nlink).toBe(0)
      expect(c.read(node, 0, 9).toString()).toBe('x')
      expect(c.write(node, 1, 'y')).toBe(1)
      expect(c.link(node, ROOT, 'd')).toBe(-ENOENT)
    })

    it('forgets', () => {
      const node = file('a', 'x')
      expect(c.find(ROOT, 'a')).toBe(node)
      c.forget(node)
      expect(c.getattr(node)).toMatchObject({ size: 1 })
      c.forget(node)
      expect(c.getattr(node)).toBe(-ESTALE)
      const again = c.find(ROOT, 'a')
      expect(again).toBeGreaterThan(node)
      c.forgetAll([again, again, 999, ROOT])
      expect(c.getattr(again)).toBe(-ESTALE)
      expect(c.getattr(ROOT)).toMatchObject({ ino: statSync(at('')).ino })
    })

    it('reads and writes', () => {
      const made = c.create(ROOT, 'f', 0o100640) as Entry
      expect(statSync(at('f')).mode & 0o7777).toBe(0o640)
      expect(c.write(made.node, 0, 'hello')).toBe(5)
      expect(c.write(made.node, 10, 'x')).toBe(1)
      expect((c.read(made.node, 1, 100) as Buffer).toString('latin1')).toBe('ello\0\0\0\0\0x')
      expect(c.read(made.node, 100, 100)).toHaveLength(0)
      expect(c.read(made.node, -1, 100)).toHaveLength(0)
      expect(c.write(made.node, -1, 'x')).toBe(-EFBIG)
      expect(c.read(ROOT, 0, 10)).toBe(-EISDIR)
      expect(c.create(ROOT, 'f', 0o600)).toBe(-EEXIST)
      expect(c.fsync(made.node)).toBe(0)
      expect(c.call(wire.FSYNCDIR, ROOT, u64(0), u32(1), u32(0))).toBe(0)
      const big = Buffer.alloc(wire.MAX_DATA, 'big')
      expect(c.write(made.node, 0, big)).toBe(big.length)
      expect((c.read(made.node, 0, 1 << 30) as Buffer).equals(big)).toBe(true)
      for (const opcode of [wire.OPEN, wire.OPENDIR, wire.FLUSH, wire.INTERRUPT]) {
        expect(c.call(opcode, ROOT, u64(0), u64(0), u64(0))).toBe(-ENOSYS)
      }
      expect(c.call(200, ROOT)).toBe(-ENOSYS)
    })

    it('changes attributes', () => {
      const node = file('a', 'text')
      expect(c.setattr(node, wire.FATTR_MODE, { mode: 0o4711 })).toMatchObject({ mode: 0o104711 })
      expect(c.setattr(node, wire.FATTR_SIZE, { size: 2 })).toMatchObject({ size: 2, mode: 0o104711 })
      const killing = wire.FATTR_SIZE | wire.FATTR_KILL_SUIDGID
      expect(c.setattr(node, killing, { size: 1 })).toMatchObject({ size: 1, mode: 0o100711 })
      expect(c.setattr(node, wire.FATTR_MODE, { mode: 0o6755 })).toMatchObject({ mode: 0o106755 })
      expect(c.write(node, 0, 'x', wire.WRITE_KILL_SUIDGID)).toBe(1)
      expect(statSync(at('a')).mode & 0o7777).toBe(0o755)
      const time = { mtime: 1_000_000_000, mtimeNs: 5 }
      expect(c.setattr(node, wire.FATTR_MTIME, time)).toMatchObject(time)
      expect(statSync(at('a')).mtimeMs).toBe(1e12)
      const before = Date.now() / 1000 - 10
      const now = c.setattr(node, wire.FATTR_MTIME | wire.FATTR_MTIME_NOW) as Attributes
      expect(now.mtime).toBeGreaterThan(before)
      if (isRoot) {
        expect(c.setattr(node, wire.FATTR_UID | wire.FATTR_GID, { uid: 7, gid: 8 })).toMatchObject({ uid: 7, gid: 8 })
        expect(c.setattr(node, wire.FATTR_GID, { gid: 9 })).toMatchObject({ uid: 7, gid: 9 })
      }
      expect(c.setattr(ROOT, wire.FATTR_SIZE, { size: 1 })).toBe(-EISDIR)
      expect(c.setattr(node, wire.FATTR_SIZE, { size: -1n })).toBe(-EFBIG)
      expect(c.setattr(99, wire.FATTR_SIZE)).toBe(-ESTALE)
    })

    it('makes directories, links, pipes, sockets', () => {
      const d = c.mkdir(ROOT, 'd', 0o750) as Entry
      expect(statSync(at('d')).mode & 0o7777).toBe(0o750)
      expect(c.mkdir(ROOT, 'd', 0o750)).toBe(-EEXIST)
      const l = c.symlink(d.node, 'l', '../no where') as Entry
      expect(readlinkSync(at('d/l'))).toBe('../no where')
      expect(c.readlink(l.node)).toBe('../no where')
      expect(c.readlink(d.node)).toBe(-EINVAL)
      expect(c.symlink(d.node, 'm', '')).toBe(-ENOENT)
      expect(c.symlink(d.node, 'm', 'x'.repeat(4096))).toBe(-ENAMETOOLONG)
      expect(c.lookup(l.node, 'x')).toBe(-ENOTDIR)
      const p = c.mknod(d.node, 'p', 0o010600) as Entry
      expect(lstatSync(at('d/p')).isFIFO()).toBe(true)
      expect(c.read(p.node, 0, 1)).toBe(-EINVAL)
      expect(c.mknod(d.node, 's', 0o140600)).toMatchObject({ attributes: { mode: 0o140600 } })
      expect(c.mknod(d.node, 'r', 0o100604)).toMatchObject({ attributes: { mode: 0o100604, size: 0 } })
      expect(c.mknod(d.node, 'n', 0o020600, 0x103)).toBe(-EPERM)
      expect(c.mknod(d.node, 'n', 0o040600)).toBe(-EINVAL)
      expect(c.rmdir(ROOT, 'd')).toBe(-ENOTEMPTY)
      expect(c.unlink(ROOT, 'd')).toBe(-EISDIR)
      for (const name of ['l', 'p', 's', 'r']) expect(c.unlink(d.node, name)).toBe(0)
      expect(c.rmdir(d.node, 'l')).toBe(-ENOENT)
      expect(c.rmdir(ROOT, 'd')).toBe(0)
      expect(c.getattr(d.node)).toMatchObject({ nlink: 0 })
    })

    it.skipIf(!isRoot)('gives new files to who makes them, or to the group of their directory', () => {
      mkdirSync(at('group'))
      c.uid = 5
      c.gid = 6
      try {
        expect(c.mkdir(ROOT, 'd', 0o755)).toMatchObject({ attributes: { uid: 5, gid: 6 } })
        expect(c.create(ROOT, 'f', 0o4755)).toMatchObject({ attributes: { uid: 5, gid: 6, mode: 0o104755 } })
        expect(c.symlink(ROOT, 'l', 'x')).toMatchObject({ attributes: { uid: 5, gid: 6 } })
        const group = c.find(ROOT, 'group')
        expect(c.setattr(group, wire.FATTR_GID, { gid: 9 })).toMatchObject({ gid: 9 })
        expect(c.setattr(group, wire.FATTR_MODE, { mode: 0o2777 })).toMatchObject({ mode: 0o042777 })
        expect(c.mkdir(group, 'd', 0o755)).toMatchObject({ attributes: { uid: 5, gid: 9, mode: 0o042755 } })
        expect(c.create(group, 'f', 0o644)).toMatchObject({ attributes: { uid: 5, gid: 9, mode: 0o100644 } })
      } finally {
        c.uid = uid
        c.gid = gid
      }
    })

    it('moves names, and finds what it knows by the new ones', () => {
      const a = file('a', 'a')
      const d = (c.mkdir(ROOT, 'd', 0o755) as Entry).node
      const b = file('d/b', 'b') // through the root: no name
      expect(b).toBe(-EINVAL)
      const inner = c.find(d, 'b')
      expect(c.rename(ROOT, 'a', d, 'c')).toBe(0)
      expect(readFileSync(at('d/c'), 'utf8')).toBe('a')
      expect(c.read(a, 0, 9).toString()).toBe('a')
      expect(c.find(d, 'c')).toBe(a)
      // A directory with what is known in it.
      expect(c.rename(ROOT, 'd', ROOT, 'e')).toBe(0)
      expect(c.read(inner, 0, 9).toString()).toBe('b')
      expect(c.write(inner, 0, 'B')).toBe(1)
      expect(readFileSync(at('e/b'), 'utf8')).toBe('B')
      // What is there is replaced, and still open.
      expect(c.rename(d, 'c', d, 'b')).toBe(0)
      expect(c.read(inner, 0, 9).toString()).toBe('B')
      expect(c.read(a, 0, 9).toString()).toBe('a')
      expect(c.rename(d, 'b', d, 'b')).toBe(0)
      expect(c.getattr(a)).toMatchObject({ nlink: 1 })
      expect(c.rename(d, 'x', d, 'y')).toBe(-ENOENT)
      expect(c.rename(d, 'b', 99, 'y')).toBe(-ESTALE)
      expect(c.rename(d, 'b', a, 'y')).toBe(-ENOTDIR)
    })

    it('moves names in other ways', () => {
      const a = file('a', 'a')
      const b = file('b', 'b')
      expect(c.rename(ROOT, 'a', ROOT, 'b', 1)).toBe(-EEXIST)
      expect(c.rename(ROOT, 'a', ROOT, 'b', 2)).toBe(0)
      expect(readFileSync(at('a'), 'utf8')).toBe('b')
      expect([c.read(a, 0, 9).toString(), c.read(b, 0, 9).toString()]).toEqual(['a', 'b'])
      expect([c.find(ROOT, 'a'), c.find(ROOT, 'b')]).toEqual([b, a])
      expect(c.rename(ROOT, 'a', ROOT, 'c', 1)).toBe(0)
      expect(c.read(b, 0, 9).toString()).toBe('b')
      expect(c.rename(ROOT, 'b', ROOT, 'd', 4)).toBe(-EINVAL)
      expect(c.rename(ROOT, 'b', ROOT, 'none', 2)).toBe(-ENOENT)
      // Failing, it has changed nothing.
      expect(c.read(a, 0, 9).toString()).toBe('a')
      expect(c.rename(ROOT, 'b', ROOT, 'd', 0)).toBe(0)
      expect(c.read(a, 0, 9).toString()).toBe('a')
    })

    it('lists a page at a time, with attributes', () => {
      const names = Array.from({ length: 300 }, (_, i) => `${'n'.repeat(i % 40)}-${i}`)
      for (const n of names) writeFileSync(at(n), n)
      mkdirSync(at('dir'))
      symlinkSync('x', at('link'))
      for (const plus of [true, false]) {
        const listed = c.list(ROOT, plus) as DirectoryEntry[]
        expect(listed.map((e) => e.name).sort()).toEqual([...names, 'dir', 'link', '.', '..'].sort())
        for (const { entry, ino, name } of listed) {
          // What is above the root is not shown.
          expect(ino).toBe(lstatSync(at(name === '..' ? '.' : name)).ino)
          const hasEntry = plus && !name.startsWith('.')
          expect([name, (entry?.node ?? 0) > 0]).toEqual([name, hasEntry])
          if (hasEntry) expect(entry!.attributes).toMatchObject({ ino, size: lstatSync(at(name)).size })
        }
      }
      const [some] = (c.list(ROOT) as DirectoryEntry[]).filter((e) => e.name === names[30])
      expect(c.find(ROOT, names[30]!)).toBe(some!.entry!.node)
      expect(c.read(some!.entry!.node, 0, 99).toString()).toBe(names[30])
      // Two at a time, and one whose names go meanwhile.
      expect(c.list(ROOT, true, 100)).toHaveLength(0)
      expect(c.list(some!.entry!.node)).toBe(-ENOTDIR)
    })

    it('lists two directories in turns', () => {
      for (const d of ['x', 'y']) {
        mkdirSync(at(d))
        for (let i = 0; i < 60; i++) writeFileSync(at(`${d}/${d}${i}`), '')
      }
      const nodes = [c.find(ROOT, 'x'), c.find(ROOT, 'y')]
      const seen: string[][] = [[], []]
      const offsets = [0n, 0n]
      for (let round = 0; round < 60; round++) {
        for (const i of [0, 1]) {
          const fields = [u64(0), u64(offsets[i]!), u32(400), u32(0), u64(0), u32(0), u32(0)]
          expect(c.call(wire.READDIR, nodes[i]!, ...fields)).toBe(0)
          for (let p = 0; p < c.body.length; ) {
            offsets[i] = c.body.readBigUInt64LE(p + 8)
            const length = c.body.readUInt32LE(p + 16)
            seen[i]!.push(c.body.toString('utf8', p + 24, p + 24 + length))
            p += 24 + ((length + 7) & ~7)
          }
        }
      }
      for (const [i, d] of ['x', 'y'].entries()) {
        expect(seen[i]!.sort()).toEqual(readdirSync(at(d)).concat('.', '..').sort())
      }
    })

    it('has extended attributes', () => {
      const node = file('a', '')
      expect(c.setxattr(node, 'user.one', 'first')).toBe(0)
      expect(c.setxattr(node, 'user.two', '')).toBe(0)
      expect(c.getxattr(node, 'user.one')).toBe('first')
      expect(c.getxattr(node, 'user.one', 0)).toBe(5)
      expect(c.getxattr(node, 'user.one', 4)).toBe(-ERANGE)
      expect(c.getxattr(node, 'user.two')).toBe('')
      expect(c.getxattr(node, 'user.none')).toBe(-ENODATA)
      expect(c.getxattr(node, 'security.selinux')).toBe(-EOPNOTSUPP)
      expect(c.listxattr(node)).toContain('user.one\0')
      expect(c.listxattr(node, 0)).toBeGreaterThanOrEqual(18)
      expect(c.setxattr(node, 'user.one', 'x', 1)).toBe(-EEXIST)
      expect(c.setxattr(node, 'user.three', 'x', 2)).toBe(-ENODATA)
      expect(c.setxattr(node, 'user.three', 'x', 4)).toBe(-EINVAL)
      expect(c.setxattr(node, '', 'x')).toBe(-ERANGE)
      expect(c.removexattr(node, 'user.one')).toBe(0)
      expect(c.removexattr(node, 'user.one')).toBe(-ENODATA)
      const big = 'v'.repeat(3000)
      const set = c.setxattr(ROOT, 'user.big', big)
      if (set === 0) expect(c.getxattr(ROOT, 'user.big')).toBe(big)
    })

    it('has holes, copies within the host, and files without a name', () => {
      const a = file('a', '0123456789')
      expect(c.fallocate(a, 0, 0, 65536)).toBe(0)
      expect(statSync(at('a')).size).toBe(65536)
      expect(c.fallocate(a, 3, 4096, 8192)).toBe(0)
      const hole = c.lseek(a, 0, 4)
      expect([4096, 10, 65536]).toContain(hole)
      expect(c.lseek(a, 0, 3)).toBe(0)
      expect(c.lseek(a, 65536, 3)).toBe(-ENXIO)
      expect(c.lseek(a, 0, 0)).toBe(-EINVAL)
      expect(c.fallocate(a, 0x80, 0, 1)).toBe(-EINVAL)
      expect(c.fallocate(a, 0, -1n, 1)).toBe(-EFBIG)
      const b = (c.create(ROOT, 'b', 0o600) as Entry).node
      expect(c.copy(a, 2, b, 1, 5)).toBe(5)
      expect(readFileSync(at('b'), 'latin1')).toBe('\x0023456')
      expect(c.copy(b, 0, b, 100, 3)).toBe(3)
      expect(c.copy(a, 0, 99, 0, 3)).toBe(-ESTALE)
      const t = c.tmpfile(ROOT, 0o100600)
      if (typeof t === 'number') expect(t).toBe(-EOPNOTSUPP)
      else {
        expect(c.write(t.node, 0, 'unnamed')).toBe(7)
        expect(t.attributes.nlink).toBe(0)
        expect(c.link(t.node, ROOT, 'named')).toMatchObject({ node: t.node, attributes: { nlink: 1, size: 7 } })
        expect(readFileSync(at('named'), 'utf8')).toBe('unnamed')
      }
    })

    it('tells about the file system', () => {
      const host = statfsSync(at(''))
      expect(c.statfs(ROOT)).toEqual({ blocks: host.blocks, bsize: host.bsize, namelen: 255 })
    })

    it('refuses changes of what is read-only', () => {
      expect(ro.init()).toBeGreaterThan(0)
      const node = ro.find(ROOT, 'file')
      expect(ro.read(node, 0, 9).toString()).toBe('fixed')
      const results = [
        ro.write(node, 0, 'x'),
        ro.create(ROOT, 'x', 0o600),
        ro.mkdir(ROOT, 'x', 0o600),
        ro.mknod(ROOT, 'x', 0o100600),
        ro.symlink(ROOT, 'x', 'y'),
        ro.link(node, ROOT, 'x'),
        ro.unlink(ROOT, 'file'),
        ro.rmdir(ROOT, 'file'),
        ro.rename(ROOT, 'file', ROOT, 'x'),
        ro.rename(ROOT, 'file', ROOT, 'x', 1),
        ro.setattr(node, wire.FATTR_MODE, { mode: 0 }),
        ro.setxattr(node, 'user.a', 'x'),
        ro.removexattr(node, 'user.a'),
        ro.fallocate(node, 0, 0, 1),
        ro.copy(node, 0, node, 10, 1),
        ro.tmpfile(ROOT, 0o600),
      ]
      expect(results).toEqual(results.map(() => -EROFS))
      expect(ro.fsync(node)).toBe(0)
      expect(readdirSync(join(dir, 'readonly'))).toEqual(['file'])
    })

    it('does without what others took away', () => {
      const a = file('a', 'a')
      const b = file('b', 'b')
      rmSync(at('a'))
      expect(c.getattr(a)).toBe(-ESTALE)
      expect(c.read(a, 0, 1)).toBe(-ESTALE)
      renameSync(at('b'), at('a'))
      // That name is another file now.
      expect(c.getattr(a)).toBe(-ESTALE)
      expect(c.setattr(a, wire.FATTR_MODE, { mode: 0 })).toBe(-ESTALE)
      expect(c.getattr(b)).toBe(-ESTALE)
      expect(c.find(ROOT, 'a')).toBe(b)
      expect(c.read(b, 0, 9).toString()).toBe('b')
      expect(c.unlink(ROOT, 'a')).toBe(0)
      expect(existsSync(at('a'))).toBe(false)
      expect(c.read(b, 0, 9).toString()).toBe('b')
    })

    it('is not bothered by modes that keep others out', () => {
      const node = file('secret', 'text')
      chmodSync(at('secret'), 0)
      if (isRoot) expect(c.read(node, 0, 9).toString()).toBe('text')
      else expect(c.read(node, 0, 9)).toBeLessThan(0)
      expect(c.call(wire.LOOKUP, ROOT, cstr('secret'), cstr('more'))).toBe(-EPROTO)
    })
  })
}
