/** resume ID: lets a paused container's processes go on. */
import type { Invocation } from '../command.ts'
import { connectRunning } from '../container/connect.ts'

export async function body({ args, globals }: Invocation<object>): Promise<number> {
  const { client } = await connectRunning(globals.root, args[0]!)
  await client.request({ op: 'resume' })
  client.close()
  return 0
}
