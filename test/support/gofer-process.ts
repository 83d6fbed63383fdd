/** A real gofer process for tests as sentries have it, and the sentry's client connected to it. */
import { GoferClient } from '../../sentry/fs/gofer/client.ts'
import { FIRST_CONNECTION, type GoferChild, spawnGofer } from './gofer-child.ts'

const SOCK_SEQPACKET = 5

export interface GoferProcess extends GoferChild {
  readonly client: GoferClient
  readonly socketFd: number
}

export function startGofer(mounts: readonly object[], confine: boolean): GoferProcess {
  const args = ['--socket-fd', String(FIRST_CONNECTION)]
  const gofer = spawnGofer({ config: { mounts, confine }, socketType: SOCK_SEQPACKET, connections: 1, args })
  const socketFd = gofer.fds[0]!
  return { ...gofer, socketFd, client: new GoferClient(socketFd) }
}
