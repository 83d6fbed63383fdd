/**
 * Inodes without a name: pipefs, sockfs and anon_inodefs (Linux: fs/anon_inodes.c, the pseudo file systems of pipe.c
 * and net/socket.c).
 *
 * A pipe or socket has an inode of its own, whose number shows in /proc/PID/fd ('pipe:[7]'); everything else (eventfd,
 * epoll, …) shares {@link ANON_INODE}. Nothing here is ever mounted where a guest can walk to it.
 */
import { ENXIO } from '../abi/errno.ts'
import { readRealtime } from '../kernel/clock.ts'
import type { Credentials } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import { Dentry } from '../vfs/dentry.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import type { SetAttr, StatFs } from '../vfs/inode.ts'
import { ATTR_ATIME, ATTR_GID, ATTR_MODE, ATTR_MTIME, ATTR_UID, Inode, S_IFMT } from '../vfs/inode.ts'
import { Mount } from '../vfs/mount.ts'
import { Path } from '../vfs/path.ts'
import { SuperBlock } from '../vfs/super-block.ts'

export class AnonSuperBlock extends SuperBlock {
  readonly type: string
  readonly root: Inode
  private readonly magic: number
  /** Kernel-internal mount, so that a nameless object can be the end of a path (magic links of /proc/PID/fd). */
  readonly mount: Mount

  constructor(type: string, magic: number) {
    super()
    this.type = type
    this.magic = magic
    this.root = new AnonInode(this, 1, 0o040755, 0, 0)
    this.mount = new Mount(this, new Dentry(this, null, '/', this.root), 0)
  }

  statfs(out: StatFs): number {
    out.type = this.magic
    out.bsize = 4096
    out.frsize = 4096
    out.blocks = out.bfree = out.bavail = out.files = out.ffree = 0
    out.namelen = 255
    out.flags = 0
    return 0
  }
}

export class AnonInode extends Inode {
  constructor(sb: SuperBlock, ino: number, mode: number, uid: number, gid: number) {
    super(sb, ino, mode, uid, gid)
    const now = readRealtime()
    this.atimeSec = this.mtimeSec = this.ctimeSec = now.sec
    this.atimeNsec = this.mtimeNsec = this.ctimeNsec = now.nsec
  }

  /** Through /proc/PID/fd: sockets and anonymous inodes have no open operation. */
  open(_t: Task, _path: Path, _flags: number): FileDescription | number {
    return -ENXIO
  }

  setattr(attr: SetAttr): number {
    if (attr.valid & ATTR_MODE) this.mode = (this.mode & S_IFMT) | (attr.mode & 0o7777)
    if (attr.valid & ATTR_UID) this.uid = attr.uid
    if (attr.valid & ATTR_GID) this.gid = attr.gid
    if (attr.valid & ATTR_ATIME) {
      this.atimeSec = attr.atimeSec
      this.atimeNsec = attr.atimeNsec
    }
    if (attr.valid & ATTR_MTIME) {
      this.mtimeSec = attr.mtimeSec
      this.mtimeNsec = attr.mtimeNsec
    }
    const now = readRealtime()
    this.ctimeSec = now.sec
    this.ctimeNsec = now.nsec
    return 0
  }
}

export const PIPEFS = new AnonSuperBlock('pipefs', 0x50495045)
export const SOCKFS = new AnonSuperBlock('sockfs', 0x534f434b)
export const ANON_INODEFS = new AnonSuperBlock('anon_inodefs', 0x09041934)

let lastIno = 4096
/** A fresh inode number of pipefs, sockfs and the like (Linux: get_next_ino). */
export function nextAnonIno(): number {
  return ++lastIno
}

/** The inode of eventfds, epolls and their kind: mode 0600, no type. */
export const ANON_INODE: Inode = new AnonInode(ANON_INODEFS, nextAnonIno(), 0o600, 0, 0)

/** Inode of a new socket: `new SocketInode…` of the net code may also subclass AnonInode. */
export function newSocketInode(creds: Credentials): Inode {
  return new AnonInode(SOCKFS, nextAnonIno(), 0o140777, creds.fsuid, creds.fsgid)
}

/**
 * A path that stands for a nameless object: what following /proc/PID/fd/N arrives at, for files with `path === null`.
 * Opening it calls the inode's open() (a pipe opens its other end; the rest is −ENXIO).
 */
export function anonPath(file: FileDescription): Path {
  const inode = file.inode
  const mount = inode.sb instanceof AnonSuperBlock ? inode.sb.mount : ANON_INODEFS.mount
  const dentry = new Dentry(inode.sb, mount.root, file.describe(), inode)
  dentry.unhashed = true
  return new Path(mount, dentry)
}
