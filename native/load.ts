/**
 * Becomes dist/cli.cjs, dist/sentry.cjs and dist/gofer.cjs: runs the bundle beside it, NAME.js, with V8's code cache
 * NAME.cache. The cache holds the bytecode of every function that a whole container's life has called (scripts/build.mjs
 * and `microvm setup` let one run, with TSSANDBOX_TRAIN naming the programs that are to add to theirs), which Node's own compile cache does not: it is written before functions have
 * run. Without a cache, or with one of another V8, everything works and takes longer.
 *
 * The CLI's loader also has sentry (or monitor) and gofer loaded, in copies of this process, by commands that start a container.
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
 * What stands in the kernel's place: the sentry, or for a virtual machine its monitor. null: no copies. A test's fake one is
 * no bundle, and only bin/tssandbox's Node may be copied: host/fork.c. A wrong guess costs time alone.
 */
function kernelOf(words: string[]): string | null {
  if (!process.execArgv.includes('--single-threaded') || !words.some((word) => STARTING.includes(word))) return null
  const program = words.some((word) => word.includes('microvm')) ? 'microvm' : 'sentry'
  return existsSync(join(dist, `${program}.js`)) ? program : null
}

async function main(): Promise<void> {
  const program = basename(__filename, '.cjs')
  const words = program === 'cli' ? process.argv.slice(2) : []
  const kernel = kernelOf(words)
  if (kernel !== null) {
    const { dismissWaiting, forkWaiting } = await import('./waiting.ts')
    const { findAhead, leaveAhead } = await import('./ahead.ts')
    if (kernel === 'microvm') findAhead(join(dist, 'microvm.ahead'))
    forkWaiting(kernel, () => load(kernel), { gate: false, late: false })
    leaveAhead()
    // A virtual machine asks for files 100 ms later: until QEMU is started, its monitor and we are two for as many CPUs.
    const late = kernel === 'microvm'
    forkWaiting('gofer', () => load('gofer'), { gate: !words.includes('--ignore-cgroups'), late })
    process.once('exit', dismissWaiting)
    phase(`${kernel} and gofer forked`)
  }
  load(program, program === 'cli' && kernel === null ? 'cli-asking' : program)()
}

void main()
