/** What a container is doing, from the state on disk, the life of its sentry and, for those that live, the sentry itself. */
import { ControlClient } from '../../sentry/control/client.ts'
import type { RunState } from '../../sentry/control/protocol.ts'
import type { ContainerDirectory, ContainerState } from './directory.ts'
import { OCI_VERSION, type OciState } from './hooks.ts'
import { isAlive } from './liveness.ts'

export type Status = RunState | 'creating'

/** How long a living sentry may take to say what it does before the state on disk is believed instead. */
const PATIENCE_MS = 2_000

export async function statusOf(directory: ContainerDirectory, state: ContainerState | null): Promise<Status> {
  if (!state || state.phase === 'creating') return state?.sentry && !isAlive(state.sentry) ? 'stopped' : 'creating'
  if (!isAlive(state.sentry)) return 'stopped'
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), PATIENCE_MS)
  })
  try {
    const client = await ControlClient.connect(directory.controlSocket)
    const answer = await Promise.race([client.state(), timeout])
    client.close()
    return answer?.state ?? state.phase
  } catch {
    return isAlive(state.sentry) ? state.phase : 'stopped'
  } finally {
    clearTimeout(timer)
  }
}

export function ociState(state: ContainerState, status: Status): OciState {
  const out: OciState = {
    ociVersion: OCI_VERSION,
    id: state.id,
    status,
    pid: status === 'stopped' ? 0 : (state.sentry?.pid ?? 0),
    bundle: state.bundle,
  }
  if (Object.keys(state.annotations).length) out.annotations = state.annotations
  return out
}
