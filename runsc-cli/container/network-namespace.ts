/** Which network namespace a path of config.json means. */
import { statSync } from 'node:fs'

/**
 * Whether it is the one that this process is in: Docker's `--network host` names it by a path of its own. A virtual machine
 * takes over its namespace's interface, which must not be the host's.
 */
export function isOwnNetwork(path: string): boolean {
  const wanted = statSync(path, { throwIfNoEntry: false })
  const own = statSync('/proc/self/ns/net')
  return wanted !== undefined && wanted.ino === own.ino && wanted.dev === own.dev
}
