/** wait ID: waits for the container, or one process of it, and prints its exit status. */
import { ControlGone } from '../../sentry/control/client.ts'
import type { Invocation } from '../command.ts'
import { connectRunning } from '../container/connect.ts'
import { CliError } from '../errors.ts'

export interface WaitOptions {
  pid: string
}

export async function body({ args, options, globals }: Invocation<WaitOptions>): Promise<number> {
  const { client, state } = await connectRunning(globals.root, args[0]!)
  try {
    const exitStatus = await client.wait(options.pid ? Number(options.pid) : 1)
    process.stdout.write(`${JSON.stringify({ id: state.id, exitStatus })}\n`)
  } catch (error) {
    if (error instanceof ControlGone) throw new CliError('the sandbox ended without an exit status')
    throw error
  }
  return 0
}
