/**
 * Calls that a container has no business with, or whose feature this kernel is built without.
 *
 * Privileged ones answer EPERM to the unprivileged first, as Linux does, so that programs which probe for the right see
 * the usual error; with the capability they answer ENOSYS, as a kernel without the feature.
 */
import { EINVAL, ENOSYS, EPERM } from '../sentry/abi/errno.ts'
import {
  CAP_SYS_ADMIN,
  CAP_SYS_BOOT,
  CAP_SYS_MODULE,
  CAP_SYS_NICE,
  CAP_SYS_PACCT,
  CAP_SYS_RAWIO,
} from '../sentry/kernel/credentials.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

const needs =
  (cap: number) =>
  (t: Task): SysRet =>
    t.creds.capable(cap) ? -ENOSYS : -EPERM

export const sysNeedsAdmin = needs(CAP_SYS_ADMIN)
export const sysNeedsModule = needs(CAP_SYS_MODULE)
export const sysNeedsRawio = needs(CAP_SYS_RAWIO)
export const sysNeedsPacct = needs(CAP_SYS_PACCT)
export const sysNeedsBoot = needs(CAP_SYS_BOOT)
export const sysNeedsNice = needs(CAP_SYS_NICE)

/** Not built in; nothing to log. */
export const sysAbsent = (_t: Task): SysRet => -ENOSYS

const REBOOT_MAGIC1 = 0xfee1dead
const REBOOT_MAGIC2: readonly number[] = [672274793, 85072278, 369367448, 537993216]

/** reboot(2): nothing here boots, whoever asks. */
export function sysReboot(t: Task): SysRet {
  if (!t.creds.capable(CAP_SYS_BOOT)) return -EPERM
  if (t.argU32(0) !== REBOOT_MAGIC1 || !REBOOT_MAGIC2.includes(t.argU32(1))) return -EINVAL
  return -EINVAL
}
