/**
 * Linux AIO: io_setup, io_destroy, io_submit, io_cancel, io_getevents, io_pgetevents.
 */
import { EAGAIN, EBADF, EFAULT, EINTR, EINVAL } from '../sentry/abi/errno.ts'
import { O_PATH } from '../sentry/abi/fcntl.ts'
import { getU64 } from '../sentry/abi/words.ts'
import { EventFd } from '../sentry/fs/eventfd.ts'
import { AioContext, addAioContext, aioContext, removeAioContext } from '../sentry/kernel/aio.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { KernelIovIter } from '../sentry/mm/iov-iter.ts'
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../sentry/mm/vma.ts'
import { EPOLLIN, type FileDescription } from '../sentry/vfs/file-description.ts'
import { importBuffer, importIovec } from './io-args.ts'
import { readFile, writeFile } from './read-write.ts'
import { applyUserMask, firstRun, readTimespecNs } from './wait-args.ts'

const PAGE = 4096
/** fs.aio-max-nr. */
const MAX_EVENTS = 65536
const TWO32 = 0x1_0000_0000

/** io_setup(2). */
export function sysIoSetup(t: Task): SysRet {
  const limit = t.argU32(0)
  const addr = t.argPtr(1)
  const old = t.readU64(addr)
  if (old < 0) return -EFAULT
  if (old !== 0 || limit === 0) return -EINVAL
  if (limit > MAX_EVENTS) return -EAGAIN
  const ring = t.mm.mmap(t, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, null, 0)
  if (ring < 0) return ring
  if (t.writeU64(addr, ring) < 0) {
    t.mm.munmap(t, ring, PAGE)
    return -EFAULT
  }
  addAioContext(t.mm, new AioContext(ring, limit))
  return 0
}

/** io_destroy(2). */
export function sysIoDestroy(t: Task): SysRet {
  const context = aioContext(t.mm, t.argPtr(0))
  if (context === undefined) return -EINVAL
  removeAioContext(t.mm, context)
  t.mm.munmap(t, context.id, PAGE)
  return 0
}

const IOCB = new Uint8Array(64)
const VIEW = new DataView(IOCB.buffer)

const CMD_PREAD = 0
const CMD_PWRITE = 1
const CMD_FSYNC = 2
const CMD_FDSYNC = 3
const CMD_POLL = 5
const CMD_PREADV = 7
const CMD_PWRITEV = 8
const FLAG_RESFD = 1
const FLAG_IOPRIO = 2

/** One, as an eventfd takes it. */
const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0])

/** Carries out what IOCB says. The result, or a refusal of the request itself in `refused`. */
function perform(t: Task, file: FileDescription): { refused: number; result: number } {
  const refuse = (errno: number): { refused: number; result: number } => ({ refused: errno, result: 0 })
  const op = VIEW.getUint16(16, true)
  const buf = getU64(VIEW, 24)
  const len = getU64(VIEW, 32)
  const offset = VIEW.getUint32(40, true) + VIEW.getInt32(44, true) * TWO32
  switch (op) {
    case CMD_PREAD:
    case CMD_PREADV:
    case CMD_PWRITE:
    case CMD_PWRITEV: {
      const write = op === CMD_PWRITE || op === CMD_PWRITEV
      if (write ? !file.writable : !file.readable) return refuse(-EBADF)
      const iter = op === CMD_PREAD || op === CMD_PWRITE ? importBuffer(t, buf, len) : importIovec(t, buf, len)
      if (typeof iter === 'number') return refuse(iter)
      if (offset < 0) return { refused: 0, result: -EINVAL }
      const pos = file.seekable ? offset : -1
      // A stream's progress counts per call; each request here is one of its own.
      t.progress = 0
      const result = write ? writeFile(t, file, iter, pos, true) : readFile(t, file, iter, pos, true)
      t.progress = 0
      return { refused: 0, result }
    }
    case CMD_FSYNC:
    case CMD_FDSYNC:
      if (buf !== 0 || offset !== 0 || len !== 0 || VIEW.getInt32(4 + 8, true) !== 0) return refuse(-EINVAL)
      return { refused: 0, result: file.fsync(op === CMD_FDSYNC) }
    case CMD_POLL: {
      const events = file.poll() & (buf | 0x18)
      return events === 0 ? refuse(-EINVAL) : { refused: 0, result: events }
    }
    default:
      return refuse(-EINVAL)
  }
}

