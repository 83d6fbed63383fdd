/** The report as one HTML file: charts as inline SVG, tables, no scripts and nothing from the network. */
import { barChart, lineChart, type Series } from './charts.ts'
import { spread } from './statistics.ts'
import { notes, tableRows, targetRows } from './table.ts'
import { judge } from './targets.ts'
import { GROUPS, type Group, type Report, type Row } from './types.ts'

const STYLE = `body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:.6rem 0;font-size:.85rem}td,th{border:1px solid #d0d7de;padding:.2rem .5rem;text-align:right;
font-variant-numeric:tabular-nums}td:first-child,th:first-child{text-align:left}.scroll{overflow-x:auto}.met{color:#116329}.missed{color:#a40e26}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(22rem,1fr));gap:1rem}figure{margin:0}figcaption{font-weight:600;font-size:.9rem}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:currentColor}.native{--c:#57606a}.w0{--c:#0969da}.w1{--c:#1b7c83}
.w2{--c:#bc4c00}.w3{--c:#953800}.w4{--c:#8250df}.w5{--c:#bf3989}.w6{--c:#1a7f37}.w7{--c:#9a6700}.bar{fill:var(--c)}
.line{fill:none;stroke:var(--c);stroke-width:2}.dot{fill:var(--c)}.axis,.whisker{stroke:currentColor;stroke-width:1;opacity:.6}
.legend span{display:inline-block;margin-right:1rem}.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.3em;background:var(--c)}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,th{border-color:#30363d}.met{color:#56d364}.missed{color:#ff7b72}}`

const TITLES: Record<Group, string> = {
  micro: 'Single kernel operations',
  macro: 'Programs',
  scale: 'Many threads, many containers',
  idle: 'An idle container',
}
/** Rows `name-COUNT` or `name-COUNT-what` are points of one line. */
const POINT = /^(\w+)-(\d+)(-\w+)?$/

export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!)

export function htmlPage(report: Report): string {
  const judgements = judge(report)
  const verdicts = targetRows(judgements).map((row, index) => {
    const verdict = index > 0 ? judgements[index - 1]!.verdict : ''
    return htmlRow(row, index === 0 ? 'th' : 'td', verdict)
  })
  const title = `tssandbox benchmarks${report.busy ? ', all cores busy' : ''}`
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><style>${STYLE}</style>
<h1>${title}</h1>
<p>${notes(report).map(escapeHtml).join('<br>')}</p>
<p class="legend">${report.ways.map((w) => `<span class="${color(report, w.name)}"><i></i>${escapeHtml(w.name)}</span>`).join('')}</p>
${judgements.length > 0 ? `<h2>Targets</h2>\n<div class="scroll"><table>${verdicts.join('\n')}</table></div>` : ''}
${GROUPS.map((group) => section(report, group)).join('\n')}
<h2>Versions</h2>
<table>${report.ways.map((way) => htmlRow([way.name, way.version], 'td')).join('\n')}</table>
</html>
`
}

function section(report: Report, group: Group): string {
  const rows = report.rows.filter((row) => row.group === group)
  if (rows.length === 0) return ''
  const table = tableRows({ ...report, rows }).map((row, index) => htmlRow(row, index === 0 ? 'th' : 'td'))
  return `<h2>${TITLES[group]}</h2>
<div class="charts">${charts(report, rows).join('\n')}</div>
<div class="scroll"><table>${table.join('\n')}</table></div>`
}

function charts(report: Report, rows: Row[]): string[] {
  const lines = new Map<string, Row[]>()
  for (const row of rows) {
    const point = row.group === 'scale' ? POINT.exec(row.name) : null
    const key = point ? `${point[1]}${point[3] ?? ''}` : row.name
    lines.set(key, [...(lines.get(key) ?? []), row])
  }
  return [...lines].map(([key, points]) =>
    points[0]!.group === 'scale'
      ? figure(`${key} (${points[0]!.unit})`, lineChart(lineSeries(report, points)))
      : figure(
          `${points[0]!.title} (${points[0]!.unit}, ${points[0]!.better} is better)`,
          barChart(
            report.ways.flatMap(({ name }) => {
              const value = spread(report.values[name]?.[points[0]!.name])
              return value ? [{ name, color: color(report, name), value }] : []
            }),
          ),
        ),
  )
}

function lineSeries(report: Report, points: Row[]): Series[] {
  return report.ways.map(({ name }) => ({
    name,
    color: color(report, name),
    points: points.flatMap((row) => {
      const value = spread(report.values[name]?.[row.name])
      return value ? [{ x: Number(POINT.exec(row.name)![2]), y: value.median }] : []
    }),
  }))
}

const figure = (caption: string, svg: string) =>
  `<figure><figcaption>${escapeHtml(caption)}</figcaption>${svg}</figure>`

const htmlRow = (cells: string[], tag: 'td' | 'th', kind = '') =>
  `<tr${kind ? ` class="${kind.replace(' ', '-')}"` : ''}>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`

/** A way has one colour in all charts. */
function color(report: Report, way: string): string {
  if (way === 'native') return 'native'
  const index = report.ways.filter(({ name }) => name !== 'native').findIndex(({ name }) => name === way)
  return `w${index % 8}`
}
