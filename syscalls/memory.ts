/**
 * Memory calls: mmap, munmap, mprotect, mremap, madvise, brk, msync, mincore, mlock and friends.
 */
import { EBADF, EBUSY, EINVAL, ENOMEM, EOPNOTSUPP, EOVERFLOW, EPERM } from '../sentry/abi/errno.ts'
import { CAP_IPC_LOCK } from '../sentry/kernel/credentials.ts'
import { RLIMIT_MEMLOCK } from '../sentry/kernel/limits.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { PAGE, pageUp } from '../sentry/mm/memory-manager.ts'
import { MAP_ANONYMOUS, MAP_SHARED_VALIDATE, MAP_TYPE, PROT_EXEC, PROT_READ, PROT_WRITE } from '../sentry/mm/vma.ts'
import { vmaAfter } from '../sentry/mm/vma-list.ts'

const PROT_ALL = PROT_READ | PROT_WRITE | PROT_EXEC
/** Hints that x86 accepts and ignores: PROT_SEM, PROT_GROWSDOWN and PROT_GROWSUP are mprotect's. */
const PROT_SEM = 8
const PROT_GROWSDOWN = 0x01000000
const PROT_GROWSUP = 0x02000000
/** What MAP_SHARED_VALIDATE knows (LEGACY_MAP_MASK | MAP_SYNC). */
const VALIDATE_MASK = 0x1fff7f
const MAP_SYNC = 0x80000

/** mmap(2). */
export function sysMmap(t: Task): SysRet {
  const addr = t.argPtr(0)
  const len = t.argPtr(1)
  const prot = t.argU32(2)
  const flags = t.argU32(3)
  const offset = t.argPtr(5)
  if (offset % PAGE !== 0) return -EINVAL
  if ((flags & MAP_ANONYMOUS) !== 0) return t.mm.mmap(t, addr, len, prot & PROT_ALL, flags, null, 0)
  const file = t.fds.get(t.argI32(4))
  if (file === undefined) return -EBADF
  if (len > 2 ** 47) return -ENOMEM
  if (offset + len > 2 ** 63) return -EOVERFLOW
  if ((flags & MAP_TYPE) === MAP_SHARED_VALIDATE && (flags & ~(VALIDATE_MASK & ~MAP_SYNC)) !== 0) return -EOPNOTSUPP
  return t.mm.mmap(t, addr, len, prot & PROT_ALL, flags, file, offset)
}

/** munmap(2). */
export function sysMunmap(t: Task): SysRet {
  return t.mm.munmap(t, t.argPtr(0), t.argPtr(1))
}

/** mprotect(2); also pkey_mprotect(2) with key −1. */
export function sysMprotect(t: Task): SysRet {
  let prot = t.argU32(2)
  const grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
  if (grows === (PROT_GROWSDOWN | PROT_GROWSUP)) return -EINVAL
  prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP | PROT_SEM)
  let addr = t.argPtr(0)
  let len = t.argPtr(1)
  if (grows === PROT_GROWSDOWN) {
    const vma = t.mm.find(addr)
    if (vma === undefined) return -ENOMEM
    if (vma.name !== '[stack]') return -EINVAL
    len = addr + pageUp(len) - vma.start
    addr = vma.start
  } else if (grows === PROT_GROWSUP) return -EINVAL
  return t.mm.mprotect(t, addr, len, prot)
}
export function sysPkeyMprotect(t: Task): SysRet {
  return t.argI32(3) === -1 ? sysMprotect(t) : -EINVAL
}

/** mremap(2). */
export function sysMremap(t: Task): SysRet {
  return t.mm.mremap(t, t.argPtr(0), t.argPtr(1), t.argPtr(2), t.argU32(3), t.argPtr(4))
}

/** madvise(2). */
export function sysMadvise(t: Task): SysRet {
  return t.mm.madvise(t, t.argPtr(0), t.argPtr(1), t.argI32(2))
}

/** brk(2): never fails, returns the break. */
export function sysBrk(t: Task): SysRet {
  return t.mm.brk(t, t.argPtr(0))
}

/** Is all of [addr, addr+len) mapped? 0 or −ENOMEM. */
function checkMapped(t: Task, addr: number, len: number): number {
  let at = addr
  for (let i = vmaAfter(t.mm.vmas, addr); at < addr + len; i++) {
    const v = t.mm.vmas[i]
    if (v === undefined || v.start > at) return -ENOMEM
    at = v.end
  }
  return 0
}

