/**
 * Making, removing and moving names (Linux: the second half of fs/namei.c). Each takes a directory path and a name that a
 * parent walk left, checks in Linux's order, has the file system do it, and keeps the dentry tree true.
 */
import { EBUSY, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EXDEV } from '../abi/errno.ts'
import { CAP_DAC_READ_SEARCH, CAP_MKNOD } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import type { Dentry } from './dentry.ts'
import {
  fsnotify,
  fsnotifyInode,
  fsnotifyName,
  IN_ATTRIB,
  IN_CREATE,
  IN_DELETE,
  IN_DELETE_SELF,
  IN_MOVE_SELF,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  moveCookie,
} from './fsnotify.ts'
import { type Inode, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, S_ISGID, S_ISUID } from './inode.ts'
import { Path } from './path.ts'
import {
  LAST_DOT,
  LAST_DOTDOT,
  LAST_NORM,
  LOOKUP_EMPTY,
  LOOKUP_FOLLOW,
  lookupChild,
  type ParentPath,
  walkAt,
  walkParentAt,
} from './path-walk.ts'
import { checkSticky, MAY_EXEC, MAY_READ, MAY_WRITE, ownerOrCapable, permission, wantWrite } from './permission.ts'

export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2
export const RENAME_WHITEOUT = 4

/** filename_create and may_create: the place for a new object, or −errno. `isDir`: a slash behind the name is fine. */
function placeForNew(t: Task, dirfd: number, name: string, isDir: boolean): ParentPath | number {
  const at = freeName(t, dirfd, name, isDir)
  if (typeof at === 'number') return at
  const err = mayCreate(t, at.dir.inode)
  return err !== 0 ? err : at
}

function mayCreate(t: Task, dir: Inode): number {
  return dir.nlink === 0 ? -ENOENT : permission(t, dir, MAY_WRITE | MAY_EXEC)
}

function freeName(t: Task, dirfd: number, name: string, isDir: boolean): ParentPath | number {
  const at = walkParentAt(t, dirfd, name)
  if (typeof at === 'number') return at
  if (at.type !== LAST_NORM) return -EEXIST
  const child = lookupChild(at.dir.dentry, at.name)
  if (typeof child === 'number') return child
  if (child.inode !== null) return -EEXIST
  if (child.sb.fixedNames) return -ENOENT
  if (at.trailing && !isDir) return -ENOENT
  const err = wantWrite(at.dir.mount)
  return err !== 0 ? err : at
}

function made(at: ParentPath, inode: Inode | number): Path | number {
  if (typeof inode === 'number') return inode
  const dentry = at.dir.dentry.add(at.name, inode)
  fsnotifyName(at.dir.inode, at.name, IN_CREATE, inode.isDir)
  return new Path(at.dir.mount, dentry)
}

export function mkdirAt(t: Task, dirfd: number, name: string, mode: number): Path | number {
  const at = placeForNew(t, dirfd, name, true)
  if (typeof at === 'number') return at
  return made(at, at.dir.inode.mkdir(at.name, (mode & 0o1777 & ~t.fs.umask) | S_IFDIR, t.creds))
}

/** mknod(2); also bind(2) of a unix socket with S_IFSOCK. */
export function mknodAt(t: Task, dirfd: number, name: string, mode: number, rdev: number): Path | number {
  const type = mode & S_IFMT
  switch (type) {
    case 0:
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
      break
    case S_IFCHR:
    case S_IFBLK:
      break
    case S_IFDIR:
      return -EPERM
    default:
      return -EINVAL
  }
  const at = placeForNew(t, dirfd, name, false)
  if (typeof at === 'number') return at
  if ((type === S_IFCHR || type === S_IFBLK) && !(type === S_IFCHR && rdev === 0) && !t.creds.capable(CAP_MKNOD)) {
    return -EPERM
  }
  const bits = mode & 0o7777 & ~t.fs.umask
  const dir = at.dir.inode
  if (type === 0 || type === S_IFREG) return made(at, dir.create(at.name, bits | S_IFREG, t.creds))
  return made(at, dir.mknod(at.name, bits | type, type === S_IFCHR || type === S_IFBLK ? rdev : 0, t.creds))
}

export function symlinkAt(t: Task, target: string, dirfd: number, name: string): Path | number {
  if (target.length === 0) return -ENOENT
  const at = placeForNew(t, dirfd, name, false)
  if (typeof at === 'number') return at
  return made(at, at.dir.inode.symlink(at.name, target, t.creds))
}

