/**
 * read(2), write(2) and their relatives (Linux: fs/read_write.c).
 *
 * A call that would sleep waits on the description's queue and runs again from the top; what a stream has taken of a write
 * by then is in `t.progress`.
 */
import { EAGAIN, EBADF, EFBIG, EINVAL, EOPNOTSUPP, ESPIPE } from '../sentry/abi/errno.ts'
import { O_APPEND, O_NONBLOCK, O_PATH } from '../sentry/abi/fcntl.ts'
import { SIGXFSZ } from '../sentry/abi/signal.ts'
import { RLIMIT_FSIZE } from '../sentry/kernel/limits.ts'
import { noticeRead } from '../sentry/kernel/opened-file.ts'
import { sendKernelSignal } from '../sentry/kernel/signal.ts'
import { BLOCK, ERESTARTSYS, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import type { IovIter } from '../sentry/mm/iov-iter.ts'
import { Socket } from '../sentry/net/socket.ts'
import { readSocket, writeSocket } from '../sentry/net/socket-io.ts'
import { dropPrivilegesOnWrite } from '../sentry/vfs/attributes.ts'
import { EPOLLIN, EPOLLOUT, type FileDescription } from '../sentry/vfs/file-description.ts'
import { fsnotify, IN_ACCESS, IN_MODIFY } from '../sentry/vfs/fsnotify.ts'
import { S_IFMT, S_IFREG, S_ISGID, S_ISUID } from '../sentry/vfs/inode.ts'
import { importBuffer, importIovec } from './io-args.ts'

const RWF_HIPRI = 1
const RWF_DSYNC = 2
const RWF_SYNC = 4
const RWF_NOWAIT = 8
const RWF_APPEND = 16
const RWF_ALL = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND

/** pos of calls that use the description's own position. */
const OWN_POSITION = -1

/** Reads into `iter`. `pos`: where, or OWN_POSITION. */
export function readFile(t: Task, file: FileDescription, iter: IovIter, pos: number, nowait = false): SysRet {
  // Sockets wait by their own rules: SO_RCVTIMEO, SO_RCVLOWAT, errors after partial data.
  if (file instanceof Socket && iter === t.iter && !nowait) return readSocket(t, file, iter)
  let ret: number
  if (pos === OWN_POSITION) {
    if (file.seekable) {
      ret = file.read(t, iter, file.pos)
      if (ret > 0) file.pos += ret
    } else ret = file.read(t, iter, -1)
  } else ret = file.read(t, iter, pos)
  if (ret === -EAGAIN && !nowait && (file.flags & O_NONBLOCK) === 0) {
    const queue = file.waitQueue
    return queue === null ? ret : t.waitOn(queue, EPOLLIN, ERESTARTSYS)
  }
  if (ret > 0 && file.path !== null) fsnotify(file.path.dentry, IN_ACCESS)
  return ret
}

/** Cuts a write to a regular file at RLIMIT_FSIZE. ≥ 0 bytes allowed, or −EFBIG with the signal sent. */
function fileSizeLimit(t: Task, pos: number, len: number): number {
  const limit = t.group.limits.soft[RLIMIT_FSIZE]!
  if (pos + len <= limit) return len
  if (pos >= limit) {
    sendKernelSignal(t, SIGXFSZ)
    return -EFBIG
  }
  return limit - pos
}

/** Writes from `iter`. `pos`: where, or OWN_POSITION. */
export function writeFile(t: Task, file: FileDescription, iter: IovIter, pos: number, nowait = false): SysRet {
  if (file instanceof Socket && iter === t.iter && !nowait) return writeSocket(t, file, iter)
  if (!file.seekable) return writeStream(t, file, iter, nowait)
  const inode = file.inode
  const saved = file.pos
  let at = pos === OWN_POSITION ? saved : pos
  if ((inode.mode & S_IFMT) === S_IFREG) {
    if ((file.flags & O_APPEND) !== 0) at = inode.size
    const allowed = fileSizeLimit(t, at, iter.remaining)
    if (allowed < 0) return allowed
    if (allowed < iter.remaining) iter.remaining = allowed
    if ((inode.mode & (S_ISUID | S_ISGID)) !== 0 && iter.remaining > 0) dropPrivilegesOnWrite(t, inode)
  }
  const ret = file.write(t, iter, at)
  if (pos !== OWN_POSITION) file.pos = saved
  else if (ret > 0) file.pos += ret
  if (ret > 0 && file.path !== null) fsnotify(file.path.dentry, IN_MODIFY)
  if (ret === -EAGAIN && !nowait && (file.flags & O_NONBLOCK) === 0 && file.waitQueue !== null) {
    return t.waitOn(file.waitQueue, EPOLLOUT, ERESTARTSYS)
  }
  return ret
}

function writeStream(t: Task, file: FileDescription, iter: IovIter, nowait: boolean): SysRet {
  const wait = !nowait && (file.flags & O_NONBLOCK) === 0
  if (t.progress > 0) iter.skip(t.progress)
  for (;;) {
    const ret = file.write(t, iter, -1)
    if (ret >= 0) {
      if (ret > 0 && file.path !== null) fsnotify(file.path.dentry, IN_MODIFY)
      t.progress += ret
      if (ret === 0 || !wait || iter.remaining === 0 || !file.writesFully) return t.progress
      continue
    }
    if (ret !== -EAGAIN || !wait || file.waitQueue === null) return t.progress > 0 ? t.progress : ret
    const waiting = t.waitOn(file.waitQueue, EPOLLOUT, ERESTARTSYS)
    return waiting !== BLOCK && t.progress > 0 ? t.progress : waiting
  }
}

/** read(2). */
export function sysRead(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || !file.readable) return -EBADF
  const iter = importBuffer(t, t.argPtr(1), t.argPtr(2))
  if (typeof iter === 'number') return iter
  if (file === t.openedFile) noticeRead(t, file, iter.remaining)
  return readFile(t, file, iter, OWN_POSITION)
}

