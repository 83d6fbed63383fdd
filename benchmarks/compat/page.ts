/** The report as one HTML file without scripts or references, and as lines for the terminal. */
import { changes, type Difference, differences, scores } from './compare.ts'
import type { Report } from './types.ts'

const STYLE = `body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:.6rem 0}td,th{border:1px solid #d0d7de;padding:.25rem .6rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.pass{color:#116329}.fail,.late,.died,.missing{color:#a40e26}.skip{color:#7d4e00}
summary{cursor:pointer;font-weight:600}@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,th{border-color:#30363d}
.pass{color:#56d364}.fail,.late,.died,.missing{color:#ff7b72}.skip{color:#e3b341}}`

const escapeHtml = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!)
const row = (cells: string[], tag = 'td'): string =>
  `<tr>${cells.map((cell) => `<${tag}${/^[\d/%. ()]+$/.test(cell) ? ' class="n"' : ''}>${cell}</${tag}>`).join('')}</tr>`
const percent = (part: number, whole: number): string => (whole === 0 ? '–' : `${((100 * part) / whole).toFixed(1)} %`)

function others(report: Report): string[] {
  return Object.keys(report.runtimes).filter((name) => name !== 'native')
}

function scoreTable(report: Report): string[][] {
  const native = report.runtimes['native']?.results ?? {}
  const names = others(report)
  const rows = [['suite', 'native', ...names]]
  for (const [suite, cases] of Object.entries(native)) {
    const all = Object.values(cases)
    const passed = all.filter((result) => result.status === 'pass').length
    const cells = [suite, `${passed}/${all.length}`]
    for (const name of names) {
      const score = scores(native, report.runtimes[name]!.results)[suite]
      if (!score) cells.push('–')
      else
        cells.push(`${score.cases.inside}/${score.cases.native} (${percent(score.cases.inside, score.cases.native)})`)
    }
    rows.push(cells)
    if (!all.some((result) => result.tests)) continue
    const tests = [`${suite}: tests`, String(all.reduce((sum, result) => sum + (result.tests?.passed ?? 0), 0))]
    for (const name of names)
      tests.push(String(scores(native, report.runtimes[name]!.results)[suite]?.tests.inside ?? '–'))
    rows.push(tests)
  }
  return rows
}

export function terminalSummary(report: Report, previous: Report | null): string {
  const table = scoreTable(report)
  const widths = table[0]!.map((_, column) => Math.max(...table.map((cells) => cells[column]!.length)))
  const lines = table.map((cells) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('   ')
      .trimEnd(),
  )
  const native = report.runtimes['native']?.results ?? {}
  for (const name of others(report)) {
    const found = differences(native, report.runtimes[name]!.results)
    lines.push('', `${name}: ${found.length === 0 ? 'nothing' : found.length} that passes natively and not inside`)
    for (const d of found)
      lines.push(`  ${d.status.padEnd(5)} ${d.suite}/${d.name}${d.detail ? `  ${d.detail.slice(0, 160)}` : ''}`)
    const changed = changes(previous?.runtimes[name]?.results, report.runtimes[name]!.results)
    if (changed.length > 0) lines.push(`  since the run of ${previous!.date}:`)
    for (const c of changed) lines.push(`    ${c.name}: ${c.was} → ${c.is}`)
  }
  return lines.join('\n')
}

/** Every call of the table by its level. */
function callsTable({ calls }: Report): string {
  const byLevel = new Map<string, string[]>()
  for (const [name, level] of Object.entries(calls)) byLevel.set(level, [...(byLevel.get(level) ?? []), name])
  const rows = [...byLevel].map(([level, names]) =>
    row([level, String(names.length), level === 'full' ? '' : names.join(' ')].map(escapeHtml)),
  )
  return `<table>${row(['support', 'calls', ''], 'th')}${rows.join('')}</table>`
}

/** What fails in any suite under the name of a call, interface or module, and the support level of those that are calls. */
function byCallTable({ calls }: Report, found: Map<string, Difference[]>): string {
  const groups = new Set([...found.values()].flatMap((list) => list.map((d) => d.group)))
  const rows = [...groups].sort().map((group) => {
    const counts = [...found.values()].map((list) => list.filter((d) => d.group === group).length)
    return row([escapeHtml(group), escapeHtml(calls[group] ?? '–'), ...counts.map((n) => (n ? String(n) : ''))])
  })
  return `<table>${row(['', 'support', ...[...found.keys()].map(escapeHtml)], 'th')}${rows.join('')}</table>`
}

export function htmlPage(report: Report, previous: Report | null): string {
  const native = report.runtimes['native']?.results ?? {}
  const names = others(report)
  const [head, ...body] = scoreTable(report)
  const parts = [
    `<h1>System call compatibility</h1><p>${escapeHtml(report.date)}, commit ${escapeHtml(report.commit)}, ${escapeHtml(report.kernel)}. Every case runs natively and in each runtime; counted is what passes natively.</p>`,
    `<table>${row(head!, 'th')}${body.map((cells) => row(cells.map(escapeHtml))).join('')}</table>`,
    `<ul>${Object.entries(report.runtimes)
      .map(([name, { version }]) => `<li>${escapeHtml(name)}: ${escapeHtml(version)}</li>`)
      .join('')}</ul>`,
    `<h2>System calls by support</h2>${callsTable(report)}`,
    '<h2>Passes natively, but not inside</h2>',
  ]
  const found = new Map(names.map((name) => [name, differences(native, report.runtimes[name]!.results)]))
  parts.push('<h3>By call</h3>', byCallTable(report, found), '<h3>By suite</h3>')
  const groups = new Map<string, Map<string, Map<string, string>>>()
  for (const [runtime, list] of found) {
    for (const d of list) {
      const key = `${d.suite}: ${d.group}`
      const cases = groups.get(key) ?? new Map<string, Map<string, string>>()
      const cell = `<span class="${d.status}" title="${escapeHtml(d.detail)}">${d.status}</span>`
      cases.set(d.name, (cases.get(d.name) ?? new Map<string, string>()).set(runtime, cell))
      groups.set(key, cases)
    }
  }
  for (const [key, cases] of [...groups].sort(([a], [b]) => a.localeCompare(b))) {
    const rows = [...cases].map(([name, cells]) => row([escapeHtml(name), ...names.map((n) => cells.get(n) ?? '')]))
    const table = `<table>${row(['', ...names.map(escapeHtml)], 'th')}${rows.join('')}</table>`
    parts.push(`<details open><summary>${escapeHtml(key)} (${cases.size})</summary>${table}</details>`)
  }
  if (groups.size === 0) parts.push('<p>Nothing.</p>')
  if (previous) {
    const rows = Object.entries(report.runtimes).flatMap(([name, { results }]) =>
      changes(previous.runtimes[name]?.results, results).map((c) =>
        row([escapeHtml(name), escapeHtml(c.name), c.was, c.is]),
      ),
    )
    parts.push(`<h2>Changes since ${escapeHtml(previous.date)}</h2>`)
    parts.push(rows.length > 0 ? `<table>${rows.join('')}</table>` : '<p>None.</p>')
  }
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Compatibility</title><style>${STYLE}</style>${parts.join('\n')}</html>\n`
}
