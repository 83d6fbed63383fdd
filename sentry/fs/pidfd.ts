/**
 * pidfd (pidfd_open(2), CLONE_PIDFD; Linux: kernel/fork.c: pidfd_fops): a description that stands for a process, also
 * after its number is gone.
 */
import { O_NONBLOCK, O_RDWR } from '../abi/fcntl.ts'
import type { ThreadGroup } from '../kernel/thread-group.ts'
import type { WaitQueue } from '../kernel/wait-queue.ts'
import { EPOLLIN, EPOLLRDNORM, FileDescription } from '../vfs/file-description.ts'
import type { Inode } from '../vfs/inode.ts'
import { ANON_INODE } from './anon.ts'

export class PidFd extends FileDescription {
  readonly group: ThreadGroup

  constructor(group: ThreadGroup, flags = 0) {
    super(O_RDWR | (flags & O_NONBLOCK), null)
    this.group = group
  }

  override get inode(): Inode {
    return ANON_INODE
  }
  override describe(): string {
    return 'anon_inode:[pidfd]'
  }
  override get waitQueue(): WaitQueue {
    return this.group.exitWait
  }
  override poll(): number {
    return this.group.zombie ? EPOLLIN | EPOLLRDNORM : 0
  }

  override fdinfo(): string {
    // A reaped process has no number any more.
    const kernel = this.group.leader.kernel
    const pid = kernel.ids.group(this.group.pid) === this.group ? this.group.pid : -1
    return `Pid:\t${pid}\nNSpid:\t${pid}\n`
  }
}
