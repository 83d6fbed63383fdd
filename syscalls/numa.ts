/**
 * Memory policy of a machine with one node (numa(7)): arguments are checked, a policy is remembered so that it can be
 * read back, and nothing moves.
 */
import { EFAULT, EINVAL, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import { CAP_SYS_NICE } from '../sentry/kernel/credentials.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

const MPOL_DEFAULT = 0
const MPOL_PREFERRED = 1
const MPOL_LOCAL = 4
const MPOL_MAX = 7
const MPOL_MODE_FLAGS = 0xe000
const MPOL_F_NODE = 1
const MPOL_F_ADDR = 2
const MPOL_F_MEMS_ALLOWED = 4
const MPOL_MF_VALID = 7
/** Bits of nodemask that Linux accepts: a page of them. */
const MAX_NODES = 4096 * 8

interface Policy {
  mode: number
  nodes: number
}
const policies = new WeakMap<Task, Policy>()
const MASK = new Uint8Array(4096)

/** The first word of a nodemask (only node 0 exists), or −errno. */
function readNodes(t: Task, addr: number, maxnode: number): number {
  const bits = maxnode - 1
  if (addr === 0 || bits <= 0) return 0
  if (bits > MAX_NODES) return -EINVAL
  const len = Math.ceil(bits / 64) * 8
  if (t.readBytes(addr, MASK, len) < 0) return -EFAULT
  for (let i = 1; i < len; i++) if (MASK[i] !== 0) return -EINVAL
  return (MASK[0]! & ~1) !== 0 ? -EINVAL : MASK[0]!
}

/** Checks (mode, nodes) as mpol_new does. 0 or −errno. */
function checkPolicy(mode: number, nodes: number): number {
  const kind = mode & ~MPOL_MODE_FLAGS
  if (mode < 0 || kind >= MPOL_MAX) return -EINVAL
  if (kind === MPOL_DEFAULT || kind === MPOL_LOCAL) return nodes !== 0 ? -EINVAL : 0
  return nodes === 0 && kind !== MPOL_PREFERRED ? -EINVAL : 0
}

/** set_mempolicy(2). */
export function sysSetMempolicy(t: Task): SysRet {
  const mode = t.argI32(0)
  const nodes = readNodes(t, t.argPtr(1), t.argPtr(2))
  if (nodes < 0) return nodes
  const err = checkPolicy(mode, nodes)
  if (err < 0) return err
  policies.set(t, { mode, nodes })
  return 0
}

/** get_mempolicy(2). */
export function sysGetMempolicy(t: Task): SysRet {
  const policyAddr = t.argPtr(0)
  const maskAddr = t.argPtr(1)
  const maxnode = t.argPtr(2)
  const addr = t.argPtr(3)
  const flags = t.argPtr(4)
  if (flags > 7 || (maskAddr !== 0 && maxnode < 1)) return -EINVAL
  const allowed = (flags & MPOL_F_MEMS_ALLOWED) !== 0
  if (allowed && (flags & (MPOL_F_NODE | MPOL_F_ADDR)) !== 0) return -EINVAL
  if ((flags & MPOL_F_ADDR) === 0 && addr !== 0 && !allowed) return -EINVAL
  const policy = policies.get(t) ?? { mode: MPOL_DEFAULT, nodes: 0 }
  const node = (flags & MPOL_F_NODE) !== 0
  if (node && (flags & MPOL_F_ADDR) === 0) return -EINVAL
  if (policyAddr !== 0 && t.writeU32(policyAddr, allowed || node ? 0 : policy.mode) < 0) return -EFAULT
  if (maskAddr === 0) return 0
  const len = Math.min(Math.ceil(maxnode / 64) * 8, MASK.length)
  MASK.fill(0, 0, len)
  MASK[0] = allowed ? 1 : policy.nodes
  return t.writeBytes(maskAddr, MASK, len)
}

/** mbind(2). */
export function sysMbind(t: Task): SysRet {
  const start = t.argPtr(0)
  const flags = t.argU32(5)
  if (start % 4096 !== 0 || (flags & ~MPOL_MF_VALID) !== 0) return -EINVAL
  if ((flags & 4) !== 0 && !t.creds.capable(CAP_SYS_NICE)) return -EPERM
  const nodes = readNodes(t, t.argPtr(3), t.argPtr(4))
  return nodes < 0 ? nodes : checkPolicy(t.argI32(2), nodes)
}

/** migrate_pages(2): all pages are on the only node already. */
export function sysMigratePages(t: Task): SysRet {
  for (const i of [2, 3]) {
    const nodes = readNodes(t, t.argPtr(i), t.argPtr(1))
    if (nodes < 0) return nodes
  }
  const pid = t.argI32(0)
  return pid === 0 || t.kernel.ids.task(pid) !== undefined ? 0 : -ESRCH
}
