/**
 * startContainer hooks: the one kind that runs inside the container, before its init process. Each is a guest process
 * with the init process's credentials and the container's state on stdin.
 */
import { close, pipe2, write } from '../../native/host.ts'
import type { ControlClient } from '../../sentry/control/client.ts'
import { toBytes } from '../bytes.ts'
import { CliError } from '../errors.ts'
import type { ContainerState } from './directory.ts'
import { ociState } from './status.ts'

const O_CLOEXEC = 0o2000000

export async function runStartContainerHooks(client: ControlClient, state: ContainerState): Promise<void> {
  for (const [i, hook] of state.hooks.startContainer.entries()) {
    const input = Buffer.from(JSON.stringify(ociState(state, 'created')))
    const fds = new Int32Array(2)
    if (pipe2(fds, O_CLOEXEC) < 0) throw new CliError('cannot make a pipe')
    // The document is far below the 64 KiB that a pipe holds, except with huge annotations: those are cut off.
    write(fds[1]!, input, Math.min(input.length, 65536))
    close(fds[1]!)
    const process = {
      ...state.process,
      args: [hook.path, ...hook.args.slice(1)].map(toBytes),
      env: hook.env.map(toBytes),
      terminal: false,
    }
    let status: number
    try {
      const pid = await client.exec(process, false, [fds[0]!, 2, 2])
      status = await client.wait(pid)
    } catch (error) {
      throw new CliError(`error running startContainer hook #${i}: ${(error as Error).message}`)
    } finally {
      close(fds[0]!)
    }
    if (status !== 0) throw new CliError(`error running startContainer hook #${i}: exit status ${status}`)
  }
}
