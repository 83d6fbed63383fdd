/**
 * stat(2), statx(2), statfs(2), access(2) (Linux: fs/stat.c, fs/statfs.c).
 */
import { STATX_OFFSET } from '../native/host-files.ts'
import { EACCES, EBADF, EFAULT, EINVAL, EROFS } from '../sentry/abi/errno.ts'
import {
  AT_EACCESS,
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_STATX_SYNC_TYPE,
  AT_SYMLINK_NOFOLLOW,
} from '../sentry/abi/fcntl.ts'
import { CAPS_NONE, type Credentials } from '../sentry/kernel/credentials.ts'
import { maySettleLater, tellOpened } from '../sentry/kernel/opened-file.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import type { FileDescription } from '../sentry/vfs/file-description.ts'
import {
  devMajor,
  devMinor,
  type Glance,
  type Inode,
  makeDev,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type StatFs,
} from '../sentry/vfs/inode.ts'
import {
  type Mount,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_NOSYMFOLLOW,
  MS_RELATIME,
} from '../sentry/vfs/mount.ts'
import type { Path } from '../sentry/vfs/path.ts'
import { glanceAt, LOOKUP_EMPTY, LOOKUP_FOLLOW, walkAt } from '../sentry/vfs/path-walk.ts'
import { MAY_EXEC, MAY_WRITE, permissionFor } from '../sentry/vfs/permission.ts'

const TWO32 = 0x1_0000_0000
const hi = (n: number): number => Math.floor(n / TWO32)

/** struct stat and struct statx, reused. */
const BUF = new Uint8Array(256)
/** A whole buffer is copied out without making a view first. */
const STAT = BUF.subarray(0, 144)
const WORDS = new Uint32Array(BUF.buffer)
const HALVES = new Uint16Array(BUF.buffer)

function put64(word: number, value: number): void {
  WORDS[word] = value
  WORDS[word + 1] = hi(value)
}

/** struct stat of the inode, until the next one's. 0 or −errno. */
function fillStat(inode: Inode): number {
  const err = inode.revalidate()
  if (err < 0) return err
  put64(0, inode.sb.dev)
  put64(2, inode.ino)
  put64(4, inode.nlink)
  WORDS[6] = inode.mode
  WORDS[7] = inode.uid
  WORDS[8] = inode.gid
  WORDS[9] = 0
  put64(10, inode.rdev)
  put64(12, inode.size)
  put64(14, inode.blksize)
  put64(16, inode.blocks)
  put64(18, inode.atimeSec)
  put64(20, inode.atimeNsec)
  put64(22, inode.mtimeSec)
  put64(24, inode.mtimeNsec)
  put64(26, inode.ctimeSec)
  put64(28, inode.ctimeNsec)
  WORDS.fill(0, 30, 36)
  return 0
}

function copyStat(t: Task, addr: number): SysRet {
  return t.copyOut(addr, STAT, 0, 144) === 144 ? 0 : -EFAULT
}

function writeStat(t: Task, addr: number, inode: Inode): SysRet {
  const err = fillStat(inode)
  if (err < 0) return err
  return copyStat(t, addr)
}

/** Whoever opens a file mostly asks next what it is, reads it and closes it: the answers go along. */
export function statOpened(t: Task, fd: number, file: FileDescription): void {
  if (maySettleLater(t, file) && fillStat(file.inode) === 0) tellOpened(t, fd, file, WORDS)
}

/** struct stat out of a struct statx. */
function fillGlance({ view, at, ino, dev }: Glance): void {
  put64(0, dev)
  put64(2, ino)
  put64(4, view.getUint32(at + STATX_OFFSET.nlink, true))
  WORDS[6] = view.getUint16(at + STATX_OFFSET.mode, true)
  WORDS[7] = view.getUint32(at + STATX_OFFSET.uid, true)
  WORDS[8] = view.getUint32(at + STATX_OFFSET.gid, true)
  WORDS[9] = 0
  const major = view.getUint32(at + STATX_OFFSET.rdevMajor, true)
  put64(10, makeDev(major, view.getUint32(at + STATX_OFFSET.rdevMinor, true)))
  copy64(12, view, at + STATX_OFFSET.size)
  put64(14, view.getUint32(at + STATX_OFFSET.blksize, true))
  copy64(16, view, at + STATX_OFFSET.blocks)
  copyTime(18, view, at + STATX_OFFSET.atime)
  copyTime(22, view, at + STATX_OFFSET.mtime)
  copyTime(26, view, at + STATX_OFFSET.ctime)
  WORDS.fill(0, 30, 36)
}
function copy64(word: number, view: DataView, at: number): void {
  WORDS[word] = view.getUint32(at, true)
  WORDS[word + 1] = view.getUint32(at + 4, true)
}
function copyTime(word: number, view: DataView, at: number): void {
  copy64(word, view, at)
  put64(word + 2, view.getUint32(at + 8, true))
}
const isLink = ({ view, at }: Glance): boolean => (view.getUint16(at + STATX_OFFSET.mode, true) & S_IFMT) === S_IFLNK