/** One struct iocb. 0, or −errno when it is not accepted. */
function submitOne(t: Task, context: AioContext, addr: number): number {
  if (t.readBytes(addr, IOCB) < 0) return -EFAULT
  // aio_reserved2; sizes that do not fit.
  if (getU64(VIEW, 48) !== 0 || getU64(VIEW, 32) >= 2 ** 63) return -EINVAL
  const flags = VIEW.getUint32(56, true)
  if ((flags & ~(FLAG_RESFD | FLAG_IOPRIO)) !== 0) return -EINVAL
  if (context.events.length >= context.limit) return -EAGAIN
  const file = t.fds.get(VIEW.getInt32(20, true))
  if (file === undefined || (file.flags & O_PATH) !== 0) return -EBADF
  let notify: FileDescription | undefined
  if ((flags & FLAG_RESFD) !== 0) {
    notify = t.fds.get(VIEW.getInt32(60, true))
    if (notify === undefined) return -EBADF
    if (!(notify instanceof EventFd)) return -EINVAL
  }
  const dataLo = VIEW.getUint32(0, true)
  const dataHi = VIEW.getUint32(4, true)
  const { refused, result } = perform(t, file)
  if (refused < 0) return refused
  context.events.push({ dataLo, dataHi, iocb: addr, result })
  context.queue.wake(EPOLLIN)
  if (notify !== undefined) notify.write(t, new KernelIovIter(ONE), -1)
  return 0
}

/** io_submit(2). */
export function sysIoSubmit(t: Task): SysRet {
  const count = t.argI64(1)
  if (count < 0) return -EINVAL
  const context = aioContext(t.mm, t.argPtr(0))
  if (context === undefined) return -EINVAL
  const list = t.argPtr(2)
  const most = Math.min(count, context.limit)
  for (let i = 0; i < most; i++) {
    const addr = t.readU64(list + 8 * i)
    const err = addr < 0 ? -EFAULT : submitOne(t, context, addr)
    if (err < 0) return i > 0 ? i : err
  }
  return most
}

/** io_cancel(2): everything is done already. */
export function sysIoCancel(t: Task): SysRet {
  const context = aioContext(t.mm, t.argPtr(0))
  if (context === undefined) return -EINVAL
  return t.readU32(t.argPtr(1)) < 0 ? -EFAULT : -EINVAL
}

const EVENT = new Uint8Array(32)
const EVENT_VIEW = new DataView(EVENT.buffer)

/** Moves results to the guest from number t.progress on. The count now, or −EFAULT. */
function collect(t: Task, context: AioContext, addr: number, most: number): number {
  while (t.progress < most && context.events.length > 0) {
    const e = context.events[0]!
    EVENT_VIEW.setUint32(0, e.dataLo, true)
    EVENT_VIEW.setUint32(4, e.dataHi, true)
    EVENT_VIEW.setUint32(8, e.iocb >>> 0, true)
    EVENT_VIEW.setUint32(12, Math.floor(e.iocb / TWO32), true)
    EVENT_VIEW.setUint32(16, e.result >>> 0, true)
    EVENT_VIEW.setUint32(20, Math.floor(e.result / TWO32) >>> 0, true)
    if (t.writeBytes(addr + 32 * t.progress, EVENT) < 0) return -EFAULT
    context.events.shift()
    t.progress++
  }
  return t.progress
}

function getEvents(t: Task): SysRet {
  const context = aioContext(t.mm, t.argPtr(0))
  if (context === undefined) return -EINVAL
  const least = t.argI64(1)
  const most = t.argI64(2)
  if (least < 0 || most < 0 || least > most) return -EINVAL
  const got = collect(t, context, t.argPtr(3), most)
  if (got < 0 || got >= least) return got
  if (firstRun(t)) {
    const ns = t.argPtr(4) === 0 ? Number.POSITIVE_INFINITY : readTimespecNs(t, t.argPtr(4))
    if (ns < 0) return ns
    t.deadlineIn(ns)
  }
  if (t.timedOut) return got
  const waiting = t.waitOn(context.queue, EPOLLIN, EINTR)
  return waiting === -EINTR && got > 0 ? got : waiting
}

/** io_getevents(2). */
export function sysIoGetevents(t: Task): SysRet {
  return getEvents(t)
}

/** io_pgetevents(2): with a signal mask for the time of the wait. */
export function sysIoPgetevents(t: Task): SysRet {
  const sig = t.argPtr(5)
  if (sig !== 0 && firstRun(t) && t.progress === 0) {
    const mask = t.readU64(sig)
    const size = t.readU64(sig + 8)
    if (mask < 0 || size < 0) return -EFAULT
    const err = applyUserMask(t, mask, size)
    if (err < 0) return err
  }
  return getEvents(t)
}
