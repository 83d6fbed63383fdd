/**
 * The 9P front end's messages about names and trees, against a real directory, through a real process. What it answers is
 * compared with what the host says. Those about files themselves: ninep-files.test.ts.
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
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
import { expect, it } from 'vitest'
import * as wire from '../../gofer/ninep/wire.ts'
import {
  EACCES,
  EBADF,
  EEXIST,
  EINVAL,
  EISDIR,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  EOPNOTSUPP,
  EPERM,
  EPROTO,
  EROFS,
  EXDEV,
} from '../../sentry/abi/errno.ts'
import { type Attributes, type Entry, type NinepClient, str, u32 } from '../support/ninep-client.ts'
import { describeMounts, isRoot, MSIZE } from '../support/ninep-mounts.ts'

const O_RDWR = 2
const O_CREAT = 0o100
const O_TRUNC = 0o1000
const AT_REMOVEDIR = 0x200
const uid = process.getuid!()
const gid = process.getgid!()

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

let c: NinepClient
let at: (name: string) => string
let confined: boolean

describeMounts(
  (mounts) => {
    at = mounts.at
    confined = mounts.confined
    c = mounts.clients[0]!
  },
  () => {
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
  },
)
