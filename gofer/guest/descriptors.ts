/**
 * What a guest makes this process hold.
 *
 * What must stay true: each descriptor that a guest causes is counted, and the count is bounded.
 */
import { closeFd, readlinkat, STATX_OFFSET } from '../../native/host-files.ts'
import { ENFILE } from '../request.ts'
import type { ServedMount } from '../resolve.ts'
import { fdName, SCRATCH_TEXT, SCRATCH_TEXT_SIZE, scratch, statFd, statField } from './scratch.ts'

const AT_FDCWD = -100

/** Descriptors that guests may hold at a time, in this process. */
export class Descriptors {
  used = 0
  readonly limit: number

  constructor(limit: number) {
    this.limit = limit
  }

  /** 0, or −ENFILE when there is none left. To be called before one is opened. */
  refuse(): number {
    return this.used < this.limit ? 0 : -ENFILE
  }

  close(fd: number): void {
    closeFd(fd)
    this.used--
  }
}

/** Numbers for devices other than that of a mount's root: they tell inodes of the same number apart. */
class DeviceNumbers {
  private readonly known = new Map<number, number>()

  /** 1…65535; devices beyond share the last. */
  of(major: number, minor: number): number {
    const key = major * 0x10_0000 + minor
    let n = this.known.get(key)
    if (n === undefined) {
      if (this.known.size >= 0xffff) return 0xffff
      n = this.known.size + 1
      this.known.set(key, n)
    }
    return n
  }
}
const devices = new DeviceNumbers()

/** Of the file of the last {@link statFd}: what tells its inode number from those of the mount's own device. */
export function deviceBits(root: ExportedMount): number {
  const major = statField(STATX_OFFSET.devMajor)
  const minor = statField(STATX_OFFSET.devMinor)
  return major === root.major && minor === root.minor ? 0 : devices.of(major, minor) << 16
}

/** What a session knows of a mount beside its configuration. */
export interface ExportedMount {
  readonly mount: ServedMount
  /** Device of its root. */
  readonly major: number
  readonly minor: number
  /** Path of its root as /proc/self/fd shows it. */
  readonly path: string
}

/** The working directory is /proc/self/fd already. */
export function exportMount(mount: ServedMount): ExportedMount {
  const n = readlinkat(AT_FDCWD, fdName(mount.rootFd), scratch.at(SCRATCH_TEXT), SCRATCH_TEXT_SIZE)
  const error = n < 0 ? n : statFd(mount.rootFd)
  if (error < 0) throw new Error(`mount ${mount.id}: error ${-error}`)
  const path = scratch.bytes.toString('latin1', SCRATCH_TEXT, SCRATCH_TEXT + n)
  return { mount, major: statField(STATX_OFFSET.devMajor), minor: statField(STATX_OFFSET.devMinor), path }
}
