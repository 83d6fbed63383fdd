/**
 * How much memory the container has and uses (Linux: si_meminfo), for sysinfo(2), /proc/meminfo and the cgroup files.
 *
 * With a memory limit the container's own figures are shown, so that runtimes size their heaps by it; without one the
 * machine's.
 */
import { hostMeminfo, readHostPages } from './host-proc.ts'
import type { Kernel } from './kernel.ts'

const PAGE = 4096

/** Bytes. */
export interface SystemMemory {
  total: number
  free: number
  available: number
  shared: number
  buffers: number
  cached: number
  swapTotal: number
  swapFree: number
}

/** Resident bytes of all guest processes. */
export function containerResident(kernel: Kernel): number {
  let pages = 0
  for (const g of kernel.ids.groups()) if (!g.zombie) pages += readHostPages(g.leader.thread.space.hostPid).resident
  return pages * PAGE
}

/** The value of one line of the host's meminfo in bytes, 0 if missing. */
function field(text: string, name: string): number {
  const at = text.startsWith(`${name}:`) ? 0 : text.indexOf(`\n${name}:`)
  if (at < 0) return 0
  const colon = text.indexOf(':', at)
  return (Number.parseInt(text.slice(colon + 1), 10) || 0) * 1024
}

export function systemMemory(kernel: Kernel): SystemMemory {
  const host = hostMeminfo()
  const total = field(host, 'MemTotal') || 1 << 30
  const limit = kernel.memoryLimit
  if (limit > 0 && limit < total) {
    const free = Math.max(0, limit - containerResident(kernel))
    return { total: limit, free, available: free, shared: 0, buffers: 0, cached: 0, swapTotal: 0, swapFree: 0 }
  }
  return {
    total,
    free: field(host, 'MemFree'),
    available: field(host, 'MemAvailable'),
    shared: field(host, 'Shmem'),
    buffers: field(host, 'Buffers'),
    cached: field(host, 'Cached'),
    swapTotal: field(host, 'SwapTotal'),
    swapFree: field(host, 'SwapFree'),
  }
}
