/**
 * Changes of attributes with their rules (Linux: fs/attr.c notify_change, fs/open.c, fs/utimes.c): who may, what else
 * changes with them. Callers have checked the mount for writing.
 */
import { EINVAL, EISDIR, EOPNOTSUPP, EPERM, ETXTBSY } from '../abi/errno.ts'
import { readRealtime } from '../kernel/clock.ts'
import { CAP_CHOWN, CAP_FSETID } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import { Dentry } from './dentry.ts'
import { fsnotify, IN_ATTRIB, IN_MODIFY } from './fsnotify.ts'
import {
  ATTR_ATIME,
  ATTR_CTIME,
  ATTR_GID,
  ATTR_MODE,
  ATTR_MTIME,
  ATTR_SIZE,
  ATTR_UID,
  type Inode,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  S_ISGID,
  S_ISUID,
  type SetAttr,
} from './inode.ts'
import { MAY_WRITE, modeWithoutPrivileges, ownerOrCapable, permission } from './permission.ts'

/** Reused for every change: file systems copy what they need. */
const ATTR: SetAttr = {
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

function apply(dentry: Dentry, event: number): number {
  const inode = dentry.inode!
  const err = inode.setattr(ATTR)
  // Who may search a directory, or follow a link in a sticky one, may be another question now.
  if ((ATTR.valid & (ATTR_MODE | ATTR_UID | ATTR_GID)) !== 0 && !inode.isReg) Dentry.generation++
  if (err === 0) fsnotify(dentry, event)
  return err
}

/** chmod(2). */
export function changeMode(t: Task, dentry: Dentry, mode: number): number {
  const inode = dentry.inode!
  if (inode.isSymlink) return -EOPNOTSUPP
  if (!ownerOrCapable(t.creds, inode)) return -EPERM
  let bits = mode & 0o7777
  if ((bits & S_ISGID) !== 0 && !t.creds.inGroup(inode.gid) && !t.creds.capable(CAP_FSETID)) bits &= ~S_ISGID
  ATTR.valid = ATTR_MODE | ATTR_CTIME
  ATTR.mode = (inode.mode & S_IFMT) | bits
  return apply(dentry, IN_ATTRIB)
}

/** chown(2); −1 (as u32 0xffffffff) leaves an id alone. */
export function changeOwner(t: Task, dentry: Dentry, uid: number, gid: number): number {
  const inode = dentry.inode!
  const creds = t.creds
  const setUid = uid !== 0xffffffff
  const setGid = gid !== 0xffffffff
  if (!creds.capable(CAP_CHOWN)) {
    const owner = creds.fsuid === inode.uid
    if (setUid && !(owner && uid === inode.uid)) return -EPERM
    if (setGid && !(owner && (gid === inode.gid || creds.inGroup(gid)))) return -EPERM
  }
  ATTR.valid = ATTR_CTIME
  if (setUid) {
    ATTR.valid |= ATTR_UID
    ATTR.uid = uid
  }
  if (setGid) {
    ATTR.valid |= ATTR_GID
    ATTR.gid = gid
  }
  const mode = modeWithoutPrivileges(inode)
  if (mode !== inode.mode) {
    ATTR.valid |= ATTR_MODE
    ATTR.mode = mode
  }
  return apply(dentry, IN_ATTRIB)
}

export const UTIME_NOW = 0x3fffffff
export const UTIME_OMIT = 0x3ffffffe

/**
 * utimensat(2). A nanosecond field may be UTIME_NOW or UTIME_OMIT; `now` says that no times were given at all.
 */
export function changeTimes(
  t: Task,
  dentry: Dentry,
  now: boolean,
  aSec: number,
  aNsec: number,
  mSec: number,
  mNsec: number,
): number {
  const inode = dentry.inode!
  if (aNsec === UTIME_OMIT && mNsec === UTIME_OMIT && !now) return 0
  const touch = now || (aNsec === UTIME_NOW && mNsec === UTIME_NOW)
  if (!ownerOrCapable(t.creds, inode)) {
    if (!touch) return -EPERM
    const err = permission(t, inode, MAY_WRITE)
    if (err !== 0) return err
  }
  const time = readRealtime()
  ATTR.valid = ATTR_CTIME
  if (touch || aNsec !== UTIME_OMIT) {
    const current = touch || aNsec === UTIME_NOW
    ATTR.valid |= ATTR_ATIME
    ATTR.atimeSec = current ? time.sec : aSec
    ATTR.atimeNsec = current ? time.nsec : aNsec
  }
  if (touch || mNsec !== UTIME_OMIT) {
    const current = touch || mNsec === UTIME_NOW
    ATTR.valid |= ATTR_MTIME
    ATTR.mtimeSec = current ? time.sec : mSec
    ATTR.mtimeNsec = current ? time.nsec : mNsec
  }
  return apply(dentry, IN_ATTRIB)
}

/** do_truncate: a new size, with the time stamps and the loss of set-id bits that come with it. */
export function truncateInode(t: Task, dentry: Dentry, size: number): number {
  const inode = dentry.inode!
  const time = readRealtime()
  ATTR.valid = ATTR_SIZE | ATTR_MTIME | ATTR_CTIME
  ATTR.size = size
  ATTR.mtimeSec = time.sec
  ATTR.mtimeNsec = time.nsec
  if ((inode.mode & (S_ISUID | S_ISGID)) !== 0 && !t.creds.capable(CAP_FSETID)) {
    ATTR.valid |= ATTR_MODE
    ATTR.mode = modeWithoutPrivileges(inode)
  }
  return apply(dentry, IN_MODIFY)
}

/** truncate(2)'s checks of the object. 0 or −errno. */
export function mayTruncate(t: Task, inode: Inode): number {
  const type = inode.mode & S_IFMT
  if (type === S_IFDIR) return -EISDIR
  if (type !== S_IFREG) return -EINVAL
  if (inode.writeCount < 0) return -ETXTBSY
  return permission(t, inode, MAY_WRITE)
}

/** A write by someone without CAP_FSETID takes set-id bits away. Called before the write, only when there are some. */
export function dropPrivilegesOnWrite(t: Task, inode: Inode): void {
  if (t.creds.capable(CAP_FSETID)) return
  const mode = modeWithoutPrivileges(inode)
  if (mode === inode.mode) return
  ATTR.valid = ATTR_MODE | ATTR_CTIME
  ATTR.mode = mode
  inode.setattr(ATTR)
}