/** write(2). */
export function sysWrite(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || !file.writable) return -EBADF
  const iter = importBuffer(t, t.argPtr(1), t.argPtr(2))
  return typeof iter === 'number' ? iter : writeFile(t, file, iter, OWN_POSITION)
}

/** pread64(2). */
export function sysPread64(t: Task): SysRet {
  const pos = t.argI64(3)
  if (pos < 0) return -EINVAL
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  if (!file.seekable) return -ESPIPE
  if (!file.readable) return -EBADF
  const iter = importBuffer(t, t.argPtr(1), t.argPtr(2))
  return typeof iter === 'number' ? iter : readFile(t, file, iter, pos)
}

/** pwrite64(2). */
export function sysPwrite64(t: Task): SysRet {
  const pos = t.argI64(3)
  if (pos < 0) return -EINVAL
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  if (!file.seekable) return -ESPIPE
  if (!file.writable) return -EBADF
  const iter = importBuffer(t, t.argPtr(1), t.argPtr(2))
  return typeof iter === 'number' ? iter : writeFile(t, file, iter, pos)
}

function vectored(t: Task, write: boolean, pos: number, flags: number): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  if (pos !== OWN_POSITION) {
    if (pos < 0) return -EINVAL
    if (!file.seekable) return -ESPIPE
  }
  if (write ? !file.writable : !file.readable) return -EBADF
  const iter = importIovec(t, t.argPtr(1), t.argPtr(2))
  if (typeof iter === 'number') return iter
  if ((flags & ~RWF_ALL) !== 0) return -EOPNOTSUPP
  const nowait = (flags & RWF_NOWAIT) !== 0
  if (!write) return (flags & RWF_APPEND) !== 0 ? -EOPNOTSUPP : readFile(t, file, iter, pos, nowait)
  if ((flags & RWF_APPEND) === 0 || (file.flags & O_APPEND) !== 0) return writeFile(t, file, iter, pos, nowait)
  file.flags |= O_APPEND
  const ret = writeFile(t, file, iter, pos, nowait)
  file.flags &= ~O_APPEND
  return ret
}

export function sysReadv(t: Task): SysRet {
  return vectored(t, false, OWN_POSITION, 0)
}
export function sysWritev(t: Task): SysRet {
  return vectored(t, true, OWN_POSITION, 0)
}
function positioned(t: Task, write: boolean): SysRet {
  const pos = t.argI64(3)
  return pos < 0 ? -EINVAL : vectored(t, write, pos, 0)
}
export function sysPreadv(t: Task): SysRet {
  return positioned(t, false)
}
export function sysPwritev(t: Task): SysRet {
  return positioned(t, true)
}
/** preadv2(2): position −1 means the description's own. */
function positioned2(t: Task, write: boolean): SysRet {
  const pos = t.argI64(3)
  return pos < -1 ? -EINVAL : vectored(t, write, pos, t.argI32(5))
}
export function sysPreadv2(t: Task): SysRet {
  return positioned2(t, false)
}
export function sysPwritev2(t: Task): SysRet {
  return positioned2(t, true)
}

/** lseek(2). */
export function sysLseek(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  const whence = t.argU32(2)
  if (whence > 4) return -EINVAL
  return file.seek(t, t.argI64(1), whence)
}
