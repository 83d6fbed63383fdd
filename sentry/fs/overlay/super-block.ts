/**
 * Overlay (Linux: fs/overlayfs, with the freedom of owning both layers): a read-only lower file system of any kind, and
 * changes in memory. There is no upper super block: the overlay is a tmpfs whose objects may stand for lower ones.
 *
 * What it does better than Linux's: directories of the lower layer can be renamed, hard links stay links, a descriptor
 * opened for reading sees later writes, and st_dev/st_ino never change.
 */
import type { Dentry } from '../../vfs/dentry.ts'
import type { StatFs } from '../../vfs/inode.ts'
import { Mount, MS_RDONLY } from '../../vfs/mount.ts'
import type { SuperBlock } from '../../vfs/super-block.ts'
import type { TmpfsDirectory } from '../tmpfs/directory.ts'
import type { TmpfsInode } from '../tmpfs/inode.ts'
import { TmpfsSuperBlock } from '../tmpfs/super-block.ts'
import { OverlayDirectory } from './directory.ts'
import type { OverlayFile } from './file.ts'

const OVERLAYFS_MAGIC = 0x794c7630
/** Lower inode numbers are kept; new ones start above what a disk file system of sane size gives. */
const FIRST_INO = 0x2_0000_0000
/** Idle lower descriptions kept open: enough for the libraries and tools of a busy build. */
const IDLE_LOWER_FILES = 256
const PAGE = 4096

export class OverlaySuperBlock extends TmpfsSuperBlock {
  override readonly type = 'overlay'
  readonly lowerMount: Mount
  /** Overlay objects of hard-linked lower files, by lower inode number. */
  readonly links = new Map<number, TmpfsInode>()
  /** Files whose lower description is open but unused, oldest first. */
  readonly lowerFiles = new Set<OverlayFile>()
  private nextIno = FIRST_INO

  /** `size`: bytes of file data that changes may take; they are the host's memory. */
  constructor(lower: SuperBlock, size: number) {
    PENDING.lower = lower
    super({ size, inodes: 0, mode: 0o755, uid: 0, gid: 0 })
    this.lowerMount = new Mount(lower, lower.rootDentry, MS_RDONLY)
    this.source = 'overlay'
    this.options = 'lowerdir=/,upperdir=memory'
  }

  /** Directories look like those of the disk file system below. */
  override get directorySize(): number {
    return 4096
  }
  override get entrySize(): number {
    return 0
  }
  override get directoryBlocks(): number {
    return 8
  }

  protected override makeRoot(): TmpfsDirectory {
    return new OverlayDirectory(this, PENDING.lower!.rootDentry, null, '')
  }

  override newIno(): number {
    return this.nextIno++
  }

  override prefetch(dir: Dentry, names: readonly string[], open = false): void {
    if (dir.inode instanceof OverlayDirectory) dir.inode.prefetch(names, open)
  }

  /** Keeps the lower description of a closed file for its next open. */
  keepLower(file: OverlayFile): void {
    this.lowerFiles.add(file)
    if (this.lowerFiles.size <= IDLE_LOWER_FILES) return
    for (const oldest of this.lowerFiles) {
      this.lowerFiles.delete(oldest)
      oldest.closeLower()
      return
    }
  }

  override statfs(out: StatFs): number {
    const err = this.lowerMount.sb.statfs(out)
    out.type = OVERLAYFS_MAGIC
    const unit = out.frsize === 0 ? out.bsize : out.frsize
    const free = Math.floor((Math.max(0, this.maxPages - this.usedPages) * PAGE) / unit)
    out.bfree = Math.min(out.bfree, free)
    out.bavail = Math.min(out.bavail, free)
    return err
  }
}

/** The constructor of the base class makes the root before ours can store the lower layer. */
const PENDING: { lower: SuperBlock | null } = { lower: null }
