/**
 * The tie between an overlay inode and the lower object it stands for.
 *
 * An unchanged overlay inode is only a copy of the lower attributes: the dentry cache may drop it and look it up again.
 * Once changed it is the truth, and is pinned: entered into its directory (which is then pinned too, up to the root).
 */
import type { Dentry } from '../../vfs/dentry.ts'
import type { Inode } from '../../vfs/inode.ts'
import type { Origin, TmpfsInode } from '../tmpfs/inode.ts'
import type { OverlayDirectory } from './directory.ts'

export class LowerOrigin implements Origin {
  readonly dentry: Dentry
  readonly lower: Inode
  /** Where the object was found; null for the root. */
  private readonly home: OverlayDirectory | null
  private readonly name: string
  pinned: boolean

  constructor(dentry: Dentry, home: OverlayDirectory | null, name: string) {
    this.dentry = dentry
    this.lower = dentry.inode!
    this.home = home
    this.name = name
    this.pinned = home === null
  }

  pin(inode: TmpfsInode): void {
    let origin: LowerOrigin = this
    let object = inode
    // Upwards in a loop: lower trees may be deep.
    while (!origin.pinned) {
      origin.pinned = true
      const home = origin.home!
      home.keep(origin.name, object)
      object = home
      origin = home.origin as LowerOrigin
    }
  }
}

/** Attributes as the lower layer has them. */
export function copyAttributes(to: TmpfsInode, from: Inode): void {
  to.nlink = from.nlink
  to.rdev = from.rdev
  to.size = from.size
  to.blocks = from.blocks
  to.blksize = from.blksize
  to.atimeSec = from.atimeSec
  to.atimeNsec = from.atimeNsec
  to.mtimeSec = from.mtimeSec
  to.mtimeNsec = from.mtimeNsec
  to.ctimeSec = from.ctimeSec
  to.ctimeNsec = from.ctimeNsec
  to.btimeSec = from.btimeSec
  to.btimeNsec = from.btimeNsec
}
