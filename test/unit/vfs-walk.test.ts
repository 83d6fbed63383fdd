/**
 * Path walk, permissions and names on a tmpfs.
 */
import { beforeEach, describe, expect, it } from 'vitest'
import * as E from '../../sentry/abi/errno.ts'
import { AT_FDCWD, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR, O_WRONLY } from '../../sentry/abi/fcntl.ts'
import type { Task } from '../../sentry/kernel/task.ts'
import { describePath } from '../../sentry/vfs/d-path.ts'
import { Mount } from '../../sentry/vfs/mount.ts'
import { attach, bind } from '../../sentry/vfs/mount-ops.ts'
import {
  linkAt,
  mkdirAt,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  renameAt,
  rmdirAt,
  symlinkAt,
  unlinkAt,
} from '../../sentry/vfs/namei.ts'
import { openAt } from '../../sentry/vfs/open.ts'
import type { Path } from '../../sentry/vfs/path.ts'
import {
  LOOKUP_BENEATH,
  LOOKUP_DIRECTORY,
  LOOKUP_FOLLOW,
  LOOKUP_IN_ROOT,
  LOOKUP_NO_SYMLINKS,
  LOOKUP_NO_XDEV,
  walk,
} from '../../sentry/vfs/path-walk.ts'
import { as, ino, list, open, read, taskOn, tmpfs, write } from './vfs-support.ts'

let t: Task
const at = (name: string, flags = LOOKUP_FOLLOW): string | number => {
  const path = walk(t, name, flags)
  return typeof path === 'number' ? path : describePath(path, t.fs.root)
}
const mkdir = (name: string) => expect(typeof mkdirAt(t, AT_FDCWD, name, 0o755)).toBe('object')
const link = (target: string, name: string) => expect(typeof symlinkAt(t, target, AT_FDCWD, name)).toBe('object')
const rename = (from: string, to: string, flags = 0) => renameAt(t, AT_FDCWD, from, AT_FDCWD, to, flags)

beforeEach(() => {
  t = taskOn(tmpfs())
  mkdir('/a')
  mkdir('/a/b')
  write(t, '/a/b/f', 'data')
})

