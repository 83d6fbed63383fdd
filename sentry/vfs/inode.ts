/**
 * Inode: a file system object (Linux: struct inode with its i_op). Every file system subclasses it.
 *
 * The fields are the cached attributes; `revalidate()` refreshes them where somebody else may change them. Operations
 * return an object or 0, or −errno. They assume that the caller (vfs/) has checked permissions, name length, read-only
 * mounts and type of the directory, and they do not block. Names are latin1 byte strings, never '', '.', '..', and hold
 * no '/'. A file system that cannot do an operation inherits the error that Linux gives for a missing i_op.
 */
import { EACCES, EINVAL, EISDIR, ENOTDIR, EOPNOTSUPP, EPERM, EXDEV } from '../abi/errno.ts'
import type { Credentials } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import type { WaitQueue } from '../kernel/wait-queue.ts'
import type { DirRecords } from './dir-records.ts'
import type { FileDescription } from './file-description.ts'
import type { Path } from './path.ts'
import type { SuperBlock } from './super-block.ts'

export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000
export const S_ISUID = 0o4000
export const S_ISGID = 0o2000
export const S_ISVTX = 0o1000

/** Which fields of {@link SetAttr} are valid. */
export const ATTR_MODE = 1
export const ATTR_UID = 2
export const ATTR_GID = 4
export const ATTR_SIZE = 8
export const ATTR_ATIME = 16
export const ATTR_MTIME = 32
export const ATTR_CTIME = 64

/** A change of attributes, already checked against the caller's rights. */
export interface SetAttr {
  valid: number
  mode: number
  uid: number
  gid: number
  size: number
  atimeSec: number
  atimeNsec: number
  mtimeSec: number
  mtimeNsec: number
}

/** Receives directory entries; returns false when the caller's buffer is full (that entry is not consumed). */
export interface DirEmitter {
  /** `next` is the position after this entry (d_off); `type` is DT_* (= (mode & S_IFMT) >> 12). */
  emit(name: string, ino: number, type: number, next: number): boolean
  /** Takes ready records from number `first` on, as many as fit, and returns how many. Callers use vfs/dir-records.ts. */
  emitRecords?(records: DirRecords, first: number): number
}

/** What `statfs` fills in. */
export interface StatFs {
  type: number
  bsize: number
  blocks: number
  bfree: number
  bavail: number
  files: number
  ffree: number
  namelen: number
  frsize: number
  flags: number
}

/** Attributes of a file that no inode stands for yet. They count until the next call. */
export interface Glance {
  /** A struct statx as the host gave it lies here, … */
  view: DataView
  at: number
  /** … but for what is shown as its numbers. */
  ino: number
  dev: number
}

export abstract class Inode {
  readonly sb: SuperBlock
  ino: number
  /** Type and permission bits. */
  mode: number
  uid: number
  gid: number
  nlink = 1
  /** Device number of a character or block device, as makedev(major, minor) of {@link makeDev}. */
  rdev = 0
  size = 0
  /** In units of 512 bytes. */
  blocks = 0
  blksize = 4096
  atimeSec = 0
  atimeNsec = 0
  mtimeSec = 0
  mtimeNsec = 0
  ctimeSec = 0
  ctimeNsec = 0
  btimeSec = 0
  btimeNsec = 0
  /** Advisory locks, inotify watches and the like hang themselves here (vfs/locks.ts, vfs/inotify.ts). */
  locks: object | null = null
  watches: object | null = null
  /** Leases on the file (vfs/leases.ts). */
  leases: { fileReleased(file: FileDescription): void } | null = null
  /** File descriptions that are open on it; with `nlink` 0 the last one calls {@link evict}. */
  opens = 0
  /** Descriptions open for writing (> 0), or programs that run from it (< 0): never both (ETXTBSY). */
  writeCount = 0
  /** Who opens it reads its beginning next (kernel/opened-file.ts). */
  readAtOnce = false
  /** An O_TMPFILE that link(2) may still give a name. */
  linkable = false
  /** FIFO (fs/pipe.ts) or bound socket (net/unix) that this inode stands for. */
  special: object | null = null

  constructor(sb: SuperBlock, ino: number, mode: number, uid: number, gid: number) {
    this.sb = sb
    this.ino = ino
    this.mode = mode
    this.uid = uid
    this.gid = gid
  }