function statAt(t: Task, dirfd: number, name: string, flags: number, out: number): SysRet {
  const glance = glanceAt(t, dirfd, name)
  if (glance === null || ((flags & LOOKUP_FOLLOW) !== 0 && isLink(glance))) {
    const path = walkAt(t, dirfd, name, flags)
    return typeof path === 'number' ? path : writeStat(t, out, path.inode)
  }
  fillGlance(glance)
  return copyStat(t, out)
}

function statPath(t: Task, nameAddr: number, out: number, flags: number): SysRet {
  const name = t.readPath(nameAddr)
  if (typeof name === 'number') return name
  return statAt(t, AT_FDCWD, name, flags, out)
}

export function sysStat(t: Task): SysRet {
  return statPath(t, t.argPtr(0), t.argPtr(1), LOOKUP_FOLLOW)
}
export function sysLstat(t: Task): SysRet {
  return statPath(t, t.argPtr(0), t.argPtr(1), 0)
}
export function sysFstat(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  return file === undefined ? -EBADF : writeStat(t, t.argPtr(1), file.inode)
}

/** newfstatat(2): glibc's fstat is this one with an empty path. */
export function sysNewfstatat(t: Task): SysRet {
  const flags = t.argI32(3)
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)) !== 0) return -EINVAL
  const name = t.readPath(t.argPtr(1))
  if (typeof name === 'number') return name
  const dirfd = t.argI32(0)
  if (name.length === 0 && (flags & AT_EMPTY_PATH) !== 0 && dirfd !== AT_FDCWD) {
    const file = t.fds.get(dirfd)
    return file === undefined ? -EBADF : writeStat(t, t.argPtr(2), file.inode)
  }
  const lookup =
    ((flags & AT_SYMLINK_NOFOLLOW) === 0 ? LOOKUP_FOLLOW : 0) | ((flags & AT_EMPTY_PATH) !== 0 ? LOOKUP_EMPTY : 0)
  return statAt(t, dirfd, name, lookup, t.argPtr(2))
}

const STATX_BASIC_STATS = 0x7ff
const STATX_BTIME = 0x800
const STATX_MNT_ID = 0x1000
const STATX_RESERVED = 0x80000000
const STATX_ATTR_MOUNT_ROOT = 0x2000

/** statx(2). */
export function sysStatx(t: Task): SysRet {
  const flags = t.argU32(2)
  const mask = t.argU32(3)
  if ((mask & STATX_RESERVED) !== 0) return -EINVAL
  if ((flags & AT_STATX_SYNC_TYPE) === AT_STATX_SYNC_TYPE) return -EINVAL
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)) !== 0) return -EINVAL
  const name = t.readPath(t.argPtr(1))
  if (typeof name === 'number') return name
  const dirfd = t.argI32(0)
  let inode: Inode
  let mount: Mount | null
  let isRoot = false
  if (name.length === 0 && (flags & AT_EMPTY_PATH) !== 0 && dirfd !== AT_FDCWD) {
    const file = t.fds.get(dirfd)
    if (file === undefined) return -EBADF
    inode = file.inode
    mount = file.path === null ? null : file.path.mount
    isRoot = file.path !== null && file.path.dentry === file.path.mount.root
  } else {
    const lookup =
      ((flags & AT_SYMLINK_NOFOLLOW) === 0 ? LOOKUP_FOLLOW : 0) | ((flags & AT_EMPTY_PATH) !== 0 ? LOOKUP_EMPTY : 0)
    const path = walkAt(t, dirfd, name, lookup)
    if (typeof path === 'number') return path
    inode = path.inode
    mount = path.mount
    isRoot = path.dentry === path.mount.root
  }
  const err = inode.revalidate()
  if (err < 0) return err
  WORDS.fill(0)
  const hasBtime = inode.btimeSec !== 0
  WORDS[0] = STATX_BASIC_STATS | (hasBtime ? STATX_BTIME : 0) | STATX_MNT_ID
  WORDS[1] = inode.blksize
  WORDS[2] = isRoot ? STATX_ATTR_MOUNT_ROOT : 0
  WORDS[4] = inode.nlink
  WORDS[5] = inode.uid
  WORDS[6] = inode.gid
  HALVES[14] = inode.mode
  put64(8, inode.ino)
  put64(10, inode.size)
  put64(12, inode.blocks)
  WORDS[14] = STATX_ATTR_MOUNT_ROOT
  putTime(16, inode.atimeSec, inode.atimeNsec)
  if (hasBtime) putTime(20, inode.btimeSec, inode.btimeNsec)
  putTime(24, inode.ctimeSec, inode.ctimeNsec)
  putTime(28, inode.mtimeSec, inode.mtimeNsec)
  WORDS[32] = devMajor(inode.rdev)
  WORDS[33] = devMinor(inode.rdev)
  WORDS[34] = devMajor(inode.sb.dev)
  WORDS[35] = devMinor(inode.sb.dev)
  put64(36, mount === null ? 0 : mount.id)
  return t.copyOut(t.argPtr(4), BUF, 0, 256) === 256 ? 0 : -EFAULT
}

