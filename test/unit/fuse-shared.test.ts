/**
 * The FUSE front end on a mount that others change, too: nothing that it answers stays valid, files are opened and closed
 * by the guest, and locks are held towards the host.
 */
import { spawnSync } from 'node:child_process'
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import * as wire from '../../gofer/fuse/wire.ts'
import { EAGAIN, EBADF, EEXIST, EINTR, EINVAL, EISDIR, ELOOP, ENOENT, ENXIO, EROFS } from '../../sentry/abi/errno.ts'
import {
  type Attributes,
  type Entry,
  type FuseClient,
  type FuseGofer,
  startFuse,
  u32,
  u64,
} from '../support/fuse-client.ts'
import { stopsCleanly } from '../support/gofer-child.ts'

const ROOT = wire.ROOT_NODE
const [READ, WRITE, NONE] = [0, 1, 2]
const [O_RDONLY, O_WRONLY, O_RDWR, O_EXCL, O_TRUNC, O_APPEND] = [0, 1, 2, 0o200, 0o1000, 0o2000]

/** Who holds a lock of the file that another process of the host wants: 'free' or 'taken'. */
function askHost(file: string): string {
  const program = `import fcntl,sys
f=open(sys.argv[1],'r+')
try: fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB); print('free')
except OSError: print('taken')`
  return spawnSync('python3', ['-c', program, file], { encoding: 'utf8' }).stdout.trim()
}
const havePython = spawnSync('python3', ['-c', '']).status === 0