/** fs.protected_hardlinks = 1: one may only link what one owns, or could read and write and is not privileged. */
function mayLink(t: Task, inode: Inode): boolean {
  if (ownerOrCapable(t.creds, inode)) return true
  if (!inode.isReg || (inode.mode & S_ISUID) !== 0) return false
  if ((inode.mode & (S_ISGID | 0o010)) === (S_ISGID | 0o010)) return false
  return permission(t, inode, MAY_READ | MAY_WRITE) === 0
}

export function linkAt(
  t: Task,
  oldDirfd: number,
  oldName: string,
  newDirfd: number,
  newName: string,
  follow: boolean,
  empty: boolean,
): number {
  // Who opened the file may give it a name; others could name what they were only handed (Linux 6.10).
  if (empty && oldName === '' && t.fds.get(oldDirfd)?.creds !== t.creds && !t.creds.capable(CAP_DAC_READ_SEARCH))
    return -ENOENT
  const old = walkAt(t, oldDirfd, oldName, (follow ? LOOKUP_FOLLOW : 0) | (empty ? LOOKUP_EMPTY : 0))
  if (typeof old === 'number') return old
  const at = freeName(t, newDirfd, newName, false)
  if (typeof at === 'number') return at
  if (old.mount !== at.dir.mount) return -EXDEV
  const inode = old.inode
  if (!mayLink(t, inode)) return -EPERM
  const denied = mayCreate(t, at.dir.inode)
  if (denied !== 0) return denied
  if (old.dentry.sb !== at.dir.dentry.sb) return -EXDEV
  if (inode.isDir) return -EPERM
  if (inode.nlink === 0 && !inode.linkable) return -ENOENT
  const err = at.dir.inode.link(at.name, inode)
  if (err !== 0) return err
  const dentry = at.dir.dentry.add(at.name, inode)
  if (inode.linkable) {
    // The file of an O_TMPFILE has a name now; its description shows it, as in Linux.
    inode.linkable = false
  }
  fsnotifyInode(inode, IN_ATTRIB)
  fsnotifyName(at.dir.inode, dentry.name, IN_CREATE, false)
  return 0
}

/** may_delete: 0 or −errno. */
function mayDelete(t: Task, dir: Inode, victim: Dentry, isDir: boolean): number {
  const inode = victim.inode
  if (inode === null) return -ENOENT
  const err = permission(t, dir, MAY_WRITE | MAY_EXEC)
  if (err !== 0) return err
  const sticky = checkSticky(t.creds, dir, inode)
  if (sticky !== 0) return sticky
  if (isDir) {
    if (!inode.isDir) return -ENOTDIR
    if (victim.isRoot) return -EBUSY
  } else if (inode.isDir) return -EISDIR
  return dir.nlink === 0 ? -ENOENT : 0
}

/**
 * The name `dentry` of directory `dir` is gone from the file system: the tree forgets it, and the object goes if nobody
 * has it open. Watchers hear of it in Linux's order.
 */
function forget(dir: Inode, dentry: Dentry): void {
  const inode = dentry.inode!
  if (!inode.isDir) fsnotifyInode(inode, IN_ATTRIB)
  dentry.unhash()
  fsnotifyName(dir, dentry.name, IN_DELETE, inode.isDir)
  release(inode)
}

/** Frees an inode that has lost its last name, unless it is open: then its last description does it. */
function release(inode: Inode): void {
  if (inode.nlink !== 0 || inode.opens !== 0) return
  fsnotifyInode(inode, IN_DELETE_SELF)
  inode.evict()
}

export function rmdirAt(t: Task, dirfd: number, name: string): number {
  const at = walkParentAt(t, dirfd, name)
  if (typeof at === 'number') return at
  if (at.type !== LAST_NORM) return at.type === LAST_DOTDOT ? -ENOTEMPTY : at.type === LAST_DOT ? -EINVAL : -EBUSY
  let err = wantWrite(at.dir.mount)
  if (err !== 0) return err
  const victim = lookupChild(at.dir.dentry, at.name)
  if (typeof victim === 'number') return victim
  const dir = at.dir.inode
  err = mayDelete(t, dir, victim, true)
  if (err !== 0) return err
  if (victim.mounted > 0) return -EBUSY
  err = dir.rmdir(at.name, victim.inode!)
  if (err !== 0) return err
  victim.inode!.nlink = 0
  forget(dir, victim)
  return 0
}

