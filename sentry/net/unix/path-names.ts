/**
 * AF_UNIX names in the file system: bind(2) makes a socket inode, connect(2) and sendto(2) find the socket behind one
 * (Linux: unix_bind_bsd, unix_find_bsd).
 */
import { EADDRINUSE, ECONNREFUSED, EEXIST } from '../../abi/errno.ts'
import { AT_FDCWD } from '../../abi/fcntl.ts'
import type { Task } from '../../kernel/task.ts'
import { S_IFMT, S_IFSOCK } from '../../vfs/inode.ts'
import { mknodAt, unlinkAt } from '../../vfs/namei.ts'
import type { Path } from '../../vfs/path.ts'
import { LOOKUP_FOLLOW, walk } from '../../vfs/path-walk.ts'
import { MAY_WRITE, permission } from '../../vfs/permission.ts'
import type { UnixSocket } from './unix-socket.ts'

/** Makes the inode; the path of it, which the socket keeps (with a use of the dentry), or −errno. */
export function bindPath(t: Task, s: UnixSocket, name: string): Path | number {
  const path = mknodAt(t, AT_FDCWD, name, S_IFSOCK | (s.inode.mode & 0o7777), 0)
  if (typeof path === 'number') return path === -EEXIST ? -EADDRINUSE : path
  path.inode.special = s
  path.dentry.refs++
  return path
}

/** Whether a socket could be made there: 0 or −errno. Makes it and takes it away, as Linux does for a bound socket. */
export function tryPath(t: Task, s: UnixSocket, name: string): number {
  const path = mknodAt(t, AT_FDCWD, name, S_IFSOCK | (s.inode.mode & 0o7777), 0)
  if (typeof path === 'number') return path === -EEXIST ? -EADDRINUSE : path
  unlinkAt(t, AT_FDCWD, name)
  return 0
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
