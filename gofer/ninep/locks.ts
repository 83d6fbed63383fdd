/**
 * Tlock and Tgetlock. The guest's kernel has granted a lock among its own processes before it asks, and sends flock(2) and
 * locks of open file descriptions in the same way, with the pid of whoever made the call. So here no process of the guest
 * is in another's way; what is left to do is to hold it towards the host (guest/locks.ts).
 *
 * Nothing waits here: the client asks again. What must stay true: locks end with the fid that they were made by.
 */
import {
  END_OF_FILE,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  FOREIGN_PID,
  foundLength,
  foundStart,
  foundType,
  type Lockable,
} from '../guest/locks.ts'
import { reopenFd } from '../guest/scratch.ts'
import { EAGAIN, EBADF, EINVAL } from '../request.ts'
import type { Handle } from './handles.ts'
import type { Session } from './session.ts'
import {
  LOCK_FLAG_BLOCK,
  LOCK_FLAG_RECLAIM,
  LOCK_NONE,
  LOCK_READ,
  LOCK_STATUS_BLOCKED,
  LOCK_STATUS_OK,
  LOCK_WRITE,
} from './wire.ts'

const MAX_CLIENT = 64

export const lockKey = (handle: Handle): string => `${handle.root.mount.id}:${handle.pathHigh}:${handle.pathLow}`

const lockable = (handle: Handle): Lockable => ({
  key: lockKey(handle),
  mayWrite: handle.isRegular && !handle.root.mount.readonly,
  reopen: (flags) => reopenFd(handle.fd, flags),
})

/** Takes start and length as [start, end); NaN for `end` when they are none. */
function takeEnd(start: number, length: number): number {
  if (start >= END_OF_FILE) return Number.NaN
  return length === 0 || start + length >= END_OF_FILE ? END_OF_FILE : start + length
}

function putText(s: Session, text: string): void {
  const bytes = Buffer.from(text, 'latin1')
  s.w.string(bytes, 0, bytes.length)
}

export function lock(s: Session): number {
  const { r } = s
  const fid = s.fids.get(r.u32())
  const type = r.u8()
  const flags = r.u32()
  const start = r.u64()
  const end = takeEnd(start, r.u64())
  const pid = r.u32()
  const client = r.text()
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  if (fid!.openFd < 0) return -EBADF
  if (type > LOCK_NONE || Number.isNaN(end) || client.length > MAX_CLIENT) return -EINVAL
  if ((flags & ~(LOCK_FLAG_BLOCK | LOCK_FLAG_RECLAIM)) !== 0) return -EINVAL
  const owner = `${pid}:${client}`
  const { handle } = fid!
  // The numbers of fcntl(2).
  const result =
    type === LOCK_NONE
      ? s.locks.unlock(lockKey(handle), owner, start, end)
      : s.locks.lock(lockable(handle), { owner, by: fid!, pid, type, start, end })
  if (result === 0 && type !== LOCK_NONE) fid!.hasLocks = true
  if (result !== 0 && result !== -EAGAIN) return result
  s.w.u8(result === 0 ? LOCK_STATUS_OK : LOCK_STATUS_BLOCKED)
  return 0
}

/**
 * Who outside the guest is in the way. Among its own processes the guest's kernel has looked before it asks, and does not
 * say then what for: LOCK_NONE, which is taken for reading, so that what is answered is in the way of both.
 */
export function getlock(s: Session): number {
  const { r, w } = s
  const fid = s.fids.get(r.u32())
  const type = r.u8()
  const start = r.u64()
  const length = r.u64()
  const end = takeEnd(start, length)
  const pid = r.u32()
  const client = r.text()
  const refused = s.refuse(fid)
  if (refused !== 0) return refused
  if (fid!.openFd < 0) return -EBADF
  if (type > LOCK_NONE || Number.isNaN(end) || client.length > MAX_CLIENT) return -EINVAL
  const error = s.locks.ask(lockKey(fid!.handle), fid!.openFd, type === LOCK_WRITE ? F_WRLCK : F_RDLCK, start, end)
  if (error < 0) return error
  const found = foundType()
  if (found === F_UNLCK) {
    w.u8(LOCK_NONE)
      .u64(start)
      .u64(end === END_OF_FILE ? 0 : length)
      .u32(pid)
    putText(s, client)
    return 0
  }
  w.u8(found === F_WRLCK ? LOCK_WRITE : LOCK_READ)
  w.u64(foundStart()).u64(foundLength()).u32(FOREIGN_PID)
  putText(s, '')
  return 0
}
