/** A connection to a container that has to be running (or paused) for what is asked of it. */
import { ControlClient, ControlGone } from '../../sentry/control/client.ts'
import { CliError } from '../errors.ts'
import { ContainerDirectory, type ContainerState } from './directory.ts'
import { isAlive } from './liveness.ts'

export interface Connected {
  client: ControlClient
  directory: ContainerDirectory
  state: ContainerState
}

export async function connectRunning(root: string, id: string): Promise<Connected> {
  const directory = new ContainerDirectory(root, id)
  const state = directory.read()
  if (!state || !isAlive(state.sentry)) throw new CliError('container not running')
  try {
    return { client: await ControlClient.connect(directory.controlSocket), directory, state }
  } catch (error) {
    if (error instanceof ControlGone) throw new CliError('container not running')
    throw error
  }
}
