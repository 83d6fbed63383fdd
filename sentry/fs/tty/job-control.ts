/**
 * Who may use a terminal, and how sessions get and lose one (Linux: drivers/tty/tty_jobctrl.c).
 */
import { EFAULT, EINVAL, EIO, ENOTTY, EPERM, ESRCH } from '../../abi/errno.ts'
import { O_ACCMODE, O_WRONLY } from '../../abi/fcntl.ts'
import { SIGTTIN, SIGTTOU } from '../../abi/signal.ts'
import { CAP_SYS_ADMIN } from '../../kernel/credentials.ts'
import { isOrphaned } from '../../kernel/job-control.ts'
import { sendKernelSignalToPgrp } from '../../kernel/signal.ts'
import { SIG_IGN } from '../../kernel/signal-actions.ts'
import { ERESTARTSYS } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { Tty } from './tty.ts'

function checkChange(t: Task, tty: Tty, sig: number): number {
  const pgrp = t.group.pgrp
  if (pgrp.session.tty !== tty || tty.foregroundId === 0 || pgrp.pgid === tty.foregroundId) return 0
  if (t.signals.blocked.has(sig) || t.group.signals.actions.handler(sig) === SIG_IGN) return sig === SIGTTIN ? -EIO : 0
  if (isOrphaned(pgrp)) return -EIO
  sendKernelSignalToPgrp(pgrp, sig)
  return -ERESTARTSYS
}

/** A background process may not read its terminal: 0, −EIO, or −ERESTARTSYS with SIGTTIN on its way. */
export function checkRead(t: Task, tty: Tty): number {
  return checkChange(t, tty, SIGTTIN)
}
/** The same for changes, and for output with TOSTOP; SIGTTOU. */
export function checkWrite(t: Task, tty: Tty): number {
  return checkChange(t, tty, SIGTTOU)
}

/** open(2) without O_NOCTTY by a session leader without a terminal. */
export function acquireAtOpen(t: Task, tty: Tty, flags: number): void {
  const session = t.group.pgrp.session
  if (session.leader !== t.group || session.tty !== null || tty.session !== null) return
  if ((flags & O_ACCMODE) === O_WRONLY) return
  tty.control(session, t.group.pgrp)
}

/** TIOCSCTTY. */
export function setControlling(t: Task, tty: Tty, flags: number, steal: number): number {
  const session = t.group.pgrp.session
  const leader = session.leader === t.group
  if (leader && tty.session === session) return 0
  if (!leader || session.tty !== null) return -EPERM
  const admin = t.creds.capable(CAP_SYS_ADMIN)
  if (tty.session !== null && !(steal === 1 && admin)) return -EPERM
  if ((flags & O_ACCMODE) === O_WRONLY && !admin) return -EPERM
  tty.control(session, t.group.pgrp)
  return 0
}

/** TIOCNOTTY. A process that is no leader gives up nothing that others of its session could see. */
export function giveUp(t: Task, tty: Tty): number {
  const session = t.group.pgrp.session
  if (session.tty !== tty) return -ENOTTY
  if (session.leader === t.group) tty.disassociate(true)
  return 0
}

/** TIOCGPGRP; `ofMaster` asks from the other side, which controls nobody. */
export function getForeground(t: Task, tty: Tty, ofMaster: boolean, arg: number): number {
  if (!ofMaster && t.group.pgrp.session.tty !== tty) return -ENOTTY
  return t.writeU32(arg, tty.foregroundId)
}

/** TIOCSPGRP. */
export function setForeground(t: Task, tty: Tty, arg: number): number {
  const change = checkWrite(t, tty)
  if (change !== 0) return change === -EIO ? -ENOTTY : change
  const id = t.readU32(arg)
  if (id < 0) return -EFAULT
  if ((id | 0) < 0) return -EINVAL
  const session = t.group.pgrp.session
  if (session.tty !== tty || tty.session !== session) return -ENOTTY
  const pgrp = t.kernel.ids.pgrp(id)
  if (pgrp === undefined) return t.kernel.ids.task(id) === undefined ? -ESRCH : -EPERM
  if (pgrp.session !== session) return -EPERM
  tty.setForeground(pgrp)
  return 0
}

/** TIOCGSID. */
export function getSession(t: Task, tty: Tty, ofMaster: boolean, arg: number): number {
  if (!ofMaster && t.group.pgrp.session.tty !== tty) return -ENOTTY
  return tty.session === null ? -ENOTTY : t.writeU32(arg, tty.session.sid)
}
