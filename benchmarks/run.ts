/**
 * npm run bench: what a sandbox costs, beside the same native and under runc and runsc where they are installed. Rounds
 * are interleaved, so that a busy moment of the machine hits all alike; each figure is the median over the rounds.
 * Prints a table, rewrites benchmarks/RESULTS.md and keeps the raw figures in benchmarks/results/.
 */
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 5)
const HERE = import.meta.dirname
const ROOT = join(HERE, '..')
const MICRO = ['getppid', 'read64', 'write64', 'stat', 'open+close', 'pipe', 'fork+exit+wait', 'fork+exec+wait']
const ROWS = ['start to exit of true (ms)', 'idle container (MB resident)', ...MICRO.map((name) => `${name} (ns)`)]

/** One way to run the micro benchmark: natively or under a runtime that takes bundles. */
interface Way {
  name: string
  /** Runs `micro ARGS` and waits. */
  command(args: string[], id: string): string[]
  /** Removes what a killed run left behind. */
  remove?(id: string): string[]
}

const work = mkdtempSync(join(tmpdir(), 'tssandbox-bench-'))
const bundle = join(work, 'bundle')
const micro = join(bundle, 'rootfs/micro')

function installed(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0
}

/** A runtime whose command line is runc's: the arguments go into the bundle's config.json. */
function bundled(name: string, program: string, flags: string[] = []): Way {
  const base = [program, ...flags]
  return {
    name,
    command(args, id) {
      const file = join(bundle, 'config.json')
      const config = JSON.parse(readFileSync(file, 'utf8'))
      config.process.args = ['/micro', ...args]
      config.process.terminal = false
      config.root.readonly = false
      writeFileSync(file, JSON.stringify(config))
      return [...base, 'run', '--bundle', bundle, id]
    },
    remove: (id) => [...base, 'delete', '--force', id],
  }
}

function setUp(): Way[] {
  mkdirSync(join(bundle, 'rootfs/tmp'), { recursive: true })
  execFileSync('cc', ['-O2', '-static', '-o', micro, join(HERE, 'micro.c')], { stdio: 'inherit' })
  const tssandbox = join(ROOT, 'bin/tssandbox')
  execFileSync(tssandbox, ['spec', '--bundle', bundle])
  const ways: Way[] = [{ name: 'native', command: (args) => [micro, ...args] }]
  if (installed('runc')) ways.push(bundled('runc', 'runc'))
  if (installed('runsc')) ways.push(bundled('runsc', 'runsc', ['--network=none']))
  for (const platform of (process.env['BENCH_PLATFORMS'] ?? 'systrap,ptrace').split(',')) {
    ways.push(bundled(`tssandbox ${platform}`, tssandbox, [`--platform=${platform}`]))
  }
  return ways
}

const exec = promisify(execFile)
let nextId = 0

async function timed(way: Way): Promise<number> {
  const [program, ...args] = way.command(['true'], `bench-${process.pid}-${nextId++}`)
  const start = process.hrtime.bigint()
  await exec(program!, args)
  return Number(process.hrtime.bigint() - start) / 1e6
}

async function operations(way: Way): Promise<Map<string, number>> {
  const [program, ...args] = way.command([], `bench-${process.pid}-${nextId++}`)
  const { stdout } = await exec(program!, args, { timeout: 120_000 })
  return new Map(
    stdout
      .trim()
      .split('\n')
      .map((line) => [`${line.split(' ')[0]} (ns)`, Number(line.split(' ')[1])]),
  )
}

/** Resident memory of the processes that a container consists of; the command line that started it does not count. */
async function idleMemory(way: Way): Promise<number> {
  const id = `bench-${process.pid}-${nextId++}`
  const [program, ...args] = way.command(['idle'], id)
  const child = spawn(program!, args, { stdio: 'ignore' })
  await new Promise((resolve) => setTimeout(resolve, 1500))
  const members = descendants(child.pid!)
  const counted = way.remove ? members.filter((pid) => pid !== child.pid) : members
  const kilobytes = counted.reduce((sum, pid) => sum + resident(pid), 0)
  const ended = new Promise((resolve) => child.once('exit', resolve))
  if (way.remove) spawnSync(way.remove(id)[0]!, way.remove(id).slice(1), { stdio: 'ignore' })
  else child.kill('SIGKILL')
  await ended
  return kilobytes / 1024
}

function descendants(root: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // It ended meanwhile.
    }
  }
  const found = [root]
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child)
  return found
}

/** Pages shared between processes count for each of them: an upper bound of what the container takes. */
function resident(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

const format = (value: number): string => {
  if (Number.isNaN(value)) return '–'
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(1)
}

function table(ways: Way[], results: Map<string, Map<string, number[]>>): string {
  const lines = [`| | ${ways.map((w) => w.name).join(' | ')} |`, `|---|${ways.map(() => '---:').join('|')}|`]
  for (const row of ROWS) {
    const base = median(results.get('native')?.get(row) ?? [])
    const cells = ways.map(({ name }) => {
      const value = median(results.get(name)?.get(row) ?? [])
      const ratio = name === 'native' || row.startsWith('idle') ? '' : ` (×${(value / base).toFixed(1)})`
      return Number.isNaN(value) ? '–' : `${format(value)}${ratio}`
    })
    lines.push(`| ${row} | ${cells.join(' | ')} |`)
  }
  return lines.join('\n')
}

const loadBefore = loadavg()[0]!.toFixed(1)
const ways = setUp()
const results = new Map(ways.map(({ name }) => [name, new Map<string, number[]>()]))
const failures = new Set<string>()
try {
  for (let round = 0; round < ROUNDS; round++) {
    for (const way of ways) {
      const add = (row: string, value: number) => {
        const rows = results.get(way.name)!
        rows.set(row, [...(rows.get(row) ?? []), value])
      }
      try {
        for (let i = 0; i < 3; i++) add(ROWS[0]!, await timed(way))
        if (round < 2) add(ROWS[1]!, await idleMemory(way))
        for (const [row, value] of await operations(way)) add(row, value)
      } catch (error) {
        failures.add(`${way.name}: ${(error as Error).message.split('\n').slice(0, 3).join(' ')}`)
      }
    }
    process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`)
  }
} finally {
  rmSync(work, { recursive: true, force: true })
}

const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, Linux ${release()}`
const missing = ['runc', 'runsc'].filter((program) => !ways.some(({ name }) => name === program))
const notes = [
  `${machine}; ${new Date().toISOString().slice(0, 10)}; medians of ${ROUNDS} interleaved rounds; load average before: ${loadBefore}.`,
  'Memory is the sum of the resident sets of all processes of the container, without the command that started it.',
  ...(missing.length > 0 ? [`Not installed, so not measured: ${missing.join(', ')}.`] : []),
  ...[...failures].map((line) => `Failed: ${line}`),
]
const text = table(ways, results)
console.log(`${text}\n\n${notes.join('\n')}`)
writeFileSync(
  join(HERE, 'RESULTS.md'),
  `# Benchmarks\n\n\`npm run bench\` rewrites this file.\n\n${text}\n\n${notes.join('\n\n')}\n`,
)
mkdirSync(join(HERE, 'results'), { recursive: true })
const raw = Object.fromEntries([...results].map(([name, rows]) => [name, Object.fromEntries(rows)]))
writeFileSync(
  join(HERE, 'results/latest.json'),
  `${JSON.stringify({ machine, date: new Date().toISOString(), raw }, null, 2)}\n`,
)
if (failures.size > 0) process.exitCode = 1
