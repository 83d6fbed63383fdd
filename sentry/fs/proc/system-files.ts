/**
 * The files of /proc that are about the whole system: the list, and those of one line (Linux: fs/proc/*.c, each file's
 * own subsystem). Longer ones have modules of their own.
 */
import { EPERM } from '../../abi/errno.ts'
import { uptimeNs } from '../../kernel/clock.ts'
import { hostCpuinfo, hostCpus, hostLoadavg } from '../../kernel/host-proc.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { BLOCKED, DEAD, STOPPED, type Task, TRACED } from '../../kernel/task.ts'
import { UTS_RELEASE, UTS_SYSNAME, UTS_VERSION } from '../../kernel/uts.ts'
import { fileSystems } from '../../vfs/file-system.ts'
import { PseudoSymlink } from '../pseudo/directory.ts'
import { TextFile } from '../pseudo/file.ts'
import { renderLocks } from './locks.ts'
import { renderMeminfo, renderVmstat } from './meminfo.ts'
import type { ProcTree } from './root.ts'
import { containerCpu, renderStatFile } from './stat-file.ts'
import type { ProcSuperBlock } from './super-block.ts'
import { SysctlDirectory } from './sysctl.ts'

const two = (n: number): string => String(n).padStart(2, '0')
/** Seconds with two decimals, cut, as the kernel prints them. */
const seconds = (ns: number): string => `${Math.floor(ns / 1e9)}.${two(Math.floor(ns / 1e7) % 100)}`

function renderUptime(t: Task): string {
  const up = uptimeNs()
  const cpu = containerCpu(t.kernel)
  const used = cpu.userNs + cpu.systemNs
  return `${seconds(up)} ${seconds(Math.max(0, up * hostCpus() - used))}\n`
}

function renderLoadavg(t: Task): string {
  const load = hostLoadavg().split(' ').slice(0, 3).join(' ')
  let runnable = 0
  for (const x of t.kernel.ids.tasks())
    if (x.state !== BLOCKED && x.state !== STOPPED && x.state !== TRACED && x.state !== DEAD) runnable++
  return `${load} ${runnable}/${t.kernel.ids.taskCount} ${t.kernel.ids.lastId}\n`
}

function renderFilesystems(): string {
  let text = ''
  for (const type of fileSystems()) if (type.name !== 'dev') text += `${type.nodev ? 'nodev' : ''}\t${type.name}\n`
  return text
}

const DEVICES = `Character devices:
  1 mem
  5 /dev/tty
  5 /dev/console
  5 /dev/ptmx
128 ptm
136 pts

Block devices:
`

const CGROUPS = `#subsys_name	hierarchy	num_cgroups	enabled
cpuset	0	1	1
cpu	0	1	1
cpuacct	0	1	1
blkio	0	1	1
memory	0	1	1
devices	0	1	1
freezer	0	1	1
pids	0	1	1
`

function renderInterrupts(): string {
  const cpus = hostCpus()
  let head = '          '
  for (let i = 0; i < cpus; i++) head += ` CPU${i}`.padEnd(11)
  const row = (name: string, what: string): string => `${name}:${'         0 '.repeat(cpus)}  ${what}\n`
  return `${head}\n${row('NMI', 'Non-maskable interrupts')}${row('LOC', 'Local timer interrupts')}ERR:          0\nMIS:          0\n`
}

function renderSoftirqs(): string {
  const cpus = hostCpus()
  let text = '                    '
  for (let i = 0; i < cpus; i++) text += `CPU${i}`.padEnd(11)
  for (const name of ['HI', 'TIMER', 'NET_TX', 'NET_RX', 'BLOCK', 'IRQ_POLL', 'TASKLET', 'SCHED', 'HRTIMER', 'RCU']) {
    text += `\n${`${name}:`.padStart(13)}${'          0'.repeat(cpus)}`
  }
  return `${text}\n`
}

/** System V tables: sentry/ipc registers itself here by name ('msg', 'sem', 'shm'). */
const sysvTables = new Map<string, () => string>()
export function registerSysvTable(name: string, render: () => string): void {
  sysvTables.set(name, render)
}
const SYSV_HEADINGS: Record<string, string> = {
  msg: '       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n',
  sem: '       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n',
  shm: '       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n',
}

