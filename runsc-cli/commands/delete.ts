/** delete ID…: removes what a container has left. --force kills it first and does not mind if it is gone. */
import type { Invocation } from '../command.ts'
import { destroy } from '../container/destroy.ts'
import { ContainerDirectory } from '../container/directory.ts'
import { statusOf } from '../container/status.ts'
import { CliError, doesNotExist } from '../errors.ts'

export interface DeleteOptions {
  force: boolean
}

export async function body({ args, options, globals, log }: Invocation<DeleteOptions>): Promise<number> {
  for (const id of args) {
    const directory = new ContainerDirectory(globals.root, id)
    if (!directory.exists()) {
      if (options.force) continue
      throw doesNotExist(id)
    }
    const lock = await directory.lock().catch((error) => {
      if (options.force && !directory.exists()) return null
      throw error
    })
    if (!lock) continue
    try {
      const state = directory.read()
      const status = await statusOf(directory, state)
      if (!options.force && (status === 'running' || status === 'paused'))
        throw new CliError(`cannot delete container ${id} that is not stopped: ${status}`)
      for (const warning of await destroy(directory, state)) log.warn(warning)
    } finally {
      lock.release()
    }
  }
  return 0
}
