/**
 * fcntl(F_NOTIFY): a signal when something happens in an open directory (Linux: fs/notify/dnotify). Older and coarser
 * than inotify, whose watches it uses. One per description.
 */
import { ENOTDIR } from '../abi/errno.ts'
import type { Task } from '../kernel/task.ts'
import { F_OWNER_PID, ownerOf } from '../vfs/fasync.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import { IN_ACCESS, IN_ATTRIB, IN_CREATE, IN_DELETE, IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO } from '../vfs/fsnotify.ts'
import { attachWatch, detachWatch, Watch, type WatchOwner } from './inotify.ts'

const DN_MULTISHOT = 0x80000000
/** DN_ACCESS, MODIFY, CREATE, DELETE, RENAME, ATTRIB. */
const EVENTS = [IN_ACCESS, IN_MODIFY, IN_CREATE | IN_MOVED_TO, IN_DELETE | IN_MOVED_FROM, IN_MOVED_FROM, IN_ATTRIB]
const POLL_MSG = 3

const marks = new WeakMap<FileDescription, DNotify>()

class DNotify implements WatchOwner {
  private readonly t: Task
  private readonly file: FileDescription
  private readonly fd: number
  private watch: Watch | null
  wanted = 0

  constructor(t: Task, file: FileDescription, fd: number) {
    this.t = t
    this.file = file
    this.fd = fd
    const dentry = file.path!.dentry
    this.watch = new Watch(this, 0, dentry.inode!, dentry, 0)
    attachWatch(this.watch)
    ownerOf(file).onRelease = () => this.end()
  }

  add(mask: number): void {
    this.wanted |= mask
    let events = 0
    for (let i = 0; i < EVENTS.length; i++) if (this.wanted & (1 << i)) events |= EVENTS[i]!
    this.watch!.mask = events
  }

  queueEvent(_wd: number, _mask: number, _cookie: number, name: string): void {
    // Only what happens in the directory counts, not to it.
    if (name === '') return
    const once = (this.wanted & DN_MULTISHOT) === 0
    if (once) this.end()
    ownerOf(this.file).signalOwner(this.t.kernel, this.fd, POLL_MSG)
  }
  drop(_watch: Watch): void {
    this.end()
  }
  end(): void {
    if (this.watch !== null) detachWatch(this.watch)
    this.watch = null
    marks.delete(this.file)
  }
}

/** F_NOTIFY with a DN_* mask; without an event in it, the end of it. 0 or −errno. */
export function directoryNotify(t: Task, file: FileDescription, fd: number, mask: number): number {
  const have = marks.get(file)
  if ((mask & ~DN_MULTISHOT) === 0) {
    have?.end()
    return 0
  }
  if (file.path === null || !file.inode.isDir) return -ENOTDIR
  const mark = have ?? new DNotify(t, file, fd)
  marks.set(file, mark)
  const owner = ownerOf(file)
  owner.type = F_OWNER_PID
  owner.id = t.group.pid
  owner.creds = t.creds
  mark.add(mask)
  return 0
}
