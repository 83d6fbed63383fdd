/** The targets of the project, each a ratio in one run, and how far a way of running is from them. */
import { ratio, spread, withSpread } from './statistics.ts'
import type { Report, Values } from './types.ts'

interface Target {
  row: string
  /** The way that it is a ratio to; null: the figure itself counts. */
  of: string | null
  /** Most that the figure may be; for rows where higher is better, least. */
  limit: number
}

const PLAIN: Target[] = [
  { row: 'getppid', of: 'native', limit: 3 },
  { row: 'getppid-sigsys', of: 'runsc-ptrace', limit: 1 / 5 },
  { row: 'pread-64', of: 'runsc-ptrace', limit: 1 / 6 },
  { row: 'stat', of: 'runsc-ptrace', limit: 1 / 6 },
  { row: 'open-close', of: 'runsc-ptrace', limit: 1 / 5 },
  { row: 'pipe', of: 'runsc-ptrace', limit: 1 / 5 },
  { row: 'fork', of: 'native', limit: 4 },
  { row: 'exec-dynamic', of: 'native', limit: 5 },
  ...['futex', 'page-fault', 'cpu'].map((row) => ({ row, of: 'native', limit: 1.1 })),
  { row: 'memory', of: 'native', limit: 1 / 1.1 },
  { row: 'start', of: 'runsc-ptrace', limit: 1 },
  ...['compile', 'git-clone', 'find', 'tar'].flatMap((row) => [
    { row, of: 'runc', limit: 2.5 },
    { row, of: 'runsc-ptrace', limit: 1 },
  ]),
  ...['redis-set', 'redis-get'].flatMap((row) => [
    { row, of: 'runc', limit: 0.5 },
    { row, of: 'runsc-ptrace', limit: 1 },
  ]),
  { row: 'idle-cpu', of: null, limit: 1 },
  { row: 'idle-rss', of: null, limit: 100 },
  { row: 'idle-pss', of: null, limit: 100 },
]

const BUSY_LIMIT = 1.2

export interface Judgement {
  way: string
  row: string
  title: string
  /** Like `≤ 1/5 × runsc-ptrace`. */
  target: string
  /** Like `0.31 × (0.28–0.40)`; `–` where something was not measured. */
  reached: string
  verdict: 'met' | 'missed' | 'not measured'
}

/** What counts for the systrap platform; with busy cores its rows are compared with the ptrace platform instead. */
export function judge(report: Report, way = 'tssandbox-systrap'): Judgement[] {
  if (!report.values[way]) return []
  const targets = report.busy
    ? report.rows
        .filter((row) => row.group === 'micro')
        .map(({ name, better }) => ({
          row: name,
          of: 'tssandbox-ptrace',
          limit: better === 'lower' ? BUSY_LIMIT : 1 / BUSY_LIMIT,
        }))
    : PLAIN
  return targets.flatMap((target) => {
    const row = report.rows.find((r) => r.name === target.row)
    if (!row) return []
    const figures = report.values[way]?.[target.row]
    const figure = target.of ? ratio(figures, baseFigures(report, target)) : spread(figures)
    const most = row.better === 'lower'
    const times = target.of ? ' ×' : ` ${row.unit}`
    const met = figure !== null && (most ? figure.median <= target.limit : figure.median >= target.limit)
    return {
      way,
      row: target.row,
      title: row.title,
      target: `${most ? '≤' : '≥'} ${fraction(target.limit)}${times}${target.of ? ` ${target.of}` : ''}`,
      reached: figure ? withSpread(figure, times) : '–',
      verdict: figure === null ? 'not measured' : met ? 'met' : 'missed',
    }
  })
}

function baseFigures(report: Report, target: Target): Values | undefined {
  return report.values[target.of!]?.[target.row]
}

function fraction(limit: number): string {
  const inverse = 1 / limit
  return limit < 0.5 && Math.abs(inverse - Math.round(inverse)) < 1e-9
    ? `1/${Math.round(inverse)}`
    : String(Number(limit.toFixed(2)))
}
