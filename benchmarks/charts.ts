/** Two kinds of chart as SVG text. Colours are classes of the page (`color` is one). */
import { format, type Spread } from './statistics.ts'

export interface Bar {
  name: string
  color: string
  value: Spread
}

export interface Series {
  name: string
  color: string
  points: { x: number; y: number }[]
}

const WIDTH = 360
const LABEL = 118
const FIGURE = 66
const BAR = 16
/** Where values differ more, short bars could not be told apart: the axis is logarithmic then. */
const LOG_FROM = 20

const escapeText = (text: string) => text.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]!)

/** One bar for each way, with a whisker from the lowest to the highest round. */
export function barChart(bars: Bar[]): string {
  const high = Math.max(...bars.map((bar) => bar.value.high), Number.MIN_VALUE)
  const least = Math.min(...bars.map((bar) => bar.value.low).filter((v) => v > 0), high)
  const logarithmic = high / least > LOG_FROM
  const space = WIDTH - LABEL - FIGURE
  const length = (value: number) => {
    if (value <= 0) return 0
    return logarithmic
      ? space * (0.05 + (0.95 * Math.log(value / least)) / Math.log(high / least))
      : (space * value) / high
  }
  const height = bars.length * (BAR + 4) + 14
  const parts = bars.map(({ name, color, value }, index) => {
    const y = index * (BAR + 4)
    const middle = y + BAR / 2
    const at = (v: number) => (LABEL + length(v)).toFixed(1)
    const text = `<text x="${LABEL - 6}" y="${y + 12}" text-anchor="end">${escapeText(name)}</text>`
    const bar = `<rect class="bar ${color}" x="${LABEL}" y="${y}" width="${length(value.median).toFixed(1)}" height="${BAR}"/>`
    const whisker = `<line class="whisker" x1="${at(value.low)}" x2="${at(value.high)}" y1="${middle}" y2="${middle}"/>`
    const number = `<text x="${WIDTH}" y="${y + 12}" text-anchor="end">${format(value.median)}</text>`
    return text + bar + (value.count > 1 ? whisker : '') + number
  })
  const note = logarithmic ? `<text x="${LABEL}" y="${height - 2}">logarithmic</text>` : ''
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img">${parts.join('')}${note}</svg>`
}

/** Both axes are logarithmic: counts that double, and runtimes that differ by orders of magnitude. */
export function lineChart(series: Series[]): string {
  const [left, right, top, bottom] = [52, WIDTH - 8, 8, 180]
  const points = series.flatMap((s) => s.points).filter((p) => p.x > 0 && p.y > 0)
  if (points.length === 0) return `<svg viewBox="0 0 ${WIDTH} 20"><text x="0" y="14">not measured</text></svg>`
  const scale = (values: number[], from: number, to: number) => {
    const low = Math.log(Math.min(...values))
    const range = Math.log(Math.max(...values)) - low || 1
    return (value: number) => from + ((Math.log(value) - low) / range) * (to - from)
  }
  const xs = [...new Set(points.map((p) => p.x))].sort((a, b) => a - b)
  const ys = points.map((p) => p.y)
  const x = scale(xs, left, right - 6)
  const y = scale(ys, bottom, top)
  const axes = `<path class="axis" fill="none" d="M${left} ${top}V${bottom}H${right}"/>`
  const xLabels = xs.map((v) => `<text x="${x(v).toFixed(1)}" y="${bottom + 14}" text-anchor="middle">${v}</text>`)
  const yLabels = [Math.min(...ys), Math.max(...ys)].map(
    (v) => `<text x="${left - 4}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end">${format(v)}</text>`,
  )
  const lines = series.map(({ color, points: all }) => {
    const shown = all.filter((p) => p.x > 0 && p.y > 0).map((p) => [x(p.x).toFixed(1), y(p.y).toFixed(1)])
    const dots = shown.map(([cx, cy]) => `<circle class="dot ${color}" cx="${cx}" cy="${cy}" r="2.5"/>`)
    return `<polyline class="line ${color}" points="${shown.map((p) => p.join(',')).join(' ')}"/>${dots.join('')}`
  })
  return `<svg viewBox="0 0 ${WIDTH} ${bottom + 20}" role="img">${axes}${xLabels.join('')}${yLabels.join('')}${lines.join('')}</svg>`
}