const pressure = (): string =>
  'some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n'

/** Fixed texts: name, permissions, text. */
const FIXED: readonly (readonly [string, number, string])[] = [
  ['buddyinfo', 0o444, ''],
  ['cgroups', 0o444, CGROUPS],
  ['cmdline', 0o444, 'console=ttyS0\n'],
  ['consoles', 0o444, ''],
  ['crypto', 0o444, ''],
  ['devices', 0o444, DEVICES],
  ['diskstats', 0o444, ''],
  ['dma', 0o444, ' 4: cascade\n'],
  ['execdomains', 0o444, '0-0\tLinux           \t[kernel]\n'],
  ['iomem', 0o444, ''],
  ['ioports', 0o444, ''],
  ['kallsyms', 0o444, ''],
  ['key-users', 0o444, ''],
  ['keys', 0o444, ''],
  ['kmsg', 0o400, ''],
  ['misc', 0o444, ''],
  ['modules', 0o444, ''],
  ['mtrr', 0o644, ''],
  ['pagetypeinfo', 0o400, ''],
  ['partitions', 0o444, 'major minor  #blocks  name\n\n'],
  ['sched_debug', 0o444, ''],
  ['slabinfo', 0o400, 'slabinfo - version: 2.1\n'],
  ['swaps', 0o444, 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n'],
  ['timer_list', 0o400, ''],
  ['version', 0o444, `${UTS_SYSNAME} version ${UTS_RELEASE} (tssandbox) ${UTS_VERSION}\n`],
  ['vmallocinfo', 0o400, ''],
  ['zoneinfo', 0o444, ''],
]

export function addSystemFiles(root: ProcTree, sb: ProcSuperBlock): void {
  const kernel: Kernel = sb.kernel
  const text = (dir: ProcTree, name: string, permissions: number, render: (t: Task) => string): void => {
    dir.add(name, new TextFile(sb, permissions, render))
  }
  for (const [name, permissions, content] of FIXED) text(root, name, permissions, () => content)
  text(root, 'cpuinfo', 0o444, hostCpuinfo)
  text(root, 'filesystems', 0o444, renderFilesystems)
  text(root, 'interrupts', 0o444, renderInterrupts)
  text(root, 'softirqs', 0o444, renderSoftirqs)
  text(root, 'loadavg', 0o444, renderLoadavg)
  text(root, 'locks', 0o444, renderLocks)
  text(root, 'meminfo', 0o444, () => renderMeminfo(kernel))
  text(root, 'vmstat', 0o444, () => renderVmstat(kernel))
  text(root, 'stat', 0o444, () => renderStatFile(kernel))
  text(root, 'uptime', 0o444, renderUptime)
  root.add(
    'sysrq-trigger',
    new TextFile(
      sb,
      0o200,
      () => '',
      () => -EPERM,
    ),
  )
  root.add('mounts', new PseudoSymlink(sb, 'self/mounts'))
  root.add('net', new PseudoSymlink(sb, 'self/net'))
  const sysvipc = root.dir('sysvipc')
  for (const [name, heading] of Object.entries(SYSV_HEADINGS)) {
    text(sysvipc, name, 0o444, () => sysvTables.get(name)?.() ?? heading)
  }
  const psi = root.dir('pressure')
  for (const name of ['cpu', 'io', 'memory']) text(psi, name, 0o644, pressure)
  const tty = root.dir('tty')
  text(tty, 'drivers', 0o444, () => TTY_DRIVERS)
  text(tty, 'ldiscs', 0o444, () => 'n_tty       0\n')
  tty.dir('driver')
  tty.dir('ldisc')
  for (const name of ['acpi', 'bus', 'driver', 'fs', 'irq', 'scsi']) root.dir(name)
  root.add('sys', new SysctlDirectory(sb, ''))
}

const TTY_DRIVERS = `/dev/tty             /dev/tty        5       0 system:/dev/tty
/dev/console         /dev/console    5       1 system:console
/dev/ptmx            /dev/ptmx       5       2 system
pty_slave            /dev/pts      136 0-1048575 pty:slave
pty_master           /dev/ptm      128 0-1048575 pty:master
`
