/**
 * fsnotify: tells inotify what happens to files (Linux: fs/notify). The file system calls report here; watches hang on
 * `inode.watches` and implement {@link InodeWatches}. Costs two null checks where nobody watches.
 */
import type { Dentry } from './dentry.ts'
import type { FileDescription } from './file-description.ts'
import type { Inode } from './inode.ts'

export const IN_ACCESS = 1
export const IN_MODIFY = 2
export const IN_ATTRIB = 4
export const IN_CLOSE_WRITE = 8
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

/** What `inode.watches` holds. `name` is the entry of a watched directory, null for the object itself. */
export interface InodeWatches {
  notify(mask: number, name: string | null, cookie: number): void
}

let nextCookie = 1
/** A number that ties IN_MOVED_FROM to IN_MOVED_TO. */
export function moveCookie(): number {
  return nextCookie++
}

/** An event of `dentry`: told to watchers of the object and of its directory. */
export function fsnotify(dentry: Dentry, mask: number): void {
  const inode = dentry.inode
  if (inode === null) return
  const parent = dentry.parent.inode
  const above = parent === null || dentry.parent === dentry ? null : parent.watches
  if (inode.watches === null && above === null) return
  const bits = inode.isDir ? mask | IN_ISDIR : mask
  if (above !== null && !dentry.unhashed) (above as InodeWatches).notify(bits, dentry.name, 0)
  if (inode.watches !== null) (inode.watches as InodeWatches).notify(bits, null, 0)
}

/** An event of the name `name` in directory `dir`. */
export function fsnotifyName(dir: Inode, name: string, mask: number, isDir: boolean, cookie = 0): void {
  if (dir.watches !== null) (dir.watches as InodeWatches).notify(isDir ? mask | IN_ISDIR : mask, name, cookie)
}

/** An event of the object alone. */
export function fsnotifyInode(inode: Inode, mask: number): void {
  if (inode.watches !== null) (inode.watches as InodeWatches).notify(inode.isDir ? mask | IN_ISDIR : mask, null, 0)
}

export function notifyClose(file: FileDescription, dentry: Dentry): void {
  fsnotify(dentry, file.writable ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE)
}
