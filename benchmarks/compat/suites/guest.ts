/** The project's own guest programs: small C programs, each a list of tests that print `ok NAME` or `FAIL NAME…`. */
import { copyFileSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build, guestPrograms } from '../../../test/support/guest.ts'
import { CACHE } from '../../../test/support/roots.ts'
import { type Case, countTests, type Status, type Suite } from '../types.ts'

const WHERE = 'opt/guest'
const SECONDS = 120

export async function guestSuite(): Promise<Suite> {
  const layer = join(CACHE, 'compat-guest')
  rmSync(layer, { recursive: true, force: true })
  mkdirSync(join(layer, WHERE), { recursive: true })
  const cases: Case[] = []
  for (const program of guestPrograms()) {
    await build(program)
    copyFileSync(program.path, join(layer, WHERE, program.name))
    const command = `exec /${WHERE}/${program.name}`
    cases.push({ name: program.name, group: program.name.replace(/-pie$/, ''), command, seconds: SECONDS, quick: true })
  }
  return {
    name: 'guest',
    cases,
    layer,
    judge(_test, code, output) {
      const tests: Record<string, Status> = {}
      for (const [, word, name] of output.matchAll(/^(ok|FAIL) (\w+)(?:$|: hangs|: killed)/gm)) {
        tests[name!] = word === 'ok' ? 'pass' : 'fail'
      }
      const bad = Object.keys(tests).filter((name) => tests[name] !== 'pass')
      const status = code === 0 ? 'pass' : code === 124 || code === 137 ? 'late' : 'fail'
      return {
        status,
        detail: status === 'pass' ? '' : `exit code ${code}: ${bad.join(', ')}`,
        tests: countTests(tests),
      }
    },
  }
}
