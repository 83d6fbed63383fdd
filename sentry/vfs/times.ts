/**
 * Time stamps that the VFS keeps itself: atime under relatime, ctime and mtime of in-memory file systems.
 */
import { readRealtime } from '../kernel/clock.ts'
import { Dentry } from './dentry.ts'
import type { Inode } from './inode.ts'
import { type Mount, MS_NOATIME, MS_NODIRATIME, MS_STRICTATIME } from './mount.ts'

/** Something was read: atime moves when it is not newer than mtime or ctime (relatime), or always under strictatime. */
export function touchAtime(mount: Mount, inode: Inode): void {
  if (atimeRests(mount, inode)) return
  Dentry.changes()
  const now = readRealtime()
  inode.atimeSec = now.sec
  inode.atimeNsec = now.nsec
}

/** Reading leaves atime as it is. */
export function atimeRests(mount: Mount, inode: Inode): boolean {
  if ((mount.flags & (MS_NOATIME | MS_STRICTATIME)) === 0) {
    const a = inode.atimeSec
    if (a > inode.mtimeSec && a > inode.ctimeSec) return true
    if (!older(a, inode.atimeNsec, inode.mtimeSec, inode.mtimeNsec)) {
      if (!older(a, inode.atimeNsec, inode.ctimeSec, inode.ctimeNsec)) return true
    }
  } else if ((mount.flags & MS_NOATIME) !== 0) return true
  return ((mount.flags & MS_NODIRATIME) !== 0 && inode.isDir) || mount.readonly
}

function older(sec: number, nsec: number, thanSec: number, thanNsec: number): boolean {
  return sec < thanSec || (sec === thanSec && nsec <= thanNsec)
}

export function touchMtime(inode: Inode): void {
  const now = readRealtime()
  inode.mtimeSec = now.sec
  inode.mtimeNsec = now.nsec
  inode.ctimeSec = now.sec
  inode.ctimeNsec = now.nsec
}
export function touchCtime(inode: Inode): void {
  const now = readRealtime()
  inode.ctimeSec = now.sec
  inode.ctimeNsec = now.nsec
}
/** All four, for a new object. */
export function touchNew(inode: Inode): void {
  touchMtime(inode)
  inode.atimeSec = inode.btimeSec = inode.mtimeSec
  inode.atimeNsec = inode.btimeNsec = inode.mtimeNsec
}
