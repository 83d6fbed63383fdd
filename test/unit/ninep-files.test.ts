/**
 * The 9P front end's messages about files: attributes, contents, extended attributes, locks. As ninep-messages.test.ts.
 */
import { spawn } from 'node:child_process'
import { lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import * as wire from '../../gofer/ninep/wire.ts'
import {
  EBADF,
  EEXIST,
  EFBIG,
  EINVAL,
  EISDIR,
  ELOOP,
  ENODATA,
  ENOTDIR,
  ENXIO,
  EOPNOTSUPP,
  EPERM,
  EPROTO,
  ERANGE,
} from '../../sentry/abi/errno.ts'
import type { Attributes, NinepClient } from '../support/ninep-client.ts'
import { describeMounts, isRoot, MSIZE } from '../support/ninep-mounts.ts'

const O_RDWR = 2
const O_EXCL = 0o200
const O_CREAT = 0o100
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
const uid = process.getuid!()
const gid = process.getgid!()

let c: NinepClient
let other: NinepClient
let at: (name: string) => string

describeMounts(
  (mounts) => {
    at = mounts.at
    c = mounts.clients[0]!
    other = mounts.clients[1]!
  },
  () => {
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
  },
)
