/**
 * /sys/devices/system/{cpu,node}: topology and caches as /proc/cpuinfo tells them (Linux: drivers/base/{cpu,node,
 * cacheinfo}.c).
 */

import { hostCpuinfo, hostCpus, hostMeminfo } from '../../kernel/host-proc.ts'
import { cpuMaskText } from '../proc/format.ts'
import type { SysfsSuperBlock } from './super-block.ts'

interface Cpu {
  id: number
  package: number
  core: number
  cacheKb: number
}

function readCpus(): Cpu[] {
  const cpus: Cpu[] = []
  for (const block of hostCpuinfo().split('\n\n')) {
    const field = (name: string): number => {
      const m = new RegExp(`^${name}\\s*: (\\d+)`, 'm').exec(block)
      return m === null ? 0 : Number(m[1])
    }
    if (!/^processor\t/m.test(block)) continue
    cpus.push({
      id: field('processor'),
      package: field('physical id'),
      core: field('core id'),
      cacheKb: field('cache size'),
    })
  }
  if (cpus.length === 0) cpus.push({ id: 0, package: 0, core: 0, cacheKb: 0 })
  return cpus
}

function masks(ids: readonly number[], total: number): { map: string; list: string } {
  const mask = new Uint8Array(Math.ceil(total / 64) * 8)
  for (const id of ids) mask[id >> 3]! |= 1 << (id & 7)
  const { bits, list } = cpuMaskText(mask, total)
  return { map: `${bits}\n`, list: `${list}\n` }
}

/** level, type, KiB (0: from cpuinfo), ways, shared by the package rather than the core. */
const CACHES: readonly (readonly [number, string, number, number, boolean])[] = [
  [1, 'Data', 32, 8, false],
  [1, 'Instruction', 32, 8, false],
  [2, 'Unified', 1024, 16, false],
  [3, 'Unified', 0, 16, true],
]
const CACHE_LINE = 64

export function addCpus(sb: SysfsSuperBlock): void {
  const cpus = readCpus()
  const total = hostCpus()
  const all = masks(
    cpus.map((c) => c.id),
    total,
  )
  const base = 'devices/system/cpu'
  sb.attributes(base, {
    isolated: '\n',
    kernel_max: '8191\n',
    modalias: 'cpu:type:x86\n',
    offline: '\n',
    online: all.list,
    possible: all.list,
    present: all.list,
  })
  sb.attributes(`${base}/smt`, { active: '0\n', control: 'notsupported\n' })
  sb.dir(`${base}/vulnerabilities`)
  for (const cpu of cpus) addCpu(sb, cpu, cpus, total)
  addNode(sb, all, cpus)
}

function addCpu(sb: SysfsSuperBlock, cpu: Cpu, cpus: readonly Cpu[], total: number): void {
  const dir = `devices/system/cpu/cpu${cpu.id}`
  const same = (test: (c: Cpu) => boolean): { map: string; list: string } =>
    masks(
      cpus.filter(test).map((c) => c.id),
      total,
    )
  const pack = same((c) => c.package === cpu.package)
  const core = same((c) => c.package === cpu.package && c.core === cpu.core)
  sb.attributes(dir, { uevent: '' })
  sb.link(`${dir}/subsystem`, '../../../../bus/cpu')
  sb.link(`${dir}/node0`, '../../node/node0')
  sb.link(`bus/cpu/devices/cpu${cpu.id}`, `../../../${dir}`)
  sb.attributes(`${dir}/topology`, {
    cluster_cpus: core.map,
    cluster_cpus_list: core.list,
    cluster_id: '0\n',
    core_cpus: core.map,
    core_cpus_list: core.list,
    core_id: `${cpu.core}\n`,
    core_siblings: pack.map,
    core_siblings_list: pack.list,
    die_cpus: pack.map,
    die_cpus_list: pack.list,
    die_id: '0\n',
    package_cpus: pack.map,
    package_cpus_list: pack.list,
    physical_package_id: `${cpu.package}\n`,
    thread_siblings: core.map,
    thread_siblings_list: core.list,
  })
  CACHES.forEach(([level, type, kib, ways, byPackage], i) => {
    const size = kib === 0 ? cpu.cacheKb : kib
    if (size === 0) return
    const sharing = byPackage ? pack : core
    sb.attributes(`${dir}/cache/index${i}`, {
      coherency_line_size: `${CACHE_LINE}\n`,
      id: `${byPackage ? cpu.package : cpu.core}\n`,
      level: `${level}\n`,
      number_of_sets: `${Math.floor((size * 1024) / CACHE_LINE / ways)}\n`,
      physical_line_partition: '1\n',
      shared_cpu_list: sharing.list,
      shared_cpu_map: sharing.map,
      size: `${size}K\n`,
      type: `${type}\n`,
      ways_of_associativity: `${ways}\n`,
    })
  })
}

function addNode(sb: SysfsSuperBlock, all: { map: string; list: string }, cpus: readonly Cpu[]): void {
  sb.attributes('devices/system/node', {
    has_cpu: '0\n',
    has_memory: '0\n',
    has_normal_memory: '0\n',
    online: '0\n',
    possible: '0\n',
  })
  sb.attributes('devices/system/node/node0', {
    cpulist: all.list,
    cpumap: all.map,
    distance: '10\n',
    meminfo: () => hostMeminfo().replace(/^(?=.)/gm, 'Node 0 '),
    numastat: 'numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n',
  })
  for (const cpu of cpus) sb.link(`devices/system/node/node0/cpu${cpu.id}`, `../../cpu/cpu${cpu.id}`)
  sb.link('bus/node/devices/node0', '../../../devices/system/node/node0')
}