export function unlinkAt(t: Task, dirfd: number, name: string): number {
  const at = walkParentAt(t, dirfd, name)
  if (typeof at === 'number') return at
  if (at.type !== LAST_NORM) return -EISDIR
  let err = wantWrite(at.dir.mount)
  if (err !== 0) return err
  const victim = lookupChild(at.dir.dentry, at.name)
  if (typeof victim === 'number') return victim
  const inode = victim.inode
  if (inode === null) return -ENOENT
  if (at.trailing) return inode.isDir ? -EISDIR : -ENOTDIR
  const dir = at.dir.inode
  err = mayDelete(t, dir, victim, false)
  if (err !== 0) return err
  if (victim.mounted > 0) return -EBUSY
  err = dir.unlink(at.name, inode)
  if (err !== 0) return err
  forget(dir, victim)
  return 0
}

function isAncestor(a: Dentry, of: Dentry): boolean {
  for (let d = of; ; d = d.parent) {
    if (d === a) return true
    if (d.isRoot) return false
  }
}

export function renameAt(
  t: Task,
  oldDirfd: number,
  oldName: string,
  newDirfd: number,
  newName: string,
  flags: number,
): number {
  const from = walkParentAt(t, oldDirfd, oldName)
  if (typeof from === 'number') return from
  const to = walkParentAt(t, newDirfd, newName)
  if (typeof to === 'number') return to
  if (from.dir.mount !== to.dir.mount) return -EXDEV
  if (from.type !== LAST_NORM) return -EBUSY
  if (to.type !== LAST_NORM) return (flags & RENAME_NOREPLACE) !== 0 ? -EEXIST : -EBUSY
  const readonly = wantWrite(from.dir.mount)
  if (readonly !== 0) return readonly

  const source = lookupChild(from.dir.dentry, from.name)
  if (typeof source === 'number') return source
  const inode = source.inode
  if (inode === null) return -ENOENT
  const target = lookupChild(to.dir.dentry, to.name)
  if (typeof target === 'number') return target
  const replaced = target.inode
  const exchange = (flags & RENAME_EXCHANGE) !== 0
  if ((flags & RENAME_NOREPLACE) !== 0 && replaced !== null) return -EEXIST
  if (exchange) {
    if (replaced === null) return -ENOENT
    if (!replaced.isDir && to.trailing) return -ENOTDIR
  }
  if (!inode.isDir) {
    if (from.trailing || (!exchange && to.trailing)) return -ENOTDIR
  }
  if (isAncestor(source, to.dir.dentry)) return -EINVAL
  if (replaced !== null && isAncestor(target, from.dir.dentry)) return exchange ? -EINVAL : -ENOTEMPTY
  if (inode === replaced) return 0

  const fromDir = from.dir.inode
  const toDir = to.dir.inode
  let err = mayDelete(t, fromDir, source, inode.isDir)
  if (err !== 0) return err
  if (replaced === null) {
    err = toDir.nlink === 0 ? -ENOENT : permission(t, toDir, MAY_WRITE | MAY_EXEC)
  } else err = mayDelete(t, toDir, target, exchange ? replaced.isDir : inode.isDir)
  if (err !== 0) return err
  // A directory that gets another parent is written to: its '..' changes.
  if (fromDir !== toDir) {
    if (inode.isDir) err = permission(t, inode, MAY_WRITE)
    if (err === 0 && exchange && replaced!.isDir) err = permission(t, replaced!, MAY_WRITE)
    if (err !== 0) return err
  }
  if (source.mounted > 0 || target.mounted > 0) return -EBUSY
  err = fromDir.rename(from.name, inode, toDir, to.name, replaced, flags)
  if (err !== 0) return err

  if (exchange) swap(source, target)
  else {
    if (replaced?.isDir) replaced.nlink = 0
    target.unhash()
    source.move(to.dir.dentry, to.name)
  }
  const cookie = moveCookie()
  fsnotifyName(fromDir, from.name, IN_MOVED_FROM, inode.isDir, cookie)
  fsnotifyName(toDir, to.name, IN_MOVED_TO, inode.isDir, cookie)
  if (replaced !== null && !exchange && !replaced.isDir) fsnotifyInode(replaced, IN_ATTRIB)
  fsnotifyInode(inode, IN_MOVE_SELF)
  if (exchange) fsnotify(target, IN_MOVE_SELF)
  else if (replaced !== null) release(replaced)
  return 0
}

function swap(a: Dentry, b: Dentry): void {
  const { parent, name } = a
  a.move(b.parent, b.name)
  b.unhashed = true
  b.move(parent, name)
}
