/** What every command's body gets. Returns the exit code. */
import type { Log } from './log.ts'
import type { GlobalOptions } from './options.ts'

export interface Invocation<Options> {
  /** Positional arguments, in the order of the command's synopsis. */
  args: string[]
  options: Options
  globals: GlobalOptions
  log: Log
}

export type CommandBody<Options> = (invocation: Invocation<Options>) => Promise<number>