const MS_ASYNC = 1
const MS_INVALIDATE = 2
const MS_SYNC = 4

/** msync(2): shared pages are the file's own, so only the disk is left to do. */
export function sysMsync(t: Task): SysRet {
  const addr = t.argPtr(0)
  const len = pageUp(t.argPtr(1))
  const flags = t.argU32(2)
  if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) !== 0 || addr % PAGE !== 0) return -EINVAL
  if ((flags & MS_ASYNC) !== 0 && (flags & MS_SYNC) !== 0) return -EINVAL
  if (addr + len > t.mm.taskSize) return -ENOMEM
  const vmas = t.mm.vmas
  for (let i = vmaAfter(vmas, addr); i < vmas.length && vmas[i]!.start < addr + len; i++) {
    const v = vmas[i]!
    if ((flags & MS_INVALIDATE) !== 0 && v.locked) return -EBUSY
    if ((flags & MS_SYNC) !== 0 && v.shared && v.file !== null) {
      const err = v.file.fsync(false)
      if (err < 0 && err !== -EINVAL) return err
    }
  }
  return checkMapped(t, addr, len)
}

const RESIDENT = new Uint8Array(4096).fill(1)

/** mincore(2): every mapped page counts as resident. */
export function sysMincore(t: Task): SysRet {
  const addr = t.argPtr(0)
  const len = t.argPtr(1)
  if (addr % PAGE !== 0) return -EINVAL
  if (addr + len > t.mm.taskSize) return -ENOMEM
  const pages = pageUp(len) / PAGE
  const err = checkMapped(t, addr, pageUp(len))
  if (err < 0) return err
  for (let done = 0; done < pages; done += RESIDENT.length) {
    const bad = t.writeBytes(t.argPtr(2) + done, RESIDENT, Math.min(RESIDENT.length, pages - done))
    if (bad < 0) return bad
  }
  return 0
}

function lockRange(t: Task, addr: number, length: number, on: boolean): SysRet {
  const start = addr - (addr % PAGE)
  const len = pageUp(length + (addr % PAGE))
  if (start + len >= 2 ** 64) return -EINVAL
  if (on) {
    const limit = t.group.limits.soft[RLIMIT_MEMLOCK]!
    if (!t.creds.capable(CAP_IPC_LOCK)) {
      if (limit === 0) return -EPERM
      let locked = 0
      for (const v of t.mm.vmas) if (v.locked) locked += v.end - v.start
      if (locked + len > limit) return -ENOMEM
    }
  }
  if (start + len > t.mm.taskSize) return -ENOMEM
  const err = checkMapped(t, start, len)
  if (err < 0) return err
  const vmas = t.mm.vmas
  for (let i = vmaAfter(vmas, start); i < vmas.length && vmas[i]!.start < start + len; i++) vmas[i]!.locked = on
  return 0
}

/** mlock(2): pages are not pinned, the accounting and the errors are Linux's. */
export function sysMlock(t: Task): SysRet {
  return lockRange(t, t.argPtr(0), t.argPtr(1), true)
}
export function sysMlock2(t: Task): SysRet {
  const MLOCK_ONFAULT = 1
  return (t.argU32(2) & ~MLOCK_ONFAULT) !== 0 ? -EINVAL : lockRange(t, t.argPtr(0), t.argPtr(1), true)
}
export function sysMunlock(t: Task): SysRet {
  return lockRange(t, t.argPtr(0), t.argPtr(1), false)
}
export function sysMlockall(t: Task): SysRet {
  const CURRENT = 1
  const FUTURE = 2
  const ONFAULT = 4
  const flags = t.argU32(0)
  if (flags === 0 || (flags & ~(CURRENT | FUTURE | ONFAULT)) !== 0 || flags === ONFAULT) return -EINVAL
  const limit = t.group.limits.soft[RLIMIT_MEMLOCK]!
  if (!t.creds.capable(CAP_IPC_LOCK)) {
    if (limit === 0) return -EPERM
    if ((flags & CURRENT) !== 0 && t.mm.totalSize > limit) return -ENOMEM
  }
  t.mm.lockFuture = (flags & FUTURE) !== 0
  if ((flags & CURRENT) !== 0) for (const v of t.mm.vmas) v.locked = true
  return 0
}
export function sysMunlockall(t: Task): SysRet {
  t.mm.lockFuture = false
  for (const v of t.mm.vmas) v.locked = false
  return 0
}
