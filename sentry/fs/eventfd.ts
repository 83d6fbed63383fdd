/**
 * eventfd(2) (Linux: fs/eventfd.c): a 64-bit counter, kept as two u32 since doubles end at 2^53.
 */
import { EAGAIN, EFAULT, EINVAL } from '../abi/errno.ts'
import { O_NONBLOCK, O_RDWR } from '../abi/fcntl.ts'
import type { SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import { WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import { EPOLLERR, EPOLLIN, EPOLLOUT, FileDescription } from '../vfs/file-description.ts'
import type { Inode } from '../vfs/inode.ts'
import { ANON_INODE } from './anon.ts'

export const EFD_SEMAPHORE = 1
const TWO32 = 0x1_0000_0000
const MAX32 = 0xffffffff
const WORD = new Uint8Array(8)
const VIEW = new DataView(WORD.buffer)
let lastId = 0

export class EventFd extends FileDescription {
  private lo: number
  private hi = 0
  private readonly semaphore: boolean
  private readonly queue = new WaitQueue()
  private readonly id = lastId++

  constructor(initial: number, flags: number) {
    super(O_RDWR | (flags & O_NONBLOCK), null)
    this.lo = initial
    this.semaphore = (flags & EFD_SEMAPHORE) !== 0
  }

  override get inode(): Inode {
    return ANON_INODE
  }
  override describe(): string {
    return 'anon_inode:[eventfd]'
  }
  override get waitQueue(): WaitQueue {
    return this.queue
  }

  override read(_t: Task, iter: IovIter, _pos: number): SysRet {
    if (iter.remaining < 8) return -EINVAL
    if (this.lo === 0 && this.hi === 0) return -EAGAIN
    const takeOne = this.semaphore
    VIEW.setUint32(0, takeOne ? 1 : this.lo, true)
    VIEW.setUint32(4, takeOne ? 0 : this.hi, true)
    if (!takeOne) {
      this.lo = 0
      this.hi = 0
    } else if (this.lo > 0) {
      this.lo--
    } else {
      this.lo = MAX32
      this.hi--
    }
    this.queue.wake(EPOLLOUT)
    return iter.copyTo(WORD, 0, 8) === 8 ? 8 : -EFAULT
  }

  override write(_t: Task, iter: IovIter, _pos: number): SysRet {
    if (iter.remaining < 8) return -EINVAL
    if (iter.copyFrom(WORD, 0, 8) < 8) return -EFAULT
    const lo = VIEW.getUint32(0, true)
    const hi = VIEW.getUint32(4, true)
    if (lo === MAX32 && hi === MAX32) return -EINVAL
    return this.add(lo, hi) ? 8 : -EAGAIN
  }

  /** Adds to the counter unless it would pass 2^64 − 2. */
  private add(lo: number, hi: number): boolean {
    const sumLo = this.lo + lo
    const sumHi = this.hi + hi + (sumLo >= TWO32 ? 1 : 0)
    if (sumHi > MAX32 || (sumHi === MAX32 && sumLo % TWO32 === MAX32)) return false
    this.lo = sumLo % TWO32
    this.hi = sumHi
    this.queue.wake(EPOLLIN)
    return true
  }

  override poll(): number {
    if (this.lo === MAX32 && this.hi === MAX32) return EPOLLIN | EPOLLERR
    const full = this.hi === MAX32 && this.lo >= MAX32 - 1
    return (this.lo !== 0 || this.hi !== 0 ? EPOLLIN : 0) | (full ? 0 : EPOLLOUT)
  }

  override fdinfo(): string {
    const count =
      (this.hi === 0 ? '' : this.hi.toString(16)) + this.lo.toString(16).padStart(this.hi === 0 ? 1 : 8, '0')
    return `eventfd-count: ${count.padStart(16)}\neventfd-id: ${this.id}\n`
  }
}
