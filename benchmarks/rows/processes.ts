/** What the processes of a container take of the host, from /proc. */
import { readdirSync, readFileSync } from 'node:fs'

interface Usage {
  /** CPU time of all threads since they began. */
  cpuMs: number
  /** Resident sets added up: pages that two processes share count twice. */
  rssMb: number
  /** A page that n processes share counts 1/n for each: adds up to what is really taken. */
  pssMb: number
}

/** A process and all that descend from it; without itself when it is only the client that waits for them. */
export function membersOf(root: number, withoutRoot: boolean): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = read(`/proc/${name}/stat`)
    if (stat) parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
  }
  const found = [root]
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child)
  return withoutRoot ? found.slice(1) : found
}

export function usageOf(pids: number[]): Usage {
  const usage = { cpuMs: 0, rssMb: 0, pssMb: 0 }
  for (const pid of pids) {
    usage.cpuMs += cpuMs(pid)
    const memory = read(`/proc/${pid}/smaps_rollup`)
    usage.rssMb += kilobytes(memory, 'Rss') / 1024
    usage.pssMb += kilobytes(memory, 'Pss') / 1024
  }
  return usage
}

function cpuMs(pid: number): number {
  let sum = 0
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`))
      sum += Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(' ')[0]) / 1e6
  } catch {
    // It ended meanwhile.
  }
  return sum
}

const kilobytes = (text: string, field: string): number =>
  Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)

/** Empty when the process ended meanwhile. */
function read(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}
