/**
 * Every request of the gofer against a real directory, through a real process: unconfined as anybody, confined as root.
 */

import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ATTR_MODE, ATTR_MTIME, ATTR_SIZE, NO_OPEN, WALK_COMPLETE, WALK_SYMLINK } from '../../gofer/protocol.ts'
import { close, pread, pwrite } from '../../native/host.ts'
import { currentCpu, STATX_OFFSET } from '../../native/host-files.ts'
import type { GoferClient } from '../../sentry/fs/gofer/client.ts'
import type { SetAttr } from '../../sentry/vfs/inode.ts'
import { stopsCleanly } from '../support/gofer-child.ts'
import { type GoferProcess, startGofer } from '../support/gofer-process.ts'

const ENOENT = 2
const EEXIST = 17
const ENOTDIR = 20
const EISDIR = 21
const EINVAL = 22
const EROFS = 30
const ENOTEMPTY = 39
const ELOOP = 40
const ENXIO = 6
const EPERM = 1

const isRoot = process.getuid?.() === 0
const NO_CHANGE: SetAttr = {
  valid: 0,
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0,
  atimeSec: 0,
  atimeNsec: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
}

function readFd(fd: number): string {
  const buf = Buffer.alloc(100)
  return buf.toString('latin1', 0, pread(fd, buf, 100, 0))
}

/** Name → mode and link target, of a whole directory. */
function list(c: GoferClient, mount: number, path: string): Map<string, { mode: number; target: string }> {
  const found = new Map<string, { mode: number; target: string }>()
  let low = 0
  let high = 0
  for (;;) {
    const count = c.readdir(mount, path, low, high)
    if (count < 0) throw new Error(`readdir ${count}`)
    low = c.r.u32()
    high = c.r.u32()
    const end = c.r.u16()
    expect(c.r.u16()).toBe(count)
    expect(c.r.u16()).toBe(0)
    for (let i = 0; i < count; i++) {
      const { name, mode, target } = entry(c)
      expect(found.has(name)).toBe(false)
      found.set(name, { mode, target })
    }
    expect(c.r.complete).toBe(true)
    if (end) return found
  }
}

function entry(c: GoferClient) {
  const at = c.takeStat()
  return { name: c.r.text(), mode: c.r.view.getUint16(at + STATX_OFFSET.mode, true), target: c.r.text() }
}

/** Path → sorted names of the directories that come along with one's listing, in their order; its own first. */
function listTree(c: GoferClient, path: string, beside: string): [string, string][] {
  const count = c.readdir(0, path, 0, 0, 1, beside)
  if (count < 0) throw new Error(`readdir ${count}`)
  c.r.skip(8)
  expect(c.r.u16()).toBe(1)
  expect(c.r.u16()).toBe(count)
  const directories = c.r.u16()
  const names = (n: number) =>
    Array.from({ length: n }, () => entry(c).name)
      .sort()
      .join(' ')
  const found: [string, string][] = [['.', names(count)]]
  for (let i = 0; i < directories; i++) {
    const name = c.r.text()
    found.push([name, names(c.r.u16())])
  }
  expect(c.r.complete).toBe(true)
  return found
}