describe('walk', () => {
  it('finds names, through slashes, dots and dot-dots', () => {
    expect(at('/a//b/./f')).toBe('/a/b/f')
    expect(at('/../../a/b/..')).toBe('/a')
    expect(at('a/b/')).toBe('/a/b')
    expect(at('/')).toBe('/')
    expect(at('')).toBe(-E.ENOENT)
    expect(at('/a/b/f/')).toBe(-E.ENOTDIR)
    expect(at('/a/b/f/x')).toBe(-E.ENOTDIR)
    expect(at('/a/x/y')).toBe(-E.ENOENT)
    expect(at(`/a/${'n'.repeat(256)}`)).toBe(-E.ENAMETOOLONG)
    expect(at('/a/b/f', LOOKUP_DIRECTORY)).toBe(-E.ENOTDIR)
  })

  it('follows symbolic links as far as it should', () => {
    link('b/f', '/a/rel')
    link('/a/b', '/abs')
    link('loop2', '/loop1')
    link('loop1', '/loop2')
    link('nowhere', '/dangling')
    expect(at('/a/rel')).toBe('/a/b/f')
    expect(at('/a/rel', 0)).toBe('/a/rel')
    expect(at('/abs/f')).toBe('/a/b/f')
    expect(at('/abs/', 0)).toBe('/a/b')
    expect(at('/loop1')).toBe(-E.ELOOP)
    expect(at('/dangling')).toBe(-E.ENOENT)
    expect(at('/abs/../rel')).toBe('/a/b/f')
    expect(at('/a/rel', LOOKUP_FOLLOW | LOOKUP_NO_SYMLINKS)).toBe(-E.ELOOP)
    link('/abs/', '/slash')
    expect(at('/slash', LOOKUP_FOLLOW)).toBe('/a/b')
    for (let i = 0; i < 41; i++) link(i === 0 ? '/a' : `/c${i - 1}`, `/c${i}`)
    expect(at('/c39')).toBe('/a')
    expect(at('/c40')).toBe(-E.ELOOP)
  })

  it('keeps scoped walks inside', () => {
    t.fs.setCwd(walk(t, '/a', 0) as Path)
    link('../../a/b', '/a/out')
    link('/b/f', '/a/absin')
    expect(at('b/f', LOOKUP_BENEATH)).toBe('/a/b/f')
    expect(at('b/../b', LOOKUP_BENEATH)).toBe('/a/b')
    expect(at('..', LOOKUP_BENEATH)).toBe(-E.EXDEV)
    expect(at('/a', LOOKUP_BENEATH)).toBe(-E.EXDEV)
    expect(at('out', LOOKUP_BENEATH | LOOKUP_FOLLOW)).toBe(-E.EXDEV)
    expect(at('absin', LOOKUP_IN_ROOT | LOOKUP_FOLLOW)).toBe('/a/b/f')
    expect(at('../../b', LOOKUP_IN_ROOT | LOOKUP_FOLLOW)).toBe('/a/b')
  })

  it('crosses mounts in both directions', () => {
    const inner = tmpfs()
    const place = walk(t, '/a/b', 0) as Path
    expect(attach(t.fs.namespace, new Mount(inner, inner.rootDentry, 0), place)).toBe(0)
    expect(at('/a/b/f')).toBe(-E.ENOENT)
    write(t, '/a/b/g', 'inner')
    expect(at('/a/b/../b/g')).toBe('/a/b/g')
    expect(at('/a/b/..')).toBe('/a')
    expect(at('/a/b/g', LOOKUP_NO_XDEV)).toBe(-E.EXDEV)
    mkdir('/view')
    expect(bind(t.fs.namespace, walk(t, '/a', 0) as Path, walk(t, '/view', 0) as Path, false)).toBe(0)
    expect(read(t, '/view/b/f')).toBe('data')
    expect(rmdirAt(t, AT_FDCWD, '/a/b')).toBe(-E.EBUSY)
    expect(rename('/a/b/g', '/a/g')).toBe(-E.EXDEV)
  })

  it('asks every directory for permission', () => {
    mkdirAt(t, AT_FDCWD, '/secret', 0o700)
    write(t, '/secret/f', 'x')
    const user = as(t, 1000)
    expect(walk(user, '/secret/f', 0)).toBe(-E.EACCES)
    expect(openAt(user, AT_FDCWD, '/a/b/f', O_WRONLY, 0)).toBe(-E.EACCES)
    expect(openAt(user, AT_FDCWD, '/a/new', O_CREAT | O_WRONLY, 0o644)).toBe(-E.EACCES)
    expect(unlinkAt(user, AT_FDCWD, '/a/b/f')).toBe(-E.EACCES)
  })
})

describe('open', () => {
  it('creates through dangling links and refuses what it must', () => {
    link('/a/made', '/to')
    write(t, '/to', 'via link')
    expect(read(t, '/a/made')).toBe('via link')
    expect(openAt(t, AT_FDCWD, '/to', O_CREAT | O_EXCL | O_RDWR, 0o600)).toBe(-E.EEXIST)
    expect(openAt(t, AT_FDCWD, '/to', O_NOFOLLOW | O_RDWR, 0)).toBe(-E.ELOOP)
    expect(openAt(t, AT_FDCWD, '/a', O_RDWR, 0)).toBe(-E.EISDIR)
    expect(openAt(t, AT_FDCWD, '/a/new/', O_CREAT | O_RDWR, 0o600)).toBe(-E.EISDIR)
    expect(openAt(t, AT_FDCWD, '/a/..', O_CREAT | O_RDWR, 0o600)).toBe(-E.EISDIR)
  })

  it('keeps a removed file alive while it is open', () => {
    const file = open(t, '/a/b/f', O_RDWR)
    const inode = file.inode
    expect(unlinkAt(t, AT_FDCWD, '/a/b/f')).toBe(0)
    expect(inode.nlink).toBe(0)
    expect(describePath(file.path!, t.fs.root)).toBe('/a/b/f (deleted)')
    expect(inode.size).toBe(4)
    file.unref()
    expect(inode.opens).toBe(0)
  })
})

