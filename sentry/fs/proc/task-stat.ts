/**
 * /proc/PID/{stat,statm,status}: state, memory, signals and rights of a process (Linux: fs/proc/array.c, do_task_stat
 * and proc_pid_status; field order and spelling are ABI).
 */
import { uptimeNs } from '../../kernel/clock.ts'
import { childrenUsage, groupCpu, groupUsage, taskCpu } from '../../kernel/cpu-times.ts'
import type { CapSet } from '../../kernel/credentials.ts'
import { hostCpuMask, hostCpus, hostPidFile, readHostPages } from '../../kernel/host-proc.ts'
import { RLIMIT_RSS, RLIMIT_SIGPENDING } from '../../kernel/limits.ts'
import { queuedSignals } from '../../kernel/signal.ts'
import { NSIG, SIG_DFL, SIG_IGN } from '../../kernel/signal-actions.ts'
import { SigSet } from '../../kernel/sigset.ts'
import { BLOCKED, DEAD, RUNNING, STOPPED, type Task, TRACED } from '../../kernel/task.ts'
import type { MemoryManager } from '../../mm/memory-manager.ts'
import { PROT_EXEC, PROT_WRITE } from '../../mm/vma.ts'
import { cpuMaskText, escapeOctal, hex16, ticks, u64 } from './format.ts'
import type { Subject } from './subject.ts'
import { stackStart } from './task-maps.ts'

const PAGE = 4096
const PF_FORKNOEXEC = 0x40
const PF_RANDOMIZE = 0x400000

/** One letter of task_state_array. `reader` runs, whatever its state says. */
export function stateLetter(s: Subject, reader: Task): string {
  const t = s.task
  if (t.state === DEAD || s.group.zombie) return 'Z'
  if (t === reader) return 'R'
  if (t.state === TRACED) return 't'
  if (t.state === STOPPED || s.group.signals.stopped) return 'T'
  if (t.state === BLOCKED) return 'S'
  if (t.state !== RUNNING) return 'R'
  // Futex waits happen natively: only the host knows of those.
  const stat = hostPidFile(t.thread.space.hostPid, `task/${t.thread.hostTid}/stat`)
  return /\) [SD]/.test(stat.slice(stat.lastIndexOf(')'))) ? 'S' : 'R'
}

const STATE_NAMES: Record<string, string> = {
  R: 'R (running)',
  S: 'S (sleeping)',
  T: 'T (stopped)',
  t: 't (tracing stop)',
  Z: 'Z (zombie)',
}

/** Sizes in bytes by kind, as vm_stat_account sorts mappings. */
export function memorySizes(mm: MemoryManager): {
  total: number
  data: number
  stack: number
  exec: number
  text: number
} {
  let total = 0
  let data = 0
  let stack = 0
  let exec = 0
  for (const v of mm.vmas) {
    const len = v.end - (v.name === '[stack]' ? stackStart(mm, v) : v.start)
    total += len
    if (v.name === '[stack]') stack += len
    else if ((v.prot & (PROT_WRITE | PROT_EXEC)) === PROT_EXEC) exec += len
    else if (!v.shared && (v.prot & PROT_WRITE) !== 0) data += len
  }
  const text = Math.ceil(mm.codeEnd / PAGE) * PAGE - Math.floor(mm.codeStart / PAGE) * PAGE
  return { total, data, stack, exec, text: Math.max(0, Math.min(text, exec)) }
}

function ignoredAndCaught(s: Subject): { ignored: SigSet; caught: SigSet } {
  const ignored = new SigSet()
  const caught = new SigSet()
  for (let sig = 1; sig <= NSIG; sig++) {
    const handler = s.group.signals.actions.handler(sig)
    if (handler === SIG_IGN) ignored.add(sig)
    else if (handler !== SIG_DFL) caught.add(sig)
  }
  return { ignored, caught }
}

const low31 = (set: SigSet): number => set.lo & 0x7fffffff

