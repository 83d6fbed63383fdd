/**
 * poll(2), ppoll(2), select(2), pselect6(2).
 *
 * A run looks at every descriptor; only when none is ready the task joins all their queues. Like Linux, sets and arrays
 * are read on each run and written once, at the end.
 */
import { EBADF, EFAULT, EINTR, EINVAL } from '../sentry/abi/errno.ts'
import { POLLFD_SIZE } from '../sentry/abi/poll.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import { restoreSavedMask } from '../sentry/kernel/signal.ts'
import { BLOCK, ERESTART_RESTARTBLOCK, ERESTARTNOHAND, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLNVAL,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDBAND,
  EPOLLRDNORM,
  EPOLLWRBAND,
  EPOLLWRNORM,
} from '../sentry/vfs/file-description.ts'
import { applyUserMask, firstRun, readTimespecNs, readTimevalNs, writeTimespecNs, writeTimevalNs } from './wait-args.ts'

const SYS_POLL = 7
const IN_SET = EPOLLRDNORM | EPOLLRDBAND | EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLNVAL
const OUT_SET = EPOLLWRBAND | EPOLLWRNORM | EPOLLOUT | EPOLLERR | EPOLLNVAL
const EX_SET = EPOLLPRI | EPOLLNVAL

// ---- poll ------------------------------------------------------------------------------------------------------------

/** struct pollfd[]: int fd at 2i, short events and revents at 4i+2 and 4i+3. Grows up to RLIMIT_NOFILE entries. */
let pollBytes = new Uint8Array(64 * POLLFD_SIZE)
let pollWords = new Int32Array(pollBytes.buffer)
let pollShorts = new Int16Array(pollBytes.buffer)

/** Fills in revents; the number of descriptors that have any. */
function scan(t: Task, n: number): number {
  let count = 0
  for (let i = 0; i < n; i++) {
    const fd = pollWords[2 * i]!
    let revents = 0
    if (fd >= 0) {
      const file = t.fds.get(fd)
      if (file === undefined) revents = EPOLLNVAL
      else revents = file.poll() & (pollShorts[4 * i + 2]! | EPOLLERR | EPOLLHUP)
      if (revents !== 0) count++
    }
    pollShorts[4 * i + 3] = revents
  }
  return count
}

function pollOnce(t: Task, restart: number): SysRet {
  const n = t.argU32(1)
  if (n > t.group.limits.soft[RLIMIT_NOFILE]!) return -EINVAL
  const len = n * POLLFD_SIZE
  if (len > pollBytes.length) {
    pollBytes = new Uint8Array(len)
    pollWords = new Int32Array(pollBytes.buffer)
    pollShorts = new Int16Array(pollBytes.buffer)
  }
  const addr = t.argPtr(0)
  if (n > 0 && t.readBytes(addr, pollBytes, len) < 0) return -EFAULT
  const count = scan(t, n)
  // A signal comes before the end of the time, also where that is zero.
  if (count > 0 || (t.timedOut && !t.signalPending))
    return n > 0 && t.writeBytes(addr, pollBytes, len) < 0 ? -EFAULT : count
  for (let i = 0; i < n; i++) {
    const fd = pollWords[2 * i]!
    const queue = fd < 0 ? null : t.fds.get(fd)!.waitQueue
    if (queue !== null) t.addWait(queue, pollShorts[4 * i + 2]! & 0xffff)
  }
  return t.waitOn(null, 0, restart)
}

export function sysPoll(t: Task): SysRet {
  const ms = t.argI32(2)
  t.deadlineIn(ms < 0 ? Number.POSITIVE_INFINITY : ms * 1e6)
  const ret = pollOnce(t, ERESTART_RESTARTBLOCK)
  if (ret === -ERESTART_RESTARTBLOCK) t.restartSysno = SYS_POLL
  return ret
}

export function sysPpoll(t: Task): SysRet {
  const timeout = t.argPtr(2)
  const bad = begin(t, timeout, readTimespecNs, t.argPtr(3), t.argPtr(4))
  if (bad < 0) return bad
  return finish(t, pollOnce(t, ERESTARTNOHAND), timeout, writeTimespecNs)
}

// ---- what ppoll, select and pselect share ----------------------------------------------------------------------------

/** First run: timeout and mask. −errno or 0. */
function begin(
  t: Task,
  timeout: number,
  readNs: (t: Task, addr: number) => number,
  mask: number,
  maskSize: number,
): number {
  if (!firstRun(t)) return 0
  let ns = Number.POSITIVE_INFINITY
  if (timeout !== 0) {
    ns = readNs(t, timeout)
    if (ns < 0) return ns
    // Linux leaves a zero timeout alone at the end (poll_select_finish).
    t.progress = ns === 0 ? 1 : 0
  }
  const bad = applyUserMask(t, mask, maskSize)
  if (bad < 0) return bad
  t.deadlineIn(ns)
  return 0
}

