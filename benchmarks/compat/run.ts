/**
 * npm run compat: the same programs natively and in OCI runtimes, and the difference as the result.
 *   --runtime NAME=COMMAND   a runtime to measure (repeatable); default: tssandbox on each platform, runc, runsc; a NAME
 *                            alone is one of these, and `native` nothing but the reference run
 *   --suite NAME             guest, cpython, stress-ng, posix (repeatable; default all)
 *   --only REGEXP            cases whose suite/name matches
 *   --quick                  what CI runs: within 8 minutes
 *   --keep-native            take the native results of the previous run where it has them
 *   --patience N             multiplies each time limit, for a machine that does other work too
 *   --jobs N                 containers side by side (default 1); what does not pass is then run once more, alone
 *   --results FOLDER         where results go; default: results, beside this file
 * Writes latest.json and latest.html; what was not run keeps its previous result. The output of each case that did not
 * pass is in logs/RUNTIME/SUITE. Exit code 2: something passes natively and not in tssandbox.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runCases, stopAll } from './batch.ts'
import { differences, merge } from './compare.ts'
import { htmlPage, terminalSummary } from './page.ts'
import { compatRoot } from './root.ts'
import { bundleRuntime, defaultRuntimes, nativeRuntime, type Runtime, writeSpec } from './runtimes.ts'
import { cpythonSuite } from './suites/cpython.ts'
import { guestSuite } from './suites/guest.ts'
import { posixSuite } from './suites/posix.ts'
import { stressSuite } from './suites/stress.ts'
import type { Case, Report, Result, Status, Suite } from './types.ts'

const TSSANDBOX = join(import.meta.dirname, '../../bin/tssandbox')

const SUITES: Record<string, () => Suite | Promise<Suite | { missing: string }>> = {
  guest: guestSuite,
  cpython: cpythonSuite,
  'stress-ng': stressSuite,
  posix: posixSuite,
}

/** What takes so many times as long as natively hangs, where that is more than the case's own limit. */
const HANGS = 5

const { values } = parseArgs({
  options: {
    runtime: { type: 'string', multiple: true },
    suite: { type: 'string', multiple: true },
    only: { type: 'string', default: '' },
    quick: { type: 'boolean', default: false },
    'keep-native': { type: 'boolean', default: false },
    patience: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '1' },
    results: { type: 'string', default: join(import.meta.dirname, 'results') },
  },
})
const RESULTS = values.results
const LOGS = join(RESULTS, 'logs')

