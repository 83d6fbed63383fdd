/**
 * cgroupfs: the container's own cgroup as the root of a version 2 hierarchy, for runtimes that size themselves by it
 * (Linux: kernel/cgroup; Documentation/admin-guide/cgroup-v2.rst).
 *
 * The host's cgroup enforces the limits; this only shows them. There is one cgroup and no way to make another, whether
 * 'cgroup' or 'cgroup2' was asked for: /proc/PID/cgroup says '0::/'.
 */
import { EPERM } from '../../abi/errno.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { containerResident } from '../../kernel/memory-info.ts'
import { registerFileSystem } from '../../vfs/file-system.ts'
import { containerCpu } from '../proc/stat-file.ts'
import { TreeDirectory } from '../pseudo/directory.ts'
import { PseudoSuperBlock } from '../pseudo/inode.ts'
import { type Attribute, SysfsFile } from './attribute.ts'

const CGROUP2_SUPER_MAGIC = 0x63677270
const NO_PRESSURE = 'some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n'

const CPU_PERIOD = 100_000

const limit = (n: number): string => (n === 0 ? 'max\n' : `${n}\n`)

function cpuStat(kernel: Kernel): string {
  const { userNs: user, systemNs: system } = containerCpu(kernel)
  const us = (ns: number): number => Math.floor(ns / 1000)
  return (
    `usage_usec ${us(user + system)}\nuser_usec ${us(user)}\nsystem_usec ${us(system)}\n` +
    'nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n'
  )
}

/** name → permissions and text. */
function files(kernel: Kernel): Record<string, readonly [number, Attribute]> {
  const processes = (): string =>
    [...kernel.ids.groups()]
      .map((g) => g.pid)
      .sort((a, b) => a - b)
      .map((pid) => `${pid}\n`)
      .join('')
  const threads = (): string =>
    [...kernel.ids.tasks()]
      .map((t) => t.tid)
      .sort((a, b) => a - b)
      .map((tid) => `${tid}\n`)
      .join('')
  const resident = (): string => `${containerResident(kernel)}\n`
  return {
    'cgroup.controllers': [0o444, 'cpu memory pids\n'],
    'cgroup.events': [0o444, 'populated 1\nfrozen 0\n'],
    'cgroup.freeze': [0o644, '0\n'],
    'cgroup.max.depth': [0o644, 'max\n'],
    'cgroup.max.descendants': [0o644, 'max\n'],
    'cgroup.procs': [0o644, processes],
    'cgroup.stat': [0o444, 'nr_descendants 0\nnr_dying_descendants 0\n'],
    'cgroup.subtree_control': [0o644, '\n'],
    'cgroup.threads': [0o644, threads],
    'cgroup.type': [0o644, 'domain\n'],
    'cpu.max': [
      0o644,
      () => (kernel.cpuLimit === 0 ? 'max 100000\n' : `${kernel.cpuLimit * CPU_PERIOD} ${CPU_PERIOD}\n`),
    ],
    'cpu.max.burst': [0o644, '0\n'],
    'cpu.pressure': [0o644, NO_PRESSURE],
    'cpu.stat': [0o444, () => cpuStat(kernel)],
    'cpu.weight': [0o644, '100\n'],
    'cpu.weight.nice': [0o644, '0\n'],
    'io.pressure': [0o644, NO_PRESSURE],
    'memory.current': [0o444, resident],
    'memory.events': [0o444, 'low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n'],
    'memory.high': [0o644, 'max\n'],
    'memory.low': [0o644, '0\n'],
    'memory.max': [0o644, () => limit(kernel.memoryLimit)],
    'memory.min': [0o644, '0\n'],
    'memory.oom.group': [0o644, '0\n'],
    'memory.peak': [0o444, resident],
    'memory.pressure': [0o644, NO_PRESSURE],
    'memory.stat': [0o444, () => `anon ${containerResident(kernel)}\nfile 0\ninactive_file 0\nactive_file 0\n`],
    'memory.swap.current': [0o444, '0\n'],
    'memory.swap.max': [0o644, () => (kernel.memoryLimit === 0 ? 'max\n' : '0\n')],
    'pids.current': [0o444, () => `${kernel.ids.taskCount}\n`],
    'pids.events': [0o444, 'max 0\n'],
    'pids.max': [0o644, () => limit(kernel.pidsLimit)],
    'pids.peak': [0o444, () => `${kernel.ids.taskCount}\n`],
  }
}

export class CgroupSuperBlock extends PseudoSuperBlock {
  readonly type = 'cgroup2'
  protected readonly magic = CGROUP2_SUPER_MAGIC
  readonly root: TreeDirectory

  constructor(kernel: Kernel) {
    super()
    this.source = 'cgroup'
    this.options = 'nsdelegate,memory_recursiveprot'
    this.root = new TreeDirectory(this, 0o555)
    for (const [name, [permissions, text]] of Object.entries(files(kernel))) {
      const store = (permissions & 0o200) === 0 ? null : () => -EPERM
      const file = new SysfsFile(this, permissions, text, store)
      file.size = 0
      this.root.add(name, file)
    }
  }
}

for (const name of ['cgroup', 'cgroup2']) {
  registerFileSystem({
    name,
    nodev: true,
    mount(request) {
      const sb = new CgroupSuperBlock(request.kernel)
      sb.source = request.source
      return sb
    },
  })
}
