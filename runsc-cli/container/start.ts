/** start: runs the init process of a created container, with the hooks around it. The caller holds the lock. */
import { ControlClient } from '../../sentry/control/client.ts'
import { CliError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { ContainerDirectory, ContainerState } from './directory.ts'
import { runHooksAnyway } from './hooks.ts'
import { runStartContainerHooks } from './start-hooks.ts'
import { ociState, statusOf } from './status.ts'

export async function start(directory: ContainerDirectory, log: Log): Promise<void> {
  const state = directory.read()
  const status = await statusOf(directory, state)
  if (!state || status === 'creating') throw new CliError(`container "${directory.id}" has not been created completely`)
  if (status === 'stopped') throw new CliError('cannot start a container that has stopped')
  if (status !== 'created') throw new CliError('cannot start an already running container')

  const client = await ControlClient.connect(directory.controlSocket)
  try {
    await runStartContainerHooks(client, state)
    await client.request({ op: 'start' })
  } finally {
    client.close()
  }
  state.phase = 'running'
  directory.write(state)
  await afterStart(state, log)
}

export async function afterStart(state: ContainerState, log: Log): Promise<void> {
  for (const warning of await runHooksAnyway('poststart', state.hooks.poststart, ociState(state, 'running')))
    log.warn(warning)
}