/** /proc/PID/stat. */
export function renderStat(s: Subject, reader: Task): string {
  const t = s.task
  const g = s.group
  const mm = s.mm
  const permitted = s.check(reader) === 0
  const tty = g.pgrp.session.tty
  const cpu = s.whole ? groupCpu(g) : taskCpu(t)
  const usage = groupUsage(g)
  const below = childrenUsage(g)
  const utime = ticks(cpu.userNs)
  const stime = ticks(cpu.systemNs)
  const { ignored, caught } = ignoredAndCaught(s)
  const started = uptimeNs() - s.kernel.now() + g.startTime
  const threads = s.running ? g.tasks.length : g.tasks.length === 0 ? 1 : g.tasks.length
  const letter = stateLetter(s, reader)
  const flags = PF_RANDOMIZE | (g.execed ? 0 : PF_FORKNOEXEC)
  const size = mm === null ? 0 : memorySizes(mm).total
  const rss = mm === null ? 0 : readHostPages(mm.space.hostPid).resident
  const code = mm === null ? [0, 0] : permitted ? [mm.codeStart, mm.codeEnd] : [1, 1]
  const wchan = permitted && (!s.whole || threads < 2) && letter !== 'R' ? 1 : 0
  const fields: (number | string)[] = [
    ...[letter, g.parent?.pid ?? 0, g.pgrp.pgid, g.pgrp.session.sid],
    ...[tty?.deviceNumber ?? 0, tty === null ? -1 : (tty.foreground?.pgid ?? -1), flags],
    ...[usage.minorFaults, below.minorFaults, usage.majorFaults, below.majorFaults],
    ...[utime, stime, ticks(g.childUserNs), ticks(g.childSystemNs), t.sched.statPriority, t.sched.nice, threads, 0],
    ...[ticks(started), size, rss, u64(g.limits.soft[RLIMIT_RSS]!), code[0]!, code[1]!],
    ...[permitted && mm !== null ? mm.stackStart : 0, 0, 0],
    ...[low31(t.signals.pending.set), low31(t.signals.blocked), low31(ignored), low31(caught), wchan, 0, 0],
    ...[g.exitSignal, 0, t.sched.priority, t.sched.policy, 0, 0, 0],
  ]
  const layout =
    mm !== null && permitted
      ? [mm.dataStart, mm.dataEnd, mm.brkStart, mm.argStart, mm.argEnd, mm.envStart, mm.envEnd]
      : [0, 0, 0, 0, 0, 0, 0]
  const code32 = permitted && g.exitStatus > 0 ? g.exitStatus : 0
  return `${s.id} (${t.name}) ${fields.join(' ')} ${layout.join(' ')} ${code32}\n`
}

/** /proc/PID/statm. */
export function renderStatm(s: Subject): string {
  const mm = s.mm
  if (mm === null) return '0 0 0 0 0 0 0\n'
  const sizes = memorySizes(mm)
  const pages = readHostPages(mm.space.hostPid)
  const data = (sizes.data + sizes.stack) / PAGE
  return `${sizes.total / PAGE} ${pages.resident} ${pages.shared} ${sizes.text / PAGE} 0 ${data} 0\n`
}

/** A 'Name:  123 kB' figure of the host's status, in kB. */
function hostFigure(status: string, name: string): number {
  const at = status.indexOf(`\n${name}:`)
  return at < 0 ? 0 : Number.parseInt(status.slice(at + name.length + 2), 10) || 0
}

function memoryLines(mm: MemoryManager): string {
  const sizes = memorySizes(mm)
  const host = hostPidFile(mm.space.hostPid, 'status')
  const kb = (name: string, value: number): string => `${name}:\t${String(value).padStart(8)} kB\n`
  const rss = hostFigure(host, 'VmRSS')
  let locked = 0
  for (const v of mm.vmas) if (v.locked) locked += v.end - v.start
  return (
    kb('VmPeak', sizes.total / 1024) +
    kb('VmSize', sizes.total / 1024) +
    kb('VmLck', locked / 1024) +
    kb('VmPin', 0) +
    kb('VmHWM', Math.max(rss, hostFigure(host, 'VmHWM'))) +
    kb('VmRSS', rss) +
    kb('RssAnon', hostFigure(host, 'RssAnon')) +
    kb('RssFile', hostFigure(host, 'RssFile')) +
    kb('RssShmem', hostFigure(host, 'RssShmem')) +
    kb('VmData', sizes.data / 1024) +
    kb('VmStk', sizes.stack / 1024) +
    kb('VmExe', sizes.text / 1024) +
    kb('VmLib', (sizes.exec - sizes.text) / 1024) +
    kb('VmPTE', hostFigure(host, 'VmPTE')) +
    kb('VmSwap', 0) +
    kb('HugetlbPages', 0) +
    'CoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n'
  )
}

