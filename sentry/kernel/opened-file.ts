/**
 * The file that a task opened last, for reading: the platform may answer fstat, read and close of it without a trap, by what it
 * is told here (Linux has no such thing: it is as if the calls had been made when the task traps next).
 *
 * What must stay true: nobody can tell. So it is told only what no other task can change without `Dentry.changes()`; the
 * descriptor table is the task's own; and whoever looks at descriptors or positions of others settles them first.
 */
import { O_DIRECT, O_PATH } from '../abi/fcntl.ts'
import { KernelIovIter } from '../mm/iov-iter.ts'
import { OPENED_CLOSED } from '../platform/platform.ts'
import { Dentry } from '../vfs/dentry.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import { atimeRests } from '../vfs/times.ts'
import type { Kernel } from './kernel.ts'
import { RUNNING, type Task } from './task.ts'

/** Whether {@link tellOpened} may be called: the file's attributes, contents and descriptor are the guests' alone to change. */
export function maySettleLater(t: Task, file: FileDescription): boolean {
  if (!t.thread.answers || t.fds.shared) return false
  const { inode } = file
  if (!inode.sb.steady || inode.writeCount > 0 || (file.flags & (O_DIRECT | O_PATH)) !== 0) return false
  return (inode.isReg || inode.isDir) && inode.leases === null && inode.locks === null && !watched(file)
}

function watched(file: FileDescription): boolean {
  const { dentry } = file.path!
  return file.inode.watches !== null || dentry.parent.inode?.watches != null
}

/** `stat`: struct stat of the file, which `t` has just opened as `fd`. */
export function tellOpened(t: Task, fd: number, file: FileDescription, stat: Uint32Array): void {
  Dentry.attributesTold = true
  t.openedFile = file
  t.openedFd = fd
  t.openedLength = file.inode.readAtOnce ? beginning(t, file) : -1
  t.thread.tellOpened(fd, stat, t.openedLength)
}

/** Bytes of it that are where the platform wants them; −1: it has to ask for them. */
function beginning(t: Task, file: FileDescription): number {
  if (!atimeRests(file.path!.mount, file.inode)) return -1
  const n = file.read(t, new KernelIovIter(t.thread.openedData), 0)
  return n < 0 ? -1 : n
}

/** `t` reads `size` bytes by a call: of what was just opened, that will be so the next time, too. */
export function noticeRead(t: Task, file: FileDescription, size: number): void {
  if (file.pos === 0 && Math.min(size, file.inode.size) <= t.thread.openedData.length) file.inode.readAtOnce = true
}

/** Makes up for what `t`, which has trapped, did with the file meanwhile. */
export function settleOpened(t: Task): void {
  settle(t, t.thread.takeOpened(true))
}

/** The same in any state, before somebody looks at its descriptors. */
export function settleOpenedOf(t: Task): void {
  if (t.openedFile !== null && t.state === RUNNING) settle(t, t.thread.takeOpened(false))
}
/** Before somebody looks whether anybody has a file open. */
export function settleAllOpened(kernel: Kernel): void {
  for (const t of kernel.ids.tasks()) settleOpenedOf(t)
}

/** `done`: of GuestThread.takeOpened(), which guest code may have made up. */
function settle(t: Task, done: number): void {
  const file = t.openedFile!
  const length = t.openedLength
  t.openedLength = -1
  if (length >= 0) {
    const position = Math.min(done & ~OPENED_CLOSED, length)
    if (position > 0) file.pos = position
    // Mapped, or not read at all: not worth the copy.
    else file.inode.readAtOnce = false
  }
  if ((done & OPENED_CLOSED) === 0) return
  forgetOpened(t)
  if (t.fds.get(t.openedFd) === file) t.fds.close(t, t.openedFd)
}

/** The descriptor is closed, or stands for something else. */
export function forgetOpened(t: Task): void {
  if (t.openedFile === null) return
  t.openedFile = null
  t.thread.forgetOpened()
}
