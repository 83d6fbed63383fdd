/** Medians, spreads and ratios over rounds. A round without a figure (null) is left out. */
import type { Values } from './types.ts'

export interface Spread {
  median: number
  low: number
  high: number
  count: number
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return Number.NaN
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Null where nothing was measured. */
export function spread(values: Values | undefined): Spread | null {
  const known = (values ?? []).filter((value) => value !== null)
  if (known.length === 0) return null
  return { median: median(known), low: Math.min(...known), high: Math.max(...known), count: known.length }
}

/**
 * How many times `base` the values are. The figure is the ratio of the medians; low and high are the ratios within single
 * rounds, where both met the same state of the machine. Null where either is missing or the base is 0.
 */
export function ratio(values: Values | undefined, base: Values | undefined): Spread | null {
  const top = spread(values)
  const bottom = spread(base)
  if (!top || !bottom || bottom.median === 0) return null
  const figure = top.median / bottom.median
  const paired = values!.flatMap((value, round) => {
    const other = base![round]
    return value === null || other === null || !other ? [] : [value / other]
  })
  return {
    median: figure,
    low: Math.min(figure, ...paired),
    high: Math.max(figure, ...paired),
    count: paired.length,
  }
}

/** Three significant digits at most, thousands in groups. */
export function format(value: number): string {
  if (!Number.isFinite(value)) return '–'
  const size = Math.abs(value)
  if (size >= 100) return Math.round(value).toLocaleString('en')
  return value.toFixed(size >= 10 ? 1 : 2)
}

/** The figure, and in brackets how far the rounds went; one round has no spread. */
export function withSpread({ median, low, high, count }: Spread, unit = ''): string {
  return `${format(median)}${unit}${count > 1 ? ` (${format(low)}–${format(high)})` : ''}`
}
