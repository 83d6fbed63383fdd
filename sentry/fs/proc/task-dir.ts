/**
 * /proc/PID and /proc/PID/task/TID: the table of their entries, in Linux's order (fs/proc/base.c, tgid_base_stuff and
 * tid_base_stuff).
 */
import { EINVAL, ENOENT, EPERM, ESRCH } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import { type DirEmitter, type Inode, S_IFDIR, S_IFLNK, S_IFREG } from '../../vfs/inode.ts'
import { FdDirectory, FdinfoDirectory } from './fd.ts'
import { hex8 } from './format.ts'
import { cwdPath, exePath, PathLink, type PathOf, rootPath } from './links.ts'
import { MapFilesDirectory } from './map-files.ts'
import { netDirectory } from './net.ts'
import { NsDirectory } from './ns.ts'
import { Subject } from './subject.ts'
import type { ProcSuperBlock } from './super-block.ts'
import { TaskDirectory, TaskFile, type TaskFileSpec } from './task-inode.ts'
import { renderMaps, renderNumaMaps, renderSmaps, renderSmapsRollup } from './task-maps.ts'
import { MemFile, renderAuxv, renderCmdline, renderEnviron } from './task-memory.ts'
import * as misc from './task-misc.ts'
import { renderMountinfo, renderMounts, renderMountstats } from './task-mounts.ts'
import { renderStat, renderStatm, renderStatus } from './task-stat.ts'

type Maker = (sb: ProcSuperBlock, subject: Subject, ino: number) => Inode

interface Entry {
  readonly name: string
  /** Type bits, for readdir. */
  readonly type: number
  readonly make: Maker
  /** Which of the two directories has it. */
  readonly where: 'both' | 'process' | 'thread'
}

type Where = Entry['where']

const file = (name: string, permissions: number, spec: TaskFileSpec, where: Where = 'both'): Entry => ({
  name,
  type: S_IFREG,
  make: (sb, subject, ino) => new TaskFile(sb, subject, permissions, ino, spec),
  where,
})
const text = (name: string, permissions: number, render: TaskFileSpec['render'], where: Where = 'both'): Entry =>
  file(name, permissions, render === undefined ? {} : { render }, where)
const link = (name: string, pathOf: PathOf): Entry => ({
  name,
  type: S_IFLNK,
  make: (sb, subject, ino) => new PathLink(sb, subject, ino, pathOf),
  where: 'both',
})
const dir = (name: string, make: Maker, where: Where = 'both'): Entry => ({ name, type: S_IFDIR, make, where })

const accept = (): number => 0
const refuse = (): number => -EPERM

const ENTRIES: readonly Entry[] = [
  dir('task', (sb, s, ino) => new ThreadsDirectory(sb, s, ino), 'process'),
  dir('fd', (sb, s, ino) => new FdDirectory(sb, s, ino)),
  dir('map_files', (sb, s, ino) => new MapFilesDirectory(sb, s, ino), 'process'),
  dir('fdinfo', (sb, s, ino) => new FdinfoDirectory(sb, s, ino)),
  dir('ns', (sb, s, ino) => new NsDirectory(sb, s, ino)),
  dir('net', (sb) => netDirectory(sb)),
  file('environ', 0o400, { open: 'ptrace', render: renderEnviron }),
  file('auxv', 0o400, { open: 'ptrace', render: renderAuxv }),
  text('status', 0o444, renderStatus),
  text('personality', 0o400, (s, t) => (s.check(t) < 0 ? -EPERM : `${hex8(s.task.personality)}\n`)),
  text('limits', 0o444, misc.renderLimits),
  file('sched', 0o644, { render: misc.renderSched, store: accept }),
  file('autogroup', 0o644, { render: () => '/autogroup-1 nice 0\n', store: accept }, 'process'),
  file(
    'timens_offsets',
    0o644,
    { render: () => 'monotonic           0         0\nboottime            0         0\n', store: refuse },
    'process',
  ),
  file('comm', 0o644, { render: (s) => `${s.task.name}\n`, store: misc.storeComm }),
  text('syscall', 0o400, misc.renderSyscall),
  text('cmdline', 0o444, renderCmdline),
  text('stat', 0o444, renderStat),
  text('statm', 0o444, renderStatm),
  file('maps', 0o444, { open: 'ptrace', render: renderMaps }),
  text('children', 0o444, misc.renderChildren, 'thread'),
  file('numa_maps', 0o444, { open: 'ptrace', render: renderNumaMaps }),
  dir('mem', (sb, s, ino) => new MemFile(sb, s, 0o600, ino, false)),
  link('cwd', cwdPath),
  link('root', rootPath),
  link('exe', exePath),
  text('mounts', 0o444, renderMounts),
  text('mountinfo', 0o444, renderMountinfo),
  text('mountstats', 0o400, renderMountstats, 'process'),
  file('clear_refs', 0o200, { store: accept }),
  file('smaps', 0o444, { open: 'ptrace', render: renderSmaps }),
  file('smaps_rollup', 0o444, { open: 'ptrace', render: renderSmapsRollup }),
  dir('pagemap', (sb, s, ino) => new MemFile(sb, s, 0o400, ino, true)),
  dir('attr', (sb, s, ino) => new AttrDirectory(sb, s, ino)),
  text('wchan', 0o444, () => '0'),
  text('stack', 0o400, () => ''),
  text('schedstat', 0o444, misc.renderSchedstat),
  text('cpuset', 0o444, () => '/\n'),
  text('cgroup', 0o444, (s) => `0::${s.kernel.cgroupPath}\n`),
  text('oom_score', 0o444, misc.renderOomScore),
  file('oom_adj', 0o644, { render: misc.renderOomAdj, store: misc.storeOomAdj }),
  file('oom_score_adj', 0o644, { render: (s) => `${s.group.oomScoreAdj}\n`, store: misc.storeOomScoreAdj }),
  file('loginuid', 0o644, { render: () => '4294967295', store: refuse }),
  text('sessionid', 0o444, () => '4294967295'),
  file('coredump_filter', 0o644, { render: () => '00000033\n', store: accept }, 'process'),
  file('io', 0o400, { render: (s, t) => (s.check(t) < 0 ? s.check(t) : misc.renderIo()) }),
  file('uid_map', 0o644, { render: misc.renderIdMap, store: refuse }),
  file('gid_map', 0o644, { render: misc.renderIdMap, store: refuse }),
  file('projid_map', 0o644, { render: misc.renderIdMap, store: refuse }),
  file('setgroups', 0o644, { render: () => 'allow\n', store: refuse }),
  text('timers', 0o444, () => '', 'process'),
  file('timerslack_ns', 0o666, { render: misc.renderTimerSlack, store: misc.storeTimerSlack }, 'process'),
  text('arch_status', 0o444, () => 'AVX512_elapsed_ms:\t-1\n'),
  text('ksm_merging_pages', 0o400, () => '0\n'),
  text('ksm_stat', 0o400, () => 'ksm_rmap_items 0\nksm_zero_pages 0\nksm_merging_pages 0\nksm_process_profit 0\n'),
]