describe('a shared mount', () => {
  let dir: string
  let gofer: FuseGofer
  let c: FuseClient
  let ro: FuseClient
  let single: FuseClient
  const at = (p: string) => join(dir, 'root', p)
  const file = (name: string, text: string) => {
    writeFileSync(at(name), text)
    return c.find(ROOT, name)
  }

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'fuse-shared-'))
    for (const d of ['root', 'readonly']) mkdirSync(join(dir, d))
    writeFileSync(join(dir, 'readonly/file'), 'fixed')
    writeFileSync(join(dir, 'single'), 'one file')
    const confined = process.getuid!() === 0
    gofer = startFuse(
      [
        { id: 0, source: join(dir, 'root') },
        { id: 1, source: join(dir, 'readonly'), readonly: true },
        { id: 2, source: join(dir, 'single'), kind: 'file' },
      ],
      confined,
    )
    ;[c, ro, single] = gofer.clients as [FuseClient, FuseClient, FuseClient]
    for (const client of gofer.clients) Object.assign(client, { uid: process.getuid!(), gid: process.getgid!() })
  })
  afterAll(async () => {
    await stopsCleanly(gofer)
    rmSync(dir, { recursive: true })
  })
  beforeEach(() => {
    for (const name of readdirSync(at(''))) rmSync(at(name), { recursive: true })
    for (const client of gofer.clients) expect(client.init()).toBeGreaterThan(0)
  })

  it('keeps nothing valid', () => {
    const flags = c.init()
    expect(flags & (wire.INIT_WRITEBACK_CACHE | wire.INIT_DO_READDIRPLUS | wire.INIT_CACHE_SYMLINKS)).toBe(0)
    expect(flags & wire.INIT_AUTO_INVAL_DATA).not.toBe(0)
    expect(c.lookup(ROOT, 'a')).toBe(-ENOENT)
    file('a', 'x')
    expect((c.lookup(ROOT, 'a') as Entry).valid).toBe(0)
    // Others may do without opening messages, but they are not needed.
    expect(c.init(37, 1)).toBe(1)
  })

  it('opens and closes', () => {
    const node = file('a', 'text')
    const r = c.open(node, O_RDONLY)
    const w = c.open(node, O_WRONLY)
    expect(c.read(node, 0, 9, r).toString()).toBe('text')
    expect(c.write(node, 0, 'T', 0, w)).toBe(1)
    expect(c.write(node, 0, 'T', 0, r)).toBe(-EBADF)
    expect(c.read(node, 0, 9, w)).toBe(-EBADF)
    expect(c.read(node, 0, 9)).toBe(-EBADF)
    expect(c.read(ROOT, 0, 9, r)).toBe(-EBADF)
    expect(c.setattr(node, wire.FATTR_SIZE, { size: 2 })).toMatchObject({ size: 2 })
    expect(c.release(node, r)).toBe(0)
    expect(c.read(node, 0, 9, r)).toBe(-EBADF)
    expect(c.release(node, r)).toBe(0)
    const t = c.open(node, O_RDWR | O_TRUNC)
    expect(statSync(at('a')).size).toBe(0)
    expect([c.release(node, t), c.release(node, w)]).toEqual([0, 0])
    expect(c.open(ROOT, O_RDONLY)).toBe(-EISDIR)
    expect(c.open(node, 3)).toBe(-EINVAL)
    symlinkSync('a', at('l'))
    expect(c.open(c.find(ROOT, 'l'), O_RDONLY)).toBe(-ELOOP)
    expect(c.open((c.mknod(ROOT, 'p', 0o010600) as Entry).node, O_RDWR)).toBe(-ENXIO)
    expect(c.call(wire.OPENDIR, ROOT, u32(0), u32(0))).toBe(0)
    expect(c.call(wire.RELEASEDIR, ROOT, u64(0), u32(0), u32(0), u64(0))).toBe(0)
    const made = c.create(ROOT, 'new', 0o600) as Entry
    const handle = c.created
    expect(c.write(made.node, 0, 'new', 0, handle)).toBe(3)
    expect(readFileSync(at('new'), 'utf8')).toBe('new')
    // Somebody else made it.
    expect(c.create(ROOT, 'a', 0o600, O_RDWR | O_EXCL)).toBe(-EEXIST)
    expect(c.create(ROOT, 'new', 0o600, O_RDWR | O_TRUNC)).toMatchObject({ node: made.node, attributes: { size: 0 } })
    expect(c.open(made.node, O_RDONLY)).toBeGreaterThan(0)
  })

  it('keeps what is open when others rename and remove it', () => {
    const node = file('a', 'text')
    const handle = c.open(node, O_RDWR)
    renameSync(at('a'), at('b'))
    expect(c.getattr(node)).toMatchObject({ size: 4, nlink: 1 })
    writeFileSync(at('a'), 'other')
    expect(c.find(ROOT, 'a')).not.toBe(node)
    rmSync(at('b'))
    expect(c.getattr(node)).toMatchObject({ size: 4, nlink: 0 })
    expect(c.read(node, 0, 9, handle).toString()).toBe('text')
    expect(c.setattr(node, wire.FATTR_SIZE | wire.FATTR_HANDLE, { size: 1 })).toBe(-EBADF)
    expect(c.setattr(node, wire.FATTR_SIZE, { size: 1 })).toMatchObject({ size: 1 })
    c.forget(node, 1)
    expect(c.release(node, handle)).toBeLessThanOrEqual(0)
    // Renamed, it is found by its new name.
    const other = c.find(ROOT, 'a')
    renameSync(at('a'), at('c'))
    expect(c.find(ROOT, 'a')).toBe(-ENOENT)
    expect(c.find(ROOT, 'c')).toBe(other)
    expect(c.getattr(other)).toMatchObject({ size: 5 })
  })

  it('appends where the file ends by then', () => {
    const node = file('log', 'one\n')
    const handle = c.open(node, O_WRONLY | O_APPEND)
    appendFileSync(at('log'), 'two\n')
    expect(c.write(node, 4, 'three\n', 0, handle, O_APPEND)).toBe(6)
    expect(readFileSync(at('log'), 'utf8')).toBe('one\ntwo\nthree\n')
    // Pages of a mapping have their places.
    expect(c.write(node, 0, 'ONE', wire.WRITE_CACHE, handle, O_APPEND)).toBe(3)
    expect(readFileSync(at('log'), 'utf8')).toBe('ONE\ntwo\nthree\n')
  })

  it('distrusts the time of what has just been written', () => {
    const node = file('a', 'x')
    const times = [0, 1, 2].map(() => (c.getattr(node, wire.GETATTR_HANDLE) as Attributes).mtimeNs)
    expect(new Set(times).size).toBe(3)
    const shown = [0, 1].map(() => (c.getattr(node) as Attributes).mtimeNs)
    expect(shown[0]).toBe(shown[1])
    expect(times).not.toContain(shown[0])
    utimesSync(at('a'), 1e9, 1e9)
    for (const flags of [0, wire.GETATTR_HANDLE]) {
      expect(c.getattr(node, flags)).toMatchObject({ mtime: 1e9, mtimeNs: 0 })
    }
  })

  it('refuses to open for writing what is read-only', () => {
    const node = ro.find(ROOT, 'file')
    for (const flags of [O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC]) expect(ro.open(node, flags)).toBe(-EROFS)
    const handle = ro.open(node, O_RDONLY)
    expect(ro.read(node, 0, 9, handle).toString()).toBe('fixed')
    expect(ro.setlk(node, { handle, owner: 1, type: READ })).toBe(0)
    expect(ro.setlk(node, { handle, owner: 1, type: WRITE })).toBe(0)
  })

  it('serves a single file', () => {
    expect(single.getattr(ROOT)).toMatchObject({ size: 8, mode: statSync(join(dir, 'single')).mode })
    const handle = single.open(ROOT, O_RDWR)
    expect(single.read(ROOT, 0, 99, handle).toString()).toBe('one file')
    expect(single.write(ROOT, 0, 'One', 0, handle)).toBe(3)
    expect(readFileSync(join(dir, 'single'), 'utf8')).toBe('One file')
    expect(single.lookup(ROOT, 'x')).toBeLessThan(0)
    expect(single.create(ROOT, 'x', 0o600)).toBeLessThan(0)
    expect(single.list(ROOT)).toBeLessThan(0)
    expect(single.release(ROOT, handle)).toBe(0)
    expect(single.getattr(ROOT)).toMatchObject({ size: 8 })
  })

  describe('locks', () => {
    let node: number
    let handle: number
    beforeEach(() => {
      node = file('lock', 'x'.repeat(100))
      handle = c.open(node, O_RDWR)
    })

    it('keep processes of the guest apart', () => {
      expect(c.setlk(node, { handle, owner: 1, type: WRITE, start: 0, last: 9 })).toBe(0)
      expect(c.setlk(node, { handle, owner: 2, type: READ, start: 9, last: 20 })).toBe(-EAGAIN)
      expect(c.setlk(node, { handle, owner: 2, type: READ, start: 10, last: 20 })).toBe(0)
      expect(c.setlk(node, { handle, owner: 3, type: READ, start: 15, last: 30 })).toBe(0)
      expect(c.getlk(node, { handle, owner: 3, type: READ, start: 5 })).toEqual({
        start: 0,
        last: 9n,
        type: WRITE,
        pid: 1,
      })
      const free = { start: 50, last: 0x7fff_ffff_ffff_ffffn, type: NONE, pid: 0 }
      expect(c.getlk(node, { handle, owner: 3, type: WRITE, start: 50 })).toEqual(free)
      // flock(2) is another kind.
      expect(c.setlk(node, { handle, owner: 7, type: WRITE, flock: true })).toBe(0)
      expect(c.setlk(node, { handle, owner: 8, type: READ, flock: true })).toBe(-EAGAIN)
      // close(2) by the first ends what it holds; the others keep theirs.
      expect(c.flush(node, handle, 1)).toBe(0)
      expect(c.setlk(node, { handle, owner: 2, type: WRITE, start: 0, last: 14 })).toBe(0)
      expect(c.setlk(node, { handle, owner: 2, type: WRITE, start: 0, last: 20 })).toBe(-EAGAIN)
      expect(c.setlk(node, { handle, owner: 3, type: NONE })).toBe(0)
      expect(c.setlk(node, { handle, owner: 2, type: WRITE })).toBe(0)
      expect(c.release(node, c.open(node, O_RDWR), 7)).toBe(0)
      expect(c.setlk(node, { handle, owner: 8, type: READ, flock: true })).toBe(0)
    })

    it('wait until they can be had, or somebody interrupts', () => {
      expect(c.setlk(node, { handle, owner: 1, type: WRITE })).toBe(0)
      const second = c.waitFor(node, { handle, owner: 2, type: WRITE })
      const third = c.waitFor(node, { handle, owner: 3, type: READ, start: 5, last: 5 })
      expect(c.getattr(node)).toMatchObject({ size: 100 })
      c.interrupt(12345)
      c.interrupt(third)
      expect(c.next()).toEqual([third, -EINTR])
      c.tell(wire.SETLK, node, u64(handle), u64(1), u64(0), u64(99), u32(NONE), u32(1), u32(0), u32(0))
      expect(c.next()[1]).toBe(0)
      c.tell(wire.FLUSH, node, u64(handle), u64(0), u64(1))
      expect([c.next()[1], c.next()]).toEqual([0, [second, 0]])
      c.interrupt(second)
      expect(c.getattr(node)).toMatchObject({ size: 100 })
    })

    it.skipIf(!havePython)('are seen by the host, and theirs here', () => {
      expect(askHost(at('lock'))).toBe('free')
      expect(c.setlk(node, { handle, owner: 1, type: READ })).toBe(0)
      expect(askHost(at('lock'))).toBe('taken')
      expect(c.setlk(node, { handle, owner: 2, type: READ, flock: true })).toBe(0)
      expect(c.flush(node, handle, 1)).toBe(0)
      expect(askHost(at('lock'))).toBe('taken')
      expect(c.setlk(node, { handle, owner: 2, type: NONE, flock: true })).toBe(0)
      expect(askHost(at('lock'))).toBe('free')
      const marker = join(dir, 'taken')
      const program = `import fcntl,os,sys,time
f=open(sys.argv[1],'r+'); fcntl.lockf(f,fcntl.LOCK_EX); open(sys.argv[2],'w')
while os.path.exists(sys.argv[2]): time.sleep(0.02)`
      spawnSync('sh', ['-c', `python3 -c "$0" "$1" "$2" >/dev/null 2>&1 &`, program, at('lock'), marker])
      while (!existsSync(marker)) spawnSync('sleep', ['0.02'])
      expect(c.setlk(node, { handle, owner: 1, type: READ })).toBe(-EAGAIN)
      expect(c.getlk(node, { handle, owner: 1, type: READ })).toMatchObject({ type: WRITE })
      // No message comes when the host lets go.
      const waiting = c.waitFor(node, { handle, owner: 1, type: WRITE })
      expect(c.getattr(node)).toMatchObject({ size: 100 })
      rmSync(marker)
      expect(c.next()).toEqual([waiting, 0])
    })

    it('are few, and malformed ones none', () => {
      expect(c.setlk(node, { handle: 99, owner: 1, type: READ })).toBe(-EBADF)
      expect(c.setlk(node, { handle, owner: 1, type: 3 })).toBe(-EINVAL)
      expect(c.setlk(node, { handle, owner: 1, type: READ, start: 9, last: 8 })).toBe(-EINVAL)
      expect(c.setlk(node, { handle, owner: 1, type: READ, start: 2 ** 60 })).toBe(-EINVAL)
      expect(c.setlk(node, { handle, owner: 1, type: WRITE })).toBe(0)
      const waiting = new Set<number>()
      let refused = 0
      for (let i = 0; i < 200; i++) waiting.add(c.waitFor(node, { handle, owner: 2 + i, type: WRITE }))
      for (let i = 0; i < 72; i++) {
        const [unique, error] = c.next()
        expect(waiting.delete(unique)).toBe(true)
        if (error !== 0) refused++
      }
      expect(refused).toBe(72)
      // All that wait get it, one after the other.
      for (const unique of waiting) {
        c.interrupt(unique)
        expect(c.next()).toEqual([unique, -EINTR])
      }
      let made = 0
      for (; made < 5000; made++)
        if (c.setlk(node, { handle, owner: 1, type: WRITE, start: made * 2, last: made * 2 }) < 0) break
      // Each cuts one range in two.
      expect(made).toBe(2048)
    })
  })

  it('closes all when it begins anew', () => {
    const fds = () => readdirSync(`/proc/${gofer.child.pid}/fd`).length
    const before = fds()
    const node = file('a', 'x')
    for (let i = 0; i < 50; i++) c.setlk(node, { handle: c.open(node, O_RDWR), owner: i, type: READ })
    expect(fds()).toBeGreaterThan(before + 50)
    expect(c.init()).toBeGreaterThan(0)
    expect(fds()).toBe(before)
    closeSync(openSync(at('a'), 'r'))
  })
})
