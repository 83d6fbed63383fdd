/**
 * Every message of the 9P front end against a real directory, through a real process: unconfined as anybody, confined as
 * root. What it answers is compared with what the host says.
 */
import { spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import * as wire from '../../gofer/ninep/wire.ts'
import {
  EACCES,
  EBADF,
  EEXIST,
  EFBIG,
  EINVAL,
  EISDIR,
  ELOOP,
  ENODATA,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  ENXIO,
  EOPNOTSUPP,
  EPERM,
  EPROTO,
  ERANGE,
  EROFS,
  EXDEV,
} from '../../sentry/abi/errno.ts'
import {
  type Attributes,
  type Entry,
  type NinepClient,
  type NinepGofer,
  startNinep,
  str,
  u32,
} from '../support/ninep-client.ts'

const isRoot = process.getuid?.() === 0
const O_RDWR = 2
const O_EXCL = 0o200
const O_CREAT = 0o100
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
const AT_REMOVEDIR = 0x200
const uid = process.getuid!()
const gid = process.getgid!()
const MSIZE = 65536

/** The names below a directory fid, which is opened and clunked. */
function list(c: NinepClient, fid: number, count = MSIZE): Entry[] {
  expect(c.walk(fid, 99)).toBe(0)
  expect(c.lopen(99, 0)).toBe(0)
  const all: Entry[] = []
  let offset = 0n
  for (;;) {
    const entries = c.readdir(99, offset, count) as Entry[]
    expect(entries).toBeInstanceOf(Array)
    if (entries.length === 0) break
    all.push(...entries)
    offset = entries.at(-1)!.offset
  }
  expect(c.clunk(99)).toBe(0)
  return all
}

for (const confined of [false, true]) {
  describe.skipIf(confined && !isRoot)(confined ? 'confined (as root)' : 'unconfined', () => {
    let dir: string
    let gofer: NinepGofer
    let c: NinepClient
    const at = (p: string) => join(dir, p)

    beforeAll(() => {
      dir = mkdtempSync(join(tmpdir(), 'ninep-'))
      for (const d of ['root', 'readonly', 'shared']) mkdirSync(at(d))
      writeFileSync(at('readonly/file'), 'fixed')
      writeFileSync(at('single'), 'one file')
      gofer = startNinep(
        [
          { id: 0, source: at('root'), shared: false },
          { id: 1, source: at('readonly'), readonly: true },
          { id: 2, source: at('shared') },
          { id: 3, source: at('single'), kind: 'file' },
        ],
        confined,
        2,
      )
      c = gofer.clients[0]!
    })
    afterAll(async () => {
      await gofer.stop()
      expect(gofer.stderr()).toBe('')
      expect(await gofer.exited).toBe(0)
      rmSync(dir, { recursive: true })
    })

    beforeEach(() => {
      for (const d of ['root', 'shared']) {
        for (const name of readdirSync(at(d))) rmSync(join(at(d), name), { recursive: true })
      }
      expect(c.version(MSIZE)).toBe(MSIZE)
      expect(c.attach(0, '0', uid)).toBe(0)
    })

    it('agrees on version and size', () => {
      expect(c.version(1 << 30)).toBe(wire.MAX_MSIZE)
      expect(c.version(100)).toBe(-EINVAL)
      expect(c.version(8192, '9P2000')).toBe(8192)
      expect(c.body.includes('unknown')).toBe(true)
      expect(c.attach(0, '0')).toBe(-EPROTO)
      expect(c.version(8192)).toBe(8192)
      expect(c.clunk(0)).toBe(-EBADF)
      expect(c.call(wire.TAUTH, u32(1), str('root'), str('0'), u32(0))).toBe(-EOPNOTSUPP)
      expect(c.call(wire.TFLUSH, Buffer.from([1, 0]))).toBe(0)
      expect(c.call(200)).toBe(-EOPNOTSUPP)
    })

    it('attaches mounts by their ids', () => {
      expect(c.attach(1, '1')).toBe(0)
      expect(c.attach(3, '3')).toBe(0)
      // v9fs takes the root of every mount for a folder: a single file is served in one.
      expect(c.takeQid().type).toBe(confined ? wire.QT_DIR : wire.QT_FILE)
      expect(c.attach(1, '2')).toBe(-EINVAL)
      for (const name of ['', '4', '00000', 'root', '/', '-1', '1 ']) expect(c.attach(9, name)).toBe(-ENOENT)
      expect(c.call(wire.TATTACH, u32(10), u32(2), str('u'), str('0'), u32(0))).toBe(-EOPNOTSUPP)
      const found = confined ? c.walk(3, 4, 'file') : c.walk(3, 4)
      expect(found).toBe(confined ? 1 : 0)
      expect(c.walk(4, 5, 'x')).toBe(-ENOTDIR)
      expect(c.lopen(4, O_RDWR)).toBe(0)
      expect(c.read(4, 0, 100).toString()).toBe('one file')
      if (confined) {
        expect(list(c, 3).map((e) => e.name)).toEqual(['.', '..', 'file'])
        expect(c.mkdir(3, 'x', 0o700, gid)).toBe(-EROFS)
        expect(c.unlinkat(3, 'file')).toBeLessThan(0)
        expect(c.renameat(3, 'file', 3, 'other')).toBeLessThan(0)
        expect(c.remove(4)).toBeLessThan(0)
      }
      expect(readFileSync(at('single'), 'latin1')).toBe('one file')
    })

    it('walks', () => {
      mkdirSync(at('root/a/b/c'), { recursive: true })
      symlinkSync('b', at('root/a/link'))
      expect(c.walk(0, 1, 'a', 'b', 'c')).toBe(3)
      const qid = [c.takeQid(), c.takeQid(), c.takeQid()].at(-1)!
      expect(qid).toEqual({ type: wire.QT_DIR, version: 0, path: BigInt(statSync(at('root/a/b/c')).ino) })
      // The rest of the way is missing: a shorter answer and no fid.
      expect(c.walk(0, 2, 'a', 'x', 'c')).toBe(1)
      expect(c.clunk(2)).toBe(-EBADF)
      expect(c.walk(0, 2, 'x')).toBe(-ENOENT)
      expect(c.walk(0, 2, 'a', 'link', 'c')).toBe(2)
      expect(c.clunk(2)).toBe(-EBADF)
      expect(c.walk(0, 2, 'a', 'link')).toBe(2)
      expect(c.readlink(2)).toBe('b')
      expect(c.walk(2, 4, 'c')).toBe(-ENOTDIR)
      expect(c.walk(1, 2)).toBe(-EINVAL)
      expect(c.walk(7, 8)).toBe(-EBADF)
      expect(c.walk(0, wire.NO_FID)).toBe(-EBADF)
      // In place.
      expect(c.walk(1, 1)).toBe(0)
      expect(c.walk(0, 3)).toBe(0)
      expect(c.walk(3, 3, 'a', 'b')).toBe(2)
      expect((c.getattr(3) as Attributes).qid.path).toBe(BigInt(statSync(at('root/a/b')).ino))
      for (const name of ['..', '.', '', 'a/b', 'a\0', '/etc']) expect(c.walk(1, 9, name)).toBe(-EINVAL)
      expect(c.walk(0, 9, 'a', '..')).toBe(1)
      expect(c.walk(0, 9, 'x'.repeat(256))).toBe(-36)
      expect(c.walk(0, 9, ...Array(17).fill('a'))).toBe(-EINVAL)
      expect(c.clunk(1)).toBe(0)
      expect(c.clunk(1)).toBe(-EBADF)
    })

    it('shows attributes as the host has them', () => {
      writeFileSync(at('root/file'), 'x'.repeat(5000))
      symlinkSync('somewhere', at('root/link'))
      mkdirSync(at('root/dir'), { mode: 0o711 })
      for (const name of ['file', 'link', 'dir']) {
        expect(c.walk(0, 1, name)).toBe(1)
        const a = c.getattr(1) as Attributes
        expect(c.complete).toBe(true)
        const s = lstatSync(at(`root/${name}`))
        expect([a.mode, a.uid, a.gid, a.nlink, a.size, a.blocks]).toEqual([
          s.mode,
          s.uid,
          s.gid,
          s.nlink,
          s.size,
          s.blocks,
        ])
        expect(a.qid.path).toBe(BigInt(s.ino))
        expect(Math.abs(a.mtimeMs - s.mtimeMs)).toBeLessThan(0.01)
        expect(Math.abs(a.ctimeMs - s.ctimeMs)).toBeLessThan(0.01)
        expect(a.valid & wire.GETATTR_BASIC).toBe(wire.GETATTR_BASIC)
        expect(c.clunk(1)).toBe(0)
      }
      expect(c.getattr(1)).toBe(-EBADF)
    })

    it('sets attributes', () => {
      writeFileSync(at('root/file'), '0123456789')
      symlinkSync('file', at('root/link'))
      expect(c.walk(0, 1, 'file')).toBe(1)
      expect(c.setattr(1, wire.SETATTR_MODE, { mode: 0o640 })).toBe(0)
      expect(statSync(at('root/file')).mode & 0o7777).toBe(0o640)
      expect(c.setattr(1, wire.SETATTR_SIZE, { size: 4 })).toBe(0)
      expect(readFileSync(at('root/file'), 'latin1')).toBe('0123')
      const past = wire.SETATTR_ATIME | wire.SETATTR_ATIME_SET | wire.SETATTR_MTIME | wire.SETATTR_MTIME_SET
      expect(c.setattr(1, past | wire.SETATTR_SIZE, { size: 3, atime: 1000, mtime: 2000 })).toBe(0)
      expect([statSync(at('root/file')).atimeMs, statSync(at('root/file')).mtimeMs]).toEqual([1_000_000, 2_000_000])
      expect(c.setattr(1, wire.SETATTR_MTIME)).toBe(0)
      expect(statSync(at('root/file')).atimeMs).toBe(1_000_000)
      expect(Date.now() - statSync(at('root/file')).mtimeMs).toBeLessThan(60_000)
      expect(c.setattr(1, wire.SETATTR_CTIME)).toBe(0)
      expect(c.setattr(1, 0x200)).toBe(-EINVAL)
      expect(c.setattr(1, wire.SETATTR_SIZE, { size: 2 ** 60 })).toBe(-EFBIG)
      expect(c.setattr(0, wire.SETATTR_SIZE, { size: 0 })).toBe(-EISDIR)
      expect(c.setattr(8, wire.SETATTR_MODE)).toBe(-EBADF)
      // Of the link itself.
      expect(c.walk(0, 2, 'link')).toBe(1)
      expect(c.setattr(2, wire.SETATTR_MODE, { mode: 0 })).toBe(-EOPNOTSUPP)
      expect(c.setattr(2, wire.SETATTR_SIZE, { size: 0 })).toBe(-EINVAL)
      expect(c.setattr(2, past, { atime: 5, mtime: 6 })).toBe(0)
      expect(lstatSync(at('root/link')).mtimeMs).toBe(6000)
      expect(statSync(at('root/file')).mtimeMs).not.toBe(6000)
      if (isRoot) {
        expect(
          c.setattr(1, wire.SETATTR_UID | wire.SETATTR_GID | wire.SETATTR_MODE, { uid: 12, gid: 34, mode: 0o4755 }),
        ).toBe(0)
        const s = statSync(at('root/file'))
        expect([s.uid, s.gid, s.mode & 0o7777]).toEqual([12, 34, 0o4755])
        expect(c.setattr(2, wire.SETATTR_UID, { uid: 7 })).toBe(0)
        expect([lstatSync(at('root/link')).uid, statSync(at('root/file')).uid]).toEqual([7, 12])
      }
    })

    it('opens, reads and writes', () => {
      writeFileSync(at('root/file'), 'hello')
      expect(c.walk(0, 1, 'file')).toBe(1)
      expect(c.read(1, 0, 10)).toBe(-EBADF)
      expect(c.write(1, 0, 'x')).toBe(-EBADF)
      expect(c.fsync(1)).toBe(-EBADF)
      expect(c.lopen(1, 3)).toBe(-EINVAL)
      expect(c.lopen(1, O_RDWR)).toBe(0)
      expect(c.lopen(1, O_RDWR)).toBe(-EBADF)
      expect(c.read(1, 1, 3).toString()).toBe('ell')
      expect(c.read(1, 5, 3).toString()).toBe('')
      expect(c.read(1, 2 ** 60, 3).toString()).toBe('')
      expect(c.write(1, 5, ' world')).toBe(6)
      expect(c.write(1, 2 ** 60, 'x')).toBe(-EFBIG)
      expect(c.write(1, -1n, 'x')).toBe(-EFBIG)
      expect(readFileSync(at('root/file'), 'latin1')).toBe('hello world')
      expect([c.fsync(1), c.fsync(1, true)]).toEqual([0, 0])
      // A clone is not open; an open fid does not move.
      expect(c.walk(1, 2)).toBe(0)
      expect(c.read(2, 0, 1)).toBe(-EBADF)
      expect(c.lopen(2, O_TRUNC | 1)).toBe(0)
      expect(statSync(at('root/file')).size).toBe(0)
      expect(c.read(2, 0, 1)).toBe(-EBADF)
      // More than a message holds is cut.
      const big = Buffer.alloc(3 * MSIZE, 'abc')
      writeFileSync(at('root/file'), big)
      expect(c.read(1, 1, 10 * MSIZE)).toEqual(big.subarray(1, 1 + MSIZE - wire.READ_HEADER_SIZE))
      const half = Buffer.alloc(MSIZE - 23, 'z')
      expect(c.write(1, 0, half)).toBe(half.length)
      expect(readFileSync(at('root/file')).subarray(0, half.length).equals(half)).toBe(true)
      for (const [name, error] of [
        ['d', EISDIR],
        ['l', ELOOP],
        ['p', ENXIO],
      ] as const) {
        if (name === 'd') mkdirSync(at('root/d'))
        else if (name === 'l') symlinkSync('file', at('root/l'))
        else expect(c.mknod(0, 'p', 0o010644, 0, 0, gid)).toBe(0)
        expect(c.walk(0, 5, name)).toBe(1)
        expect(c.lopen(5, 1)).toBe(-error)
        expect(c.clunk(5)).toBe(0)
      }
      expect(c.walk(0, 5, 'file')).toBe(1)
      expect(c.lopen(5, 0o200000)).toBe(-ENOTDIR)
    })

    it('creates files', () => {
      expect(c.walk(0, 1)).toBe(0)
      expect(c.lcreate(1, 'new', O_CREAT | O_EXCL | O_RDWR, 0o751, gid)).toBe(0)
      expect(c.takeQid().path).toBe(BigInt(statSync(at('root/new')).ino))
      expect(statSync(at('root/new')).mode & 0o7777).toBe(0o751)
      expect(c.write(1, 0, 'data')).toBe(4)
      expect((c.getattr(1) as Attributes).size).toBe(4)
      expect(c.clunk(1)).toBe(0)
      expect(c.walk(0, 1)).toBe(0)
      expect(c.lcreate(1, 'new', O_CREAT | O_EXCL | 1, 0o600, gid)).toBe(-EEXIST)
      expect(c.lcreate(1, '../x', O_CREAT | 1, 0o600, gid)).toBe(-EINVAL)
      // Without O_EXCL an existing file is opened, as it is.
      expect(c.lcreate(1, 'new', O_CREAT, 0o600, gid)).toBe(0)
      expect(c.read(1, 0, 9).toString()).toBe('data')
      expect(c.lcreate(1, 'again', O_CREAT, 0o600, gid)).toBe(-EBADF)
      symlinkSync('/etc/passwd', at('root/link'))
      expect(c.walk(0, 2)).toBe(0)
      expect(c.lcreate(2, 'link', O_CREAT | 1, 0o600, gid)).toBe(-ELOOP)
      expect(c.lcreate(2, 'x'.repeat(255), O_CREAT | 1, 0o600, gid)).toBe(0)
      if (isRoot) {
        expect(c.attach(5, '0', 1234)).toBe(0)
        expect(c.lcreate(5, 'owned', O_CREAT | 1, 0o4711, 567)).toBe(0)
        const s = statSync(at('root/owned'))
        expect([s.uid, s.gid, s.mode & 0o7777]).toEqual([1234, 567, 0o4711])
      }
    })

    it('appends where others do', () => {
      expect(c.attach(5, '2', uid)).toBe(0)
      expect(c.lcreate(5, 'log', O_CREAT | O_APPEND | 1, 0o600, gid)).toBe(0)
      writeFileSync(at('shared/log'), 'host\n', { flag: 'a' })
      expect(c.write(5, 0, 'guest\n')).toBe(6)
      expect(readFileSync(at('shared/log'), 'latin1')).toBe('host\nguest\n')
    })

    it('lists directories', () => {
      const names = Array.from({ length: 300 }, (_, i) => `${'n'.repeat(i % 40)}${i}`)
      for (const n of names) writeFileSync(at(`root/${n}`), '')
      mkdirSync(at('root/dir'))
      symlinkSync('dir', at('root/link'))
      for (const count of [MSIZE, 700]) {
        const all = list(c, 0, count)
        expect(all.map((e) => e.name).sort()).toEqual(['.', '..', 'dir', 'link', ...names].sort())
        const by = new Map(all.map((e) => [e.name, e]))
        expect(by.get('dir')!.qid).toEqual({
          type: wire.QT_DIR,
          version: 0,
          path: BigInt(statSync(at('root/dir')).ino),
        })
        expect(by.get('link')!.qid.type).toBe(wire.QT_SYMLINK)
        // Nothing above the root is named.
        expect(by.get('..')!.qid.path).toBe(BigInt(statSync(at('root')).ino))
      }
      expect(c.walk(0, 1)).toBe(0)
      expect(c.readdir(1, 0n, 1000)).toBe(-EBADF)
      expect(c.lopen(1, 0)).toBe(0)
      const first = c.readdir(1, 0n, 1000) as Entry[]
      const second = c.readdir(1, first.at(-1)!.offset, 1000) as Entry[]
      expect(c.readdir(1, 0n, 1000)).toEqual(first)
      expect(c.readdir(1, first.at(-1)!.offset, 1000)).toEqual(second)
      expect(c.readdir(1, 0n, 10)).toBe(-EINVAL)
      expect(c.walk(0, 2, names[0]!)).toBe(1)
      expect(c.lopen(2, 0)).toBe(0)
      expect(c.readdir(2, 0n, 1000)).toBe(-ENOTDIR)
    })

    it('makes and removes names', () => {
      expect(c.mkdir(0, 'dir', 0o1750, gid)).toBe(0)
      expect(c.takeQid().type).toBe(wire.QT_DIR)
      expect(statSync(at('root/dir')).mode & 0o7777).toBe(0o1750)
      expect(c.mkdir(0, 'dir', 0o700, gid)).toBe(-EEXIST)
      expect(c.symlink(0, 'link', '/target/../x', gid)).toBe(0)
      expect(readlinkSync(at('root/link'))).toBe('/target/../x')
      expect(c.symlink(0, 'link2', '', gid)).toBe(-ENOENT)
      expect(c.symlink(0, 'link2', 'x'.repeat(4096), gid)).toBe(-36)
      expect(c.symlink(0, 'link2', 'x'.repeat(4095), gid)).toBe(0)
      expect(c.walk(0, 1, 'link2')).toBe(1)
      expect(c.readlink(1)).toBe('x'.repeat(4095))
      expect(c.readlink(0)).toBe(-EINVAL)
      expect(c.mknod(0, 'fifo', 0o010604, 0, 0, gid)).toBe(0)
      expect(c.mknod(0, 'sock', 0o140755, 0, 0, gid)).toBe(0)
      expect(c.mknod(0, 'plain', 0o100640, 0, 0, gid)).toBe(0)
      expect(lstatSync(at('root/fifo')).mode).toBe(0o010604)
      expect(lstatSync(at('root/sock')).isSocket()).toBe(true)
      expect(lstatSync(at('root/plain')).mode).toBe(0o100640)
      expect(c.mknod(0, 'null', 0o020666, 1, 3, gid)).toBe(-EPERM)
      expect(c.mknod(0, 'dir2', 0o040755, 0, 0, gid)).toBe(-EINVAL)
      expect(c.unlinkat(0, 'dir')).toBe(-EISDIR)
      expect(c.unlinkat(0, 'fifo', AT_REMOVEDIR)).toBe(-ENOTDIR)
      expect(c.unlinkat(0, 'fifo', 1)).toBe(-EINVAL)
      writeFileSync(at('root/dir/x'), '')
      expect(c.unlinkat(0, 'dir', AT_REMOVEDIR)).toBe(-ENOTEMPTY)
      rmSync(at('root/dir/x'))
      expect(c.unlinkat(0, 'dir', AT_REMOVEDIR)).toBe(0)
      for (const n of ['fifo', 'sock', 'plain', 'link', 'link2']) expect(c.unlinkat(0, n)).toBe(0)
      expect(c.unlinkat(0, 'plain')).toBe(-ENOENT)
      for (const n of ['.', '..', '', 'a/b']) expect(c.unlinkat(0, n, AT_REMOVEDIR)).toBe(-EINVAL)
      expect(readdirSync(at('root'))).toEqual([])
    })

    it('links and renames', () => {
      mkdirSync(at('root/a'))
      mkdirSync(at('root/b'))
      writeFileSync(at('root/a/file'), 'x')
      symlinkSync('nowhere', at('root/a/link'))
      expect([c.walk(0, 1, 'a'), c.walk(0, 2, 'b'), c.walk(1, 3, 'file'), c.walk(1, 4, 'link')]).toEqual([1, 1, 1, 1])
      expect(c.link(2, 3, 'hard')).toBe(0)
      expect(statSync(at('root/b/hard')).ino).toBe(statSync(at('root/a/file')).ino)
      expect(c.link(2, 3, 'hard')).toBe(-EEXIST)
      expect(c.link(2, 1, 'dirlink')).toBe(-EPERM)
      expect(c.link(2, 4, 'linklink')).toBe(0)
      expect(readlinkSync(at('root/b/linklink'))).toBe('nowhere')
      expect(c.renameat(1, 'file', 2, 'moved')).toBe(0)
      expect(readdirSync(at('root/b')).sort()).toEqual(['hard', 'linklink', 'moved'])
      expect(c.renameat(1, 'file', 2, 'moved')).toBe(-ENOENT)
      expect(c.renameat(0, 'a', 2, '..')).toBe(-EINVAL)
      // The fid follows its file, and the messages that name it by the fid find where it is.
      expect((c.getattr(3) as Attributes).nlink).toBe(2)
      expect(c.rename(3, 1, 'back')).toBe(0)
      expect(readdirSync(at('root/a')).sort()).toEqual(['back', 'link'])
      expect(c.rename(2, 1, 'inside')).toBe(0)
      expect(existsSync(at('root/a/inside/hard'))).toBe(true)
      expect(c.rename(0, 1, 'root')).toBe(-EBADF)
      expect(c.attach(7, '2')).toBe(0)
      expect(c.link(7, 3, 'x')).toBe(-EXDEV)
      expect(c.rename(3, 7, 'x')).toBe(-EXDEV)
      expect(c.renameat(1, 'back', 7, 'x')).toBe(-EXDEV)
      expect(c.remove(3)).toBe(0)
      expect(existsSync(at('root/a/back'))).toBe(false)
      expect(c.clunk(3)).toBe(-EBADF)
      expect(c.remove(2)).toBe(-ENOTEMPTY)
      expect(c.clunk(2)).toBe(-EBADF)
    })

    it('keeps files whose names are gone', () => {
      writeFileSync(at('root/file'), 'old')
      expect([c.walk(0, 1, 'file'), c.walk(0, 2, 'file')]).toEqual([1, 1])
      expect(c.lopen(1, O_RDWR)).toBe(0)
      expect(c.unlinkat(0, 'file')).toBe(0)
      writeFileSync(at('root/file'), 'new')
      expect(c.read(1, 0, 9).toString()).toBe('old')
      expect(c.write(1, 0, 'OLD')).toBe(3)
      expect((c.getattr(2) as Attributes).nlink).toBe(0)
      expect(c.setattr(2, wire.SETATTR_SIZE | wire.SETATTR_MODE, { size: 2, mode: 0o600 })).toBe(0)
      // Opened only now, and still the same file.
      expect(c.lopen(2, 0)).toBe(0)
      expect(c.read(2, 0, 9).toString()).toBe('OL')
      expect(readFileSync(at('root/file'), 'latin1')).toBe('new')
      expect(c.link(0, 2, 'revived')).toBe(-ENOENT)
      expect(c.rename(2, 0, 'revived')).toBe(-ENOENT)
      expect(c.remove(2)).toBe(-ENOENT)
      // A directory that is gone.
      mkdirSync(at('root/d'))
      expect(c.walk(0, 3, 'd')).toBe(1)
      expect(c.unlinkat(0, 'd', AT_REMOVEDIR)).toBe(0)
      expect(c.mkdir(3, 'x', 0o700, gid)).toBe(-ENOENT)
      expect(c.walk(3, 4, 'x')).toBe(-ENOENT)
    })

    it('carries extended attributes', () => {
      writeFileSync(at('root/file'), '')
      expect(c.walk(0, 1, 'file')).toBe(1)
      const set = (name: string, value: string, flags = 0): number => {
        expect(c.walk(1, 2)).toBe(0)
        const error = c.xattrcreate(2, name, value.length, flags)
        if (error === 0 && value.length > 0) expect(c.write(2, 0, value)).toBe(value.length)
        const result = c.clunk(2)
        return error || result
      }
      const get = (name: string): string | number => {
        const n = c.xattrwalk(1, 3, name)
        if (n < 0) return n
        const value = c.read(3, 0, 70_000).toString()
        expect(value.length).toBe(n)
        expect(c.clunk(3)).toBe(0)
        return value
      }
      const first = set('user.a', 'value')
      if (first === -EOPNOTSUPP) return // a file system without
      expect(first).toBe(0)
      expect(get('user.a')).toBe('value')
      expect(set('user.empty', '')).toBe(0)
      expect(get('user.empty')).toBe('')
      expect(set('user.a', 'again', 1)).toBe(-EEXIST)
      expect(set('user.b', 'x', 2)).toBe(-ENODATA)
      expect(
        get('')
          .toString()
          .split('\0')
          .filter((n) => n.startsWith('user.'))
          .sort(),
      ).toEqual(['user.a', 'user.empty'])
      expect(set('user.a', '', 2)).toBe(0)
      expect(get('user.a')).toBe(-ENODATA)
      expect(set('bad', 'x')).toBe(-EOPNOTSUPP)
      expect(set('user.x', 'x', 4)).toBe(-EINVAL)
      expect(c.xattrcreate(1, 'x'.repeat(256), 1)).toBe(-ERANGE)
      expect(c.xattrcreate(1, 'user.a', 65537)).toBe(-7)
      // A value that never comes is not set.
      expect(c.walk(1, 2)).toBe(0)
      expect(c.xattrcreate(2, 'user.c', 5)).toBe(0)
      expect(c.write(2, 1, 'x')).toBe(-EINVAL)
      expect(c.write(2, 0, 'abc')).toBe(3)
      expect(c.write(2, 3, 'def')).toBe(-EINVAL)
      expect(c.read(2, 0, 3)).toBe(-EBADF)
      expect(c.getattr(2)).toBe(-EBADF)
      expect(c.clunk(2)).toBe(-EPROTO)
      expect(get('user.c')).toBe(-ENODATA)
      // On a link: its own, which Linux does not allow for user.*.
      symlinkSync('file', at('root/link'))
      expect(c.walk(0, 5, 'link')).toBe(1)
      expect(c.xattrcreate(5, 'user.a', 0)).toBe(0)
      expect(c.clunk(5)).toBe(-EPERM)
    })

    it('says once that nobody uses SELinux labels and ACLs where the guest alone changes files', () => {
      writeFileSync(at('root/file'), '')
      writeFileSync(at('shared/file'), '')
      expect(c.walk(0, 1, 'file')).toBe(1)
      expect(c.xattrwalk(1, 3, 'user.none')).toBe(-ENODATA)
      expect(c.attach(5, '2', uid)).toBe(0)
      expect(c.walk(5, 6, 'file')).toBe(1)
      for (const name of ['security.selinux', 'system.posix_acl_access', 'system.posix_acl_default']) {
        expect(c.xattrwalk(1, 3, name)).toBe(-EOPNOTSUPP)
        expect([-ENODATA, -EOPNOTSUPP]).toContain(c.xattrwalk(6, 3, name))
      }
      for (const fid of [1, 6, 5]) expect(c.clunk(fid)).toBe(0)
    })

    it('takes locks that the host sees', async () => {
      writeFileSync(at('root/file'), '')
      const other = gofer.clients[1]!
      expect(other.version(8192)).toBe(8192)
      expect(other.attach(0, '0')).toBe(0)
      for (const client of [c, other]) {
        expect(client.walk(0, 1, 'file')).toBe(1)
        expect(client.lock(1, wire.LOCK_WRITE, 0, 10, 1)).toBe(-EBADF)
        expect(client.lopen(1, client === c ? 0 : O_RDWR)).toBe(0)
      }
      const { LOCK_READ: R, LOCK_WRITE: W, LOCK_NONE: N, LOCK_STATUS_OK: OK, LOCK_STATUS_BLOCKED: BLOCKED } = wire
      expect(c.lock(1, W, 0, 10, 1)).toBe(OK)
      expect(other.lock(1, R, 5, 10, 1)).toBe(BLOCKED)
      expect(other.lock(1, R, 10, 0, 1)).toBe(OK)
      // v9fs asks with no type, after its own check: what is in the way of readers counts.
      expect(c.getlock(1, N, 0, 10, 2)).toEqual({ type: N, start: 0, length: 10, pid: 2, client: 'vm' })
      expect(c.getlock(1, N, 20, 5, 2)).toMatchObject({ type: N })
      expect(other.getlock(1, N, 0, 100, 2)).toEqual({ type: W, start: 0, length: 10, pid: 1, client: '' })
      // Another process of the same guest is in nobody's way: its kernel has decided.
      expect(c.lock(1, R, 5, 5, 2)).toBe(OK)
      expect(other.lock(1, R, 5, 1, 1)).toBe(BLOCKED)
      expect(c.lock(1, N, 5, 5, 2)).toBe(OK)
      expect(other.lock(1, R, 5, 1, 1)).toBe(BLOCKED)
      expect(c.getlock(1, W, 20, 5, 2)).toEqual({ type: R, start: 10, length: 0, pid: 1, client: '' })
      expect(c.getlock(1, R, 20, 5, 2)).toEqual({ type: N, start: 20, length: 5, pid: 2, client: 'vm' })
      expect(other.getlock(1, R, 0, 1, 9)).toMatchObject({ type: W, start: 0, length: 10 })
      // A process of the host.
      const program = `import fcntl,sys
f=open(sys.argv[1],'r+')
for s,n in ((0,10),(10,1)):
  try: fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,n,s); print('free')
  except OSError: print('locked')`
      const host = spawn('python3', ['-c', program, at('root/file')])
      let said = ''
      for await (const chunk of host.stdout) said += chunk
      if (host.exitCode !== 127) expect(said).toBe('locked\nlocked\n')
      // Two readers: the host's lock stays until the last lets go, whatever it unlocks first.
      expect(c.lock(1, N, 0, 0, 1)).toBe(OK)
      expect([c.lock(1, R, 0, 4, 1), c.lock(1, R, 2, 4, 2)]).toEqual([OK, OK])
      expect(c.lock(1, N, 0, 0, 1)).toBe(OK)
      expect(other.lock(1, W, 0, 2, 1)).toBe(OK)
      expect(other.lock(1, W, 2, 1, 1)).toBe(BLOCKED)
      expect(c.lock(1, N, 3, 1, 2)).toBe(OK)
      expect(other.lock(1, W, 3, 1, 1)).toBe(OK)
      expect(other.lock(1, W, 4, 1, 1)).toBe(BLOCKED)
      // The end of a fid is the end of its locks, and so is the end of a session.
      expect(c.clunk(1)).toBe(0)
      expect(other.lock(1, W, 0, 0, 1)).toBe(OK)
      expect(other.version(8192)).toBe(8192)
      expect(c.walk(0, 1, 'file')).toBe(1)
      expect(c.lopen(1, O_RDWR)).toBe(0)
      expect(c.lock(1, W, 0, 0, 1, 'vm', wire.LOCK_FLAG_BLOCK)).toBe(OK)
      expect(c.lock(1, 3, 0, 0, 1)).toBe(-EINVAL)
      expect(c.lock(1, W, 0, 0, 1, 'x'.repeat(65))).toBe(-EINVAL)
      expect(c.lock(1, W, 2 ** 60, 0, 1)).toBe(-EINVAL)
      expect(c.lock(1, W, 0, 0, 1, 'vm', 8)).toBe(-EINVAL)
      // Directories too: flock(2).
      expect(c.walk(0, 2)).toBe(0)
      expect(c.lopen(2, 0)).toBe(0)
      expect(c.lock(2, W, 0, 0, 1)).toBe(OK)
    })

    it('says how much room there is', () => {
      expect(c.call(wire.TSTATFS, u32(0))).toBe(0)
      const s = statfsSync(at('root'))
      expect([c.takeU32(), c.takeU32(), c.takeU64()]).toEqual([s.type >>> 0, s.bsize, s.blocks])
      c.takeU64()
      c.takeU64()
      expect(c.takeU64()).toBe(s.files)
      c.takeU64()
      c.takeU64()
      expect(c.takeU32()).toBe(255)
      expect(c.complete).toBe(true)
    })

    it('changes nothing on a read-only mount', () => {
      expect(c.attach(1, '1', uid)).toBe(0)
      expect([c.walk(1, 2, 'file'), c.walk(1, 3)]).toEqual([1, 0])
      expect(c.lopen(2, 1)).toBe(-EROFS)
      expect(c.lopen(2, O_TRUNC)).toBe(-EROFS)
      const results = [
        c.lcreate(3, 'x', O_CREAT, 0o600),
        c.setattr(2, wire.SETATTR_MODE, { mode: 0 }),
        c.mkdir(1, 'x', 0o700),
        c.mknod(1, 'x', 0o100600),
        c.symlink(1, 'x', 'y'),
        c.link(1, 2, 'x'),
        c.unlinkat(1, 'file'),
        c.renameat(1, 'file', 1, 'x'),
        c.rename(2, 1, 'x'),
        c.xattrcreate(2, 'user.a', 1),
      ]
      expect(results).toEqual(results.map(() => -EROFS))
      expect(c.lopen(2, 0)).toBe(0)
      expect(c.read(2, 0, 9).toString()).toBe('fixed')
      expect(c.lock(2, wire.LOCK_WRITE, 0, 0, 1)).toBe(wire.LOCK_STATUS_OK)
      expect(c.remove(2)).toBe(-EROFS)
      expect(readdirSync(at('readonly'))).toEqual(['file'])
    })

    it('tells what others changed on a shared mount', () => {
      writeFileSync(at('shared/file'), 'a')
      expect(c.attach(1, '2')).toBe(0)
      expect(c.walk(1, 2, 'file')).toBe(1)
      const before = c.getattr(2) as Attributes
      truncateSync(at('shared/file'), 100)
      const after = c.getattr(2) as Attributes
      expect(after.size).toBe(100)
      expect(after.qid.version).not.toBe(before.qid.version)
      expect(after.qid.path).toBe(before.qid.path)
    })

    it.skipIf(isRoot)('has the rights of its user only', () => {
      writeFileSync(at('root/secret'), '')
      chmodSync(at('root/secret'), 0)
      expect(c.walk(0, 1, 'secret')).toBe(1)
      expect(c.lopen(1, 0)).toBe(-EACCES)
    })
  })
}
