/**
 * Arguments that the file calls have in common: descriptors, iovecs, path strings, struct timespec pairs.
 */
import { EFAULT, EINVAL } from '../sentry/abi/errno.ts'
import { getU64 } from '../sentry/abi/words.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import type { Task } from '../sentry/kernel/task.ts'
import type { IovIter } from '../sentry/mm/iov-iter.ts'
import type { FileDescription } from '../sentry/vfs/file-description.ts'

/** The most that one read or write transfers. */
export const MAX_RW_COUNT = 0x7ffff000
const UIO_MAXIOV = 1024
const USER_END = 0x7ffffffff000
const SSIZE_MAX = 2 ** 63

const IOV = new Uint8Array(16 * UIO_MAXIOV)
const IOV_VIEW = new DataView(IOV.buffer)

/** The task's iterator over a guest iovec, or −errno. */
export function importIovec(t: Task, addr: number, count: number): IovIter | number {
  if (count > UIO_MAXIOV) return -EINVAL
  if (count === 0) return t.iter.single(0, 0)
  if (t.readBytes(addr, IOV, 16 * count) < 0) return -EFAULT
  const segments = new Float64Array(2 * count)
  let total = 0
  for (let i = 0; i < count; i++) {
    const base = getU64(IOV_VIEW, 16 * i)
    let len = getU64(IOV_VIEW, 16 * i + 8)
    if (len >= SSIZE_MAX) return -EINVAL
    if (base + len > USER_END) return -EFAULT
    len = Math.min(len, MAX_RW_COUNT - total)
    segments[2 * i] = base
    segments[2 * i + 1] = len
    total += len
  }
  return t.iter.vector(segments, count)
}

/** The task's iterator over one guest buffer. */
export function importBuffer(t: Task, addr: number, len: number): IovIter | number {
  if (addr + len > USER_END) return -EFAULT
  return t.iter.single(addr, Math.min(len, MAX_RW_COUNT))
}

/** Gives a new description the lowest free descriptor. */
export function installFd(t: Task, file: FileDescription, cloexec: boolean): number {
  return t.fds.install(file, cloexec, t.group.limits.soft[RLIMIT_NOFILE]!)
}
