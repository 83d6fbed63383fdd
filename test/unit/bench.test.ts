/** The pure parts of `npm run bench`: statistics, choice of rows, verdicts about the targets, tables. */
import { describe, expect, test } from 'vitest'
import { barChart, lineChart } from '../../benchmarks/charts.ts'
import { parseOptions } from '../../benchmarks/options.ts'
import { htmlPage } from '../../benchmarks/page.ts'
import { format, median, ratio, spread, withSpread } from '../../benchmarks/statistics.ts'
import { aligned, cell, markdown, resultsPage, terminal } from '../../benchmarks/table.ts'
import { judge } from '../../benchmarks/targets.ts'
import { chooseTasks, TASKS, unknownNames } from '../../benchmarks/tasks.ts'
import type { Report, Row, Values } from '../../benchmarks/types.ts'

const row = (name: string, fields: Partial<Row> = {}): Row => ({
  name,
  group: 'micro',
  title: `title of ${name}`,
  unit: 'ns',
  better: 'lower',
  limit: 1,
  ...fields,
})

function report(rows: Row[], values: Record<string, Record<string, Values>>, fields: Partial<Report> = {}): Report {
  return {
    date: '2026-01-02T03:04:05.000Z',
    machine: 'a machine',
    commit: 'abc',
    conditions: '2 rounds',
    busy: false,
    rows,
    ways: Object.keys(values).map((name) => ({ name, version: '1' })),
    missing: [],
    values,
    failures: [],
    ...fields,
  }
}

describe('statistics', () => {
  test('the median of an even number lies between the middle two', () => {
    expect([median([3, 1, 2]), median([4, 1, 3, 2])]).toEqual([2, 2.5])
    expect(median([])).toBeNaN()
  })
  test('rounds without a figure are left out', () => {
    expect(spread([null, 4, 2])).toEqual({ median: 3, low: 2, high: 4, count: 2 })
    expect(spread([null])).toBeNull()
    expect(spread(undefined)).toBeNull()
  })
  test('a ratio is of the medians, its spread of single rounds', () => {
    expect(ratio([10, 40, null], [5, 10, 1])).toEqual({ median: 5, low: 2, high: 5, count: 2 })
    expect(ratio([1], [0])).toBeNull()
    expect(ratio([1], undefined)).toBeNull()
  })
  test('numbers are as exact as they are worth', () => {
    expect([0.123, 9.99, 12.34, 1234567, Number.NaN].map(format)).toEqual(['0.12', '9.99', '12.3', '1,234,567', '–'])
    expect(withSpread({ median: 2, low: 1, high: 3, count: 1 })).toBe('2.00')
    expect(withSpread({ median: 2, low: 1, high: 3, count: 2 }, ' MB')).toBe('2.00 MB (1.00–3.00)')
  })
})

describe('choice', () => {
  const names = (...choice: Parameters<typeof chooseTasks>) =>
    chooseTasks(...choice).flatMap((task) => task.rows.map((r) => r.name))
  test('rows by name, by beginning and by group', () => {
    expect(names([], ['stat', 'idle-*'], false)).toEqual(['stat', 'idle-cpu', 'idle-rss', 'idle-pss'])
    expect(names(['idle'], [], true)).toEqual(['idle-cpu', 'idle-rss', 'idle-pss', 'process-pss'])
    expect(names([], [], true)).not.toContain('compile')
    expect(names([], [], false)).toContain('compile')
    expect(unknownNames(['stat', 'nonsense', 'x*'])).toEqual(['nonsense', 'x*'])
  })
  test('no two rows have the same name', () => {
    const all = TASKS.flatMap((task) => task.rows.map((r) => r.name))
    expect(new Set(all).size).toBe(all.length)
  })
  test('options', () => {
    const options = parseOptions(['-r', 'stat,pipe', '-w', 'native', '--runtime', 'x=y z', '-n', '3', '--no-write'])
    expect(options).toMatchObject({ rows: ['stat', 'pipe'], ways: ['native'], runtime: ['x=y z'], rounds: 3 })
    expect(options).toMatchObject({ quick: false, busy: false, write: false })
  })
})

