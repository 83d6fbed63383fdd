/** pause ID: stops every process of the container. */
import type { Invocation } from '../command.ts'
import { connectRunning } from '../container/connect.ts'

export async function body({ args, globals }: Invocation<object>): Promise<number> {
  const { client } = await connectRunning(globals.root, args[0]!)
  await client.request({ op: 'pause' })
  client.close()
  return 0
}
