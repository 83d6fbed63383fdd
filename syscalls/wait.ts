/**
 * wait4, waitid.
 */
import { EAGAIN, EBADF, ECHILD, EFAULT, EINVAL, ESRCH } from '../sentry/abi/errno.ts'
import { O_NONBLOCK } from '../sentry/abi/fcntl.ts'
import { SIGCHLD } from '../sentry/abi/signal.ts'
import { PidFd } from '../sentry/fs/pidfd.ts'
import { wholeUsage } from '../sentry/kernel/cpu-times.ts'
import { ERESTARTSYS, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import {
  findChild,
  WALL,
  type WaitTarget,
  WCLONE,
  WCONTINUED,
  WEXITED,
  WNOHANG,
  WNOTHREAD,
  WNOWAIT,
  WSTOPPED,
  WUNTRACED,
  waited,
} from '../sentry/kernel/wait.ts'
import { writeRusage } from './rusage.ts'

const P_ALL = 0
const P_PID = 1
const P_PGID = 2
const P_PIDFD = 3
const EPOLLIN = 1

/** Reused: a wait never outlives its handler's run. */
const TARGET: WaitTarget = { id: 0, group: null, pgrp: null, none: false }

function target(t: Task, kind: number, id: number): WaitTarget {
  TARGET.id = kind === P_PID ? id : 0
  TARGET.group = null
  TARGET.pgrp = null
  TARGET.none = false
  const ids = t.kernel.ids
  if (kind === P_PID) {
    TARGET.group = ids.group(id) ?? null
    TARGET.none = TARGET.group === null
  } else if (kind === P_PGID) {
    TARGET.pgrp = (id === 0 ? t.group.pgrp : ids.pgrp(id)) ?? null
    TARGET.none = TARGET.pgrp === null
  }
  return TARGET
}

/** wait4(2). */
export function sysWait4(t: Task): SysRet {
  const pid = t.argI32(0)
  const statusAddr = t.argPtr(1)
  const options = t.argU32(2)
  const usageAddr = t.argPtr(3)
  if ((options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL)) !== 0) return -EINVAL
  if (pid === -2147483648) return -ESRCH
  const kind = pid === -1 ? P_ALL : pid > 0 ? P_PID : P_PGID
  const found = findChild(t, target(t, kind, Math.abs(pid)), options | WEXITED)
  if (found < 0) return found
  if (found === 0) return options & WNOHANG ? 0 : t.waitOn(t.group.childWait, EPOLLIN, ERESTARTSYS)
  const result = waited.pid
  if (statusAddr !== 0 && t.writeU32(statusAddr, waited.status) < 0) return -EFAULT
  if (usageAddr !== 0 && writeWaited(t, usageAddr) < 0) return -EFAULT
  return result
}

/** waitid(2). */
export function sysWaitid(t: Task): SysRet {
  const kind = t.argI32(0)
  const id = t.argI32(1)
  const infoAddr = t.argPtr(2)
  const options = t.argU32(3)
  const usageAddr = t.argPtr(4)
  const allowed = WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | WNOTHREAD | WCLONE | WALL
  if ((options & ~allowed) !== 0 || (options & (WEXITED | WSTOPPED | WCONTINUED)) === 0) return -EINVAL
  if (kind === P_PID ? id <= 0 : kind !== P_ALL && id < 0) return -EINVAL
  let nonblock = (options & WNOHANG) !== 0
  let wanted: WaitTarget
  if (kind === P_PIDFD) {
    const file = t.fds.get(id)
    if (!(file instanceof PidFd)) return -EBADF
    if (file.flags & O_NONBLOCK) nonblock = true
    wanted = target(t, P_ALL, 0)
    wanted.id = file.group.pid
    wanted.group = file.group
  } else if (kind === P_ALL || kind === P_PID || kind === P_PGID) {
    wanted = target(t, kind, id)
  } else return -EINVAL
  const found = findChild(t, wanted, options)
  if (found === 0 && !nonblock) return t.waitOn(t.group.childWait, EPOLLIN, ERESTARTSYS)
  if (found === 1 && usageAddr !== 0 && writeWaited(t, usageAddr) < 0) return -EFAULT
  if (infoAddr !== 0 && writeInfo(t, infoAddr, found === 1) < 0) return -EFAULT
  if (found < 0) return -ECHILD
  return found === 0 && (options & WNOHANG) === 0 ? -EAGAIN : 0
}

const INFO = new Int32Array(7)
const INFO_BYTES = new Uint8Array(INFO.buffer)
const PAD = 3

/** The members that Linux writes; what is between them and after them stays as it was. */
function writeInfo(t: Task, addr: number, found: boolean): number {
  INFO.fill(0)
  if (found) {
    INFO[0] = SIGCHLD
    INFO[2] = waited.code
    INFO[PAD + 1] = waited.pid
    INFO[PAD + 2] = waited.uid
    INFO[PAD + 3] = waited.value
  }
  if (t.writeBytes(addr, INFO_BYTES, 12) < 0) return -EFAULT
  return t.writeBytes(addr + 16, INFO_BYTES.subarray(16), 12)
}

const writeWaited = (t: Task, addr: number): number =>
  writeRusage(t, addr, waited.userNs, waited.systemNs, wholeUsage(waited.child!))
