/**
 * The sentry's gofer file system over a real gofer process: names, identity, descriptors, and what happens when the
 * gofer dies.
 */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { fcntl, pread } from '../../native/host.ts'
import { STATX_OFFSET } from '../../native/host-files.ts'
import { EIO, ENOENT, EROFS } from '../../sentry/abi/errno.ts'
import { O_APPEND, O_RDONLY, O_RDWR } from '../../sentry/abi/fcntl.ts'
import { connectGofer } from '../../sentry/fs/gofer/file-system.ts'
import type { GoferInode } from '../../sentry/fs/gofer/inode.ts'
import type { GoferSuperBlock } from '../../sentry/fs/gofer/super-block.ts'
import { rootCredentials } from '../../sentry/kernel/credentials.ts'
import type { Task } from '../../sentry/kernel/task.ts'
import { KernelIovIter } from '../../sentry/mm/iov-iter.ts'
import type { FileDescription } from '../../sentry/vfs/file-description.ts'
import { ATTR_MODE, ATTR_SIZE, type Inode, type SetAttr } from '../../sentry/vfs/inode.ts'
import { Mount, MS_NOATIME } from '../../sentry/vfs/mount.ts'
import { Path } from '../../sentry/vfs/path.ts'
import { type GoferProcess, startGofer } from '../support/gofer-process.ts'

const T = null as unknown as Task
const ROOT = rootCredentials()
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
const EXCLUSIVE = 0
const SHARED = 1
const READONLY = 2

let dir: string
let gofer: GoferProcess
let mounts: Map<number, GoferSuperBlock>
let deaths: string[]
const host = (p: string) => join(dir, p)

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'gofer-fs-'))
  mkdirSync(host('a/b'), { recursive: true })
  writeFileSync(host('a/b/file'), 'hello')
  linkSync(host('a/b/file'), host('a/hard'))
  symlinkSync('b/file', host('a/link'))
  gofer = startGofer(
    [
      { id: EXCLUSIVE, source: dir, shared: false },
      { id: SHARED, source: dir, shared: true },
      { id: READONLY, source: dir, shared: true, readonly: true },
    ],
    false,
  )
  deaths = []
  gofer.client.onDeath = (reason) => deaths.push(reason)
  const connected = connectGofer(gofer.client)
  if (typeof connected === 'number') throw new Error(`hello: ${connected}`)
  mounts = connected
})
afterEach(async () => {
  await gofer.stop()
  rmSync(dir, { recursive: true })
})

function ok<T extends object>(value: T | number): T {
  if (typeof value === 'number') throw new Error(`error ${value}`)
  return value
}

/** Walks names without the VFS. */
function find(sb: GoferSuperBlock, path: string): GoferInode {
  let inode: Inode = sb.root
  for (const name of path.split('/')) inode = ok(inode.lookup(name))
  return inode as GoferInode
}

function open(sb: GoferSuperBlock, inode: Inode, flags: number): FileDescription {
  const dentry = sb.rootDentry.add(`open-${inode.ino}`, inode)
  return ok(inode.open(T, new Path(new Mount(sb, sb.rootDentry, MS_NOATIME), dentry), flags))
}

function read(file: FileDescription): string {
  const buf = Buffer.alloc(100)
  return buf.toString('latin1', 0, file.read(T, new KernelIovIter(buf), 0) as number)
}
const write = (file: FileDescription, text: string, pos: number) =>
  file.write(T, new KernelIovIter(Buffer.from(text)), pos)

/** A number of the struct statx that the directory shows. */
function glanced(at: Inode, name: string, offset: number): number | undefined {
  const glance = at.glance(name)
  return glance?.view.getUint32(glance.at + offset, true)
}

