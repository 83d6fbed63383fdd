/**
 * Sending signals: kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal.
 */
import { EBADF, EFAULT, EINVAL, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import { SI_TKILL } from '../sentry/abi/signal.ts'
import { PidFd } from '../sentry/fs/pidfd.ts'
import { ProcessDirectory } from '../sentry/fs/proc/task-dir.ts'
import { decodeSigInfo, SIGINFO_SIZE } from '../sentry/kernel/siginfo.ts'
import { killGroup, killOk, killProcessGroup, sendToTask, userInfo } from '../sentry/kernel/signal.ts'
import { NSIG } from '../sentry/kernel/signal-actions.ts'
import type { SigInfo } from '../sentry/kernel/signal-state.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import { DEAD, type Task } from '../sentry/kernel/task.ts'
import type { ThreadGroup } from '../sentry/kernel/thread-group.ts'
import type { FileDescription } from '../sentry/vfs/file-description.ts'

const valid = (sig: number): boolean => sig >= 0 && sig <= NSIG

/** The process that `pid` names; the id of any of its threads will do, as in Linux. */
function groupOf(t: Task, pid: number): ThreadGroup | undefined {
  const ids = t.kernel.ids
  return ids.group(pid) ?? ids.task(pid)?.group
}

/** kill(2). */
export function sysKill(t: Task): SysRet {
  const pid = t.argI32(0)
  const sig = t.argI32(1)
  if (pid === -2147483648) return -ESRCH
  if (pid > 0) {
    const group = groupOf(t, pid)
    if (group === undefined) return -ESRCH
    return valid(sig) ? killGroup(t, group, userInfo(t, sig)) : -EINVAL
  }
  if (pid === -1) return killAll(t, sig)
  const pgrp = pid === 0 ? t.group.pgrp : t.kernel.ids.pgrp(-pid)
  if (pgrp === undefined || pgrp.members.length === 0) return -ESRCH
  return valid(sig) ? killProcessGroup(t, pgrp, userInfo(t, sig)) : -EINVAL
}

/** Everybody but init and oneself. */
function killAll(t: Task, sig: number): SysRet {
  let count = 0
  let result = 0
  for (const group of [...t.kernel.ids.groups()]) {
    if (group.pid <= 1 || group === t.group) continue
    if (!valid(sig)) return -EINVAL
    count++
    const ret = killGroup(t, group, userInfo(t, sig))
    if (ret !== -EPERM) result = ret
  }
  return count > 0 ? result : -ESRCH
}

/** To one thread. tgid −1: whatever process it is in. */
function sendSpecific(t: Task, tgid: number, tid: number, info: SigInfo): SysRet {
  const target = t.kernel.ids.task(tid)
  if (target === undefined || (tgid > 0 && target.group.pid !== tgid)) return -ESRCH
  if (!valid(info.signo)) return -EINVAL
  if (!killOk(t, target, info.signo)) return -EPERM
  if (info.signo === 0 || target.state === DEAD) return 0
  return sendToTask(target, info)
}

/** tkill(2). */
export function sysTkill(t: Task): SysRet {
  const tid = t.argI32(0)
  if (tid <= 0) return -EINVAL
  return sendSpecific(t, -1, tid, userInfo(t, t.argI32(1), SI_TKILL))
}

/** tgkill(2). */
export function sysTgkill(t: Task): SysRet {
  const tgid = t.argI32(0)
  const tid = t.argI32(1)
  if (tid <= 0 || tgid <= 0) return -EINVAL
  return sendSpecific(t, tgid, tid, userInfo(t, t.argI32(2), SI_TKILL))
}

const INFO = new Uint8Array(SIGINFO_SIZE)
/** si_signo as the caller wrote it. */
let infoSigno = 0

/** A siginfo that the caller made up: only for itself may it look like the kernel's. */
function readInfo(t: Task, addr: number, sig: number, pid: number): SigInfo | number {
  if (t.readBytes(addr, INFO) < 0) return -EFAULT
  infoSigno = new DataView(INFO.buffer).getInt32(0, true)
  const info = decodeSigInfo(INFO, sig)
  if ((info.code >= 0 || info.code === SI_TKILL) && t.tid !== pid) return -EPERM
  return info
}

/** rt_sigqueueinfo(2). */
export function sysRtSigqueueinfo(t: Task): SysRet {
  const pid = t.argI32(0)
  const sig = t.argI32(1)
  const info = readInfo(t, t.argPtr(2), sig, pid)
  if (typeof info === 'number') return info
  const group = pid > 0 ? groupOf(t, pid) : undefined
  if (group === undefined) return -ESRCH
  return valid(sig) ? killGroup(t, group, info) : -EINVAL
}

/** rt_tgsigqueueinfo(2). */
export function sysRtTgsigqueueinfo(t: Task): SysRet {
  const tgid = t.argI32(0)
  const tid = t.argI32(1)
  const info = readInfo(t, t.argPtr(3), t.argI32(2), tid)
  if (typeof info === 'number') return info
  if (tid <= 0 || tgid <= 0) return -EINVAL
  return sendSpecific(t, tgid, tid, info)
}

const PIDFD_SIGNAL_THREAD = 1
const PIDFD_SIGNAL_THREAD_GROUP = 2
const PIDFD_SIGNAL_PROCESS_GROUP = 4

/** What a pidfd, or an open /proc/PID, stands for. */
function processOf(file: FileDescription): ThreadGroup | null {
  if (file instanceof PidFd) return file.group
  const { inode } = file
  return inode instanceof ProcessDirectory && inode.subject.whole ? inode.subject.group : null
}

/** pidfd_send_signal(2). */
export function sysPidfdSendSignal(t: Task): SysRet {
  const sig = t.argI32(1)
  const infoAddr = t.argPtr(2)
  const flags = t.argU32(3)
  if (flags & ~(PIDFD_SIGNAL_THREAD | PIDFD_SIGNAL_THREAD_GROUP | PIDFD_SIGNAL_PROCESS_GROUP)) return -EINVAL
  if ((flags & (flags - 1)) !== 0) return -EINVAL
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  const group = processOf(file)
  if (group === null) return -EBADF
  let info = userInfo(t, sig)
  if (infoAddr !== 0) {
    const given = readInfo(t, infoAddr, sig, group.pid)
    if (typeof given === 'number') return given
    if (infoSigno !== sig) return -EINVAL
    info = given
  }
  if (group.zombie && t.kernel.ids.group(group.pid) !== group) return -ESRCH
  if (!valid(sig)) return -EINVAL
  if (flags & PIDFD_SIGNAL_PROCESS_GROUP) return killProcessGroup(t, group.pgrp, info)
  if (flags & PIDFD_SIGNAL_THREAD) return sendSpecific(t, group.pid, group.leader.tid, info)
  return killGroup(t, group, info)
}
