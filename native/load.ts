/**
 * Becomes dist/cli.cjs, dist/sentry.cjs and dist/gofer.cjs: runs the bundle beside it, NAME.js, with V8's code cache
 * NAME.cache. The cache holds the bytecode of every function that a whole container's life has called (scripts/build.mjs
 * and `microvm setup` let one run, with TSSANDBOX_TRAIN naming the programs that are to add to theirs), which Node's own compile cache does not: it is written before functions have
 * run. Without a cache, or with one of another V8, everything works and takes longer.
 *
 * The CLI's loader also has sentry and gofer loaded, in copies of this process, by commands that start a container.
 */
import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Script } from 'node:vm'
import { phase } from './phases.ts'

phase('Node is ready')

const dist = dirname(__filename)
const trained = process.env['TSSANDBOX_TRAIN']?.split(',') ?? []

function cache(file: string): Buffer | undefined {
  try {
    return readFileSync(file)
  } catch {
    return undefined
  }
}

/** The program's `main`. `trade`: a part of the program that calls its own functions and has a cache of its own. */
function load(program: string, trade = program): () => unknown {
  const base = join(dist, program)
  const cacheFile = join(dist, `${trade}.cache`)
  const source = readFileSync(`${base}.js`, 'latin1')
  const training = trained.includes(trade)
  const script = new Script(source, { filename: `${base}.js`, cachedData: cache(cacheFile) })
  const module = { exports: {} as { main(): unknown } }
  script.runInThisContext()(module.exports, require, module, __filename, __dirname)
  phase('code loaded')
  return () => {
    if (training) noteAtExit(script, cacheFile)
    return module.exports.main()
  }
}

function noteAtExit(script: Script, path: string): void {
  // Opened now: a confined process cannot.
  const fd = openSync(path, 'w')
  process.once('exit', () => {
    const data = script.createCachedData()
    let written = 0
    while (written < data.length) written += writeSync(fd, data, written)
    closeSync(fd)
  })
}

/** Words that start a container. One that only looks like it makes copies that are not needed. */
const STARTING = ['run', 'create', 'do']

/**
 * A virtual machine has another program in the sentry's place; a test's fake one is no bundle. Only bin/tssandbox's Node may
 * be copied: host/fork.c.
 */
function startsSandbox(words: string[]): boolean {
  return (
    process.execArgv.includes('--single-threaded') &&
    words.some((word) => STARTING.includes(word)) &&
    !words.some((word) => word.includes('microvm')) &&
    existsSync(join(dist, 'sentry.js'))
  )
}

async function main(): Promise<void> {
  const program = basename(__filename, '.cjs')
  const words = program === 'cli' ? process.argv.slice(2) : []
  const starts = startsSandbox(words)
  if (starts) {
    const { dismissWaiting, forkWaiting } = await import('./waiting.ts')
    forkWaiting('sentry', () => load('sentry'), false)
    forkWaiting('gofer', () => load('gofer'), !words.includes('--ignore-cgroups'))
    process.once('exit', dismissWaiting)
    phase('sentry and gofer forked')
  }
  load(program, program === 'cli' && !starts ? 'cli-asking' : program)()
}

void main()
