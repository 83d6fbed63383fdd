/**
 * npm run bench: what a sandbox costs, beside the same natively and in the other runtimes that are installed. In each
 * round every way has its turn, beginning with another one, so that a busy moment of the machine hits all alike.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release } from 'node:os'
import { join } from 'node:path'
import { enterCpuGroup, removeCgroups } from './cgroup.ts'
import type { Context } from './inside.ts'
import { type Options, parseOptions } from './options.ts'
import { htmlPage } from './page.ts'
import { Progress } from './progress.ts'
import { benchRoot, compileMicro, mountRoot, unmountAll, unmountRoot } from './roots.ts'
import { median } from './statistics.ts'
import { resultsPage, terminal } from './table.ts'
import { chooseTasks, TASKS, type Task, unknownNames } from './tasks.ts'
import type { Report, Row } from './types.ts'
import { type Candidate, candidates, LARGEST_SHARES, makeWay, stopAll, type Way } from './ways.ts'

const HERE = import.meta.dirname
const RESULTS = join(HERE, 'results')
const ROUNDS = { whole: 5, quick: 2 }
/** The CPU weight that a cgroup has unless told otherwise. */
const USUAL_SHARES = 1024
const PROBE_SECONDS = 15

let counter = 0
const nextId = () => `bench-${process.pid}-${counter++}`

function chosenWays(options: Options): Candidate[] {
  const added = options.runtime.map((text) => {
    const at = text.indexOf('=')
    return { name: text.slice(0, at), commandLine: text.slice(at + 1) }
  })
  const wanted = (name: string) => options.ways.length === 0 || options.ways.some((part) => name.includes(part))
  return [...candidates().filter(({ name }) => wanted(name)), ...added]
}

/** Runs `true`, so that a way which does not work here is named once instead of failing row by row. */
async function whyUnusable(way: Way, work: string, lower: string): Promise<string | null> {
  const id = nextId()
  const root = mountRoot(work, id, lower)
  const child = way.start(root, ['/bench/micro', 'true'], id)
  let error = ''
  child.stderr!.setEncoding('latin1').on('data', (text: string) => {
    error += text
  })
  let late = false
  const timer = setTimeout(() => {
    late = true
    way.stop(id, child)
  }, PROBE_SECONDS * 1000)
  const code = await new Promise<number | null | string>((resolve) => {
    child.once('error', (problem) => resolve(problem.message))
    child.once('close', resolve)
  })
  clearTimeout(timer)
  if (code !== 0) {
    way.stop(id, child)
    removeCgroups(id)
  }
  unmountRoot(work, id)
  if (code === 0) return null
  if (late) return `\`true\` did not end within ${PROBE_SECONDS} s`
  if (String(code).includes('ENOENT') || code === 127) return 'not installed'
  return error.trim().split('\n').at(-1)?.slice(0, 200) || `\`true\` ended with ${code}`
}

/** `onRow` is called once for each row, as soon as there is a first result of it. */
async function measureTask(
  task: Task,
  way: Way,
  report: Report,
  context: Omit<Context, 'value' | 'failure'>,
  onRow: (row: Row) => void,
) {
  const unheard = new Set(task.rows)
  const heard = (row: Row) => {
    if (unheard.delete(row)) onRow(row)
  }
  const found = new Map<Row, number[]>(task.rows.map((row) => [row, []]))
  const failed = new Set<Row>()
  const failure = (row: Row, reason: string) => {
    failed.add(row)
    heard(row)
    if (!report.failures.some((f) => f.way === way.name && f.row === row.name))
      report.failures.push({ way: way.name, row: row.name, reason: reason.slice(0, 300) })
  }
  const value = (row: Row, figure: number) => {
    found.get(row)!.push(figure)
    heard(row)
  }
  try {
    await task.measure(way, task.rows, { ...context, value, failure })
  } catch (error) {
    for (const [row, figures] of found) if (figures.length === 0) failure(row, (error as Error).message)
  }
  for (const row of unheard) heard(row)
  for (const [row, figures] of found) {
    const known = figures.length > 0 && !failed.has(row)
    ;((report.values[way.name]![row.name] ??= []) as (number | null)[]).push(known ? median(figures) : null)
  }
}

