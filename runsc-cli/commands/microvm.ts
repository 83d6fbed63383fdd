/** microvm setup: runs the bundle that brings kernel and initramfs in. */
import { spawnSync } from 'node:child_process'
import { dirname, join, resolve } from 'node:path'
import type { Invocation } from '../command.ts'
import { CliError } from '../errors.ts'

export interface MicrovmOptions {
  kernel: string
}

export async function body({ args, options, globals }: Invocation<MicrovmOptions>): Promise<number> {
  if (args[0] !== 'setup') throw new CliError(`microvm ${args[0]}: unknown; there is: microvm setup [--kernel FILE]`)
  const bundle = join(dirname(process.argv[1]!), 'microvm-setup.cjs')
  const kernel = options.kernel && resolve(options.kernel)
  return spawnSync(process.execPath, [bundle, globals.microvm.store, kernel], { stdio: 'inherit' }).status ?? 128
}
