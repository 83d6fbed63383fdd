/**
 * The mqueue file system (mq_overview(7)): queues as files of one directory, in /dev/mqueue and for mq_open(2), which does
 * not need it mounted. One instance for the container.
 */
import { EACCES, EEXIST, EINVAL, ENAMETOOLONG, ENOENT, ENOSPC } from '../abi/errno.ts'
import { O_ACCMODE, O_CREAT, O_EXCL, O_RDWR, O_WRONLY } from '../abi/fcntl.ts'
import { AnonInode, nextAnonIno } from '../fs/anon.ts'
import { CAP_SYS_RESOURCE, type Credentials } from '../kernel/credentials.ts'
import type { SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import type { WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import { DirectoryDescription } from '../vfs/directory-description.ts'
import { FileDescription } from '../vfs/file-description.ts'
import { registerFileSystem } from '../vfs/file-system.ts'
import { type DirEmitter, type Inode, S_IFDIR, S_IFREG, type StatFs } from '../vfs/inode.ts'
import { Mount } from '../vfs/mount.ts'
import { Path } from '../vfs/path.ts'
import { lookupChild } from '../vfs/path-walk.ts'
import { checkSticky, MAY_EXEC, MAY_READ, MAY_WRITE, permission } from '../vfs/permission.ts'
import { SuperBlock } from '../vfs/super-block.ts'
import { touchMtime } from '../vfs/times.ts'
import { MessageQueue, SIGEV_SIGNAL } from './mqueue.ts'
import { mqueueLimits } from './mqueue-limits.ts'

const MQUEUE_MAGIC = 0x19800202
/** Size of the text that read(2) shows. */
const STATUS_SIZE = 80
const NAME_MAX = 255
const DT_REG = 8
const ACCESS = [MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE]

class MqSuperBlock extends SuperBlock {
  readonly type = 'mqueue'
  readonly root: MqDirectory
  readonly mount: Mount

  constructor() {
    super()
    this.source = 'mqueue'
    this.root = new MqDirectory(this)
    this.mount = new Mount(this, this.rootDentry, 0)
  }
  statfs(out: StatFs): number {
    out.type = MQUEUE_MAGIC
    out.bsize = 4096
    out.frsize = 4096
    out.blocks = out.bfree = out.bavail = out.files = out.ffree = 0
    out.namelen = NAME_MAX
    out.flags = 0
    return 0
  }
}

class MqDirectory extends AnonInode {
  private readonly entries = new Map<string, MqInode>()

  constructor(sb: SuperBlock) {
    super(sb, nextAnonIno(), S_IFDIR | 0o1777, 0, 0)
    this.nlink = 2
    this.size = 40
  }
  override open(_t: Task, path: Path, flags: number): FileDescription | number {
    return new DirectoryDescription(path, flags)
  }
  override lookup(name: string): Inode | number {
    return this.entries.get(name) ?? -ENOENT
  }

  /** A queue with the limits of mq_open(2); −1 for the defaults. */
  make(t: Task, name: string, mode: number, maxMessages: number, messageSize: number): MqInode | number {
    if (this.entries.size >= mqueueLimits.queues_max && !t.creds.capable(CAP_SYS_RESOURCE)) return -ENOSPC
    const queue = MessageQueue.create(t, maxMessages, messageSize)
    return typeof queue === 'number' ? queue : this.insert(name, mode, queue, t.creds)
  }
  private insert(name: string, mode: number, queue: MessageQueue, creds: Credentials): MqInode {
    const inode = new MqInode(this.sb, S_IFREG | (mode & 0o7777), creds.fsuid, creds.fsgid, queue)
    this.entries.set(name, inode)
    this.size += 20
    touchMtime(this)
    return inode
  }

  override unlink(name: string, inode: Inode): number {
    this.entries.delete(name)
    this.size -= 20
    inode.nlink--
    touchMtime(this)
    if (inode.opens === 0) inode.evict()
    return 0
  }
  override readdir(_t: Task, pos: number, out: DirEmitter): number {
    let at = 2
    for (const [name, inode] of this.entries) {
      if (at >= pos && !out.emit(name, inode.ino, DT_REG, at + 1)) return 0
      at++
    }
    return 0
  }
}

export class MqInode extends AnonInode {
  readonly queue: MessageQueue
  constructor(sb: SuperBlock, mode: number, uid: number, gid: number, queue: MessageQueue) {
    super(sb, nextAnonIno(), mode, uid, gid)
    this.queue = queue
    this.size = STATUS_SIZE
  }
  override open(t: Task, path: Path, flags: number): FileDescription | number {
    const file = new MqDescription(flags, path, this)
    file.creds = t.creds
    return file
  }
  override evict(): void {
    this.queue.destroy()
  }
}

export class MqDescription extends FileDescription {
  readonly mq: MqInode

  constructor(flags: number, path: Path, inode: MqInode) {
    super(flags, path)
    this.mq = inode
  }
  get queue(): MessageQueue {
    return this.mq.queue
  }
  override get inode(): Inode {
    return this.mq
  }
  override get seekable(): boolean {
    return true
  }
  override get waitQueue(): WaitQueue {
    return this.queue.pollQueue
  }
  override poll(): number {
    return this.queue.poll()
  }

  override read(_t: Task, iter: IovIter, pos: number): SysRet {
    const n = this.queue.notification
    const pad = (v: number, width: number): string => String(v).padEnd(width)
    const signo = n !== null && n.kind === SIGEV_SIGNAL ? n.signo : 0
    const text = Buffer.from(
      `QSIZE:${pad(this.queue.bytes, 10)} NOTIFY:${pad(n?.kind ?? 0, 5)} SIGNO:${pad(signo, 5)} NOTIFY_PID:${pad(
        n?.owner.pid ?? 0,
        6,
      )}\n`,
    ).subarray(0, STATUS_SIZE - 1)
    return pos >= text.length ? 0 : iter.copyTo(text, pos, Math.min(text.length - pos, iter.remaining))
  }
  override flush(t: Task): number {
    this.queue.unregister(t.group)
    return 0
  }
}

const SB = new MqSuperBlock()
registerFileSystem({ name: 'mqueue', nodev: true, mount: () => SB })

function checkName(name: string): number {
  if (name.length > NAME_MAX) return -ENAMETOOLONG
  if (name === '') return -ENOENT
  return name === '.' || name === '..' || name.includes('/') ? -EACCES : 0
}

/** mq_open(2) after its arguments: a description, or −errno. */
export function openQueue(
  t: Task,
  name: string,
  flags: number,
  mode: number,
  maxMessages: number,
  messageSize: number,
): FileDescription | number {
  const bad = checkName(name)
  if (bad !== 0) return bad
  const root = SB.rootDentry
  let dentry = lookupChild(root, name)
  if (typeof dentry === 'number') return dentry
  if (dentry.inode === null) {
    if ((flags & O_CREAT) === 0) return -ENOENT
    const denied = permission(t, SB.root, MAY_WRITE | MAY_EXEC)
    if (denied !== 0) return denied
    const made = SB.root.make(t, name, mode & ~t.fs.umask, maxMessages, messageSize)
    if (typeof made === 'number') return made
    dentry = root.add(name, made)
  } else {
    if ((flags & O_CREAT) !== 0 && (flags & O_EXCL) !== 0) return -EEXIST
    if ((flags & O_ACCMODE) === (O_RDWR | O_WRONLY)) return -EINVAL
    const denied = permission(t, dentry.inode, ACCESS[flags & O_ACCMODE]!)
    if (denied !== 0) return denied
  }
  return dentry.inode!.open(t, new Path(SB.mount, dentry), flags & ~(O_CREAT | O_EXCL))
}

/** mq_unlink(2). */
export function unlinkQueue(t: Task, name: string): number {
  const bad = checkName(name)
  if (bad !== 0) return bad
  const dentry = lookupChild(SB.rootDentry, name)
  if (typeof dentry === 'number') return dentry
  const inode = dentry.inode
  if (inode === null) return -ENOENT
  const denied = permission(t, SB.root, MAY_WRITE | MAY_EXEC) || checkSticky(t.creds, SB.root, inode)
  if (denied !== 0) return denied
  SB.root.unlink(name, inode)
  dentry.unhash()
  return 0
}
