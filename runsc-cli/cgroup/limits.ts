/**
 * config.json's linux.resources as writes to cgroup files. Pure: what to write where; cgroup.ts does it.
 *
 * The runtime's own processes live in the container's cgroup, because Docker takes statistics and OOM events from there.
 * So the host's limits get an allowance on top; the exact task limit is kept by the sentry, which counts only the
 * guest's tasks.
 */
import type { Resources } from '../spec/oci.ts'

export interface CgroupWrite {
  controller: string
  file: string
  value: string
  /** For the cgroup of the guest's processes alone: the limit without the allowance. */
  guestValue?: string
  /** The field of linux.resources, for messages. */
  field: string
}

/** Two Node processes (40 MB resident when idle) with room for their heaps to grow, and the stubs' page tables. */
export const OWN_MEMORY = 128 * 1024 * 1024
/** Of a VM: its kernel, the emulator with its translated code, and two Node processes. */
export const VM_MEMORY = 512 * 1024 * 1024
/** Threads of two Node processes (11 each), the zygote, stubs that are being reaped, and 32 threads that rest (systrap). */
export const OWN_TASKS = 96

type Limits = Resources

/** `own`: bytes that the runtime's processes may use beside the guest. */
export function writesV1(r: Limits, own = OWN_MEMORY): CgroupWrite[] {
  const withAllowance = (limit: number) => (limit > 0 ? limit + own : -1)
  const out: CgroupWrite[] = []
  const add = (controller: string, file: string, value: string | number | undefined, field: string) => {
    if (value !== undefined && value !== '') out.push({ controller, file, value: String(value), field })
  }
  const addBoth = (file: string, limit: number, field: string) =>
    out.push({ controller: 'memory', file, value: String(withAllowance(limit)), guestValue: String(limit), field })
  const { memory, cpu, pids } = r
  if (memory) {
    if (memory.limit !== undefined && memory.limit !== 0) addBoth('memory.limit_in_bytes', memory.limit, 'memory.limit')
    if (memory.swap !== undefined && memory.swap !== 0)
      addBoth('memory.memsw.limit_in_bytes', memory.swap, 'memory.swap')
    if (memory.reservation) add('memory', 'memory.soft_limit_in_bytes', memory.reservation, 'memory.reservation')
    if (memory.swappiness !== undefined && memory.swappiness <= 100)
      add('memory', 'memory.swappiness', memory.swappiness, 'memory.swappiness')
    if (memory.disableOOMKiller) add('memory', 'memory.oom_control', 1, 'memory.disableOOMKiller')
  }
  if (cpu) {
    if (cpu.shares) add('cpu', 'cpu.shares', cpu.shares, 'cpu.shares')
    if (cpu.period) add('cpu', 'cpu.cfs_period_us', cpu.period, 'cpu.period')
    if (cpu.quota) add('cpu', 'cpu.cfs_quota_us', cpu.quota, 'cpu.quota')
    if (cpu.burst) add('cpu', 'cpu.cfs_burst_us', cpu.burst, 'cpu.burst')
    if (cpu.realtimePeriod) add('cpu', 'cpu.rt_period_us', cpu.realtimePeriod, 'cpu.realtimePeriod')
    if (cpu.realtimeRuntime) add('cpu', 'cpu.rt_runtime_us', cpu.realtimeRuntime, 'cpu.realtimeRuntime')
    if (cpu.idle !== undefined) add('cpu', 'cpu.idle', cpu.idle, 'cpu.idle')
    add('cpuset', 'cpuset.cpus', cpu.cpus, 'cpu.cpus')
    add('cpuset', 'cpuset.mems', cpu.mems, 'cpu.mems')
  }
  if (pids?.limit) add('pids', 'pids.max', pids.limit > 0 ? pids.limit + OWN_TASKS : 'max', 'pids.limit')
  return out
}

/** cpu.shares (2–262144, default 1024) as cpu.weight (1–10000, default 100), the mapping that runc and systemd use. */
const weight = (shares: number) => 1 + Math.floor(((Math.min(Math.max(shares, 2), 262144) - 2) * 9999) / 262142)

export function writesV2(r: Limits, own = OWN_MEMORY): CgroupWrite[] {
  const out: CgroupWrite[] = []
  const add = (controller: string, file: string, value: string | number | undefined, field: string) => {
    if (value !== undefined && value !== '') out.push({ controller, file, value: String(value), field })
  }
  const { memory, cpu, pids } = r
  if (memory) {
    const limit = memory.limit ?? 0
    if (limit !== 0) add('memory', 'memory.max', limit > 0 ? limit + own : 'max', 'memory.limit')
    // v1 counts memory and swap together, v2 swap alone.
    if (memory.swap !== undefined && memory.swap !== 0)
      add('memory', 'memory.swap.max', memory.swap < 0 ? 'max' : Math.max(0, memory.swap - limit), 'memory.swap')
    if (memory.reservation) add('memory', 'memory.low', memory.reservation, 'memory.reservation')
  }
  if (cpu) {
    if (cpu.shares) add('cpu', 'cpu.weight', weight(cpu.shares), 'cpu.shares')
    if (cpu.quota || cpu.period) {
      const quota = cpu.quota && cpu.quota > 0 ? cpu.quota : 'max'
      add('cpu', 'cpu.max', `${quota} ${cpu.period || 100000}`, 'cpu.quota')
    }
    if (cpu.burst) add('cpu', 'cpu.max.burst', cpu.burst, 'cpu.burst')
    if (cpu.idle !== undefined) add('cpu', 'cpu.idle', cpu.idle, 'cpu.idle')
    add('cpuset', 'cpuset.cpus', cpu.cpus, 'cpu.cpus')
    add('cpuset', 'cpuset.mems', cpu.mems, 'cpu.mems')
  }
  if (pids?.limit) add('pids', 'pids.max', pids.limit > 0 ? pids.limit + OWN_TASKS : 'max', 'pids.limit')
  for (const [file, value] of Object.entries(r.unified)) {
    add(file.split('.')[0]!, file, value, `unified["${file}"]`)
  }
  return out
}

/** v1 files of blkio and the v2 io controller have many shapes; only the weights are taken. */
export function blockIoWrites(blockIO: unknown, version: 1 | 2): CgroupWrite[] {
  const w = (blockIO as { weight?: unknown } | undefined)?.weight
  if (typeof w !== 'number' || w === 0) return []
  return version === 1
    ? [{ controller: 'blkio', file: 'blkio.bfq.weight', value: String(w), field: 'blockIO.weight' }]
    : [{ controller: 'io', file: 'io.bfq.weight', value: String(w), field: 'blockIO.weight' }]
}
