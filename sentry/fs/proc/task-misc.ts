/**
 * The small files of /proc/PID: limits, comm, OOM score, scheduling, I/O, identity maps (Linux: fs/proc/base.c).
 */
import { EACCES, EINVAL, EPERM } from '../../abi/errno.ts'
import { groupCpu, taskCpu } from '../../kernel/cpu-times.ts'
import { CAP_SYS_NICE, CAP_SYS_RESOURCE } from '../../kernel/credentials.ts'
import { BLOCKED, type Task } from '../../kernel/task.ts'
import { getReg, RIP, RSP } from '../../platform/amd64/registers.ts'
import { u64 } from './format.ts'
import type { Subject } from './subject.ts'

/** Name and unit in the order of the resource numbers. */
const LIMITS: readonly (readonly [string, string])[] = [
  ['Max cpu time', 'seconds'],
  ['Max file size', 'bytes'],
  ['Max data size', 'bytes'],
  ['Max stack size', 'bytes'],
  ['Max core file size', 'bytes'],
  ['Max resident set', 'bytes'],
  ['Max processes', 'processes'],
  ['Max open files', 'files'],
  ['Max locked memory', 'bytes'],
  ['Max address space', 'bytes'],
  ['Max file locks', 'locks'],
  ['Max pending signals', 'signals'],
  ['Max msgqueue size', 'bytes'],
  ['Max nice priority', ''],
  ['Max realtime priority', ''],
  ['Max realtime timeout', 'us'],
]

const limitText = (n: number): string => (n === Number.POSITIVE_INFINITY ? 'unlimited' : u64(n))

export function renderLimits(s: Subject): string {
  let text = `${'Limit'.padEnd(25)} ${'Soft Limit'.padEnd(20)} ${'Hard Limit'.padEnd(20)} ${'Units'.padEnd(10)}\n`
  const { soft, hard } = s.group.limits
  LIMITS.forEach(([name, unit], i) => {
    text += `${name.padEnd(25)} ${limitText(soft[i]!).padEnd(20)} ${limitText(hard[i]!).padEnd(20)} `
    text += unit === '' ? '\n' : `${unit.padEnd(10)}\n`
  })
  return text
}

const COMM_MAX = 15

export function storeComm(s: Subject, t: Task, text: string): number {
  if (t.group !== s.group) return -EINVAL
  s.task.name = text.slice(0, COMM_MAX).split('\0')[0]!
  return 0
}

const OOM_SCORE_ADJ_MAX = 1000
const OOM_DISABLE = -17

function setOomScoreAdj(s: Subject, t: Task, value: number): number {
  if (value < s.group.oomScoreAdj && !t.creds.capable(CAP_SYS_RESOURCE)) return -EACCES
  s.group.oomScoreAdj = value
  return 0
}

/** kstrtoint of a written line: NaN if it is no number. */
function parseLine(text: string): number {
  const trimmed = text.trim()
  return /^[-+]?\d+$/.test(trimmed) ? Number(trimmed) : Number.NaN
}

export function storeOomScoreAdj(s: Subject, t: Task, text: string): number {
  const value = parseLine(text)
  if (!(Math.abs(value) <= OOM_SCORE_ADJ_MAX)) return -EINVAL
  return setOomScoreAdj(s, t, value)
}

export function renderOomAdj(s: Subject): string {
  const adj = s.group.oomScoreAdj
  return `${adj === OOM_SCORE_ADJ_MAX ? 15 : Math.trunc((adj * -OOM_DISABLE) / OOM_SCORE_ADJ_MAX)}\n`
}

export function storeOomAdj(s: Subject, t: Task, text: string): number {
  const value = parseLine(text)
  if (!(value >= -16 && value <= 15) && value !== OOM_DISABLE) return -EINVAL
  return setOomScoreAdj(s, t, value === 15 ? OOM_SCORE_ADJ_MAX : Math.trunc((value * OOM_SCORE_ADJ_MAX) / -OOM_DISABLE))
}

/** What a small process scores: two thirds of (1000 + adj). */
export function renderOomScore(s: Subject): string {
  return `${Math.max(0, Math.trunc(((OOM_SCORE_ADJ_MAX + s.group.oomScoreAdj) * 2) / 3))}\n`
}

export function renderIo(): string {
  return 'rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n'
}

export function renderSchedstat(s: Subject): string {
  const cpu = s.whole ? groupCpu(s.group) : taskCpu(s.task)
  return `${cpu.userNs + cpu.systemNs} 0 1\n`
}

export function renderSched(s: Subject): string {
  const t = s.task
  const cpu = s.whole ? groupCpu(s.group) : taskCpu(t)
  const ms = ((cpu.userNs + cpu.systemNs) / 1e6).toFixed(6)
  const row = (name: string, value: string | number): string => `${name.padEnd(45)}:${String(value).padStart(21)}\n`
  return (
    `${t.name} (${s.id}, #threads: ${Math.max(1, s.group.tasks.length)})\n${'-'.repeat(67)}\n` +
    row('se.exec_start', (s.kernel.now() / 1e6).toFixed(6)) +
    row('se.vruntime', ms) +
    row('se.sum_exec_runtime', ms) +
    row('se.nr_migrations', 0) +
    row('nr_switches', 0) +
    row('nr_voluntary_switches', 0) +
    row('nr_involuntary_switches', 0) +
    row('policy', t.sched.policy) +
    row('prio', 100 + t.sched.statPriority)
  )
}

/** /proc/PID/syscall: the call in which a thread is blocked. */
export function renderSyscall(s: Subject, reader: Task): string | number {
  const t = s.task
  if (s.check(reader) < 0) return -EACCES
  if (!s.running || (t.state !== BLOCKED && t !== reader)) return 'running\n'
  const hex = (n: number): string => `0x${n.toString(16)}`
  const args = [0, 1, 2, 3, 4, 5].map((i) => hex(t.argPtr(i)))
  return `${t.sysno} ${args.join(' ')} ${hex(getReg(t.regs, RSP))} ${hex(getReg(t.regs, RIP))}\n`
}

export function renderTimerSlack(s: Subject, t: Task): string | number {
  if (t.group !== s.group && !t.creds.capable(CAP_SYS_NICE)) return -EPERM
  return `${s.task.timerSlack}\n`
}

export function storeTimerSlack(s: Subject, t: Task, text: string): number {
  const value = parseLine(text)
  if (!(value >= 0)) return -EINVAL
  if (t.group !== s.group && !t.creds.capable(CAP_SYS_NICE)) return -EPERM
  s.task.timerSlack = value === 0 ? 50_000 : value
  return 0
}

/** The one user namespace maps every id to itself. */
export const renderIdMap = (): string => '         0          0 4294967295\n'

export function renderChildren(s: Subject): string {
  return s.group.children.map((c) => `${c.pid} `).join('')
}
