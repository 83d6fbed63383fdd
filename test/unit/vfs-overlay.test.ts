/**
 * The overlay over a tmpfs as its lower layer: what changes above, and that nothing changes below.
 */
import { beforeEach, expect, it } from 'vitest'
import * as E from '../../sentry/abi/errno.ts'
import { AT_FDCWD, O_APPEND, O_RDWR, O_TRUNC, O_WRONLY } from '../../sentry/abi/fcntl.ts'
import { OverlaySuperBlock } from '../../sentry/fs/overlay/super-block.ts'
import type { Task } from '../../sentry/kernel/task.ts'
import { KernelIovIter } from '../../sentry/mm/iov-iter.ts'
import { changeMode } from '../../sentry/vfs/attributes.ts'
import { Dentry } from '../../sentry/vfs/dentry.ts'
import { dropUnusedDentries } from '../../sentry/vfs/dentry-cache.ts'
import { linkAt, mkdirAt, renameAt, rmdirAt, symlinkAt, unlinkAt } from '../../sentry/vfs/namei.ts'
import type { Path } from '../../sentry/vfs/path.ts'
import { walk } from '../../sentry/vfs/path-walk.ts'
import { ino, list, open, read, readAll, taskOn, tmpfs, write } from './vfs-support.ts'

let below: Task
let t: Task
const rename = (from: string, to: string) => renameAt(t, AT_FDCWD, from, AT_FDCWD, to, 0)

beforeEach(() => {
  const lower = tmpfs()
  below = taskOn(lower)
  mkdirAt(below, AT_FDCWD, '/d', 0o755)
  mkdirAt(below, AT_FDCWD, '/d/sub', 0o755)
  for (const name of ['f1', 'f2', 'f3', 'f4', 'f5']) write(below, `/d/${name}`, `lower ${name}`)
  write(below, '/d/sub/deep', 'deep')
  write(below, '/big', 'x'.repeat(100_000))
  symlinkAt(below, 'd/f1', AT_FDCWD, '/link')
  linkAt(below, AT_FDCWD, '/d/f5', AT_FDCWD, '/hard', false, false)
  t = taskOn(new OverlaySuperBlock(lower, 1 << 30))
})

/** Empties the dentry cache as memory pressure would. */
function forgetCache(): void {
  Dentry.count = Number.POSITIVE_INFINITY
  dropUnusedDentries()
}

it('shows the lower layer', () => {
  expect(read(t, '/link')).toBe('lower f1')
  expect(list(t, '/d').sort()).toEqual(['f1', 'f2', 'f3', 'f4', 'f5', 'sub'])
  expect(ino(t, '/d/f1')).toBe(ino(below, '/d/f1'))
})

it('copies up on write, keeps the inode number, and shows the new data to old readers', () => {
  const before = ino(t, '/big')
  const reader = open(t, '/big')
  expect(readAll(t, reader).slice(0, 3)).toBe('xxx')
  write(t, '/big', 'new', O_WRONLY)
  expect(readAll(t, reader).slice(0, 5)).toBe('newxx')
  reader.unref()
  write(t, '/d/f1', 'short', O_WRONLY | O_TRUNC)
  expect(read(t, '/d/f1')).toBe('short')
  forgetCache()
  expect(read(t, '/big').length).toBe(100_000)
  expect(read(t, '/d/f1')).toBe('short')
  expect(ino(t, '/big')).toBe(before)
  expect(read(below, '/big').slice(0, 3)).toBe('xxx')
  expect(read(below, '/d/f1')).toBe('lower f1')
})

it('appends to lower files', () => {
  write(t, '/d/f2', ' more', O_WRONLY | O_APPEND)
  expect(read(t, '/d/f2')).toBe('lower f2 more')
})

it('remembers changed attributes without copying', () => {
  const path = walk(t, '/d/sub/deep', 0) as Path
  expect(changeMode(t, path.dentry, 0o600)).toBe(0)
  forgetCache()
  expect((walk(t, '/d/sub/deep', 0) as Path).inode.mode & 0o777).toBe(0o600)
  expect((walk(below, '/d/sub/deep', 0) as Path).inode.mode & 0o777).toBe(0o644)
  expect(list(t, '/d/sub')).toEqual(['deep'])
})

