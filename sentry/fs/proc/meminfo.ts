/**
 * /proc/meminfo and /proc/vmstat (Linux: fs/proc/meminfo.c, mm/vmstat.c).
 */
import { hostMeminfo } from '../../kernel/host-proc.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { systemMemory } from '../../kernel/memory-info.ts'

const kb = (bytes: number): string => String(Math.floor(bytes / 1024)).padStart(8)

/** Without a limit, the machine's own; with one, the same lines with the container's figures, the rest zero. */
export function renderMeminfo(kernel: Kernel): string {
  const host = hostMeminfo()
  const m = systemMemory(kernel)
  const used = Math.max(0, m.total - m.free)
  if (kernel.memoryLimit === 0 && host !== '') return host
  const values: Record<string, number> = {
    MemTotal: m.total,
    MemFree: m.free,
    MemAvailable: m.available,
    Active: used,
    'Active(anon)': used,
    AnonPages: used,
    CommitLimit: m.total,
    Committed_AS: used,
    VmallocTotal: 34359738367 * 1024,
  }
  const names = host === '' ? Object.keys(values) : host.split('\n').map((line) => line.split(':')[0]!)
  let text = ''
  for (const name of names) {
    if (name === '') continue
    if (name.startsWith('HugePages_')) text += `${`${name}:`.padEnd(16)}       0\n`
    else if (name === 'Hugepagesize') text += 'Hugepagesize:       2048 kB\n'
    else text += `${`${name}:`.padEnd(16)}${kb(values[name] ?? 0)} kB\n`
  }
  return text
}

const ZERO_COUNTERS = [
  'nr_dirty',
  'nr_writeback',
  'pgpgin',
  'pgpgout',
  'pswpin',
  'pswpout',
  'pgalloc_normal',
  'pgfree',
  'pgactivate',
  'pgdeactivate',
  'pgfault',
  'pgmajfault',
  'pgscan_kswapd',
  'pgscan_direct',
  'pgsteal_kswapd',
  'pgsteal_direct',
  'oom_kill',
]

export function renderVmstat(kernel: Kernel): string {
  const m = systemMemory(kernel)
  const used = Math.max(0, Math.floor((m.total - m.free) / 4096))
  let text = `nr_free_pages ${Math.floor(m.free / 4096)}\nnr_active_anon ${used}\nnr_inactive_anon 0\n`
  text += 'nr_active_file 0\nnr_inactive_file 0\n'
  for (const name of ZERO_COUNTERS) text += `${name} 0\n`
  return text
}
