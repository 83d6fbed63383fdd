/** Entry of `tssandbox microvm setup` (dist/microvm-setup.cjs): STORE KERNEL-OR-NOTHING. */
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setup } from './setup.ts'
import { Store } from './store.ts'

const [, bundle, dir, kernel] = process.argv
const dist = dirname(bundle!)
const TRAINING_MS = 60_000

/**
 * Once per build: runs a container, which makes the usual template, and has the monitor write its code cache
 * (native/load.ts). No harm is done where that fails.
 */
function train(): void {
  const done = join(dist, '.microvm-trained')
  if (existsSync(done) || process.getuid?.() !== 0) return
  const command = ['--microvm-dir', dir!, '--platform=microvm', 'do', '--', 'true']
  const env = { PATH: process.env['PATH'], TSSANDBOX_TRAIN: 'microvm' }
  spawnSync(join(dist, '../bin/tssandbox'), command, { env, stdio: 'ignore', timeout: TRAINING_MS })
  try {
    writeFileSync(done, '')
  } catch {}
}

try {
  const say = (line: string) => process.stderr.write(`tssandbox: ${line}\n`)
  setup(new Store(dir!, dist), { kernel: kernel ?? '', say })
  train()
} catch (error) {
  process.stderr.write(`tssandbox: ${(error as Error).message}\n`)
  process.exitCode = 128
}