describe('rename', () => {
  it('moves files and directories', () => {
    mkdir('/d')
    expect(rename('/a/b', '/d/c')).toBe(0)
    expect(read(t, '/d/c/f')).toBe('data')
    expect(at('/a/b')).toBe(-E.ENOENT)
    expect(at('/d/c/..')).toBe('/d')
  })

  it('says what Linux says', () => {
    mkdir('/d')
    mkdir('/d/full')
    write(t, '/d/full/x', '')
    write(t, '/file', 'file')
    expect(rename('/a', '/a/b/c')).toBe(-E.EINVAL)
    expect(rename('/a/b/f', '/a')).toBe(-E.ENOTEMPTY)
    expect(rename('/d/full', '/d')).toBe(-E.ENOTEMPTY)
    expect(rename('/a', '/d/full')).toBe(-E.ENOTEMPTY)
    expect(rename('/file', '/a')).toBe(-E.EISDIR)
    expect(rename('/a', '/file')).toBe(-E.ENOTDIR)
    expect(rename('/file/', '/x')).toBe(-E.ENOTDIR)
    expect(rename('/file', '/x/')).toBe(-E.ENOTDIR)
    expect(rename('/none', '/x')).toBe(-E.ENOENT)
    expect(rename('/', '/x')).toBe(-E.EBUSY)
    expect(rename('/a/.', '/x')).toBe(-E.EBUSY)
    expect(rename('/file', '/a/b/f', RENAME_NOREPLACE)).toBe(-E.EEXIST)
    expect(rename('/file', '/none', RENAME_EXCHANGE)).toBe(-E.ENOENT)
  })

  it('does nothing between names of one file, and exchanges', () => {
    expect(linkAt(t, AT_FDCWD, '/a/b/f', AT_FDCWD, '/hard', false, false)).toBe(0)
    expect(rename('/hard', '/a/b/f')).toBe(0)
    expect(read(t, '/hard')).toBe('data')
    write(t, '/other', 'other')
    expect(rename('/a', '/other', RENAME_EXCHANGE)).toBe(0)
    expect(read(t, '/a')).toBe('other')
    expect(read(t, '/other/b/f')).toBe('data')
    expect(at('/other/b/..')).toBe('/other')
  })

  it('obeys sticky directories', () => {
    mkdirAt(t, AT_FDCWD, '/tmp', 0o777)
    ;(walk(t, '/tmp', 0) as Path).inode.mode |= 0o1777
    const one = as(t, 1000)
    const two = as(t, 1001)
    write(one, '/tmp/mine', 'x')
    expect(unlinkAt(two, AT_FDCWD, '/tmp/mine')).toBe(-E.EPERM)
    expect(renameAt(two, AT_FDCWD, '/tmp/mine', AT_FDCWD, '/tmp/yours', 0)).toBe(-E.EPERM)
    expect(unlinkAt(one, AT_FDCWD, '/tmp/mine')).toBe(0)
  })
})

describe('tmpfs', () => {
  it('lists what stays exactly once while others go', () => {
    for (let i = 0; i < 200; i++) write(t, `/a/f${i}`, '')
    let n = 0
    const names = list(t, '/a', () => {
      unlinkAt(t, AT_FDCWD, `/a/f${n}`)
      n += 3
    })
    expect(new Set(names).size).toBe(names.length)
    for (let i = 0; i < 200; i++) if (i % 3 !== 0) expect(names).toContain(`f${i}`)
  })

  it('counts blocks and inodes against its limits', () => {
    t = taskOn(tmpfs({ size: 64 * 1024, inodes: 3 }))
    write(t, '/one', 'x'.repeat(40000))
    const file = open(t, '/one', O_RDWR)
    expect(() => write(t, '/two', 'y'.repeat(40000))).toThrow('write /two: 24576')
    write(t, '/three', '')
    expect(openAt(t, AT_FDCWD, '/four', O_CREAT | O_RDWR, 0o600)).toBe(-E.ENOSPC)
    expect(unlinkAt(t, AT_FDCWD, '/two')).toBe(0)
    write(t, '/four', 'y'.repeat(20000))
    file.unref()
  })

  it('keeps inode numbers and link counts', () => {
    const before = ino(t, '/a/b/f')
    expect(rename('/a/b/f', '/g')).toBe(0)
    expect(ino(t, '/g')).toBe(before)
    const dir = (walk(t, '/a', 0) as Path).inode
    expect(dir.nlink).toBe(3)
    expect(rename('/a/b', '/b')).toBe(0)
    expect(dir.nlink).toBe(2)
  })
})
