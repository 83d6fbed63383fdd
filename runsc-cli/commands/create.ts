/** create ID: a sandbox whose init process waits for `start`. */
import { fstatSync } from 'node:fs'
import type { Invocation } from '../command.ts'
import { create } from '../container/create.ts'
import { CliError } from '../errors.ts'

export interface CreateOptions {
  bundle: string
  config: string
  pidFile: string
  consoleSocket: string
  preserveFds: string
}

/** The descriptors are ours from 3 upwards: they have to be there. */
export function parsePreserveFds(text: string): number {
  const n = Number(text)
  if (!Number.isInteger(n) || n < 0 || n > 1000)
    throw new CliError(`--preserve-fds: "${text}" is not a number of descriptors`)
  for (let fd = 3; fd < 3 + n; fd++) {
    try {
      fstatSync(fd)
    } catch {
      throw new CliError(`--preserve-fds ${n}: descriptor ${fd} is not open`)
    }
  }
  return n
}

export async function body({ args, options, globals, log }: Invocation<CreateOptions>): Promise<number> {
  const { sandbox, lock } = await create(
    {
      id: args[0]!,
      bundle: options.bundle,
      configName: options.config,
      pidFile: options.pidFile,
      consoleSocket: options.consoleSocket,
      preserveFds: parsePreserveFds(options.preserveFds),
      terminal: null,
      owned: false,
      startAtOnce: false,
    },
    globals,
    log,
  )
  sandbox.sentry.unref()
  sandbox.gofer.unref()
  lock.release()
  return 0
}
