/**
 * File description: an open file (Linux: struct file). Shared by dup(2) and fork(2), reference-counted; descriptors are
 * in FdTable.
 *
 * Objects never block: where Linux would sleep, read and write return −EAGAIN and the system call layer waits on
 * `waitQueue` (unless O_NONBLOCK) and runs the call again. Defaults are Linux's answers for a missing file operation.
 */
import { EINVAL, ENODEV, ENOTDIR, ENOTTY, ESPIPE } from '../abi/errno.ts'
import { O_ACCMODE, O_PATH, O_RDONLY, O_WRONLY } from '../abi/fcntl.ts'
import type { Credentials } from '../kernel/credentials.ts'
import type { SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import type { WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import { fsnotifyInode, IN_DELETE_SELF, notifyClose } from './fsnotify.ts'
import type { DirEmitter, Inode } from './inode.ts'
import { releaseDescriptionLocks } from './locks.ts'
import type { Path } from './path.ts'

export const EPOLLIN = 1
export const EPOLLPRI = 2
export const EPOLLOUT = 4
export const EPOLLERR = 8
export const EPOLLHUP = 0x10
export const EPOLLNVAL = 0x20
export const EPOLLRDNORM = 0x40
export const EPOLLRDBAND = 0x80
export const EPOLLWRNORM = 0x100
export const EPOLLWRBAND = 0x200
export const EPOLLMSG = 0x400
export const EPOLLRDHUP = 0x2000
const ALWAYS_READY = EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM

export abstract class FileDescription {
  /** Status flags and access mode as given to open(2), without the creation flags and O_CLOEXEC. */
  flags: number
  /** File position; unused by streams. */
  pos = 0
  /** The name it was opened by; null for pipes, sockets and anonymous inodes. */
  path: Path | null
  /** Credentials of the opener (f_cred). */
  creds: Credentials | null = null
  /** Epoll items that watch this description (fs/epoll.ts keeps it). */
  epollItems: { fileReleased(): void } | null = null
  /** F_SETOWN, F_SETSIG and O_ASYNC (fasync.ts keeps it). */
  owner: { fileReleased(): void } | null = null
  /** What this description adds to its inode's writeCount: 1 a writer, −1 a running program, 0 neither. */
  private writeClaim = 0
  private refs = 1
  /** path's inode at the time of the open: its dentry may become negative meanwhile. */
  private openedInode: Inode | null = null

  constructor(flags: number, path: Path | null) {
    this.flags = flags
    this.path = path
    if (path !== null) {
      path.dentry.refs++
      this.openedInode = path.dentry.inode!
      this.openedInode.opens++
    }
  }

  /** The inode behind it, for fstat, locks and fchmod. Anonymous objects have one too. */
  abstract get inode(): Inode

  /** What /proc/PID/fd/N links to, for objects without a path: 'pipe:[12]', 'anon_inode:[eventpoll]'. */
  describe(): string {
    return 'anon_inode:[unknown]'
  }

  /** Further lines of /proc/PID/fdinfo/N, each with its newline: 'eventfd-count: …'. */
  fdinfo(): string {
    return ''
  }

  get readable(): boolean {
    return (this.flags & O_ACCMODE) !== O_WRONLY && (this.flags & O_PATH) === 0
  }
  get writable(): boolean {
    return (this.flags & O_ACCMODE) !== O_RDONLY && (this.flags & O_PATH) === 0
  }
  /**
   * Streams whose blocking write(2) goes on until everything is written (pipes, terminals, stream sockets): the system
   * call layer calls write() again for the rest, and waits when it says −EAGAIN.
   */
  get writesFully(): boolean {
    return false
  }
  /** Whether it has a position: pread, pwrite and lseek work. */
  get seekable(): boolean {
    return false
  }

  ref(): this {
    this.refs++
    return this
  }
  /** References; net/unix/garbage.ts compares them with those that messages hold. */
  get useCount(): number {
    return this.refs
  }

  /** Drops a reference; the last one closes. */
  unref(): void {
    if (--this.refs > 0) return
    if (this.epollItems !== null) this.epollItems.fileReleased()
    if (this.owner !== null) this.owner.fileReleased()
    if (this.inode.locks !== null) releaseDescriptionLocks(this, this.inode)
    if (this.inode.leases !== null) this.inode.leases.fileReleased(this)
    if (this.path !== null) notifyClose(this, this.path.dentry)
    this.claimWrite(0)
    this.release()
    if (this.path !== null) {
      const dentry = this.path.dentry
      const inode = this.openedInode!
      dentry.refs--
      if (--inode.opens === 0 && inode.nlink === 0) {
        fsnotifyInode(inode, IN_DELETE_SELF)
        inode.evict()
      }
    }
  }

  /** Says what the description does with its inode's data; see {@link writeClaim}. Checked by the caller. */
  claimWrite(claim: number): void {
    if (claim === this.writeClaim) return
    this.inode.writeCount += claim - this.writeClaim
    this.writeClaim = claim
  }

  /** The last descriptor is gone. */
  protected release(): void {}

  /** A descriptor (not the description) is closed by `t`: POSIX locks go, FUSE-like flush errors come. 0 or −errno. */
  flush(_t: Task): number {
    return 0
  }

  /**
   * Transfers up to `iter.remaining` bytes. `pos` is the file offset for seekable files (the caller advances `this.pos`
   * by the result when it was the shared one), −1 for streams. ≥ 0, −EAGAIN where it would sleep, or −errno.
   */
  read(_t: Task, _iter: IovIter, _pos: number): SysRet {
    return -EINVAL
  }
  /** As read. O_APPEND is the description's own business: it may set `this.pos` to the end first. */
  write(_t: Task, _iter: IovIter, _pos: number): SysRet {
    return -EINVAL
  }

  /** EPOLL* events that are true now. */
  poll(): number {
    return ALWAYS_READY
  }
  /** Woken whenever poll() may have changed; null = never changes. */
  get waitQueue(): WaitQueue | null {
    return null
  }

  ioctl(_t: Task, _cmd: number, _arg: number): SysRet {
    return -ENOTTY
  }

  /** lseek(2) with a checked `whence`; returns the new position. */
  seek(_t: Task, _offset: number, _whence: number): SysRet {
    return -ESPIPE
  }

  /** Directory entries from `this.pos` on; advances it. 0 or −errno. */
  readdir(_t: Task, _out: DirEmitter): number {
    return -ENOTDIR
  }

  fsync(_dataOnly: boolean): number {
    return -EINVAL
  }
  truncate(_size: number): number {
    return -EINVAL
  }
  fallocate(_mode: number, _offset: number, _len: number): number {
    return -ENODEV
  }

  /**
   * For mmap: a host fd whose pages are the file's, or −errno (−ENODEV: cannot be mapped). The kernel (mm/) keeps a
   * reference to this description as long as the mapping lives. `write`: a shared writable mapping is wanted.
   */
  mmapFd(_write: boolean): number {
    return -ENODEV
  }

  /** Status flags changed by fcntl(F_SETFL). 0 or −errno. */
  setFlags(flags: number): number {
    this.flags = flags
    return 0
  }
}
