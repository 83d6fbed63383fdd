/**
 * Becomes dist/cli.cjs, dist/sentry.cjs and dist/gofer.cjs: runs the bundle beside it, NAME.js, with V8's code cache
 * NAME.cache. The cache holds the bytecode of every function that a whole container's life has called (scripts/build.mjs
 * lets one run, with TSSANDBOX_TRAIN set), which Node's own compile cache does not: it is written before functions have
 * run. Without a cache, or with one of another V8, everything works and takes longer.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { Script } from 'node:vm'

const base = __filename.slice(0, -'.cjs'.length)

function cache(): Buffer | undefined {
  try {
    return readFileSync(`${base}.cache`)
  } catch {
    return undefined
  }
}

const source = `(function(exports,require,module,__filename,__dirname){${readFileSync(`${base}.js`, 'latin1')}\n})`
const training = process.env['TSSANDBOX_TRAIN'] !== undefined
const script = new Script(source, { filename: `${base}.js`, cachedData: training ? undefined : cache() })
if (training) {
  // Opened now: a confined process cannot.
  const fd = openSync(`${base}.cache`, 'w')
  process.once('exit', () => {
    const data = script.createCachedData()
    let written = 0
    while (written < data.length) written += writeSync(fd, data, written)
    closeSync(fd)
  })
}
script.runInThisContext()(exports, require, module, __filename, __dirname)
