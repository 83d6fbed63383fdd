/**
 * mount(2), umount2(2), pivot_root(2) and chroot(2) (Linux: fs/namespace.c).
 *
 * Mounts are private: propagation flags are accepted and change nothing. A mount on a mount sits on the root of the upper
 * one, so that each (mount, dentry) carries at most one.
 */
import { EBUSY, EINVAL, ENODEV, ENOENT, ENOTDIR, EPERM } from '../abi/errno.ts'
import { CAP_SYS_ADMIN } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import { Dentry } from './dentry.ts'
import { fileSystem } from './file-system.ts'
import {
  Mount,
  type MountNamespace,
  MS_BIND,
  MS_MOVE,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_NOSYMFOLLOW,
  MS_PRIVATE,
  MS_RDONLY,
  MS_REC,
  MS_RELATIME,
  MS_REMOUNT,
  MS_SHARED,
  MS_SLAVE,
  MS_STRICTATIME,
  MS_UNBINDABLE,
} from './mount.ts'
import type { Path } from './path.ts'
import { LOOKUP_FOLLOW, walk } from './path-walk.ts'

const MS_MGC_VAL = 0xc0ed0000
const MS_MGC_MSK = 0xffff0000
const MS_PROPAGATION = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE
/** Flags of a mount, as opposed to those of the super block or the call. */
const MOUNT_FLAGS =
  MS_RDONLY |
  MS_NOSUID |
  MS_NODEV |
  MS_NOEXEC |
  MS_NOATIME |
  MS_NODIRATIME |
  MS_RELATIME |
  MS_STRICTATIME |
  MS_NOSYMFOLLOW

export const MNT_FORCE = 1
export const MNT_DETACH = 2
export const MNT_EXPIRE = 4
export const UMOUNT_NOFOLLOW = 8

function mountFlags(flags: number): number {
  let own = flags & MOUNT_FLAGS
  if ((own & (MS_NOATIME | MS_STRICTATIME)) === 0) own |= MS_RELATIME
  return own
}

