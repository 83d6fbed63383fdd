/**
 * Who may do what with an inode (Linux: fs/namei.c generic_permission, fs/attr.c). Pure decisions over credentials and
 * mode bits; nothing here changes an inode.
 */
import { EACCES, EPERM, EROFS } from '../abi/errno.ts'
import {
  CAP_DAC_OVERRIDE,
  CAP_DAC_READ_SEARCH,
  CAP_FOWNER,
  CAP_FSETID,
  type Credentials,
} from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import { type Inode, S_IFDIR, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_ISVTX } from './inode.ts'
import type { Mount } from './mount.ts'

export const MAY_EXEC = 1
export const MAY_WRITE = 2
export const MAY_READ = 4

/** The mode bits and the capabilities that override them. 0 or −EACCES. */
export function genericPermission(creds: Credentials, inode: Inode, mask: number): number {
  let mode = inode.mode
  if (creds.fsuid === inode.uid) mode >>= 6
  else if (creds.inGroup(inode.gid)) mode >>= 3
  if ((mask & ~mode & 7) === 0) return 0
  if ((inode.mode & S_IFMT) === S_IFDIR) {
    if ((mask & MAY_WRITE) === 0 && creds.capable(CAP_DAC_READ_SEARCH)) return 0
    return creds.capable(CAP_DAC_OVERRIDE) ? 0 : -EACCES
  }
  if (mask === MAY_READ && creds.capable(CAP_DAC_READ_SEARCH)) return 0
  // Nobody executes a file that is executable for nobody, not even root.
  if ((mask & MAY_EXEC) === 0 || (inode.mode & 0o111) !== 0) return creds.capable(CAP_DAC_OVERRIDE) ? 0 : -EACCES
  return -EACCES
}

/** Full check for `creds` (the task's own, or the real ids for access(2)). 0 or −errno. */
export function permissionFor(t: Task, creds: Credentials, inode: Inode, mask: number): number {
  if ((mask & MAY_WRITE) !== 0 && inode.sb.readonly) {
    const type = inode.mode & S_IFMT
    if (type === S_IFREG || type === S_IFDIR || inode.isSymlink) return -EROFS
  }
  const err = genericPermission(creds, inode, mask)
  return err !== 0 ? (inode.grants(t) ? 0 : err) : inode.permission(t, mask)
}
export function permission(t: Task, inode: Inode, mask: number): number {
  return permissionFor(t, t.creds, inode, mask)
}

/** mnt_want_write: 0 or −EROFS. */
export function wantWrite(mount: Mount): number {
  return mount.readonly ? -EROFS : 0
}

/** Owner of the inode, or CAP_FOWNER. */
export function ownerOrCapable(creds: Credentials, inode: Inode): boolean {
  return creds.fsuid === inode.uid || creds.capable(CAP_FOWNER)
}

/** A sticky directory: only owners (of it or of the entry) may remove or rename entries. 0 or −EPERM. */
export function checkSticky(creds: Credentials, dir: Inode, inode: Inode): number {
  if ((dir.mode & S_ISVTX) === 0) return 0
  if (creds.fsuid === inode.uid || creds.fsuid === dir.uid || creds.capable(CAP_FOWNER)) return 0
  return -EPERM
}

/** Group of a new object in `dir`. */
export function newInodeGid(dir: Inode, creds: Credentials): number {
  return (dir.mode & S_ISGID) !== 0 ? dir.gid : creds.fsgid
}
/** Mode of a new object in `dir`: setgid directories pass the bit on to directories and refuse it to strangers' files. */
export function newInodeMode(dir: Inode, mode: number, creds: Credentials): number {
  if ((dir.mode & S_ISGID) === 0) return mode
  if ((mode & S_IFMT) === S_IFDIR) return mode | S_ISGID
  if ((mode & (S_ISGID | 0o010)) === (S_ISGID | 0o010) && !creds.inGroup(dir.gid) && !creds.capable(CAP_FSETID)) {
    return mode & ~S_ISGID
  }
  return mode
}

/** The mode that is left after a change of data or owner by someone without CAP_FSETID (`chown`: by anyone). */
export function modeWithoutPrivileges(inode: Inode): number {
  if ((inode.mode & S_IFMT) === S_IFDIR) return inode.mode
  let mode = inode.mode & ~S_ISUID
  if ((mode & 0o010) !== 0) mode &= ~S_ISGID
  return mode
}
