/**
 * open(2) from name to file description (Linux: path_openat, may_open, do_dentry_open).
 */
import { EACCES, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, EOPNOTSUPP, EPERM, ETXTBSY } from '../abi/errno.ts'
import {
  O_ACCMODE,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_LARGEFILE,
  O_NOATIME,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_TMPFILE,
  O_TRUNC,
} from '../abi/fcntl.ts'
import type { Task } from '../kernel/task.ts'
import { truncateInode } from './attributes.ts'
import { Dentry } from './dentry.ts'
import { dropUnusedDentries } from './dentry-cache.ts'
import type { FileDescription } from './file-description.ts'
import { fsnotify, fsnotifyName, IN_CREATE, IN_OPEN } from './fsnotify.ts'
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from './inode.ts'
import { breakLeases } from './leases.ts'
import { MS_NODEV, MS_NOEXEC } from './mount.ts'
import { Path } from './path.ts'
import { PathDescription } from './path-description.ts'
import {
  LAST_DOTDOT,
  LAST_NORM,
  LOOKUP_DIRECTORY,
  LOOKUP_FOLLOW,
  LOOKUP_OPEN,
  lookupChild,
  ND,
  walkAt,
} from './path-walk.ts'
import { MAY_EXEC, MAY_READ, MAY_WRITE, ownerOrCapable, permission, wantWrite } from './permission.ts'

/** __O_TMPFILE: the bit of O_TMPFILE that is not O_DIRECTORY. */
const TMPFILE_BIT = O_TMPFILE & ~O_DIRECTORY
const PATH_FLAGS = O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC
/** What a description does not keep. O_NOCTTY is dropped after the open, which terminals look at. */
const CREATION_FLAGS = O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC

const ACCESS_OF_MODE = [MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE]

/**
 * Opens `name`; `mode` counts with O_CREAT and O_TMPFILE, `lookup` holds the LOOKUP_* of openat2(2). A description with
 * one reference, −errno, or BLOCK (a FIFO without its other end).
 */
export function openAt(
  t: Task,
  dirfd: number,
  name: string,
  flags: number,
  mode: number,
  lookup = 0,
): FileDescription | number {
  if ((flags & O_PATH) !== 0) flags &= PATH_FLAGS
  flags |= O_LARGEFILE
  if ((flags & (O_CREAT | O_DIRECTORY)) === (O_CREAT | O_DIRECTORY)) return -EINVAL
  if ((flags & TMPFILE_BIT) !== 0) {
    if ((flags & O_DIRECTORY) === 0 || (flags & O_ACCMODE) === O_RDONLY) return -EINVAL
    return openTmpfile(t, dirfd, name, flags, mode, lookup)
  }
  if ((flags & O_CREAT) !== 0) return openCreate(t, dirfd, name, flags, mode, lookup)
  if ((flags & O_NOFOLLOW) === 0) lookup |= LOOKUP_FOLLOW
  if ((flags & O_DIRECTORY) !== 0) lookup |= LOOKUP_DIRECTORY
  else if ((flags & (O_ACCMODE | O_PATH)) === O_RDONLY) lookup |= LOOKUP_OPEN
  const path = walkAt(t, dirfd, name, lookup)
  if (typeof path === 'number') return path
  return openPath(t, path, flags)
}

function openCreate(
  t: Task,
  dirfd: number,
  name: string,
  flags: number,
  mode: number,
  lookup: number,
): FileDescription | number {
  dropUnusedDentries()
  const started = ND.start(t, dirfd, name, lookup)
  if (started !== 0) return started
  for (let rest = name; ; ) {
    const err = ND.walk(rest, true)
    if (err !== 0) return err
    if (ND.lastType !== LAST_NORM) {
      if ((flags & O_EXCL) !== 0) return -EEXIST
      if (ND.lastType === LAST_DOTDOT) {
        const up = ND.dotdot()
        if (up !== 0) return up
      }
      return -EISDIR
    }
    if (ND.trailing) return -EISDIR
    const dir = ND.dentry
    const child = lookupChild(dir, ND.last)
    if (typeof child === 'number') return child
    const inode = child.inode
    if (inode === null) return createAndOpen(t, new Path(ND.mount, dir), ND.last, flags, mode)
    if ((flags & O_EXCL) !== 0) return -EEXIST
    if ((inode.mode & S_IFMT) !== S_IFLNK || (flags & O_NOFOLLOW) !== 0) {
      const stepped = ND.step(child)
      return stepped !== 0 ? stepped : openPath(t, ND.result(), flags)
    }
    const target = ND.follow(child, true)
    if (target === null) return openPath(t, ND.result(), flags)
    if (typeof target === 'number') return target
    rest = target
  }
}

