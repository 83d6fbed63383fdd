/** update ID: changes limits of a container, of its host cgroups and in its kernel. */
import { readFileSync } from 'node:fs'
import type { BootConfig } from '../../sentry/control/protocol.ts'
import { planCgroups, updateCgroups } from '../cgroup/cgroup.ts'
import { hostHierarchies } from '../cgroup/hierarchy.ts'
import { OWN_MEMORY, VM_MEMORY } from '../cgroup/limits.ts'
import type { Invocation } from '../command.ts'
import { connectRunning } from '../container/connect.ts'
import { CliError } from '../errors.ts'
import { cpusOfQuota } from '../spec/boot.ts'
import { parseResources, readText } from '../spec/load.ts'

export interface UpdateOptions {
  resources: string
  memory: string
  memoryReservation: string
  memorySwap: string
  cpuShare: string
  cpuQuota: string
  cpuPeriod: string
  cpusetCpus: string
  cpusetMems: string
  pidsLimit: string
  blkioWeight: string
}

const UNITS: Record<string, number> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }

export function parseSize(text: string, flag: string): number {
  const m = /^(-?\d+)([bkmgt]?)(?:i?b)?$/i.exec(text)
  if (!m) throw new CliError(`${flag}: "${text}" is not a size`)
  return Number(m[1]) * UNITS[m[2]!.toLowerCase()]!
}

/** The flags as the JSON document that `--resources` would have brought. */
function fromFlags(o: UpdateOptions): string {
  const size = (text: string, flag: string) => (text ? parseSize(text, flag) : undefined)
  return JSON.stringify({
    memory: {
      limit: size(o.memory, '--memory'),
      reservation: size(o.memoryReservation, '--memory-reservation'),
      swap: size(o.memorySwap, '--memory-swap'),
    },
    cpu: {
      shares: size(o.cpuShare, '--cpu-share'),
      quota: size(o.cpuQuota, '--cpu-quota'),
      period: size(o.cpuPeriod, '--cpu-period'),
      cpus: o.cpusetCpus || undefined,
      mems: o.cpusetMems || undefined,
    },
    pids: { limit: size(o.pidsLimit, '--pids-limit') },
    blockIO: o.blkioWeight ? { weight: size(o.blkioWeight, '--blkio-weight') } : undefined,
  })
}

export async function body({ args, options, globals, log }: Invocation<UpdateOptions>): Promise<number> {
  const { client, directory, state } = await connectRunning(globals.root, args[0]!)
  const file = options.resources === '-' ? 'stdin' : options.resources || 'flags'
  const text =
    options.resources === '-'
      ? readFileSync(0, 'utf8')
      : options.resources
        ? readText(options.resources, file)
        : fromFlags(options)
  const { resources, warnings } = parseResources(text, file)
  const lock = await directory.lock()
  try {
    const hierarchies = hostHierarchies().filter((h) => state.cgroups.some((dir) => dir.startsWith(`${h.mountPoint}/`)))
    const plan = planCgroups(state.id, undefined, false, hierarchies)
    plan.dirs.forEach((dir) => {
      dir.path = state.cgroups.find((c) => c.startsWith(`${dir.hierarchy.mountPoint}/`))!
    })
    if (plan.dirs.length)
      warnings.push(...updateCgroups(plan, resources, state.platform === 'microvm' ? VM_MEMORY : OWN_MEMORY))
  } finally {
    lock.release()
  }
  for (const warning of warnings) log.warn(warning)
  const limits: Partial<BootConfig['limits']> = {}
  if (resources.pids?.limit) limits.pids = Math.max(0, resources.pids.limit)
  if (resources.memory?.limit) limits.memory = Math.max(0, resources.memory.limit)
  if (resources.cpu?.quota) limits.cpus = cpusOfQuota(resources.cpu.quota, resources.cpu.period)
  if (Object.keys(limits).length) await client.request({ op: 'update', limits })
  client.close()
  return 0
}