  get isDir(): boolean {
    return (this.mode & S_IFMT) === S_IFDIR
  }
  get isSymlink(): boolean {
    return (this.mode & S_IFMT) === S_IFLNK
  }
  get isReg(): boolean {
    return (this.mode & S_IFMT) === S_IFREG
  }

  /** Refreshes the attribute fields from the backing store, before they are shown or used. 0 or −errno. */
  revalidate(): number {
    return 0
  }

  /** Called for each open of an object of this inode. The description owns nothing of `path` until it returns. */
  abstract open(t: Task, path: Path, flags: number): FileDescription | number

  // ---- directories -------------------------------------------------------------------------------------------------
  lookup(_name: string): Inode | number {
    return -ENOTDIR
  }
  /** The attributes of what is called `name`, where they are at hand. null: {@link lookup} knows. */
  glance(_name: string): Glance | null {
    return null
  }
  create(_name: string, _mode: number, _creds: Credentials): Inode | number {
    return -EACCES
  }
  mkdir(_name: string, _mode: number, _creds: Credentials): Inode | number {
    return -EPERM
  }
  mknod(_name: string, _mode: number, _rdev: number, _creds: Credentials): Inode | number {
    return -EPERM
  }
  symlink(_name: string, _target: string, _creds: Credentials): Inode | number {
    return -EPERM
  }
  /** New name for `inode`, which is on the same super block and not a directory. */
  link(_name: string, _inode: Inode): number {
    return -EPERM
  }
  unlink(_name: string, _inode: Inode): number {
    return -EPERM
  }
  rmdir(_name: string, _inode: Inode): number {
    return -EPERM
  }
  /** renameat2 within one super block; `target` is what newName names now, if anything. */
  rename(
    _name: string,
    _inode: Inode,
    _newDir: Inode,
    _newName: string,
    _target: Inode | null,
    _flags: number,
  ): number {
    return -EXDEV
  }
  /** Emits entries from position `pos` on (0 and 1 are '.' and '..', emitted by the caller). 0 or −errno. */
  readdir(_t: Task, _pos: number, _out: DirEmitter): number {
    return -ENOTDIR
  }
  /** O_TMPFILE: an unnamed regular file in this directory. */
  tmpfile(_mode: number, _creds: Credentials): Inode | number {
    return -EOPNOTSUPP
  }

  // ---- symbolic links ----------------------------------------------------------------------------------------------
  /** Text of the link (for readlink, and for following unless {@link jump} answers). */
  readlink(_t: Task): string | number {
    return -EINVAL
  }
  /** Magic links of /proc: where following goes, without a text. null = an ordinary link. */
  jump(_t: Task): Path | number | null {
    return null
  }

  // ---- attributes --------------------------------------------------------------------------------------------------
  abstract setattr(attr: SetAttr): number
  getxattr(_name: string): Uint8Array | number {
    return -EOPNOTSUPP
  }
  /** `flags`: XATTR_CREATE, XATTR_REPLACE. */
  setxattr(_name: string, _value: Uint8Array, _flags: number): number {
    return -EOPNOTSUPP
  }
  /** NUL-terminated names, one after the other. */
  listxattr(): string | number {
    return -EOPNOTSUPP
  }
  removexattr(_name: string): number {
    return -EOPNOTSUPP
  }

  /**
   * Extra refusal after the generic check (vfs/permission.ts), or 0. `mask` is MAY_READ|MAY_WRITE|MAY_EXEC.
   */
  permission(_t: Task, _mask: number): number {
    return 0
  }

  /** Whether `t` may in spite of the mode bits; asked only after they refused. */
  grants(_t: Task): boolean {
    return false
  }

  /** The last name is gone and nobody has it open: free what it holds. */
  evict(): void {}

  /** A regular file's data for execve, mmap and sendfile without a description. −EISDIR and the like for the rest. */
  hostFd(_write: boolean): number {
    return this.isDir ? -EISDIR : -EINVAL
  }

  /** Woken with EPOLL* events; only objects that can be polled by inode (FIFOs) have one. */
  get waitQueue(): WaitQueue | null {
    return null
  }
}

/** dev_t as stat reports it (glibc's gnu_dev_makedev, below 2^32). */
export function makeDev(major: number, minor: number): number {
  return (((major & 0xfff) << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12)) >>> 0
}
export const devMajor = (dev: number): number => (dev >>> 8) & 0xfff
export const devMinor = (dev: number): number => (dev & 0xff) | ((dev >>> 12) & 0xfff00)
