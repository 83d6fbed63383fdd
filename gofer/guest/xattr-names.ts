/**
 * Extended attributes that a guest asks of every file and does nothing with: it has no SELinux, and goes by mode bits, not
 * ACLs. Told by one file that there are none, `ls` asks no other, which is two messages for each less.
 */
import { SCRATCH_NAME, scratch } from './scratch.ts'

const IDLE = ['security.selinux', 'system.posix_acl_access', 'system.posix_acl_default'].map((n) => Buffer.from(n))

/** Whether the name in scratch memory is one of them. */
export function isIdle(length: number): boolean {
  return IDLE.some((n) => n.length === length && n.compare(scratch.bytes, SCRATCH_NAME, SCRATCH_NAME + length) === 0)
}