/** mount(2). Strings are what the guest gave; null = no pointer. */
export function mountAt(
  t: Task,
  source: string | null,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
): number {
  if ((flags & MS_MGC_MSK) >>> 0 === MS_MGC_VAL) flags &= ~MS_MGC_MSK
  const at = walk(t, target, LOOKUP_FOLLOW)
  if (typeof at === 'number') return at
  if (!t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
  if ((flags & (MS_REMOUNT | MS_BIND)) === (MS_REMOUNT | MS_BIND)) return remountBind(at, flags)
  if ((flags & MS_REMOUNT) !== 0) return remount(at, flags)
  if ((flags & MS_BIND) !== 0) return bindMount(t, source, at, flags)
  if ((flags & MS_PROPAGATION) !== 0) return at.dentry === at.mount.root ? 0 : -EINVAL
  if ((flags & MS_MOVE) !== 0) return moveMount(t, source, at)
  return newMount(t, source, at, type, flags, data)
}

function remountBind(at: Path, flags: number): number {
  if (at.dentry !== at.mount.root) return -EINVAL
  at.mount.flags = mountFlags(flags)
  Dentry.generation++
  return 0
}

function remount(at: Path, flags: number): number {
  if (at.dentry !== at.mount.root) return -EINVAL
  at.mount.flags = mountFlags(flags)
  Dentry.generation++
  return 0
}

function newMount(
  t: Task,
  source: string | null,
  at: Path,
  type: string | null,
  flags: number,
  data: string | null,
): number {
  if (type === null) return -EINVAL
  const fs = fileSystem(type)
  if (fs === undefined) return -ENODEV
  const options = data ?? ''
  const sb = fs.mount({ kernel: t.kernel, source: source ?? 'none', options, flags, creds: t.creds })
  if (typeof sb === 'number') return sb
  return attach(t.fs.namespace, new Mount(sb, sb.rootDentry, mountFlags(flags)), at)
}

/** Attaches a mount to a place: both directories, or both not. */
export function attach(ns: MountNamespace, mount: Mount, at: Path): number {
  if (mount.root.inode!.isDir !== at.inode.isDir) return -ENOTDIR
  if (at.dentry.unhashed && !at.dentry.isRoot) return -ENOENT
  ns.attach(mount, at.mount, at.dentry)
  return 0
}

function isBelow(mount: Mount, top: Mount): boolean {
  for (let m: Mount | null = mount; m !== null; m = m.parent) if (m === top) return true
  return false
}

function dentryIsBelow(dentry: Dentry, top: Dentry): boolean {
  for (let d = dentry; ; d = d.parent) {
    if (d === top) return true
    if (d.isRoot) return false
  }
}

function bindMount(t: Task, source: string | null, at: Path, flags: number): number {
  if (source === null || source === '') return source === null ? -EINVAL : -ENOENT
  const from = walk(t, source, LOOKUP_FOLLOW)
  if (typeof from === 'number') return from
  return bind(t.fs.namespace, from, at, (flags & MS_REC) !== 0)
}

/** A second view of `from` at `at`; `recursive` brings the mounts below along. */
export function bind(ns: MountNamespace, from: Path, at: Path, recursive: boolean): number {
  const copy = new Mount(from.mount.sb, from.dentry, from.mount.flags)
  const below = recursive ? ns.mounts.filter((m) => m.parent !== null && isBelow(m, from.mount)) : []
  const err = attach(ns, copy, at)
  if (err !== 0) return err
  const copies = new Map<Mount, Mount>([[from.mount, copy]])
  for (const m of below) {
    if (m === from.mount || m === copy) continue
    const parent = copies.get(m.parent!)
    if (parent === undefined) continue
    if (m.parent === from.mount && !dentryIsBelow(m.mountpoint!, from.dentry)) continue
    const child = new Mount(m.sb, m.root, m.flags)
    ns.attach(child, parent, m.mountpoint!)
    copies.set(m, child)
  }
  return 0
}

function moveMount(t: Task, source: string | null, at: Path): number {
  if (source === null || source === '') return -EINVAL
  const from = walk(t, source, LOOKUP_FOLLOW)
  if (typeof from === 'number') return from
  const { mount } = from
  if (from.dentry !== mount.root || mount.parent === null) return -EINVAL
  if (isBelow(at.mount, mount)) return -EINVAL
  if (mount.root.inode!.isDir !== at.inode.isDir) return -ENOTDIR
  const ns = t.fs.namespace
  ns.detach(mount)
  ns.attach(mount, at.mount, at.dentry)
  return 0
}

/** umount2(2). */
export function umountAt(t: Task, target: string, flags: number): number {
  if ((flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) !== 0) return -EINVAL
  const at = walk(t, target, (flags & UMOUNT_NOFOLLOW) !== 0 ? 0 : LOOKUP_FOLLOW)
  if (typeof at === 'number') return at
  if (at.dentry !== at.mount.root) return -EINVAL
  if (!t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
  const ns = t.fs.namespace
  if (at.mount.parent === null) return at.mount === ns.root ? -EBUSY : -EINVAL
  if (at.equals(t.fs.root)) return -EBUSY
  const tree = ns.mounts.filter((m) => isBelow(m, at.mount))
  if ((flags & MNT_DETACH) === 0) {
    if (tree.length > 1) return -EBUSY
    if (inUse(at.mount.root)) return -EBUSY
  }
  for (const m of tree.reverse()) ns.detach(m)
  for (const m of tree) {
    if (m.sb.mountCount === 0 && !inUse(m.sb.rootDentry)) m.sb.release()
  }
  return 0
}

/** Whether an open file, a working directory or a root lies in the tree of this dentry. */
function inUse(root: Dentry): boolean {
  const todo = [root]
  for (let dentry = todo.pop(); dentry !== undefined; dentry = todo.pop()) {
    if (dentry.refs > 0) return true
    if (dentry.children !== null) for (const child of dentry.children.values()) todo.push(child)
  }
  return false
}

/** pivot_root(2): `newRoot` becomes the root of the namespace, the old one moves to `putOld`. */
export function pivotRoot(t: Task, newRoot: string, putOld: string): number {
  if (!t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
  const fresh = walk(t, newRoot, LOOKUP_FOLLOW)
  if (typeof fresh === 'number') return fresh
  const put = walk(t, putOld, LOOKUP_FOLLOW)
  if (typeof put === 'number') return put
  if (!fresh.inode.isDir || !put.inode.isDir) return -ENOTDIR
  const ns = t.fs.namespace
  const old = t.fs.root
  if (fresh.mount === old.mount || put.mount === old.mount) return -EBUSY
  if (old.dentry !== old.mount.root || fresh.dentry !== fresh.mount.root) return -EINVAL
  if (fresh.mount.parent === null || !isBelow(put.mount, fresh.mount)) return -EINVAL
  const oldMount = old.mount
  const parent = oldMount.parent
  const mountpoint = oldMount.mountpoint
  ns.detach(fresh.mount)
  if (parent !== null) {
    ns.detach(oldMount)
    ns.attach(fresh.mount, parent, mountpoint!)
  } else {
    ns.detach(oldMount)
    ns.root = fresh.mount
    ns.mounts.unshift(fresh.mount)
    fresh.mount.sb.mountCount++
  }
  ns.attach(oldMount, put.mount, put.dentry)
  // Everybody whose root or cwd was the old root goes along.
  for (const task of t.kernel.ids.tasks()) {
    const { fs } = task
    if (fs.namespace !== ns) continue
    if (fs.root.equals(old)) fs.setRoot(fresh)
    if (fs.cwd.equals(old)) fs.setCwd(fresh)
  }
  return 0
}
