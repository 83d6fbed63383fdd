/**
 * inotify(7) (Linux: fs/notify/inotify). Watches hang on inodes (`inode.watches`), events come from vfs/fsnotify.ts and
 * wait in the queue of the instance until read.
 *
 * A watch holds its dentry, so that the inode stays the one that the file system calls meet. It dies with rm_watch, with
 * the instance, or when its inode is deleted; then IN_IGNORED is the last event of its descriptor.
 */
import { EAGAIN, EEXIST, EFAULT, EINVAL, ENOSPC } from '../abi/errno.ts'
import { O_NONBLOCK, O_RDONLY } from '../abi/fcntl.ts'
import type { SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import { WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import type { Dentry } from '../vfs/dentry.ts'
import { EPOLLIN, EPOLLRDNORM, FileDescription } from '../vfs/file-description.ts'
import { IN_DELETE_SELF, IN_ISDIR, IN_MOVE_SELF, IN_UNMOUNT, type InodeWatches } from '../vfs/fsnotify.ts'
import type { Inode } from '../vfs/inode.ts'
import { ANON_INODE } from './anon.ts'

export const IN_ALL_EVENTS = 0xfff
export const IN_Q_OVERFLOW = 0x4000
export const IN_IGNORED = 0x8000
export const IN_ONLYDIR = 0x01000000
export const IN_DONT_FOLLOW = 0x02000000
export const IN_EXCL_UNLINK = 0x04000000
export const IN_MASK_CREATE = 0x10000000
export const IN_MASK_ADD = 0x20000000
export const IN_ONESHOT = 0x80000000

/** fs.inotify.max_queued_events, max_user_watches, max_user_instances. */
const MAX_QUEUED = 16384
const MAX_WATCHES = 65536
export const MAX_INSTANCES = 128
const FIONREAD = 0x541b
/** sizeof(struct inotify_event) without the name, and what names are padded to. */
const HEADER = 16

let watchCount = 0
export const instances = { count: 0 }

interface Event {
  readonly wd: number
  readonly mask: number
  readonly cookie: number
  readonly name: string
  /** Bytes when read. */
  readonly size: number
}

/** Who a watch belongs to: an inotify instance, or a directory that was opened and given F_NOTIFY (dnotify.ts). */
export interface WatchOwner {
  queueEvent(wd: number, mask: number, cookie: number, name: string): void
  /** The watch is over. */
  drop(watch: Watch): void
}

export class Watch {
  readonly owner: WatchOwner
  readonly wd: number
  readonly inode: Inode
  readonly dentry: Dentry
  mask: number

  constructor(owner: WatchOwner, wd: number, inode: Inode, dentry: Dentry, mask: number) {
    this.owner = owner
    this.wd = wd
    this.inode = inode
    this.dentry = dentry
    this.mask = mask
  }
}

/** All watches of one inode. */
class WatchSet implements InodeWatches {
  readonly watches: Watch[] = []

  notify(mask: number, name: string | null, cookie: number): void {
    // IN_ISDIR was never reported with these two, and inotify keeps it so.
    const shown = mask & (IN_MOVE_SELF | IN_DELETE_SELF) ? mask & ~IN_ISDIR : mask
    const last = name === null && (mask & (IN_DELETE_SELF | IN_UNMOUNT)) !== 0
    for (const watch of this.watches.slice()) {
      if (mask & IN_UNMOUNT || mask & watch.mask & IN_ALL_EVENTS) {
        watch.owner.queueEvent(watch.wd, shown, cookie, name ?? '')
        if (watch.mask & IN_ONESHOT && !last) watch.owner.drop(watch)
      }
      if (last) watch.owner.drop(watch)
    }
  }
}

/** Hangs a watch on its inode. */
export function attachWatch(watch: Watch): void {
  const { inode, dentry } = watch
  if (inode.watches === null) inode.watches = new WatchSet()
  ;(inode.watches as WatchSet).watches.push(watch)
  dentry.refs++
  watchCount++
}
export function detachWatch(watch: Watch): void {
  const set = watch.inode.watches as WatchSet
  set.watches.splice(set.watches.indexOf(watch), 1)
  if (set.watches.length === 0) watch.inode.watches = null
  watch.dentry.refs--
  watchCount--
}

const encodeEvent = (event: Event): Uint8Array => {
  const bytes = Buffer.alloc(event.size)
  bytes.writeInt32LE(event.wd, 0)
  bytes.writeUInt32LE(event.mask >>> 0, 4)
  bytes.writeUInt32LE(event.cookie, 8)
  bytes.writeUInt32LE(event.size - HEADER, 12)
  bytes.latin1Write(event.name, HEADER)
  return bytes
}

export class Inotify extends FileDescription implements WatchOwner {
  private readonly watches = new Map<number, Watch>()
  private readonly events: Event[] = []
  private bytes = 0
  private lastWd = 0
  private readonly queue = new WaitQueue()

  constructor(flags: number) {
    super(O_RDONLY | (flags & O_NONBLOCK), null)
    instances.count++
  }

  override get inode(): Inode {
    return ANON_INODE
  }
  override describe(): string {
    return 'anon_inode:inotify'
  }
  override get waitQueue(): WaitQueue {
    return this.queue
  }
  override poll(): number {
    return this.events.length > 0 ? EPOLLIN | EPOLLRDNORM : 0
  }

  /** inotify_add_watch(2) of what a walk found. `mask` is as the guest gave it. The descriptor, or −errno. */
  addWatch(dentry: Dentry, mask: number): number {
    const inode = dentry.inode!
    const kept = mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK)
    for (const watch of (inode.watches as WatchSet | null)?.watches ?? []) {
      if (watch.owner !== this) continue
      if (mask & IN_MASK_CREATE) return -EEXIST
      watch.mask = mask & IN_MASK_ADD ? watch.mask | kept : kept
      return watch.wd
    }
    if (watchCount >= MAX_WATCHES) return -ENOSPC
    const watch = new Watch(this, ++this.lastWd, inode, dentry, kept)
    this.watches.set(watch.wd, watch)
    attachWatch(watch)
    return watch.wd
  }

  /** inotify_rm_watch(2). */
  removeWatch(wd: number): number {
    const watch = this.watches.get(wd)
    if (watch === undefined) return -EINVAL
    this.drop(watch)
    return 0
  }

  drop(watch: Watch): void {
    if (!this.watches.delete(watch.wd)) return
    detachWatch(watch)
    this.queueEvent(watch.wd, IN_IGNORED, 0, '')
  }

  queueEvent(wd: number, mask: number, cookie: number, name: string): void {
    const last = this.events[this.events.length - 1]
    if (last !== undefined && last.wd === wd && last.mask === mask && last.name === name && last.cookie === cookie)
      return
    if (this.events.length >= MAX_QUEUED) {
      if (last!.mask !== IN_Q_OVERFLOW) this.push({ wd: -1, mask: IN_Q_OVERFLOW, cookie: 0, name: '', size: HEADER })
      return
    }
    const size = name === '' ? HEADER : HEADER + Math.ceil((name.length + 1) / HEADER) * HEADER
    this.push({ wd, mask, cookie, name, size })
  }
  private push(event: Event): void {
    this.events.push(event)
    this.bytes += event.size
    this.queue.wake(EPOLLIN | EPOLLRDNORM)
  }

  override read(_t: Task, iter: IovIter, _pos: number): SysRet {
    if (this.events.length === 0) return -EAGAIN
    let done = 0
    let taken = 0
    let fault = false
    while (taken < this.events.length) {
      const event = this.events[taken]!
      if (event.size > iter.remaining) break
      taken++
      this.bytes -= event.size
      if (iter.copyTo(encodeEvent(event), 0, event.size) < event.size) {
        fault = true
        break
      }
      done += event.size
    }
    this.events.splice(0, taken)
    if (done > 0) return done
    return fault ? -EFAULT : -EINVAL
  }

  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    return cmd === FIONREAD ? t.writeU32(arg, this.bytes) : super.ioctl(t, cmd, arg)
  }

  override fdinfo(): string {
    let text = ''
    for (const w of this.watches.values()) {
      text += `inotify wd:${w.wd.toString(16)} ino:${w.inode.ino.toString(16)} sdev:${w.inode.sb.dev.toString(16)} mask:${(w.mask & ~IN_EXCL_UNLINK).toString(16)} ignored_mask:0 \n`
    }
    return text
  }

  protected override release(): void {
    instances.count--
    for (const watch of this.watches.values()) detachWatch(watch)
    this.watches.clear()
  }
}
