/** The last line of `npm test` is what CI reads: it must count failed checks and never report an empty run as a success. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const dir = mkdtempSync(join(tmpdir(), 'summary-'))

function closing(summary: object | undefined, ...args: string[]): { last: string; code: number | null } {
  const file = join(dir, `${Math.random()}.json`)
  if (summary) writeFileSync(file, JSON.stringify(summary))
  const { stdout, status } = spawnSync(process.execPath, ['scripts/test-summary.mjs', file, ...args], {
    encoding: 'utf8',
  })
  return { last: stdout.trim().split('\n').at(-1) ?? '', code: status }
}

describe('closing line', () => {
  it('counts tests', () => {
    const summary = { passed: 3, failures: [], skips: [{ name: 'a', reason: 'no docker' }] }
    expect(closing(summary, '0')).toEqual({ last: '3 passed, 0 failed, 1 skipped', code: 0 })
  })
  it('counts a failed check as a failure', () => {
    expect(closing({ passed: 3, failures: [], skips: [] }, '0', 'tsc')).toEqual({
      last: '3 passed, 1 failed, 0 skipped',
      code: 1,
    })
  })
  it('counts a run that died or ran nothing as a failure', () => {
    expect(closing(undefined, '1')).toEqual({ last: '0 passed, 1 failed, 0 skipped', code: 1 })
    expect(closing({ passed: 0, failures: [], skips: [] }, '0')).toEqual({
      last: '0 passed, 1 failed, 0 skipped',
      code: 1,
    })
  })
})
