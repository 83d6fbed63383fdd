/**
 * Calls that make, remove, move and read names (Linux: fs/namei.c), and those about the working directory.
 */
import { EBADF, EFAULT, EINVAL, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, ERANGE } from '../sentry/abi/errno.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW } from '../sentry/abi/fcntl.ts'
import { CAP_MKNOD, CAP_SYS_CHROOT } from '../sentry/kernel/credentials.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { isDeleted, pathName } from '../sentry/vfs/d-path.ts'
import { tellNoLink } from '../sentry/vfs/known-names.ts'
import {
  linkAt,
  mkdirAt,
  mknodAt,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  renameAt,
  rmdirAt,
  symlinkAt,
  unlinkAt,
} from '../sentry/vfs/namei.ts'
import type { Path } from '../sentry/vfs/path.ts'
import {
  LOOKUP_DIRECTORY,
  LOOKUP_EMPTY,
  LOOKUP_FOLLOW,
  walkAt,
  walkIsEverybodys,
  walkIsSteady,
} from '../sentry/vfs/path-walk.ts'
import { MAY_EXEC, permission } from '../sentry/vfs/permission.ts'
import { touchAtime } from '../sentry/vfs/times.ts'

const done = (result: Path | number): SysRet => (typeof result === 'number' ? result : 0)

function mkdir(t: Task, dirfd: number, nameAddr: number, mode: number): SysRet {
  const name = t.readPath(nameAddr)
  return typeof name === 'number' ? name : done(mkdirAt(t, dirfd, name, mode))
}
export function sysMkdir(t: Task): SysRet {
  return mkdir(t, AT_FDCWD, t.argPtr(0), t.argU32(1))
}
export function sysMkdirat(t: Task): SysRet {
  return mkdir(t, t.argI32(0), t.argPtr(1), t.argU32(2))
}

function mknod(t: Task, dirfd: number, nameAddr: number, mode: number, dev: number): SysRet {
  const name = t.readPath(nameAddr)
  return typeof name === 'number' ? name : done(mknodAt(t, dirfd, name, mode & 0xffff, dev))
}
export function sysMknod(t: Task): SysRet {
  return mknod(t, AT_FDCWD, t.argPtr(0), t.argU32(1), t.argU32(2))
}
export function sysMknodat(t: Task): SysRet {
  return mknod(t, t.argI32(0), t.argPtr(1), t.argU32(2), t.argU32(3))
}

function rmdir(t: Task, dirfd: number, nameAddr: number): SysRet {
  const name = t.readPath(nameAddr)
  return typeof name === 'number' ? name : rmdirAt(t, dirfd, name)
}
function unlink(t: Task, dirfd: number, nameAddr: number): SysRet {
  const name = t.readPath(nameAddr)
  return typeof name === 'number' ? name : unlinkAt(t, dirfd, name)
}
export function sysRmdir(t: Task): SysRet {
  return rmdir(t, AT_FDCWD, t.argPtr(0))
}
export function sysUnlink(t: Task): SysRet {
  return unlink(t, AT_FDCWD, t.argPtr(0))
}
export function sysUnlinkat(t: Task): SysRet {
  const flags = t.argI32(2)
  if ((flags & ~AT_REMOVEDIR) !== 0) return -EINVAL
  return (flags & AT_REMOVEDIR) !== 0 ? rmdir(t, t.argI32(0), t.argPtr(1)) : unlink(t, t.argI32(0), t.argPtr(1))
}

function symlink(t: Task, targetAddr: number, dirfd: number, nameAddr: number): SysRet {
  const target = t.readPath(targetAddr)
  if (typeof target === 'number') return target
  if (target.length === 0) return -ENOENT
  const name = t.readPath(nameAddr)
  return typeof name === 'number' ? name : done(symlinkAt(t, target, dirfd, name))
}
export function sysSymlink(t: Task): SysRet {
  return symlink(t, t.argPtr(0), AT_FDCWD, t.argPtr(1))
}
export function sysSymlinkat(t: Task): SysRet {
  return symlink(t, t.argPtr(0), t.argI32(1), t.argPtr(2))
}

function link(t: Task, oldDirfd: number, oldAddr: number, newDirfd: number, newAddr: number, flags: number): SysRet {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) !== 0) return -EINVAL
  const from = t.readPath(oldAddr)
  if (typeof from === 'number') return from
  const to = t.readPath(newAddr)
  if (typeof to === 'number') return to
  return linkAt(t, oldDirfd, from, newDirfd, to, (flags & AT_SYMLINK_FOLLOW) !== 0, (flags & AT_EMPTY_PATH) !== 0)
}
export function sysLink(t: Task): SysRet {
  return link(t, AT_FDCWD, t.argPtr(0), AT_FDCWD, t.argPtr(1), 0)
}
export function sysLinkat(t: Task): SysRet {
  return link(t, t.argI32(0), t.argPtr(1), t.argI32(2), t.argPtr(3), t.argI32(4))
}

