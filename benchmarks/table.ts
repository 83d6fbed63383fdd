/** The report as text: tables for the terminal and for RESULTS.md. */
import { format, ratio, spread, withSpread } from './statistics.ts'
import { type Judgement, judge } from './targets.ts'
import type { Report, Row } from './types.ts'

/** Value, how many times native, and the lowest and highest such ratio of a round. */
export function cell(report: Report, row: Row, way: string): string {
  const figure = spread(report.values[way]?.[row.name])
  if (!figure) return report.failures.some((f) => f.way === way && f.row === row.name) ? 'failed' : '–'
  const times = way === 'native' ? null : ratio(report.values[way]![row.name], report.values['native']?.[row.name])
  if (!times || row.group === 'idle') return format(figure.median)
  return `${format(figure.median)} ×${withSpread(times)}`
}

export function tableRows(report: Report): string[][] {
  const names = report.ways.map((way) => way.name)
  return [
    ['', ...names],
    ...report.rows.map((row) => [`${row.name} (${row.unit})`, ...names.map((name) => cell(report, row, name))]),
  ]
}

export function targetRows(judgements: Judgement[]): string[][] {
  return [
    ['work', 'target', 'reached', ''],
    ...judgements.map((j) => [j.row, j.target, j.reached, j.verdict === 'met' ? 'met' : j.verdict.toUpperCase()]),
  ]
}

/** Columns under each other; all but the first are numbers. */
export function aligned(rows: string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: string[]) =>
    row.map((text, column) => (column === 0 ? text.padEnd(widths[0]!) : text.padStart(widths[column]!))).join('  ')
  return rows.map((row) => line(row).trimEnd()).join('\n')
}

export function markdown(rows: string[][]): string {
  const [head, ...body] = rows.map((row) => `| ${row.join(' | ')} |`)
  return [
    head,
    `|---|${rows[0]!
      .slice(1)
      .map(() => '---:')
      .join('|')}|`,
    ...body,
  ].join('\n')
}

export function notes(report: Report): string[] {
  return [
    `${report.machine}; ${report.date.slice(0, 16).replace('T', ' ')} UTC; commit ${report.commit}; ${report.conditions}.`,
    'Figures are medians of the rounds; × is the ratio to native, in brackets the lowest and highest within one round.',
    ...report.missing.map(({ name, reason }) => `Not measured: ${name}: ${reason}`),
    ...report.failures.map(({ way, row, reason }) => `Failed: ${way} ${row}: ${reason}`),
  ]
}

/** A terminal that is too narrow for all ways gets several tables. */
export function terminal(report: Report, width: number): string {
  const rows = tableRows(report)
  const parts: string[] = []
  let first = 1
  while (first < rows[0]!.length) {
    let last = rows[0]!.length
    const part = () => aligned(rows.map((row) => [row[0]!, ...row.slice(first, last)]))
    while (
      last > first + 1 &&
      Math.max(
        ...part()
          .split('\n')
          .map((l) => l.length),
      ) > width
    )
      last--
    parts.push(part())
    first = last
  }
  const judgements = judge(report)
  if (judgements.length > 0)
    parts.push(
      `Targets${report.busy ? ' with busy cores' : ''} (tssandbox-systrap)\n${aligned(targetRows(judgements))}`,
    )
  return [...parts, notes(report).join('\n')].join('\n\n')
}

export function resultsPage(report: Report): string {
  const judgements = judge(report)
  return [
    '# Benchmarks',
    '`npm run bench` rewrites this file; the raw figures are in `results/latest.json`.',
    markdown(tableRows(report)),
    ...(judgements.length > 0 ? ['## Targets', markdown(targetRows(judgements))] : []),
    '## Conditions',
    ...notes(report),
    '',
  ].join('\n\n')
}