for (const confined of [false, true]) {
  describe.skipIf(confined && !isRoot)(confined ? 'a confined gofer' : 'an unconfined gofer', () => {
    let dir: string
    let gofer: GoferProcess
    let c: GoferClient
    const outside = () => join(dir, 'outside')
    const inside = (p: string) => join(dir, 'root', p)

    beforeAll(() => {
      dir = mkdtempSync(join(tmpdir(), 'gofer-'))
      mkdirSync(inside('a/b'), { recursive: true })
      writeFileSync(outside(), 'secret')
      writeFileSync(inside('a/b/file'), 'hello')
      symlinkSync('../b/file', inside('a/b/link'))
      symlinkSync(outside(), inside('absolute'))
      symlinkSync('..', inside('up'))
      linkSync(inside('a/b/file'), inside('hard'))
      mkdirSync(inside('many'))
      for (let i = 0; i < 1500; i++) writeFileSync(inside(`many/entry-${i}`), '')
      gofer = startGofer(
        [
          { id: 0, source: join(dir, 'root'), shared: false },
          { id: 1, source: join(dir, 'root'), readonly: true },
          { id: 7, source: outside(), kind: 'file', readonly: true },
        ],
        confined,
      )
      c = gofer.client
    })
    afterAll(async () => {
      await stopsCleanly(gofer)
      rmSync(dir, { recursive: true })
    })

    it('introduces its mounts', () => {
      const mounts = c.hello()
      if (typeof mounts === 'number') throw new Error(`hello: ${mounts} ${gofer.stderr()}`)
      expect(mounts.map((m) => [m.id, m.flags])).toEqual([
        [0, 2],
        [1, 7],
        [7, 5],
      ])
      expect(mounts[0]!.stat.getUint16(STATX_OFFSET.mode, true) & 0o170000).toBe(0o040000)
    })

    it('walks a whole path and opens its end in one request', () => {
      expect(c.walk(0, '', 'a/b/file', 0)).toBe(3)
      expect([c.r.i32(), c.r.u16()]).toEqual([WALK_COMPLETE, 3])
      c.takeStat()
      c.takeStat()
      const at = c.takeStat()
      expect(c.r.view.getUint32(at + STATX_OFFSET.size, true)).toBe(5)
      expect(c.r.i32()).toBe(0)
      expect(c.r.complete).toBe(true)
      const fd = c.takeFd()
      expect(readFd(fd)).toBe('hello')
      expect(pwrite(fd, Buffer.from('x'), 1, 0)).toBe(-9)
      close(fd)
    })

    it('stops a walk at links, missing names and what is no directory', () => {
      expect(c.walk(0, 'a', 'b/link/x', 0)).toBe(2)
      expect([c.r.i32(), c.r.u16()]).toEqual([WALK_SYMLINK, 2])
      c.takeStat()
      c.takeStat()
      expect(c.r.text()).toBe('../b/file')
      expect(c.walk(0, '', 'a/x/y', NO_OPEN)).toBe(1)
      expect([c.r.i32(), c.r.u16()]).toEqual([-ENOENT, 1])
      expect(c.walk(0, '', 'a/b/file/y', NO_OPEN)).toBe(3)
      expect([c.r.i32(), c.r.u16()]).toEqual([-ENOTDIR, 3])
      expect(c.walk(0, 'nowhere', 'y', NO_OPEN)).toBe(-ENOENT)
      expect(c.walk(0, '', 'a', 0)).toBe(1)
      expect(c.takeFd()).toBe(-1)
    })

    it('follows no link, anywhere', () => {
      expect(c.stat(0, 'up/outside')).toBe(-ENOTDIR)
      expect(c.open(0, 'absolute', 0)).toBe(-ELOOP)
      expect(c.open(0, 'up/outside', 0)).toBe(-ENOTDIR)
      expect(c.stat(1, 'up/root/a')).toBe(-ELOOP)
      expect(c.mkdir(0, 'up/new', 0o755, 0, 0)).toBe(-ENOTDIR)
      expect(c.walk(0, 'up', 'outside', 0)).toBe(-ENOTDIR)
      expect(c.stat(0, 'absolute')).toBe(0)
      expect(c.readlink(0, 'absolute')).toBe(0)
      expect(c.r.text()).toBe(outside())
    })

    it('refuses paths that are none', () => {
      for (const path of ['..', '../outside', 'a/../..', '.', 'a/.', '/', '/etc', 'a//b', 'a/']) {
        expect(c.stat(0, path), path).toBe(-EINVAL)
        expect(c.open(0, path, 0), path).toBe(-EINVAL)
        expect(c.unlink(0, path), path).toBe(-EINVAL)
        expect(c.rename(0, 'a', path, 0), path).toBe(-EINVAL)
        expect(c.walk(0, path, 'outside', 0), path).toBe(-EINVAL)
        expect(c.walk(0, '', path, 0), path).toBe(-EINVAL)
      }
      expect(c.stat(3, 'a')).toBe(-EINVAL)
      expect(c.stat(0, 'x'.repeat(256))).toBe(-36)
    })

    it('serves single files', () => {
      expect(c.stat(7, '')).toBe(0)
      expect(c.open(7, '', 0)).toBe(0)
      const fd = c.takeFd()
      expect(readFd(fd)).toBe('secret')
      close(fd)
      expect(c.open(7, '', 2)).toBe(-EROFS)
      expect(c.open(7, 'x', 0)).toBe(-ENOTDIR)
      expect(c.open(7, 'x/y', 0)).toBe(-ENOTDIR)
      expect(c.walk(7, '', 'x', 0)).toBe(-ENOTDIR)
    })

    it('reads large directories in pieces, with attributes', () => {
      expect(list(c, 0, 'many').size).toBe(1500)
      const top = list(c, 0, '')
      expect(top.get('absolute')!.target).toBe(outside())
      expect(top.get('a')!.mode & 0o170000).toBe(0o040000)
      expect(c.readdir(0, 'hard', 0, 0)).toBe(-ENOTDIR)
    })

    it('lists whole directories below and beside, while there is room', () => {
      mkdirSync(inside('tree/one/deep/deeper'), { recursive: true })
      mkdirSync(inside('tree/two/x'), { recursive: true })
      mkdirSync(inside('tree/large'))
      mkdirSync(inside('tree/three'))
      symlinkSync('../two', inside('tree/one/to-two'))
      writeFileSync(inside('tree/one/file'), '')
      for (let i = 0; i < 500; i++) writeFileSync(inside(`tree/large/entry-${i}`), '')
      expect(listTree(c, 'tree/one', 'missing/two/large/three')).toEqual([
        ['.', 'deep file to-two'],
        ['one/deep', 'deeper'],
        ['one/deep/deeper', ''],
        ['two', 'x'],
        ['two/x', ''],
      ])
      expect(listTree(c, 'tree/one/deep', 'file/to-two')).toEqual([
        ['.', 'deeper'],
        ['deep/deeper', ''],
      ])
      expect(listTree(c, '', 'a')).toHaveLength(1)
      expect(c.readdir(0, 'tree', 0, 0, 2)).toBe(-EINVAL)
      expect(c.readdir(0, 'tree', 0, 0, 1, '..')).toBe(-EINVAL)
      expect(c.readdir(0, 'tree', 0, 0, 1, 'one/../../etc')).toBe(-EINVAL)
    })

    it('moves to the CPU of its sentry, and to no other', () => {
      expect(c.place(currentCpu())).toBe(0)
      expect(c.place(1023)).toBe(-EINVAL)
      expect(c.place(1024)).toBe(-EINVAL)
      expect(c.place(0xffffffff)).toBe(-EINVAL)
      expect(c.stat(0, 'a')).toBe(0)
    })

    it('creates, writes and reads files through donated descriptors', () => {
      expect(c.create(0, 'new', 0o4640, 0xffffffff, 0xffffffff)).toBe(0)
      const fd = c.takeFd()
      expect(pwrite(fd, Buffer.from('data'), 4, 0)).toBe(4)
      close(fd)
      expect(readFileSync(inside('new'), 'latin1')).toBe('data')
      expect(c.create(0, 'new', 0o644, 0, 0)).toBe(-EEXIST)
      expect(c.open(0, 'new', 1 | 0o1000)).toBe(0)
      close(c.takeFd())
      expect(statSync(inside('new')).size).toBe(0)
      expect(c.open(0, 'new', 0o2000)).toBe(-EINVAL)
      expect(c.open(0, 'a', 0)).toBe(-EISDIR)
      expect(c.unlink(0, 'new')).toBe(0)
      expect(existsSync(inside('new'))).toBe(false)
    })

    it('makes names of every kind', () => {
      expect(c.mkdir(0, 'd', 0o1751, 0xffffffff, 0xffffffff)).toBe(0)
      expect(lstatSync(inside('d')).mode & 0o7777).toBe(0o1751)
      expect(c.mkdir(0, 'd', 0o755, 0, 0)).toBe(-EEXIST)
      expect(c.symlink(0, 'd/l', '/any/where', 0xffffffff, 0xffffffff)).toBe(0)
      expect(readlinkSync(inside('d/l'))).toBe('/any/where')
      expect(c.mknod(0, 'd/fifo', 0o010622, 0, 0xffffffff, 0xffffffff)).toBe(0)
      expect(lstatSync(inside('d/fifo')).mode).toBe(0o010622)
      expect(c.open(0, 'd/fifo', 0)).toBe(-ENXIO)
      expect(c.mknod(0, 'd/sock', 0o140600, 0, 0xffffffff, 0xffffffff)).toBe(0)
      expect(c.mknod(0, 'd/null', 0o020600, 0x103, 0, 0)).toBe(-EPERM)
      expect(c.mknod(0, 'd/reg', 0o100600, 0, 0, 0)).toBe(-EINVAL)
      expect(c.link(0, 'a/b/file', 'd/hard', -1)).toBe(0)
      expect(statSync(inside('d/hard')).nlink).toBe(3)
      expect(c.rmdir(0, 'd')).toBe(-ENOTEMPTY)
      for (const name of ['l', 'fifo', 'sock', 'hard']) expect(c.unlink(0, `d/${name}`)).toBe(0)
      expect(c.unlink(0, 'd')).toBe(-EISDIR)
      expect(c.rmdir(0, 'd')).toBe(0)
      expect(c.rmdir(0, '')).toBe(-EINVAL)
      expect(c.rename(0, 'a', '', 0)).toBe(-EINVAL)
    })

    it('renames, and forgets the directories it knew below', () => {
      expect(c.mkdir(0, 'one', 0o755, 0, 0)).toBe(0)
      expect(c.mkdir(0, 'one/sub', 0o755, 0, 0)).toBe(0)
      expect(c.mkdir(0, 'one/sub/x', 0o755, 0, 0)).toBe(0)
      expect(c.stat(0, 'one/sub/x')).toBe(0)
      expect(c.rename(0, 'one', 'two', 0)).toBe(0)
      expect(c.stat(0, 'one/sub/x')).toBe(-ENOENT)
      expect(c.stat(0, 'two/sub/x')).toBe(0)
      expect(c.mkdir(0, 'one', 0o755, 0, 0)).toBe(0)
      expect(c.rename(0, 'one', 'two', 1)).toBe(-EEXIST)
      expect(c.rename(0, 'one', 'two', 2)).toBe(0)
      expect(c.stat(0, 'one/sub/x')).toBe(0)
      expect(c.stat(0, 'two/sub/x')).toBe(-ENOENT)
      expect(c.rename(0, 'one', 'two', 4)).toBe(-EINVAL)
      rmSync(inside('one'), { recursive: true })
      rmSync(inside('two'), { recursive: true })
    })

    it('changes attributes, of names and of files that have lost theirs', () => {
      writeFileSync(inside('f'), '12345')
      chmodSync(inside('f'), 0o600)
      const set = { ...NO_CHANGE, mode: 0o4711, size: 3, mtimeSec: -5, mtimeNsec: 7 }
      expect(c.setattr(0, 'f', set, ATTR_MODE | ATTR_SIZE | ATTR_MTIME, -1)).toBe(0)
      const s = statSync(inside('f'), { bigint: true })
      expect([s.mode & 0o7777n, s.size, s.mtimeNs]).toEqual([0o4711n, 3n, -4_999_999_993n])
      expect(c.setattr(0, 'f', { ...NO_CHANGE, size: -1 }, ATTR_SIZE, -1)).toBe(-EINVAL)
      expect(c.setattr(0, 'f', { ...NO_CHANGE, size: Number.NaN }, ATTR_SIZE, -1)).toBe(-EINVAL)
      expect(c.setattr(0, 'f', { ...NO_CHANGE, mtimeNsec: 1e9 }, ATTR_MTIME, -1)).toBe(-EINVAL)
      expect(c.open(0, 'f', 2)).toBe(0)
      const fd = c.takeFd()
      expect(c.unlink(0, 'f')).toBe(0)
      expect(c.setattr(0, '', { ...NO_CHANGE, mode: 0o640 }, ATTR_MODE, fd)).toBe(0)
      const at = c.takeStat()
      expect(c.r.view.getUint16(at + STATX_OFFSET.mode, true)).toBe(0o100640)
      close(fd)
    })

    it.runIf(isRoot)('gives names to files without one', () => {
      expect(c.tmpfile(0, '', 0o600, 0, 0)).toBe(0)
      const fd = c.takeFd()
      pwrite(fd, Buffer.from('tmp'), 3, 0)
      expect(c.link(0, '', 'named', fd)).toBe(0)
      close(fd)
      expect(readFileSync(inside('named'), 'latin1')).toBe('tmp')
      rmSync(inside('named'))
    })

    it('keeps read-only mounts so', () => {
      expect(c.open(1, 'a/b/file', 1)).toBe(-EROFS)
      expect(c.open(1, 'a/b/file', 0)).toBe(0)
      close(c.takeFd())
      expect(c.create(1, 'x', 0o600, 0, 0)).toBe(-EROFS)
      expect(c.mkdir(1, 'x', 0o700, 0, 0)).toBe(-EROFS)
      expect(c.unlink(1, 'hard')).toBe(-EROFS)
      expect(c.rename(1, 'hard', 'x', 0)).toBe(-EROFS)
      expect(c.setattr(1, 'hard', NO_CHANGE, ATTR_MODE, -1)).toBe(-EROFS)
      expect(c.setxattr(1, 'hard', 'user.x', Buffer.from('1'), 0)).toBe(-EROFS)
    })

    it('handles extended attributes', () => {
      expect(c.setxattr(0, 'a/b/file', 'user.x', Buffer.from('value'), 0)).toBe(0)
      expect(c.getxattr(0, 'hard', 'user.x')).toBe(0)
      expect(Buffer.from(c.r.blob()).toString()).toBe('value')
      expect(c.listxattr(0, 'hard')).toBe(0)
      expect(Buffer.from(c.r.blob()).toString()).toContain('user.x\0')
      expect(c.removexattr(0, 'hard', 'user.x')).toBe(0)
      expect(c.getxattr(0, 'hard', 'user.x')).toBe(-61)
      expect(c.getxattr(0, 'hard', '')).toBe(-34)
    })

    it('tells about the file system and writes to disk', () => {
      expect(c.statfs(0, '')).toBe(0)
      expect(c.r.blob().length).toBe(120)
      expect(c.fsync(0, '')).toBe(0)
      expect(c.fsync(0, 'hard')).toBe(0)
      expect(c.fsync(0, 'absolute')).toBe(-EINVAL)
    })

    it('handles paths beyond PATH_MAX', () => {
      let path = 'deep'
      expect(c.mkdir(0, path, 0o755, 0xffffffff, 0xffffffff)).toBe(0)
      while (path.length < 9000) {
        path += `/${'n'.repeat(200)}`
        expect(c.mkdir(0, path, 0o755, 0xffffffff, 0xffffffff)).toBe(0)
      }
      expect(c.stat(0, path)).toBe(0)
      rmSync(inside('deep'), { recursive: true })
    })
  })
}
