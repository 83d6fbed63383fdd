/** create ID: a sandbox whose init process waits for `start`. */
import type { Invocation } from '../command.ts'
import { create } from '../container/create.ts'

export interface CreateOptions {
  bundle: string
  config: string
  pidFile: string
  consoleSocket: string
}

export async function body({ args, options, globals, log }: Invocation<CreateOptions>): Promise<number> {
  const { sandbox, lock } = await create(
    {
      id: args[0]!,
      bundle: options.bundle,
      configName: options.config,
      pidFile: options.pidFile,
      consoleSocket: options.consoleSocket,
      terminal: null,
      owned: false,
    },
    globals,
    log,
  )
  sandbox.sentry.unref()
  sandbox.gofer.unref()
  lock.release()
  return 0
}
