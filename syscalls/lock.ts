/**
 * flock(2), and the record lock commands of fcntl(2).
 */
import { EAGAIN, EBADF, EDEADLK, EFAULT, EINVAL } from '../sentry/abi/errno.ts'
import { F_GETLK, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_SETLKW } from '../sentry/abi/fcntl.ts'
import { put64 } from '../sentry/abi/words.ts'
import { BLOCK, ERESTARTSYS, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { EPOLLIN, type FileDescription } from '../sentry/vfs/file-description.ts'
import {
  conflictingRecord,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  flock,
  forgetSleeper,
  LOCK_EX,
  LOCK_SH,
  LOCK_UN,
  lockQueue,
  noteSleeper,
  setRecord,
  wouldDeadlock,
} from '../sentry/vfs/locks.ts'

const LOCK_NB = 4
const LOCK_MAND = 32

/** flock(2). */
export function sysFlock(t: Task): SysRet {
  const cmd = t.argI32(1)
  if ((cmd & LOCK_MAND) !== 0) return 0
  const operation = cmd & ~LOCK_NB
  if (operation !== LOCK_SH && operation !== LOCK_EX && operation !== LOCK_UN) return -EINVAL
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  if (operation !== LOCK_UN && !file.readable && !file.writable) return -EBADF
  const ret = flock(file, t.group.pid, operation)
  if (ret !== -EAGAIN || (cmd & LOCK_NB) !== 0) return ret
  return t.waitOn(lockQueue(file.inode), EPOLLIN, ERESTARTSYS)
}

/** struct flock of x86-64. */
const FLOCK = new Uint8Array(32)
const VIEW = new DataView(FLOCK.buffer)
const TWO32 = 0x1_0000_0000
const OFFSET_MAX = 2 ** 63
const i64 = (at: number): number => VIEW.getUint32(at, true) + VIEW.getInt32(at + 4, true) * TWO32

/** F_GETLK, F_SETLK, F_SETLKW and their OFD twins. */
export function fcntlLock(t: Task, file: FileDescription, cmd: number, addr: number): SysRet {
  if (t.readBytes(addr, FLOCK) < 0) return -EFAULT
  const ofd = cmd === F_OFD_GETLK || cmd === F_OFD_SETLK || cmd === F_OFD_SETLKW
  const get = cmd === F_GETLK || cmd === F_OFD_GETLK
  const type = VIEW.getInt16(0, true)
  const whence = VIEW.getInt16(2, true)
  let start = i64(8)
  const len = i64(16)
  if (ofd && VIEW.getInt32(24, true) !== 0) return -EINVAL
  if (type !== F_RDLCK && type !== F_WRLCK && (type !== F_UNLCK || get)) return -EINVAL
  switch (whence) {
    case 0:
      break
    case 1:
      start += file.pos
      break
    case 2:
      start += file.inode.size
      break
    default:
      return -EINVAL
  }
  if (start < 0) return -EINVAL
  let end = Number.POSITIVE_INFINITY
  if (len > 0) {
    if (start + len < OFFSET_MAX) end = start + len - 1
  } else if (len < 0) {
    end = start - 1
    start += len
    if (start < 0) return -EINVAL
  }
  const owner = ofd ? file : t.fds
  if (get) return getLock(t, addr, file, owner, type, start, end)
  if (type === F_RDLCK && !file.readable) return -EBADF
  if (type === F_WRLCK && !file.writable) return -EBADF
  const inode = file.inode
  forgetSleeper(t)
  const ret = setRecord(inode, owner, ofd ? -1 : t.group.pid, type, start, end)
  if (ret !== -EAGAIN || (cmd !== F_SETLKW && cmd !== F_OFD_SETLKW)) return ret
  if (!ofd) {
    const blocker = conflictingRecord(inode, owner, type === F_WRLCK, start, end)!.owner
    if (wouldDeadlock(owner, blocker)) return -EDEADLK
    noteSleeper(t, owner, blocker)
  }
  const waiting = t.waitOn(lockQueue(inode), EPOLLIN, ERESTARTSYS)
  if (waiting !== BLOCK) forgetSleeper(t)
  return waiting
}

function getLock(
  t: Task,
  addr: number,
  file: FileDescription,
  owner: object,
  type: number,
  start: number,
  end: number,
): SysRet {
  const found = conflictingRecord(file.inode, owner, type === F_WRLCK, start, end)
  if (found === null) VIEW.setInt16(0, F_UNLCK, true)
  else {
    VIEW.setInt16(0, found.write ? F_WRLCK : F_RDLCK, true)
    VIEW.setInt16(2, 0, true)
    put64(VIEW, 8, found.start)
    put64(VIEW, 16, found.end === Number.POSITIVE_INFINITY ? 0 : found.end - found.start + 1)
    VIEW.setInt32(24, found.pid, true)
  }
  return t.writeBytes(addr, FLOCK)
}
