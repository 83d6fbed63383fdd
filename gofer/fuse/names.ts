/**
 * Requests that make, move and remove names: create, tmpfile, mkdir, mknod, symlink, link, unlink, rmdir, rename; and
 * readlink.
 */
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_FOLLOW,
  closeFd,
  linkat,
  mkdirat,
  mknodat,
  O_CREAT,
  O_EXCL,
  O_NOCTTY,
  O_NONBLOCK,
  O_PATH,
  O_RDWR,
  O_TMPFILE,
  readlinkat,
  renameat2,
  STATX_OFFSET,
  symlinkat,
  unlinkat,
} from '../../native/host-files.ts'
import { giveOwner, PERMISSIONS } from '../guest/attributes.ts'
import {
  emptyString,
  fdName,
  MAX_LINK,
  reopenFd,
  SCRATCH_NAME,
  SCRATCH_OTHER_NAME,
  SCRATCH_TEXT,
  scratch,
  statFd,
  statField,
  statMode,
  statName,
} from '../guest/scratch.ts'
import {
  EEXIST,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  EPERM,
  ESTALE,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../request.ts'
import { answerEntry, putEntry } from './entries.ts'
import type { Node } from './nodes.ts'
import type { Session } from './session.ts'
import { FOPEN_KEEP_CACHE } from './wire.ts'

const S_ISGID = 0o2000
const RENAME_NOREPLACE = 1
const RENAME_EXCHANGE = 2
const NAME = scratch.at(SCRATCH_NAME)
const OTHER_NAME = scratch.at(SCRATCH_OTHER_NAME)
const DOT = Buffer.from('.\0')

/**
 * Gives a new file the owner and bits that were asked for; its directory's ACL may have interfered. A directory with
 * S_ISGID has given it its group already, and a directory that bit, too. Then the last stat is of it. 0 or −errno.
 */
function finishNew(s: Session, dirfd: number, fd: number, type: number, mode: number): number {
  let error = statFd(dirfd)
  const inherits = (statMode() & S_ISGID) !== 0
  const gid = inherits ? statField(STATX_OFFSET.gid) : s.gid
  const wanted = inherits && type === S_IFDIR ? mode | S_ISGID : mode
  error ||= statFd(fd)
  return error || giveOwner(fd, type, s.uid, gid, wanted)
}

/**
 * The same of what was just made as `name`, and its entry. By a descriptor: what somebody may have put in its place is
 * another type, or was made by one who may make such things here.
 */
function finish(s: Session, directory: Node, dirfd: number, name: string, type: number, mode: number): number {
  const { descriptors, resolver } = s.shared
  const fd = descriptors.refuse() || resolver.openName(dirfd, NAME, O_PATH, 0)
  if (fd < 0) return fd
  const error = finishNew(s, dirfd, fd, type, mode)
  closeFd(fd)
  return error !== 0 ? error : answerEntry(s, directory, name)
}

export function mkdir(s: Session, directory: Node): number {
  const mode = s.r.u32() & PERMISSIONS
  s.r.u32()
  const name = s.takeName(SCRATCH_NAME)
  const dirfd = s.directory(directory)
  if (dirfd < 0) return dirfd
  return mkdirat(dirfd, NAME, mode) || finish(s, directory, dirfd, name, S_IFDIR, mode)
}

export function mknod(s: Session, directory: Node): number {
  const mode = s.r.u32()
  const device = s.r.u32()
  s.r.skip(8)
  const name = s.takeName(SCRATCH_NAME)
  const dirfd = s.directory(directory)
  if (dirfd < 0) return dirfd
  const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT
  const isDevice = type === S_IFCHR || type === S_IFBLK
  if (!isDevice && type !== S_IFREG && type !== S_IFIFO && type !== S_IFSOCK) return -EINVAL
  if (isDevice && !s.exported.mount.allowDevices) return -EPERM
  const permissions = mode & PERMISSIONS
  const error = mknodat(dirfd, NAME, type | permissions, isDevice ? device : 0)
  return error || finish(s, directory, dirfd, name, type, permissions)
}

export function symlink(s: Session, directory: Node): number {
  const name = s.takeName(SCRATCH_NAME)
  const length = s.r.copyTerminated(scratch.bytes, SCRATCH_TEXT, MAX_LINK)
  const dirfd = s.directory(directory)
  if (dirfd < 0) return dirfd
  if (length <= 0) return length < 0 ? -ENAMETOOLONG : -ENOENT
  const error = symlinkat(scratch.at(SCRATCH_TEXT), dirfd, NAME)
  return error || finish(s, directory, dirfd, name, S_IFLNK, 0)
}

/**
 * What was opened with the node that was just found: a handle, or nothing, where files are known by their nodes and what
 * is cached of them holds.
 */
function answerOpen(s: Session, node: Node, fd: number): number {
  let handle = 0
  if (s.isShared) {
    // At worst, out of descriptors, it is held by its name alone.
    s.nodes.hold(node)
    node.opens++
    handle = s.handles.adopt(node, fd)
  } else s.streams.adopt(node, fd, true)
  putEntry(s, node)
  s.w
    .u64(handle)
    .u32(s.isShared ? 0 : FOPEN_KEEP_CACHE)
    .u32(0)
  return 0
}

export function create(s: Session, directory: Node): number {
  const { r, shared } = s
  const asked = r.u32()
  const mode = r.u32() & PERMISSIONS
  r.skip(8)
  const name = s.takeName(SCRATCH_NAME)
  const dirfd = s.directory(directory)
  if (dirfd < 0) return dirfd
  const flags = O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK | O_NOCTTY
  const fd = shared.descriptors.refuse() || shared.resolver.openName(dirfd, NAME, flags, mode)
  if (fd === -EEXIST && s.isShared && (asked & O_EXCL) === 0) return openExisting(s, directory, dirfd, name, asked)
  if (fd < 0) return fd
  const error = finishNew(s, dirfd, fd, S_IFREG, mode)
  const node = error || s.nodes.found(directory, name)
  if (typeof node === 'number') {
    closeFd(fd)
    return node
  }
  return answerOpen(s, node, fd)
}

/** Somebody else made it first, which is no error without O_EXCL. */
function openExisting(s: Session, directory: Node, dirfd: number, name: string, flags: number): number {
  const node = statName(dirfd, NAME) || s.nodes.found(directory, name)
  if (typeof node === 'number') return node
  const handle = s.handles.add(node, flags, false)
  const error = handle < 0 ? handle : s.nodes.stat(node)
  if (error !== 0) {
    s.nodes.forget(node.id, 1)
    return error
  }
  putEntry(s, node)
  s.w.u64(handle).u32(0).u32(0)
  return 0
}

export function tmpfile(s: Session, directory: Node): number {
  const { r, shared } = s
  const exclusive = r.u32() & O_EXCL
  const mode = r.u32() & PERMISSIONS
  r.skip(8)
  s.takeName(SCRATCH_NAME)
  const dirfd = s.directory(directory)
  if (dirfd < 0) return dirfd
  DOT.copy(scratch.bytes, SCRATCH_NAME)
  const flags = O_TMPFILE | O_RDWR | exclusive
  const fd = shared.descriptors.refuse() || shared.resolver.openName(dirfd, NAME, flags, mode)
  if (fd < 0) return fd
  shared.descriptors.used++
  const error = finishNew(s, dirfd, fd, S_IFREG, mode)
  const data = error || shared.descriptors.refuse() || reopenFd(fd, O_RDWR | O_NONBLOCK)
  if (data < 0) {
    shared.descriptors.close(fd)
    return data
  }
  // Its stat is still the last one.
  const node = s.nodes.found(directory, '', fd)
  if (typeof node !== 'number') return answerOpen(s, node, data)
  closeFd(data)
  return node
}

export function link(s: Session, directory: Node): number {
  const node = s.nodes.get(s.r.u64())
  const name = s.takeName(SCRATCH_NAME)
  const dirfd = s.directory(directory)
  if (dirfd < 0) return dirfd
  if (node === undefined) return -ESTALE
  const fd = s.nodes.borrow(node)
  if (fd < 0) return fd
  const error = linkat(AT_FDCWD, fdName(fd), dirfd, NAME, AT_SYMLINK_FOLLOW) || statFd(fd)
  s.nodes.giveBack(node, fd)
  return error || answerEntry(s, directory, name)
}

function remove(s: Session, directory: Node, flags: number): number {
  const name = s.takeName(SCRATCH_NAME)
  const dirfd = s.directory(directory)
  if (dirfd < 0) return dirfd
  s.nodes.beforeRemoval(directory, name)
  return unlinkat(dirfd, NAME, flags)
}

export const unlink = (s: Session, directory: Node): number => remove(s, directory, 0)
export const rmdir = (s: Session, directory: Node): number => remove(s, directory, AT_REMOVEDIR)

function move(s: Session, directory: Node, flags: number, target: Node | undefined): number {
  const name = s.takeName(SCRATCH_NAME)
  const newName = s.takeName(SCRATCH_OTHER_NAME)
  const from = s.directory(directory)
  if (from < 0) return from
  if (target === undefined) return -ESTALE
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) return -EINVAL
  const to = s.directory(target)
  if (to < 0) return to
  const exchange = (flags & RENAME_EXCHANGE) !== 0
  if (!exchange && (target !== directory || newName !== name)) s.nodes.beforeRemoval(target, newName)
  const error = renameat2(from, NAME, to, OTHER_NAME, flags)
  if (error === 0) s.nodes.renamed(directory, name, target, newName, exchange)
  return error
}

export function rename(s: Session, directory: Node): number {
  const target = s.nodes.get(s.r.u64())
  return move(s, directory, 0, target)
}

export function rename2(s: Session, directory: Node): number {
  const target = s.nodes.get(s.r.u64())
  const flags = s.r.u32()
  s.r.u32()
  return move(s, directory, flags, target)
}

export function readlink(s: Session, node: Node): number {
  const refused = s.refuse()
  if (refused !== 0) return refused
  if (node.type !== S_IFLNK) return -EINVAL
  const fd = s.nodes.borrow(node)
  if (fd < 0) return fd
  const n = readlinkat(fd, emptyString, s.w.memory.at(s.w.pos), MAX_LINK)
  s.nodes.giveBack(node, fd)
  if (n < 0) return n
  s.w.pos += n
  return 0
}
