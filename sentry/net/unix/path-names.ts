/**
 * AF_UNIX names in the file system: bind(2) makes a socket inode, connect(2) and sendto(2) find the socket behind one
 * (Linux: unix_bind_bsd, unix_find_bsd).
 */
import { EADDRINUSE, ECONNREFUSED, EEXIST, ENOENT } from '../../abi/errno.ts'
import { AT_FDCWD } from '../../abi/fcntl.ts'
import type { Task } from '../../kernel/task.ts'
import { fsnotifyName, IN_CREATE } from '../../vfs/fsnotify.ts'
import { S_IFMT, S_IFSOCK } from '../../vfs/inode.ts'
import { Path } from '../../vfs/path.ts'
import { LAST_NORM, LOOKUP_FOLLOW, lookupChild, walk, walkParentAt } from '../../vfs/path-walk.ts'
import { MAY_EXEC, MAY_WRITE, permission, wantWrite } from '../../vfs/permission.ts'
import type { UnixSocket } from './unix-socket.ts'

/** Makes the inode; the path of it, which the socket keeps, or −errno. */
export function bindPath(t: Task, s: UnixSocket, name: string): Path | number {
  const parent = walkParentAt(t, AT_FDCWD, name)
  if (typeof parent === 'number') return parent
  if (parent.type !== LAST_NORM) return -EADDRINUSE
  const dir = parent.dir.dentry
  const existing = lookupChild(dir, parent.name)
  if (typeof existing === 'number') return existing
  if (existing.inode !== null) return -EADDRINUSE
  if (parent.trailing) return -ENOENT
  const readonly = wantWrite(parent.dir.mount)
  if (readonly !== 0) return readonly
  const denied = permission(t, parent.dir.inode, MAY_WRITE | MAY_EXEC)
  if (denied !== 0) return denied
  const mode = S_IFSOCK | (s.inode.mode & 0o7777 & ~t.fs.umask)
  const made = parent.dir.inode.mknod(parent.name, mode, 0, t.creds)
  if (typeof made === 'number') return made === -EEXIST ? -EADDRINUSE : made
  made.special = s
  const dentry = dir.add(parent.name, made)
  dentry.refs++
  fsnotifyName(parent.dir.inode, parent.name, IN_CREATE, false)
  return new Path(parent.dir.mount, dentry)
}

/** What is bound to the name (a UnixSocket; not imported here, it imports us), or −errno. */
export function findPath(t: Task, name: string): object | number {
  const path = walk(t, name, LOOKUP_FOLLOW)
  if (typeof path === 'number') return path
  const inode = path.inode
  const denied = permission(t, inode, MAY_WRITE)
  if (denied !== 0) return denied
  return (inode.mode & S_IFMT) === S_IFSOCK && inode.special !== null ? inode.special : -ECONNREFUSED
}
