/**
 * signalfd(2) (Linux: fs/signalfd.c): takes pending signals of whoever reads it. poll() answers for the task that asks
 * (kernel.current), so one that is inherited shows each process its own signals.
 */
import { EAGAIN, EFAULT, EINVAL } from '../abi/errno.ts'
import { O_NONBLOCK, O_RDWR } from '../abi/fcntl.ts'
import { UNBLOCKABLE_MASK } from '../abi/signal.ts'
import type { Kernel } from '../kernel/kernel.ts'
import {
  encodeSigInfo,
  LAYOUT_CHILD,
  LAYOUT_FAULT,
  LAYOUT_POLL,
  LAYOUT_RT,
  LAYOUT_SYS,
  LAYOUT_TIMER,
  layoutOf,
  SIGINFO_SIZE,
} from '../kernel/siginfo.ts'
import { dequeueSignal, hasPending } from '../kernel/signal.ts'
import type { SigInfo } from '../kernel/signal-state.ts'
import type { SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import type { WaitQueue } from '../kernel/wait-queue.ts'
import type { IovIter } from '../mm/iov-iter.ts'
import { EPOLLIN, FileDescription } from '../vfs/file-description.ts'
import type { Inode } from '../vfs/inode.ts'
import { ANON_INODE } from './anon.ts'

/** sizeof(struct signalfd_siginfo). */
const RECORD = 128
const OUT = new Uint8Array(RECORD)
const INFO = new Uint8Array(SIGINFO_SIZE)
const IN_VIEW = new DataView(INFO.buffer)
const OUT_VIEW = new DataView(OUT.buffer)

const copy32 = (to: number, from: number): void => OUT_VIEW.setInt32(to, IN_VIEW.getInt32(from, true), true)
const copy64 = (to: number, from: number): void => {
  copy32(to, from)
  copy32(to + 4, from + 4)
}

/** siginfo_t as struct signalfd_siginfo, into OUT. */
function encode(info: SigInfo): void {
  encodeSigInfo(info, INFO, 0)
  OUT.fill(0)
  copy32(0, 0)
  copy32(4, 4)
  copy32(8, 8)
  const layout = layoutOf(IN_VIEW.getInt32(0, true), IN_VIEW.getInt32(8, true))
  switch (layout) {
    case LAYOUT_TIMER:
      copy32(24, 16)
      copy32(32, 20)
      copy64(48, 24)
      copy32(44, 24)
      break
    case LAYOUT_POLL:
      copy32(28, 16)
      copy32(20, 24)
      break
    case LAYOUT_FAULT:
      copy64(72, 16)
      break
    case LAYOUT_SYS:
      copy64(88, 16)
      copy32(84, 24)
      copy32(96, 28)
      break
    default:
      copy32(12, 16)
      copy32(16, 20)
      if (layout === LAYOUT_CHILD) {
        copy32(40, 24)
        copy64(56, 32)
        copy64(64, 40)
      } else if (layout === LAYOUT_RT) {
        copy64(48, 24)
        copy32(44, 24)
      }
  }
}

export class SignalFd extends FileDescription {
  private readonly kernel: Kernel
  private maskLo = 0
  private maskHi = 0

  constructor(kernel: Kernel, flags: number, lo: number, hi: number) {
    super(O_RDWR | (flags & O_NONBLOCK), null)
    this.kernel = kernel
    this.setMask(lo, hi)
  }

  setMask(lo: number, hi: number): void {
    this.maskLo = (lo & ~UNBLOCKABLE_MASK) >>> 0
    this.maskHi = hi >>> 0
    this.waitQueue.wake(EPOLLIN)
  }

  override get inode(): Inode {
    return ANON_INODE
  }
  override describe(): string {
    return 'anon_inode:[signalfd]'
  }
  override get waitQueue(): WaitQueue {
    return this.kernel.current!.group.signals.signalWait
  }

  override read(t: Task, iter: IovIter, _pos: number): SysRet {
    if (iter.remaining < RECORD) return -EINVAL
    let done = 0
    while (iter.remaining >= RECORD) {
      if (!hasPending(t, this.maskLo, this.maskHi)) break
      const info = dequeueSignal(t, ~this.maskLo >>> 0, ~this.maskHi >>> 0)
      if (info === null) break
      encode(info)
      if (iter.copyTo(OUT, 0, RECORD) < RECORD) return done > 0 ? done : -EFAULT
      done += RECORD
    }
    return done > 0 ? done : -EAGAIN
  }

  override poll(): number {
    const t = this.kernel.current
    return t !== null && hasPending(t, this.maskLo, this.maskHi) ? EPOLLIN : 0
  }

  override fdinfo(): string {
    const hex = (n: number): string => n.toString(16).padStart(8, '0')
    return `sigmask:\t${hex(this.maskHi)}${hex(this.maskLo)}\n`
  }
}
