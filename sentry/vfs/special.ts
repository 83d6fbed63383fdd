/**
 * Opening what is not a file of its own file system: FIFOs and device nodes, wherever their inode lives (Linux:
 * init_special_inode). fs/pipe.ts and fs/dev register here; file systems call {@link openSpecial} from Inode.open.
 */
import { ENXIO } from '../abi/errno.ts'
import type { Task } from '../kernel/task.ts'
import type { FileDescription } from './file-description.ts'
import { type Inode, S_IFCHR, S_IFIFO, S_IFMT } from './inode.ts'
import type { Path } from './path.ts'

/** As Inode.open; may return BLOCK for a FIFO that waits for its other end. */
export type SpecialOpener = (t: Task, inode: Inode, path: Path, flags: number) => FileDescription | number

const none: SpecialOpener = () => -ENXIO
let openFifo = none
let openCharDevice = none

export function registerFifo(opener: SpecialOpener): void {
  openFifo = opener
}
/** Gets every character device; tells them apart by `inode.rdev`. */
export function registerCharDevices(opener: SpecialOpener): void {
  openCharDevice = opener
}

/** Sockets and block devices cannot be opened: ENXIO, as for a device without a driver. */
export function openSpecial(t: Task, inode: Inode, path: Path, flags: number): FileDescription | number {
  switch (inode.mode & S_IFMT) {
    case S_IFIFO:
      return openFifo(t, inode, path, flags)
    case S_IFCHR:
      return openCharDevice(t, inode, path, flags)
    default:
      return -ENXIO
  }
}
