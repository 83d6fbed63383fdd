/** ps ID: the guest's processes. JSON is a bare array of pids, as Docker's shim wants it: those of the host. */

import { fromBytes } from '../bytes.ts'
import type { Invocation } from '../command.ts'
import { connectRunning } from '../container/connect.ts'
import { table } from '../table.ts'

export interface PsOptions {
  format: 'table' | 'json'
}

function clock(ms: number): string {
  const s = Math.floor(ms / 1000)
  const two = (n: number) => String(n).padStart(2, '0')
  return `${two(Math.floor(s / 3600))}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`
}

export async function body({ args, options, globals }: Invocation<PsOptions>): Promise<number> {
  const { client, state } = await connectRunning(globals.root, args[0]!)
  const processes = await client.ps()
  client.close()
  if (options.format === 'json') {
    // The sentry stands for init on the host: its pid is the one that Docker knows.
    const pids = processes.map((p) => (p.pid === 1 ? state.sentry!.pid : p.hostPid)).filter((pid) => pid > 0)
    process.stdout.write(`${JSON.stringify(pids)}\n`)
    return 0
  }
  const time = (seconds: number) => new Date(seconds * 1000).toTimeString().slice(0, 5)
  process.stdout.write(
    table([
      ['UID', 'PID', 'PPID', 'STAT', 'STIME', 'TTY', 'TIME', 'CMD'],
      ...processes.map((p) => [
        String(p.uid),
        String(p.pid),
        String(p.ppid),
        p.state,
        time(p.startTime),
        p.tty || '?',
        clock(p.cpuMs),
        fromBytes(p.command),
      ]),
    ]),
  )
  return 0
}
