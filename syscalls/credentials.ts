/**
 * User and group ids, supplementary groups, capabilities.
 */
import { EFAULT, EINVAL, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import { CAP_SETGID, CAP_SETPCAP, CAP_SETUID, type CapSet } from '../sentry/kernel/credentials.ts'
import { commitCredentials, withFsuid, withUids } from '../sentry/kernel/set-ids.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

/** (uid_t) -1: leave unchanged. */
const KEEP = 0xffffffff

export const sysGetuid = (t: Task): SysRet => t.creds.uid
export const sysGeteuid = (t: Task): SysRet => t.creds.euid
export const sysGetgid = (t: Task): SysRet => t.creds.gid
export const sysGetegid = (t: Task): SysRet => t.creds.egid

/** getresuid(2). */
export function sysGetresuid(t: Task): SysRet {
  return writeThree(t, t.creds.uid, t.creds.euid, t.creds.suid)
}
/** getresgid(2). */
export function sysGetresgid(t: Task): SysRet {
  return writeThree(t, t.creds.gid, t.creds.egid, t.creds.sgid)
}
function writeThree(t: Task, real: number, effective: number, saved: number): SysRet {
  if (t.writeU32(t.argPtr(0), real) < 0 || t.writeU32(t.argPtr(1), effective) < 0) return -EFAULT
  return t.writeU32(t.argPtr(2), saved)
}

/** setuid(2). */
export function sysSetuid(t: Task): SysRet {
  const id = t.argU32(0)
  const c = t.creds
  if (id === KEEP) return -EINVAL
  if (c.capable(CAP_SETUID)) commitCredentials(t, withUids(c, id, id, id))
  else if (id === c.uid || id === c.suid) commitCredentials(t, withUids(c, c.uid, id, c.suid))
  else return -EPERM
  return 0
}

/** setgid(2). */
export function sysSetgid(t: Task): SysRet {
  const id = t.argU32(0)
  const c = t.creds
  if (id === KEEP) return -EINVAL
  if (c.capable(CAP_SETGID)) commitCredentials(t, c.with({ gid: id, egid: id, sgid: id, fsgid: id }))
  else if (id === c.gid || id === c.sgid) commitCredentials(t, c.with({ egid: id, fsgid: id }))
  else return -EPERM
  return 0
}

/** setreuid(2). */
export function sysSetreuid(t: Task): SysRet {
  const real = t.argU32(0)
  const effective = t.argU32(1)
  const c = t.creds
  const capable = c.capable(CAP_SETUID)
  if (real !== KEEP && real !== c.uid && real !== c.euid && !capable) return -EPERM
  if (effective !== KEEP && effective !== c.uid && effective !== c.euid && effective !== c.suid && !capable)
    return -EPERM
  const uid = real === KEEP ? c.uid : real
  const euid = effective === KEEP ? c.euid : effective
  const suid = real !== KEEP || (effective !== KEEP && effective !== c.uid) ? euid : c.suid
  commitCredentials(t, withUids(c, uid, euid, suid))
  return 0
}

/** setregid(2). */
export function sysSetregid(t: Task): SysRet {
  const real = t.argU32(0)
  const effective = t.argU32(1)
  const c = t.creds
  const capable = c.capable(CAP_SETGID)
  if (real !== KEEP && real !== c.gid && real !== c.egid && !capable) return -EPERM
  if (effective !== KEEP && effective !== c.gid && effective !== c.egid && effective !== c.sgid && !capable)
    return -EPERM
  const gid = real === KEEP ? c.gid : real
  const egid = effective === KEEP ? c.egid : effective
  const sgid = real !== KEEP || (effective !== KEEP && effective !== c.gid) ? egid : c.sgid
  commitCredentials(t, c.with({ gid, egid, sgid, fsgid: egid }))
  return 0
}

/** setresuid(2). */
export function sysSetresuid(t: Task): SysRet {
  const ids = [t.argU32(0), t.argU32(1), t.argU32(2)]
  const c = t.creds
  const capable = c.capable(CAP_SETUID)
  for (const id of ids) if (id !== KEEP && id !== c.uid && id !== c.euid && id !== c.suid && !capable) return -EPERM
  const [uid, euid, suid] = [pick(ids[0]!, c.uid), pick(ids[1]!, c.euid), pick(ids[2]!, c.suid)]
  // Without a change the file-system id stays, too.
  if (uid === c.uid && euid === c.euid && suid === c.suid && (ids[1] === KEEP || euid === c.fsuid)) return 0
  commitCredentials(t, withUids(c, uid, euid, suid))
  return 0
}

/** setresgid(2). */
export function sysSetresgid(t: Task): SysRet {
  const ids = [t.argU32(0), t.argU32(1), t.argU32(2)]
  const c = t.creds
  const capable = c.capable(CAP_SETGID)
  for (const id of ids) if (id !== KEEP && id !== c.gid && id !== c.egid && id !== c.sgid && !capable) return -EPERM
  const [gid, egid, sgid] = [pick(ids[0]!, c.gid), pick(ids[1]!, c.egid), pick(ids[2]!, c.sgid)]
  if (gid === c.gid && egid === c.egid && sgid === c.sgid && (ids[1] === KEEP || egid === c.fsgid)) return 0
  commitCredentials(t, c.with({ gid, egid, sgid, fsgid: egid }))
  return 0
}
const pick = (id: number, old: number): number => (id === KEEP ? old : id)

/** setfsuid(2): always the old one, whether it worked or not. */
export function sysSetfsuid(t: Task): SysRet {
  const id = t.argU32(0)
  const c = t.creds
  const old = c.fsuid
  if (id !== KEEP && id !== old) {
    if (id === c.uid || id === c.euid || id === c.suid || c.capable(CAP_SETUID)) commitCredentials(t, withFsuid(c, id))
  }
  return old
}

/** setfsgid(2). */
export function sysSetfsgid(t: Task): SysRet {
  const id = t.argU32(0)
  const c = t.creds
  const old = c.fsgid
  if (id !== KEEP && id !== old) {
    if (id === c.gid || id === c.egid || id === c.sgid || c.capable(CAP_SETGID)) {
      commitCredentials(t, c.with({ fsgid: id }))
    }
  }
  return old
}

const NGROUPS_MAX = 65536

/** getgroups(2). */
export function sysGetgroups(t: Task): SysRet {
  const size = t.argI32(0)
  const groups = t.creds.groups
  if (size < 0) return -EINVAL
  if (size === 0) return groups.length
  if (groups.length > size) return -EINVAL
  const list = Uint32Array.from(groups)
  return t.writeBytes(t.argPtr(1), new Uint8Array(list.buffer)) < 0 ? -EFAULT : groups.length
}

/** setgroups(2). */
export function sysSetgroups(t: Task): SysRet {
  const size = t.argI32(0)
  if (!t.creds.capable(CAP_SETGID)) return -EPERM
  if (size < 0 || size > NGROUPS_MAX) return -EINVAL
  const list = new Uint32Array(size)
  if (size > 0 && t.readBytes(t.argPtr(1), new Uint8Array(list.buffer)) < 0) return -EFAULT
  if (list.includes(KEEP)) return -EINVAL
  t.creds = t.creds.with({ groups: Array.from(list).sort((a, b) => a - b) })
  return 0
}

const VERSION_1 = 0x19980330
const VERSION_2 = 0x20071026
const VERSION_3 = 0x20080522
const HEADER = new Int32Array(2)
const HEADER_BYTES = new Uint8Array(HEADER.buffer)
const DATA = new Uint32Array(6)
const DATA_BYTES = new Uint8Array(DATA.buffer)

/** Number of 32-bit words of a version of the interface, or −errno; an unknown one is answered with ours. */
function capWords(t: Task, addr: number): number {
  const version = t.readU32(addr)
  if (version < 0) return -EFAULT
  if (version === VERSION_1) return 1
  if (version === VERSION_2 || version === VERSION_3) return 2
  if (t.writeU32(addr, VERSION_3) < 0) return -EFAULT
  return -EINVAL
}

/** capget(2). */
export function sysCapget(t: Task): SysRet {
  const headerAddr = t.argPtr(0)
  const dataAddr = t.argPtr(1)
  const words = capWords(t, headerAddr)
  if (words < 0) return words === -EINVAL && dataAddr === 0 ? 0 : words
  if (t.readBytes(headerAddr, HEADER_BYTES) < 0) return -EFAULT
  const pid = HEADER[1]!
  if (pid < 0) return -EINVAL
  const target = pid === 0 ? t : t.kernel.ids.task(pid)
  if (target === undefined) return -ESRCH
  if (dataAddr === 0) return 0
  const c = target.creds
  DATA[0] = c.effective.lo
  DATA[1] = c.permitted.lo
  DATA[2] = c.inheritable.lo
  DATA[3] = c.effective.hi
  DATA[4] = c.permitted.hi
  DATA[5] = c.inheritable.hi
  return t.writeBytes(dataAddr, DATA_BYTES, words * 12)
}

const outside = (set: CapSet, of: CapSet, or: CapSet): boolean =>
  (set.lo & ~(of.lo | or.lo)) !== 0 || (set.hi & ~(of.hi | or.hi)) !== 0
const both = (a: CapSet, b: CapSet): CapSet => ({ lo: (a.lo & b.lo) >>> 0, hi: (a.hi & b.hi) >>> 0 })
const LAST_HI = 0x1ff

/** capset(2). */
export function sysCapset(t: Task): SysRet {
  const headerAddr = t.argPtr(0)
  const words = capWords(t, headerAddr)
  if (words < 0) return words
  if (t.readBytes(headerAddr, HEADER_BYTES) < 0) return -EFAULT
  const pid = HEADER[1]!
  if (pid !== 0 && pid !== t.tid) return -EPERM
  DATA.fill(0)
  if (t.readBytes(t.argPtr(1), DATA_BYTES, words * 12) < 0) return -EFAULT
  const effective = { lo: DATA[0]!, hi: DATA[3]! & LAST_HI }
  const permitted = { lo: DATA[1]!, hi: DATA[4]! & LAST_HI }
  const inheritable = { lo: DATA[2]!, hi: DATA[5]! & LAST_HI }
  const c = t.creds
  if (!c.capable(CAP_SETPCAP) && outside(inheritable, c.inheritable, c.permitted)) return -EPERM
  if (outside(inheritable, c.inheritable, c.bounding)) return -EPERM
  if (outside(permitted, c.permitted, c.permitted)) return -EPERM
  if (outside(effective, permitted, permitted)) return -EPERM
  const ambient = both(c.ambient, both(permitted, inheritable))
  commitCredentials(t, c.with({ effective, permitted, inheritable, ambient }))
  return 0
}
