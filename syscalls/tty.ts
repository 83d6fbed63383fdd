/**
 * vhangup(2).
 */
import { EPERM } from '../sentry/abi/errno.ts'
import { Tty } from '../sentry/fs/tty/tty.ts'
import { CAP_SYS_TTY_CONFIG } from '../sentry/kernel/credentials.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

export function sysVhangup(t: Task): SysRet {
  if (!t.creds.capable(CAP_SYS_TTY_CONFIG)) return -EPERM
  const tty = t.group.pgrp.session.tty
  if (tty instanceof Tty) tty.hangUp()
  return 0
}
