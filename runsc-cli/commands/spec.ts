/** spec: writes a config.json that `run` runs. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Invocation } from '../command.ts'
import { CliError } from '../errors.ts'
import { defaultConfig } from '../spec/default-config.ts'

export interface SpecOptions {
  bundle: string
  cwd: string
  netns: string
}

export async function body({ args, options }: Invocation<SpecOptions>): Promise<number> {
  const file = join(options.bundle, 'config.json')
  if (existsSync(file)) throw new CliError(`${file} exists already: remove it first`)
  const config = defaultConfig(args.length ? args : ['sh'], options.cwd || '/', options.netns)
  writeFileSync(file, `${JSON.stringify(config, null, '\t')}\n`)
  return 0
}
