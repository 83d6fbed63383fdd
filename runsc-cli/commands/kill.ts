/** kill ID [SIGNAL]: to init, or with --all to every process, or with --pid to one. */
import { ControlClient, ControlGone, ControlRefused } from '../../sentry/control/client.ts'
import type { Invocation } from '../command.ts'
import { ContainerDirectory } from '../container/directory.ts'
import { isAlive, sendSignal, until } from '../container/liveness.ts'
import { CliError } from '../errors.ts'
import { parseSignal } from '../signals.ts'

export interface KillOptions {
  all: boolean
  pid: string
}

const SIGKILL = 9
const ESRCH = 3
/** A sentry that has not acted on SIGKILL by then is broken, and goes itself. */
const KILL_PATIENCE_MS = 5_000

/** Docker's shim looks for these words. */
const notRunning = () => new CliError('container not running')

export async function body({ args, options, globals }: Invocation<KillOptions>): Promise<number> {
  const directory = new ContainerDirectory(globals.root, args[0]!)
  const signal = parseSignal(args[1] ?? 'SIGTERM')
  const state = directory.read()
  if (!state || !isAlive(state.sentry)) {
    // As with runc, --all is not an error when nobody is left.
    if (options.all) return 0
    throw notRunning()
  }
  const pid = options.pid ? Number(options.pid) : 1
  if (!Number.isInteger(pid) || pid < 1) throw new CliError(`--pid: "${options.pid}" is not a process id`)
  const fatal = signal === SIGKILL && (options.all || pid === 1)
  let timer: NodeJS.Timeout | undefined
  try {
    const client = await ControlClient.connect(directory.controlSocket)
    const asked = client.request({ op: 'signal', pid, signal, target: options.all ? 'all' : 'process' })
    if (fatal) {
      timer = setTimeout(() => sendSignal(state.sentry, 'SIGKILL'), KILL_PATIENCE_MS)
      asked.catch(() => {})
      await Promise.race([asked, until(() => !isAlive(state.sentry), 2 * KILL_PATIENCE_MS)])
    } else {
      await asked
    }
    client.close()
  } catch (error) {
    if (error instanceof ControlRefused && error.errno === -ESRCH) throw notRunning()
    if (!(error instanceof ControlGone)) throw error
    // It ended between our look and our request, which is what a killer wants.
    if (!fatal && !isAlive(state.sentry)) throw notRunning()
    if (fatal) sendSignal(state.sentry, 'SIGKILL')
  } finally {
    clearTimeout(timer)
  }
  return 0
}
