/** start ID: runs the init process of a created container. */
import type { Invocation } from '../command.ts'
import { ContainerDirectory } from '../container/directory.ts'
import { start } from '../container/start.ts'

export async function body({ args, globals, log }: Invocation<object>): Promise<number> {
  const directory = new ContainerDirectory(globals.root, args[0]!)
  const lock = await directory.lock()
  try {
    await start(directory, log)
  } finally {
    lock.release()
  }
  return 0
}