const capLine = (name: string, set: CapSet): string => `${name}:\t${hex16(set.lo, set.hi)}\n`
const sigLine = (name: string, set: SigSet): string => `${name}:\t${hex16(set.lo, set.hi)}\n`

/** Slots of the descriptor table, which grows in powers of two from 64. */
function fdSize(s: Subject): number {
  if (!s.running) return 0
  let n = 64
  while (n < s.task.fds.size) n *= 2
  return n
}

const MEMS_ALLOWED = `${'00000000,'.repeat(31)}00000001`

/** /proc/PID/status. */
export function renderStatus(s: Subject, reader: Task): string {
  const t = s.task
  const g = s.group
  const c = t.creds
  const mm = s.mm
  const { ignored, caught } = ignoredAndCaught(s)
  const cpus = cpuMaskText(t.sched.affinity ?? hostCpuMask(), hostCpus())
  const umask = s.running
    ? `Umask:\t${t.fs.umask === 0 ? '0000' : `0${t.fs.umask.toString(8).padStart(3, '0')}`}\n`
    : ''
  return (
    `Name:\t${escapeOctal(t.name, '\n\\')}\n` +
    umask +
    `State:\t${STATE_NAMES[stateLetter(s, reader)]!}\n` +
    `Tgid:\t${g.pid}\nNgid:\t0\nPid:\t${s.id}\nPPid:\t${g.parent?.pid ?? 0}\nTracerPid:\t${s.task.traced?.tracer.tid ?? 0}\n` +
    `Uid:\t${c.uid}\t${c.euid}\t${c.suid}\t${c.fsuid}\nGid:\t${c.gid}\t${c.egid}\t${c.sgid}\t${c.fsgid}\n` +
    `FDSize:\t${fdSize(s)}\nGroups:\t${c.groups.join(' ')} \n` +
    `NStgid:\t${g.pid}\nNSpid:\t${s.id}\nNSpgid:\t${g.pgrp.pgid}\nNSsid:\t${g.pgrp.session.sid}\nKthread:\t0\n` +
    (mm === null ? '' : memoryLines(mm)) +
    `Threads:\t${Math.max(1, g.tasks.length)}\nSigQ:\t${queuedSignals(c.uid)}/${u64(g.limits.soft[RLIMIT_SIGPENDING]!)}\n` +
    sigLine('SigPnd', t.signals.pending.set) +
    sigLine('ShdPnd', g.signals.pending.set) +
    sigLine('SigBlk', t.signals.blocked) +
    sigLine('SigIgn', ignored) +
    sigLine('SigCgt', caught) +
    capLine('CapInh', c.inheritable) +
    capLine('CapPrm', c.permitted) +
    capLine('CapEff', c.effective) +
    capLine('CapBnd', c.bounding) +
    capLine('CapAmb', c.ambient) +
    `NoNewPrivs:\t${c.noNewPrivs ? 1 : 0}\nSeccomp:\t${t.seccomp?.mode ?? 0}\nSeccomp_filters:\t${t.seccomp?.count ?? 0}\n` +
    'Speculation_Store_Bypass:\tthread vulnerable\nSpeculationIndirectBranch:\tconditional enabled\n' +
    `Cpus_allowed:\t${cpus.bits}\nCpus_allowed_list:\t${cpus.list}\n` +
    `Mems_allowed:\t${MEMS_ALLOWED}\nMems_allowed_list:\t0\n` +
    'voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n'
  )
}
