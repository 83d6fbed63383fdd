/**
 * File leases, fcntl(F_SETLEASE) (Linux: fs/locks.c; fcntl(2), "Leases"). A lease hangs on `inode.leases` and belongs to
 * a file description. An open that conflicts has its holder signalled and waits until the lease is given up, downgraded,
 * or older than the break time; then it is taken away.
 */
import { EACCES, EAGAIN, EINVAL } from '../abi/errno.ts'
import { CAP_LEASE } from '../kernel/credentials.ts'
import { ERESTARTSYS, type SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import { WaitQueue } from '../kernel/wait-queue.ts'
import { F_OWNER_PID, ownerOf } from './fasync.ts'
import { EPOLLIN, type FileDescription } from './file-description.ts'
import type { Inode } from './inode.ts'
import { F_RDLCK, F_UNLCK, F_WRLCK } from './locks.ts'

const POLL_MSG = 3
/** fs.lease-break-time, in ns. */
const BREAK_TIME = 45e9

interface Lease {
  readonly file: FileDescription
  readonly fd: number
  type: number
  /** What it is to become (F_RDLCK, F_UNLCK), −1 while nobody conflicts with it; and until when. */
  target: number
  until: number
}

/** What `inode.leases` holds; null again with the last lease. */
class InodeLeases {
  readonly list: Lease[] = []
  readonly queue = new WaitQueue()
  private readonly inode: Inode

  constructor(inode: Inode) {
    this.inode = inode
  }

  remove(lease: Lease): void {
    this.list.splice(this.list.indexOf(lease), 1)
    if (this.list.length === 0) this.inode.leases = null
    this.queue.wake(EPOLLIN)
  }

  /** The last descriptor of a description is gone. */
  fileReleased(file: FileDescription): void {
    const lease = this.list.find((l) => l.file === file)
    if (lease !== undefined) this.remove(lease)
  }
}

const leasesOf = (inode: Inode): InodeLeases | null => inode.leases as InodeLeases | null

/** fcntl(F_SETLEASE) on an open regular file. 0 or −errno. */
export function setLease(t: Task, file: FileDescription, fd: number, type: number): number {
  const inode = file.inode
  if (t.creds.fsuid !== inode.uid && !t.creds.capable(CAP_LEASE)) return -EACCES
  if (!inode.isReg || (type !== F_RDLCK && type !== F_WRLCK && type !== F_UNLCK)) return -EINVAL
  const list = leasesOf(inode)?.list ?? []
  const own = list.find((lease) => lease.file === file)
  if (type === F_UNLCK) {
    if (own === undefined) return -EAGAIN
    leasesOf(inode)!.remove(own)
    return 0
  }
  if (type === F_RDLCK ? inode.writeCount > 0 : inode.opens > 1) return -EAGAIN
  for (const other of list) {
    if (other !== own && (type === F_WRLCK || other.type === F_WRLCK || other.target === F_UNLCK)) return -EAGAIN
  }
  if (own !== undefined) {
    if (type === F_WRLCK && own.target >= 0) return -EAGAIN
    own.type = type
    if (own.target === type) own.target = -1
    leasesOf(inode)!.queue.wake(EPOLLIN)
    return 0
  }
  if (inode.leases === null) inode.leases = new InodeLeases(inode)
  leasesOf(inode)!.list.push({ file, fd, type, target: -1, until: 0 })
  const owner = ownerOf(file)
  if (owner.id === 0) {
    owner.type = F_OWNER_PID
    owner.id = t.group.pid
    owner.creds = t.creds
  }
  return 0
}

/** fcntl(F_GETLEASE): during a break, what it is to become. */
export function getLease(file: FileDescription): number {
  const lease = leasesOf(file.inode)?.list.find((l) => l.file === file)
  if (lease === undefined) return F_UNLCK
  return lease.target >= 0 ? lease.target : lease.type
}

/** Before an open or truncate of an inode with leases: 0, −EAGAIN (`nonblock`) or BLOCK. */
export function breakLeases(t: Task, inode: Inode, write: boolean, nonblock: boolean): SysRet {
  const now = t.kernel.now()
  let until = 0
  const leases = leasesOf(inode)!
  for (const lease of leases.list.slice()) {
    if (!write && lease.type !== F_WRLCK) continue
    const target = write ? F_UNLCK : F_RDLCK
    if (lease.target < 0) {
      lease.until = now + BREAK_TIME
      ownerOf(lease.file).signalOwner(t.kernel, lease.fd, POLL_MSG)
    }
    if (lease.target < target) lease.target = target
    if (lease.until > now) until = Math.max(until, lease.until)
    else if (target === F_UNLCK) leases.remove(lease)
    else lease.type = F_RDLCK
  }
  if (until === 0) return 0
  if (nonblock) return -EAGAIN
  t.deadline = until
  return t.waitOn(leases.queue, EPOLLIN, ERESTARTSYS)
}