/** Writes the time left back, and undoes the mask unless a handler is about to run under it. */
function finish(
  t: Task,
  result: SysRet,
  timeout: number,
  writeNs: (t: Task, addr: number, ns: number) => number,
): SysRet {
  if (result === BLOCK) return BLOCK
  if (result !== -ERESTARTNOHAND) restoreSavedMask(t)
  if (timeout === 0 || t.progress === 1) return result
  const left = Math.max(0, t.deadline - t.kernel.now())
  // A timeout in read-only memory: the call cannot be restarted, since it would start its time anew.
  return writeNs(t, timeout, left) < 0 && result === -ERESTARTNOHAND ? -EINTR : result
}

// ---- select ----------------------------------------------------------------------------------------------------------

/** Three input sets and three result sets of `longs` 64-bit words each. */
let setBytes = new Uint8Array(6 * 128)
let setWords = new Uint32Array(setBytes.buffer)

/** How many descriptors the table has room for, as Linux grows it: 64, 256, then powers of two. */
function maxFds(t: Task): number {
  const size = t.fds.size
  if (size <= 64) return 64
  let max = 256
  while (max < size) max *= 2
  return max
}

function selectOnce(t: Task): SysRet {
  let n = t.argI32(0)
  if (n < 0) return -EINVAL
  n = Math.min(n, maxFds(t))
  const bytes = Math.ceil(n / 64) * 8
  const words = bytes / 4
  if (6 * bytes > setBytes.length) {
    setBytes = new Uint8Array(6 * bytes)
    setWords = new Uint32Array(setBytes.buffer)
  }
  setWords.fill(0, 0, 6 * words)
  for (let s = 0; s < 3; s++) {
    const addr = t.argPtr(1 + s)
    if (addr !== 0 && bytes > 0 && t.copyIn(addr, setBytes, s * bytes, bytes) !== bytes) return -EFAULT
  }
  const count = scanSets(t, n, words)
  if (count < 0) return count
  if (count === 0 && (!t.timedOut || t.signalPending)) {
    waitForSets(t, n, words)
    return t.waitOn(null, 0, ERESTARTNOHAND)
  }
  for (let s = 0; s < 3; s++) {
    const addr = t.argPtr(1 + s)
    if (addr !== 0 && bytes > 0 && t.copyOut(addr, setBytes, (3 + s) * bytes, bytes) !== bytes) return -EFAULT
  }
  return count
}

/** Bits set in the result sets, or −EBADF. */
function scanSets(t: Task, n: number, words: number): number {
  let count = 0
  for (let w = 0; w < words; w++) {
    const inSet = setWords[w]!
    const outSet = setWords[words + w]!
    const exSet = setWords[2 * words + w]!
    let all = inSet | outSet | exSet
    while (all !== 0) {
      const bit = all & -all
      all &= ~bit
      const fd = w * 32 + 31 - Math.clz32(bit)
      if (fd >= n) break
      const file = t.fds.get(fd)
      if (file === undefined) return -EBADF
      const mask = file.poll()
      if (inSet & bit && mask & IN_SET) count += mark(3 * words + w, bit)
      if (outSet & bit && mask & OUT_SET) count += mark(4 * words + w, bit)
      if (exSet & bit && mask & EX_SET) count += mark(5 * words + w, bit)
    }
  }
  return count
}

function mark(word: number, bit: number): 1 {
  setWords[word] = setWords[word]! | bit
  return 1
}

function waitForSets(t: Task, n: number, words: number): void {
  for (let w = 0; w < words; w++) {
    const inSet = setWords[w]!
    const outSet = setWords[words + w]!
    let all = inSet | outSet | setWords[2 * words + w]!
    while (all !== 0) {
      const bit = all & -all
      all &= ~bit
      const fd = w * 32 + 31 - Math.clz32(bit)
      if (fd >= n) break
      const queue = t.fds.get(fd)!.waitQueue
      const wanted = EX_SET | (inSet & bit ? IN_SET : 0) | (outSet & bit ? OUT_SET : 0)
      if (queue !== null) t.addWait(queue, wanted)
    }
  }
}

export function sysSelect(t: Task): SysRet {
  const timeout = t.argPtr(4)
  const bad = begin(t, timeout, readTimevalNs, 0, 0)
  if (bad < 0) return bad
  return finish(t, selectOnce(t), timeout, writeTimevalNs)
}

export function sysPselect6(t: Task): SysRet {
  const timeout = t.argPtr(4)
  if (firstRun(t)) {
    const pack = t.argPtr(5)
    let mask = 0
    let size = 0
    if (pack !== 0) {
      mask = t.readU64(pack)
      if (mask < 0) return mask
      size = t.readU64(pack + 8)
      if (size < 0) return size
    }
    const bad = begin(t, timeout, readTimespecNs, mask, size)
    if (bad < 0) return bad
  }
  return finish(t, selectOnce(t), timeout, writeTimespecNs)
}
