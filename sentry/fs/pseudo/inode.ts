/**
 * Base of generated file systems (proc, sysfs, cgroupfs): inodes that are objects of the kernel, not storage
 * (Linux: fs/libfs.c, fs/kernfs).
 *
 * Nothing here is kept on a medium: a file's bytes are rendered when it is read, a directory's entries when it is
 * looked at. What must stay true: an inode object stays the same for as long as the thing that it shows lives, because
 * dentries and mounts hold on to it; `alive` says whether it still does.
 */
import { EPERM } from '../../abi/errno.ts'
import { readRealtime } from '../../kernel/clock.ts'
import type { Dentry } from '../../vfs/dentry.ts'
import {
  ATTR_ATIME,
  ATTR_GID,
  ATTR_MODE,
  ATTR_MTIME,
  ATTR_UID,
  Inode,
  S_IFMT,
  type SetAttr,
  type StatFs,
} from '../../vfs/inode.ts'
import { SuperBlock } from '../../vfs/super-block.ts'

export abstract class PseudoSuperBlock extends SuperBlock {
  /** What statfs(2) shows as the file system's magic number. */
  protected abstract readonly magic: number
  protected readonly blockSize: number = 4096
  /** st_blksize. */
  readonly inodeBlockSize: number = 4096
  /** Names may appear and vanish by themselves, so cached dentries are asked. */
  override readonly shared: boolean = true
  private lastIno = 0

  /** The first of `count` fresh inode numbers in a row. */
  nextIno(count = 1): number {
    const first = this.lastIno + 1
    this.lastIno += count
    return first
  }

  override revalidate(dentry: Dentry): boolean {
    const inode = dentry.inode
    return inode instanceof PseudoInode && inode.alive && inode.revalidate() === 0
  }

  statfs(out: StatFs): number {
    out.type = this.magic
    out.bsize = this.blockSize
    out.frsize = this.blockSize
    out.blocks = 0
    out.bfree = 0
    out.bavail = 0
    out.files = 0
    out.ffree = 0
    out.namelen = 255
    return 0
  }
}

export abstract class PseudoInode extends Inode {
  /** Whether chmod is refused, as for everything below /proc/PID. */
  protected readonly fixedMode: boolean = false

  constructor(sb: PseudoSuperBlock, mode: number, ino: number = sb.nextIno()) {
    super(sb, ino, mode, 0, 0)
    this.blksize = sb.inodeBlockSize
    const now = readRealtime()
    this.atimeSec = this.mtimeSec = this.ctimeSec = now.sec
    this.atimeNsec = this.mtimeNsec = this.ctimeNsec = now.nsec
  }

  /** Whether what this inode shows is still there. A dentry of a dead inode is looked up again. */
  get alive(): boolean {
    return true
  }

  setattr(attr: SetAttr): number {
    if ((attr.valid & ATTR_MODE) !== 0) {
      if (this.fixedMode) return -EPERM
      this.mode = (this.mode & S_IFMT) | (attr.mode & 0o7777)
    }
    if ((attr.valid & ATTR_UID) !== 0) this.uid = attr.uid
    if ((attr.valid & ATTR_GID) !== 0) this.gid = attr.gid
    if ((attr.valid & ATTR_ATIME) !== 0) {
      this.atimeSec = attr.atimeSec
      this.atimeNsec = attr.atimeNsec
    }
    if ((attr.valid & ATTR_MTIME) !== 0) {
      this.mtimeSec = attr.mtimeSec
      this.mtimeNsec = attr.mtimeNsec
    }
    const now = readRealtime()
    this.ctimeSec = now.sec
    this.ctimeNsec = now.nsec
    return 0
  }
}
