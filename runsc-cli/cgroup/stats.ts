/** The numbers of a container's host cgroups in the shape of runc's `events --stats`. Files that are missing count 0. */
import { readFileSync } from 'node:fs'

interface Memory {
  limit: number
  usage: number
  max: number
  failcnt: number
}

export interface CgroupStats {
  cpu: { usage: { total: number; kernel: number; user: number }; throttling: Record<string, number> }
  memory: { cache: number; usage: Memory; raw: Record<string, number> }
  pids: { current: number; limit: number }
}

export function cgroupStats(dirs: string[]): CgroupStats {
  const text = (file: string): string => {
    for (const dir of dirs) {
      try {
        return readFileSync(`${dir}/${file}`, 'utf8')
      } catch {}
    }
    return ''
  }
  const number = (...files: string[]): number => {
    for (const file of files) {
      const n = Number.parseInt(text(file), 10)
      if (!Number.isNaN(n)) return n
    }
    return 0
  }
  const keyed = (file: string): Record<string, number> =>
    Object.fromEntries(
      text(file)
        .split('\n')
        .map((line) => line.split(' '))
        .filter((pair) => pair.length === 2)
        .map(([k, v]) => [k!, Number(v)]),
    )
  const cpuV2 = keyed('cpu.stat')
  const raw = keyed('memory.stat')
  return {
    cpu: {
      usage: {
        total: number('cpuacct.usage') || (cpuV2.usage_usec ?? 0) * 1000,
        kernel: number('cpuacct.usage_sys') || (cpuV2.system_usec ?? 0) * 1000,
        user: number('cpuacct.usage_user') || (cpuV2.user_usec ?? 0) * 1000,
      },
      throttling: { periods: cpuV2.nr_periods ?? 0, throttledPeriods: cpuV2.nr_throttled ?? 0 },
    },
    memory: {
      cache: raw.cache ?? raw.file ?? 0,
      usage: {
        limit: number('memory.limit_in_bytes', 'memory.max'),
        usage: number('memory.usage_in_bytes', 'memory.current'),
        max: number('memory.max_usage_in_bytes', 'memory.peak'),
        failcnt: number('memory.failcnt'),
      },
      raw,
    },
    pids: { current: number('pids.current'), limit: number('pids.max') },
  }
}