describe('the gofer file system', () => {
  it('looks up, opens, reads and writes', () => {
    const sb = mounts.get(EXCLUSIVE)!
    const file = find(sb, 'a/b/file')
    expect([file.isReg, file.size, file.nlink]).toEqual([true, 5, 2])
    expect(find(sb, 'a/link').readlink(T)).toBe('b/file')
    expect(sb.root.lookup('nothing')).toBe(-ENOENT)
    const r = open(sb, file, O_RDONLY)
    expect(read(r)).toBe('hello')
    const w = open(sb, file, O_RDWR | O_APPEND)
    expect(write(w, ' world', 0)).toBe(6)
    expect(file.revalidate()).toBe(0)
    expect(file.size).toBe(11)
    expect(r.seek(T, 0, 2)).toBe(11)
    expect(read(r)).toBe('hello world')
    expect(w.truncate(2)).toBe(0)
    expect(readFileSync(host('a/hard'), 'latin1')).toBe('he')
    // A mapping that may not be written gets a descriptor that cannot be, whatever else is open.
    const modes = [r.mmapFd(false), w.mmapFd(false), w.mmapFd(true)].map((fd) => fcntl(fd, 3, 0) & 3)
    expect(modes).toEqual([0, 0, 2])
    r.unref()
    w.unref()
  })

  it('keeps one inode for the names of a file', () => {
    const sb = mounts.get(EXCLUSIVE)!
    const b = find(sb, 'a/b')
    const one = find(sb, 'a/b/file')
    const two = find(sb, 'a/hard')
    expect(two).toBe(one)
    expect(b.unlink('file', one)).toBe(0)
    expect(one.nlink).toBe(1)
    expect(one.path()).toBe('a/hard')
    expect(one.setattr({ ...NO_CHANGE, valid: ATTR_MODE, mode: 0o600 })).toBe(0)
    expect(statSync(host('a/hard')).mode & 0o777).toBe(0o600)
  })

  it('follows its own renames, also of directories above', () => {
    const sb = mounts.get(EXCLUSIVE)!
    const file = find(sb, 'a/b/file')
    const a = find(sb, 'a')
    expect(a).toBe(find(sb, 'a'))
    expect(sb.root.rename('a', a, sb.root, 'z', null, 0)).toBe(0)
    expect(file.path()).toBe('z/b/file')
    const fresh = ok(a.create('new', 0o100644, ROOT)) as GoferInode
    expect(existsSync(host('z/new'))).toBe(true)
    const before = ok(sb.root.create('other', 0o100600, ROOT)) as GoferInode
    expect(a.rename('new', fresh, sb.root, 'other', before, 0)).toBe(0)
    expect([before.nlink, before.path(), fresh.path()]).toEqual([0, null, 'other'])
    const d = ok(sb.root.mkdir('d', 0o40755, ROOT)) as GoferInode
    expect(sb.root.rename('d', d, sb.root, 'z', a, 2)).toBe(0)
    expect([d.path(), a.path(), file.path()]).toEqual(['z', 'd', 'd/b/file'])
  })

  it('serves files that have lost their names', () => {
    const sb = mounts.get(EXCLUSIVE)!
    const inode = ok(sb.root.create('gone', 0o100644, ROOT)) as GoferInode
    const file = open(sb, inode, O_RDWR)
    expect(sb.root.unlink('gone', inode)).toBe(0)
    expect(write(file, 'data', 0)).toBe(4)
    expect(read(file)).toBe('data')
    expect(inode.setattr({ ...NO_CHANGE, valid: ATTR_MODE, mode: 0o444 })).toBe(0)
    expect(inode.setattr({ ...NO_CHANGE, valid: ATTR_SIZE, size: 1 })).toBe(0)
    expect([inode.mode & 0o777, inode.size, inode.nlink]).toEqual([0o444, 1, 0])
    file.unref()
    const unnamed = ok(sb.root.tmpfile(0o100600, ROOT)) as GoferInode
    const f = open(sb, unnamed, O_RDWR)
    expect(write(f, 'x', 0)).toBe(1)
    if (process.getuid?.() === 0) {
      expect(sb.root.link('named', unnamed)).toBe(0)
      expect([readFileSync(host('named'), 'latin1'), unnamed.nlink]).toEqual(['x', 1])
    }
    f.unref()
  })

  it('prefetches a whole path, with the file open', async () => {
    const sb = mounts.get(EXCLUSIVE)!
    sb.prefetch(sb.rootDentry, ['a', 'b', 'file'], true)
    const a = sb.rootDentry.child('a')!
    const file = a.child('b')!.child('file')!.inode as GoferInode
    expect(file.size).toBe(5)
    sb.prefetch(a, ['nothing', 'below'])
    expect(a.child('nothing')!.inode).toBeNull()
    sb.prefetch(a, ['link', 'x'])
    expect((a.child('link')!.inode as GoferInode).linkTarget).toBe('b/file')
    gofer.child.kill('SIGKILL')
    await gofer.exited
    expect(file.hostFd(false)).toBeGreaterThan(0)
  })

  it('lists directories and remembers what it saw', async () => {
    const sb = mounts.get(EXCLUSIVE)!
    const a = find(sb, 'a')
    const names: string[] = []
    const file = open(sb, a, O_RDONLY)
    const out = { emit: (name: string) => names.push(name) > 0 }
    expect(file.readdir(T, out)).toBe(0)
    expect(names.sort()).toEqual(['.', '..', 'b', 'hard', 'link'])
    const again: string[] = []
    file.seek(T, 2, 0)
    file.readdir(T, { emit: (name: string) => again.length < 1 && again.push(name) > 0 })
    file.readdir(T, { emit: (name: string) => again.push(name) > 0 })
    expect(again.sort()).toEqual(['b', 'hard', 'link'])
    const byInode: string[] = []
    expect(a.readdir(T, 2, { emit: (name) => byInode.push(name) > 0 })).toBe(0)
    expect(byInode.length).toBe(3)
    const inode = ok(a.lookup('hard')) as GoferInode
    expect(inode.path()).toBe('a/hard')
    expect(inode.size).toBe(5)
    expect(a.lookup('nothing')).toBe(-ENOENT)
    expect(ok(a.lookup('hard'))).toBe(inode)
    // Who changes the mount behind our back is not seen at once, but soon.
    writeFileSync(host('a/sneaked'), '')
    expect(a.lookup('sneaked')).toBe(-ENOENT)
    const made = ok(a.create('made', 0o100644, ROOT)) as GoferInode
    expect(a.unlink('hard', inode)).toBe(0)
    expect(a.lookup('hard')).toBe(-ENOENT)
    expect(ok(a.lookup('made')).ino).toBe(made.ino)
    await new Promise((done) => setTimeout(done, 2100))
    expect(ok(a.lookup('sneaked'))).toBeTruthy()
    file.unref()
  })

  it('has what a tree walk will ask for next come along, and not what has changed since', async () => {
    const sb = mounts.get(EXCLUSIVE)!
    for (const d of ['one/deep', 'two/deep', 'three/deep', 'four']) mkdirSync(host(`a/${d}`), { recursive: true })
    writeFileSync(host('a/three/deep/file'), '123')
    const list = (inode: Inode) => {
      const seen: string[] = []
      expect(inode.readdir(T, 2, { emit: (name) => seen.push(name) > 0 })).toBe(0)
      return seen.sort().join(' ')
    }
    const look = (at: Inode, name: string) => ok(at.lookup(name)) as GoferInode
    const a = find(sb, 'a')
    const changed = find(sb, 'a/two/deep')
    expect(list(a)).toBe('b four hard link one three two')
    const one = look(a, 'one')
    expect(list(one)).toBe('deep')
    ok(changed.create('made', 0o100600, ROOT))
    // An object that was there before is asked for; so is a name that was made since.
    expect(list(look(look(a, 'two'), 'deep'))).toBe('made')
    ok(look(a, 'four').mkdir('new', 0o755, ROOT))
    expect(list(look(a, 'four'))).toBe('new')
    gofer.child.kill('SIGKILL')
    await gofer.exited
    expect(list(look(one, 'deep'))).toBe('')
    const three = look(a, 'three')
    expect(list(three)).toBe('deep')
    const deep = look(three, 'deep')
    expect(list(deep)).toBe('file')
    expect(look(deep, 'file').size).toBe(3)
    expect(deep.lookup('missing')).toBe(-ENOENT)
  })

  it('answers from a listing without the gofer, and not from an outdated record', async () => {
    const sb = mounts.get(EXCLUSIVE)!
    for (const name of ['quiet', 'truncated', 'written', 'moved']) writeFileSync(host(`a/b/${name}`), '12345')
    const b = find(sb, 'a/b')
    const look = (name: string) => ok(b.lookup(name)) as GoferInode
    const list = () => {
      const seen: string[] = []
      expect(b.readdir(T, 2, { emit: (name) => seen.push(name) > 0 })).toBe(0)
      return seen.sort()
    }
    expect(list()).toEqual(['file', 'moved', 'quiet', 'truncated', 'written'])
    expect(look('truncated').setattr({ ...NO_CHANGE, valid: ATTR_SIZE, size: 2 })).toBe(0)
    const writer = open(sb, look('written'), O_RDWR)
    expect(writer.write(T, new KernelIovIter(Buffer.from('123456789'), 0, 9), 0)).toBe(9)
    writer.unref()
    expect(b.rename('moved', look('moved'), b, 'there', null, 0)).toBe(0)
    const made = ok(b.mkdir('new', 0o755, ROOT)) as GoferInode
    expect(made.lookup('nothing')).toBe(-ENOENT)
    const inside = ok(made.create('inside', 0o100600, ROOT)) as GoferInode
    // Objects that only the cache held are made anew.
    expect(look('truncated').size).toBe(2)
    expect(look('written').size).toBe(9)
    expect(look('there').size).toBe(5)
    expect(b.lookup('moved')).toBe(-ENOENT)
    expect(ok(made.lookup('inside')).ino).toBe(inside.ino)
    expect(list()).toEqual(['file', 'new', 'quiet', 'there', 'truncated', 'written'])
    gofer.child.kill('SIGKILL')
    await gofer.exited
    expect(look('quiet').size).toBe(5)
    expect(b.lookup('nothing')).toBe(-ENOENT)
    expect(list()).toEqual(['file', 'new', 'quiet', 'there', 'truncated', 'written'])
    expect(look('there').size).toBe(5)
  })

  it('shows attributes at a glance, without an inode, while a listing is sure of them', () => {
    const sb = mounts.get(EXCLUSIVE)!
    for (const name of ['first', 'second', 'third']) writeFileSync(host(`a/b/${name}`), name)
    const b = find(sb, 'a/b')
    expect(b.glance('first')).toBeNull()
    expect(b.readdir(T, 2, { emit: () => true })).toBe(0)
    for (const name of ['second', 'third', 'first', 'first', 'third'])
      expect(glanced(b, name, STATX_OFFSET.size)).toBe(name.length)
    // Several names; a directory; no such file; another mount's listing, which others may outdate.
    expect(b.glance('file')).toBeNull()
    expect(find(sb, 'a').readdir(T, 2, { emit: () => true })).toBe(0)
    expect(find(sb, 'a').glance('b')).toBeNull()
    expect(glanced(find(sb, 'a'), 'link', STATX_OFFSET.mode)).toBe(0o120777)
    for (const name of ['', '.', '..', 'fir', 'firsts']) expect(b.glance(name)).toBeNull()
    const shared = find(mounts.get(SHARED)!, 'a/b')
    expect(shared.readdir(T, 2, { emit: () => true })).toBe(0)
    expect(shared.glance('first')).toBeNull()
    // Changed, moved, removed.
    const second = ok(b.lookup('second')) as GoferInode
    expect(second.setattr({ ...NO_CHANGE, valid: ATTR_MODE, mode: 0o600 })).toBe(0)
    expect(b.glance('second')).toBeNull()
    expect(b.rename('third', ok(b.lookup('third')), b, 'moved', null, 0)).toBe(0)
    expect(b.glance('third')).toBeNull()
    expect(b.glance('moved')).toBeNull()
    expect(b.unlink('first', ok(b.lookup('first')))).toBe(0)
    expect(b.glance('first')).toBeNull()
  })

  it('sees what others do to shared mounts', async () => {
    const sb = mounts.get(SHARED)!
    const a = find(sb, 'a')
    const dentry = sb.rootDentry.add('a', a)
    expect(sb.revalidate(dentry)).toBe(true)
    const negative = sb.rootDentry.add('later', null)
    const file = find(sb, 'a/b/file')
    writeFileSync(host('a/b/file'), 'longer than before')
    renameSync(host('a'), host('moved'))
    writeFileSync(host('later'), '')
    await new Promise((r) => setTimeout(r, 60))
    expect(sb.revalidate(dentry)).toBe(false)
    expect(sb.revalidate(negative)).toBe(false)
    const found = find(sb, 'moved/b/file')
    expect(found).toBe(file)
    expect(found.size).toBe(18)
    expect(a.path()).toBe('moved')
  })

  it('refuses to change a read-only mount', () => {
    const sb = mounts.get(READONLY)!
    expect(sb.readonly).toBe(true)
    expect(sb.root.create('x', 0o100644, ROOT)).toBe(-EROFS)
    expect(find(sb, 'a/b/file').hostFd(true)).toBe(-EROFS)
  })

  it('fails with EIO when the gofer is gone, tells once, and keeps what is open', async () => {
    const sb = mounts.get(EXCLUSIVE)!
    const inode = find(sb, 'a/b/file')
    const file = open(sb, inode, O_RDONLY)
    gofer.child.kill('SIGKILL')
    await gofer.exited
    expect(sb.root.lookup('a')).toBe(-EIO)
    expect(sb.root.create('x', 0o644, ROOT)).toBe(-EIO)
    expect(deaths).toHaveLength(1)
    expect(deaths[0]).toMatch(/connection|failed/)
    expect(read(file)).toBe('hello')
    file.unref()
  })

  it.runIf(process.getuid?.() === 0)('survives the copy that overlayfs makes at the first write', async () => {
    for (const d of ['lower', 'upper', 'work', 'merged']) mkdirSync(host(d))
    writeFileSync(host('lower/f'), 'old')
    const layers = `lowerdir=${host('lower')},upperdir=${host('upper')},workdir=${host('work')}`
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', layers, host('merged')])
    const other = startGofer([{ id: 0, source: host('merged'), shared: false }], true)
    try {
      const connected = connectGofer(other.client)
      if (typeof connected === 'number') throw new Error(`hello: ${connected}`)
      const sb = connected.get(0)!
      const inode = find(sb, 'f')
      const r = open(sb, inode, O_RDONLY)
      expect(read(r)).toBe('old')
      const before = r.mmapFd(false)
      const w = open(sb, inode, O_RDWR)
      expect(write(w, 'new', 0)).toBe(3)
      expect(read(r)).toBe('new')
      const buf = Buffer.alloc(3)
      expect(r.mmapFd(false)).not.toBe(before)
      expect(pread(r.mmapFd(false), buf, 3, 0)).toBe(3)
      expect(buf.toString()).toBe('new')
      expect(inode.setattr({ ...NO_CHANGE, valid: ATTR_MODE, mode: 0o600 })).toBe(0)
      expect(statSync(host('merged/f')).mode & 0o777).toBe(0o600)
      expect(sb.root.rename('f', inode, sb.root, 'g', null, 0)).toBe(0)
      expect(inode.revalidate()).toBe(0)
      r.unref()
      w.unref()
    } finally {
      await other.stop()
      execFileSync('umount', [host('merged')])
    }
  })
})
