/**
 * Attributes as both front ends have to give them: what a new file is given, and how the guest's kernel takes a device's
 * number.
 */
import { AT_EMPTY_PATH, AT_FDCWD, fchmodat, fchownat, STATX_OFFSET } from '../../native/host-files.ts'
import { ESTALE, S_IFLNK } from '../request.ts'
import { emptyString, fdName, statFd, statField, statMode, statType } from './scratch.ts'

export const PERMISSIONS = 0o7777
/** Nanoseconds of utimensat(2) that are none. */
export const UTIME_NOW = 0x3fffffff
export const UTIME_OMIT = 0x3ffffffe

/** As Linux's new_decode_dev takes it. */
export const deviceNumber = (major: number, minor: number): number =>
  ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0

/**
 * Gives the new file that `fd` (O_PATH or not) refers to its owner and bits, unless it is of another type: then it is not what
 * was made. Preconditions: the last stat was of it, as it is afterwards. 0 or −errno.
 */
export function giveOwner(fd: number, type: number, uid: number, gid: number, mode: number): number {
  let error = statType() === type ? 0 : -ESTALE
  if (error === 0 && (statField(STATX_OFFSET.uid) !== uid || statField(STATX_OFFSET.gid) !== gid)) {
    // chown clears S_ISUID: hence before the comparison of bits.
    error = fchownat(fd, emptyString, uid, gid, AT_EMPTY_PATH) || statFd(fd)
  }
  if (error === 0 && type !== S_IFLNK && (statMode() & PERMISSIONS) !== mode) {
    error = fchmodat(AT_FDCWD, fdName(fd), mode) || statFd(fd)
  }
  return error
}
