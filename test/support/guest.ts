/**
 * The guest programs: finds, builds and runs them. Each is built twice where that makes a difference to the kernel: as a
 * static executable and, for the families that depend on it, dynamically linked and position-independent.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Outcome, run, sandboxed } from './run.ts'

const SOURCES = join(process.cwd(), 'test/guest')
const BUILT = join(process.cwd(), '.cache/guest')

/** Programs that are also run dynamically linked: the loader, threads and signals take other paths there. */
const DYNAMIC = new Set(['exec', 'fork', 'threads', 'signals', 'memory'])

export interface GuestProgram {
  name: string
  source: string
  path: string
  flags: string[]
}

export function guestPrograms(): GuestProgram[] {
  const all: GuestProgram[] = []
  for (const file of readdirSync(SOURCES).filter((f) => f.endsWith('.c'))) {
    const name = file.slice(0, -2)
    const source = join(SOURCES, file)
    all.push({ name, source, path: join(BUILT, name), flags: ['-static'] })
    if (DYNAMIC.has(name))
      all.push({ name: `${name}-pie`, source, path: join(BUILT, `${name}-pie`), flags: ['-fPIE', '-pie'] })
  }
  return all
}

const compile = promisify(execFile)

export async function build({ source, path, flags }: GuestProgram): Promise<void> {
  mkdirSync(BUILT, { recursive: true })
  const headers = readdirSync(SOURCES).filter((f) => f.endsWith('.h'))
  const newest = Math.max(statSync(source).mtimeMs, ...headers.map((f) => statSync(join(SOURCES, f)).mtimeMs))
  if ((statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) > newest) return
  // Tests run in the order they are written in; bad pointers and endless recursion are what some programs are about.
  const warnings = [
    '-Wall',
    '-Wno-infinite-recursion',
    '-Wno-stringop-overflow',
    '-Wno-stringop-overread',
    '-Wno-nonnull',
  ]
  const temporary = `${path}.${process.pid}`
  await compile('cc', [
    '-O1',
    '-fno-toplevel-reorder',
    ...warnings,
    ...flags,
    '-o',
    temporary,
    source,
    '-pthread',
    '-lrt',
    '-lutil',
  ])
  renameSync(temporary, path)
}

export const runNative = (program: GuestProgram, ...args: string[]): Promise<Outcome> => run([program.path, ...args])

export const runSandboxed = (platform: string, program: GuestProgram, ...args: string[]): Promise<Outcome> =>
  run(sandboxed(platform, [program.path, ...args]), { seconds: 90 })

/** The lines that differ, tests that failed first by name: short enough to read in a test report. */
export function difference(native: Outcome, sandbox: Outcome): string[] {
  const want = native.stdout.split('\n')
  const got = sandbox.stdout.split('\n')
  const wanted = new Set(want)
  const gotten = new Set(got)
  const out: string[] = []
  for (const line of got) if (!wanted.has(line)) out.push(`+ ${line}`)
  for (const line of want) if (!gotten.has(line)) out.push(`- ${line}`)
  if (out.length === 0 && native.stdout !== sandbox.stdout) out.push('the same lines in another order or number')
  if (native.code !== sandbox.code) out.push(`exit code ${sandbox.code}, natively ${native.code}`)
  if (sandbox.stderr !== native.stderr) out.push(`stderr: ${sandbox.stderr.slice(0, 2000)}`)
  return out
}
