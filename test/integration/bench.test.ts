/** `npm run bench` on a tiny selection, and what it does when a row hangs, fails or takes the container down. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { runInside } from '../../benchmarks/inside.ts'
import { htmlPage } from '../../benchmarks/page.ts'
import { benchRoot } from '../../benchmarks/roots.ts'
import type { Report, Row } from '../../benchmarks/types.ts'
import type { Way } from '../../benchmarks/ways.ts'

const root = process.getuid?.() === 0 ? benchRoot(false) : { missing: 'needs root' }
const why = 'missing' in root ? root.missing : ''

describe.skipIf(why)(`bench ${why}`, () => {
  test('a tiny selection of rows, natively and in tssandbox', { timeout: 180_000 }, () => {
    const platform = process.env['TSSANDBOX_TEST_PLATFORM'] ?? 'systrap'
    const rows = ['getppid', 'pipe', 'start', 'exec', 'threads-2', 'containers-2-memory']
    const options = ['-r', rows.join(), '-w', `native,tssandbox-${platform}`, '-n', '1', '--no-write', '--json']
    const run = spawnSync('node', ['benchmarks/run.ts', ...options], { encoding: 'utf8', timeout: 170_000 })
    expect([run.status, run.status === 0 ? '' : run.stderr + run.stdout]).toEqual([0, ''])
    const report: Report = JSON.parse(run.stdout)
    expect(report.ways.map((way) => way.name)).toEqual(['native', `tssandbox-${platform}`])
    for (const name of rows)
      expect([name, report.values[`tssandbox-${platform}`]![name]![0]]).toEqual([name, expect.any(Number)])
    expect(report.values['native']!['getppid']![0]).toBeGreaterThan(1)
    expect(htmlPage(report)).toContain('<svg')
  })

  test('a row that hangs, fails or ends the container is told, and the others are measured', async () => {
    const script = `for row; do echo "start $row"; case $row in
      hang) exec sleep 100;; fail) echo "fail fail because";; die) echo oops >&2; exit 3;; odd) echo "odd x";; *) echo "$row 5";; esac; done`
    const stopped: string[] = []
    const fake: Way = {
      name: 'fake',
      version: '',
      startedByClient: false,
      start: (_root, argv) => spawn('sh', ['-c', script, 'sh', ...argv], { stdio: ['ignore', 'pipe', 'pipe'] }),
      command: () => [],
      exec: () => null,
      stop(id, child) {
        stopped.push(id)
        child?.kill('SIGKILL')
      },
    }
    const names = ['one', 'hang', 'two', 'fail', 'die', 'odd', 'three']
    const rows = names.map((name): Row => ({ name, group: 'micro', title: '', unit: 'ns', better: 'lower', limit: 1 }))
    const work = mkdtempSync('/var/tmp/tssandbox-bench-test-')
    const lower = join(work, 'lower')
    mkdirSync(lower)
    writeFileSync(join(work, 'micro'), '')
    const results: Record<string, number | string> = {}
    let id = 0
    try {
      await runInside(fake, rows, (left) => left.map((r) => r.name), {
        work,
        lower,
        quick: true,
        nextId: () => `bench-test-${process.pid}-${id++}`,
        value: (row, value) => (results[row.name] = value),
        failure: (row, reason) => (results[row.name] = reason),
      })
    } finally {
      rmSync(work, { recursive: true, force: true })
    }
    expect(results).toEqual({
      one: 5,
      hang: 'no result after 1 s',
      two: 5,
      fail: 'because',
      die: 'the container ended: oops',
      odd: 'not a number: odd x',
      three: 5,
    })
    expect(new Set(stopped).size).toBe(3)
  })
})
