/**
 * Memory for the arguments and results of host calls, one block for the process: it serves one message at a time.
 */
import { AT_EMPTY_PATH, AT_FDCWD, HostMemory, openatAddress, STATX_OFFSET, statxAt } from '../../native/host-files.ts'
import { S_IFMT } from '../request.ts'

export const MAX_NAME = 255
export const MAX_LINK = 4095

const STAT = 0
export const SCRATCH_NAME = 256
export const SCRATCH_OTHER_NAME = SCRATCH_NAME + MAX_NAME + 1
const FD_NAME = SCRATCH_OTHER_NAME + MAX_NAME + 1
const EMPTY = FD_NAME + 16
/** Two struct timespec, a struct statfs or a struct flock. */
export const SCRATCH_RECORD = EMPTY + 16
export const SCRATCH_TEXT = SCRATCH_RECORD + 128
export const SCRATCH_TEXT_SIZE = MAX_LINK + 1
export const SCRATCH_DIRECTORY = SCRATCH_TEXT + SCRATCH_TEXT_SIZE
export const SCRATCH_DIRECTORY_SIZE = 65536

export const scratch = new HostMemory(SCRATCH_DIRECTORY + SCRATCH_DIRECTORY_SIZE)
export const emptyString: number = scratch.at(EMPTY)

/** What is asked of statx: all that a qid, Rgetattr and an owner check need. */
const STATX_MASK = 0xfff

/** statx of what `fd` refers to, O_PATH or not. Then the getters below. 0 or −errno. */
export const statFd = (fd: number): number => statxAt(fd, emptyString, AT_EMPTY_PATH, STATX_MASK, scratch.at(STAT))
/** The same of a name that is not followed. */
export const statName = (dirfd: number, name: number): number =>
  statxAt(dirfd, name, 0x900, STATX_MASK, scratch.at(STAT))

const { view } = scratch
export const statField = (offset: number): number => view.getUint32(STAT + offset, true)
export const statMode = (): number => view.getUint16(STAT + STATX_OFFSET.mode, true)
export const statType = (): number => statMode() & S_IFMT

/**
 * The name of descriptor `fd` in the working directory, which is /proc/self/fd: following it leads to the very file
 * that is open, whatever its path is by now, and never any further (proc(5)). Overwritten by the next.
 */
export function fdName(fd: number): number {
  const { bytes } = scratch
  let at = FD_NAME + 15
  bytes[at] = 0
  let n = fd
  do {
    bytes[--at] = 48 + (n % 10)
    n = Math.floor(n / 10)
  } while (n > 0)
  return scratch.at(at)
}

/** Opens what `fd` refers to once more. `flags` without O_NOFOLLOW. */
export const reopenFd = (fd: number, flags: number): number => openatAddress(AT_FDCWD, fdName(fd), flags, 0)
