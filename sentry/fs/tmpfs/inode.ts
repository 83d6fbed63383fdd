/**
 * What all in-memory inodes share: attributes kept here, extended attributes, and the link to where an overlay object came
 * from (Linux: shmem_inode_info).
 */
import { EEXIST, ENODATA, ENOSPC, EOPNOTSUPP } from '../../abi/errno.ts'
import {
  ATTR_ATIME,
  ATTR_GID,
  ATTR_MODE,
  ATTR_MTIME,
  ATTR_SIZE,
  ATTR_UID,
  Inode,
  S_IFMT,
  type SetAttr,
} from '../../vfs/inode.ts'
import { touchCtime, touchNew } from '../../vfs/times.ts'
import type { TmpfsSuperBlock } from './super-block.ts'

const XATTR_CREATE = 1
const XATTR_REPLACE = 2
/** What one inode may hold: about what ext4 allows, and a bound for what a guest can make us keep. */
const XATTR_BYTES = 128 * 1024

/**
 * The lower object that an overlay inode stands for. While nothing was changed the inode can be made again from it; `pin`
 * keeps it from then on.
 */
export interface Origin {
  readonly lower: Inode
  pin(inode: TmpfsInode): void
}

export abstract class TmpfsInode extends Inode {
  declare readonly sb: TmpfsSuperBlock
  /** null in a plain tmpfs. */
  origin: Origin | null = null
  protected xattrs: Map<string, Uint8Array> | null = null

  constructor(sb: TmpfsSuperBlock, ino: number, mode: number, uid: number, gid: number) {
    super(sb, ino, mode, uid, gid)
    touchNew(this)
  }

  /** Something of this object is not what the lower layer says any more. */
  changed(): void {
    if (this.origin !== null) this.origin.pin(this)
  }

  setattr(attr: SetAttr): number {
    this.changed()
    const { valid } = attr
    if ((valid & ATTR_SIZE) !== 0) {
      const err = this.resize(attr.size)
      if (err !== 0) return err
    }
    if ((valid & ATTR_MODE) !== 0) this.mode = (this.mode & S_IFMT) | (attr.mode & 0o7777)
    if ((valid & ATTR_UID) !== 0) this.uid = attr.uid
    if ((valid & ATTR_GID) !== 0) this.gid = attr.gid
    if ((valid & ATTR_ATIME) !== 0) {
      this.atimeSec = attr.atimeSec
      this.atimeNsec = attr.atimeNsec
    }
    if ((valid & ATTR_MTIME) !== 0) {
      this.mtimeSec = attr.mtimeSec
      this.mtimeNsec = attr.mtimeNsec
    }
    touchCtime(this)
    return 0
  }

  /** ATTR_SIZE; only regular files have one. */
  protected resize(_size: number): number {
    return 0
  }

  /** Extended attributes of its own, taken over from the lower object before the first change. */
  private ownXattrs(): Map<string, Uint8Array> {
    if (this.xattrs !== null) return this.xattrs
    const own = new Map<string, Uint8Array>()
    if (this.origin !== null) {
      const names = this.origin.lower.listxattr()
      if (typeof names === 'string') {
        for (const name of names.split('\0')) {
          const value = name === '' ? -1 : this.origin.lower.getxattr(name)
          if (typeof value !== 'number') own.set(name, value)
        }
      }
    }
    this.xattrs = own
    return own
  }

  override getxattr(name: string): Uint8Array | number {
    if (name.startsWith('system.')) return -EOPNOTSUPP
    if (this.xattrs === null) return this.origin === null ? -ENODATA : this.origin.lower.getxattr(name)
    return this.xattrs.get(name) ?? -ENODATA
  }

  override setxattr(name: string, value: Uint8Array, flags: number): number {
    if (name.startsWith('system.')) return -EOPNOTSUPP
    const own = this.ownXattrs()
    const old = own.get(name)
    const has = old !== undefined
    if (has && (flags & XATTR_CREATE) !== 0) return -EEXIST
    if (!has && (flags & XATTR_REPLACE) !== 0) return -ENODATA
    let bytes = name.length + value.length - (has ? name.length + old.length : 0)
    for (const [key, held] of own) bytes += key.length + held.length
    if (bytes > XATTR_BYTES) return -ENOSPC
    this.changed()
    own.set(name, value)
    touchCtime(this)
    return 0
  }

  override listxattr(): string | number {
    if (this.xattrs === null) return this.origin === null ? '' : this.origin.lower.listxattr()
    let names = ''
    for (const name of this.xattrs.keys()) names += `${name}\0`
    return names
  }

  override removexattr(name: string): number {
    if (name.startsWith('system.')) return -EOPNOTSUPP
    const own = this.ownXattrs()
    if (!own.has(name)) return -ENODATA
    this.changed()
    own.delete(name)
    touchCtime(this)
    return 0
  }

  override evict(): void {
    this.sb.inodeGone()
  }
}