/** The whole output of a case that did not pass, for who wants to know why. */
function keepOutput(folder: string, name: string, status: Status, output: string): void {
  const log = join(folder, `${name.replaceAll('/', '-')}.log`)
  rmSync(log, { force: true })
  if (status === 'pass') return
  mkdirSync(folder, { recursive: true })
  writeFileSync(log, output, 'latin1')
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function chosenRuntimes(): [name: string, commandLine: string][] {
  const known = defaultRuntimes(TSSANDBOX)
  if (!values.runtime) return known
  return values.runtime.flatMap((text) => {
    if (text === 'native') return []
    const at = text.indexOf('=')
    if (at >= 0) return [[text.slice(0, at), text.slice(at + 1)] as [string, string]]
    return [known.find(([name]) => name === text) ?? [text.split('/').at(-1)!, text]]
  })
}

function supportOfCalls(): Record<string, string> {
  const calls: { name: string; support: string }[] = JSON.parse(
    execFileSync(TSSANDBOX, ['syscalls', '--format=json'], { encoding: 'utf8' }),
  )
  return Object.fromEntries(calls.map(({ name, support }) => [name, support]))
}

function commit(): string {
  const git = spawnSync('git', ['describe', '--always', '--dirty'], { cwd: import.meta.dirname, encoding: 'utf8' })
  return git.status === 0 ? git.stdout.trim() : 'unknown'
}

/** The folder of this run; those of runs that were killed go: their mounts went with their mount namespace. */
function workFolder(): string {
  const [base, prefix] = ['/var/tmp', 'tssandbox-compat-']
  for (const name of readdirSync(base)) {
    const pid = new RegExp(`^${prefix}(\\d+)-`).exec(name)?.[1]
    if (pid && !existsSync(`/proc/${pid}`)) rmSync(join(base, name), { recursive: true, force: true })
  }
  return mkdtempSync(join(base, `${prefix}${process.pid}-`))
}

async function main(): Promise<number> {
  if (process.getuid?.() !== 0) {
    say('npm run compat needs root: it mounts root file systems and starts containers.')
    return 1
  }
  const root = compatRoot()
  if ('missing' in root) {
    say(`No root file system to run in: ${root.missing}`)
    return 1
  }
  mkdirSync(RESULTS, { recursive: true })
  const file = join(RESULTS, 'latest.json')
  const previous: Report | null = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null
  const work = workFolder()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      stopAll()
      // What is done is done.
      save()
      rmSync(work, { recursive: true, force: true })
      process.exit(1)
    })
  }
  const spec = writeSpec(TSSANDBOX, work)
  const chosen = chosenRuntimes().map(([name, line]) => bundleRuntime(name, line, spec, work))
  const runtimes: Runtime[] = [nativeRuntime(), ...chosen]
  const report: Report = {
    date: new Date().toISOString(),
    kernel: release(),
    commit: commit(),
    runtimes: {},
    calls: supportOfCalls(),
  }
  for (const { name, version } of runtimes) report.runtimes[name] = { version, results: {} }

  for (const suiteName of values.suite ?? Object.keys(SUITES)) {
    const suite = await SUITES[suiteName]!()
    if ('missing' in suite) {
      say(`${suiteName}: not run: ${suite.missing}`)
      continue
    }
    const only = new RegExp(values.only)
    const cases = suite.cases
      .filter((c) => (!values.quick || c.quick) && only.test(`${suite.name}/${c.name}`))
      .map((c) => ({ ...c, seconds: c.seconds * Number(values.patience) }))
    for (const runtime of runtimes) await runSuite(runtime, suite, cases)
  }

  async function runSuite(runtime: Runtime, suite: Suite, cases: Case[]): Promise<void> {
    const known = previous?.runtimes['native']?.results[suite.name] ?? {}
    const native = report.runtimes['native']!.results[suite.name] ?? {}
    const isNative = runtime.name === 'native'
    // What fails natively says nothing about a runtime: it is not run inside.
    const todo = isNative
      ? cases.filter((c) => !(values['keep-native'] && known[c.name]))
      : cases.flatMap((c) => {
          const reference = native[c.name] ?? known[c.name]
          if (reference?.status !== 'pass') return []
          return [{ ...c, seconds: Math.max(c.seconds, Math.ceil(reference.seconds * HANGS)) }]
        })
    const kept: Record<string, Result> = {}
    report.runtimes[runtime.name]!.results[suite.name] = kept
    if (isNative && values['keep-native']) for (const { name } of cases) if (known[name]) kept[name] = known[name]
    let done = 0
    const results = await runCases(
      {
        runtime,
        root: 'path' in root ? root.path : '',
        work,
        jobs: Math.max(1, Number(values.jobs)),
        onResult(test, result, output) {
          const { status, seconds, detail } = result
          done++
          kept[test.name] = result
          keepOutput(join(LOGS, runtime.name, suite.name), test.name, status, output)
          const line = `${runtime.name} ${suite.name} ${done}/${todo.length} ${test.name} ${status} ${seconds.toFixed(1)} s`
          if (status !== 'pass' && status !== 'skip') say(`${line}  ${detail.slice(0, 300)}`)
          else if (process.stdout.isTTY) process.stdout.write(`\x1b[K${line}\r`)
          else if (seconds > 10 || done % 100 === 0) say(line)
        },
      },
      suite,
      todo,
    )
    report.runtimes[runtime.name]!.results[suite.name] = { ...kept, ...results }
    save()
  }

  function save(): void {
    const merged = merge(previous, report)
    writeFileSync(file, `${JSON.stringify(merged, null, 1)}\n`)
    writeFileSync(join(RESULTS, 'latest.html'), htmlPage(merged, previous))
  }

  rmSync(work, { recursive: true, force: true })
  say(terminalSummary(report, previous))
  const own = Object.keys(report.runtimes).filter((name) => name.startsWith('tssandbox'))
  const native = report.runtimes['native']!.results
  return own.some((name) => differences(native, report.runtimes[name]!.results).length > 0) ? 2 : 0
}

process.exitCode = await main()
