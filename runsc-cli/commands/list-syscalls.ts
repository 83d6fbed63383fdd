/** syscalls: runs the bundle that prints the table. */
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import type { Invocation } from '../command.ts'

export interface SyscallsOptions {
  format: 'table' | 'json'
}

export async function body({ options }: Invocation<SyscallsOptions>): Promise<number> {
  const bundle = join(dirname(process.argv[1]!), 'syscalls.cjs')
  return spawnSync(process.execPath, [bundle, options.format], { stdio: 'inherit' }).status ?? 128
}
