/**
 * Hooks by which the VFS reports what happens to files (Linux: include/linux/fsnotify.h). fs/inotify.ts listens.
 *
 * Every operation that changes a name, data or attributes calls one of these after it succeeded. With no watch anywhere
 * a call costs one comparison. `name` is a latin1 byte string.
 */
import type { Dentry } from './dentry.ts'
import type { Inode } from './inode.ts'

export const IN_ACCESS = 0x1
export const IN_MODIFY = 0x2
export const IN_ATTRIB = 0x4
export const IN_CLOSE_WRITE = 0x8
export const IN_CLOSE_NOWRITE = 0x10
export const IN_OPEN = 0x20
export const IN_MOVED_FROM = 0x40
export const IN_MOVED_TO = 0x80
export const IN_CREATE = 0x100
export const IN_DELETE = 0x200
export const IN_DELETE_SELF = 0x400
export const IN_MOVE_SELF = 0x800
export const IN_UNMOUNT = 0x2000
export const IN_ISDIR = 0x40000000

/** What hangs on `inode.watches`: the watches of one inode. */
export interface InodeWatches {
  /** `name` is '' for events of the inode itself. `mask` holds IN_ISDIR when the subject is a directory. */
  event(mask: number, name: string, cookie: number): void
  /** The inode is gone for good (last link and last use). */
  inodeGone(): void
}

/** Watches in the whole kernel; only fs/inotify.ts changes it. */
export const notifyState = { watches: 0 }

let lastCookie = 0
/** Ties IN_MOVED_FROM and IN_MOVED_TO together. */
export function nextCookie(): number {
  lastCookie = (lastCookie + 1) >>> 0
  return lastCookie
}

/** An event of an open file or a path: reported to the inode's watches and, with its name, to its directory's. */
export function fsnotify(dentry: Dentry, mask: number): void {
  if (notifyState.watches === 0) return
  const inode = dentry.inode
  if (inode === null) return
  const full = inode.isDir ? mask | IN_ISDIR : mask
  if (!dentry.isRoot && !dentry.unhashed) {
    const dir = dentry.parent.inode
    if (dir !== null && dir.watches !== null) (dir.watches as InodeWatches).event(full, dentry.name, 0)
  }
  if (inode.watches !== null) (inode.watches as InodeWatches).event(full, '', 0)
}

/** An event of a directory entry: IN_CREATE, IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO (with cookie). */
export function fsnotifyName(dir: Inode, mask: number, name: string, isDir: boolean, cookie = 0): void {
  if (notifyState.watches === 0 || dir.watches === null) return
  ;(dir.watches as InodeWatches).event(isDir ? mask | IN_ISDIR : mask, name, cookie)
}

/** An event of an inode alone: IN_MOVE_SELF, IN_ATTRIB after a link count change. */
export function fsnotifyInode(inode: Inode, mask: number): void {
  if (notifyState.watches === 0 || inode.watches === null) return
  ;(inode.watches as InodeWatches).event(inode.isDir ? mask | IN_ISDIR : mask, '', 0)
}

/** The last link is gone and nobody has it open: IN_DELETE_SELF, then IN_IGNORED. Call where evict() is called. */
export function fsnotifyGone(inode: Inode): void {
  if (notifyState.watches === 0 || inode.watches === null) return
  ;(inode.watches as InodeWatches).inodeGone()
}