const PROCESS_ENTRIES = ENTRIES.filter((e) => e.where !== 'thread')
const THREAD_ENTRIES = ENTRIES.filter((e) => e.where !== 'process')

/** readdir type: mem and pagemap are made like directories but are files. */
const typeOf = (e: Entry): number => (e.name === 'mem' || e.name === 'pagemap' ? S_IFREG : e.type) >> 12

/** A directory with fixed names whose inodes are made when they are first looked at. */
class TableDirectory extends TaskDirectory {
  private readonly table: readonly Entry[]
  private readonly firstIno: number
  private readonly made = new Map<string, Inode>()

  constructor(sb: ProcSuperBlock, subject: Subject, table: readonly Entry[], ino?: number) {
    super(sb, subject, 0o555, ino)
    this.table = table
    this.firstIno = sb.nextIno(table.length)
    for (const e of table) if (typeOf(e) === S_IFDIR >> 12) this.nlink++
  }

  lookup(name: string): Inode | number {
    if (!this.subject.alive) return -ENOENT
    let inode = this.made.get(name)
    if (inode !== undefined) return inode
    const i = this.table.findIndex((e) => e.name === name)
    if (i < 0) return -ENOENT
    inode = this.table[i]!.make(this.sb as ProcSuperBlock, this.subject, this.firstIno + i)
    this.made.set(name, inode)
    return inode
  }

  readdir(_t: Task, pos: number, out: DirEmitter): number {
    for (let i = Math.max(0, pos - 2); i < this.table.length; i++) {
      const e = this.table[i]!
      if (!out.emit(e.name, this.firstIno + i, typeOf(e), i + 3)) return 0
    }
    return 0
  }
}

/** /proc/PID. */
export class ProcessDirectory extends TableDirectory {
  constructor(sb: ProcSuperBlock, subject: Subject) {
    super(sb, subject, PROCESS_ENTRIES)
  }
  override permission(): number {
    return this.subject.alive ? 0 : -ESRCH
  }
}

/** /proc/PID/task. */
class ThreadsDirectory extends TaskDirectory {
  private readonly made = new WeakMap<Task, Inode>()

  constructor(sb: ProcSuperBlock, subject: Subject, ino: number) {
    super(sb, subject, 0o555, ino)
  }
  private directoryOf(task: Task): Inode {
    let inode = this.made.get(task)
    if (inode === undefined) {
      const subject = new Subject(this.subject.kernel, this.subject.group, task, false)
      inode = new TableDirectory(this.sb as ProcSuperBlock, subject, THREAD_ENTRIES)
      this.made.set(task, inode)
    }
    return inode
  }
  override revalidate(): number {
    this.nlink = 2 + this.subject.group.tasks.length
    return super.revalidate()
  }
  /** The leader's entry stays until the process is waited for, as a zombie. */
  private threads(): Task[] {
    const { leader, tasks } = this.subject.group
    const all = tasks.includes(leader) ? tasks.slice() : [leader, ...tasks]
    return all.sort((a, b) => a.tid - b.tid)
  }
  lookup(name: string): Inode | number {
    if (!/^[1-9]\d{0,9}$/.test(name)) return -ENOENT
    const tid = Number(name)
    const task = this.threads().find((t) => t.tid === tid)
    return task === undefined ? -ENOENT : this.directoryOf(task)
  }
  readdir(_t: Task, pos: number, out: DirEmitter): number {
    for (const task of this.threads()) {
      if (task.tid + 2 < pos) continue
      if (!out.emit(String(task.tid), this.directoryOf(task).ino, S_IFDIR >> 12, task.tid + 3)) return 0
    }
    return 0
  }
}

const ATTRIBUTES: readonly (readonly [string, number])[] = [
  ['current', 0o666],
  ['prev', 0o444],
  ['exec', 0o666],
  ['fscreate', 0o666],
  ['keycreate', 0o666],
  ['sockcreate', 0o666],
]
const ATTR_ENTRIES: readonly Entry[] = ATTRIBUTES.map(([name, mode]) =>
  // No security module: nothing to read or set.
  file(name, mode, { render: () => -EINVAL, store: () => -EINVAL }),
)

class AttrDirectory extends TableDirectory {
  constructor(sb: ProcSuperBlock, subject: Subject, ino: number) {
    super(sb, subject, ATTR_ENTRIES, ino)
  }
}