function describe(options: Options, rounds: number): Omit<Report, 'rows' | 'ways' | 'missing'> {
  const commit = execFileSync('git', ['-C', HERE, 'describe', '--always', '--dirty'], { encoding: 'utf8' }).trim()
  const load = loadavg()[0]!.toFixed(1)
  const special = [
    options.busy && 'all cores busy with other work',
    options.priority && 'with the highest priority',
  ].filter(Boolean)
  return {
    date: new Date().toISOString(),
    machine: `${cpus().length} × ${cpus()[0]?.model.trim()}, Linux ${release()}`,
    commit,
    conditions: [`${rounds} rounds in turn`, ...special, `load average before: ${load}`].join(', '),
    busy: options.busy,
    values: {},
    failures: [],
  }
}

function startHogs(micro: string): ChildProcess[] {
  return Array.from({ length: availableParallelism() }, () => spawn(micro, ['hog'], { stdio: 'ignore' }))
}

function listAll(): void {
  for (const row of TASKS.flatMap((task) => task.rows))
    console.log(`${row.group.padEnd(6)} ${row.name.padEnd(22)} ${row.unit.padEnd(13)} ${row.title}`)
  console.log(
    `\nways: ${candidates()
      .map((c) => c.name)
      .join(', ')}`,
  )
}

function write(report: Report, whole: boolean): void {
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(join(RESULTS, 'latest.json'), `${JSON.stringify(report)}\n`)
  writeFileSync(join(RESULTS, 'latest.html'), htmlPage(report))
  if (whole) writeFileSync(join(HERE, 'RESULTS.md'), resultsPage(report))
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2))
  if (options.list) {
    listAll()
    return 0
  }
  if (process.getuid?.() !== 0) {
    console.error('npm run bench needs root: it mounts root file systems and starts containers.')
    return 1
  }
  if (options.busy && options.priority) {
    console.error('--busy and --priority contradict each other')
    return 1
  }
  const unknown = unknownNames(options.rows)
  if (unknown.length > 0) {
    console.error(`no such row: ${unknown.join(', ')} (--list shows all)`)
    return 1
  }
  const tasks = chooseTasks(options.groups, options.rows, options.quick)
  const root = benchRoot(tasks.some((task) => task.programs))
  if ('missing' in root) {
    console.error(`no root file system to run in: ${root.missing}`)
    return 1
  }
  const rounds = options.rounds ?? (options.quick ? ROUNDS.quick : ROUNDS.whole)
  const work = mkdtempSync('/var/tmp/tssandbox-bench-')
  const report: Report = {
    ...describe(options, rounds),
    rows: tasks.flatMap((task) => task.rows),
    ways: [],
    missing: [],
  }
  const context = { work, lower: root.path, quick: options.quick, nextId }
  const group = enterCpuGroup(`tssandbox-bench-${process.pid}`, options.priority ? LARGEST_SHARES : USUAL_SHARES)
  let hogs: ChildProcess[] = []
  const cleanUp = () => {
    for (const hog of hogs) hog.kill('SIGKILL')
    stopAll()
    unmountAll(work)
    group.leave()
    rmSync(work, { recursive: true, force: true })
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      cleanUp()
      process.exit(1)
    })
  try {
    const micro = compileMicro(work)
    const ways: Way[] = []
    for (const candidate of chosenWays(options)) {
      const way = makeWay(candidate, work, options.priority)
      const reason = await whyUnusable(way, work, root.path)
      if (reason) {
        report.missing.push({ name: way.name, reason })
        continue
      }
      ways.push(way)
      report.ways.push({ name: way.name, version: way.version })
      report.values[way.name] = {}
    }
    if (options.busy) hogs = startHogs(micro)
    for (const hog of hogs) group.expel(hog.pid!)
    const progress = new Progress(
      tasks.reduce((sum, task) => sum + Math.min(rounds, task.maxRounds) * ways.length * task.rows.length, 0),
    )
    for (let round = 0; round < rounds; round++) {
      for (const task of tasks.filter((t) => round < t.maxRounds))
        for (let turn = 0; turn < ways.length; turn++) {
          const way = ways[(turn + round) % ways.length]!
          const where = `round ${round + 1}/${rounds} ${way.name}`
          progress.show(`${where} ${task.rows[0]!.name}`)
          await measureTask(task, way, report, context, (row) => {
            progress.advance()
            progress.show(`${where} ${row.name}`)
          })
        }
      if (options.write) write(report, false) // what is known so far, should the rest be interrupted
    }
    progress.end()
  } finally {
    cleanUp()
  }
  console.log(options.json ? JSON.stringify(report) : terminal(report, process.stdout.columns ?? 120))
  const whole = options.rows.length + options.groups.length + options.ways.length === 0
  if (options.write) write(report, whole && !options.quick && !options.busy)
  return report.failures.length > 0 ? 2 : 0
}

process.exitCode = await main()
