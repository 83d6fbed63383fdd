/**
 * The part of `npm run compat` that is short: CPython's tests, stress-ng's stressors and the POSIX tests that are quick,
 * natively and on systrap. Whatever passes natively passes inside, or this fails.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { differences } from '../../benchmarks/compat/compare.ts'
import { compatRoot } from '../../benchmarks/compat/root.ts'
import type { Report } from '../../benchmarks/compat/types.ts'

const RUNTIME = 'tssandbox-systrap'
const RUN = join(import.meta.dirname, '../../benchmarks/compat/run.ts')
const why = process.getuid?.() === 0 ? '' : 'not root'

describe.skipIf(why)(`compatibility, the short run ${why}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'compat-'))
  afterAll(() => rmSync(folder, { recursive: true }))
  // Fetches what the suites need the first time.
  beforeAll(() => expect(compatRoot()).toHaveProperty('path'), 900_000)

  it.each(['cpython', 'stress-ng', 'posix'])('%s', { timeout: 900_000 }, (suite) => {
    const args = ['--quick', '--suite', suite, '--runtime', RUNTIME, '--jobs', '2', '--results', folder]
    // As scripts/compat.sh does, but for the set-up, which is done: the mounts of a run that is killed end with it.
    const own = ['--mount', '--propagation', 'private', process.execPath, RUN]
    const run = spawnSync('unshare', [...own, ...args], { encoding: 'utf8', timeout: 890_000 })
    expect([0, 2], run.stderr).toContain(run.status)
    const { runtimes }: Report = JSON.parse(readFileSync(join(folder, 'latest.json'), 'utf8'))
    const native = { [suite]: runtimes['native']!.results[suite]! }
    expect(Object.values(native[suite]!).filter(({ status }) => status === 'pass').length).toBeGreaterThan(5)
    expect(differences(native, runtimes[RUNTIME]!.results)).toEqual([])
  })
})
