/**
 * Registry of character device drivers by (major, minor) (Linux: cdev_map, fs/char_dev.c).
 *
 * A device node is only a name for a driver: whichever file system holds the node (tmpfs, overlay, gofer), its inode's
 * open() ends in {@link openCharDevice}. Drivers are the sentry's own; a node never reaches a device of the host.
 */
import { ENXIO } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { devMajor, devMinor, type Inode } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { registerCharDevices } from '../../vfs/special.ts'

/**
 * Opens the device: `inode` is the node (its rdev says which minor), `path` the name it was opened by. Each open makes a
 * new description; −errno otherwise.
 */
export type CharDeviceOpen = (t: Task, inode: Inode, path: Path, flags: number) => FileDescription | number

const byNumber = new Map<number, CharDeviceOpen>()
const byMajor = new Map<number, CharDeviceOpen>()

const key = (major: number, minor: number): number => major * 0x100000 + minor

export function registerCharDevice(major: number, minor: number, open: CharDeviceOpen): void {
  byNumber.set(key(major, minor), open)
}

/** A driver for every minor of `major` that has none of its own (pts: 136). */
export function registerCharMajor(major: number, open: CharDeviceOpen): void {
  byMajor.set(major, open)
}

/** What inode.open() of a character device node does. −ENXIO: no such driver, as Linux says. */
export function openCharDevice(t: Task, inode: Inode, path: Path, flags: number): FileDescription | number {
  const major = devMajor(inode.rdev)
  const open = byNumber.get(key(major, devMinor(inode.rdev))) ?? byMajor.get(major)
  return open === undefined ? -ENXIO : open(t, inode, path, flags)
}

registerCharDevices(openCharDevice)
