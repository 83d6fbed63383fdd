/** Columns padded with spaces and without borders, as runc prints them. */
import Table from 'cli-table3'

const NO_BORDERS = Object.fromEntries(
  [
    ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
    ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'],
  ].map((part) => [part, '']),
)

export function table(rows: string[][]): string {
  const t = new Table({ chars: NO_BORDERS, style: { 'padding-left': 0, 'padding-right': 3, head: [], border: [] } })
  t.push(...rows)
  return `${t.toString().replace(/ +$/gm, '')}\n`
}
