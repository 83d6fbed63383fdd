/** What passes natively and not inside, and what changed since the previous run. */
import type { Report, Results, Status } from './types.ts'

export interface Difference {
  suite: string
  group: string
  /** The case, or case and test inside it. */
  name: string
  status: Status | 'missing'
  detail: string
}

export interface Score {
  /** Cases that pass natively, and how many of them pass inside; the same for the tests inside them. */
  cases: { native: number; inside: number }
  tests: { native: number; inside: number }
}

/** Cases that pass natively but not in these results, and single tests of them where the case lists its tests. */
export function differences(native: Results, inside: Results): Difference[] {
  const found: Difference[] = []
  for (const [suite, cases] of Object.entries(native)) {
    for (const [name, reference] of Object.entries(cases)) {
      const result = inside[suite]?.[name]
      if (result === undefined) continue
      const { group } = reference
      if (reference.status === 'pass' && result.status !== 'pass')
        found.push({ suite, group, name, status: result.status, detail: result.detail })
      if (!reference.tests || !result.tests) continue
      for (const [test, status] of Object.entries(result.tests.others)) {
        if (reference.tests.others[test] !== undefined) continue
        found.push({ suite, group, name: `${name} › ${test}`, status, detail: '' })
      }
    }
  }
  return found
}

export function scores(native: Results, inside: Results): Record<string, Score> {
  const result: Record<string, Score> = {}
  for (const [suite, cases] of Object.entries(native)) {
    if (inside[suite] === undefined) continue
    const score: Score = { cases: { native: 0, inside: 0 }, tests: { native: 0, inside: 0 } }
    for (const [name, reference] of Object.entries(cases)) {
      const got = inside[suite][name]
      if (got === undefined) continue
      if (reference.status === 'pass') {
        score.cases.native++
        if (got.status === 'pass') score.cases.inside++
      }
      score.tests.native += reference.tests?.passed ?? 0
      score.tests.inside += got.tests?.passed ?? 0
    }
    result[suite] = score
  }
  return result
}

/** Cases whose status is not what it was, of one runtime. */
export function changes(before: Results | undefined, now: Results): { name: string; was: Status; is: Status }[] {
  const found: { name: string; was: Status; is: Status }[] = []
  for (const [suite, cases] of Object.entries(now)) {
    for (const [name, { status }] of Object.entries(cases)) {
      const was = before?.[suite]?.[name]?.status
      if (was !== undefined && was !== status) found.push({ name: `${suite}/${name}`, was, is: status })
    }
  }
  return found
}

/** This run over the previous one: what was not run again keeps its result. */
export function merge(previous: Report | null, current: Report): Report {
  const merged: Report = structuredClone(current)
  for (const [name, { version, results }] of Object.entries(previous?.runtimes ?? {})) {
    const target = (merged.runtimes[name] ??= { version, results: {} })
    for (const [suite, cases] of Object.entries(results)) target.results[suite] = { ...cases, ...target.results[suite] }
  }
  return merged
}
