/**
 * Which cgroup hierarchies the host has: cgroup v2 alone, or v1 hierarchies (with or without a v2 tree beside them, which
 * then carries no controllers and is left alone).
 */
import { readFileSync } from 'node:fs'

export interface Hierarchy {
  mountPoint: string
  /** Controllers; empty for v2 and for named v1 hierarchies. */
  controllers: string[]
  version: 1 | 2
  /** Where this process is, relative to the mount point. */
  ownPath: string
}

const unescapeOctal = (s: string) =>
  s.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))

/** Parses /proc/self/mountinfo and /proc/self/cgroup. */
export function parseHierarchies(mountinfo: string, ownCgroups: string): Hierarchy[] {
  const own = new Map<string, string>()
  for (const line of ownCgroups.split('\n')) {
    const m = /^\d+:([^:]*):(.*)$/.exec(line)
    if (m) own.set(m[1]!, m[2]!)
  }
  const found: Hierarchy[] = []
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ')
    if (!right) continue
    const [, , , root, mountPoint] = left!.split(' ')
    const [type, , superOptions] = right.split(' ')
    if (type !== 'cgroup' && type !== 'cgroup2') continue
    const names = (superOptions ?? '').split(',').filter((o) => o !== 'rw' && o !== 'ro')
    const named = names.find((n) => n.startsWith('name='))
    const controllers = type === 'cgroup2' || named ? [] : names.filter((n) => !n.includes('=') && KNOWN.has(n))
    const key = type === 'cgroup2' ? '' : (named ?? controllers.join(','))
    if (type === 'cgroup' && !named && controllers.length === 0) continue
    const version = type === 'cgroup2' ? 2 : 1
    const base = unescapeOctal(root!)
    let ownPath = own.get(key) ?? '/'
    if (base !== '/' && ownPath.startsWith(base)) ownPath = ownPath.slice(base.length) || '/'
    if (!found.some((h) => h.version === version && h.controllers.join() === controllers.join() && !named))
      found.push({ mountPoint: unescapeOctal(mountPoint!), controllers, version, ownPath })
  }
  const v1 = found.filter((h) => h.version === 1)
  return v1.some((h) => h.controllers.length) ? v1 : found.filter((h) => h.version === 2)
}

const KNOWN = new Set(
  'cpu cpuacct cpuset memory devices freezer blkio pids net_cls net_prio perf_event hugetlb rdma misc'.split(' '),
)

export function hostHierarchies(): Hierarchy[] {
  try {
    return parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'), readFileSync('/proc/self/cgroup', 'utf8'))
  } catch {
    return []
  }
}
