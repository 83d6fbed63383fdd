/** Containers of a pod: the connection between the monitors that share a virtual machine, the name that all have. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { close, socketpair } from '../../native/host.ts'
import { AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM } from '../../native/unix-socket.ts'
import { ControlClient, ControlGone } from '../../sentry/control/client.ts'
import type { PodConfig } from '../../sentry/control/protocol.ts'
import { toBytes } from '../bytes.ts'
import { CliError } from '../errors.ts'
import { ContainerDirectory } from './directory.ts'
import { isAlive } from './liveness.ts'

/** The host name in the configuration of a pod's sandbox, as bytes; undefined: it has none, or is gone. */
export function hostnameOfPod(root: string, sandbox: string): string | undefined {
  const directory = new ContainerDirectory(root, sandbox)
  const state = directory.exists() ? directory.read() : null
  if (state === null) return undefined
  try {
    const config = JSON.parse(readFileSync(join(state.bundle, 'config.json'), 'utf8')) as {
      hostname?: unknown
    }
    return typeof config.hostname === 'string' && config.hostname !== '' ? toBytes(config.hostname) : undefined
  } catch {
    return undefined
  }
}

/** The new monitor's end; the sandbox's has the other. */
export async function joinPod(root: string, { sandbox }: PodConfig): Promise<number> {
  const directory = new ContainerDirectory(root, sandbox)
  const state = directory.exists() ? directory.read() : null
  if (!state || !isAlive(state.sentry)) throw new CliError(`its sandbox ${sandbox} is not running`)
  if (state.platform !== 'microvm') throw new CliError(`its sandbox ${sandbox} is not a virtual machine`)
  const fds = new Int32Array(2)
  const r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)
  if (r < 0) throw new CliError(`socketpair: errno ${-r}`)
  try {
    const client = await ControlClient.connect(directory.controlSocket)
    await client.attach(fds[1]!)
    client.close()
    return fds[0]!
  } catch (error) {
    close(fds[0]!)
    throw error instanceof ControlGone ? new CliError(`its sandbox ${sandbox} is not running`) : error
  } finally {
    close(fds[1]!)
  }
}
