/** events ID: statistics as runc prints them, once with --stats, else every --interval seconds until the container ends. */

import { cgroupStats } from '../cgroup/stats.ts'
import type { Invocation } from '../command.ts'
import { connectRunning } from '../container/connect.ts'
import { isAlive, sleep } from '../container/liveness.ts'

export interface EventsOptions {
  stats: boolean
  interval: string
}

export async function body({ args, options, globals }: Invocation<EventsOptions>): Promise<number> {
  const { client, state } = await connectRunning(globals.root, args[0]!)
  const interval = Number.parseFloat(options.interval) * (options.interval.endsWith('ms') ? 1 : 1000)
  do {
    const data = cgroupStats(state.cgroups)
    try {
      const stats = await client.stats()
      data.pids.current = stats.tasks
      if (data.cpu.usage.total === 0) data.cpu.usage.total = stats.cpuUserNs + stats.cpuSystemNs
    } catch {
      break
    }
    process.stdout.write(`${JSON.stringify({ type: 'stats', id: state.id, data })}\n`)
    if (!options.stats) await sleep(interval)
  } while (!options.stats && isAlive(state.sentry))
  client.close()
  return 0
}
