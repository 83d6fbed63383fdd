/**
 * mount(2), umount2(2), pivot_root(2).
 */
import { EFAULT } from '../sentry/abi/errno.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { mountAt, pivotRoot, umountAt } from '../sentry/vfs/mount-ops.ts'

const PAGE = 4096

/** copy_mount_string: null for no pointer. */
function optionalString(t: Task, addr: number): string | null | number {
  return addr === 0 ? null : t.readString(addr, PAGE)
}

export function sysMount(t: Task): SysRet {
  const type = optionalString(t, t.argPtr(2))
  if (typeof type === 'number') return type
  const source = optionalString(t, t.argPtr(0))
  if (typeof source === 'number') return source
  // The data page is binary for some file systems: bytes after a fault are not there, a missing NUL is no error.
  let data = optionalString(t, t.argPtr(4))
  if (typeof data === 'number') {
    if (data === -EFAULT) return data
    data = ''
  }
  const target = t.readPath(t.argPtr(1))
  if (typeof target === 'number') return target
  return mountAt(t, source, target, type, t.argU32(3), data)
}

export function sysUmount2(t: Task): SysRet {
  const target = t.readPath(t.argPtr(0))
  return typeof target === 'number' ? target : umountAt(t, target, t.argI32(1))
}

export function sysPivotRoot(t: Task): SysRet {
  const newRoot = t.readPath(t.argPtr(0))
  if (typeof newRoot === 'number') return newRoot
  const putOld = t.readPath(t.argPtr(1))
  return typeof putOld === 'number' ? putOld : pivotRoot(t, newRoot, putOld)
}
