/**
 * May one task look into another? (Linux: ptrace_may_access, kernel/ptrace.c; ptrace(2), "Ptrace access mode checking")
 *
 * Decides who reads /proc/PID/mem, environ, fd and the like, and who may use process_vm_readv(2) and kcmp(2).
 */
import { EPERM } from '../abi/errno.ts'
import { CAP_SYS_PTRACE, type CapSet } from './credentials.ts'
import type { Task } from './task.ts'

const subset = (a: CapSet, of: CapSet): boolean => (a.lo & ~of.lo) === 0 && (a.hi & ~of.hi) === 0

/** 0 or −EPERM. `fsCreds`: PTRACE_MODE_FSCREDS (for /proc); else PTRACE_MODE_REALCREDS. */
export function ptraceAccess(t: Task, target: Task, fsCreds: boolean): number {
  if (t.group === target.group) return 0
  const mine = t.creds
  const its = target.creds
  const capable = mine.capable(CAP_SYS_PTRACE)
  const uid = fsCreds ? mine.fsuid : mine.uid
  const gid = fsCreds ? mine.fsgid : mine.gid
  const same =
    uid === its.euid && uid === its.suid && uid === its.uid && gid === its.egid && gid === its.sgid && gid === its.gid
  if (!same && !capable) return -EPERM
  if (target.group.dumpable !== 1 && !capable) return -EPERM
  if (!subset(its.permitted, fsCreds ? mine.effective : mine.permitted) && !capable) return -EPERM
  return 0
}
