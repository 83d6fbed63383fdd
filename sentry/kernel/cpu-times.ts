/**
 * CPU time, memory high-water mark and page faults of thread groups (Linux: thread_group_cputime, getrusage).
 *
 * Guest code runs in stub processes of the host, so the host's accounting is the guest's. A group's time is that of its
 * address space's process plus what it used in address spaces that it left (execve). A vfork child runs in its parent's
 * process: what passes until it leaves is the child's, not the parent's.
 *
 * Memory and faults of a process that ends are known when the host has collected it, a moment after its parent may ask:
 * each ledger is told then, and passes it on to who waited for it meanwhile.
 */
import type { UsageSink } from '../platform/platform.ts'
import { hostPidFile, hostThreadCpuNs, readHostCpu, readHostUsage } from './host-proc.ts'
import type { Task } from './task.ts'
import type { ThreadGroup } from './thread-group.ts'

export interface Usage {
  maxRssKb: number
  minorFaults: number
  majorFaults: number
}
const noUsage = (): Usage => ({ maxRssKb: 0, minorFaults: 0, majorFaults: 0 })

function addUsage(to: Usage, from: Usage): void {
  to.maxRssKb = Math.max(to.maxRssKb, from.maxRssKb)
  to.minorFaults += from.minorFaults
  to.majorFaults += from.majorFaults
}

class Ledger implements UsageSink {
  /** Of address spaces that were left; negative start values stand for a process that was shared. */
  userNs = 0
  systemNs = 0
  /** Whether the group still runs in an address space. */
  live = true
  /** The group whose process is borrowed, and its clock when that began. */
  lender: ThreadGroup | null = null
  lentUserNs = 0
  lentSystemNs = 0
  /** Of itself, and of its waited-for children. */
  readonly usage = noUsage()
  readonly childUsage = noUsage()
  /** Whoever waited for it. */
  waitedBy: Ledger | null = null

  used(maxRssKb: number, minorFaults: number, majorFaults: number): void {
    const more = { maxRssKb, minorFaults, majorFaults }
    addUsage(this.usage, more)
    for (let above = this.waitedBy; above !== null; above = above.waitedBy) addUsage(above.childUsage, more)
  }
}

const ledgers = new WeakMap<ThreadGroup, Ledger>()

function ledger(g: ThreadGroup): Ledger {
  let entry = ledgers.get(g)
  if (entry === undefined) {
    entry = new Ledger()
    ledgers.set(g, entry)
  }
  return entry
}

/** The result of {@link groupCpu}; stays until the next call. */
export const groupTimes = { userNs: 0, systemNs: 0 }

/** CPU time of all threads of a group, those that ended included. */
export function groupCpu(g: ThreadGroup): typeof groupTimes {
  const entry = ledger(g)
  groupTimes.userNs = entry.userNs
  groupTimes.systemNs = entry.systemNs
  if (entry.live && !g.zombie) {
    const now = readHostCpu(g.leader.thread.space.hostPid)
    groupTimes.userNs += now.userNs
    groupTimes.systemNs += now.systemNs
  }
  // User and system shares are estimates: a borrowed process may show less of one at the end than at the start.
  groupTimes.userNs = Math.max(0, groupTimes.userNs)
  groupTimes.systemNs = Math.max(0, groupTimes.systemNs)
  return groupTimes
}

/** `child` starts in the process of `parent` (CLONE_VM without CLONE_THREAD). */
export function cpuBorrow(child: ThreadGroup, parent: ThreadGroup): void {
  const entry = ledger(child)
  const now = readHostCpu(parent.leader.thread.space.hostPid)
  entry.lender = parent
  entry.lentUserNs = now.userNs
  entry.lentSystemNs = now.systemNs
  entry.userNs = -now.userNs
  entry.systemNs = -now.systemNs
}

/** Call just before the group of `t` leaves its address space: execve (`last` false), or the end of its last task. */
export function cpuLeave(t: Task, last: boolean): void {
  const entry = ledger(t.group)
  if (!entry.live) return
  const { space } = t.thread
  const now = readHostCpu(space.hostPid)
  entry.userNs += now.userNs
  entry.systemNs += now.systemNs
  if (entry.lender === null && (t.mm.users > 1 || !space.tellUsage(entry)))
    addUsage(entry.usage, readHostUsage(space.hostPid))
  if (last) entry.live = false
  if (entry.lender !== null) {
    const lender = ledger(entry.lender)
    lender.userNs -= now.userNs - entry.lentUserNs
    lender.systemNs -= now.systemNs - entry.lentSystemNs
    entry.lender = null
  }
}

/** CPU time of one thread, from the host's figures for its thread. */
export function taskCpu(t: Task): { userNs: number; systemNs: number } {
  const dir = `task/${t.thread.hostTid}`
  const total = hostThreadCpuNs(t.thread)
  const stat = hostPidFile(t.thread.space.hostPid, `${dir}/stat`)
  const field = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const user = Number(field[11]) || 0
  const system = Number(field[12]) || 0
  const systemNs = user + system === 0 ? 0 : Math.floor((total * system) / (user + system))
  return { userNs: total - systemNs, systemNs }
}

/** The rest of rusage(2) of a group, ended threads and left address spaces included. */
export function groupUsage(g: ThreadGroup): Usage {
  const entry = ledger(g)
  g.leader.kernel.platform.settle()
  const sum = noUsage()
  addUsage(sum, entry.usage)
  if (entry.live && !g.zombie) addUsage(sum, readHostUsage(g.leader.thread.space.hostPid))
  return sum
}
/** The same of its waited-for children and theirs. */
export function childrenUsage(g: ThreadGroup): Usage {
  g.leader.kernel.platform.settle()
  return ledger(g).childUsage
}
/** Both: what wait4 says of a child. */
export function wholeUsage(g: ThreadGroup): Usage {
  const sum = groupUsage(g)
  addUsage(sum, ledger(g).childUsage)
  return sum
}

/** `parent` waited for `child`. */
export function adoptUsage(parent: ThreadGroup, child: ThreadGroup): void {
  const to = ledger(parent)
  const from = ledger(child)
  from.waitedBy = to
  addUsage(to.childUsage, from.usage)
  addUsage(to.childUsage, from.childUsage)
}