function createAndOpen(t: Task, dir: Path, name: string, flags: number, mode: number): FileDescription | number {
  const parent = dir.inode
  if (parent.nlink === 0 || parent.sb.fixedNames) return -ENOENT
  let err = wantWrite(dir.mount)
  if (err === 0) err = permission(t, parent, MAY_WRITE | MAY_EXEC)
  if (err !== 0) return err
  const inode = parent.create(name, (mode & 0o7777 & ~t.fs.umask) | S_IFREG, t.creds)
  if (typeof inode === 'number') return inode
  const dentry = dir.dentry.add(name, inode)
  fsnotifyName(parent, name, IN_CREATE, false)
  return finish(t, new Path(dir.mount, dentry), flags & ~O_TRUNC)
}

function openTmpfile(
  t: Task,
  dirfd: number,
  name: string,
  flags: number,
  mode: number,
  lookup: number,
): FileDescription | number {
  if ((flags & O_CREAT) !== 0) return -EINVAL
  const follow = (flags & O_NOFOLLOW) === 0 ? LOOKUP_FOLLOW : 0
  const dir = walkAt(t, dirfd, name, lookup | follow | LOOKUP_DIRECTORY)
  if (typeof dir === 'number') return dir
  let err = wantWrite(dir.mount)
  if (err === 0) err = permission(t, dir.inode, MAY_WRITE | MAY_EXEC)
  if (err !== 0) return err
  const inode = dir.inode.tmpfile((mode & 0o7777 & ~t.fs.umask) | S_IFREG, t.creds)
  if (typeof inode === 'number') return inode === -EINVAL ? -EOPNOTSUPP : inode
  inode.linkable = (flags & O_EXCL) === 0
  const dentry = new Dentry(dir.dentry.sb, dir.dentry, `#${inode.ino}`, inode)
  dentry.unhashed = true
  return finish(t, new Path(dir.mount, dentry), flags & ~O_DIRECTORY & ~TMPFILE_BIT)
}

/** Opens what a walk has found. */
export function openPath(t: Task, path: Path, flags: number): FileDescription | number {
  const inode = path.inode
  const type = inode.mode & S_IFMT
  if ((flags & O_PATH) !== 0) return new PathDescription(flags, path)
  if (type === S_IFLNK) return -ELOOP
  let access = ACCESS_OF_MODE[flags & O_ACCMODE]!
  if ((flags & O_TRUNC) !== 0) access |= MAY_WRITE
  if (type === S_IFDIR) {
    if ((access & MAY_WRITE) !== 0 || (flags & O_CREAT) !== 0) return -EISDIR
  } else if ((flags & O_DIRECTORY) !== 0) return -ENOTDIR
  const special = type === S_IFBLK || type === S_IFCHR || type === S_IFIFO || type === S_IFSOCK
  if ((type === S_IFBLK || type === S_IFCHR) && (path.mount.flags & MS_NODEV) !== 0) return -EACCES
  const err = permission(t, inode, access)
  if (err !== 0) return err
  if ((flags & O_NOATIME) !== 0 && !ownerOrCapable(t.creds, inode)) return -EPERM
  if ((access & MAY_WRITE) !== 0 && !special && path.mount.readonly) return wantWrite(path.mount)
  return finish(t, path, special ? flags & ~O_TRUNC : flags)
}

/** An executable regular file on a mount that allows it. 0 or −errno. */
function mayExecute(t: Task, path: Path): number {
  const inode = path.inode
  if ((inode.mode & S_IFMT) !== S_IFREG || (path.mount.flags & MS_NOEXEC) !== 0) return -EACCES
  return permission(t, inode, MAY_EXEC)
}

/**
 * Opens a program for execve, readable or not. While the description lives nobody can open the file for writing; see
 * FileDescription.claimWrite.
 */
export function openForExec(t: Task, path: Path): FileDescription | number {
  const err = mayExecute(t, path)
  if (err !== 0) return err
  const inode = path.inode
  if (inode.writeCount > 0) return -ETXTBSY
  const file = inode.open(t, path, O_RDONLY)
  if (typeof file === 'number') return file
  file.claimWrite(-1)
  return file
}

function finish(t: Task, path: Path, flags: number): FileDescription | number {
  const inode = path.inode
  const isReg = (inode.mode & S_IFMT) === S_IFREG
  const writes = isReg && (flags & (O_ACCMODE | O_TRUNC)) !== O_RDONLY
  if (writes && inode.writeCount < 0) return -ETXTBSY
  if (inode.leases !== null) {
    const held = breakLeases(t, inode, writes, (flags & O_NONBLOCK) !== 0)
    if (held !== 0) return held
  }
  const file = inode.open(t, path, flags & ~CREATION_FLAGS)
  if (typeof file === 'number') return file
  if (writes && (flags & O_ACCMODE) !== O_RDONLY) file.claimWrite(1)
  file.flags &= ~O_NOCTTY
  file.creds = t.creds
  if (inode.watches !== null || path.dentry.parent.inode?.watches != null) fsnotify(path.dentry, IN_OPEN)
  if ((flags & O_TRUNC) !== 0 && isReg) {
    const err = truncateInode(t, path.dentry, 0)
    if (err !== 0) {
      file.unref()
      return err
    }
  }
  return file
}