function putTime(word: number, sec: number, nsec: number): void {
  put64(word, sec)
  WORDS[word + 2] = nsec
}

const FS: StatFs = {
  type: 0,
  bsize: 0,
  blocks: 0,
  bfree: 0,
  bavail: 0,
  files: 0,
  ffree: 0,
  namelen: 0,
  frsize: 0,
  flags: 0,
}
const ST_VALID = 0x20

function writeStatfs(t: Task, addr: number, inode: Inode, mount: Mount | null): SysRet {
  FS.type = FS.blocks = FS.bfree = FS.bavail = FS.files = FS.ffree = FS.flags = 0
  FS.bsize = FS.frsize = 4096
  FS.namelen = 255
  const err = inode.sb.statfs(FS)
  if (err < 0) return err
  put64(0, FS.type)
  put64(2, FS.bsize)
  put64(4, FS.blocks)
  put64(6, FS.bfree)
  put64(8, FS.bavail)
  put64(10, FS.files)
  put64(12, FS.ffree)
  WORDS[14] = inode.sb.dev
  WORDS[15] = 0
  put64(16, FS.namelen)
  put64(18, FS.frsize === 0 ? FS.bsize : FS.frsize)
  put64(20, ST_VALID | (mount === null ? 0 : statfsFlags(mount)))
  WORDS.fill(0, 22, 30)
  return t.copyOut(addr, BUF, 0, 120) === 120 ? 0 : -EFAULT
}

function statfsFlags(m: Mount): number {
  return (
    (m.readonly ? 1 : 0) |
    (m.flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME)) |
    ((m.flags & MS_RELATIME) !== 0 ? 4096 : 0) |
    ((m.flags & MS_NOSYMFOLLOW) !== 0 ? 0x2000 : 0)
  )
}

export function sysStatfs(t: Task): SysRet {
  const name = t.readPath(t.argPtr(0))
  if (typeof name === 'number') return name
  const path = walkAt(t, AT_FDCWD, name, LOOKUP_FOLLOW)
  return typeof path === 'number' ? path : writeStatfs(t, t.argPtr(1), path.inode, path.mount)
}
export function sysFstatfs(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  return writeStatfs(t, t.argPtr(1), file.inode, file.path === null ? null : file.path.mount)
}

/** access(2) asks as the real ids, with the capabilities that those would have. */
function realCredentials(c: Credentials): Credentials {
  if (c.fsuid === c.uid && c.fsgid === c.gid && (c.uid === 0 || (c.effective.lo === 0 && c.effective.hi === 0)))
    return c
  return c.with({ fsuid: c.uid, fsgid: c.gid, effective: c.uid === 0 ? c.permitted : CAPS_NONE })
}

function access(t: Task, dirfd: number, nameAddr: number, mode: number, flags: number): SysRet {
  if ((mode & ~7) !== 0) return -EINVAL
  if ((flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) !== 0) return -EINVAL
  const name = t.readPath(nameAddr)
  if (typeof name === 'number') return name
  const saved = t.creds
  const creds = (flags & AT_EACCESS) !== 0 ? saved : realCredentials(saved)
  const lookup =
    ((flags & AT_SYMLINK_NOFOLLOW) === 0 ? LOOKUP_FOLLOW : 0) | ((flags & AT_EMPTY_PATH) !== 0 ? LOOKUP_EMPTY : 0)
  // The walk's directories are searched with the same ids.
  if (creds !== saved) t.creds = creds
  const path = walkAt(t, dirfd, name, lookup)
  if (creds !== saved) t.creds = saved
  return typeof path === 'number' ? path : accessPath(t, creds, path, mode)
}

function accessPath(t: Task, creds: Credentials, path: Path, mode: number): SysRet {
  const inode = path.inode
  const type = inode.mode & S_IFMT
  if ((mode & MAY_EXEC) !== 0 && type === S_IFREG && (path.mount.flags & MS_NOEXEC) !== 0) return -EACCES
  inode.revalidate()
  const err = mode === 0 ? 0 : permissionFor(t, creds, inode, mode)
  if (err !== 0) return err
  if ((mode & MAY_WRITE) !== 0 && path.mount.readonly && (type === S_IFREG || type === S_IFDIR || inode.isSymlink))
    return -EROFS
  return 0
}

export function sysAccess(t: Task): SysRet {
  return access(t, AT_FDCWD, t.argPtr(0), t.argI32(1), 0)
}
export function sysFaccessat(t: Task): SysRet {
  return access(t, t.argI32(0), t.argPtr(1), t.argI32(2), 0)
}
export function sysFaccessat2(t: Task): SysRet {
  return access(t, t.argI32(0), t.argPtr(1), t.argI32(2), t.argI32(3))
}
