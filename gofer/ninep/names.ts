/**
 * Messages that make, move and remove names: mkdir, mknod, symlink, link, unlinkat, renameat; the older rename and
 * remove, which name a file by its fid alone; and readlink.
 */
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_FOLLOW,
  linkat,
  mkdirat,
  mknodat,
  readlinkat,
  renameat2,
  STATX_OFFSET,
  symlinkat,
  unlinkat,
} from '../../native/host-files.ts'
import { deviceNumber, giveOwner, PERMISSIONS } from '../guest/attributes.ts'
import {
  emptyString,
  fdName,
  MAX_LINK,
  SCRATCH_NAME,
  SCRATCH_OTHER_NAME,
  SCRATCH_TEXT,
  SCRATCH_TEXT_SIZE,
  scratch,
  statField,
  statName,
  statType,
} from '../guest/scratch.ts'
import {
  EBADF,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  EPERM,
  EPROTO,
  EXDEV,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../request.ts'
import { Place } from '../resolve.ts'
import type { Fid } from './fids.ts'
import type { Handle } from './handles.ts'
import type { Session } from './session.ts'
import { pin } from './walks.ts'

/**
 * Gives what was just made as `name` its owner and bits, and puts its qid. By a descriptor: what somebody may have put
 * in its place is another type, or was made by one who may make such things here.
 */
function finish(s: Session, directory: Fid, name: number, type: number, mode: number, gid: number): number {
  const made = pin(s, directory.handle, name)
  if (typeof made === 'number') return made
  const error = giveOwner(made.fd, type, directory.uid, gid, mode)
  if (error === 0) made.putQid(s.w)
  made.release()
  return error
}

export function mkdir(s: Session): number {
  const { r } = s
  const directory = s.fids.get(r.u32())
  const name = s.takeName(SCRATCH_NAME)
  const mode = r.u32() & PERMISSIONS
  const gid = r.u32()
  const error = s.refuseChange(directory) || mkdirat(directory!.handle.fd, name, mode)
  return error !== 0 ? error : finish(s, directory!, name, S_IFDIR, mode, gid)
}

export function mknod(s: Session): number {
  const { r } = s
  const directory = s.fids.get(r.u32())
  const name = s.takeName(SCRATCH_NAME)
  const mode = r.u32()
  const major = r.u32()
  const minor = r.u32()
  const gid = r.u32()
  const refused = s.refuseChange(directory)
  if (refused !== 0) return refused
  const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT
  const device = type === S_IFCHR || type === S_IFBLK
  if (!device && type !== S_IFREG && type !== S_IFIFO && type !== S_IFSOCK) return -EINVAL
  if (device && !directory!.handle.root.mount.allowDevices) return -EPERM
  if (major > 0xfff || minor > 0xfffff) return -EINVAL
  const number = device ? deviceNumber(major, minor) : 0
  const permissions = mode & PERMISSIONS
  const error = mknodat(directory!.handle.fd, name, type | permissions, number)
  return error !== 0 ? error : finish(s, directory!, name, type, permissions, gid)
}

export function symlink(s: Session): number {
  const { r } = s
  const directory = s.fids.get(r.u32())
  const name = s.takeName(SCRATCH_NAME)
  const length = r.copyText(scratch.bytes, SCRATCH_TEXT, MAX_LINK)
  const gid = r.u32()
  const refused = s.refuseChange(directory)
  if (refused !== 0) return refused
  if (length <= 0) return length < 0 ? -ENAMETOOLONG : -ENOENT
  const error = symlinkat(scratch.at(SCRATCH_TEXT), directory!.handle.fd, name)
  return error !== 0 ? error : finish(s, directory!, name, S_IFLNK, 0, gid)
}

export function link(s: Session): number {
  const { r } = s
  const directory = s.fids.get(r.u32())
  const fid = s.fids.get(r.u32())
  const name = s.takeName(SCRATCH_NAME)
  const refused = s.refuseChange(directory) || s.refuse(fid)
  if (refused !== 0) return refused
  const from = fid!.handle
  if (from.root !== directory!.handle.root) return -EXDEV
  return linkat(AT_FDCWD, fdName(from.fd), directory!.handle.fd, name, AT_SYMLINK_FOLLOW)
}

export function unlinkatMessage(s: Session): number {
  const { r } = s
  const directory = s.fids.get(r.u32())
  const name = s.takeName(SCRATCH_NAME)
  const flags = r.u32()
  const refused = s.refuseChange(directory)
  if (refused !== 0) return refused
  if ((flags & ~AT_REMOVEDIR) !== 0) return -EINVAL
  return unlinkat(directory!.handle.fd, name, flags)
}

export function renameat(s: Session): number {
  const { r } = s
  const from = s.fids.get(r.u32())
  const oldName = s.takeName(SCRATCH_NAME)
  const to = s.fids.get(r.u32())
  const newName = s.takeName(SCRATCH_OTHER_NAME)
  const refused = s.refuseChange(from) || s.refuseChange(to)
  if (refused !== 0) return refused
  if (from!.handle.root !== to!.handle.root) return -EXDEV
  return renameat2(from!.handle.fd, oldName, to!.handle.fd, newName, 0)
}

const place = new Place()

/**
 * Finds a name of the handle's file, into `place`: where /proc/self/fd says that it is, looked up from the mount's root
 * without following anything, and only if that is this very file. −ENOENT when it has no name any more.
 */
function findName(s: Session, handle: Handle): number {
  const n = readlinkat(AT_FDCWD, fdName(handle.fd), scratch.at(SCRATCH_TEXT), SCRATCH_TEXT_SIZE)
  if (n < 0) return n
  if (n === SCRATCH_TEXT_SIZE) return -ENAMETOOLONG
  const { path, mount } = handle.root
  const text = scratch.bytes.toString('latin1', SCRATCH_TEXT, SCRATCH_TEXT + n)
  const prefix = path === '/' ? path : `${path}/`
  if (text === path || !mount.isDirectory) return -EBADF
  if (!text.startsWith(prefix)) return -ENOENT
  scratch.bytes[SCRATCH_TEXT + n] = 0
  // `shared`: the resolver is to remember nothing; here the guest renames by descriptor, behind its back.
  const at = SCRATCH_TEXT + prefix.length
  const error = s.shared.resolver.parent(place, { ...mount, shared: true }, scratch, at, n - prefix.length)
  if (error !== 0) return error
  const there = statName(place.dirfd, place.name)
  const same =
    there === 0 &&
    statType() === handle.type &&
    statField(STATX_OFFSET.ino) === handle.pathLow &&
    (statField(STATX_OFFSET.ino + 4) ^ handle.deviceBits) >>> 0 === handle.pathHigh
  if (!same) place.release()
  return same ? 0 : there || -ENOENT
}

export function rename(s: Session): number {
  const { r } = s
  const fid = s.fids.get(r.u32())
  const to = s.fids.get(r.u32())
  const newName = s.takeName(SCRATCH_OTHER_NAME)
  const refused = s.refuseChange(fid) || s.refuseChange(to)
  if (refused !== 0) return refused
  if (fid!.handle.root !== to!.handle.root) return -EXDEV
  const error = findName(s, fid!.handle)
  if (error !== 0) return error
  const result = renameat2(place.dirfd, place.name, to!.handle.fd, newName, 0)
  place.release()
  return result
}

/** Removes the file and clunks the fid, which is gone even when the file is not. */
export function remove(s: Session): number {
  const number = s.r.u32()
  if (!s.r.complete) return -EPROTO
  const fid = s.fids.take(number)
  if (fid === undefined) return -EBADF
  let result = s.refuseChange(fid) || findName(s, fid.handle)
  if (result === 0) {
    result = unlinkat(place.dirfd, place.name, fid.handle.isDirectory ? AT_REMOVEDIR : 0)
    place.release()
  }
  s.release(fid)
  return result
}

export function readlink(s: Session): number {
  const fid = s.fids.get(s.r.u32())
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  if (!fid!.handle.isLink) return -EINVAL
  const { w } = s
  const n = readlinkat(fid!.handle.fd, emptyString, w.memory.at(w.pos + 2), MAX_LINK)
  if (n < 0) return n
  w.u16(n)
  w.pos += n
  return 0
}