it('hides what was removed, and shows what came back', () => {
  expect(unlinkAt(t, AT_FDCWD, '/d/f3')).toBe(0)
  forgetCache()
  expect(walk(t, '/d/f3', 0)).toBe(-E.ENOENT)
  expect(list(t, '/d').sort()).toEqual(['f1', 'f2', 'f4', 'f5', 'sub'])
  write(t, '/d/f3', 'again')
  expect(list(t, '/d').filter((n) => n === 'f3')).toEqual(['f3'])
  expect(unlinkAt(t, AT_FDCWD, '/d/f3')).toBe(0)
  expect(walk(t, '/d/f3', 0)).toBe(-E.ENOENT)
  expect(read(below, '/d/f3')).toBe('lower f3')
})

it('removes directories only when they are empty, and makes them anew empty', () => {
  expect(rmdirAt(t, AT_FDCWD, '/d/sub')).toBe(-E.ENOTEMPTY)
  expect(unlinkAt(t, AT_FDCWD, '/d/sub/deep')).toBe(0)
  expect(rmdirAt(t, AT_FDCWD, '/d/sub')).toBe(0)
  expect(typeof mkdirAt(t, AT_FDCWD, '/d/sub', 0o755)).toBe('object')
  expect(list(t, '/d/sub')).toEqual([])
})

it('renames lower files and directories', () => {
  const before = ino(t, '/d/sub/deep')
  expect(rename('/d/sub', '/moved')).toBe(0)
  expect(read(t, '/moved/deep')).toBe('deep')
  write(t, '/moved/deep', 'DEEP', O_RDWR)
  forgetCache()
  expect(read(t, '/moved/deep')).toBe('DEEP')
  expect(ino(t, '/moved/deep')).toBe(before)
  expect(walk(t, '/d/sub', 0)).toBe(-E.ENOENT)
  expect(rename('/d/f1', '/d/f2')).toBe(0)
  forgetCache()
  expect(read(t, '/d/f2')).toBe('lower f1')
  expect(list(t, '/d').sort()).toEqual(['f2', 'f3', 'f4', 'f5'])
  expect(rename('/moved', '/d/sub')).toBe(0)
  expect(rename('/d', '/e')).toBe(0)
  forgetCache()
  expect(read(t, '/e/sub/deep')).toBe('DEEP')
  expect(walk(t, '/d', 0)).toBe(-E.ENOENT)
})

it('keeps hard links of the lower layer together', () => {
  write(t, '/hard', 'LOWER', O_WRONLY)
  expect(read(t, '/d/f5')).toBe('LOWER f5')
  expect(ino(t, '/hard')).toBe(ino(t, '/d/f5'))
  expect(unlinkAt(t, AT_FDCWD, '/hard')).toBe(0)
  forgetCache()
  expect(read(t, '/d/f5')).toBe('LOWER f5')
  expect((walk(t, '/d/f5', 0) as Path).inode.nlink).toBe(1)
})

it('lists each name once while entries change under the reader', () => {
  let round = 0
  const names = list(t, '/d', () => {
    round++
    if (round === 1) write(t, '/d/f1', 'changed', O_WRONLY)
    if (round === 2) unlinkAt(t, AT_FDCWD, '/d/f2')
    if (round === 2) write(t, '/d/new', '')
  })
  expect(new Set(names).size).toBe(names.length)
  for (const name of ['f1', 'f3', 'f4', 'f5', 'sub']) expect(names).toContain(name)
})

it('holds extended attributes of lower files', () => {
  const { inode } = walk(below, '/d/f4', 0) as Path
  inode.setxattr('user.a', Buffer.from('1'), 0)
  const above = (walk(t, '/d/f4', 0) as Path).inode
  expect(above.getxattr('user.a')).toEqual(Buffer.from('1'))
  expect(above.setxattr('user.b', Buffer.from('2'), 0)).toBe(0)
  expect(above.listxattr()).toBe('user.a\0user.b\0')
  expect(inode.listxattr()).toBe('user.a\0')
})

it('truncates lower files to sizes in between', () => {
  const file = open(t, '/big', O_RDWR)
  expect(
    file.inode.setattr({
      valid: 8,
      size: 10,
      mode: 0,
      uid: 0,
      gid: 0,
      atimeSec: 0,
      atimeNsec: 0,
      mtimeSec: 0,
      mtimeNsec: 0,
    }),
  ).toBe(0)
  expect(readAll(t, file)).toBe('x'.repeat(10))
  expect(file.write(t, new KernelIovIter(Buffer.from('end')), 20)).toBe(3)
  expect(readAll(t, file)).toBe(`${'x'.repeat(10)}${'\0'.repeat(10)}end`)
  file.unref()
})