describe('targets', () => {
  const values = {
    native: { getppid: [100, 100], memory: [1000, 1000], stat: [10, 10] },
    'runsc-ptrace': { stat: [600, 600] },
    'tssandbox-ptrace': { getppid: [1000, 1000], memory: [1000, 1000], stat: [100, 100] },
    'tssandbox-systrap': { getppid: [200, 400], memory: [800, 800], stat: [100, 100], 'idle-rss': [90, 110] },
  }
  const rows = [row('getppid'), row('memory', { better: 'higher' }), row('stat'), row('pipe')]
  test('each is a ratio to its base', () => {
    const verdicts = judge(report([...rows, row('idle-rss', { group: 'idle', unit: 'MB' })], values))
    expect(verdicts.map((j) => [j.row, j.target, j.reached, j.verdict])).toEqual([
      ['getppid', '≤ 3 × native', '3.00 × (2.00–4.00)', 'met'],
      ['stat', '≤ 1/6 × runsc-ptrace', '0.17 × (0.17–0.17)', 'met'],
      ['pipe', '≤ 1/5 × runsc-ptrace', '–', 'not measured'],
      ['memory', '≥ 0.91 × native', '0.80 × (0.80–0.80)', 'missed'],
      ['idle-rss', '≤ 100 MB', '100 MB (90.0–110)', 'met'],
    ])
  })
  test('with busy cores the ptrace platform is the base of all micro rows', () => {
    const verdicts = judge(report(rows, values, { busy: true }))
    expect(verdicts.map((j) => [j.row, j.target, j.verdict])).toEqual([
      ['getppid', '≤ 1.2 × tssandbox-ptrace', 'met'],
      ['memory', '≥ 0.83 × tssandbox-ptrace', 'missed'],
      ['stat', '≤ 1.2 × tssandbox-ptrace', 'met'],
      ['pipe', '≤ 1.2 × tssandbox-ptrace', 'not measured'],
    ])
  })
})

describe('tables', () => {
  const failures = [{ way: 'runc', row: 'pipe', reason: 'no result after 40 s' }]
  const one = report(
    [row('stat'), row('pipe')],
    { native: { stat: [10, 20], pipe: [5] }, runc: { stat: [30, 30] } },
    { failures },
  )
  test('a cell has the value and how many times native it is', () => {
    expect(cell(one, one.rows[0]!, 'native')).toBe('15.0')
    expect(cell(one, one.rows[0]!, 'runc')).toBe('30.0 ×2.00 (1.50–3.00)')
    expect(cell(one, one.rows[1]!, 'runc')).toBe('failed')
  })
  test('columns stand under each other', () => {
    expect(
      aligned([
        ['a', 'bb'],
        ['ccc', 'd'],
      ]),
    ).toBe('a    bb\nccc   d')
    expect(
      markdown([
        ['a', 'b'],
        ['c', 'd'],
      ]),
    ).toBe('| a | b |\n|---|---:|\n| c | d |')
  })
  test('what failed is told, in any width', () => {
    for (const width of [10, 200]) expect(terminal(one, width)).toContain('Failed: runc pipe: no result after 40 s')
    expect(resultsPage(one)).toContain('| stat (ns) | 15.0 | 30.0 ×2.00 (1.50–3.00) |')
  })
})

describe('page', () => {
  const rows = [
    row('stat', { title: 'stat of <a>' }),
    row('threads-1', { group: 'scale' }),
    row('threads-2', { group: 'scale' }),
  ]
  const values = {
    native: { stat: [1, 3], 'threads-1': [10], 'threads-2': [20] },
    'a&b': { stat: [400, 500], 'threads-1': [5] },
  }
  const page = htmlPage(report(rows, values))
  test('needs nothing but itself', () => {
    expect(page).not.toMatch(/<script|<link|<img|(src|href)=|url\(|https?:/)
  })
  test('has a chart for each row, and one for rows that are points of a line', () => {
    expect(page.match(/<svg/g)).toHaveLength(2)
    expect(page.match(/<circle/g)).toHaveLength(3)
  })
  test('texts are escaped', () => {
    expect(page).toContain('stat of &lt;a&gt;')
    expect(page).toContain('a&amp;b')
    expect(page).not.toContain('a&b')
  })
  test('its tags are balanced', () => {
    for (const tag of ['table', 'tr', 'td', 'th', 'div', 'figure', 'svg', 'text', 'h2', 'p'])
      expect([tag, page.match(new RegExp(`<${tag}[ >]`, 'g'))?.length]).toEqual([
        tag,
        page.match(new RegExp(`</${tag}>`, 'g'))?.length,
      ])
  })
  test('coordinates are numbers, whatever the values', () => {
    const odd = { median: 0, low: 0, high: 0, count: 2 }
    const charts = [
      barChart([]),
      barChart([{ name: 'x', color: 'native', value: odd }]),
      lineChart([]),
      lineChart([{ name: 'x', color: 'w0', points: [{ x: 1, y: 0 }] }]),
      lineChart([{ name: 'x', color: 'w0', points: [{ x: 1, y: 7 }] }]),
    ]
    expect(charts.join('')).not.toMatch(/NaN|Infinity/)
  })
  test('bars of values that are far apart have a logarithmic axis', () => {
    const bar = (median: number) => ({ name: 'x', color: 'w0', value: { median, low: median, high: median, count: 1 } })
    expect(barChart([bar(1), bar(19)])).not.toContain('logarithmic')
    expect(barChart([bar(1), bar(400)])).toContain('logarithmic')
  })
})