function rename(t: Task, oldDirfd: number, oldAddr: number, newDirfd: number, newAddr: number, flags: number): SysRet {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0) return -EINVAL
  if ((flags & RENAME_EXCHANGE) !== 0 && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) !== 0) return -EINVAL
  if ((flags & RENAME_WHITEOUT) !== 0 && !t.creds.capable(CAP_MKNOD)) return -EPERM
  const from = t.readPath(oldAddr)
  if (typeof from === 'number') return from
  const to = t.readPath(newAddr)
  if (typeof to === 'number') return to
  return renameAt(t, oldDirfd, from, newDirfd, to, flags)
}
export function sysRename(t: Task): SysRet {
  return rename(t, AT_FDCWD, t.argPtr(0), AT_FDCWD, t.argPtr(1), 0)
}
export function sysRenameat(t: Task): SysRet {
  return rename(t, t.argI32(0), t.argPtr(1), t.argI32(2), t.argPtr(3), 0)
}
export function sysRenameat2(t: Task): SysRet {
  return rename(t, t.argI32(0), t.argPtr(1), t.argI32(2), t.argPtr(3), t.argU32(4))
}

const TEXT = Buffer.alloc(4096)

function readlink(t: Task, dirfd: number, nameAddr: number, out: number, size: number): SysRet {
  if (size <= 0) return -EINVAL
  const name = t.readPath(nameAddr)
  if (typeof name === 'number') return name
  const path = walkAt(t, dirfd, name, LOOKUP_EMPTY)
  if (typeof path === 'number') return path
  const inode = path.inode
  // '' names an O_PATH descriptor of a link; of anything else it says ENOENT.
  if (!inode.isSymlink) {
    // realpath(3) asks this of every name on its way, again and again.
    if (walkIsSteady(name)) {
      if (inode.isDir) t.thread.remember()
      if (walkIsEverybodys()) tellNoLink(t, name, path.dentry)
    }
    return name.length === 0 ? -ENOENT : -EINVAL
  }
  const text = inode.readlink(t)
  if (typeof text === 'number') return text
  touchAtime(path.mount, inode)
  const n = Math.min(text.length, size, TEXT.length)
  TEXT.latin1Write(text, 0, n)
  return t.writeBytes(out, TEXT, n) < 0 ? -EFAULT : n
}
export function sysReadlink(t: Task): SysRet {
  return readlink(t, AT_FDCWD, t.argPtr(0), t.argPtr(1), t.argI32(2))
}
export function sysReadlinkat(t: Task): SysRet {
  return readlink(t, t.argI32(0), t.argPtr(1), t.argPtr(2), t.argI32(3))
}

/** getcwd(2): the length with the NUL. */
export function sysGetcwd(t: Task): SysRet {
  const { cwd, root } = t.fs
  if (isDeleted(cwd.dentry)) return -ENOENT
  const { name, reachable } = pathName(cwd, root)
  const text = reachable ? name : `(unreachable)${name}`
  const size = t.argPtr(1)
  if (text.length + 1 > TEXT.length) return -ENAMETOOLONG
  if (text.length + 1 > size) return -ERANGE
  const n = TEXT.latin1Write(text)
  TEXT[n] = 0
  return t.writeBytes(t.argPtr(0), TEXT, n + 1) < 0 ? -EFAULT : n + 1
}

function directoryAt(t: Task, nameAddr: number): Path | number {
  const name = t.readPath(nameAddr)
  if (typeof name === 'number') return name
  const path = walkAt(t, AT_FDCWD, name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY)
  if (typeof path === 'number') return path
  const err = permission(t, path.inode, MAY_EXEC)
  return err !== 0 ? err : path
}

export function sysChdir(t: Task): SysRet {
  const path = directoryAt(t, t.argPtr(0))
  if (typeof path === 'number') return path
  t.fs.setCwd(path)
  return 0
}

export function sysFchdir(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  if (file.path === null || !file.inode.isDir) return -ENOTDIR
  const err = permission(t, file.inode, MAY_EXEC)
  if (err !== 0) return err
  t.fs.setCwd(file.path)
  return 0
}

export function sysChroot(t: Task): SysRet {
  const path = directoryAt(t, t.argPtr(0))
  if (typeof path === 'number') return path
  if (!t.creds.capable(CAP_SYS_CHROOT)) return -EPERM
  t.fs.setRoot(path)
  return 0
}

export function sysUmask(t: Task): SysRet {
  const old = t.fs.umask
  t.fs.umask = t.argU32(0) & 0o777
  return old
}
