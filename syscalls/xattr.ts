/**
 * Extended attributes (Linux: fs/xattr.c).
 */
import { E2BIG, EBADF, EFAULT, EINVAL, ENODATA, EOPNOTSUPP, EPERM, ERANGE } from '../sentry/abi/errno.ts'
import { AT_FDCWD, O_PATH } from '../sentry/abi/fcntl.ts'
import { CAP_SYS_ADMIN } from '../sentry/kernel/credentials.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { fsnotify, IN_ATTRIB } from '../sentry/vfs/fsnotify.ts'
import { type Inode, S_IFDIR, S_IFMT, S_IFREG, S_ISVTX } from '../sentry/vfs/inode.ts'
import type { Path } from '../sentry/vfs/path.ts'
import { LOOKUP_FOLLOW, walkAt } from '../sentry/vfs/path-walk.ts'
import { MAY_READ, MAY_WRITE, ownerOrCapable, permission, wantWrite } from '../sentry/vfs/permission.ts'

const XATTR_NAME_MAX = 255
const XATTR_SIZE_MAX = 65536
const XATTR_LIST_MAX = 65536
const XATTR_CREATE = 1
const XATTR_REPLACE = 2

/** Rules of the name spaces. 0 or −errno. */
function xattrPermission(t: Task, inode: Inode, name: string, mask: number): number {
  if (name.startsWith('security.')) return mask === MAY_WRITE && !t.creds.capable(CAP_SYS_ADMIN) ? -EPERM : 0
  if (name.startsWith('system.')) return 0
  const refused = mask === MAY_WRITE ? -EPERM : -ENODATA
  if (name.startsWith('trusted.')) return t.creds.capable(CAP_SYS_ADMIN) ? 0 : refused
  if (!name.startsWith('user.')) return -EOPNOTSUPP
  const type = inode.mode & S_IFMT
  if (type !== S_IFREG && type !== S_IFDIR) return refused
  if (type === S_IFDIR && (inode.mode & S_ISVTX) !== 0 && mask === MAY_WRITE && !ownerOrCapable(t.creds, inode))
    return -EPERM
  return permission(t, inode, mask)
}

function readName(t: Task, addr: number): string | number {
  const name = t.readString(addr, XATTR_NAME_MAX + 1)
  if (typeof name === 'number') return name === -EFAULT ? name : -ERANGE
  return name.length === 0 ? -ERANGE : name
}

type At = Path | { readonly mount: null; readonly inode: Inode } | number

function byPath(t: Task, flags: number): At {
  const name = t.readPath(t.argPtr(0))
  return typeof name === 'number' ? name : walkAt(t, AT_FDCWD, name, flags)
}
function byFd(t: Task): At {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  return file.path ?? { mount: null, inode: file.inode }
}

function set(t: Task, at: At): SysRet {
  if (typeof at === 'number') return at
  const flags = t.argI32(4)
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) return -EINVAL
  const name = readName(t, t.argPtr(1))
  if (typeof name === 'number') return name
  const size = t.argPtr(3)
  if (size > XATTR_SIZE_MAX) return -E2BIG
  const value = new Uint8Array(size)
  if (size > 0 && t.readBytes(t.argPtr(2), value) < 0) return -EFAULT
  let err = at.mount === null ? 0 : wantWrite(at.mount)
  if (err === 0) err = xattrPermission(t, at.inode, name, MAY_WRITE)
  if (err === 0) err = at.inode.setxattr(name, value, flags)
  if (err === 0 && at.mount !== null) fsnotify(at.dentry, IN_ATTRIB)
  return err
}

function get(t: Task, at: At): SysRet {
  if (typeof at === 'number') return at
  const name = readName(t, t.argPtr(1))
  if (typeof name === 'number') return name
  const err = xattrPermission(t, at.inode, name, MAY_READ)
  if (err !== 0) return err
  const value = at.inode.getxattr(name)
  if (typeof value === 'number') return value
  const size = t.argPtr(3)
  if (size === 0) return value.length
  if (size < value.length) return -ERANGE
  return t.writeBytes(t.argPtr(2), value) < 0 ? -EFAULT : value.length
}

function list(t: Task, at: At): SysRet {
  if (typeof at === 'number') return at
  let names = at.inode.listxattr()
  if (names === -EOPNOTSUPP) names = ''
  if (typeof names === 'number') return names
  if (names.includes('trusted.') && !t.creds.capable(CAP_SYS_ADMIN)) {
    names = names
      .split('\0')
      .filter((n) => n !== '' && !n.startsWith('trusted.'))
      .map((n) => `${n}\0`)
      .join('')
  }
  const size = t.argPtr(2)
  if (size === 0) return names.length
  if (names.length > size) return names.length > XATTR_LIST_MAX ? -E2BIG : -ERANGE
  return t.writeBytes(t.argPtr(1), Buffer.from(names, 'latin1')) < 0 ? -EFAULT : names.length
}

function remove(t: Task, at: At): SysRet {
  if (typeof at === 'number') return at
  const name = readName(t, t.argPtr(1))
  if (typeof name === 'number') return name
  let err = at.mount === null ? 0 : wantWrite(at.mount)
  if (err === 0) err = xattrPermission(t, at.inode, name, MAY_WRITE)
  if (err === 0) err = at.inode.removexattr(name)
  if (err === 0 && at.mount !== null) fsnotify(at.dentry, IN_ATTRIB)
  return err
}

export const sysSetxattr = (t: Task): SysRet => set(t, byPath(t, LOOKUP_FOLLOW))
export const sysLsetxattr = (t: Task): SysRet => set(t, byPath(t, 0))
export const sysFsetxattr = (t: Task): SysRet => set(t, byFd(t))
export const sysGetxattr = (t: Task): SysRet => get(t, byPath(t, LOOKUP_FOLLOW))
export const sysLgetxattr = (t: Task): SysRet => get(t, byPath(t, 0))
export const sysFgetxattr = (t: Task): SysRet => get(t, byFd(t))
export const sysListxattr = (t: Task): SysRet => list(t, byPath(t, LOOKUP_FOLLOW))
export const sysLlistxattr = (t: Task): SysRet => list(t, byPath(t, 0))
export const sysFlistxattr = (t: Task): SysRet => list(t, byFd(t))
export const sysRemovexattr = (t: Task): SysRet => remove(t, byPath(t, LOOKUP_FOLLOW))
export const sysLremovexattr = (t: Task): SysRet => remove(t, byPath(t, 0))
export const sysFremovexattr = (t: Task): SysRet => remove(t, byFd(t))
