/**
 * The CPU share of the benchmark. Containers get a cgroup of their own; what runs natively must not have to share one with
 * all the other work of the machine. So this process moves into its own, which what it starts inherits. Only where
 * cgroups are of version 1; under version 2 a service manager has usually done the same.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const HIERARCHIES = '/sys/fs/cgroup'
const ROOT = join(HIERARCHIES, 'cpu')

export interface CpuGroup {
  /** Moves a process to where this one came from: to the other work of the machine. */
  expel(pid: number): void
  leave(): void
}

export function enterCpuGroup(name: string, shares: number): CpuGroup {
  const own = /^\d+:[^:]*\bcpu\b[^:]*:(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1]
  const nothing: CpuGroup = { expel: () => {}, leave: () => {} }
  if (own === undefined || !existsSync(join(ROOT, own, 'cgroup.procs'))) return nothing
  const before = join(ROOT, own)
  const group = join(before, name)
  const move = (to: string, pid: number) => writeFileSync(join(to, 'cgroup.procs'), String(pid))
  try {
    mkdirSync(group)
    writeFileSync(join(group, 'cpu.shares'), String(shares))
    move(group, process.pid)
  } catch {
    return nothing
  }
  return {
    expel: (pid) => move(before, pid),
    leave() {
      move(before, process.pid)
      try {
        rmdirSync(group)
      } catch {
        // A container that was killed a moment ago may still be in it; an empty cgroup does no harm.
      }
    },
  }
}

/** What a runtime that failed left behind of a container's empty cgroups. */
export function removeCgroups(id: string): void {
  for (const folder of [HIERARCHIES, ...readdirSync(HIERARCHIES).map((name) => join(HIERARCHIES, name))]) {
    try {
      rmdirSync(join(folder, id))
    } catch {
      // There is none.
    }
  }
}
