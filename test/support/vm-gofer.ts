/** A real gofer process for tests as virtual machines have it. */
import { FIRST_CONNECTION, type GoferChild, spawnGofer } from './gofer-child.ts'

const SOCK_STREAM = 1

export function startVmGofer(
  mounts: readonly object[],
  confine: boolean,
  option: '--fuse-fds' | '--ninep-fds',
  connections: number,
  maxDescriptors?: number,
): GoferChild {
  return spawnGofer({
    config: { mounts, confine, maxDescriptors },
    socketType: SOCK_STREAM,
    connections,
    nodeFlags: ['--max-semi-space-size=1'],
    args: [option, `${FIRST_CONNECTION}-${FIRST_CONNECTION + connections - 1}`],
  })
}
